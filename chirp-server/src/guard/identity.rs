//! Which directory is which, whatever it is called and wherever it lies.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

/// A directory. Numbers of removed ones are given again, so the time of birth belongs to it where the file
/// system has one; no program can set that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) born: Time,
}

/// Seconds since 1970 and nanoseconds.
pub(super) type Time = (i64, u32);

/// What is looked at of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) id: Id,
    /// When an entry or anything else of it last changed. No program can set this either.
    pub(super) changed: Time,
    pub(super) mode: u32,
    pub(super) owner: u32,
    /// 0 for a directory that was removed.
    pub(super) links: u32,
}

/// Knows where times of birth can be believed.
#[derive(Debug)]
pub(super) struct Identities {
    /// The device of the exported directory, if its directories keep their times of birth.
    born_on: Option<u64>,
}

/// Overlay file systems: a directory gets another time of birth when something in it first changes.
const OVERLAY: i64 = 0x794c_7630;

impl Identities {
    /// Finds out about the file system of the exported directory, whose identity is returned too.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn new(root: impl AsFd) -> Result<(Self, Id), Errno> {
        let overlay = rustix::fs::fstatfs(&root).is_ok_and(|stat| is(stat.f_type, OVERLAY));
        let mut identities = Self { born_on: None };
        let plain = identities.of(&root)?.id;
        if !overlay {
            identities.born_on = Some(plain.device);
        }
        let id = identities.of(&root)?.id;
        Ok((identities, id))
    }

    /// Looks at a directory.
    ///
    /// # Errors
    ///
    /// The system's.
    #[expect(
        clippy::useless_conversion,
        reason = "the widths of these fields differ between architectures"
    )]
    pub(super) fn of(&self, dir: impl AsFd) -> Result<Look, Errno> {
        let Some(born_on) = self.born_on else {
            let stat = rustix::fs::fstat(dir)?;
            return Ok(Look {
                id: Id {
                    device: stat.st_dev.into(),
                    inode: stat.st_ino.into(),
                    born: (0, 0),
                },
                changed: (
                    stat.st_ctime.into(),
                    u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
                ),
                mode: stat.st_mode,
                owner: stat.st_uid,
                links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            });
        };
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, wanted)?;
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let born = match told && device == born_on {
            true => (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
            false => (0, 0),
        };
        Ok(Look {
            id: Id {
                device,
                inode: stat.stx_ino,
                born,
            },
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            mode: stat.stx_mode.into(),
            owner: stat.stx_uid,
            links: stat.stx_nlink,
        })
    }
}

/// Compares a kind of file system, whose type differs between architectures.
fn is<T: TryInto<i64>>(kind: T, other: i64) -> bool {
    kind.try_into().is_ok_and(|kind| kind == other)
}
