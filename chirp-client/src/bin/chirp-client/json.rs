//! What `--json` prints: one document on one line, the shapes of which are in `docs/json.md`.
//!
//! A name is a string where it is UTF-8. Where it is not it is an object, `{"base64": "..."}`, with
//! its very bytes, so that a script that expects a string stops and does not act on another name.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chirp_client::{Stat, VirtualPath};
use clap::Args;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::commands::Failure;
use crate::output;

/// The option of every command whose output is data.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Json {
    /// Print JSON, one document on one line.
    #[arg(long = "json")]
    pub(crate) wanted: bool,
}

/// Bytes that are text as a rule, above all names.
#[derive(Debug)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, [u8]>);

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl<'a> From<&'a VirtualPath> for Text<'a> {
    fn from(path: &'a VirtualPath) -> Self {
        path.as_bytes().into()
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut object = serializer.serialize_map(Some(1))?;
        object.serialize_entry("base64", &STANDARD.encode(&self.0))?;
        object.end()
    }
}

/// A file, directory or link of the server.
#[derive(Serialize)]
pub(crate) struct Entry<'a> {
    /// From the root of the exported tree.
    path: Text<'a>,
    /// The last part of the path; `/` for the root.
    name: Text<'a>,
    /// `file`, `directory`, `link` or `other`.
    kind: &'static str,
    /// Permission bits in octal digits.
    mode: String,
    /// Bytes.
    size: i64,
    links: i64,
    uid: i64,
    gid: i64,
    device: i64,
    inode: i64,
    /// Units of 512 bytes that are taken.
    blocks: i64,
    block_size: i64,
    /// Seconds since 1970.
    atime: i64,
    mtime: i64,
    ctime: i64,
}

impl<'a> Entry<'a> {
    /// Describes `path` by its `stat`.
    pub(crate) fn new(path: &'a VirtualPath, stat: &Stat) -> Self {
        let name = path.split_last().map_or(&b"/"[..], |(_, name)| name);
        Self::named(path, name, stat)
    }

    /// Describes `path` under the name that a listing has, which may be `.` or `..`.
    pub(crate) fn named(path: &'a VirtualPath, name: &'a [u8], stat: &Stat) -> Self {
        Self {
            path: path.into(),
            name: name.into(),
            kind: kind(stat),
            mode: format!("{:04o}", stat.mode & 0o7777),
            size: stat.size,
            links: stat.links,
            uid: stat.uid,
            gid: stat.gid,
            device: stat.device,
            inode: stat.inode,
            blocks: stat.blocks,
            block_size: stat.block_size,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
        }
    }
}

/// Names the type of a file.
pub(crate) const fn kind(stat: &Stat) -> &'static str {
    if stat.is_directory() {
        "directory"
    } else if stat.is_file() {
        "file"
    } else if stat.is_symlink() {
        "link"
    } else {
        "other"
    }
}

/// Prints a document.
pub(crate) fn print(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = document(value)?;
    line.push(b'\n');
    output::write(&line)
}

fn document(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value)
        .map_err(|error| Failure::Other(format!("failed to write JSON: {error}")))
}

/// An array that is printed as it comes about, so that nobody holds all of it.
#[derive(Default)]
pub(crate) struct Array {
    text: output::Pieces,
    begun: bool,
}

impl Array {
    /// Prints the next element.
    pub(crate) fn push(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.text.push(if self.begun { b"," } else { b"[" })?;
        self.begun = true;
        self.text.push(&document(value)?)
    }

    /// Ends the array; without this it is no JSON.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.text.push(if self.begun { b"]\n" } else { b"[]\n" })?;
        self.text.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives() {
        let json = |bytes: &[u8]| serde_json::to_string(&Text::from(bytes)).unwrap();
        assert_eq!(json(b"plain"), r#""plain""#);
        assert_eq!(json("é\t\"".as_bytes()), r#""é\t\"""#);
        assert_eq!(json(b"a\xff"), r#"{"base64":"Yf8="}"#);
        assert_eq!(json(b""), r#""""#);
    }

    #[test]
    fn kinds_are_named() {
        for (mode, name) in [
            (0o100_644, "file"),
            (0o040_755, "directory"),
            (0o120_777, "link"),
            (0o010_600, "other"),
            (0, "other"),
        ] {
            let stat = Stat {
                mode,
                ..Stat::default()
            };
            assert_eq!(kind(&stat), name);
        }
    }
}
