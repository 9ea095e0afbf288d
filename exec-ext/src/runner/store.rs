//! Executions on disk, so that they survive the server: one file for each in the transient directory,
//! beside its captured output.
//!
//! A record is a line of JSON, written before its program starts. When that has ended, and before anybody is told,
//! a second line with the end follows. What a killed server leaves without a whole one was running, and is lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    Ok((written + END_ROOM).next_multiple_of(BLOCK))
}

/// The file of one record.
#[derive(Debug)]
pub(super) struct Filed {
    path: PathBuf,
    /// The room it has on disk.
    share: Share,
    /// What there is. Held while the file is written.
    stage: Mutex<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The record without an end, with room for that.
    Open,
    Ended,
    /// Nothing, for good.
    Removed,
}

impl Filed {
    /// Writes the record of an execution that is about to start and takes the blocks on disk that its end will need,
    /// so that it can be written when the disk is full. File systems that reserve none have to have room then.
    ///
    /// It is not synced: it survives the server and not the machine.
    ///
    /// # Errors
    ///
    /// The system's; then there is no file.
    pub(super) fn create(directory: &Path, record: &Record, share: Share) -> io::Result<Self> {
        let filed = Self::at(directory, record.id, share, Stage::Open);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&filed.path)?;
        let text = line(record)?;
        let length = (text.len() + END_ROOM) as u64;
        let written = file.write_all(&text).and_then(|()| {
            let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
            match rustix::fs::fallocate(&file, flags, 0, length) {
                Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => Err(errno.into()),
                Ok(()) | Err(_) => Ok(()),
            }
        });
        written.inspect_err(|_| filed.remove()).map(|()| filed)
    }

    /// Names the file of an execution of an earlier server.
    pub(super) fn restored(directory: &Path, id: u64, share: Share) -> Self {
        Self::at(directory, id, share, Stage::Ended)
    }

    fn at(directory: &Path, id: u64, share: Share, stage: Stage) -> Self {
        Self {
            path: directory.join(format!("{id}.json")),
            share,
            stage: Mutex::new(stage),
        }
    }

    /// Writes the record's end, or what has become of it since then. Neither leaves a record that is not whole.
    ///
    /// # Errors
    ///
    /// The system's. What was there stays.
    pub(super) fn end(&self, record: &Record) -> io::Result<()> {
        let mut stage = self.stage();
        let length = match *stage {
            Stage::Removed => return Ok(()),
            Stage::Open => self.append(record)?,
            Stage::Ended => self.replace(record)?,
        };
        *stage = Stage::Ended;
        self.share.set(length.next_multiple_of(BLOCK));
        Ok(())
    }

    /// Adds the end to the record that is there, within the blocks that it has.
    fn append(&self, record: &Record) -> io::Result<usize> {
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        file.write_all(&line(&record.end)?)?;
        let length = file.stream_position()?;
        // What was reserved and is not needed.
        file.set_len(length)?;
        Ok(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn replace(&self, record: &Record) -> io::Result<usize> {
        let text = line(record)?;
        let new = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&new).and_then(|mut file| {
            file.write_all(&text)?;
            fs::rename(&new, &self.path)
        });
        if written.is_err() {
            // The next start removes it otherwise.
            let _ = fs::remove_file(&new);
        }
        written.map(|()| text.len())
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the record for good.
    pub(super) fn remove(&self) {
        let mut stage = self.stage();
        *stage = Stage::Removed;
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
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    let mut record: Record = serde_json::from_slice(lines.next().unwrap_or_default())?;
    // One that was cut off was told to nobody.
    if let Some(end) = lines.next().filter(|line| line.ends_with(b"\n")) {
        record.end = serde_json::from_slice(end)?;
    }
    Ok(record)
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text)
}
