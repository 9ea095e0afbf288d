//! A set of clients: a directory of tools with the names of the reference's.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, iter};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::program::Program;

/// The tools that every set has.
pub const TOOLS: [&str; 5] = [
    "chirp",
    "chirp_get",
    "chirp_put",
    "chirp_stream_files",
    "chirp_status",
];

/// A directory of tools.
#[derive(Clone, Debug)]
pub struct Clients {
    label: String,
    directory: PathBuf,
    /// The directory, where it is one of links that was made for this.
    _links: Option<Arc<TempDir>>,
}

impl Clients {
    /// Returns the tools in `directory`, which are called `label` in what is shown.
    ///
    /// # Errors
    ///
    /// Fails with the names of those of [`TOOLS`] that are not there.
    pub fn in_directory(label: &str, directory: &Path) -> Result<Self> {
        let this = Self {
            label: label.to_owned(),
            directory: directory.to_owned(),
            _links: None,
        };
        let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !this.has(tool)).collect();
        ensure!(
            missing.is_empty(),
            "{} has no {}; give the directory of a set of clients",
            directory.display(),
            missing.join(", ")
        );
        Ok(this)
    }

    /// Returns the installed tools of the reference.
    ///
    /// # Errors
    ///
    /// Fails with the name of the package to install if one is missing.
    pub fn reference() -> Result<Self> {
        for tool in TOOLS {
            Program::reference(tool)?;
        }
        let chirp = Program::reference("chirp")?.path;
        let directory = chirp.parent().context("chirp is in no directory")?;
        Self::in_directory("reference", directory)
    }

    /// Returns our client under the names of the reference's tools.
    ///
    /// # Errors
    ///
    /// Fails with the command that builds it if it is missing, or if there can be no links to it.
    pub fn ours() -> Result<Self> {
        Self::of("ours", &Program::our_client()?.path)
    }

    /// Returns one program that is all of the tools, by the name under which it is called.
    ///
    /// # Errors
    ///
    /// Fails if it is not there, or if there can be no links to it.
    pub fn of(label: &str, client: &Path) -> Result<Self> {
        let client = fs::canonicalize(client)
            .with_context(|| format!("cannot find {}", client.display()))?;
        let links = tempfile::Builder::new()
            .prefix("conformance-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("cannot create a directory for links to the client")?;
        for tool in TOOLS {
            symlink(&client, links.path().join(tool)).context("cannot link to the client")?;
        }
        let mut this = Self::in_directory(label, links.path())?;
        this._links = Some(Arc::new(links));
        Ok(this)
    }

    /// Returns what it is called in what is shown.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns whether it has a tool.
    #[must_use]
    pub fn has(&self, tool: &str) -> bool {
        self.tool(tool).is_file()
    }

    /// Returns where a tool is, or would be.
    #[must_use]
    pub fn tool(&self, tool: &str) -> PathBuf {
        self.directory.join(tool)
    }

    /// Returns a `PATH` in which its tools come first.
    ///
    /// # Errors
    ///
    /// Fails if its directory cannot be in a `PATH`.
    pub fn search_path(&self) -> Result<OsString> {
        let rest = env::var_os("PATH").unwrap_or_default();
        let all = iter::once(self.directory.clone()).chain(env::split_paths(&rest));
        env::join_paths(all).context("no PATH can have the clients' directory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_tools_is_no_set_of_clients() {
        let empty = tempfile::tempdir().unwrap();
        let error = Clients::in_directory("empty", empty.path()).unwrap_err();
        assert!(error.to_string().contains("chirp_stream_files"), "{error}");
    }

    #[test]
    fn its_tools_come_first_in_the_path() {
        let directory = tempfile::tempdir().unwrap();
        for tool in TOOLS {
            fs::write(directory.path().join(tool), "").unwrap();
        }
        let clients = Clients::in_directory("some", directory.path()).unwrap();
        let path = clients.search_path().unwrap();
        let first = env::split_paths(&path).next().unwrap();
        assert_eq!(first, directory.path());
    }
}
