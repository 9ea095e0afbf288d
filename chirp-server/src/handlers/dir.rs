//! `getdir`, `getlongdir` (part 3.6).

use crate::authorize::{Failure, Granted};
use crate::outcome::Outcome;
use crate::vfs::Listing;

/// Starts a listing; with `long`, each name has its stat line.
pub(crate) fn listing(dir: &Granted, long: bool) -> Result<Outcome, Failure> {
    let listing = Listing::new(dir.directory()?, dir.is_root(), long)?;
    Ok(Outcome::Listing(listing))
}
