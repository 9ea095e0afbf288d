//! The exported tree, confined: every access goes through one directory handle.
//!
//! [`Root::locate`] turns a virtual path into a [`Located`] object: the directory that was really
//! reached, as a handle, and one name in it. Operations then act on that handle and that name
//! without following links, so what was checked is what is used. No function here takes a host
//! path once [`Root::open`] has returned.
//!
//! | module | content |
//! |---|---|
//! | [`root`] | the handle of the exported directory, and start |
//! | [`resolve`] | paths to objects: `openat2` first, a walk by hand where a link is met |
//! | [`located`] | what was found, and the operations on it |
//! | [`listing`] | directory listings in bounded pieces |
//! | `small` | the server's own small files |
//! | [`tree`] | removal of whole trees |
//! | [`stride`] | the gather and scatter of `sread` and `swrite` |
//! | [`temporary`], [`journal`] | files under construction, and their removal after a crash |
//! | [`upload`] | `putfile` |
//! | [`xattr`] | extended attributes |
//! | [`walk`] | trees gone through entry by entry |
//! | [`wire`] | status structures as the wire has them |

mod dir;
pub mod journal;
pub mod listing;
pub mod located;
pub mod resolve;
pub mod root;
pub(crate) mod small;
pub mod stride;
pub mod temporary;
pub mod tree;
pub mod upload;
pub mod walk;
pub mod wire;
pub mod xattr;

pub use dir::Dir;
pub use journal::Journal;
pub use listing::Listing;
pub use located::{Located, Object, Open};
pub use resolve::{Follow, Miss};
pub use root::Root;
pub use upload::Upload;

/// Names with this prefix belong to the server; no client sees or touches them (part 5).
pub const RESERVED_PREFIX: &[u8] = b".__";

/// The name of a directory's access control list.
pub const ACL_NAME: &[u8] = b".__acl";

/// Reports whether a name belongs to the server.
#[must_use]
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(RESERVED_PREFIX)
}
