//! Bytes in, frames out: tables of literal bytes, and laws.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails this way has failed as it should"
)]

use beacon::encode::encode;
use beacon::frame::{Frame, Limits, Version};
use beacon::parse::{Decoder, Malformed};
use bytes::BytesMut;
use proptest::prelude::*;

/// Decodes bytes that come in pieces of these sizes.
fn decode(
    bytes: &[u8],
    version: Version,
    limits: Limits,
    sizes: &[usize],
) -> Result<Vec<Frame>, Malformed> {
    let mut decoder = Decoder::new(limits);
    decoder.set_version(version);
    let (mut buffer, mut frames, mut rest) = (BytesMut::new(), Vec::new(), bytes);
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
        let (piece, after) = rest.split_at(size);
        buffer.extend_from_slice(piece);
        rest = after;
        while let Some(frame) = decoder.decode(&mut buffer)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn whole(bytes: &[u8]) -> Result<Vec<Frame>, Malformed> {
    decode(bytes, Version::V1_2, Limits::default(), &[bytes.len()])
}

#[test]
fn frames_are_read_with_either_line_end_and_any_between_them() {
    let bytes =
        b"\n\r\nSEND\r\ndestination:/topic/a\r\n\r\nbody\0\n\n\r\nSEND\na:b:c\n\n\0SEND\n\nx\0";
    let frames = whole(bytes).unwrap();
    assert_eq!(frames.len(), 3);
    assert_eq!(frames[0].header("destination"), Some("/topic/a"));
    assert_eq!(frames[0].body, "body");
    assert_eq!(
        frames[1].header("a"),
        Some("b:c"),
        "a colon in a value is accepted"
    );
    assert_eq!(frames[2].body, "x");
}

#[test]
fn a_body_of_known_length_may_hold_nul() {
    let frames = whole(b"SEND\ncontent-length:3\n\na\0b\0").unwrap();
    assert_eq!(frames[0].body, &b"a\0b"[..]);
}

#[test]
fn the_first_of_repeated_headers_counts() {
    let frames = whole(b"SEND\na:1\na:2\n\n\0").unwrap();
    assert_eq!(frames[0].header("a"), Some("1"));
}

#[test]
fn escapes_are_those_of_the_version_and_none_in_connect() {
    let bytes = b"SEND\na\\cb:\\n\\\\\n\n\0";
    for version in [Version::V1_1, Version::V1_2] {
        let frames = decode(bytes, version, Limits::default(), &[1]).unwrap();
        assert_eq!(frames[0].header("a:b"), Some("\n\\"));
    }
    let raw = decode(bytes, Version::V1_0, Limits::default(), &[1]).unwrap();
    assert_eq!(raw[0].header("a\\cb"), Some("\\n\\\\"));
    assert_eq!(
        whole(b"CONNECT\npasscode:a\\tb\n\n\0").unwrap()[0].header("passcode"),
        Some("a\\tb")
    );
    for bad in [&b"SEND\na:\\t\n\n\0"[..], b"SEND\na:\\\n\n\0"] {
        assert_eq!(
            whole(bad),
            Err(Malformed::Escape {
                version: Version::V1_2
            })
        );
    }
    let carriage = decode(b"SEND\na:\\r\n\n\0", Version::V1_1, Limits::default(), &[1]);
    assert_eq!(
        carriage,
        Err(Malformed::Escape {
            version: Version::V1_1
        })
    );
}

#[test]
fn malformed_bytes_are_refused_as_early_as_that_is_certain() {
    for (bytes, want) in [
        (&b"GET / HTTP/1.1"[..], Malformed::Command),
        (b"\x16\x03\x01", Malformed::Command),
        (b"send\n", Malformed::Command),
        (b"\0", Malformed::Command),
        (b"ABCDEFGHIJKLMNOPQR", Malformed::Command),
        (b"SEND\nno colon\n", Malformed::Header),
        (b"SEND\na:\0\n", Malformed::Header),
        (b"SEND\na:\xff\n", Malformed::Header),
        (b"SEND\ncontent-length:x\n\n", Malformed::ContentLength),
        (b"SEND\ncontent-length:-1\n\n", Malformed::ContentLength),
        (b"SEND\ncontent-length:\n\n", Malformed::ContentLength),
        (
            b"SEND\ncontent-length:65537\n\n",
            Malformed::BodyTooLong { limit: 65536 },
        ),
        (
            b"SEND\ncontent-length:99999999999999999999999999\n\n",
            Malformed::BodyTooLong { limit: 65536 },
        ),
        (b"SEND\ncontent-length:1\n\nab", Malformed::Unterminated),
    ] {
        assert_eq!(whole(bytes), Err(want.clone()), "{bytes:?}");
        let one_by_one = decode(bytes, Version::V1_2, Limits::default(), &[1]);
        assert_eq!(one_by_one, Err(want), "{bytes:?} byte by byte");
    }
}

#[test]
fn every_limit_holds_at_its_value_and_not_beyond() {
    let limits = Limits {
        headers: 2,
        line: 8,
        head: 14,
        body: 4,
    };
    let ask = |text: &str| decode(text.as_bytes(), Version::V1_2, limits, &[1]);
    assert!(ask("SEND\na:1\nb:2\n\n\0").is_ok());
    assert_eq!(
        ask("SEND\na:1\nb:2\nc:3\n\n\0"),
        Err(Malformed::TooManyHeaders { limit: 2 })
    );
    assert!(ask("SEND\na:345678\n\n\0").is_ok());
    assert!(ask("SEND\na:345678\r\n\n\0").is_ok());
    assert_eq!(
        ask("SEND\na:3456789\n\n\0"),
        Err(Malformed::LineTooLong { limit: 8 })
    );
    assert_eq!(
        ask("SEND\na:3456789a"),
        Err(Malformed::LineTooLong { limit: 8 }),
        "before its end"
    );
    assert_eq!(
        ask("SEND\na:345678\nb:34567\n\n\0"),
        Err(Malformed::HeadTooLong { limit: 14 })
    );
    assert!(ask("SEND\n\nabcd\0").is_ok());
    assert_eq!(
        ask("SEND\n\nabcde"),
        Err(Malformed::BodyTooLong { limit: 4 })
    );
}

#[test]
fn nothing_forwarded_can_break_the_frame_it_is_in() {
    let frame = Frame::new("MESSAGE")
        .with("a\nb", "x\n\nevil\0SEND\n\n\0")
        .with("c:d", "\r");
    for version in Version::ALL {
        let bytes = encode(&frame, version);
        let read = decode(&bytes, version, Limits::default(), &[7]).unwrap();
        assert_eq!(read.len(), 1, "{version:?}");
        assert_eq!(read[0].headers.len(), 2, "{version:?}");
    }
}

#[test]
fn a_long_line_that_drips_costs_one_look_at_each_byte() {
    // Quadratic work would take minutes here.
    let line = "x".repeat(1 << 20);
    let limits = Limits {
        line: 2 << 20,
        head: 2 << 20,
        ..Limits::default()
    };
    let bytes = format!("SEND\na:{line}\n\n\0");
    assert_eq!(
        decode(bytes.as_bytes(), Version::V1_2, limits, &[1])
            .unwrap()
            .len(),
        1
    );
}

fn text_of(version: Version, is_name: bool) -> impl Strategy<Value = String> {
    any::<String>().prop_map(move |text| {
        let fits = |c: &char| match c {
            '\0' => false,
            '\r' => version >= Version::V1_2,
            '\n' => version >= Version::V1_1,
            ':' => version >= Version::V1_1 || !is_name,
            _ => true,
        };
        text.chars().filter(fits).collect()
    })
}

fn frame_of(version: Version) -> impl Strategy<Value = Frame> {
    let headers = prop::collection::vec((text_of(version, true), text_of(version, false)), 0..8);
    let body = prop::collection::vec(any::<u8>(), 0..200);
    ("[A-Z]{1,16}", headers, body).prop_map(move |(command, mut headers, body)| {
        // These have rules of their own, tried above.
        headers.retain(|(name, _)| name != "content-length");
        let command = match command.as_str() {
            "CONNECT" | "CONNECTED" | "STOMP" => "SEND".to_owned(),
            _ => command,
        };
        Frame {
            command,
            headers,
            body: body.into(),
        }
    })
}

proptest! {
    #[test]
    fn decoding_what_was_encoded_gives_the_same_in_any_pieces(
        (version, frames) in prop::sample::select(Version::ALL.to_vec())
            .prop_flat_map(|version| (Just(version), prop::collection::vec(frame_of(version), 1..4))),
        between in "[\r\n]{0,3}",
        sizes in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let mut bytes = Vec::new();
        for frame in &frames {
            bytes.extend_from_slice(between.as_bytes());
            bytes.extend_from_slice(&encode(frame, version));
        }
        let read = decode(&bytes, version, Limits::default(), &sizes);
        prop_assert_eq!(read, Ok(frames));
    }

    #[test]
    fn no_bytes_panic_and_pieces_make_no_difference(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(0), Just(b'A'), Just(b':')], 0..300),
        sizes in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let at_once = whole(&bytes);
        let in_pieces = decode(&bytes, Version::V1_2, Limits::default(), &sizes);
        prop_assert_eq!(at_once, in_pieces);
    }
}
