//! Records as JSON, with the reference's form of numbers.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::Record;

/// Writes a record on one line.
pub(super) fn line(record: &Record) -> String {
    let mut line = Vec::new();
    let mut writer = Serializer::with_formatter(&mut line, Numbers);
    // Memory takes everything, and a record's names are texts.
    let _written = record.serialize(&mut writer);
    String::from_utf8(line).unwrap_or_default()
}

/// Numbers as the reference prints them: 16 digits where they are no integers, and integers within 64
/// bits.
struct Numbers;

impl Formatter for Numbers {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(general(value).as_bytes())
    }

    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        write!(writer, "{}", i64::try_from(value).unwrap_or(i64::MAX))
    }
}

/// Digits that count.
const DIGITS: usize = 16;

/// Writes a number as `%.16g` of printf(3) does.
fn general(value: f64) -> String {
    let scientific = format!("{value:.*e}", DIGITS - 1);
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let shorter = |number: &str| match number.contains('.') {
        true => number
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        false => number.to_owned(),
    };
    match usize::try_from(DIGITS as i32 - 1 - exponent) {
        Ok(decimals) if exponent >= -4 => shorter(&format!("{value:.decimals$}")),
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", shorter(digits), exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_reference_s() {
        // What `chirp_status -l` printed for the catalog's numbers on the left.
        let numbers = [
            ("8.12", "8.119999999999999"),
            ("2.0", "2"),
            ("1e16", "1e+16"),
            ("1e15", "1000000000000000"),
            ("1e-5", "1e-05"),
            ("1e-4", "0.0001"),
            ("0.30000000000000004", "0.3"),
            ("-0.0", "-0"),
            ("1e300", "1e+300"),
            ("5e-324", "4.940656458412465e-324"),
            ("12345678901234567890", "9223372036854775807"),
            ("1234567890123456.7", "1234567890123457"),
            ("-1.5e-10", "-1.5e-10"),
            ("100.0", "100"),
            ("1.7976931348623157e308", "1.797693134862316e+308"),
            ("-12", "-12"),
        ];
        for (number, shown) in numbers {
            let record: Record = serde_json::from_str(&format!("{{\"n\":{number}}}")).unwrap();
            assert_eq!(line(&record), format!("{{\"n\":{shown}}}"));
        }
    }
}
