//! Memory of connections that do nothing.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use conformance::connection::Connection;
use conformance::program::Maker;
use conformance::target::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::subject::{self, Subject};

/// Connections of the reference are processes, slow to make and all alike: this many show what one
/// takes.
const REFERENCE_MOST: usize = 200;
/// Files that this program needs besides the connections.
const OTHER_FILES: u64 = 64;

/// Returns the KiB that each of `count` connections takes in a server of its own, which has to
/// answer on all of them afterwards. There is no floor for it, and the reference gets fewer.
pub(crate) fn measure(subject: Subject, count: usize) -> Result<Option<f64>> {
    let (maker, count) = match subject {
        Subject::Reference => (Maker::Reference, count.min(REFERENCE_MOST)),
        Subject::Ours => (Maker::Ours, count),
        Subject::Floor => return Ok(None),
    };
    let server = subject::start(maker)?;
    // Only for us: the server was started with the limit that any program gets.
    let limit = OpenFiles::raise(count as u64 + OTHER_FILES)?;
    let before = memory(&server)?;
    let mut connections = Vec::new();
    for index in 0..count {
        let connection = subject::log_in(server.address())
            .with_context(|| format!("connection {} of {count}", index + 1))?;
        connections.push(connection);
    }
    let after = memory(&server)?;
    for connection in &mut connections {
        check(connection)?;
    }
    drop(connections);
    drop(limit);
    Ok(Some((after - before) as f64 / 1024.0 / count as f64))
}

fn check(connection: &mut Connection) -> Result<()> {
    let mut surplus = Vec::new();
    connection.settle(&mut surplus)?;
    ensure!(surplus.is_empty(), "an idle connection said something");
    Ok(())
}

/// Adds up the proportional memory of a server's processes, in bytes: what one shares with others
/// counts in part for each.
pub(crate) fn memory(server: &Server) -> Result<i64> {
    let mut sum = 0;
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let path = entry?.path();
        // Processes come and go; one that is gone takes no memory.
        let Ok(stat) = fs::read_to_string(path.join("stat")) else {
            continue;
        };
        if process_group(&stat) == Some(server.pid()) {
            let text = fs::read_to_string(path.join("smaps_rollup")).unwrap_or_default();
            sum += proportional(&text).unwrap_or(0);
        }
    }
    ensure!(sum > 0, "no memory is shown for the server's processes");
    Ok(sum)
}

/// Reads the process group from `/proc/PID/stat`: the third word after the command's name, which may
/// contain anything.
fn process_group(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

/// Reads `Pss` from `/proc/PID/smaps_rollup`, in bytes.
fn proportional(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let number: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024)
}

/// This program's limit of open files, raised until dropped.
pub(crate) struct OpenFiles {
    before: Rlimit,
}

impl OpenFiles {
    /// Raises it to at least `needed`.
    pub(crate) fn raise(needed: u64) -> Result<Self> {
        let before = getrlimit(Resource::Nofile);
        if before.current.is_some_and(|current| current < needed) {
            ensure!(
                before.maximum.is_none_or(|maximum| maximum >= needed),
                "{needed} open files are needed, the hard limit is {:?}; use --idle with fewer",
                before.maximum
            );
            setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: Some(needed),
                    maximum: before.maximum,
                },
            )?;
        }
        Ok(Self { before })
    }
}

impl Drop for OpenFiles {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::Nofile, self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_group_is_found_behind_any_name() {
        assert_eq!(process_group("7 (a) b) S 1 42 42 0"), Some(42));
        assert_eq!(process_group("7 (cut"), None);
    }

    #[test]
    fn proportional_memory_is_read() {
        let text = "Rss:   10 kB\nPss:    3 kB\nPss_Anon: 1 kB\n";
        assert_eq!(proportional(text), Some(3072));
        assert_eq!(proportional(""), None);
    }
}
