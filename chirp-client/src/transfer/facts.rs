//! What is known of an entry on either side.

use std::os::unix::fs::MetadataExt;

use chirp_proto::Stat;
use rustix::fs::FileType;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
    /// A device, a pipe, a socket.
    Other,
    /// It vanished between listing and looking.
    Gone,
}

/// What `lstat` says of an entry, as far as copies need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) kind: Kind,
    /// In bytes.
    pub(super) size: u64,
    /// Permission bits.
    pub(super) mode: u32,
    /// In seconds since 1970, which is all that Chirp carries.
    pub(super) mtime: i64,
    /// Bytes on disk.
    pub(super) allocated: u64,
    /// Device and inode where the file has several names.
    pub(super) shared: Option<(u64, u64)>,
    pub(super) device: u64,
}

/// Bytes on disk in one of the units that `stat` counts in.
const BLOCK: u64 = 512;

/// A file that lacks less than this on disk is not treated as one with holes.
const HOLE_MIN: u64 = 64 * 1024;

impl Facts {
    /// Takes what a server says.
    pub(super) fn remote(stat: &Stat) -> Self {
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let kind = match stat {
            stat if stat.is_file() => Kind::File,
            stat if stat.is_directory() => Kind::Directory,
            stat if stat.is_symlink() => Kind::Link,
            stat if stat.mode == 0 => Kind::Gone,
            _ => Kind::Other,
        };
        let identity = (number(stat.device), number(stat.inode));
        Self {
            kind,
            size: number(stat.size),
            mode: stat.mode & 0o777,
            mtime: stat.mtime,
            allocated: number(stat.blocks).saturating_mul(BLOCK),
            shared: (kind == Kind::File && stat.links > 1 && stat.inode != 0).then_some(identity),
            device: identity.0,
        }
    }

    /// Takes what the standard library says.
    pub(super) fn metadata(found: &std::fs::Metadata) -> Self {
        let kind = found.file_type();
        let kind = match () {
            () if kind.is_file() => Kind::File,
            () if kind.is_dir() => Kind::Directory,
            () if kind.is_symlink() => Kind::Link,
            () => Kind::Other,
        };
        Self {
            kind,
            size: found.len(),
            mode: found.mode() & 0o777,
            mtime: found.mtime(),
            allocated: found.blocks().saturating_mul(BLOCK),
            shared: (kind == Kind::File && found.nlink() > 1).then(|| (found.dev(), found.ino())),
            device: found.dev(),
        }
    }

    /// Takes what the system says of an entry of a directory handle.
    pub(super) fn local(stat: &rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        let shared = kind == Kind::File && stat.st_nlink > 1;
        Self {
            kind,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o777,
            mtime: stat.st_mtime,
            allocated: u64::try_from(stat.st_blocks)
                .unwrap_or(0)
                .saturating_mul(BLOCK),
            shared: shared.then_some((stat.st_dev, stat.st_ino)),
            device: stat.st_dev,
        }
    }

    /// Reports whether the file seems to have holes worth keeping.
    pub(super) const fn has_holes(&self) -> bool {
        self.size.saturating_sub(self.allocated) >= HOLE_MIN
    }

    /// Returns the bytes that a copy takes on disk, about.
    pub(super) fn need(&self) -> u64 {
        match self.kind {
            Kind::File if self.has_holes() => self.allocated,
            Kind::File => self.size,
            _ => 0,
        }
    }

    /// Returns the mode that a server lets a file or directory have (part 3.7).
    pub(super) const fn mode_there(&self) -> u32 {
        let owner = if matches!(self.kind, Kind::Directory) {
            0o700
        } else {
            0o600
        };
        self.mode & 0o177 | owner
    }
}
