//! Percent-encoding and virtual paths (`chirp-protocol.md`, parts 1.4 and 5).

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::code::Code;
use crate::limits::{NAME_MAX, PATH_MAX};

/// What a client escapes in a path: everything that would end or confuse a word, what the
/// reference's client escapes, and (added by the encoder itself) every byte from 0x80 up.
const PATH_SET: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'%')
    .add(b'\\')
    .add(b'<')
    .add(b'>')
    .add(b'\'')
    .add(b'"')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'~');

/// A path inside the exported tree: it begins with `/`, which is the exported directory, holds no
/// `.`, `..`, empty component or NUL, and may keep one trailing slash.
///
/// Normalisation is textual, as the reference does it: `..` removes the component before it
/// whether or not that exists, and above the root it does nothing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VirtualPath(Vec<u8>);

impl VirtualPath {
    /// Returns the root of the exported tree.
    #[must_use]
    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// Decodes and normalises a path as it stands in a request line.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidRequest`] for an escape that is cut short, not hexadecimal or `%00`;
    /// [`Code::NameTooLong`] for a component
    /// of more than [`NAME_MAX`] or a result of more than [`PATH_MAX`] bytes.
    pub fn from_wire(word: &[u8]) -> Result<Self, Code> {
        if memchr::memchr(b'%', word).is_none() {
            return Self::from_decoded(word);
        }
        Self::from_decoded(&decode(word)?)
    }

    /// Normalises a path that is not percent-encoded, as in JSON or on a command line.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidRequest`] for a NUL byte; [`Code::NameTooLong`] for a component of more than
    /// [`NAME_MAX`] or a result of more than [`PATH_MAX`] bytes.
    pub fn from_decoded(raw: &[u8]) -> Result<Self, Code> {
        if memchr::memchr(0, raw).is_some() {
            return Err(Code::InvalidRequest);
        }
        let mut path: Vec<u8> = Vec::with_capacity(raw.len() + 1);
        let mut ends_in_directory = raw.is_empty();
        for component in raw.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => ends_in_directory = true,
                b".." => {
                    let parent = memchr::memrchr(b'/', &path).unwrap_or(0);
                    path.truncate(parent);
                    ends_in_directory = false;
                }
                name if name.len() > NAME_MAX => return Err(Code::NameTooLong),
                name => {
                    path.push(b'/');
                    path.extend_from_slice(name);
                    ends_in_directory = false;
                }
            }
        }
        if ends_in_directory || path.is_empty() {
            path.push(b'/');
        }
        if path.len() > PATH_MAX {
            return Err(Code::NameTooLong);
        }
        Ok(Self(path))
    }

    /// Returns the normalised bytes, with the leading and any trailing slash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reports whether this is the root itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Reports whether the path ended in a slash.
    #[must_use]
    pub fn has_trailing_slash(&self) -> bool {
        !self.is_root() && self.0.ends_with(b"/")
    }

    /// Returns the path without leading and trailing slash; empty for the root.
    #[must_use]
    pub fn relative(&self) -> &[u8] {
        let inner = self.0.strip_prefix(b"/").unwrap_or(&self.0);
        inner.strip_suffix(b"/").unwrap_or(inner)
    }

    /// Returns the components from the root on; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.relative()
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
    }

    /// Returns the part before the last component (relative, empty at the top) and the last
    /// component; `None` for the root.
    #[must_use]
    pub fn split_last(&self) -> Option<(&[u8], &[u8])> {
        let relative = self.relative();
        if relative.is_empty() {
            return None;
        }
        Some(match memchr::memrchr(b'/', relative) {
            Some(at) => {
                let (parent, rest) = relative.split_at(at);
                (parent, rest.strip_prefix(b"/").unwrap_or(rest))
            }
            None => (b"".as_slice(), relative),
        })
    }

    /// Returns the path of an entry of this directory.
    ///
    /// # Errors
    ///
    /// As [`VirtualPath::from_decoded`].
    pub fn join(&self, name: &[u8]) -> Result<Self, Code> {
        let mut joined = Vec::with_capacity(self.0.len() + 1 + name.len());
        joined.extend_from_slice(&self.0);
        joined.push(b'/');
        joined.extend_from_slice(name);
        Self::from_decoded(&joined)
    }

    /// Appends the path as it goes into a request line.
    pub fn encode_into(&self, out: &mut impl Extend<u8>) {
        encode(&self.0, out);
    }
}

