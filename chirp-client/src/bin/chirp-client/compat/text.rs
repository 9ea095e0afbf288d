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

/// Reads a size: an integer with an optional K, M, G, T or P, powers of 1024; a trailing B changes
/// nothing.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let number = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let unit = number.chars().last()?.to_ascii_uppercase();
    let shift = match "KMGTP".find(unit) {
        Some(at) => 10 * (at + 1),
        None => 0,
    };
    let digits = match shift {
        0 => number,
        _ => number.get(..number.len() - 1)?,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
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
    fn sizes_are_read_as_the_reference_s() {
        assert_eq!(parse_size("20K"), Some(20_480));
        assert_eq!(parse_size("1MB"), Some(1 << 20));
        assert_eq!(parse_size("7"), Some(7));
        for bad in ["", "B", "K", "x", "-1", "1.5M", "99999P", "é"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn reasons_are_the_system_s_words_alone() {
        assert_eq!(errno(13), "Permission denied");
        assert_eq!(reason(&io::Error::other("why")), "why");
    }
}
