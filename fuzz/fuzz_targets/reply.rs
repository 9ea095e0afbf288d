//! What a client reads: status lines, stat lines, lines of text.
#![no_main]

use chirp_proto::parse::{line, reply};
use chirp_proto::{Stat, StatFs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some((_, used))) = reply::status(data) {
        assert!(used > 0 && used <= data.len());
    }
    if let Ok(Some((text, used))) = reply::text_line(data) {
        assert!(used > 0 && used <= data.len());
        assert!(!text.contains(&b'\n'));
    }
    if let Ok(Some((text, used))) = line::split(data, 1023) {
        assert!(used > 0 && used <= data.len());
        assert!(text.len() <= 1023 && !text.contains(&b'\r'));
    }
    if let Some(stat) = Stat::parse(data) {
        let mut line = bytes::BytesMut::new();
        stat.encode_into(&mut line);
        assert_eq!(Stat::parse(line.trim_ascii_end()), Some(stat));
    }
    if let Some(stat) = StatFs::parse(data) {
        let mut line = bytes::BytesMut::new();
        stat.encode_into(&mut line);
        assert_eq!(StatFs::parse(line.trim_ascii_end()), Some(stat));
    }
});
