//! `whoami`, `debug` (part 3.2).

use chirp_proto::{Code, Subject};

use crate::authorize::Failure;
use crate::outcome::Outcome;

/// The subject, as much of it as the client wants.
pub(crate) fn whoami(subject: &Subject, limit: u64) -> Outcome {
    let mut text = subject.as_str().as_bytes().to_vec();
    text.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Outcome::Counted(text)
}

/// Debug categories are set where the server is started, not over the wire.
pub(crate) fn debug(is_superuser: bool) -> Result<Outcome, Failure> {
    let code = if is_superuser {
        Code::NotSupported
    } else {
        Code::NotAuthorized
    };
    Err(code.into())
}
