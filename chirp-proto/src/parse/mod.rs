//! From bytes to values, incrementally: a receiver shows what it has, and learns whether that is
//! enough, what it means and how much of it was used.
//!
//! [`Decoder`] is the server's side. [`reply`] is the client's. [`mod@line`] splits the lines of the
//! login phase, for both.

mod condor;
pub mod line;
pub mod reply;
mod request;
mod token;

use std::borrow::Cow;

use crate::code::Code;
use crate::dialect::{self, Dialect};
use crate::limits::{LINE_MAX, RAW_LINE_MAX};
use crate::request::Request;

pub use token::number_prefix;

/// What a [`Decoder`] found at the front of the bytes it was shown. `used` bytes are done with.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no whole line yet: show more.
    More,
    /// Nothing to answer: blank lines, or a part of an over-long line.
    Skip {
        /// Bytes to drop.
        used: usize,
    },
    /// A valid request. Its body, if it has one, follows after `used` bytes.
    Request {
        /// The request.
        request: Request,
        /// Bytes of the line.
        used: usize,
    },
    /// A line that is no valid request. After `used` bytes a body of `body` bytes follows that the
    /// client sends all the same; the next request begins behind it.
    Malformed {
        /// What to answer.
        code: Code,
        /// Bytes of the line.
        used: usize,
        /// Bytes of body to drop.
        body: u64,
    },
    /// A line longer than the dialect has them, where the connection ends with it: answer
    /// [`Code::TooBig`] and close.
    TooLong,
    /// The client asks to end the connection (EOT).
    End,
}

impl Step {
    fn of(parsed: Result<Request, request::Malformed>, used: usize) -> Self {
        match parsed {
            Ok(request) => Self::Request { request, used },
            Err(request::Malformed { code, body }) => Self::Malformed { code, used, body },
        }
    }
}

/// The incremental parser of request lines (`chirp-protocol.md`, part 1.2 and 1.3).
///
/// In the plain dialect an over-long line is answered with [`Code::TooBig`] when its end was seen, and the next line is
/// a request again, as the public protocol document has it; the reference closes the connection, as
/// does HTCondor's proxy ([`Step::TooLong`]).
#[derive(Debug, Default)]
pub struct Decoder {
    dialect: Dialect,
    /// An over-long line is being dropped.
    overlong: bool,
}

impl Decoder {
    /// Returns the parser of a dialect's lines; [`Decoder::default`] is that of plain ones.
    #[must_use]
    pub const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            overlong: false,
        }
    }

    /// Looks at the front of `buffer`.
    pub fn step(&mut self, buffer: &[u8]) -> Step {
        match self.dialect {
            Dialect::Plain => self.plain(buffer),
            Dialect::Condor => condor(buffer),
        }
    }

    fn plain(&mut self, buffer: &[u8]) -> Step {
        let end = memchr::memchr(b'\n', buffer);
        if self.overlong {
            return self.leave_overlong(buffer, end);
        }
        if buffer.first() == Some(&EOT) {
            return Step::End;
        }
        let Some(end) = end else {
            if !is_overlong(buffer) {
                return Step::More;
            }
            self.overlong = true;
            return Step::Skip { used: buffer.len() };
        };
        let (line, _) = buffer.split_at(end);
        let used = end + 1;
        // Asked of all bytes of the line, also of those behind a NUL, so that the answer does not
        // depend on the pieces in which they came.
        if is_overlong(line) {
            return Step::Malformed {
                code: Code::TooBig,
                used,
                body: 0,
            };
        }
        let line = clean(line);
        match line.first() {
            None => Step::Skip { used },
            Some(&EOT) => Step::End,
            Some(_) => Step::of(request::parse(&line, Dialect::Plain), used),
        }
    }

    fn leave_overlong(&mut self, buffer: &[u8], end: Option<usize>) -> Step {
        match end {
            None if buffer.is_empty() => Step::More,
            None => Step::Skip { used: buffer.len() },
            Some(end) => {
                self.overlong = false;
                Step::Malformed {
                    code: Code::TooBig,
                    used: end + 1,
                    body: 0,
                }
            }
        }
    }
}

/// A line of HTCondor's dialect ends with an LF that is not escaped, and a longer one than it may be
/// ends the connection.
fn condor(buffer: &[u8]) -> Step {
    if buffer.first() == Some(&EOT) {
        return Step::End;
    }
    let longest = Dialect::Condor.line_max();
    let Some(end) = dialect::line_end(buffer) else {
        return if buffer.len() > longest {
            Step::TooLong
        } else {
            Step::More
        };
    };
    if end > longest {
        return Step::TooLong;
    }
    let (line, _) = buffer.split_at(end);
    let used = end + 1;
    let line = memchr::memchr(0, line).map_or(line, |nul| line.split_at(nul).0);
    match line.iter().find(|&&byte| byte != b'\r') {
        None => Step::Skip { used },
        Some(&EOT) => Step::End,
        Some(_) => Step::of(condor::parse(line), used),
    }
}

/// The byte that ends a connection.
const EOT: u8 = 0x04;

/// Drops every CR and what follows a NUL.
fn clean(line: &[u8]) -> Cow<'_, [u8]> {
    let line = memchr::memchr(0, line).map_or(line, |nul| line.split_at(nul).0);
    if memchr::memchr(b'\r', line).is_none() {
        return Cow::Borrowed(line);
    }
    Cow::Owned(line.iter().copied().filter(|&byte| byte != b'\r').collect())
}

/// Reports whether this is more than a line may hold; CRs count little.
fn is_overlong(line: &[u8]) -> bool {
    line.len() > LINE_MAX && (line.len() > RAW_LINE_MAX || content_length(line) > LINE_MAX)
}

fn content_length(line: &[u8]) -> usize {
    line.iter().filter(|&&byte| byte != b'\r').count()
}
