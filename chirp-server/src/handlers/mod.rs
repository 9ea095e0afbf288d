//! What requests do, grouped by concern. A handler takes what [`crate::authorize`] granted and
//! returns an [`Outcome`](crate::outcome::Outcome); it writes no bytes.

pub(crate) mod acl;
pub(crate) mod alloc;
pub(crate) mod audit;
pub(crate) mod body;
pub(crate) mod digest;
pub(crate) mod dir;
pub(crate) mod file;
pub(crate) mod identity;
pub(crate) mod metadata;
pub(crate) mod name;
pub(crate) mod position;
pub(crate) mod search;
pub(crate) mod stream;
pub(crate) mod third;
pub(crate) mod ticket;
pub(crate) mod xattr;
