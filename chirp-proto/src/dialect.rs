//! The two ways in which Chirp is spoken (`chirp-protocol.md`, part 2.9).
//!
//! A connection that logged in with a cookie speaks as HTCondor's proxy does; every other one speaks
//! as cctools' server does. The requests are the same values in both.

use bytes::{BufMut, BytesMut};

use crate::code::Code;
use crate::limits::{CONDOR_LINE_MAX, LINE_MAX};

/// How a connection's lines are written and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// That of cctools: percent-encoded paths, no position in open files.
    #[default]
    Plain,
    /// That of HTCondor's proxy and of `htchirp`: words with backslash escapes, `read`, `write` and
    /// `lseek`, counted listings, and the verbs about jobs.
    Condor,
}

/// The verbs that both dialects have. `sread` and `swrite` name the offset before the stride here.
pub(crate) const SHARED: [&[u8]; 35] = [
    b"whoami",
    b"whoareyou",
    b"open",
    b"close",
    b"pread",
    b"pwrite",
    b"sread",
    b"swrite",
    b"fstat",
    b"fstatfs",
    b"fsync",
    b"ftruncate",
    b"fchmod",
    b"fchown",
    b"getfile",
    b"putfile",
    b"getdir",
    b"getlongdir",
    b"mkdir",
    b"rmdir",
    b"rmall",
    b"unlink",
    b"rename",
    b"link",
    b"symlink",
    b"readlink",
    b"stat",
    b"lstat",
    b"statfs",
    b"access",
    b"chmod",
    b"chown",
    b"lchown",
    b"truncate",
    b"utime",
];

/// The verbs that HTCondor's dialect has alone.
const CONDOR_ALONE: [&[u8]; 11] = [
    b"read",
    b"write",
    b"lseek",
    b"get_job_attr",
    b"get_job_attr_delayed",
    b"set_job_attr",
    b"set_job_attr_delayed",
    b"ulog",
    b"constrain",
    b"lookup",
    b"version",
];

/// What a backslash may stand before.
const ESCAPED: &[u8] = b"\\ \t\n\r";

impl Dialect {
    /// Returns how many bytes of content a request line may have.
    #[must_use]
    pub const fn line_max(self) -> usize {
        match self {
            Self::Plain => LINE_MAX,
            Self::Condor => CONDOR_LINE_MAX,
        }
    }

    /// Reports whether the dialect has a verb. A peer that does not know the verb of a request takes the
    /// content behind it for further requests.
    #[must_use]
    pub fn has(self, verb: &[u8]) -> bool {
        match self {
            Self::Plain => !CONDOR_ALONE.contains(&verb),
            Self::Condor => SHARED.contains(&verb) || CONDOR_ALONE.contains(&verb),
        }
    }

    /// Returns the code that stands for `code` in this dialect. HTCondor's knows -1 to -17 and -127
    /// only; what it does not know becomes the nearest that it does.
    #[must_use]
    pub const fn code(self, code: Code) -> Code {
        match (self, code) {
            (Self::Plain, code) => code,
            (Self::Condor, Code::TimedOut | Code::Disconnected | Code::Unreachable) => {
                Code::Offline
            }
            (Self::Condor, Code::NoSuchJob) => Code::DoesntExist,
            (Self::Condor, Code::IsPipe | Code::NotSupported) => Code::InvalidRequest,
            (Self::Condor, Code::NameTooLong) => Code::TooBig,
            (Self::Condor, code) => code,
        }
    }
}

/// Returns where the first line of `buffer` ends: the place of the first LF that no backslash
/// escapes.
pub(crate) fn line_end(buffer: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', buffer).find(|&end| {
        let (line, _) = buffer.split_at(end);
        let backslashes = line.iter().rev().take_while(|&&byte| byte == b'\\');
        backslashes.count() % 2 == 0
    })
}

