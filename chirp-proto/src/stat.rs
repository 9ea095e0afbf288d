//! Stat and statfs lines (`chirp-protocol.md`, part 4).

use bytes::{BufMut, BytesMut};

/// The thirteen numbers of a stat line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Device number.
    pub device: i64,
    /// Inode number; stable, so that clients see when a file was replaced.
    pub inode: i64,
    /// Unix mode with its type bits.
    pub mode: u32,
    /// Link count.
    pub links: i64,
    /// Owner of the server's account; not used for access control.
    pub uid: i64,
    /// Group of the server's account.
    pub gid: i64,
    /// Device number of a device file.
    pub rdevice: i64,
    /// Size in bytes.
    pub size: i64,
    /// Preferred block size in bytes.
    pub block_size: i64,
    /// Space taken, in units of 512 bytes.
    pub blocks: i64,
    /// Last access, in seconds since 1970.
    pub atime: i64,
    /// Last modification, in seconds since 1970.
    pub mtime: i64,
    /// Last change of the inode, in seconds since 1970.
    pub ctime: i64,
}

/// The type bits of [`Stat::mode`].
const TYPE_MASK: u32 = 0o170_000;

impl Stat {
    /// Reports whether this is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        self.mode & TYPE_MASK == 0o040_000
    }

    /// Reports whether this is a regular file.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        self.mode & TYPE_MASK == 0o100_000
    }

    /// Reports whether this is a symbolic link.
    #[must_use]
    pub const fn is_symlink(&self) -> bool {
        self.mode & TYPE_MASK == 0o120_000
    }

    /// Appends the line with its LF.
    pub fn encode_into(&self, out: &mut BytesMut) {
        let fields = [
            self.device,
            self.inode,
            i64::from(self.mode),
            self.links,
            self.uid,
            self.gid,
            self.rdevice,
            self.size,
            self.block_size,
            self.blocks,
            self.atime,
            self.mtime,
            self.ctime,
        ];
        put_numbers(&fields, out);
    }

    /// Reads a line without its LF; `None` if it does not begin with thirteen numbers.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut numbers = numbers(line);
        let mut next = || numbers.next();
        Some(Self {
            device: next()?,
            inode: next()?,
            mode: u32::try_from(next()?).ok()?,
            links: next()?,
            uid: next()?,
            gid: next()?,
            rdevice: next()?,
            size: next()?,
            block_size: next()?,
            blocks: next()?,
            atime: next()?,
            mtime: next()?,
            ctime: next()?,
        })
    }
}

/// The seven numbers of a statfs line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Magic number of the file system's type.
    pub kind: i64,
    /// Bytes in a block.
    pub block_size: i64,
    /// All blocks.
    pub blocks: i64,
    /// Free blocks.
    pub blocks_free: i64,
    /// Blocks that ordinary users may take.
    pub blocks_available: i64,
    /// All inodes.
    pub files: i64,
    /// Free inodes.
    pub files_free: i64,
}

impl StatFs {
    /// Appends the line with its LF.
    pub fn encode_into(&self, out: &mut BytesMut) {
        let fields = [
            self.kind,
            self.block_size,
            self.blocks,
            self.blocks_free,
            self.blocks_available,
            self.files,
            self.files_free,
        ];
        put_numbers(&fields, out);
    }

    /// Reads a line without its LF; `None` if it does not begin with seven numbers.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut numbers = numbers(line);
        let mut next = || numbers.next();
        Some(Self {
            kind: next()?,
            block_size: next()?,
            blocks: next()?,
            blocks_free: next()?,
            blocks_available: next()?,
            files: next()?,
            files_free: next()?,
        })
    }
}

fn put_numbers(fields: &[i64], out: &mut BytesMut) {
    let mut digits = itoa::Buffer::new();
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.put_u8(b' ');
        }
        out.put_slice(digits.format(*field).as_bytes());
    }
    out.put_u8(b'\n');
}

fn numbers(line: &[u8]) -> impl Iterator<Item = i64> {
    line.split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .map_while(|word| std::str::from_utf8(word).ok()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_line_of_the_specification_reads_as_it_says() {
        let line = b"65024 10059792 33152 1 1001 1001 0 11 4096 8 1795249380 1795249380 1795249380";
        let stat = Stat::parse(line).unwrap();
        assert!(stat.is_file() && !stat.is_directory() && !stat.is_symlink());
        assert_eq!((stat.size, stat.links, stat.mtime), (11, 1, 1_795_249_380));
        let mut out = BytesMut::new();
        stat.encode_into(&mut out);
        assert_eq!(&out[..], &[line.as_slice(), b"\n"].concat()[..]);
    }

    #[test]
    fn short_and_unreadable_lines_are_refused() {
        assert_eq!(Stat::parse(b"1 2 3 4 5 6 7 8 9 10 11 12"), None);
        assert_eq!(Stat::parse(b"1 2 x 4 5 6 7 8 9 10 11 12 13"), None);
        assert_eq!(Stat::parse(b"1 2 -3 4 5 6 7 8 9 10 11 12 13"), None);
        assert_eq!(StatFs::parse(b"1 2 3 4 5 6"), None);
    }

    proptest! {
        #[test]
        fn lines_read_back_as_written(numbers in proptest::array::uniform13(any::<i32>()), mode in any::<u32>()) {
            let n = numbers.map(i64::from);
            let stat = Stat {
                device: n[0], inode: n[1], mode, links: n[2], uid: n[3], gid: n[4], rdevice: n[5],
                size: n[6], block_size: n[7], blocks: n[8], atime: n[9], mtime: n[10], ctime: n[11],
            };
            let mut out = BytesMut::new();
            stat.encode_into(&mut out);
            prop_assert_eq!(Stat::parse(&out), Some(stat));
            let fs = StatFs {
                kind: n[0], block_size: n[1], blocks: n[2], blocks_free: n[3],
                blocks_available: n[4], files: n[5], files_free: n[6],
            };
            out.clear();
            fs.encode_into(&mut out);
            prop_assert_eq!(StatFs::parse(&out), Some(fs));
        }
    }
}
