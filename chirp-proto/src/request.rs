//! What can be asked: one variant a verb, named as the wire names it (`chirp-protocol.md`, part 3;
//! `exec-extension.md` for those from [`Request::Features`] on).
//!
//! A value of these types is valid by itself: numbers are in range, paths are decoded and
//! normalised. Whether the object exists and the caller may touch it is for the server to find out.

use crate::path::VirtualPath;

/// A descriptor number as the client names it.
pub type Descriptor = u32;

/// One request. Fields that several verbs share have the same name and meaning: `length` is a count
/// of bytes, `offset` a position in bytes from the start of the file, `mode` Unix permission bits,
/// `limit` the most bytes the client wants back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are the verb's words, explained above and in part 3"
)]
pub enum Request {
    // Identity.
    Whoami {
        limit: u64,
    },
    Whoareyou {
        host: Vec<u8>,
        limit: u64,
    },
    Debug {
        flag: Vec<u8>,
    },

    // Descriptors.
    Open {
        path: VirtualPath,
        flags: OpenFlags,
        mode: u32,
    },
    Close {
        fd: Descriptor,
    },
    Pread {
        fd: Descriptor,
        length: u64,
        offset: u64,
    },
    Sread {
        fd: Descriptor,
        stride: Stride,
    },
    Pwrite {
        fd: Descriptor,
        length: u64,
        offset: u64,
    },
    Swrite {
        fd: Descriptor,
        stride: Stride,
    },
    Fstat {
        fd: Descriptor,
    },
    Fstatfs {
        fd: Descriptor,
    },
    Fsync {
        fd: Descriptor,
    },
    Ftruncate {
        fd: Descriptor,
        length: u64,
    },
    Fchmod {
        fd: Descriptor,
        mode: u32,
    },
    Fchown {
        fd: Descriptor,
        uid: i64,
        gid: i64,
    },
    Fgetxattr {
        fd: Descriptor,
        name: Vec<u8>,
    },
    Flistxattr {
        fd: Descriptor,
    },
    Fsetxattr {
        fd: Descriptor,
        name: Vec<u8>,
        length: u64,
        flags: XattrFlags,
    },
    Fremovexattr {
        fd: Descriptor,
        name: Vec<u8>,
    },

    // Whole files and streams.
    Getfile {
        path: VirtualPath,
    },
    Putfile {
        path: VirtualPath,
        mode: u32,
        length: u64,
    },
    Getstream {
        path: VirtualPath,
    },
    Putstream {
        path: VirtualPath,
    },

    // Names and directories.
    Getdir {
        path: VirtualPath,
    },
    Getlongdir {
        path: VirtualPath,
    },
    Mkdir {
        path: VirtualPath,
        mode: u32,
    },
    Rmdir {
        path: VirtualPath,
    },
    Rmall {
        path: VirtualPath,
    },
    Unlink {
        path: VirtualPath,
    },
    Rename {
        from: VirtualPath,
        to: VirtualPath,
    },
    Link {
        from: VirtualPath,
        to: VirtualPath,
    },
    /// `target` is stored as it came, not decoded.
    Symlink {
        target: Vec<u8>,
        path: VirtualPath,
    },
    Readlink {
        path: VirtualPath,
        limit: u64,
    },
    Localpath {
        path: VirtualPath,
    },

    // Metadata.
    Stat {
        path: VirtualPath,
    },
    Lstat {
        path: VirtualPath,
    },
    Statfs {
        path: VirtualPath,
    },
    Access {
        path: VirtualPath,
        mode: AccessMode,
    },
    Chmod {
        path: VirtualPath,
        mode: u32,
    },
    Chown {
        path: VirtualPath,
        uid: i64,
        gid: i64,
    },
    Lchown {
        path: VirtualPath,
        uid: i64,
        gid: i64,
    },
    Truncate {
        path: VirtualPath,
        length: u64,
    },
    Utime {
        path: VirtualPath,
        atime: i64,
        mtime: i64,
    },
    /// `md5 P` and `hash ALGO P`.
    Hash {
        algorithm: HashAlgorithm,
        path: VirtualPath,
    },
    Setrep {
        path: VirtualPath,
        count: u64,
    },
    Getxattr {
        path: VirtualPath,
        name: Vec<u8>,
    },
    Lgetxattr {
        path: VirtualPath,
        name: Vec<u8>,
    },
    Listxattr {
        path: VirtualPath,
    },
    Llistxattr {
        path: VirtualPath,
    },
    Setxattr {
        path: VirtualPath,
        name: Vec<u8>,
        length: u64,
        flags: XattrFlags,
    },
    Lsetxattr {
        path: VirtualPath,
        name: Vec<u8>,
        length: u64,
        flags: XattrFlags,
    },
    Removexattr {
        path: VirtualPath,
        name: Vec<u8>,
    },
    Lremovexattr {
        path: VirtualPath,
        name: Vec<u8>,
    },
    Audit {
        path: VirtualPath,
    },
    /// Patterns and roots are `|`-separated lists; the patterns are not decoded (part 11).
    Search {
        patterns: Vec<u8>,
        roots: Vec<u8>,
        flags: u64,
    },

