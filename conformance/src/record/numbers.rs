//! Each boundary of each number.

use super::Case;
use super::template::{Number, Template, Word};
use crate::vector::{Login, Vector};

/// What every number may be, whatever it counts.
const COMMON: &[&str] = &["-1", "0", "1", "-9223372036854775808", "0x10", "x1"];
/// The boundaries of 32 and 64 bits.
const LARGE: &[&str] = &[
    "2147483647",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
];
/// The numbers that get all of them, by request: each kind of number has one here.
const WHOLE: &[(&str, &str)] = &[
    ("whoami", "length"),
    ("pread", "fd"),
    ("pread", "length"),
    ("pread", "offset"),
    ("pwrite", "length"),
    ("pwrite", "offset"),
    ("sread", "piece"),
    ("sread", "every"),
    ("swrite", "every"),
    ("ftruncate", "length"),
    ("mkdir", "mode"),
    ("chmod", "mode"),
    ("access", "mode"),
    ("chown", "uid"),
    ("utime", "mtime"),
    ("setxattr", "flags"),
    ("search", "flags"),
    ("ticket_register", "seconds"),
    ("job_wait", "id"),
];
/// What the others get of [`COMMON`].
const SOME: &[&str] = &["-1", "0", "x1"];
/// What those of a request get that is like another one ([`Template::alike`]).
const FEW: &[&str] = &["-1"];
/// A number of 300 digits.
const OVERLONG: usize = 300;

/// Returns the vectors of this family.
#[must_use]
pub fn cases(template: &Template) -> Vec<Vector> {
    let mut cases = Vec::new();
    for (at, (word, kind)) in template.words.iter().enumerate() {
        let Word::Number(kind, good) = kind else {
            continue;
        };
        let overlong = "9".repeat(OVERLONG);
        let mut values: Vec<&str> = COMMON.to_vec();
        if WHOLE.contains(&(template.verb, word)) {
            values.extend(more(*kind));
            values.push(&overlong);
        } else if template.alike() {
            values.retain(|value| FEW.contains(value));
        } else {
            values.retain(|value| SOME.contains(value));
        }
        // That is the plain request.
        values.retain(|value| value != good);
        for value in values {
            let mut line = template.line();
            line.set(at, value);
            let shown = if value == overlong { "overlong" } else { value };
            let case = Case {
                name: format!("number.{word}={shown}"),
                lines: vec![line],
                setup: template.setup(),
                host: Vec::new(),
                login: Login::Unix,
                probed: true,
            };
            cases.push(case.vector(template));
        }
    }
    cases
}

/// The boundaries of what a number counts. Lengths of bodies stay at what is sent: the server would wait
/// for the rest.
fn more(kind: Number) -> Vec<&'static str> {
    match kind {
        Number::Descriptor => [&["63", "64", "1023", "1024", "4294967296"], LARGE].concat(),
        Number::Limit | Number::Offset | Number::Piece => LARGE.to_vec(),
        Number::Id => [&["4294967296"], LARGE].concat(),
        Number::Body => vec!["9"],
        Number::Size => LARGE.iter().copied().take(2).collect(),
        Number::Mode => [&["256", "511", "512", "2048", "4095", "65535"], LARGE].concat(),
        Number::Access => [&["2", "7", "8"], LARGE].concat(),
        Number::Flags => [&["2", "3", "4", "8"], LARGE].concat(),
        Number::Seconds => LARGE.iter().copied().take(2).collect(),
    }
}
