//! Where the binaries under test are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Whose implementation a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Maker {
    /// The installed `coop-computing-tools`.
    Reference,
    /// This workspace.
    Ours,
}

impl Maker {
    /// Both of them, the reference first.
    pub const ALL: [Self; 2] = [Self::Reference, Self::Ours];

    /// Returns the word used for it in the names of cases: `reference` or `ours`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Ours => "ours",
        }
    }
}

/// A program to run, and what it is called in what is shown.
#[derive(Clone, Debug)]
pub struct Program {
    /// What it is called: for the installed and the built ones, [`Maker::name`].
    pub label: String,
    /// The executable's path.
    pub path: PathBuf,
}

impl Program {
    /// Returns the reference's server.
    ///
    /// # Errors
    ///
    /// Fails with the name of the package to install if it is missing.
    pub fn reference_server() -> Result<Self> {
        Self::reference("chirp_server")
    }

    /// Returns a program of the reference by its name, looked for in `PATH`.
    ///
    /// # Errors
    ///
    /// Fails with the name of the package to install if it is missing.
    pub fn reference(name: &str) -> Result<Self> {
        let path = env::var_os("PATH")
            .iter()
            .flat_map(env::split_paths)
            .map(|directory| directory.join(name))
            .find(|path| path.is_file())
            .with_context(|| {
                format!("{name} is not in PATH; install it: apt-get install coop-computing-tools")
            })?;
        Ok(Self {
            label: Maker::Reference.name().to_owned(),
            path,
        })
    }

    /// Returns our server: `CHIRP_SERVER`, else the one built beside this program.
    ///
    /// # Errors
    ///
    /// Fails with the command that builds it if it is missing.
    pub fn our_server() -> Result<Self> {
        Self::ours("chirp-server", "CHIRP_SERVER")
    }

    /// Returns our client: `CHIRP_CLIENT`, else the one built beside this program.
    ///
    /// # Errors
    ///
    /// Fails with the command that builds it if it is missing.
    pub fn our_client() -> Result<Self> {
        Self::ours("chirp-client", "CHIRP_CLIENT")
    }

    /// Returns the server of `maker`.
    ///
    /// # Errors
    ///
    /// As [`Program::reference_server`] and [`Program::our_server`].
    pub fn server(maker: Maker) -> Result<Self> {
        match maker {
            Maker::Reference => Self::reference_server(),
            Maker::Ours => Self::our_server(),
        }
    }

    fn ours(name: &str, variable: &str) -> Result<Self> {
        let path = match env::var_os(variable) {
            Some(path) => PathBuf::from(path),
            None => beside_this_program(name)?,
        };
        if !path.is_file() {
            bail!(
                "{} is not there; build it: cargo build -p {name}, or set {variable}",
                path.display()
            );
        }
        Ok(Self {
            label: Maker::Ours.name().to_owned(),
            path,
        })
    }
}

/// Cargo builds tests into `target/PROFILE/deps` and programs into `target/PROFILE`, so the sibling
/// of a test is one directory up.
fn beside_this_program(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this program's own path")?;
    let directory = own.parent().unwrap_or_else(|| Path::new("."));
    let directory = match directory.file_name() {
        Some(last) if last == "deps" => directory.parent().unwrap_or(directory),
        _ => directory,
    };
    Ok(directory.join(name))
}
