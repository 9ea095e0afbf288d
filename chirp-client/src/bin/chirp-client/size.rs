//! Sizes as the reference writes and reads them: with a unit, in powers of 1024 (part 12.1).

/// Larger and larger units.
const UNITS: [&str; 5] = [" KB", " MB", " GB", " TB", " PB"];

/// Returns a size with one decimal and a unit, as in `5.0B` and `976.6 KB`.
pub(crate) fn shown(bytes: f64) -> String {
    let mut value = bytes;
    let mut unit = "B";
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1}{unit}")
}

/// Reads `100`, `20K`, `1MB`: an integer with an optional K, M, G, T or P; a trailing B changes nothing.
///
/// # Errors
///
/// What a size looks like, if this is none or it is more than 64 bits hold.
pub(crate) fn parse(text: &str) -> Result<u64, &'static str> {
    const BAD: &str = "a size is a number of bytes, or one with K, M, G, T or P";
    let number = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let (digits, shift) = match number.char_indices().last() {
        Some((at, unit)) => match "KMGTP".find(unit.to_ascii_uppercase()) {
            Some(power) => (number.get(..at).unwrap_or_default(), 10 * (power + 1)),
            None => (number, 0),
        },
        None => return Err(BAD),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BAD);
    }
    let number: u64 = digits.parse().map_err(|_| BAD)?;
    number.checked_mul(1 << shift).ok_or(BAD)
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
            assert_eq!(shown(bytes), text);
        }
    }

    #[test]
    fn sizes_are_read_as_the_reference_s() {
        for (text, bytes) in [("7", 7), ("20K", 20_480), ("20k", 20_480), ("1MB", 1 << 20)] {
            assert_eq!(parse(text), Ok(bytes));
        }
        for bad in ["", "B", "K", "x", "-1", "+1", "1.5M", "99999P", "é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