impl std::fmt::Debug for VirtualPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for VirtualPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Appends `raw` with every byte escaped that may not stand in a word as it is.
pub fn encode(raw: &[u8], out: &mut impl Extend<u8>) {
    for part in percent_encode(raw, PATH_SET) {
        out.extend(part.bytes());
    }
}

/// Decodes `%XX` escapes strictly.
///
/// The reference decodes malformed escapes from uninitialised memory (weakness W32).
///
/// # Errors
///
/// [`Code::InvalidRequest`] for an escape that is cut short, not hexadecimal, or `%00`.
fn decode(word: &[u8]) -> Result<Vec<u8>, Code> {
    let mut decoded = Vec::with_capacity(word.len());
    let mut bytes = word.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (hex_digit(bytes.next()), hex_digit(bytes.next())) else {
            return Err(Code::InvalidRequest);
        };
        match high << 4 | low {
            0 => return Err(Code::InvalidRequest),
            value => decoded.push(value),
        }
    }
    Ok(decoded)
}

fn hex_digit(byte: Option<&u8>) -> Option<u8> {
    match *byte? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        letter @ b'a'..=b'f' => Some(letter - b'a' + 10),
        letter @ b'A'..=b'F' => Some(letter - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(raw: &str) -> String {
        String::from_utf8(
            VirtualPath::from_decoded(raw.as_bytes())
                .unwrap()
                .as_bytes()
                .to_vec(),
        )
        .unwrap()
    }

    #[test]
    fn normalisation_is_that_of_part_5() {
        for (raw, expected) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("/pp//qq/", "/pp/qq/"),
            ("/pp/qq/..", "/pp"),
            ("/pp/./qq", "/pp/qq"),
            ("/pp/.", "/pp/"),
            ("/pp/none/../qq", "/pp/qq"),
            ("/../../x", "/x"),
            ("..", "/"),
            ("/a/../", "/"),
            ("/...", "/..."),
        ] {
            assert_eq!(normal(raw), expected, "{raw}");
        }
    }

    #[test]
    fn malformed_escapes_are_refused() {
        for word in ["a%", "a%2", "a%zz", "a%%b", "a%+1b", "a%00b", "%"] {
            assert_eq!(
                VirtualPath::from_wire(word.as_bytes()),
                Err(Code::InvalidRequest),
                "{word}"
            );
        }
        assert_eq!(
            VirtualPath::from_wire(b"%2e%2E%2fx").unwrap().as_bytes(),
            b"/x"
        );
    }

    #[test]
    fn length_is_limited_after_normalisation() {
        let long = b"/abc".repeat(PATH_MAX / 4);
        let full = [&long[..], b"/ab"].concat();
        let beyond = [&long[..], b"/abc"].concat();
        assert!(VirtualPath::from_decoded(&full).is_ok());
        assert_eq!(VirtualPath::from_decoded(&beyond), Err(Code::NameTooLong));
        let name = vec![b'a'; NAME_MAX + 1];
        assert_eq!(VirtualPath::from_decoded(&name), Err(Code::NameTooLong));
        assert!(VirtualPath::from_decoded(&name[1..]).is_ok());
    }

    #[test]
    fn the_last_component_is_found() {
        let path = VirtualPath::from_decoded(b"/a/b/c/").unwrap();
        assert_eq!(path.split_last(), Some((&b"a/b"[..], &b"c"[..])));
        let top = VirtualPath::from_decoded(b"/a").unwrap();
        assert_eq!(top.split_last(), Some((&b""[..], &b"a"[..])));
        assert_eq!(VirtualPath::root().split_last(), None);
    }

    proptest! {
        #[test]
        fn encoded_paths_are_one_word_and_decode_to_themselves(
            raw in proptest::collection::vec(1u8..=255, 0..250)
        ) {
            let path = VirtualPath::from_decoded(&raw).unwrap();
            let mut wire = Vec::new();
            path.encode_into(&mut wire);
            prop_assert!(wire.iter().all(|&byte| byte > b' ' && byte < 0x7f));
            prop_assert_eq!(VirtualPath::from_wire(&wire).unwrap(), path);
        }

        #[test]
        fn no_bytes_make_decoding_panic_or_leave_a_dot_dot(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(path) = VirtualPath::from_wire(&raw) {
                prop_assert!(path.components().all(|name| name != b".." && name != b"."));
                prop_assert!(path.as_bytes().starts_with(b"/"));
                prop_assert_eq!(VirtualPath::from_decoded(path.as_bytes()).unwrap(), path);
            }
        }
    }
}
