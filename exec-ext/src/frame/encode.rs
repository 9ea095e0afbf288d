//! The only writer of frames, for both sides.

use std::io::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{ClientFrame, Position, ServerFrame};
use crate::limits::ERROR_LINE_MAX;

impl ServerFrame {
    /// Appends the header line to `buffer`. The [`payload`](Self::payload) must follow it.
    pub fn put_header(&self, buffer: &mut BytesMut) {
        match self {
            Self::At(Position {
                out,
                err,
                stdin,
                eof,
            }) => put(
                buffer,
                format_args!("at {out} {err} {stdin} {}\n", u8::from(*eof)),
            ),
            Self::Out(payload) => put(buffer, format_args!("out {}\n", payload.len())),
            Self::Err(payload) => put(buffer, format_args!("err {}\n", payload.len())),
            Self::Credit(bytes) => put(buffer, format_args!("credit {bytes}\n")),
            Self::Usage(payload) => put(buffer, format_args!("usage {}\n", payload.len())),
            Self::Alive => buffer.put_slice(b"alive\n"),
            Self::End(payload) => put(buffer, format_args!("end {}\n", payload.len())),
            Self::Detached => buffer.put_slice(b"detached\n"),
            Self::Failure { code, message } => {
                let line = error_line(code.value(), message);
                buffer.put_slice(line.as_bytes());
            }
        }
    }

    /// Returns the bytes that follow the header line.
    #[must_use]
    pub fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::Out(payload) | Self::Err(payload) | Self::Usage(payload) | Self::End(payload) => {
                Some(payload)
            }
            Self::At(_) | Self::Credit(_) | Self::Alive | Self::Detached | Self::Failure { .. } => {
                None
            }
        }
    }
}

impl ClientFrame {
    /// Appends the header line to `buffer`. The [`payload`](Self::payload) must follow it.
    pub fn put_header(&self, buffer: &mut BytesMut) {
        match self {
            Self::In(payload) => put(buffer, format_args!("in {}\n", payload.len())),
            Self::Eof => buffer.put_slice(b"eof\n"),
            Self::Signal(number) => put(buffer, format_args!("signal {number}\n")),
            Self::Resize { rows, cols } => put(buffer, format_args!("resize {rows} {cols}\n")),
            Self::Ack { out, err } => put(buffer, format_args!("ack {out} {err}\n")),
            Self::Alive => buffer.put_slice(b"alive\n"),
            Self::Detach => buffer.put_slice(b"detach\n"),
            Self::Done => buffer.put_slice(b"done\n"),
        }
    }

    /// Returns the bytes that follow the header line.
    #[must_use]
    pub fn payload(&self) -> Option<&Bytes> {
        match self {
            Self::In(payload) => Some(payload),
            Self::Eof
            | Self::Signal(_)
            | Self::Resize { .. }
            | Self::Ack { .. }
            | Self::Alive
            | Self::Detach
            | Self::Done => None,
        }
    }
}

/// Returns the error line of a verb of the extension, newline included: the code, then words. Line
/// ends in `message` become blanks and what is above the limit of a line is cut.
#[must_use]
pub fn error_line(code: i64, message: &str) -> String {
    let mut line = code.to_string();
    if !message.is_empty() {
        line.push(' ');
    }
    for c in message.chars() {
        if line.len() + c.len_utf8() > ERROR_LINE_MAX {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line.push('\n');
    line
}

fn put(buffer: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    // Writing to a growing buffer cannot fail.
    let _ = buffer.writer().write_fmt(text);
}
