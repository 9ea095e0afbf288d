//! Where the reply to a request ends (part 3), so that a player need not wait for silence.

use chirp_proto::parse::number_prefix;

use super::kind::Kind;

/// How a successful reply goes on behind its status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Not at all.
    Number,
    /// As many bytes as the status line says.
    Counted,
    /// So many lines.
    Lines(usize),
    /// As many lines as the status line says.
    CountedLines,
    /// Lines up to an empty one.
    UntilEmptyLine,
    /// Lines and counted texts up to a line `0` (`ticket_list`).
    Names,
    /// A counted text, a counted text, a line, and lines up to `0` (`ticket_get`).
    Ticket,
    /// Bytes up to the end of the connection.
    UntilEnd,
    /// A body is awaited, and then comes a second status line.
    GoAhead,
    /// A body is awaited up to its end, and then the connection ends.
    GoAheadUntilEnd,
}

impl Shape {
    /// Returns the shape of a kind's reply.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Whoami
            | Kind::Whoareyou
            | Kind::Pread
            | Kind::Sread
            | Kind::Read
            | Kind::Fgetxattr
            | Kind::Flistxattr
            | Kind::Getfile
            | Kind::Readlink
            | Kind::Localpath
            | Kind::Hash
            | Kind::Sha256
            | Kind::Getxattr
            | Kind::Lgetxattr
            | Kind::Listxattr
            | Kind::Llistxattr
            | Kind::JobStatus
            | Kind::JobWait
            | Kind::GetJobAttr
            | Kind::GetJobAttrDelayed
            | Kind::Lookup
            | Kind::Features
            | Kind::ExecStatus
            | Kind::ExecWait
            | Kind::ExecList
            | Kind::ExecOutput => Self::Counted,
            Kind::Open
            | Kind::Fstat
            | Kind::Fstatfs
            | Kind::Stat
            | Kind::Lstat
            | Kind::Statfs
            | Kind::Lsalloc => Self::Lines(1),
            Kind::Audit => Self::CountedLines,
            Kind::Getdir | Kind::Getlongdir | Kind::Getacl | Kind::Search => Self::UntilEmptyLine,
            Kind::TicketList => Self::Names,
            Kind::TicketGet => Self::Ticket,
            Kind::Getstream => Self::UntilEnd,
            Kind::Putfile => Self::GoAhead,
            Kind::Putstream => Self::GoAheadUntilEnd,
            Kind::Debug
            | Kind::Close
            | Kind::Pwrite
            | Kind::Swrite
            | Kind::Write
            | Kind::Lseek
            | Kind::Fsync
            | Kind::Ftruncate
            | Kind::Fchmod
            | Kind::Fchown
            | Kind::Fsetxattr
            | Kind::Fremovexattr
            | Kind::Mkdir
            | Kind::Rmdir
            | Kind::Rmall
            | Kind::Unlink
            | Kind::Rename
            | Kind::Link
            | Kind::Symlink
            | Kind::Access
            | Kind::Chmod
            | Kind::Chown
            | Kind::Lchown
            | Kind::Truncate
            | Kind::Utime
            | Kind::Setrep
            | Kind::Setxattr
            | Kind::Lsetxattr
            | Kind::Removexattr
            | Kind::Lremovexattr
            | Kind::Setacl
            | Kind::Resetacl
            | Kind::Thirdput
            | Kind::TicketRegister
            | Kind::TicketModify
            | Kind::TicketDelete
            | Kind::Mkalloc
            | Kind::JobCreate
            | Kind::JobCommit
            | Kind::JobKill
            | Kind::JobReap
            | Kind::SetJobAttr
            | Kind::SetJobAttrDelayed
            | Kind::Ulog
            | Kind::Constrain
            | Kind::Version
            | Kind::Store
            | Kind::Exec
            | Kind::ExecAttach
            | Kind::ExecSignal
            | Kind::ExecRemove => Self::Number,
        }
    }

    /// Reports whether `reply` is whole, as far as it can be told without the end of the connection.
    /// For those that await a body, the first status line is the whole reply.
    #[must_use]
    pub fn is_complete(self, reply: &[u8]) -> bool {
        let Some((status, rest)) = line(reply) else {
            return false;
        };
        // What is no number is a difference; there is nothing more to wait for.
        let Some(status) = number_prefix(status) else {
            return true;
        };
        if status < 0 {
            return true;
        }
        match self {
            Self::Number | Self::GoAhead | Self::GoAheadUntilEnd => true,
            Self::Counted => counted(rest, status).is_some(),
            Self::Lines(count) => lines(rest, count),
            Self::CountedLines => lines(rest, usize::try_from(status).unwrap_or(usize::MAX)),
            Self::UntilEmptyLine => {
                rest.starts_with(b"\n") || rest.windows(2).any(|pair| pair == b"\n\n")
            }
            Self::Names => names(rest),
            Self::Ticket => ticket(rest).is_some(),
            Self::UntilEnd => false,
        }
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    Some((line, rest.get(1..).unwrap_or_default()))
}

fn lines(bytes: &[u8], count: usize) -> bool {
    bytes.iter().filter(|byte| **byte == b'\n').count() >= count
}

/// Returns what stands behind `count` bytes.
fn counted(bytes: &[u8], count: i64) -> Option<&[u8]> {
    bytes.get(usize::try_from(count).ok()?..)
}

/// Returns what stands behind a line with a count and as many bytes.
fn counted_text(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = line(bytes)?;
    counted(rest, number_prefix(length)?)
}

fn names(mut rest: &[u8]) -> bool {
    loop {
        match line(rest) {
            None => return false,
            Some((b"0", _)) => return true,
            Some(_) => match counted_text(rest) {
                None => return false,
                Some(behind) => rest = behind,
            },
        }
    }
}

fn ticket(rest: &[u8]) -> Option<()> {
    let rest = counted_text(rest)?;
    let rest = counted_text(rest)?;
    let (_, mut rest) = line(rest)?;
    loop {
        let (mask, behind) = line(rest)?;
        if mask == b"0" {
            return Some(());
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_completes_a_reply() {
        for (shape, reply) in [
            (Shape::Number, &b"0\n"[..]),
            (Shape::Number, b"-3\n"),
            (Shape::Counted, b"3\nabc"),
            (Shape::Counted, b"-2\n"),
            (Shape::Lines(1), b"0\n1 2 3\n"),
            (Shape::CountedLines, b"2\na\nb\n"),
            (Shape::UntilEmptyLine, b"0\n.\n..\n\n"),
            (Shape::UntilEmptyLine, b"0\n\n"),
            (Shape::Names, b"0\n3\nabc0\n"),
            (Shape::Ticket, b"0\n4\nunix3\nabc3600\n/ n\n0\n"),
            (Shape::GoAhead, b"0\n"),
        ] {
            assert!(shape.is_complete(reply), "{shape:?}");
            let (half, _) = reply.split_at(reply.len() - 1);
            assert!(!shape.is_complete(half), "{shape:?}");
        }
        assert!(!Shape::UntilEnd.is_complete(b"0\nabc"));
        assert!(Shape::UntilEnd.is_complete(b"-3\n"));
    }
}
