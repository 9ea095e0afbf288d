//! Strings of job descriptions: bytes, as names of files are, without NUL.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A string as it came: usually UTF-8, but names need not be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text(Vec<u8>);

impl Text {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// Cuts it to at most `length` bytes, between characters where it is UTF-8.
    pub(super) fn truncate(&mut self, length: usize) {
        if self.0.len() <= length {
            return;
        }
        let end = match std::str::from_utf8(&self.0) {
            Ok(text) => text.floor_char_boundary(length),
            Err(_) => length,
        };
        self.0.truncate(end);
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As bytes: the reader of JSON then takes strings that are not UTF-8 as they are.
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string without NUL")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
        if memchr::memchr(0, bytes).is_some() {
            return Err(E::custom("NUL in a string"));
        }
        Ok(Text(bytes.to_vec()))
    }
}
