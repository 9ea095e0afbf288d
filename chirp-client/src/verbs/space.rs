//! Space: allocations, and who uses how much (parts 3.7 and 8.3).

use bytes::Bytes;
use chirp_proto::{Request, VirtualPath};

use crate::connection::Layout;
use crate::error::printable;
use crate::{Client, Error};

/// What `lsalloc` says of the allocation that a path lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The virtual path of its top directory.
    pub path: Bytes,
    /// Bytes that it may hold.
    pub total: u64,
    /// Bytes in use.
    pub in_use: u64,
}

impl Allocation {
    /// Reads `PATH TOTAL INUSE`; the path may have blanks.
    fn parse(line: &[u8]) -> Option<Self> {
        let [path, total, in_use] = split_from_right(line)?;
        Some(Self {
            path: Bytes::copy_from_slice(path),
            total: number(total)?,
            in_use: number(in_use)?,
        })
    }
}

/// What one owner has in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The first subject of the directories' ACLs, or `unknown`.
    pub owner: Bytes,
    /// Files, links and specials.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
}

impl Usage {
    /// Reads `OWNER FILES DIRS BYTES`.
    fn parse(line: &[u8]) -> Option<Self> {
        let [owner, files, directories, bytes] = split_from_right(line)?;
        Some(Self {
            owner: Bytes::copy_from_slice(owner),
            files: number(files)?,
            directories: number(directories)?,
            bytes: number(bytes)?,
        })
    }
}

impl Client {
    /// Makes a directory that may hold `length` bytes, where the server counts space.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn mkalloc(&self, path: &VirtualPath, length: u64, mode: u32) -> Result<(), Error> {
        let path = path.clone();
        let request = Request::Mkalloc { path, length, mode };
        self.number(&request).await.map(drop)
    }

    /// Describes the allocation that a path lies in.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -8 from a server that counts no space.
    pub async fn lsalloc(&self, path: &VirtualPath) -> Result<Allocation, Error> {
        let path = path.clone();
        let request = Request::Lsalloc { path };
        let (_, allocation) = self.line(&request, Allocation::parse).await?;
        Ok(allocation)
    }

    /// Counts what each owner has in a directory and below it; for who holds `a` there. Choose a
    /// long time limit for a large tree: the answer comes at the end.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn audit(&self, path: &VirtualPath) -> Result<Vec<Usage>, Error> {
        let path = path.clone();
        let request = Request::Audit { path };
        let lines = self.texts(&request, Layout::StatusLines).await?;
        let usage = lines.iter().map(|line| {
            Usage::parse(line).ok_or_else(|| {
                let line = printable(line.get(..80).unwrap_or(line));
                self.violation(format!("audit answered {line:?}, which is no such line"))
            })
        });
        usage.collect()
    }
}

/// Splits the last words off a line: what comes first keeps its blanks.
fn split_from_right<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    let mut words: Vec<&[u8]> = line
        .trim_ascii_end()
        .rsplitn(N, |&byte| byte == b' ')
        .collect();
    words.reverse();
    words.try_into().ok()
}

/// Reads a count. The reference prints some as signed numbers; what is below zero counts as none.
fn number(word: &[u8]) -> Option<u64> {
    let number: i128 = std::str::from_utf8(word).ok()?.parse().ok()?;
    u64::try_from(number.max(0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_from_the_right() {
        let allocation = Allocation::parse(b"/a b 100 7").unwrap();
        assert_eq!(allocation.path, "/a b");
        assert_eq!((allocation.total, allocation.in_use), (100, 7));
        let usage = Usage::parse(b"unix:alice 1 2 3").unwrap();
        assert_eq!(usage.owner, "unix:alice");
        assert_eq!((usage.files, usage.directories, usage.bytes), (1, 2, 3));
        assert_eq!(Allocation::parse(b"/ 5 -4096").unwrap().in_use, 0);
        for bad in ["", "/", "/a 1", "/a b c", "/a 1 x"] {
            assert_eq!(Allocation::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