    // Rights.
    Getacl {
        path: VirtualPath,
    },
    Setacl {
        path: VirtualPath,
        subject: Vec<u8>,
        rights: Vec<u8>,
    },
    Resetacl {
        path: VirtualPath,
        rights: Vec<u8>,
    },

    // Third-party transfer.
    Thirdput {
        path: VirtualPath,
        host: Vec<u8>,
        target: VirtualPath,
    },

    // Tickets; `ticket` is 32 hexadecimal digits.
    TicketRegister {
        subject: Vec<u8>,
        seconds: i64,
        length: u64,
    },
    TicketModify {
        ticket: TicketName,
        path: VirtualPath,
        rights: Vec<u8>,
    },
    TicketDelete {
        ticket: TicketName,
    },
    TicketGet {
        ticket: TicketName,
    },
    TicketList {
        subject: Vec<u8>,
    },

    // Space.
    Lsalloc {
        path: VirtualPath,
    },
    Mkalloc {
        path: VirtualPath,
        length: u64,
        mode: u32,
    },

    // Jobs.
    JobCreate {
        length: u64,
    },
    JobCommit {
        length: u64,
    },
    JobKill {
        length: u64,
    },
    JobReap {
        length: u64,
    },
    JobStatus {
        length: u64,
    },
    /// A negative `id` means all from there on, 0 means all; a negative `seconds` means the most.
    JobWait {
        id: i64,
        seconds: i64,
    },

    // Only in HTCondor's dialect: open files with a position, and what it says about jobs.
    Read {
        fd: Descriptor,
        length: u64,
    },
    Write {
        fd: Descriptor,
        length: u64,
    },
    Lseek {
        fd: Descriptor,
        offset: i64,
        whence: Whence,
    },
    GetJobAttr {
        name: Vec<u8>,
    },
    GetJobAttrDelayed {
        name: Vec<u8>,
    },
    SetJobAttr {
        name: Vec<u8>,
        value: Vec<u8>,
    },
    SetJobAttrDelayed {
        name: Vec<u8>,
        value: Vec<u8>,
    },
    Ulog {
        text: Vec<u8>,
    },
    Constrain {
        expression: Vec<u8>,
    },
    Lookup {
        path: VirtualPath,
    },
    Version,

    // Our extension.
    Features,
    Sha256 {
        path: VirtualPath,
    },
    /// A whole file whose content follows at once, with its mode and time of modification.
    Store {
        path: VirtualPath,
        mode: u32,
        mtime: i64,
        length: u64,
    },
    Exec {
        length: u64,
    },
    ExecAttach {
        execution: ExecutionName,
        out: u64,
        err: u64,
    },
    ExecStatus {
        execution: ExecutionName,
    },
    /// `seconds` is at most 30.
    ExecWait {
        execution: ExecutionName,
        seconds: u64,
    },
    ExecSignal {
        execution: ExecutionName,
        number: u32,
    },
    ExecList,
    ExecRemove {
        execution: ExecutionName,
    },
    ExecOutput {
        execution: ExecutionName,
        stream: OutputStream,
        offset: u64,
        length: u64,
    },
}

/// The letters of `open`. Unknown letters are ignored by the parser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// The descriptor can read: `r`, or no `w` at all.
    pub read: bool,
    /// The descriptor can write: `w`.
    pub write: bool,
    /// `c`: create a missing file.
    pub create: bool,
    /// `t`: cut to nothing.
    pub truncate: bool,
    /// `a`: write at the end only.
    pub append: bool,
    /// `x`: fail if the file exists.
    pub exclusive: bool,
    /// `s`: every write is on disk before it is answered.
    pub sync: bool,
}

impl OpenFlags {
    /// Reads the letters, in any order.
    #[must_use]
    pub fn parse(letters: &[u8]) -> Self {
        let has = |letter| letters.contains(&letter);
        let write = has(b'w');
        Self {
            read: has(b'r') || !write,
            write,
            create: has(b'c'),
            truncate: has(b't'),
            append: has(b'a'),
            exclusive: has(b'x'),
            sync: has(b's'),
        }
    }
}

impl std::fmt::Display for OpenFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let letters = [
            (self.read, "r"),
            (self.write, "w"),
            (self.create, "c"),
            (self.truncate, "t"),
            (self.append, "a"),
            (self.exclusive, "x"),
            (self.sync, "s"),
        ];
        for (_, letter) in letters.into_iter().filter(|(set, _)| *set) {
            f.write_str(letter)?;
        }
        Ok(())
    }
}

