//! Rights (part 3.8).

use bytes::Bytes;
use chirp_proto::{Request, VirtualPath};

use crate::client::word;
use crate::connection::Layout;
use crate::{Client, Error};

impl Client {
    /// Returns the lines `SUBJECT RIGHTS` of a directory's ACL, in their order.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn getacl(&self, path: &VirtualPath) -> Result<Vec<Bytes>, Error> {
        let request = Request::Getacl { path: path.clone() };
        self.texts(&request, Layout::Lines).await
    }

    /// Gives a subject rights on a directory in place of those it had. Letters that are no rights
    /// are ignored by servers; names such as `read` must be expanded before.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a subject or rights that are not one word.
    pub async fn setacl(
        &self,
        path: &VirtualPath,
        subject: &str,
        rights: &str,
    ) -> Result<(), Error> {
        let request = Request::Setacl {
            path: path.clone(),
            subject: word(subject.as_bytes())?,
            rights: word(rights.as_bytes())?,
        };
        self.number(&request).await.map(drop)
    }

    /// Makes the caller the only one with rights on a directory: these and `a`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for rights that are not one word.
    pub async fn resetacl(&self, path: &VirtualPath, rights: &str) -> Result<(), Error> {
        let request = Request::Resetacl {
            path: path.clone(),
            rights: word(rights.as_bytes())?,
        };
        self.number(&request).await.map(drop)
    }
}
