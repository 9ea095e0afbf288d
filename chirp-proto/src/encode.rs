//! The only writer of wire bytes: request lines for clients, status lines for servers.

use bytes::{BufMut, BytesMut};

use crate::code::Code;
use crate::dialect::{self, Dialect};
use crate::path::VirtualPath;
use crate::request::{Request, Stride};

/// Appends a success or count as a status line.
pub fn number(value: u64, out: &mut BytesMut) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
    out.put_u8(b'\n');
}

/// Appends a failure as the bare number that every client understands.
pub fn failure(code: Code, out: &mut BytesMut) {
    out.put_slice(itoa::Buffer::new().format(code.value()).as_bytes());
    out.put_u8(b'\n');
}

/// Appends a failure with words, for the verbs of the exec extension. Line ends in the words become
/// blanks.
pub fn failure_with_words(code: Code, words: &str, out: &mut BytesMut) {
    out.put_slice(itoa::Buffer::new().format(code.value()).as_bytes());
    out.put_u8(b' ');
    out.extend(words.bytes().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        other => other,
    }));
    out.put_u8(b'\n');
}

/// Appends bytes with their count before them, as `whoami` and `readlink` answer.
pub fn counted(data: &[u8], out: &mut BytesMut) {
    number(data.len() as u64, out);
    out.put_slice(data);
}

/// Appends a request line. A body, if the request has one, is for the caller to send.
///
/// Words that are not paths (subjects, rights, host names) go out as they are: the protocol has no
/// escape for them. [`is_word`] tells whether such a word survives.
pub fn request(request: &Request, out: &mut BytesMut) {
    request_in(Dialect::Plain, request, out);
}

/// Appends a request line as a dialect has it; [`request()`] is for plain ones. In HTCondor's every word
/// but an empty one survives.
pub fn request_in(dialect: Dialect, request: &Request, out: &mut BytesMut) {
    Line { dialect, out }.request(request);
    out.put_u8(b'\n');
}

/// Reports whether bytes can stand as one word of a request line.
#[must_use]
pub fn is_word(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| !matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n'))
}

/// A line under construction.
struct Line<'a> {
    dialect: Dialect,
    out: &'a mut BytesMut,
}

