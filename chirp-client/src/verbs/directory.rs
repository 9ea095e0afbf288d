//! Names and directories (part 3.6).

use bytes::Bytes;
use chirp_proto::{Request, VirtualPath, limits};

use crate::client::word;
use crate::connection::Rest;
use crate::{Client, Error, Listing, LongListing};

/// Bytes of a link's text that are asked for, as the reference's client does and some more.
const LINK_MAX: u64 = 4096;

impl Client {
    /// Lists the names of a directory, `.` and `..` among them.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn getdir(&self, path: &VirtualPath) -> Result<Listing, Error> {
        let request = Request::Getdir { path: path.clone() };
        let (_, loan, client) = self.lent(&request, |_| Rest::Lines).await?;
        Ok(Listing::new(client, request, loan))
    }

    /// Lists the entries of a directory with their `lstat`, `.` and `..` among them.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn getlongdir(&self, path: &VirtualPath) -> Result<LongListing, Error> {
        let request = Request::Getlongdir { path: path.clone() };
        let (_, loan, client) = self.lent(&request, |_| Rest::Lines).await?;
        Ok(LongListing::new(Listing::new(client, request, loan)))
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn mkdir(&self, path: &VirtualPath, mode: u32) -> Result<(), Error> {
        let path = path.clone();
        self.number(&Request::Mkdir { path, mode }).await.map(drop)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn rmdir(&self, path: &VirtualPath) -> Result<(), Error> {
        let path = path.clone();
        self.number(&Request::Rmdir { path }).await.map(drop)
    }

    /// Removes a file, a link or a whole tree.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn rmall(&self, path: &VirtualPath) -> Result<(), Error> {
        let path = path.clone();
        self.number(&Request::Rmall { path }).await.map(drop)
    }

    /// Removes a file or a link.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn unlink(&self, path: &VirtualPath) -> Result<(), Error> {
        let path = path.clone();
        self.number(&Request::Unlink { path }).await.map(drop)
    }

    /// Gives a file or directory another name, replacing what had it.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn rename(&self, from: &VirtualPath, to: &VirtualPath) -> Result<(), Error> {
        let (from, to) = (from.clone(), to.clone());
        self.number(&Request::Rename { from, to }).await.map(drop)
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn link(&self, from: &VirtualPath, to: &VirtualPath) -> Result<(), Error> {
        let (from, to) = (from.clone(), to.clone());
        self.number(&Request::Link { from, to }).await.map(drop)
    }

    /// Makes a symbolic link with the text `target`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for a text with blanks or line ends: servers store it as it is sent, so
    /// there is no way to send those.
    pub async fn symlink(&self, target: &[u8], path: &VirtualPath) -> Result<(), Error> {
        let target = word(target)?;
        let path = path.clone();
        let request = Request::Symlink { target, path };
        self.number(&request).await.map(drop)
    }

    /// Returns the text of a symbolic link.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn readlink(&self, path: &VirtualPath) -> Result<Bytes, Error> {
        let path = path.clone();
        let limit = LINK_MAX;
        self.counted(&Request::Readlink { path, limit }, limit)
            .await
    }

    /// Returns the normalised virtual path of something that exists.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn localpath(&self, path: &VirtualPath) -> Result<Bytes, Error> {
        let path = path.clone();
        let limit = 4 * limits::PATH_MAX as u64;
        self.counted(&Request::Localpath { path }, limit).await
    }

    /// Makes the server copy a file or tree to another server, `HOST:PORT`, and returns the bytes of
    /// content that were moved. Choose a long time limit: the answer comes at the end.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn thirdput(
        &self,
        path: &VirtualPath,
        host: &str,
        target: &VirtualPath,
    ) -> Result<u64, Error> {
        let request = Request::Thirdput {
            path: path.clone(),
            host: word(host.as_bytes())?,
            target: target.clone(),
        };
        self.number(&request).await
    }
}
