//! One list on record.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use chirp_proto::acl::Acl;
use rustix::io::Errno;

/// The permissions of a list that the server writes.
pub(super) const MODE: u32 = 0o600;

/// What a directory has, or had before programs ran, as its access control list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// None.
    Absent,
    /// A file with this text and these permissions.
    Text(Arc<Text>, u32),
    /// Something that cannot be read as a list: this is why.
    Broken(Errno),
}

impl List {
    /// Returns the list, as reading the directory's own would.
    ///
    /// # Errors
    ///
    /// `NOENT` if there is none; why it cannot be read.
    pub(crate) fn acl(&self) -> Result<Arc<Acl>, Errno> {
        match self {
            Self::Absent => Err(Errno::NOENT),
            Self::Text(text, _) => Ok(Arc::clone(&text.acl)),
            Self::Broken(errno) => Err(*errno),
        }
    }
}

/// The text of a list. Equal ones are one.
#[derive(Debug)]
pub(crate) struct Text {
    pub(super) bytes: Box<[u8]>,
    acl: Arc<Acl>,
}

impl Text {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.into(),
            acl: Arc::new(Acl::parse(bytes)),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Text {}

/// A text in a set of texts, where it is found by its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shared(pub(super) Arc<Text>);

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.bytes.hash(state);
    }
}

impl Borrow<[u8]> for Shared {
    fn borrow(&self) -> &[u8] {
        &self.0.bytes
    }
}
