//! The demo's one temporary directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The result's name in the directory.
const RESULT: &str = "word-counts.txt";

/// The demo's temporary directory. Dropping it removes it, as [`Workspace::keep`] says.
#[derive(Debug)]
pub(super) struct Workspace {
    base: PathBuf,
    keep: Keep,
}

/// What stays of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing.
    Nothing,
    /// The result only.
    Result,
    /// The logs only, to find out what went wrong.
    Logs,
    /// Everything.
    All,
}

impl Workspace {
    /// Makes the directory. With `shared` another user can pass through it, to directories of its own.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(super) fn create(parent: Option<&Path>, shared: bool) -> anyhow::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        let failed = || format!("cannot make a temporary directory in {}", parent.display());
        let parent = fs::canonicalize(&parent).with_context(failed)?;
        let base = tempfile::Builder::new()
            .prefix("host-agent-demo-")
            .tempdir_in(&parent)
            .with_context(failed)?
            .keep();
        let workspace = Self {
            base,
            keep: Keep::Nothing,
        };
        if shared {
            fs::set_permissions(workspace.path(), fs::Permissions::from_mode(0o711))
                .with_context(failed)?;
        }
        for name in ["guests", "shards", "tables", "logs"] {
            fs::create_dir(workspace.path().join(name)).with_context(failed)?;
        }
        Ok(workspace)
    }

    /// Returns the directory.
    pub(super) fn path(&self) -> &Path {
        &self.base
    }

    /// Returns where the merged result goes.
    pub(super) fn result(&self) -> PathBuf {
        self.base.join(RESULT)
    }

    /// Returns the log of one process.
    pub(super) fn log(&self, process: &str) -> PathBuf {
        self.base.join("logs").join(process).with_extension("log")
    }

    /// Returns the directory of the logs, if there are any.
    pub(super) fn logs(&self) -> Option<PathBuf> {
        let logs = self.base.join("logs");
        let any = fs::read_dir(&logs).is_ok_and(|mut entries| entries.next().is_some());
        any.then_some(logs)
    }

    /// Decides what stays.
    pub(super) fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let stays = match self.keep {
            Keep::All => return,
            Keep::Nothing => {
                // What was in the hands of an aborted transfer may still fall into it once.
                let _ = (0..3).find(|_| fs::remove_dir_all(&self.base).is_ok());
                return;
            }
            Keep::Result => RESULT,
            Keep::Logs => "logs",
        };
        for entry in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            if entry.file_name() == stays {
                continue;
            }
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // Debris in a temporary directory is no reason to fail after all is done.
            let _ = if is_directory {
                fs::remove_dir_all(entry.path())
            } else {
                fs::remove_file(entry.path())
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(keep: Keep) -> Vec<String> {
        let parent = tempfile::tempdir().unwrap();
        let mut workspace = Workspace::create(Some(parent.path()), false).unwrap();
        let base = workspace.path().to_owned();
        fs::write(workspace.result(), "1 a\n").unwrap();
        fs::write(workspace.log("agent"), "log").unwrap();
        workspace.keep(keep);
        drop(workspace);
        let mut names: Vec<_> = fs::read_dir(base)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_is_kept_stays() {
        assert_eq!(left(Keep::Nothing), [""; 0]);
        assert_eq!(left(Keep::Result), [RESULT]);
        assert_eq!(left(Keep::Logs), ["logs"]);
        assert_eq!(
            left(Keep::All),
            ["guests", "logs", "shards", "tables", RESULT]
        );
    }
}
