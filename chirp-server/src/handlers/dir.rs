//! `getdir`, `getlongdir` (parts 3.6 and 2.9).

use std::fs::File;
use std::io::Write;

use bytes::BytesMut;
use chirp_proto::{Code, Dialect};
use rustix::io::Errno;

use crate::authorize::{Failure, Granted};
use crate::export::Export;
use crate::heavy::Slice;
use crate::outcome::{Outcome, Steps, Turn};
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
    Ok(Outcome::Steps(Box::new(Counting {
        listing,
        text,
        file: export.spool.file()?,
        length: 0,
    })))
}

/// A long listing on its way into a file.
struct Counting {
    listing: Listing,
    /// What is not in the file yet.
    text: BytesMut,
    file: File,
    length: u64,
}

impl Counting {
    /// Moves the text to the file.
    fn store(&mut self) -> Result<(), Errno> {
        let written = self.file.write_all(&self.text);
        written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        self.length += self.text.len() as u64;
        self.text.clear();
        Ok(())
    }

    /// Returns whether the whole listing is in the file.
    fn advance(&mut self, slice: &Slice) -> Result<bool, Errno> {
        self.store()?;
        while self.listing.fill(&mut self.text)? {
            self.store()?;
            if slice.is_over() {
                return Ok(false);
            }
        }
        self.store()?;
        Ok(true)
    }
}

impl Steps for Counting {
    fn step(&mut self, _: &Export, _: &mut BytesMut, slice: &Slice) -> Turn {
        let done = match self.advance(slice) {
            Ok(false) => return Turn::More,
            Ok(true) => self.file.try_clone(),
            Err(errno) => Err(errno.into()),
        };
        Turn::Answer(match done {
            Ok(file) => Outcome::SendFile {
                file,
                offset: 0,
                length: self.length,
            },
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                Outcome::Failed(Code::from_errno(errno.raw_os_error()))
            }
        })
    }
}
