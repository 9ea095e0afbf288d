//! The id of a tree: 36 characters in `ROOT/.__uuid`, which clients cannot reach. It tells catalogs that
//! this is the same tree under another name or port.

use std::fs::File;
use std::io::{Read, Write};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use uuid::Uuid;

use crate::export::Export;

/// The file's name, in the root of the tree.
const NAME: &str = ".__uuid";

/// The length of an id in text.
const LENGTH: usize = 36;

/// Returns the id of a tree, and gives it one if it has none. A file that holds no id is replaced: the
/// reference refuses to start then (weakness W7). If none can be kept, this start gets one of its own; so it
/// does with `-R`, where nothing is written into the tree (weakness W19).
#[must_use]
pub fn tree_id(export: &Export) -> String {
    if let Some(id) = read(export) {
        return id;
    }
    let id = Uuid::new_v4().hyphenated().to_string().to_uppercase();
    if export.is_read_only() {
        tracing::warn!(
            id,
            file = NAME,
            "the tree has no id and is read-only (-R), so this one is for this start only; start once \
             without -R to keep one"
        );
        return id;
    }
    if let Err(error) = write(export, &id) {
        tracing::warn!(%error, file = NAME, "cannot keep the tree's id; the next start will have another");
    }
    id
}

fn read(export: &Export) -> Option<String> {
    // Without waiting for the other end of a pipe that somebody put there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(export.root.dir(), NAME, flags, Mode::empty()).ok()?;
    let mut text = String::new();
    // A longer file is recognised by its next byte.
    let read = File::from(file)
        .take(LENGTH as u64 + 2)
        .read_to_string(&mut text);
    read.ok()?;
    let id = text.strip_suffix('\n').unwrap_or(&text);
    let valid = id.len() == LENGTH && Uuid::try_parse(id).is_ok();
    valid.then(|| id.to_owned())
}

fn write(export: &Export, id: &str) -> Result<(), std::io::Error> {
    let root = export.root.dir();
    let new = format!("{NAME}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::unlinkat(root, &new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let file = rustix::fs::openat(root, &new, flags, Mode::from_raw_mode(0o600))?;
    File::from(file).write_all(id.as_bytes())?;
    Ok(rustix::fs::renameat(root, &new, root, NAME)?)
}
