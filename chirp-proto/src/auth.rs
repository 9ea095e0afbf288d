//! Login methods, and the identity that a login proves (`chirp-protocol.md`, part 2).

use std::fmt;

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// By making a file on a file system that both sides see.
    Unix,
    /// By the name that the peer's address resolves to.
    Hostname,
    /// By the peer's address.
    Address,
    /// By an RSA key that was registered before.
    Ticket,
    /// By a secret that both sides know. Behind it HTCondor's dialect is spoken (part 2.9).
    Cookie,
}

impl Method {
    /// The methods of cctools, in the order in which a client tries them unless told otherwise.
    pub const ALL: [Self; 4] = [Self::Unix, Self::Ticket, Self::Hostname, Self::Address];

    /// Returns the name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Hostname => "hostname",
            Self::Address => "address",
            Self::Ticket => "ticket",
            Self::Cookie => "cookie",
        }
    }

    /// Returns the method that a login line of exactly this name begins. Other methods of the reference
    /// (`kerberos`, `globus`) are none of ours, and no line begins a cookie's but the cookie itself.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|method| method.name().as_bytes() == name)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        match name {
            "cookie" => Ok(Self::Cookie),
            name => Self::from_name(name.as_bytes()).ok_or_else(|| UnknownMethod(name.to_owned())),
        }
    }
}

/// A method name that nobody here knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown authentication method {0:?}; known are unix, hostname, address, ticket and cookie"
)]
pub struct UnknownMethod(String);

/// A proven identity, `METHOD:SUBJECT`: one word of printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    text: String,
    method_length: usize,
}

impl Subject {
    /// Makes an identity of what a method proved; white space and whatever is not printable ASCII
    /// becomes `_` (part 2.1), and so does `"`, which ends a subject in a ticket's file.
    #[must_use]
    pub fn new(method: Method, proven: &[u8]) -> Self {
        let clean = proven.iter().map(|byte| match byte {
            b'!'..=b'~' if *byte != b'"' => char::from(*byte),
            _ => '_',
        });
        let text = method.name().chars().chain([':']).chain(clean).collect();
        Self {
            text,
            method_length: method.name().len(),
        }
    }

    /// Reads `METHOD:SUBJECT` as it stands in a file or a request. The method may be one that is not
    /// served here, such as `kerberos`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let method_length = text.find(':')?;
        let clean = text
            .bytes()
            .all(|byte| matches!(byte, b'!'..=b'~' if byte != b'"'));
        (clean && method_length > 0).then(|| Self {
            text: text.to_owned(),
            method_length,
        })
    }

    /// Returns `METHOD:SUBJECT`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the part after the method: the login, host name or address.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.get(self.method_length + 1..).unwrap_or_default()
    }

    /// Returns the method's name.
    #[must_use]
    pub fn method(&self) -> &str {
        self.text.get(..self.method_length).unwrap_or_default()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_printable_word() {
        let subject = Subject::new(Method::Unix, b"al ice\n\xc3\xa9");
        assert_eq!(subject.as_str(), "unix:al_ice___");
        assert_eq!((subject.method(), subject.name()), ("unix", "al_ice___"));
        let quoted = Subject::new(Method::Hostname, b"a\"b.example");
        assert_eq!(quoted.as_str(), "hostname:a_b.example");
        assert_eq!(Subject::parse(quoted.as_str().as_bytes()), Some(quoted));
    }

    #[test]
    fn only_exact_names_are_methods() {
        for method in Method::ALL {
            assert_eq!(Method::from_name(method.name().as_bytes()), Some(method));
        }
        for name in ["", " unix", "unix ", "UNIX", "kerberos", "unix x"] {
            assert_eq!(Method::from_name(name.as_bytes()), None);
        }
    }
}