/// The pattern of `sread` and `swrite`: pieces of `piece` bytes taken every `every` bytes from
/// `offset`, as many whole pieces as fit into `length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "explained above")]
pub struct Stride {
    pub length: u64,
    pub piece: u64,
    pub every: u64,
    pub offset: u64,
}

/// What the offset of `lseek` counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// 0: the start of the file.
    Start,
    /// 1: the position of the descriptor.
    Position,
    /// 2: the end of the file.
    End,
}

impl Whence {
    /// Returns the meaning of a number on the wire.
    #[must_use]
    pub const fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::Start),
            1 => Some(Self::Position),
            2 => Some(Self::End),
            _ => None,
        }
    }

    /// Returns the number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Start => 0,
            Self::Position => 1,
            Self::End => 2,
        }
    }
}

/// The mode of `access`: bits 4, 2 and 1 for read, write and execute; 0 asks for existence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessMode(u8);

impl AccessMode {
    /// Makes a mode of 0 to 7.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        if bits <= 7 { Some(Self(bits)) } else { None }
    }

    /// Returns the bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Reports whether reading is asked about; a mode of 0 counts as reading (part 3.7).
    #[must_use]
    pub const fn read(self) -> bool {
        self.0 & 4 != 0 || self.0 == 0
    }

    /// Reports whether writing is asked about.
    #[must_use]
    pub const fn write(self) -> bool {
        self.0 & 2 != 0
    }

    /// Reports whether execution is asked about.
    #[must_use]
    pub const fn execute(self) -> bool {
        self.0 & 1 != 0
    }
}

/// Digests of the `hash` verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// MD5, 16 bytes.
    Md5,
    /// SHA-1, 20 bytes.
    Sha1,
}

impl HashAlgorithm {
    /// Returns the name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
        }
    }
}

/// What `setxattr` does about an attribute that is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrFlags {
    /// 0: set it either way.
    Either,
    /// 1: it must not exist.
    Create,
    /// 2: it must exist.
    Replace,
}

impl XattrFlags {
    /// Returns the number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Either => 0,
            Self::Create => 1,
            Self::Replace => 2,
        }
    }
}

/// The digest that names a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketName([u8; 32]);

impl TicketName {
    /// Reads `ticket:` and 32 hexadecimal digits.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        Self::from_digits(word.strip_prefix(b"ticket:")?)
    }

    /// Returns the name of a key's MD5 digest.
    #[must_use]
    pub fn from_digest(digest: [u8; 16]) -> Self {
        let mut digits = [0; 32];
        for (two, byte) in digits.chunks_exact_mut(2).zip(digest) {
            for (digit, value) in two.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = if value < 10 {
                    b'0' + value
                } else {
                    b'a' + value - 10
                };
            }
        }
        Self(digits)
    }

    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub fn from_digits(digits: &[u8]) -> Option<Self> {
        let digest: [u8; 32] = digits.try_into().ok()?;
        digest
            .iter()
            .all(u8::is_ascii_hexdigit)
            .then_some(Self(digest))
    }

    /// Returns the 32 digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// How a request names an execution: by the server's number, or `@` and the caller's own id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecutionName {
    /// The number that `exec` answered.
    Id(u64),
    /// The `cmd-id`: 1 to 128 characters of `A-Z a-z 0-9 . _ -`.
    CmdId(String),
}

impl ExecutionName {
    /// Reads `17` or `@wu_42-0`.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(word).ok()?;
        let Some(cmd_id) = text.strip_prefix('@') else {
            return match text.parse() {
                Ok(0) | Err(_) => None,
                Ok(id) => Some(Self::Id(id)),
            };
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let valid = (1..=128).contains(&cmd_id.len()) && cmd_id.bytes().all(good);
        valid.then(|| Self::CmdId(cmd_id.to_owned()))
    }
}

impl std::fmt::Display for ExecutionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::CmdId(cmd_id) => write!(f, "@{cmd_id}"),
        }
    }
}

/// Which captured output is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl OutputStream {
    /// Returns the name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
        }
    }
}

impl Request {
    /// Returns the length of the body that the client sends right after the line, without waiting
    /// for an answer. `putfile` is not among them: its body waits for the first status line.
    #[must_use]
    pub const fn body_length(&self) -> u64 {
        match self {
            Self::Pwrite { length, .. }
            | Self::Write { length, .. }
            | Self::Fsetxattr { length, .. }
            | Self::Setxattr { length, .. }
            | Self::Lsetxattr { length, .. }
            | Self::TicketRegister { length, .. }
            | Self::JobCreate { length }
            | Self::JobCommit { length }
            | Self::JobKill { length }
            | Self::JobReap { length }
            | Self::JobStatus { length }
            | Self::Store { length, .. }
            | Self::Exec { length } => *length,
            Self::Swrite { stride, .. } => stride.length,
            _ => 0,
        }
    }
}
