//! Replies as a client reads them (`chirp-protocol.md`, part 1.5).

use super::line::{self, Line, TooLong};
use super::token::number_prefix;
use crate::code::Code;
use crate::limits::AUTH_LINE_MAX;

/// A status line: what a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Zero or a positive number, whose meaning depends on the verb.
    Success(u64),
    /// A failure, with the words that our own verbs may put behind the number.
    Failure {
        /// The code.
        code: Code,
        /// The server's words, if any.
        message: Option<String>,
    },
}

/// Bytes that are no reply: the connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The line does not begin with a number.
    #[error("the server answered {0:?} where a number was due")]
    NoNumber(String),
    /// The line does not end.
    #[error("the server's answer is a {0}")]
    TooLong(#[from] TooLong),
}

/// Reads the status line at the front of `buffer`: its meaning and how many bytes it took. `None`
/// while it is not whole.
///
/// # Errors
///
/// [`ReplyError`] if these bytes cannot be a status line.
pub fn status(buffer: &[u8]) -> Result<Option<(Status, usize)>, ReplyError> {
    let Some((text, used)) = text_line(buffer)? else {
        return Ok(None);
    };
    let Some(number) = number_prefix(&text) else {
        return Err(ReplyError::NoNumber(
            text.escape_ascii().take(80).map(char::from).collect(),
        ));
    };
    let status = u64::try_from(number).map_or_else(
        |_| Status::Failure {
            code: Code::from_value(number),
            message: words_after_number(&text),
        },
        Status::Success,
    );
    Ok(Some((status, used)))
}

/// Reads any other line of a reply: a stat line, a name, an ACL line.
///
/// # Errors
///
/// [`TooLong`] if the line exceeds what any line of a reply may be.
pub fn text_line(buffer: &[u8]) -> Result<Option<Line<'_>>, TooLong> {
    line::split(buffer, AUTH_LINE_MAX)
}

fn words_after_number(text: &[u8]) -> Option<String> {
    let blank = memchr::memchr(b' ', text)?;
    let (_, words) = text.split_at(blank);
    let words = String::from_utf8_lossy(words.trim_ascii()).into_owned();
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_are_numbers_with_optional_words() {
        assert_eq!(status(b"12\nrest"), Ok(Some((Status::Success(12), 3))));
        assert_eq!(status(b"0 fine\n"), Ok(Some((Status::Success(0), 7))));
        let failure = Status::Failure {
            code: Code::InvalidRequest,
            message: Some("unknown field \"cmdd\"".to_owned()),
        };
        assert_eq!(
            status(b"-8 unknown field \"cmdd\"\n"),
            Ok(Some((failure, 24)))
        );
        assert_eq!(status(b"-3"), Ok(None));
        assert!(matches!(status(b"yes\n"), Err(ReplyError::NoNumber(_))));
        assert!(matches!(status(&[b'1'; 5000]), Err(ReplyError::TooLong(_))));
    }
}
