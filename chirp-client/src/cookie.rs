//! Cookies: the login of HTCondor's clients, a secret in a file (`chirp-protocol.md`, part 2.9).
//!
//! A connection that logged in with one speaks HTCondor's dialect, whose requests are those about files
//! and directories: no rights, digests, tickets, jobs or programs, and nothing of our extension. What the
//! dialect has not is refused here, with code -8, before anything is sent.
//!
//! ```no_run
//! use chirp_client::cookie::CookieFile;
//! use chirp_client::{Client, ConnectOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // What HTCondor leaves beside a job that asked for its proxy.
//! let mut options = ConnectOptions::new("CONDOR".parse()?);
//! CookieFile::apply(None, &mut options)?;
//! let client = Client::connect(options).await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::{Address, ConnectOptions, Error};

/// The variable with the file that HTCondor's clients read their cookie from.
pub const COOKIE_VARIABLE: &str = "_CONDOR_CHIRP_CONFIG";

/// Where the file is looked for without that variable, in the working directory.
const USUAL: [&str; 3] = [".chirp.config", "chirp.config", ".chirp_config"];

/// How the name of a host begins that means the one in the cookie's file.
const CONDOR: &str = "CONDOR";

/// Bytes that a cookie file may have.
const FILE_MAX: u64 = 4096;

/// The secret. Never printed; the last copy to go is wiped from memory.
#[derive(Clone)]
pub struct Cookie(Arc<Zeroizing<Vec<u8>>>);

impl Cookie {
    /// Makes a cookie of a text; `None` unless it is one word of printable ASCII without backslashes,
    /// which clients and servers do not agree how to escape.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'\\';
        let usable = !text.is_empty() && text.len() as u64 <= FILE_MAX && text.iter().all(plain);
        usable.then(|| Self(Arc::new(Zeroizing::new(text.to_vec()))))
    }

    /// Returns the login line.
    pub(crate) fn line(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([b"cookie ", &self.0[..], b"\n"].concat())
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie")
    }
}

/// What a cookie file says.
#[derive(Clone, Debug)]
pub struct CookieFile {
    /// The server, where the file's line is `HOST PORT COOKIE`.
    pub address: Option<Address>,
    /// The secret.
    pub cookie: Cookie,
}

impl CookieFile {
    /// Returns the path where HTCondor's clients look: what [`COOKIE_VARIABLE`] names, else the first
    /// of `.chirp.config`, `chirp.config` and `.chirp_config` that is there.
    #[must_use]
    pub fn usual() -> PathBuf {
        if let Some(path) = std::env::var_os(COOKIE_VARIABLE) {
            return path.into();
        }
        let there = USUAL.iter().find(|name| Path::new(name).exists());
        there.unwrap_or(&".chirp.config").into()
    }

    /// Reports whether an address means the server in a cookie file: the reference's client takes
    /// every name that begins with `CONDOR` for that.
    #[must_use]
    pub fn is_meant_by(address: &Address) -> bool {
        address.unix_path().is_none() && address.host().starts_with(CONDOR)
    }

    /// Reads a file of one line: the cookie, or `HOST PORT COOKIE`.
    ///
    /// # Errors
    ///
    /// [`Error::Local`], also if the file is something else. No error has anything of its content.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let read = || {
            let mut text = Zeroizing::new(Vec::new());
            File::open(&path)?
                .take(FILE_MAX + 1)
                .read_to_end(&mut text)?;
            Self::parse(&text).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it is not one line with a cookie, or with HOST PORT COOKIE",
                )
            })
        };
        read().map_err(|source| failed(&path, source))
    }

    /// Takes the cookie of a file, or of the [usual](Self::usual) one, for a connection; and the server
    /// too, where the address [means](Self::is_meant_by) the one in the file.
    ///
    /// # Errors
    ///
    /// As [`CookieFile::read`]; also if no server is named at all.
    pub fn apply(path: Option<PathBuf>, options: &mut ConnectOptions) -> Result<(), Error> {
        let path = path.unwrap_or_else(Self::usual);
        let file = Self::read(&path)?;
        if Self::is_meant_by(&options.address) {
            options.address = file.address.ok_or_else(|| {
                let reason = "it has no HOST and PORT; name the server instead of CONDOR";
                failed(&path, io::Error::new(io::ErrorKind::InvalidData, reason))
            })?;
        }
        options.cookie = Some(file.cookie);
        Ok(())
    }

    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() as u64 > FILE_MAX {
            return None;
        }
        let line = text.trim_ascii();
        if line.contains(&b'\n') {
            return None;
        }
        let words: Vec<&[u8]> = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .collect();
        let (address, cookie) = match words[..] {
            [cookie] => (None, cookie),
            [host, port, cookie] => {
                let host = std::str::from_utf8(host).ok()?;
                let port = std::str::from_utf8(port).ok()?;
                // The colons of an IPv6 address are not those of a port.
                let text = match host.contains(':') && !host.starts_with('[') {
                    true => format!("[{host}]:{port}"),
                    false => format!("{host}:{port}"),
                };
                (Some(text.parse().ok()?), cookie)
            }
            _ => return None,
        };
        Some(Self {
            address,
            cookie: Cookie::new(cookie)?,
        })
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Local {
        doing: "read the cookie file",
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_cookie_or_host_port_and_cookie() {
        for (text, address) in [
            ("s3cret\n", None),
            ("  s3cret", None),
            ("guest 9094 s3cret\n", Some("guest:9094")),
            ("::1\t1 s3cret", Some("[::1]:1")),
            ("[::1] 1 s3cret\n", Some("[::1]:1")),
        ] {
            let file = CookieFile::parse(text.as_bytes()).unwrap();
            assert_eq!(
                file.address.map(|address| address.to_string()).as_deref(),
                address
            );
            assert_eq!(&file.cookie.line()[..], b"cookie s3cret\n");
        }
        for bad in [
            "",
            "\n",
            "a b",
            "a 0 c",
            "a x c",
            "a 1 b c",
            "a\nb",
            "a\\b",
            "\x7f",
            "caf\u{e9}",
        ] {
            assert!(CookieFile::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(CookieFile::parse(&[b'a'; 4097]).is_none());
    }

    #[test]
    fn nothing_shows_the_secret() {
        let file = CookieFile::parse(b"h 1 s3cret").unwrap();
        assert!(!format!("{file:?}").contains("s3cret"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, "two s3cret").unwrap();
        let error = CookieFile::read(&path).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
