//! What HTCondor's dialect has alone (part 2.9): the position in an open file, and the attributes of the
//! job that the proxy serves. Other connections refuse all of it with code -8, unsent.

use bytes::Bytes;
use chirp_proto::limits::IO_MAX;
use chirp_proto::request::Whence;
use chirp_proto::{Request, VirtualPath};

use crate::verbs::file::Descriptor;
use crate::{Client, Error};

/// Bytes of an attribute or of a URL.
const TEXT_MAX: u64 = 1024 * 1024;

impl Client {
    /// Reads up to `length` bytes, at most 16 MiB, from where the descriptor stands.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn read(&self, fd: Descriptor, length: u64) -> Result<Bytes, Error> {
        let this = self.of_connection(fd.connection)?;
        let (fd, length) = (fd.number, length.min(IO_MAX));
        this.counted(&Request::Read { fd, length }, length).await
    }

    /// Writes bytes where the descriptor stands and returns how many were written; at most 16 MiB are.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn write(&self, fd: Descriptor, mut data: Bytes) -> Result<u64, Error> {
        let this = self.of_connection(fd.connection)?;
        data.truncate(usize::try_from(IO_MAX).unwrap_or(usize::MAX));
        let (fd, length) = (fd.number, data.len() as u64);
        this.number_with(&Request::Write { fd, length }, data).await
    }

    /// Moves the position of a descriptor and returns it, in bytes from the start.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn lseek(&self, fd: Descriptor, offset: i64, whence: Whence) -> Result<u64, Error> {
        let this = self.of_connection(fd.connection)?;
        let fd = fd.number;
        let request = Request::Lseek { fd, offset, whence };
        this.number(&request).await
    }

    /// Returns an attribute of the job, as the queue has it.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn get_job_attr(&self, name: &[u8]) -> Result<Bytes, Error> {
        let name = name.to_vec();
        self.counted(&Request::GetJobAttr { name }, TEXT_MAX).await
    }

    /// Returns an attribute of the job, as the proxy remembers it.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn get_job_attr_delayed(&self, name: &[u8]) -> Result<Bytes, Error> {
        let name = name.to_vec();
        let request = Request::GetJobAttrDelayed { name };
        self.counted(&request, TEXT_MAX).await
    }

    /// Sets an attribute of the job in the queue to an expression.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn set_job_attr(&self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let (name, value) = (name.to_vec(), value.to_vec());
        let request = Request::SetJobAttr { name, value };
        self.number(&request).await.map(drop)
    }

    /// Sets an attribute of the job that goes to the queue with the next report.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`]. HTCondor takes 993 bytes at most.
    pub async fn set_job_attr_delayed(&self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let (name, value) = (name.to_vec(), value.to_vec());
        let request = Request::SetJobAttrDelayed { name, value };
        self.number(&request).await.map(drop)
    }

    /// Adds a line to the log of the job.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn ulog(&self, text: &[u8]) -> Result<(), Error> {
        let text = text.to_vec();
        self.number(&Request::Ulog { text }).await.map(drop)
    }

    /// Adds a constraint to the requirements of the job.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn constrain(&self, expression: &[u8]) -> Result<(), Error> {
        let expression = expression.to_vec();
        self.number(&Request::Constrain { expression })
            .await
            .map(drop)
    }

    /// Returns the URL under which the proxy would have a file opened.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn lookup(&self, path: &VirtualPath) -> Result<Bytes, Error> {
        let path = path.clone();
        self.counted(&Request::Lookup { path }, TEXT_MAX).await
    }

    /// Returns the number of the protocol's version.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn version(&self) -> Result<u64, Error> {
        self.number(&Request::Version).await
    }
}