impl Line<'_> {
    fn verb(&mut self, verb: &str) -> &mut Self {
        self.out.put_slice(verb.as_bytes());
        self
    }

    fn raw(&mut self, word: &[u8]) -> &mut Self {
        self.out.put_u8(b' ');
        match self.dialect {
            Dialect::Plain => self.out.put_slice(word),
            Dialect::Condor => dialect::escape_into(word, self.out),
        }
        self
    }

    fn path(&mut self, path: &VirtualPath) -> &mut Self {
        self.out.put_u8(b' ');
        match self.dialect {
            Dialect::Plain => path.encode_into(self.out),
            Dialect::Condor => dialect::escape_into(path.as_bytes(), self.out),
        }
        self
    }

    fn n(&mut self, value: impl itoa::Integer) -> &mut Self {
        self.raw(itoa::Buffer::new().format(value).as_bytes())
    }

    fn stride(&mut self, stride: &Stride) -> &mut Self {
        self.n(stride.length);
        match self.dialect {
            Dialect::Plain => self.n(stride.piece).n(stride.every).n(stride.offset),
            Dialect::Condor => self.n(stride.offset).n(stride.piece).n(stride.every),
        }
    }

    fn request(&mut self, request: &Request) {
        use Request as R;
        match request {
            R::Whoami { limit } => self.verb("whoami").n(*limit),
            R::Whoareyou { host, limit } => self.verb("whoareyou").raw(host).n(*limit),
            R::Debug { flag } => self.verb("debug").raw(flag),

            R::Open { path, flags, mode } => {
                let flags = flags.to_string();
                self.verb("open").path(path).raw(flags.as_bytes()).n(*mode)
            }
            R::Close { fd } => self.verb("close").n(*fd),
            R::Pread { fd, length, offset } => self.verb("pread").n(*fd).n(*length).n(*offset),
            R::Sread { fd, stride } => self.verb("sread").n(*fd).stride(stride),
            R::Pwrite { fd, length, offset } => self.verb("pwrite").n(*fd).n(*length).n(*offset),
            R::Swrite { fd, stride } => self.verb("swrite").n(*fd).stride(stride),
            R::Fstat { fd } => self.verb("fstat").n(*fd),
            R::Fstatfs { fd } => self.verb("fstatfs").n(*fd),
            R::Fsync { fd } => self.verb("fsync").n(*fd),
            R::Ftruncate { fd, length } => self.verb("ftruncate").n(*fd).n(*length),
            R::Fchmod { fd, mode } => self.verb("fchmod").n(*fd).n(*mode),
            R::Fchown { fd, uid, gid } => self.verb("fchown").n(*fd).n(*uid).n(*gid),
            R::Fgetxattr { fd, name } => self.verb("fgetxattr").n(*fd).raw(name),
            R::Flistxattr { fd } => self.verb("flistxattr").n(*fd),
            R::Fsetxattr {
                fd,
                name,
                length,
                flags,
            } => self
                .verb("fsetxattr")
                .n(*fd)
                .raw(name)
                .n(*length)
                .n(flags.number()),
            R::Fremovexattr { fd, name } => self.verb("fremovexattr").n(*fd).raw(name),

            R::Getfile { path } => self.verb("getfile").path(path),
            R::Putfile { path, mode, length } => {
                self.verb("putfile").path(path).n(*mode).n(*length)
            }
            R::Getstream { path } => self.verb("getstream").path(path),
            R::Putstream { path } => self.verb("putstream").path(path),

            R::Getdir { path } => self.verb("getdir").path(path),
            R::Getlongdir { path } => self.verb("getlongdir").path(path),
            R::Mkdir { path, mode } => self.verb("mkdir").path(path).n(*mode),
            R::Rmdir { path } => self.verb("rmdir").path(path),
            R::Rmall { path } => self.verb("rmall").path(path),
            R::Unlink { path } => self.verb("unlink").path(path),
            R::Rename { from, to } => self.verb("rename").path(from).path(to),
            R::Link { from, to } => self.verb("link").path(from).path(to),
            R::Symlink { target, path } => self.verb("symlink").raw(target).path(path),
            R::Readlink { path, limit } => self.verb("readlink").path(path).n(*limit),
            R::Localpath { path } => self.verb("localpath").path(path),

            R::Stat { path } => self.verb("stat").path(path),
            R::Lstat { path } => self.verb("lstat").path(path),
            R::Statfs { path } => self.verb("statfs").path(path),
            R::Access { path, mode } => self.verb("access").path(path).n(mode.bits()),
            R::Chmod { path, mode } => self.verb("chmod").path(path).n(*mode),
            R::Chown { path, uid, gid } => self.verb("chown").path(path).n(*uid).n(*gid),
            R::Lchown { path, uid, gid } => self.verb("lchown").path(path).n(*uid).n(*gid),
            R::Truncate { path, length } => self.verb("truncate").path(path).n(*length),
            R::Utime { path, atime, mtime } => self.verb("utime").path(path).n(*atime).n(*mtime),
            R::Hash { algorithm, path } => self
                .verb("hash")
                .raw(algorithm.name().as_bytes())
                .path(path),
            R::Setrep { path, count } => self.verb("setrep").path(path).n(*count),
            R::Getxattr { path, name } => self.verb("getxattr").path(path).raw(name),
            R::Lgetxattr { path, name } => self.verb("lgetxattr").path(path).raw(name),
            R::Listxattr { path } => self.verb("listxattr").path(path),
            R::Llistxattr { path } => self.verb("llistxattr").path(path),
            R::Setxattr {
                path,
                name,
                length,
                flags,
            } => self
                .verb("setxattr")
                .path(path)
                .raw(name)
                .n(*length)
                .n(flags.number()),
            R::Lsetxattr {
                path,
                name,
                length,
                flags,
            } => self
                .verb("lsetxattr")
                .path(path)
                .raw(name)
                .n(*length)
                .n(flags.number()),
            R::Removexattr { path, name } => self.verb("removexattr").path(path).raw(name),
            R::Lremovexattr { path, name } => self.verb("lremovexattr").path(path).raw(name),
            R::Audit { path } => self.verb("audit").path(path),
            R::Search {
                patterns,
                roots,
                flags,
            } => self.verb("search").raw(patterns).raw(roots).n(*flags),

            R::Getacl { path } => self.verb("getacl").path(path),
            R::Setacl {
                path,
                subject,
                rights,
            } => self.verb("setacl").path(path).raw(subject).raw(rights),
            R::Resetacl { path, rights } => self.verb("resetacl").path(path).raw(rights),

            R::Thirdput { path, host, target } => {
                self.verb("thirdput").path(path).raw(host).path(target)
            }

            R::TicketRegister {
                subject,
                seconds,
                length,
            } => self
                .verb("ticket_register")
                .raw(subject)
                .n(*seconds)
                .n(*length),
            R::TicketModify {
                ticket,
                path,
                rights,
            } => self
                .verb("ticket_modify")
                .ticket(ticket)
                .path(path)
                .raw(rights),
            R::TicketDelete { ticket } => self.verb("ticket_delete").ticket(ticket),
            R::TicketGet { ticket } => self.verb("ticket_get").ticket(ticket),
            R::TicketList { subject } => self.verb("ticket_list").raw(subject),

            R::Lsalloc { path } => self.verb("lsalloc").path(path),
            R::Mkalloc { path, length, mode } => {
                self.verb("mkalloc").path(path).n(*length).n(*mode)
            }

            R::JobCreate { length } => self.verb("job_create").n(*length),
            R::JobCommit { length } => self.verb("job_commit").n(*length),
            R::JobKill { length } => self.verb("job_kill").n(*length),
            R::JobReap { length } => self.verb("job_reap").n(*length),
            R::JobStatus { length } => self.verb("job_status").n(*length),
            R::JobWait { id, seconds } => self.verb("job_wait").n(*id).n(*seconds),

            R::Read { fd, length } => self.verb("read").n(*fd).n(*length),
            R::Write { fd, length } => self.verb("write").n(*fd).n(*length),
            R::Lseek { fd, offset, whence } => {
                self.verb("lseek").n(*fd).n(*offset).n(whence.number())
            }
            R::GetJobAttr { name } => self.verb("get_job_attr").raw(name),
            R::GetJobAttrDelayed { name } => self.verb("get_job_attr_delayed").raw(name),
            R::SetJobAttr { name, value } => self.verb("set_job_attr").raw(name).raw(value),
            R::SetJobAttrDelayed { name, value } => {
                self.verb("set_job_attr_delayed").raw(name).raw(value)
            }
            R::Ulog { text } => self.verb("ulog").raw(text),
            R::Constrain { expression } => self.verb("constrain").raw(expression),
            R::Lookup { path } => self.verb("lookup").path(path),
            R::Version => self.verb("version"),

            R::Features => self.verb("features"),
            R::Sha256 { path } => self.verb("sha256").path(path),
            R::Store {
                path,
                mode,
                mtime,
                length,
            } => self.verb("store").path(path).n(*mode).n(*mtime).n(*length),
            R::Exec { length } => self.verb("exec").n(*length),
            R::ExecAttach {
                execution,
                out,
                err,
            } => self
                .verb("exec_attach")
                .execution(execution)
                .n(*out)
                .n(*err),
            R::ExecStatus { execution } => self.verb("exec_status").execution(execution),
            R::ExecWait { execution, seconds } => {
                self.verb("exec_wait").execution(execution).n(*seconds)
            }
            R::ExecSignal { execution, number } => {
                self.verb("exec_signal").execution(execution).n(*number)
            }
            R::ExecList => self.verb("exec_list"),
            R::ExecRemove { execution } => self.verb("exec_remove").execution(execution),
            R::ExecOutput {
                execution,
                stream,
                offset,
                length,
            } => self
                .verb("exec_output")
                .execution(execution)
                .raw(stream.name().as_bytes())
                .n(*offset)
                .n(*length),
        };
    }

    fn ticket(&mut self, ticket: &crate::request::TicketName) -> &mut Self {
        self.out.put_slice(b" ticket:");
        self.out.put_slice(ticket.digits().as_bytes());
        self
    }

    fn execution(&mut self, execution: &crate::request::ExecutionName) -> &mut Self {
        self.raw(execution.to_string().as_bytes())
    }
}
