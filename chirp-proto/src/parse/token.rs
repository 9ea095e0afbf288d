//! Words and numbers of a request line (`chirp-protocol.md`, part 1.3).

use nom::branch::alt;
use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::{char, digit1};
use nom::combinator::{map, opt};
use nom::sequence::preceded;
use nom::{IResult, Parser};

/// Splits the next word off: blanks and tabs separate, any other byte belongs to a word.
pub(super) fn word(line: &[u8]) -> IResult<&[u8], &[u8]> {
    preceded(take_while(is_blank), take_while1(|byte| !is_blank(byte))).parse(line)
}

/// Reads the decimal number that a word begins with, one sign allowed: `4abc` is 4, `0x10` is 0.
/// A number beyond 64 bits becomes the largest or smallest one.
pub fn number_prefix(word: &[u8]) -> Option<i64> {
    let sign = map(opt(alt((char('+'), char('-')))), |sign| sign == Some('-'));
    let parsed: IResult<&[u8], (bool, &[u8])> = (sign, digit1).parse(word);
    let (_, (negative, digits)) = parsed.ok()?;
    Some(digits.iter().fold(0i64, |sum, digit| {
        let digit = i64::from(digit - b'0');
        let scaled = sum.saturating_mul(10);
        if negative {
            scaled.saturating_sub(digit)
        } else {
            scaled.saturating_add(digit)
        }
    }))
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_prefixes_and_saturate() {
        for (word, expected) in [
            ("4abc", Some(4)),
            ("3.7", Some(3)),
            ("0x10", Some(0)),
            ("+4", Some(4)),
            ("-4", Some(-4)),
            ("abc", None),
            ("", None),
            ("-", None),
            ("+-4", None),
            ("99999999999999999999", Some(i64::MAX)),
            ("-99999999999999999999", Some(i64::MIN)),
        ] {
            assert_eq!(number_prefix(word.as_bytes()), expected, "{word}");
        }
    }

    #[test]
    fn words_are_separated_by_any_run_of_blanks_and_tabs() {
        let (rest, first) = word(b"stat \t /a\x0bb  ").unwrap();
        let (rest, second) = word(rest).unwrap();
        assert_eq!((first, second), (&b"stat"[..], &b"/a\x0bb"[..]));
        assert!(word(rest).is_err());
    }
}
