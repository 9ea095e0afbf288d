//! What counts as the expected reply.

use std::fmt;

use anyhow::{Context as _, Result};
use regex::bytes::{Regex, RegexBuilder};

use crate::vector::{Expect, latin1};

/// What came back for the bytes under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// All bytes of the reply.
    pub reply: Vec<u8>,
    /// Whether the server closed the connection.
    pub eof: bool,
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.eof { ", then closed" } else { "" };
        write!(f, "\"{}\"{end}", self.reply.escape_ascii())
    }
}

/// An expected reply, ready to be compared.
#[derive(Debug)]
pub struct Expected {
    code: Option<i64>,
    text: Text,
    eof: bool,
    shown: String,
    /// What is expected as well.
    or: Option<Box<Self>>,
}

#[derive(Debug)]
enum Text {
    Exact(Vec<u8>),
    Pattern {
        whole: Regex,
        /// The content of a look-ahead, with what stands before it.
        ahead: Option<Regex>,
    },
}

impl Expected {
    /// Prepares a vector's expectation for a server that runs as `login`.
    ///
    /// # Errors
    ///
    /// Fails if a text has code points above 255 or is no regular expression.
    pub fn new(expect: &Expect, login: &str) -> Result<Self> {
        let (text, shown) = match (&expect.reply, &expect.regex) {
            (Some(reply), None) => {
                let bytes = latin1(&reply.replace("{USER}", login))?;
                let shown = format!("\"{}\"", bytes.escape_ascii());
                (Text::Exact(bytes), shown)
            }
            (None, Some(regex)) => {
                let source = regex.replace("{USER}", &regex::escape(login));
                (pattern(&source)?, format!("/{}/", source.escape_debug()))
            }
            _ => anyhow::bail!("exactly one of reply and regex is needed"),
        };
        Ok(Self {
            code: expect.code,
            text,
            eof: expect.eof,
            shown,
            or: None,
        })
    }

    /// Returns the expectation of this reply or of another.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.or = Some(Box::new(match self.or.take() {
            Some(next) => next.or(other),
            None => other,
        }));
        self
    }

    /// Returns whether the server closes the connection after the reply, whichever that is.
    #[must_use]
    pub fn eof(&self) -> bool {
        self.eof && self.or.as_ref().is_none_or(|other| other.eof())
    }

    /// Returns whether the server closes the connection after one of the replies.
    #[must_use]
    pub fn may_close(&self) -> bool {
        self.eof || self.or.as_ref().is_some_and(|other| other.may_close())
    }

    /// Returns whether `reply` is all of what is expected, so that no more should come.
    #[must_use]
    pub fn complete(&self, reply: &[u8]) -> bool {
        self.complete_if(reply, self.eof())
    }

    /// Where only some close the connection, the end of those is seen, and not guessed from the text.
    fn complete_if(&self, reply: &[u8], eof: bool) -> bool {
        let this = self.eof == eof && self.fits(reply);
        let or = self.or.as_ref();
        this || or.is_some_and(|other| other.complete_if(reply, eof))
    }

    fn fits(&self, reply: &[u8]) -> bool {
        match &self.text {
            Text::Exact(bytes) => reply == bytes,
            Text::Pattern { whole, ahead } => {
                whole.is_match(reply) && ahead.as_ref().is_none_or(|ahead| ahead.is_match(reply))
            }
        }
    }

    /// Returns whether `observed` is what is expected.
    #[must_use]
    pub fn matches(&self, observed: &Observed) -> bool {
        let this = observed.eof == self.eof
            && self.fits(&observed.reply)
            && self
                .code
                .is_none_or(|code| Some(code) == leading_number(&observed.reply));
        this || self
            .or
            .as_ref()
            .is_some_and(|other| other.matches(observed))
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.eof { ", then closed" } else { "" };
        write!(f, "{}{end}", self.shown)
    }
}

/// Reads the integer that a reply begins with.
fn leading_number(reply: &[u8]) -> Option<i64> {
    let line = reply.split(|byte| *byte == b'\n').next()?;
    let text = std::str::from_utf8(line).ok()?;
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || *at == 0 && *c == '-'))
        .map_or(text.len(), |(at, _)| at);
    text.get(..end)?.parse().ok()
}

