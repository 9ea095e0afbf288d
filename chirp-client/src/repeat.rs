//! What it means to send a request once more, after a connection that took it was lost.

use chirp_proto::Request;
use chirp_proto::request::XattrFlags;

/// What a second time does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It only looks: nothing but time is lost.
    Looks,
    /// It ends with the state that the first time ended with, and answers the same.
    Sets,
    /// It is refused, or does something once more.
    Changes,
}

/// Says what a request's second time does. There is no other such table: whoever adds a request says it
/// here.
pub(crate) const fn repeat(request: &Request) -> Repeat {
    use Request as R;
    match request {
        R::Whoami { .. }
        | R::Whoareyou { .. }
        | R::Pread { .. }
        | R::Sread { .. }
        | R::Fstat { .. }
        | R::Fstatfs { .. }
        | R::Fgetxattr { .. }
        | R::Flistxattr { .. }
        | R::Getfile { .. }
        | R::Getstream { .. }
        | R::Getdir { .. }
        | R::Getlongdir { .. }
        | R::Readlink { .. }
        | R::Localpath { .. }
        | R::Stat { .. }
        | R::Lstat { .. }
        | R::Statfs { .. }
        | R::Access { .. }
        | R::Hash { .. }
        | R::Getxattr { .. }
        | R::Lgetxattr { .. }
        | R::Listxattr { .. }
        | R::Llistxattr { .. }
        | R::Audit { .. }
        | R::Search { .. }
        | R::Getacl { .. }
        | R::TicketGet { .. }
        | R::TicketList { .. }
        | R::Lsalloc { .. }
        | R::JobStatus { .. }
        | R::JobWait { .. }
        | R::GetJobAttr { .. }
        | R::GetJobAttrDelayed { .. }
        | R::Lookup { .. }
        | R::Version
        | R::Features
        | R::Sha256 { .. }
        | R::ExecStatus { .. }
        | R::ExecWait { .. }
        | R::ExecList
        | R::ExecOutput { .. } => Repeat::Looks,

        R::Open { flags, .. } if flags.exclusive => Repeat::Changes,
        R::Open { flags, .. } if !flags.create && !flags.truncate => Repeat::Looks,
        // Attributes that must not exist.
        R::Setxattr { flags, .. } | R::Lsetxattr { flags, .. } | R::Fsetxattr { flags, .. }
            if matches!(flags, XattrFlags::Create) =>
        {
            Repeat::Changes
        }

        R::Open { .. }
        | R::Pwrite { .. }
        | R::Swrite { .. }
        | R::Store { .. }
        | R::Fsync { .. }
        | R::Ftruncate { .. }
        | R::Fchmod { .. }
        | R::Fchown { .. }
        | R::Fsetxattr { .. }
        // A whole file, whatever came of the first time.
        | R::Putfile { .. }
        | R::Putstream { .. }
        | R::Chmod { .. }
        | R::Chown { .. }
        | R::Lchown { .. }
        | R::Truncate { .. }
        | R::Utime { .. }
        | R::Setrep { .. }
        | R::Setxattr { .. }
        | R::Lsetxattr { .. }
        | R::Setacl { .. }
        | R::Resetacl { .. }
        | R::Thirdput { .. }
        | R::TicketRegister { .. }
        | R::TicketModify { .. }
        // What is committed or reaped already is passed over with success (part 9.3).
        | R::JobCommit { .. }
        | R::JobReap { .. }
        | R::SetJobAttr { .. }
        | R::SetJobAttrDelayed { .. }
        | R::Constrain { .. }
        | R::Debug { .. } => Repeat::Sets,

        R::Close { .. }
        | R::Fremovexattr { .. }
        | R::Mkdir { .. }
        | R::Rmdir { .. }
        | R::Rmall { .. }
        | R::Unlink { .. }
        | R::Rename { .. }
        | R::Link { .. }
        | R::Symlink { .. }
        | R::Removexattr { .. }
        | R::Lremovexattr { .. }
        | R::TicketDelete { .. }
        | R::Mkalloc { .. }
        | R::JobCreate { .. }
        | R::JobKill { .. }
        // They go on from where the first time left the descriptor.
        | R::Read { .. }
        | R::Write { .. }
        | R::Lseek { .. }
        | R::Ulog { .. }
        // Taking over once more takes over from oneself; what was acknowledged is gone.
        | R::Exec { .. }
        | R::ExecAttach { .. }
        | R::ExecSignal { .. }
        | R::ExecRemove { .. } => Repeat::Changes,
    }
}

#[cfg(test)]
mod tests {
    use chirp_proto::VirtualPath;
    use chirp_proto::request::OpenFlags;

    use super::*;

    #[test]
    fn what_depends_on_flags_is_told_apart() {
        let open = |letters: &[u8]| {
            let (path, flags) = (VirtualPath::root(), OpenFlags::parse(letters));
            repeat(&Request::Open {
                path,
                flags,
                mode: 0,
            })
        };
        assert_eq!(open(b"r"), Repeat::Looks);
        assert_eq!(open(b"rw"), Repeat::Looks);
        assert_eq!(open(b"wct"), Repeat::Sets);
        assert_eq!(open(b"wcx"), Repeat::Changes);
        let set = |flags| {
            repeat(&Request::Setxattr {
                path: VirtualPath::root(),
                name: Vec::new(),
                length: 0,
                flags,
            })
        };
        assert_eq!(set(XattrFlags::Either), Repeat::Sets);
        assert_eq!(set(XattrFlags::Create), Repeat::Changes);
        assert_eq!(set(XattrFlags::Replace), Repeat::Sets);
    }
}
