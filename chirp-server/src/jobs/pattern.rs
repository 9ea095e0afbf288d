//! Patterns in the server's path of an output (part 9.5): `%j`, `%h`, `%g` and `%s`.

use std::fs::File;
use std::io::{self, Read, Seek};

use sha1::{Digest, Sha1};

/// Bytes up to which `%s` is the digest of the content.
const SMALL: u64 = 16 * 1024 * 1024;

/// Returns `path` with its patterns replaced: `%j` by the id, `%h` by the SHA-1 of the content, `%g`
/// by 40 random digits, `%s` by either, as the file is small or not. Other `%` stay.
///
/// # Errors
///
/// The file cannot be read, or the system has no random numbers.
pub(super) fn expand(path: &[u8], id: u64, file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    let mut expanded = Vec::with_capacity(path.len());
    let mut digest = None;
    let mut bytes = path.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let pattern = if byte == b'%' { bytes.peek() } else { None };
        let replacement = match pattern {
            Some(b'j') => id.to_string(),
            Some(b'h') => hash(file, &mut digest)?,
            Some(b's') if size <= SMALL => hash(file, &mut digest)?,
            Some(b'g' | b's') => random()?,
            _ => {
                expanded.push(byte);
                continue;
            }
        };
        bytes.next();
        expanded.extend_from_slice(replacement.as_bytes());
    }
    Ok(expanded)
}

fn hash(file: &mut File, known: &mut Option<String>) -> io::Result<String> {
    if let Some(known) = known {
        return Ok(known.clone());
    }
    let mut state = Sha1::new();
    let mut buffer = vec![0; 256 * 1024];
    file.rewind()?;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => state.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    file.rewind()?;
    let digest: String = state
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    *known = Some(digest.clone());
    Ok(digest)
}

fn random() -> io::Result<String> {
    let digits = crate::random::hex::<20>().map_err(io::Error::other)?;
    Ok(digits.to_ascii_uppercase())
}
