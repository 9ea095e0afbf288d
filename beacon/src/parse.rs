//! The incremental STOMP decoder: bytes in any pieces, frames out.
//!
//! Lines are consumed as they complete and a search never looks at a byte twice, so a peer that sends one
//! byte at a time costs no more than one that sends whole frames.

use crate::frame::{Frame, Limits, Version, has_escapes};
use bytes::{Buf, Bytes, BytesMut};
use nom::bytes::complete::{take_while, take_while_m_n};
use nom::character::complete::{char, digit1, space0};
use nom::combinator::all_consuming;
use nom::sequence::{delimited, separated_pair};
use nom::{IResult, Parser};

/// Why bytes are no STOMP frame. Nothing after them can be read; the connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The command line is not one to sixteen capital letters.
    #[error("this is not STOMP: a command is {COMMAND_MAX} capital letters at most")]
    Command,
    /// A header line is longer than [`Limits::line`].
    #[error("a header line is longer than {limit} bytes")]
    LineTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// More header lines than [`Limits::headers`].
    #[error("a frame has more than {limit} headers")]
    TooManyHeaders {
        /// The limit in lines.
        limit: usize,
    },
    /// All header lines together are longer than [`Limits::head`].
    #[error("the headers of a frame are longer than {limit} bytes together")]
    HeadTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is longer than [`Limits::body`], or says that it will be.
    #[error("a body is longer than {limit} bytes")]
    BodyTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A header line without colon, with a NUL, or one that is not UTF-8.
    #[error("a header line is not UTF-8 text of the form name:value")]
    Header,
    /// A backslash in a header that is not followed by one of the letters of the version's table.
    #[error("a header holds an escape that STOMP {} does not know", .version.as_str())]
    Escape {
        /// The version whose table was used.
        version: Version,
    },
    /// A content-length header that is not a decimal number.
    #[error("content-length is not a decimal number")]
    ContentLength,
    /// The byte after a body of a given length is not NUL.
    #[error("a body does not end with NUL where its content-length says")]
    Unterminated,
}

/// Takes bytes in any pieces and gives the frames in them.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    version: Version,
    state: State,
    /// How far the current line or body has been searched already.
    searched: usize,
}

impl Decoder {
    /// Returns a decoder for the opening frame; [`Self::set_version`] follows once a version is agreed.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            version: Version::V1_2,
            state: State::Between,
            searched: 0,
        }
    }

    /// Sets the version whose escapes hold from the next frame on.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Returns whether the last call ended in the middle of a frame.
    #[must_use]
    pub fn is_inside_frame(&self) -> bool {
        !matches!(self.state, State::Between)
    }

    /// Takes one frame off the front of `buffer`, or returns nothing where it needs more bytes.
    ///
    /// Consumes what it has understood, so `buffer` never holds more than one line, or one body, of a
    /// frame that is not complete.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the bytes break the format or a limit, as early as that is certain.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
        loop {
            match std::mem::replace(&mut self.state, State::Between) {
                State::Between => {
                    skip_line_ends(buffer, &mut self.searched);
                    let Some(line) = self.line(buffer, COMMAND_MAX, Malformed::Command)? else {
                        // Bytes that can never become a command are refused before their line ends.
                        command_so_far(buffer)?;
                        return Ok(None);
                    };
                    self.state = State::Head(Head {
                        frame: Frame::new(command(&line)?),
                        bytes: 0,
                    });
                }
                State::Head(mut head) => {
                    let limit = self.limits.line;
                    let Some(line) = self.line(buffer, limit, Malformed::LineTooLong { limit })?
                    else {
                        self.state = State::Head(head);
                        return Ok(None);
                    };
                    if line.is_empty() {
                        let length = content_length(&head.frame, self.limits.body)?;
                        // It is the codec's own affair, as the encoder writes it anew.
                        head.frame
                            .headers
                            .retain(|(name, _)| name != "content-length");
                        self.state = State::Body(head.frame, length);
                        continue;
                    }
                    head.bytes += line.len();
                    if head.bytes > self.limits.head {
                        let limit = self.limits.head;
                        return Err(Malformed::HeadTooLong { limit });
                    }
                    if head.frame.headers.len() >= self.limits.headers {
                        let limit = self.limits.headers;
                        return Err(Malformed::TooManyHeaders { limit });
                    }
                    let header = header(&line, &head.frame.command, self.version)?;
                    head.frame.headers.push(header);
                    self.state = State::Head(head);
                }
                State::Body(mut frame, length) => {
                    let Some(body) = self.body(buffer, length)? else {
                        self.state = State::Body(frame, length);
                        return Ok(None);
                    };
                    frame.body = body;
                    return Ok(Some(frame));
                }
            }
        }
    }

    /// Takes one line without its end, or nothing where the buffer holds no whole one.
    fn line(
        &mut self,
        buffer: &mut BytesMut,
        limit: usize,
        too_long: Malformed,
    ) -> Result<Option<Bytes>, Malformed> {
        let unseen = buffer.get(self.searched..).unwrap_or_default();
        let Some(at) = unseen.iter().position(|&byte| byte == b'\n') else {
            self.searched = buffer.len();
            // One more, as a carriage return may be the last byte seen of a line of full length.
            return if buffer.len() > limit + 1 {
                Err(too_long)
            } else {
                Ok(None)
            };
        };
        let mut line = buffer.split_to(self.searched + at).freeze();
        buffer.advance(1);
        self.searched = 0;
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > limit {
            return Err(too_long);
        }
        Ok(Some(line))
    }

    fn body(
        &mut self,
        buffer: &mut BytesMut,
        length: Option<usize>,
    ) -> Result<Option<Bytes>, Malformed> {
        let length = match length {
            Some(length) => length,
            None => {
                let unseen = buffer.get(self.searched..).unwrap_or_default();
                let end = unseen.iter().position(|&byte| byte == 0);
                let length = self.searched + end.unwrap_or(unseen.len());
                if length > self.limits.body {
                    let limit = self.limits.body;
                    return Err(Malformed::BodyTooLong { limit });
                }
                if end.is_none() {
                    self.searched = length;
                    return Ok(None);
                }
                length
            }
        };
        match buffer.get(length) {
            None => Ok(None),
            Some(0) => {
                // Copied, not split off: a small frame must not keep a whole read buffer alive for as
                // long as it waits in somebody's queue.
                let body = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                buffer.advance(length + 1);
                self.searched = 0;
                Ok(Some(body))
            }
            Some(_) => Err(Malformed::Unterminated),
        }
    }
}

