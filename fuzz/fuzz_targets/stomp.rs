//! STOMP: pieces do not matter, limits hold, what is written is read as the same frame in every
//! version, and a frame that is no beacon is only that.
#![no_main]

use beacon::frame::{Frame, Limits, Version};
use beacon::message::Beacon;
use beacon::parse::{Decoder, Malformed};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    let version = match choice % 3 {
        0 => Version::V1_0,
        1 => Version::V1_1,
        _ => Version::V1_2,
    };
    let piece = usize::from(choice / 3).max(1);
    let whole = read(data, data.len().max(1), version);
    assert_eq!(whole, read(data, piece, version));
    for frame in whole.0 {
        let _ = Beacon::from_frame(&frame);
        // What a version cannot write in a header becomes blanks; from then on nothing changes.
        let bytes = beacon::encode::encode(&frame, version);
        let (again, _) = read(&bytes, bytes.len(), version);
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].body, frame.body);
        assert_eq!(again[0].headers.len(), frame.headers.len());
        assert_eq!(beacon::encode::encode(&again[0], version), bytes);
    }
});

fn read(data: &[u8], piece: usize, version: Version) -> (Vec<Frame>, Option<Malformed>) {
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(version);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for chunk in data.chunks(piece) {
        buffer.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(malformed) => return (frames, Some(malformed)),
            }
        }
    }
    (frames, None)
}
