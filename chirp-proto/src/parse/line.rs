//! Lines of the login phase.

use std::borrow::Cow;

/// A line longer than it may be; the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line longer than {0} bytes")]
pub struct TooLong(pub usize);

/// A line's content, and the bytes it took with its LF.
pub type Line<'a> = (Cow<'a, [u8]>, usize);

/// Splits the first line off: its content without CR, and the bytes it took with its LF. `None`
/// while there is no whole line.
///
/// # Errors
///
/// [`TooLong`] for more than `limit` bytes of content.
pub fn split(buffer: &[u8], limit: usize) -> Result<Option<Line<'_>>, TooLong> {
    let Some(end) = memchr::memchr(b'\n', buffer) else {
        // A byte of grace for a CR that is not content.
        return if buffer.len() > limit + 1 {
            Err(TooLong(limit))
        } else {
            Ok(None)
        };
    };
    let (line, _) = buffer.split_at(end);
    let line = super::clean(line);
    if line.len() > limit {
        return Err(TooLong(limit));
    }
    Ok(Some((line, end + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_and_bounded() {
        assert_eq!(
            split(b"unix\r\nyes\n", 10),
            Ok(Some((b"unix".as_slice().into(), 6)))
        );
        assert_eq!(split(b"uni", 10), Ok(None));
        assert_eq!(split(b"0123456789a\n", 10), Err(TooLong(10)));
        assert_eq!(split(&[b'a'; 100], 10), Err(TooLong(10)));
    }
}