#[derive(Debug)]
enum State {
    Between,
    Head(Head),
    Body(Frame, Option<usize>),
}

#[derive(Debug)]
struct Head {
    frame: Frame,
    bytes: usize,
}

/// Drops line ends between frames: they are heart-beats and separators.
fn skip_line_ends(buffer: &mut BytesMut, searched: &mut usize) {
    let count = buffer
        .iter()
        .take_while(|&&byte| byte == b'\n' || byte == b'\r')
        .count();
    if count > 0 {
        buffer.advance(count);
        *searched = 0;
    }
}

fn command_so_far(buffer: &[u8]) -> Result<(), Malformed> {
    let letters = buffer.strip_suffix(b"\r").unwrap_or(buffer);
    if letters.iter().all(u8::is_ascii_uppercase) {
        Ok(())
    } else {
        Err(Malformed::Command)
    }
}

fn command(line: &[u8]) -> Result<String, Malformed> {
    let word: IResult<&[u8], &[u8]> = all_consuming(take_while_m_n(1, COMMAND_MAX, |b: u8| {
        b.is_ascii_uppercase()
    }))
    .parse(line);
    let (_, word) = word.map_err(|_| Malformed::Command)?;
    text(word).map(str::to_owned).ok_or(Malformed::Command)
}

fn header(line: &[u8], command: &str, version: Version) -> Result<(String, String), Malformed> {
    let pair: IResult<&[u8], (&[u8], &[u8])> = all_consuming(separated_pair(
        take_while(|byte| byte != b':' && byte != 0),
        char(':'),
        take_while(|byte| byte != 0),
    ))
    .parse(line);
    let (_, (name, value)) = pair.map_err(|_| Malformed::Header)?;
    let name = text(name).ok_or(Malformed::Header)?;
    let value = text(value).ok_or(Malformed::Header)?;
    if has_escapes(command, version) {
        let version = if command == "STOMP" {
            Version::V1_2
        } else {
            version
        };
        Ok((unescape(name, version)?, unescape(value, version)?))
    } else {
        Ok((name.to_owned(), value.to_owned()))
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn unescape(text: &str, version: Version) -> Result<String, Malformed> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('c') => out.push(':'),
            Some('\\') => out.push('\\'),
            Some('r') if version >= Version::V1_2 => out.push('\r'),
            _ => return Err(Malformed::Escape { version }),
        }
    }
    Ok(out)
}

/// Returns the announced length of the body, or nothing where it ends at the first NUL.
fn content_length(frame: &Frame, limit: usize) -> Result<Option<usize>, Malformed> {
    let Some(value) = frame.header("content-length") else {
        return Ok(None);
    };
    let number: IResult<&[u8], &[u8]> =
        all_consuming(delimited(space0, digit1, space0)).parse(value.as_bytes());
    let (_, digits) = number.map_err(|_| Malformed::ContentLength)?;
    // A number too large for the machine is above any limit as well.
    let length = text(digits).and_then(|digits| digits.parse().ok());
    match length {
        Some(length) if length <= limit => Ok(Some(length)),
        _ => Err(Malformed::BodyTooLong { limit }),
    }
}

/// The longest command word accepted: the longest of the standard has eleven letters.
const COMMAND_MAX: usize = 16;
