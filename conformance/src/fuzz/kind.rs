//! The kinds of requests: one for each variant of [`Request`]. Where a variant is added, the compiler
//! asks for its kind, and then for how to make one.

use chirp_proto::Request;

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// What a request asks for, without its words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the variant of `Request` of that name")]
        pub enum Kind { $($kind),* }

        impl std::str::FromStr for Kind {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().find(|kind| format!("{kind:?}") == name);
                found.copied().ok_or_else(|| format!("{name:?} is no request"))
            }
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Returns the kind of a request.
            #[must_use]
            pub const fn of(request: &Request) -> Self {
                match request { $(Request::$kind { .. } => Self::$kind),* }
            }
        }
    };
}

kinds! {
    Whoami, Whoareyou, Debug,
    Open, Close, Pread, Sread, Pwrite, Swrite, Read, Write, Lseek, Fstat, Fstatfs, Fsync, Ftruncate,
    Fchmod, Fchown, Fgetxattr, Flistxattr, Fsetxattr, Fremovexattr,
    Getfile, Putfile, Getstream, Putstream,
    Getdir, Getlongdir, Mkdir, Rmdir, Rmall, Unlink, Rename, Link, Symlink, Readlink, Localpath,
    Stat, Lstat, Statfs, Access, Chmod, Chown, Lchown, Truncate, Utime, Hash, Setrep,
    Getxattr, Lgetxattr, Listxattr, Llistxattr, Setxattr, Lsetxattr, Removexattr, Lremovexattr,
    Audit, Search, Getacl, Setacl, Resetacl, Thirdput,
    TicketRegister, TicketModify, TicketDelete, TicketGet, TicketList,
    Lsalloc, Mkalloc,
    JobCreate, JobCommit, JobKill, JobReap, JobStatus, JobWait,
    GetJobAttr, GetJobAttrDelayed, SetJobAttr, SetJobAttrDelayed, Ulog, Constrain, Lookup, Version,
    Features, Sha256, Store,
    Exec, ExecAttach, ExecStatus, ExecWait, ExecSignal, ExecList, ExecRemove, ExecOutput,
}
