//! The patterns of `search`: none takes long, and no directory is passed over below which something
//! matches. An input is a line with patterns, and a path.
#![no_main]

use chirp_server::pattern::Patterns;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let patterns = Patterns::parse(&data[..end]);
    let mut path = b"/".to_vec();
    path.extend_from_slice(&data[end + 1..]);
    if patterns.matches(&path) {
        let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        for (at, _) in above.take(64) {
            let below = &path[at..];
            if below.iter().any(|byte| *byte != b'/') {
                assert!(patterns.reaches_below(&path[..at.max(1)]));
            }
        }
    }
});