/// Compiles an expression of the vectors' dialect.
///
/// The vectors for names in listings use one look-ahead, `0\n(?=A)B`, which the regex crate lacks.
/// As the text before it is a fixed one, it means: all of it matches `0\nB`, and its beginning `0\nA`.
fn pattern(source: &str) -> Result<Text> {
    let Some((before, rest)) = source.split_once("(?=") else {
        return Ok(Text::Pattern {
            whole: compile(&format!("(?:{source})"), r"\z")?,
            ahead: None,
        });
    };
    let (inside, after) =
        split_at_closing(rest).with_context(|| format!("unclosed look-ahead in {source:?}"))?;
    Ok(Text::Pattern {
        whole: compile(&format!("{before}(?:{after})"), r"\z")?,
        ahead: Some(compile(&format!("{before}(?:{inside})"), "")?),
    })
}

/// Splits at the parenthesis that closes a group which began before `text`.
fn split_at_closing(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 0 => return Some((text.get(..at)?, text.get(at + 1..)?)),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn compile(source: &str, end: &str) -> Result<Regex> {
    let mut bytes = String::from(r"\A");
    for c in source.chars() {
        match u8::try_from(c).with_context(|| format!("{c:?} is no byte"))? {
            byte @ 128.. => bytes.push_str(&format!(r"\x{byte:02x}")),
            byte => bytes.push(char::from(byte)),
        }
    }
    bytes.push_str(end);
    RegexBuilder::new(&bytes)
        .unicode(false)
        .build()
        .with_context(|| format!("bad expression {source:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::recorded;

    fn expected(regex: &str) -> Expected {
        Expected {
            code: None,
            text: pattern(regex).unwrap(),
            eof: false,
            shown: String::new(),
            or: None,
        }
    }

    #[test]
    fn every_recorded_expectation_compiles() {
        for vector in recorded().unwrap() {
            Expected::new(&vector.expect, "some.body").unwrap();
        }
    }

    #[test]
    fn a_pattern_matches_all_of_the_reply() {
        assert!(expected("0\\n\\d+").complete(b"0\n17"));
        assert!(!expected("0\\n\\d+").complete(b"0\n17\n"));
        assert!(!expected("1|2").complete(b"12"));
    }

    #[test]
    fn a_code_point_is_a_byte() {
        assert!(expected("a\u{c3}\u{a9}.").complete(b"a\xc3\xa9\xff"));
        assert!(!expected(".").complete("é".as_bytes()));
    }

    #[test]
    fn a_look_ahead_asks_for_one_line_anywhere() {
        let listing = expected("0\\n(?=(?:.*\\n)*a\\ b\\n)(?:.+\\n){3,4}\\n");
        assert!(listing.complete(b"0\n.\na b\n..\n\n"));
        assert!(!listing.complete(b"0\n.\na b\n\n"));
        assert!(!listing.complete(b"0\n.\nab\n..\n\n"));
    }

    #[test]
    fn the_code_is_a_prefix_of_the_first_line() {
        assert_eq!(leading_number(b"-8 why\n4\n"), Some(-8));
        assert_eq!(leading_number(b"12"), Some(12));
        assert_eq!(leading_number(b"no\n"), None);
        assert_eq!(leading_number(b""), None);
        assert_eq!(leading_number(b"\xff"), None);
    }

    #[test]
    fn one_of_two_replies_is_enough() {
        let expect = |reply: &str, eof| {
            let reply = Some(reply.to_owned());
            let (code, regex) = (None, None);
            let expect = Expect {
                code,
                reply,
                regex,
                eof,
            };
            Expected::new(&expect, "u").unwrap()
        };
        let seen = |reply: &[u8], eof| Observed {
            reply: reply.to_vec(),
            eof,
        };
        let expected = expect("", true).or(expect("-5\n", false));
        assert!(!expected.eof());
        assert!(!expected.complete(b""), "the end is not there yet");
        assert!(expected.complete(b"-5\n"));
        assert!(expected.matches(&seen(b"", true)));
        assert!(expected.matches(&seen(b"-5\n", false)));
        assert!(!expected.matches(&seen(b"-5\n", true)));
        assert!(!expected.matches(&seen(b"", false)));
    }

    #[test]
    fn code_and_end_count_besides_the_text() {
        let expect = Expect {
            code: Some(-8),
            reply: None,
            regex: Some("-\\d\\n".to_owned()),
            eof: false,
        };
        let expected = Expected::new(&expect, "u").unwrap();
        let seen = |reply: &[u8], eof| Observed {
            reply: reply.to_vec(),
            eof,
        };
        assert!(expected.matches(&seen(b"-8\n", false)));
        assert!(!expected.matches(&seen(b"-3\n", false)));
        assert!(!expected.matches(&seen(b"-8\n", true)));
    }
}
