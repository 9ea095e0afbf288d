//! Extended attributes, by path, by link and by descriptor (parts 3.3 and 3.7).

use bytes::Bytes;
use chirp_proto::limits::IO_MAX;
use chirp_proto::request::XattrFlags;
use chirp_proto::{Request, VirtualPath};

use super::file::Descriptor;
use crate::client::word;
use crate::{Client, Error};

/// What has the attributes.
#[derive(Clone, Debug)]
pub enum XattrTarget {
    /// What a path leads to.
    Path(VirtualPath),
    /// A name itself.
    Link(VirtualPath),
    /// An open file.
    Descriptor(Descriptor),
}

impl Client {
    /// Returns this client for calls about something that has attributes.
    fn having(&self, of: &XattrTarget) -> Result<Self, Error> {
        match of {
            XattrTarget::Path(_) | XattrTarget::Link(_) => Ok(self.clone()),
            XattrTarget::Descriptor(fd) => self.of_connection(fd.connection),
        }
    }

    /// Returns an attribute's value.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -8 or -127 where there is no such attribute.
    pub async fn getxattr(&self, of: &XattrTarget, name: &str) -> Result<Bytes, Error> {
        let name = word(name.as_bytes())?;
        let request = match of.clone() {
            XattrTarget::Path(path) => Request::Getxattr { path, name },
            XattrTarget::Link(path) => Request::Lgetxattr { path, name },
            XattrTarget::Descriptor(Descriptor { number: fd, .. }) => {
                Request::Fgetxattr { fd, name }
            }
        };
        self.having(of)?.counted(&request, IO_MAX).await
    }

    /// Returns the names of all attributes.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn listxattr(&self, of: &XattrTarget) -> Result<Vec<Bytes>, Error> {
        let request = match of.clone() {
            XattrTarget::Path(path) => Request::Listxattr { path },
            XattrTarget::Link(path) => Request::Llistxattr { path },
            XattrTarget::Descriptor(Descriptor { number: fd, .. }) => Request::Flistxattr { fd },
        };
        let names = self.having(of)?.counted(&request, IO_MAX).await?;
        let names = names.split(|&byte| byte == 0);
        Ok(names
            .filter(|name| !name.is_empty())
            .map(Bytes::copy_from_slice)
            .collect())
    }

    /// Sets an attribute.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn setxattr(
        &self,
        of: &XattrTarget,
        name: &str,
        value: Bytes,
        flags: XattrFlags,
    ) -> Result<(), Error> {
        let name = word(name.as_bytes())?;
        let length = value.len() as u64;
        #[rustfmt::skip]
        let request = match of.clone() {
            XattrTarget::Path(path) => Request::Setxattr { path, name, length, flags },
            XattrTarget::Link(path) => Request::Lsetxattr { path, name, length, flags },
            XattrTarget::Descriptor(Descriptor { number: fd, .. }) => Request::Fsetxattr { fd, name, length, flags },
        };
        self.having(of)?
            .number_with(&request, value)
            .await
            .map(drop)
    }

    /// Removes an attribute.
    ///
    /// # Errors
    ///
    /// As [`Client::getxattr`].
    pub async fn removexattr(&self, of: &XattrTarget, name: &str) -> Result<(), Error> {
        let name = word(name.as_bytes())?;
        let request = match of.clone() {
            XattrTarget::Path(path) => Request::Removexattr { path, name },
            XattrTarget::Link(path) => Request::Lremovexattr { path, name },
            XattrTarget::Descriptor(Descriptor { number: fd, .. }) => {
                Request::Fremovexattr { fd, name }
            }
        };
        self.having(of)?.number(&request).await.map(drop)
    }
}
