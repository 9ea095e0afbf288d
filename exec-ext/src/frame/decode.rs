//! Incremental decoding: each call says "need more", "here is a frame", or "malformed".

use bytes::{Buf as _, Bytes, BytesMut};
use chirp_proto::Code;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while_m_n};
use nom::combinator::{all_consuming, map, map_opt, map_res, value};
use nom::sequence::preceded;
use nom::{IResult, Parser as _};

use super::{ClientFrame, Position, ServerFrame};
use crate::limits::{ERROR_LINE_MAX, FRAME_MAX, HEADER_MAX};

/// Why the bytes are no frame. Nothing behind such bytes can be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header line is none that this side may receive.
    #[error("no such frame: {0}")]
    Unknown(String),
    /// The header line does not end where the longest one would.
    #[error("frame header above {HEADER_MAX} bytes")]
    HeaderTooLong,
    /// The payload is larger than a frame may be.
    #[error("frame of {length} bytes is above the limit of {FRAME_MAX}")]
    TooLarge {
        /// The length that the header names.
        length: u64,
    },
    /// The `in` frame is larger than what the server allowed to send.
    #[error("stdin beyond the credit: {length} bytes sent, {credit} allowed")]
    BeyondCredit {
        /// The length that the header names.
        length: u64,
        /// The bytes that were allowed.
        credit: u64,
    },
}

/// Takes one server frame off the front of `buffer`; None where it is not complete yet.
///
/// # Errors
///
/// [`FrameError`] where the bytes are malformed; the buffer is then of no further use.
pub fn server_frame(buffer: &mut BytesMut) -> Result<Option<ServerFrame>, FrameError> {
    let longest = if buffer.first() == Some(&b'-') {
        ERROR_LINE_MAX
    } else {
        HEADER_MAX
    };
    let Some((header, used)) = header(buffer, longest, server_header)? else {
        return Ok(None);
    };
    let frame: fn(Bytes) -> ServerFrame = match header {
        ServerHeader::Whole(frame) => {
            buffer.advance(used);
            return Ok(Some(frame));
        }
        ServerHeader::Out(_) => ServerFrame::Out,
        ServerHeader::Err(_) => ServerFrame::Err,
        ServerHeader::Usage(_) => ServerFrame::Usage,
        ServerHeader::End(_) => ServerFrame::End,
    };
    Ok(payload(buffer, used, header.length())?.map(frame))
}

/// Takes one client frame off the front of `buffer`; None where it is not complete yet. `credit` is
/// what the client may still send as standard input: a longer `in` is refused when its header is
/// seen, so a receiver buffers no more than it allowed.
///
/// # Errors
///
/// [`FrameError`] where the bytes are malformed; the buffer is then of no further use.
pub fn client_frame(buffer: &mut BytesMut, credit: u64) -> Result<Option<ClientFrame>, FrameError> {
    let Some((header, used)) = header(buffer, HEADER_MAX, client_header)? else {
        return Ok(None);
    };
    match header {
        ClientHeader::Whole(frame) => {
            buffer.advance(used);
            Ok(Some(frame))
        }
        ClientHeader::In(length) => {
            if length <= FRAME_MAX as u64 && length > credit {
                return Err(FrameError::BeyondCredit { length, credit });
            }
            Ok(payload(buffer, used, length)?.map(ClientFrame::In))
        }
    }
}

/// Reads the header line at the front of `buffer`, and says how long it is with its newline.
fn header<T>(
    buffer: &[u8],
    longest: usize,
    parse: fn(&[u8]) -> IResult<&[u8], T>,
) -> Result<Option<(T, usize)>, FrameError> {
    let window = buffer.get(..=longest).unwrap_or(buffer);
    let Some(end) = window.iter().position(|&b| b == b'\n') else {
        return if buffer.len() > longest {
            Err(FrameError::HeaderTooLong)
        } else {
            Ok(None)
        };
    };
    let line = window.get(..end).unwrap_or_default();
    match parse(line) {
        Ok((_, parsed)) => Ok(Some((parsed, end + 1))),
        Err(_) => Err(FrameError::Unknown(quoted(line))),
    }
}

/// Takes a payload of `length` bytes that follows a header of `used` bytes.
fn payload(buffer: &mut BytesMut, used: usize, length: u64) -> Result<Option<Bytes>, FrameError> {
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if size > FRAME_MAX {
        return Err(FrameError::TooLarge { length });
    }
    if buffer.len() - used < size {
        return Ok(None);
    }
    buffer.advance(used);
    Ok(Some(buffer.split_to(size).freeze()))
}

