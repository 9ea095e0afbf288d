//! Wire codes, and the one table between them and errno (`chirp-protocol.md`, part 1.8).

/// Defines [`Code`] together with its number, its text and the errno a client reports for it.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $errno:expr, $text:literal;)*) => {
        /// A failure as the wire names it. The numbers are those of cctools.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes, for tests and tables.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the negative number that goes over the wire.
            #[must_use]
            pub const fn value(self) -> i64 {
                match self { $(Self::$name => $value,)* }
            }

            /// Returns the code of a number read from the wire; numbers nobody assigned are
            /// [`Code::Unknown`].
            #[must_use]
            pub const fn from_value(value: i64) -> Self {
                match value { $($value => Self::$name,)* _ => Self::Unknown }
            }

            /// Returns the Linux errno that a client reports for this code.
            #[must_use]
            pub const fn errno(self) -> i32 {
                match self { $(Self::$name => $errno,)* }
            }

            /// Returns the text that people see.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    /// The connection is not logged in.
    NotAuthenticated = -1, errno::EACCES, "not authenticated";
    /// The subject lacks a right, or the system refuses the operation.
    NotAuthorized = -2, errno::EACCES, "permission denied";
    /// There is no such file, or its directory cannot be reached.
    DoesntExist = -3, errno::ENOENT, "no such file or directory";
    /// Something of that name is there already.
    AlreadyExists = -4, errno::EEXIST, "file exists";
    /// A line, a file or a request is larger than it may be.
    TooBig = -5, errno::EFBIG, "too large";
    /// The file system or the quota is full.
    NoSpace = -6, errno::ENOSPC, "no space left on device";
    /// Memory, or a body above 16 MiB.
    NoMemory = -7, errno::ENOMEM, "out of memory";
    /// The request makes no sense: unknown, short of words, or out of range.
    InvalidRequest = -8, errno::EINVAL, "invalid request";
    /// Too many files, executions or records.
    TooManyOpen = -9, errno::EMFILE, "too many open files";
    /// The object is in use.
    Busy = -10, errno::EBUSY, "device or resource busy";
    /// A temporary failure: the same request may succeed later.
    TryAgain = -11, errno::EAGAIN, "resource temporarily unavailable";
    /// The descriptor is not open, or not open for this.
    BadDescriptor = -12, errno::EBADF, "bad file descriptor";
    /// A file was meant, a directory is there.
    IsDirectory = -13, errno::EISDIR, "is a directory";
    /// A directory was meant, something else is there.
    NotDirectory = -14, errno::ENOTDIR, "not a directory";
    /// The directory has entries.
    NotEmpty = -15, errno::ENOTEMPTY, "directory not empty";
    /// Source and target lie on different file systems.
    CrossDevice = -16, errno::EXDEV, "invalid cross-device link";
    /// The storage is offline.
    Offline = -17, errno::EIO, "offline";
    /// The operation took too long.
    TimedOut = -18, errno::ECONNRESET, "timed out";
    /// The connection was lost.
    Disconnected = -19, errno::ECONNRESET, "disconnected";
    /// Another host cannot be reached.
    Unreachable = -20, errno::ECONNRESET, "host unreachable";
    /// There is no such job or execution.
    NoSuchJob = -21, errno::ESRCH, "no such job or execution";
    /// The object is a pipe and cannot be positioned.
    IsPipe = -22, errno::ESPIPE, "illegal seek";
    /// The server does not support this.
    NotSupported = -23, errno::ENOTSUP, "operation not supported";
    /// A component or a path is too long.
    NameTooLong = -24, errno::ENAMETOOLONG, "file name too long";
    /// Everything else. The reference's clients take it for a broken connection and repeat the
    /// request until their deadline, so a server sends it only where nothing else fits.
    Unknown = -127, errno::ECONNRESET, "unknown error";
}

