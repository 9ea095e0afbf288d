//! `whoami`, `debug` (part 3.2).

use chirp_proto::{Code, Subject};

use crate::authorize::Failure;
use crate::logging;
use crate::outcome::Outcome;

/// The subject, as much of it as the client wants.
pub(crate) fn whoami(subject: &Subject, limit: u64) -> Outcome {
    let mut text = subject.as_str().as_bytes().to_vec();
    text.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Outcome::Counted(text)
}

/// Turns on a category of the log for the whole server.
pub(crate) fn debug(is_superuser: bool, flag: &[u8]) -> Result<Outcome, Failure> {
    if !is_superuser {
        return Err(Code::NotAuthorized.into());
    }
    logging::enable(&String::from_utf8_lossy(flag));
    Ok(Outcome::Number(0))
}
