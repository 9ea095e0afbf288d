//! The frames of exec's stream mode, of both directions: pieces do not matter, and what is written is
//! read as the same frame.
#![no_main]

use bytes::{Bytes, BytesMut};
use exec_ext::frame::{ClientFrame, FrameError, ServerFrame, client_frame, server_frame};
use libfuzzer_sys::fuzz_target;

const CREDIT: u64 = 4096;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, data)) = data.split_first() else {
        return;
    };
    let piece = usize::from(piece).max(1);
    both(data, piece, server_frame, |frame: &ServerFrame, out| {
        frame.put_header(out);
        frame.payload().cloned()
    });
    let client = |buffer: &mut BytesMut| client_frame(buffer, CREDIT);
    both(data, piece, client, |frame: &ClientFrame, out| {
        frame.put_header(out);
        frame.payload().cloned()
    });
});

fn both<F: PartialEq + std::fmt::Debug>(
    data: &[u8],
    piece: usize,
    decode: impl Fn(&mut BytesMut) -> Result<Option<F>, FrameError>,
    encode: impl Fn(&F, &mut BytesMut) -> Option<Bytes>,
) {
    let whole = read(data, data.len().max(1), &decode);
    assert_eq!(whole, read(data, piece, &decode));
    // The words of a failure are cleaned when they are written; from then on nothing changes.
    let write = |frames: &[F]| {
        let mut out = BytesMut::new();
        for frame in frames {
            if let Some(payload) = encode(frame, &mut out) {
                out.extend_from_slice(&payload);
            }
        }
        out
    };
    let written = write(&whole);
    let again = read(&written, written.len().max(1), &decode);
    assert_eq!(again.len(), whole.len());
    assert_eq!(write(&again), written);
}

fn read<F>(
    data: &[u8],
    piece: usize,
    decode: impl Fn(&mut BytesMut) -> Result<Option<F>, FrameError>,
) -> Vec<F> {
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for chunk in data.chunks(piece) {
        buffer.extend_from_slice(chunk);
        loop {
            match decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}
