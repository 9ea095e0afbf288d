//! Why a program was not started, decided before the reply.

use std::io;
use std::path::Path;

use chirp_proto::Code;

/// A refusal to start: the code to answer and the words after it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// The wire code.
    pub code: Code,
    /// What failed, on what, and why; one line.
    pub message: String,
}

impl StartError {
    /// Makes a refusal.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The refusal for a failed exec of `program`.
    pub(super) fn exec(program: &Path, error: &io::Error) -> Self {
        let (code, reason) = match error.raw_os_error() {
            Some(libc::ENOENT) if program.is_absolute() && program.exists() => (
                Code::DoesntExist,
                "the interpreter it names does not exist".to_owned(),
            ),
            Some(libc::ENOENT) => (Code::DoesntExist, "no such program".to_owned()),
            Some(libc::EACCES | libc::EPERM) => (
                Code::NotAuthorized,
                "may not be executed, or lies where the sandbox lets no program read".to_owned(),
            ),
            Some(libc::ENOTDIR) => (
                Code::NotDirectory,
                "a part of the path is not a directory".to_owned(),
            ),
            Some(libc::ENOEXEC | libc::ELIBBAD | libc::EINVAL) => (
                Code::InvalidRequest,
                "malformed or built for another machine".to_owned(),
            ),
            Some(libc::E2BIG) => (
                Code::TooBig,
                "arguments and environment are too long".to_owned(),
            ),
            Some(libc::ESTALE) => (
                Code::TryAgain,
                "the working directory was moved meanwhile".to_owned(),
            ),
            Some(libc::ETXTBSY) => (Code::Busy, "the file is being written".to_owned()),
            Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
                (Code::TooManyOpen, format!("no process to be had: {error}"))
            }
            Some(errno) => (Code::from_errno(errno), error.to_string()),
            None => (Code::InvalidRequest, error.to_string()),
        };
        Self::new(code, format!("cannot run {}: {reason}", program.display()))
    }

    /// The refusal for a failure of the server's own means.
    pub(super) fn means(what: &str, error: &io::Error) -> Self {
        let code = match error.raw_os_error() {
            Some(errno) => match Code::from_errno(errno) {
                Code::TryAgain | Code::NoMemory => Code::TooManyOpen,
                code => code,
            },
            None => Code::TryAgain,
        };
        Self::new(code, format!("cannot start: {what}: {error}"))
    }
}
