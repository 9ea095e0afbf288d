//! The log file: renamed when it grew too large, opened anew when somebody else renamed it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A log file with a bound on its size.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// The size at which the next attempt to rename it is made.
    rotate_at: u64,
    /// The size allowed; 0 for any.
    limit: u64,
}

impl LogFile {
    /// Opens the file for appending.
    pub(super) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let (file, size) = open(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            rotate_at: limit,
            limit,
        })
    }

    /// Opens the file anew. If that cannot be done the old one stays.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.path)?;
        self.rotate_at = self.limit;
        Ok(())
    }

    /// Moves the file to `NAME.old`, as the reference does, and begins a new one. Where the directory
    /// does not let the server do that, the file grows, and it is tried again when it is as much larger.
    fn rotate(&mut self) {
        let mut old = self.path.clone().into_os_string();
        old.push(".old");
        let moved = std::fs::rename(&self.path, old).and_then(|()| self.reopen());
        if moved.is_err() {
            self.rotate_at = self.size.saturating_add(self.limit);
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let length = line.len() as u64;
        if self.limit > 0 && self.size > 0 && self.size.saturating_add(length) > self.rotate_at {
            self.rotate();
        }
        let written = self.file.write(line)?;
        self.size = self.size.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_full_log_becomes_the_old_one() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let mut log = LogFile::open(&path, 10).unwrap();
        for line in [
            "one\n",
            "two\n",
            "three\n",
            "a line longer than the limit\n",
            "end\n",
        ] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(place.path().join(name)).unwrap();
        assert_eq!(read("log"), "end\n");
        assert_eq!(read("log.old"), "a line longer than the limit\n");
        // Another process's start counts what is there.
        let mut log = LogFile::open(&path, 10).unwrap();
        log.write_all(b"1234567\n").unwrap();
        assert_eq!(
            (read("log"), read("log.old")),
            ("1234567\n".into(), "end\n".into())
        );
    }

    #[test]
    fn without_a_limit_it_grows() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let mut log = LogFile::open(&path, 0).unwrap();
        for _ in 0..100 {
            log.write_all(b"line\n").unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 500);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_renamed_loses_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        fs::create_dir_all(place.path().join("log.old/in the way")).unwrap();
        let mut log = LogFile::open(&path, 10).unwrap();
        for _ in 0..10 {
            log.write_all(b"line\n").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "line\n".repeat(10));
    }

    #[test]
    fn opened_anew_it_follows_the_name() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let mut log = LogFile::open(&path, 0).unwrap();
        log.write_all(b"one\n").unwrap();
        fs::rename(&path, place.path().join("moved")).unwrap();
        log.reopen().unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }
}
