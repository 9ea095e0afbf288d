//! The reference's way to write what was copied, and reasons.

use std::io;
use std::time::Duration;

use crate::size;

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

/// Says what was copied; `None` where it was nothing.
pub(super) fn copied(bytes: u64, verb: &str, took: Duration) -> Option<String> {
    if bytes == 0 {
        return None;
    }
    let seconds = took.as_secs_f64().max(1e-6);
    let bytes = bytes as f64;
    Some(format!(
        "{} {verb} in {seconds:.2}s ({}/s)",
        size::shown(bytes),
        size::shown(bytes / seconds)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_the_system_s_words_alone() {
        assert_eq!(errno(13), "Permission denied");
        assert_eq!(reason(&io::Error::other("why")), "why");
    }
}
