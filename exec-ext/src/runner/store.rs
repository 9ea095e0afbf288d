//! Executions on disk, so that they survive the server: one file for each in the transient directory,
//! beside its captured output.
//!
//! A record is written before its program starts and replaced when that has ended, before anybody is
//! told. What a killed server leaves without an end was running, and is lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::budget::Share;
use super::capture::Written;
use super::temporary;
use crate::request::Digest;
use crate::status::Results;

/// Bytes of a record that is read: a request at its limit, escaped, and the rest.
const RECORD_MAX: u64 = 16 * 1024 * 1024;

/// What is on disk of one execution.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) cmd_id: String,
    pub(super) subject: String,
    pub(super) digest: Digest,
    /// The request without the environment's values.
    pub(super) request: Value,
    /// Seconds since 1970.
    pub(super) started: f64,
    /// The mark of its processes.
    pub(super) mark: Option<u64>,
    /// Bytes kept of each captured output.
    pub(super) capture_bytes: u64,
    pub(super) end: Option<RecordedEnd>,
}

/// The end of an execution.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RecordedEnd {
    /// Seconds since 1970.
    pub(super) at: f64,
    /// None where the server was killed first.
    pub(super) results: Option<Results>,
    pub(super) stdin_received: u64,
    pub(super) stdin_eof: bool,
    /// Offsets of the first bytes that nobody had acknowledged. They are lost with the server.
    pub(super) out_from: u64,
    pub(super) err_from: u64,
    pub(super) out: Option<Written>,
    pub(super) err: Option<Written>,
}

/// Bytes that the end of an execution may add to its record: the results without output, of bounded
/// numbers and lists.
const END_ROOM: usize = 8 * 1024;

/// Bytes that a file takes up at least.
const BLOCK: usize = 4096;

/// Returns the bytes on disk that a record has to have for itself, its end included.
pub(super) fn room_for(record: &Record) -> io::Result<usize> {
    let written = serde_json::to_vec(record)?.len();
    Ok((written + END_ROOM).next_multiple_of(BLOCK) + written.next_multiple_of(BLOCK))
}

/// The file of one record.
#[derive(Debug)]
pub(super) struct Filed {
    path: PathBuf,
    /// The room it has on disk.
    share: Share,
    /// Whether it was removed for good. Held while the file is written.
    removed: Mutex<bool>,
}

impl Filed {
    /// Names the file of the execution `id`.
    pub(super) fn new(directory: &Path, id: u64, share: Share) -> Self {
        Self {
            path: directory.join(format!("{id}.json")),
            share,
            removed: Mutex::default(),
        }
    }

    /// Writes the record, in one step. It is not synced: it survives the server and not the machine.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        if *removed {
            return Ok(());
        }
        let text = serde_json::to_vec(record)?;
        let written = self.open_new().and_then(|mut file| {
            file.write_all(&text)?;
            // What was reserved and is not needed.
            file.set_len(text.len() as u64)?;
            fs::rename(self.new_path(), &self.path)
        });
        if written.is_err() {
            // The next start removes it otherwise.
            let _ = fs::remove_file(self.new_path());
        } else if record.end.is_some() {
            self.share.set(text.len().next_multiple_of(BLOCK));
        }
        written
    }

    /// Takes the blocks on disk that the record's end will need, so that it can be written when the disk
    /// is full. File systems that reserve none have to have room then.
    ///
    /// # Errors
    ///
    /// The disk is full.
    pub(super) fn reserve(&self, record: &Record) -> io::Result<()> {
        let length = serde_json::to_vec(record)?.len() + END_ROOM;
        let file = self.open_new()?;
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&file, flags, 0, length as u64) {
            Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => {
                let _ = fs::remove_file(self.new_path());
                Err(errno.into())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn new_path(&self) -> PathBuf {
        self.path.with_extension("new")
    }

    /// Opens the file that becomes the record, with the blocks that it has.
    fn open_new(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600);
        options.open(self.new_path())
    }

    /// Removes the record for good.
    pub(super) fn remove(&self) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        *removed = true;
        // What was reserved for an end that never came.
        let _ = fs::remove_file(self.new_path());
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "the record of an execution could not be removed");
            }
            _ => {}
        }
    }
}

/// Reads the records of a directory, in order of their ids, and removes what belongs to none.
///
/// # Errors
///
/// The directory cannot be read. A record that is damaged is left where it is, and said so.
pub(super) fn load(directory: &Path) -> io::Result<Vec<Record>> {
    let mut records = Vec::new();
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let id = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        let kind = path.extension().and_then(|extension| extension.to_str());
        match (id, kind) {
            (Some(id), Some("json")) => {
                known.push(id);
                match read(&path) {
                    Ok(record) if record.id == id => records.push(record),
                    Ok(_) => {
                        tracing::warn!(path = %path.display(), "the record of another execution")
                    }
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "the record of an execution cannot be read")
                    }
                }
            }
            (Some(id), Some("out" | "err")) => others.push((Some(id), path)),
            _ => others.push((None, path)),
        }
    }
    for (id, path) in others {
        if id.is_some_and(|id: u64| known.contains(&id)) {
            continue;
        }
        if let Err(error) = temporary::remove(&path) {
            tracing::warn!(path = %path.display(), %error, "what an execution left could not be removed");
        }
    }
    records.sort_by_key(|record| record.id);
    Ok(records)
}

fn read(path: &Path) -> io::Result<Record> {
    let mut text = Vec::new();
    File::open(path)?.take(RECORD_MAX).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
