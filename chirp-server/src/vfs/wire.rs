//! The system's status structures as the wire has them.

use chirp_proto::{Stat, StatFs};

/// Translates a file's status. Fields narrower or unsigned in the system keep their value as far as
/// 64 signed bits go.
#[must_use]
pub fn stat(raw: &rustix::fs::Stat) -> Stat {
    Stat {
        device: saturated(raw.st_dev),
        inode: saturated(raw.st_ino),
        mode: raw.st_mode,
        links: saturated(raw.st_nlink),
        uid: raw.st_uid.into(),
        gid: raw.st_gid.into(),
        rdevice: saturated(raw.st_rdev),
        size: saturated(raw.st_size),
        block_size: saturated(raw.st_blksize),
        blocks: saturated(raw.st_blocks),
        atime: saturated(raw.st_atime),
        mtime: saturated(raw.st_mtime),
        ctime: saturated(raw.st_ctime),
    }
}

/// Translates a file system's figures.
#[must_use]
pub fn statfs(raw: &rustix::fs::StatFs) -> StatFs {
    StatFs {
        kind: saturated(raw.f_type),
        block_size: saturated(raw.f_bsize),
        blocks: saturated(raw.f_blocks),
        blocks_free: saturated(raw.f_bfree),
        blocks_available: saturated(raw.f_bavail),
        files: saturated(raw.f_files),
        files_free: saturated(raw.f_ffree),
    }
}

fn saturated(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
