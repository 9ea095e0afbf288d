//! One typed method a request, by concern. Paths are percent-encoded on the way, all of them, also
//! in the verbs where the reference's client forgets it (part 1.4).

mod acl;
pub(crate) mod body;
mod condor;
mod directory;
mod extension;
pub(crate) mod file;
mod identity;
mod job;
mod metadata;
pub(crate) mod search;
pub(crate) mod space;
pub(crate) mod stream;
pub(crate) mod ticket;
pub(crate) mod xattr;
