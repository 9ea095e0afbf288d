//! `getdir`, `getlongdir` (parts 3.6 and 2.9).

use std::io::Write;

use bytes::BytesMut;
use chirp_proto::Dialect;
use rustix::io::Errno;

use crate::authorize::{Failure, Granted};
use crate::export::Export;
use crate::outcome::Outcome;
use crate::vfs::Listing;

/// Starts a listing; with `long`, each name has its stat line.
pub(crate) fn listing(
    export: &Export,
    dir: &Granted,
    long: bool,
    dialect: Dialect,
) -> Result<Outcome, Failure> {
    let listing = Listing::new(dir.directory()?, dir.is_root(), long)?;
    match dialect {
        Dialect::Plain => Ok(Outcome::Listing(listing)),
        Dialect::Condor => counted(export, listing.without_dots()),
    }
}

/// A listing whose length is told before it: a short one in memory, another one in a file without a
/// name, so that it takes no more memory than one that is sent as it is made.
fn counted(export: &Export, mut listing: Listing) -> Result<Outcome, Failure> {
    let mut text = BytesMut::new();
    if !listing.fill(&mut text)? {
        return Ok(Outcome::Counted(text.into()));
    }
    let mut file = export.spool.file()?;
    Ok(Outcome::blocking(true, move |token| {
        let mut length = 0;
        let mut more = true;
        loop {
            let written = file.write_all(&text);
            written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            length += text.len() as u64;
            text.clear();
            if !more || token.is_cancelled() {
                break;
            }
            more = listing.fill(&mut text)?;
        }
        Ok(Outcome::SendFile {
            file,
            offset: 0,
            length,
        })
    }))
}
