//! The only writer of STOMP wire bytes, for both sides.

use crate::frame::{Frame, Version, has_escapes};
use bytes::{BufMut, Bytes, BytesMut};

/// Returns the bytes of `frame` in that version, ending with its NUL.
///
/// A `content-length` header is written whenever there is a body, and one already among the headers is
/// left out. What a version cannot express (a line feed in a 1.0 header, a NUL in any) becomes a space, so
/// that no value forwarded from elsewhere can break the frame it is in.
#[must_use]
pub fn encode(frame: &Frame, version: Version) -> Bytes {
    let mut out = BytesMut::with_capacity(frame.body.len() + 256);
    encode_into(frame, version, &mut out);
    out.freeze()
}

/// Appends the bytes of `frame` to `out`, as [`encode`] does.
pub fn encode_into(frame: &Frame, version: Version, out: &mut BytesMut) {
    let escapes = has_escapes(&frame.command, version).then_some(match frame.command.as_str() {
        "STOMP" => Version::V1_2,
        _ => version,
    });
    out.put_slice(frame.command.as_bytes());
    out.put_u8(b'\n');
    for (name, value) in &frame.headers {
        if name == "content-length" {
            continue;
        }
        put_text(out, name, escapes, true);
        out.put_u8(b':');
        put_text(out, value, escapes, false);
        out.put_u8(b'\n');
    }
    if !frame.body.is_empty() {
        out.put_slice(format!("content-length:{}\n", frame.body.len()).as_bytes());
    }
    out.put_u8(b'\n');
    out.put_slice(&frame.body);
    out.put_u8(0);
}

fn put_text(out: &mut BytesMut, text: &str, escapes: Option<Version>, is_name: bool) {
    for byte in text.bytes() {
        match (byte, escapes) {
            (b'\\', Some(_)) => out.put_slice(b"\\\\"),
            (b'\n', Some(_)) => out.put_slice(b"\\n"),
            (b':', Some(_)) => out.put_slice(b"\\c"),
            (b'\r', Some(Version::V1_2)) => out.put_slice(b"\\r"),
            (b'\n' | b'\r' | 0, _) => out.put_u8(b' '),
            (b':', None) if is_name => out.put_u8(b' '),
            (other, _) => out.put_u8(other),
        }
    }
}
