//! `getstream`, `putstream` (part 3.5): content whose end is the connection's.

use crate::authorize::{Failure, Granted};
use crate::export::Export;
use crate::outcome::Outcome;
use crate::vfs::temporary::Replace;
use crate::vfs::{Open, Upload};

/// The mode that `putstream` asks for (part 3.5); of an old file the mode is kept.
const MODE: u32 = 0o700;

/// Sends a file to its end, wherever that is by then.
pub(crate) fn getstream(source: &Granted) -> Result<Outcome, Failure> {
    let file = source.open(Open {
        read: true,
        ..Open::default()
    })?;
    Ok(Outcome::SendStream(file))
}

/// Receives a file until the client ends its side of the connection.
pub(crate) fn putstream(
    export: &Export,
    target: &Granted,
    replace: Replace,
) -> Result<Outcome, Failure> {
    let upload = Upload::begin(target, MODE, replace, &export.journal, &export.space)?;
    Ok(Outcome::ReceiveStream(Box::new(upload)))
}