/// Splits the next word off a line and takes its escapes away. A CR that is not escaped is dropped,
/// as everywhere in Chirp.
///
/// # Errors
///
/// [`Code::InvalidRequest`] if there is no word, or a backslash stands before anything but a
/// backslash, blank, TAB, LF or CR.
pub(crate) fn word(line: &[u8]) -> Result<(&[u8], Vec<u8>), Code> {
    let is_separator = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r');
    let skipped = line.iter().take_while(is_separator).count();
    let (_, mut rest) = line.split_at(skipped);
    if rest.is_empty() {
        return Err(Code::InvalidRequest);
    }
    let mut word = Vec::new();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = match byte {
            b' ' | b'\t' => break,
            b'\r' => behind,
            b'\\' => {
                let (&escaped, behind) = behind.split_first().ok_or(Code::InvalidRequest)?;
                if !ESCAPED.contains(&escaped) {
                    return Err(Code::InvalidRequest);
                }
                word.push(escaped);
                behind
            }
            _ => {
                word.push(byte);
                behind
            }
        };
    }
    Ok((rest, word))
}

/// Appends a word with its escapes.
pub(crate) fn escape_into(word: &[u8], out: &mut BytesMut) {
    for &byte in word {
        if ESCAPED.contains(&byte) {
            out.put_u8(b'\\');
        }
        out.put_u8(byte);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_lose_their_escapes() {
        for (line, expected, left) in [
            (&b"a b"[..], &b"a"[..], &b" b"[..]),
            (b" \t a\\ b\\\tc d", b"a b\tc", b" d"),
            (b"\\\\\\\\", b"\\\\", b""),
            (b"a\\\nb\\\rc\r", b"a\nb\rc", b""),
            (b"a\rb", b"ab", b""),
            (b"a%20b", b"a%20b", b""),
            (b"caf\xc3\xa9", b"caf\xc3\xa9", b""),
        ] {
            assert_eq!(word(line), Ok((left, expected.to_vec())), "{line:?}");
        }
    }

    #[test]
    fn other_escapes_and_missing_words_are_refused() {
        for line in [&b""[..], b"  ", b"\r", b"a\\", b"a\\nb", b"\\%20", b"a\\\0"] {
            assert_eq!(word(line), Err(Code::InvalidRequest), "{line:?}");
        }
    }

    #[test]
    fn a_line_ends_at_the_first_lf_that_is_not_escaped() {
        assert_eq!(line_end(b"ulog a\\\nb\nc\n"), Some(9));
        assert_eq!(line_end(b"stat a\\\\\nb\n"), Some(8));
        assert_eq!(line_end(b"stat a\\\n"), None);
        assert_eq!(line_end(b"stat"), None);
        assert_eq!(line_end(b"\n"), Some(0));
    }

    #[test]
    fn codes_stay_in_the_range_of_the_dialect() {
        for &code in Code::ALL {
            assert_eq!(Dialect::Plain.code(code), code);
            let value = Dialect::Condor.code(code).value();
            assert!((-17..=-1).contains(&value) || value == -127, "{code:?}");
            if code.value() >= -17 {
                assert_eq!(value, code.value());
            }
        }
    }

    #[test]
    fn each_dialect_has_its_verbs() {
        for (verb, plain, condor) in [
            (&b"stat"[..], true, true),
            (b"setacl", true, false),
            (b"exec", true, false),
            (b"read", false, true),
            (b"version", false, true),
        ] {
            assert_eq!(Dialect::Plain.has(verb), plain);
            assert_eq!(Dialect::Condor.has(verb), condor);
        }
    }

    proptest! {
        #[test]
        fn escaped_words_read_back_and_leave_the_line_whole(
            text in proptest::collection::vec(1u8..=255, 1..100),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut line = BytesMut::new();
            escape_into(&text, &mut line);
            prop_assert_eq!(word(&line), Ok((&b""[..], text.clone())));
            let length = line.len();
            line.put_u8(b'\n');
            line.put_slice(&rest);
            prop_assert_eq!(line_end(&line), Some(length));
        }

        #[test]
        fn no_bytes_make_the_word_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok((rest, word)) = word(&line) {
                prop_assert!(rest.len() + word.len() <= line.len());
            }
        }
    }
}
