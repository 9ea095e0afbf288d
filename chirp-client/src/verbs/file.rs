//! Open files (part 3.3). A descriptor belongs to the connection and ends with it.

use bytes::Bytes;
use chirp_proto::limits::IO_MAX;
use chirp_proto::request::{OpenFlags, Stride};
use chirp_proto::{Request, Stat, StatFs, VirtualPath};

use crate::{Client, Error};

/// An open file of one connection. Where a client connects again, the descriptors of the lost
/// connection are refused: their numbers may mean other files on the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Descriptor {
    pub(super) number: u32,
    /// Of which of the client's connections, one after another, it is.
    pub(super) connection: u64,
}

impl Descriptor {
    /// Returns the server's number for it.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }
}

impl Client {
    /// Opens a file and returns its descriptor with what `fstat` says of it.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn open(
        &self,
        path: &VirtualPath,
        flags: OpenFlags,
        mode: u32,
    ) -> Result<(Descriptor, Stat), Error> {
        let path = path.clone();
        let request = Request::Open { path, flags, mode };
        // HTCondor's proxy leaves the line empty where it could not examine the file.
        let parse: fn(&[u8]) -> Option<Option<Stat>> = match self.is_condor() {
            true => |line| match line {
                b"" => Some(None),
                line => Stat::parse(line).map(Some),
            },
            false => |line| Stat::parse(line).map(Some),
        };
        let (number, stat, connection) = self.line_of_connection(&request, parse).await?;
        let Ok(number) = u32::try_from(number) else {
            return Err(self.violation(format!("open answered the descriptor {number}")));
        };
        let opened = Descriptor { number, connection };
        match stat {
            Some(stat) => Ok((opened, stat)),
            None => Ok((opened, self.fstat(opened).await?)),
        }
    }

    /// Closes a descriptor.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn close(&self, fd: Descriptor) -> Result<(), Error> {
        let this = self.of_connection(fd.connection)?;
        this.number(&Request::Close { fd: fd.number })
            .await
            .map(drop)
    }

    /// Reads up to `length` bytes (the server caps that at 16 MiB) from `offset`; fewer only at the
    /// end of the file.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn pread(&self, fd: Descriptor, length: u64, offset: u64) -> Result<Bytes, Error> {
        let this = self.of_connection(fd.connection)?;
        let length = length.min(IO_MAX);
        let request = Request::Pread {
            fd: fd.number,
            length,
            offset,
        };
        this.counted(&request, length).await
    }

    /// Reads a pattern of pieces.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn sread(&self, fd: Descriptor, mut stride: Stride) -> Result<Bytes, Error> {
        let this = self.of_connection(fd.connection)?;
        stride.length = stride.length.min(IO_MAX);
        let request = Request::Sread {
            fd: fd.number,
            stride,
        };
        this.counted(&request, stride.length).await
    }

    /// Writes bytes at `offset` and returns how many were written; at most 16 MiB are.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn pwrite(&self, fd: Descriptor, mut data: Bytes, offset: u64) -> Result<u64, Error> {
        let this = self.of_connection(fd.connection)?;
        data.truncate(usize::try_from(IO_MAX).unwrap_or(usize::MAX));
        let length = data.len() as u64;
        let request = Request::Pwrite {
            fd: fd.number,
            length,
            offset,
        };
        this.number_with(&request, data).await
    }

    /// Writes all of the bytes at `offset`, with as many requests as the server needs.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`]. [`Error::Protocol`] if the server confirms none or more than it was
    /// sent.
    pub async fn pwrite_all(
        &self,
        fd: Descriptor,
        mut data: Bytes,
        mut offset: u64,
    ) -> Result<(), Error> {
        while !data.is_empty() {
            let written = self.pwrite(fd, data.clone(), offset).await?;
            let taken = usize::try_from(written).unwrap_or(usize::MAX);
            if taken == 0 || taken > data.len() {
                let sent = data.len();
                return Err(self.violation(format!(
                    "pwrite {}: {sent} bytes were sent, {written} confirmed",
                    fd.number
                )));
            }
            offset += written;
            data = data.split_off(taken);
        }
        Ok(())
    }

    /// Writes a pattern of pieces, whose `length` is that of `data`, and returns how many bytes were
    /// written.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn swrite(
        &self,
        fd: Descriptor,
        mut data: Bytes,
        mut stride: Stride,
    ) -> Result<u64, Error> {
        let this = self.of_connection(fd.connection)?;
        data.truncate(usize::try_from(IO_MAX).unwrap_or(usize::MAX));
        stride.length = data.len() as u64;
        this.number_with(
            &Request::Swrite {
                fd: fd.number,
                stride,
            },
            data,
        )
        .await
    }

    /// Describes an open file.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn fstat(&self, fd: Descriptor) -> Result<Stat, Error> {
        let this = self.of_connection(fd.connection)?;
        let (_, stat) = this
            .line(&Request::Fstat { fd: fd.number }, Stat::parse)
            .await?;
        Ok(stat)
    }

    /// Describes the file system of an open file; the reference answers only for a directory.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn fstatfs(&self, fd: Descriptor) -> Result<StatFs, Error> {
        let this = self.of_connection(fd.connection)?;
        let (_, stat) = this
            .line(&Request::Fstatfs { fd: fd.number }, StatFs::parse)
            .await?;
        Ok(stat)
    }

    /// Waits until what was written is on disk.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn fsync(&self, fd: Descriptor) -> Result<(), Error> {
        let this = self.of_connection(fd.connection)?;
        this.number(&Request::Fsync { fd: fd.number })
            .await
            .map(drop)
    }

    /// Cuts or extends an open file to `length` bytes.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn ftruncate(&self, fd: Descriptor, length: u64) -> Result<(), Error> {
        let this = self.of_connection(fd.connection)?;
        let request = Request::Ftruncate {
            fd: fd.number,
            length,
        };
        this.number(&request).await.map(drop)
    }

    /// Changes the mode of an open file.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn fchmod(&self, fd: Descriptor, mode: u32) -> Result<(), Error> {
        let this = self.of_connection(fd.connection)?;
        this.number(&Request::Fchmod {
            fd: fd.number,
            mode,
        })
        .await
        .map(drop)
    }

    /// Asks for another owner of an open file; servers answer success and change nothing.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn fchown(&self, fd: Descriptor, uid: i64, gid: i64) -> Result<(), Error> {
        let this = self.of_connection(fd.connection)?;
        let request = Request::Fchown {
            fd: fd.number,
            uid,
            gid,
        };
        this.number(&request).await.map(drop)
    }
}
