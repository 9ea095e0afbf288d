//! `md5`, `hash`, and our `sha256` (part 3.7; `exec-extension.md`).

use std::fs::File;

use rustix::io::Errno;
use sha2::Digest;

use crate::authorize::{Failure, Granted};
use crate::outcome::Outcome;
use crate::vfs::Open;

/// Bytes that are read at once.
const PORTION: usize = 64 * 1024;

/// The size of a file up to which its digest is made on the spot: it takes less time than handing
/// the work to another thread.
const SMALL: i64 = 64 * 1024;

/// The digest of a file's content, in binary.
pub(crate) fn digest<D: Digest + 'static>(source: &Granted) -> Result<Outcome, Failure> {
    let file = source.open(Open {
        read: true,
        ..Open::default()
    })?;
    if rustix::fs::fstat(&file)?.st_size <= SMALL {
        return Ok(Outcome::Counted(digest_of::<D>(&file, || false)?));
    }
    Ok(Outcome::blocking(true, move |token| {
        digest_of::<D>(&file, || token.is_cancelled()).map(Outcome::Counted)
    }))
}

fn digest_of<D: Digest>(file: &File, give_up: impl Fn() -> bool) -> Result<Vec<u8>, Errno> {
    let mut digest = D::new();
    let mut portion = Vec::with_capacity(PORTION);
    while !give_up() {
        portion.clear();
        match rustix::io::read(file, rustix::buffer::spare_capacity(&mut portion)) {
            Ok(0) => return Ok(digest.finalize().to_vec()),
            Ok(_) => digest.update(&portion),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::CANCELED)
}
