//! Request lines: any bytes, in any pieces, mean the same; and what a request is written as is read
//! as that request.
#![no_main]

use bytes::BytesMut;
use chirp_proto::parse::{Decoder, Step};
use chirp_proto::{Request, encode};
use libfuzzer_sys::fuzz_target;

/// What a decoder made of the bytes, without how they were cut.
#[derive(Debug, PartialEq)]
enum Seen {
    Request(Request),
    Malformed(i64, u64),
    End,
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, data)) = data.split_first() else {
        return;
    };
    let whole = read(data, data.len().max(1));
    let pieces = read(data, usize::from(piece).max(1));
    assert_eq!(whole, pieces);
    for seen in whole {
        if let Seen::Request(request) = seen {
            let mut line = BytesMut::new();
            encode::request(&request, &mut line);
            // Decoding makes names shorter, encoding makes them longer: up to three times.
            if line.len() <= chirp_proto::limits::LINE_MAX {
                assert_eq!(read(&line, line.len()), [Seen::Request(request)]);
            }
        }
    }
});

fn read(data: &[u8], piece: usize) -> Vec<Seen> {
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    let mut seen = Vec::new();
    // Bytes of bodies still to come.
    let mut body = 0u64;
    for chunk in data.chunks(piece) {
        buffer.extend_from_slice(chunk);
        loop {
            let skipped = usize::try_from(body).unwrap_or(usize::MAX).min(buffer.len());
            body -= skipped as u64;
            let _ = buffer.split_to(skipped);
            if body > 0 {
                break;
            }
            match decoder.step(&buffer) {
                Step::More => break,
                Step::Skip { used } => {
                    assert!(used > 0 && used <= buffer.len());
                    let _ = buffer.split_to(used);
                }
                Step::Request { request, used } => {
                    assert!(used > 0 && used <= buffer.len());
                    let _ = buffer.split_to(used);
                    body = request.body_length();
                    seen.push(Seen::Request(request));
                }
                Step::Malformed {
                    code,
                    used,
                    body: rest,
                } => {
                    assert!(used > 0 && used <= buffer.len());
                    let _ = buffer.split_to(used);
                    body = rest;
                    seen.push(Seen::Malformed(code.value(), rest));
                }
                Step::End => {
                    seen.push(Seen::End);
                    return seen;
                }
            }
        }
        assert!(buffer.len() <= chirp_proto::limits::RAW_LINE_MAX + piece);
    }
    seen
}