/// Shows the start of a line that a peer sent, fit for an error line.
fn quoted(line: &[u8]) -> String {
    let start = line.get(..line.len().min(40)).unwrap_or_default();
    format!("\"{}\"", start.escape_ascii())
}

enum ServerHeader {
    Whole(ServerFrame),
    Out(u64),
    Err(u64),
    Usage(u64),
    End(u64),
}

impl ServerHeader {
    fn length(&self) -> u64 {
        match self {
            Self::Whole(_) => 0,
            Self::Out(length) | Self::Err(length) | Self::Usage(length) | Self::End(length) => {
                *length
            }
        }
    }
}

fn server_header(line: &[u8]) -> IResult<&[u8], ServerHeader> {
    all_consuming(alt((
        map(preceded(tag("out "), number), ServerHeader::Out),
        map(preceded(tag("err "), number), ServerHeader::Err),
        map(preceded(tag("usage "), number), ServerHeader::Usage),
        map(preceded(tag("end "), number), ServerHeader::End),
        map(preceded(tag("credit "), number), |bytes| {
            ServerHeader::Whole(ServerFrame::Credit(bytes))
        }),
        map(preceded(tag("at "), position), |position| {
            ServerHeader::Whole(ServerFrame::At(position))
        }),
        map(tag("alive"), |_| ServerHeader::Whole(ServerFrame::Alive)),
        map(tag("detached"), |_| {
            ServerHeader::Whole(ServerFrame::Detached)
        }),
        map(preceded(tag("-"), failure), ServerHeader::Whole),
    )))
    .parse(line)
}

fn position(input: &[u8]) -> IResult<&[u8], Position> {
    let flag = alt((value(false, tag("0")), value(true, tag("1"))));
    let (rest, (out, _, err, _, stdin, _, eof)) =
        (number, tag(" "), number, tag(" "), number, tag(" "), flag).parse(input)?;
    let position = Position {
        out,
        err,
        stdin,
        eof,
    };
    Ok((rest, position))
}

fn failure(input: &[u8]) -> IResult<&[u8], ServerFrame> {
    let (words, code) = map_res(number, i64::try_from).parse(input)?;
    let message = words.strip_prefix(b" ").unwrap_or(words);
    let frame = ServerFrame::Failure {
        code: Code::from_value(-code),
        message: String::from_utf8_lossy(message).into_owned(),
    };
    // Words must be apart from the code; none need follow.
    if !words.is_empty() && !words.starts_with(b" ") {
        return Err(nom::Err::Error(nom::error::make_error(
            input,
            nom::error::ErrorKind::Tag,
        )));
    }
    Ok((&[], frame))
}

#[derive(Clone)]
enum ClientHeader {
    Whole(ClientFrame),
    In(u64),
}

fn client_header(line: &[u8]) -> IResult<&[u8], ClientHeader> {
    let size = || map_opt(number, |n| u16::try_from(n).ok().filter(|&n| n > 0));
    let signal = map_opt(number, |n| {
        i32::try_from(n).ok().filter(|n| (1..=64).contains(n))
    });
    let ack = (number, preceded(tag(" "), number));
    let resize = (size(), preceded(tag(" "), size()));
    let whole = |name, frame| value(ClientHeader::Whole(frame), tag(name));
    all_consuming(alt((
        map(preceded(tag("in "), number), ClientHeader::In),
        map(preceded(tag("ack "), ack), |(out, err)| {
            ClientHeader::Whole(ClientFrame::Ack { out, err })
        }),
        map(preceded(tag("signal "), signal), |number| {
            ClientHeader::Whole(ClientFrame::Signal(number))
        }),
        map(preceded(tag("resize "), resize), |(rows, cols)| {
            ClientHeader::Whole(ClientFrame::Resize { rows, cols })
        }),
        whole("eof", ClientFrame::Eof),
        whole("alive", ClientFrame::Alive),
        whole("detach", ClientFrame::Detach),
        whole("done", ClientFrame::Done),
    )))
    .parse(line)
}

/// Decimal digits that fit.
fn number(input: &[u8]) -> IResult<&[u8], u64> {
    map_opt(
        take_while_m_n(1, 20, |b: u8| b.is_ascii_digit()),
        |digits| std::str::from_utf8(digits).ok()?.parse().ok(),
    )
    .parse(input)
}
