//! What is known of a name, and changing it (part 3.7).

use bytes::Bytes;
use chirp_proto::request::{AccessMode, HashAlgorithm};
use chirp_proto::{Request, Stat, StatFs, VirtualPath};

use crate::{Client, Error};

impl Client {
    /// Describes what a path leads to.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn stat(&self, path: &VirtualPath) -> Result<Stat, Error> {
        let path = path.clone();
        let (_, stat) = self.line(&Request::Stat { path }, Stat::parse).await?;
        Ok(stat)
    }

    /// Describes a name itself, also where it is a symbolic link.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn lstat(&self, path: &VirtualPath) -> Result<Stat, Error> {
        let path = path.clone();
        let (_, stat) = self.line(&Request::Lstat { path }, Stat::parse).await?;
        Ok(stat)
    }

    /// Describes the file system that a directory is on.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn statfs(&self, path: &VirtualPath) -> Result<StatFs, Error> {
        let path = path.clone();
        let (_, stat) = self.line(&Request::Statfs { path }, StatFs::parse).await?;
        Ok(stat)
    }

    /// Asks whether the rights and the file's mode allow something; [`Error::Refused`] is the no.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn access(&self, path: &VirtualPath, mode: AccessMode) -> Result<(), Error> {
        let path = path.clone();
        let request = Request::Access { path, mode };
        self.number(&request).await.map(drop)
    }

    /// Changes the mode; of a file only the owner's execute bit and what lies below it count.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn chmod(&self, path: &VirtualPath, mode: u32) -> Result<(), Error> {
        let path = path.clone();
        self.number(&Request::Chmod { path, mode }).await.map(drop)
    }

    /// Asks for another owner; servers answer success and change nothing.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn chown(&self, path: &VirtualPath, uid: i64, gid: i64) -> Result<(), Error> {
        let path = path.clone();
        let request = Request::Chown { path, uid, gid };
        self.number(&request).await.map(drop)
    }

    /// As [`Client::chown`].
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn lchown(&self, path: &VirtualPath, uid: i64, gid: i64) -> Result<(), Error> {
        let path = path.clone();
        let request = Request::Lchown { path, uid, gid };
        self.number(&request).await.map(drop)
    }

    /// Cuts or extends a file to `length` bytes.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn truncate(&self, path: &VirtualPath, length: u64) -> Result<(), Error> {
        let path = path.clone();
        let request = Request::Truncate { path, length };
        self.number(&request).await.map(drop)
    }

    /// Sets the times of access and modification, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn utime(&self, path: &VirtualPath, atime: i64, mtime: i64) -> Result<(), Error> {
        let path = path.clone();
        let request = Request::Utime { path, atime, mtime };
        self.number(&request).await.map(drop)
    }

    /// Returns a file's digest, computed by the server: 16 bytes for MD5, 20 for SHA-1.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn hash(&self, algorithm: HashAlgorithm, path: &VirtualPath) -> Result<Bytes, Error> {
        let length = match algorithm {
            HashAlgorithm::Md5 => 16,
            HashAlgorithm::Sha1 => 20,
        };
        let path = path.clone();
        let request = Request::Hash { algorithm, path };
        let digest = self.counted(&request, length).await?;
        self.whole_digest(digest, length)
    }

    /// Checks that a digest has its length.
    pub(crate) fn whole_digest(&self, digest: Bytes, length: u64) -> Result<Bytes, Error> {
        if digest.len() as u64 == length {
            return Ok(digest);
        }
        let found = digest.len();
        Err(self.violation(format!("a digest of {found} bytes where {length} were due")))
    }

    /// Sets the number of replicas; refused by servers with one local disk.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn setrep(&self, path: &VirtualPath, count: u64) -> Result<(), Error> {
        let path = path.clone();
        let request = Request::Setrep { path, count };
        self.number(&request).await.map(drop)
    }
}