impl Code {
    /// Returns the code a server sends for a Linux errno.
    ///
    /// Where the reference answers -127 although a client would repeat the request for an hour
    /// (weakness W31), the nearest code that ends the matter is chosen: an absent extended
    /// attribute and a loop of links are [`Code::InvalidRequest`].
    #[must_use]
    pub const fn from_errno(raw: i32) -> Self {
        match raw {
            errno::EACCES | errno::EPERM | errno::EROFS => Self::NotAuthorized,
            errno::ENOENT => Self::DoesntExist,
            errno::EEXIST => Self::AlreadyExists,
            errno::EFBIG => Self::TooBig,
            errno::ENOSPC | errno::EDQUOT => Self::NoSpace,
            errno::ENOMEM => Self::NoMemory,
            errno::EINVAL | errno::ENOSYS | errno::ENODATA | errno::ELOOP => Self::InvalidRequest,
            errno::EMFILE | errno::ENFILE => Self::TooManyOpen,
            errno::EBUSY | errno::ETXTBSY => Self::Busy,
            errno::EAGAIN => Self::TryAgain,
            errno::EBADF => Self::BadDescriptor,
            errno::EISDIR => Self::IsDirectory,
            errno::ENOTDIR => Self::NotDirectory,
            errno::ENOTEMPTY => Self::NotEmpty,
            errno::EXDEV => Self::CrossDevice,
            errno::EHOSTUNREACH => Self::Unreachable,
            errno::ESRCH => Self::NoSuchJob,
            errno::ESPIPE => Self::IsPipe,
            errno::ENOTSUP => Self::NotSupported,
            errno::ENAMETOOLONG => Self::NameTooLong,
            _ => Self::Unknown,
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Code {}

/// The Linux numbers of the table, so that the crate needs no system library.
mod errno {
    pub(super) const EPERM: i32 = 1;
    pub(super) const ENOENT: i32 = 2;
    pub(super) const ESRCH: i32 = 3;
    pub(super) const EIO: i32 = 5;
    pub(super) const EBADF: i32 = 9;
    pub(super) const EAGAIN: i32 = 11;
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const EACCES: i32 = 13;
    pub(super) const EBUSY: i32 = 16;
    pub(super) const EEXIST: i32 = 17;
    pub(super) const EXDEV: i32 = 18;
    pub(super) const ENOTDIR: i32 = 20;
    pub(super) const EISDIR: i32 = 21;
    pub(super) const EINVAL: i32 = 22;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const ETXTBSY: i32 = 26;
    pub(super) const EFBIG: i32 = 27;
    pub(super) const ENOSPC: i32 = 28;
    pub(super) const ESPIPE: i32 = 29;
    pub(super) const EROFS: i32 = 30;
    pub(super) const ENAMETOOLONG: i32 = 36;
    pub(super) const ENOSYS: i32 = 38;
    pub(super) const ENOTEMPTY: i32 = 39;
    pub(super) const ELOOP: i32 = 40;
    pub(super) const ENODATA: i32 = 61;
    pub(super) const ENOTSUP: i32 = 95;
    pub(super) const ECONNRESET: i32 = 104;
    pub(super) const EHOSTUNREACH: i32 = 113;
    pub(super) const EDQUOT: i32 = 122;
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn every_value_names_its_code_and_unassigned_ones_are_unknown() {
        for &code in Code::ALL {
            assert_eq!(Code::from_value(code.value()), code);
            assert!(code.value() < 0);
        }
        assert_eq!(Code::from_value(-25), Code::Unknown);
        assert_eq!(Code::from_value(i64::MIN), Code::Unknown);
    }

    #[test]
    fn a_code_survives_the_way_through_errno_where_both_tables_name_it() {
        for &code in Code::ALL {
            let back = Code::from_errno(code.errno());
            let one_way = matches!(
                code,
                Code::NotAuthenticated
                    | Code::Offline
                    | Code::TimedOut
                    | Code::Disconnected
                    | Code::Unreachable
            );
            assert_eq!(back == code, !one_way, "{code:?} became {back:?}");
        }
    }
}
