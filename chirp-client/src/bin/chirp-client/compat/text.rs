//! The reference's way to write sizes, times and reasons.

use std::io;
use std::time::Duration;

/// Returns what the system calls an error.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        // `Permission denied (os error 13)`
        Some(number) => text
            .strip_suffix(&format!(" (os error {number})"))
            .map_or_else(|| text.clone(), str::to_owned),
        None => text,
    }
}

/// Returns the system's words for an errno.
pub(super) fn errno(number: i32) -> String {
    reason(&io::Error::from_raw_os_error(number))
}

/// Writes a size with one decimal and a unit, as in `5.0B` and `976.6 KB` (part 12.1).
pub(super) fn size(bytes: f64) -> String {
    let units = ["B", " KB", " MB", " GB", " TB", " PB"];
    let mut value = bytes;
    let mut unit = "B";
    for next in units {
        unit = next;
        if value < 1024.0 {
            break;
        }
        if next != " PB" {
            value /= 1024.0;
        }
    }
    format!("{value:.1}{unit}")
}

/// Says what was copied; `None` where it was nothing.
pub(super) fn copied(bytes: u64, verb: &str, took: Duration) -> Option<String> {
    if bytes == 0 {
        return None;
    }
    let seconds = took.as_secs_f64().max(1e-6);
    let bytes = bytes as f64;
    Some(format!(
        "{} {verb} in {seconds:.2}s ({}/s)",
        size(bytes),
        size(bytes / seconds)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_the_reference_s() {
        for (bytes, text) in [
            (0.0, "0.0B"),
            (5.0, "5.0B"),
            (1023.0, "1023.0B"),
            (1024.0, "1.0 KB"),
            (1_000_000.0, "976.6 KB"),
            (123_480_309_760.0, "115.0 GB"),
            (1e20, "88817.8 PB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn reasons_are_the_system_s_words_alone() {
        assert_eq!(errno(13), "Permission denied");
        assert_eq!(reason(&io::Error::other("why")), "why");
    }
}
