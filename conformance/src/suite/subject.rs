//! A server under test: where it is, or how to start it, and what it is called.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Error, Result, bail};
use serde::Serialize;

use crate::program::Program;
use crate::target::{Elsewhere, Options, Server, Target};

/// A server under test. Whose implementation it is, nobody knows here.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What it is called in what is shown.
    pub label: String,
    /// Where it is.
    pub place: Place,
}

/// Where a server is.
#[derive(Clone, Debug)]
pub enum Place {
    /// It runs already, and listens there.
    Address(SocketAddr),
    /// This starts it, as often and with the options that are needed.
    Program(Program),
}

/// What is said of a server.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// What it is called.
    pub label: String,
    /// Its address or its program.
    pub place: String,
    /// The first line of what it says of its version; nothing where that cannot be asked for.
    pub version: Option<String>,
}

impl FromStr for Subject {
    type Err = Error;

    /// Reads `[LABEL=]HOST:PORT` or `[LABEL=]PROGRAM`; what has a slash or is a file is a program.
    fn from_str(text: &str) -> Result<Self> {
        let (label, place) = match text.split_once('=') {
            Some((label, place)) if !label.contains('/') && !label.is_empty() => (label, place),
            _ => (text, text),
        };
        let path = PathBuf::from(place);
        let label = label.to_owned();
        if place.contains('/') || path.is_file() {
            if !path.is_file() {
                bail!("{place} is no file; give a server's program, or HOST:PORT");
            }
            let path = path.canonicalize().context(place.to_owned())?;
            return Ok(Self::program(Program { label, path }));
        }
        let address = place
            .to_socket_addrs()
            .with_context(|| {
                format!("{place:?} is neither HOST:PORT nor a program's path (./{place}?)")
            })?
            .next()
            .with_context(|| format!("{place:?} has no address"))?;
        Ok(Self {
            label,
            place: Place::Address(address),
        })
    }
}

impl Subject {
    /// Returns the server that a program is, under the program's label.
    #[must_use]
    pub fn program(program: Program) -> Self {
        Self {
            label: program.label.clone(),
            place: Place::Program(program),
        }
    }

    /// Returns its program, where this suite can start it.
    #[must_use]
    pub fn as_program(&self) -> Option<&Program> {
        match &self.place {
            Place::Program(program) => Some(program),
            Place::Address(_) => None,
        }
    }

    /// Returns a server with these options: a new one, or the one that runs, which has its own.
    ///
    /// # Errors
    ///
    /// Fails if it does not start.
    pub fn serve(&self, options: &Options) -> Result<Box<dyn Target + Send>> {
        Ok(match &self.place {
            Place::Address(address) => Box::new(Elsewhere::at(*address)?),
            Place::Program(program) => Box::new(
                Server::start(program, options)
                    .with_context(|| format!("cannot start the server {}", self.label))?,
            ),
        })
    }

    /// Returns what can be said of it. A program is asked for its version.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let (place, version) = match &self.place {
            Place::Address(address) => (address.to_string(), None),
            Place::Program(program) => (program.path.display().to_string(), version(&program.path)),
        };
        Shown {
            label: self.label.clone(),
            place,
            version,
        }
    }
}

/// Returns the first line that a program answers to `--version`.
#[must_use]
pub fn version(program: &std::path::Path) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_program_are_told_apart() {
        let there: Subject = "mine=127.0.0.1:9094".parse().unwrap();
        assert_eq!(there.label, "mine");
        assert!(matches!(there.place, Place::Address(address) if address.port() == 9094));
        let program: Subject = "/bin/cat".parse().unwrap();
        assert_eq!(program.label, "/bin/cat");
        assert!(program.as_program().is_some());
    }

    #[test]
    fn what_is_neither_is_told_with_what_to_give() {
        let error = "./none".parse::<Subject>().unwrap_err().to_string();
        assert!(error.contains("HOST:PORT"), "{error}");
        let error = "none".parse::<Subject>().unwrap_err();
        assert!(format!("{error:#}").contains("./none"), "{error:#}");
    }
}
