//! What a server has resolved and opened before a program can start, and the search for a program.

use std::any::Any;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use chirp_proto::Code;

use super::StartError;
use crate::status::Limits;

/// Everything a start needs that the request only names: the server has resolved virtual paths,
/// checked rights and opened the handles.
#[derive(Debug)]
pub struct Prepared {
    /// The program: an absolute path in the guest, a path relative to `cwd` that begins with `./`,
    /// or a bare name, which is looked up in the `PATH` the program itself will have.
    pub program: PathBuf,
    /// A handle to the working directory.
    pub cwd: OwnedFd,
    /// Standard input.
    pub stdin: Input,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// The environment under the request's own variables; see [`clean_environment`].
    pub env: Vec<(OsString, OsString)>,
    /// The limits in force: the request's within the server's ([`Limits::within`]).
    pub limits: Limits,
    /// What the server keeps for as long as the program, or anything that it started, may run.
    pub held: Option<Held>,
}

/// Something that is dropped when a program and all that it started have ended, or when it is not started
/// after all: on a thread that may wait, and before anybody is told of the end.
pub type Held = Box<dyn Any + Send + Sync>;

/// Standard input of a program.
#[derive(Debug)]
pub enum Input {
    /// At its end at once.
    Null,
    /// From the attached client.
    Stream,
    /// From an open file.
    File(OwnedFd),
}

/// Standard output or error of a program.
#[derive(Debug)]
pub enum Output {
    /// To the attached client, through the window.
    Stream,
    /// Kept on disk for the status and `exec_output`.
    Capture,
    /// Nowhere.
    Discard,
    /// Into an open file.
    File(OwnedFd),
    /// Where standard output goes; for standard error only.
    Stdout,
}

/// The `PATH` of programs where the request sets none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the small environment that programs start with.
#[must_use]
pub fn clean_environment(home: &OsStr, user: &OsStr) -> Vec<(OsString, OsString)> {
    [
        ("PATH", OsStr::new(DEFAULT_PATH)),
        ("HOME", home),
        ("LANG", OsStr::new("C.UTF-8")),
        ("USER", user),
    ]
    .map(|(name, value)| (OsString::from(name), value.to_owned()))
    .into()
}

/// Finds the program of a bare `name` in the absolute directories of `path`, a list as in `PATH`.
/// Other entries of the list are passed over: they would mean the server's own directory.
///
/// # Errors
///
/// [`Code::NotAuthorized`] where only files that may not be executed have that name,
/// [`Code::DoesntExist`] where there are none.
pub fn find_program(name: &OsStr, path: &OsStr) -> Result<PathBuf, StartError> {
    let mut refused = None;
    for directory in path.as_bytes().split(|&b| b == b':') {
        if !directory.starts_with(b"/") {
            continue;
        }
        let candidate = Path::new(OsStr::from_bytes(directory)).join(name);
        let Ok(metadata) = candidate.metadata() else {
            continue;
        };
        if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            return Ok(candidate);
        }
        refused.get_or_insert(candidate);
    }
    Err(match refused {
        Some(candidate) => StartError::new(
            Code::NotAuthorized,
            format!("cannot run {}: may not be executed", candidate.display()),
        ),
        None => StartError::new(
            Code::DoesntExist,
            format!("no program {} in PATH {}", name.display(), path.display()),
        ),
    })
}
