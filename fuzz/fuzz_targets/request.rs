//! Request lines: any bytes, in any pieces, mean the same; and what a request is written as is read
//! as that request.
#![no_main]

use bytes::BytesMut;
use chirp_proto::parse::{Decoder, Step};
use chirp_proto::{Dialect, Request, encode};
use libfuzzer_sys::fuzz_target;

/// What a decoder made of the bytes, without how they were cut.
#[derive(Debug, PartialEq)]
enum Seen {
    Request(Request),
    Malformed(i64, u64),
    TooLong,
    End,
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let dialect = match choice & 0x80 {
        0 => Dialect::Plain,
        _ => Dialect::Condor,
    };
    let whole = read(dialect, data, data.len().max(1));
    let pieces = read(dialect, data, usize::from(choice & 0x7f).max(1));
    assert_eq!(whole, pieces);
    for seen in whole {
        if let Seen::Request(request) = seen {
            let mut line = BytesMut::new();
            encode::request_in(dialect, &request, &mut line);
            // Decoding makes names shorter, encoding makes them longer: up to three times.
            if line.len() <= dialect.line_max() {
                assert_eq!(read(dialect, &line, line.len()), [Seen::Request(request)]);
            }
        }
    }
});

fn read(dialect: Dialect, data: &[u8], piece: usize) -> Vec<Seen> {
    let mut decoder = Decoder::new(dialect);
    let mut buffer = BytesMut::new();
    let mut seen = Vec::new();
    // Bytes of bodies still to come.
    let mut body = 0u64;
    for chunk in data.chunks(piece) {
        buffer.extend_from_slice(chunk);
        loop {
            let skipped = usize::try_from(body)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
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
                Step::TooLong => {
                    seen.push(Seen::TooLong);
                    return seen;
                }
                Step::End => {
                    seen.push(Seen::End);
                    return seen;
                }
            }
        }
        assert!(buffer.len() <= dialect.line_max() * 2 + 2 + piece);
    }
    seen
}
