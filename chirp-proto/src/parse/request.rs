//! One request line to one [`Request`], by its verb.

use std::borrow::Cow;

use super::token::{number_prefix, word};
use crate::code::Code;
use crate::dialect::{self, Dialect};
use crate::limits::IO_MAX;
use crate::path::VirtualPath;
use crate::request::{
    AccessMode, Descriptor, ExecutionName, HashAlgorithm, OpenFlags, OutputStream, Request, Stride,
    TicketName, XattrFlags,
};

/// Seconds that one `exec_wait` may last at most.
const EXEC_WAIT_MAX: u64 = 30;

/// Why a line is no request, and how long the body is that follows it all the same.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) code: Code,
    pub(super) body: u64,
}

impl From<Code> for Malformed {
    fn from(code: Code) -> Self {
        Self { code, body: 0 }
    }
}

/// A body of this length follows even though the request is refused.
pub(super) fn after_body(body: u64) -> impl Fn(Code) -> Malformed {
    move |code| Malformed { code, body }
}

/// Parses a line without LF and CR that is not empty.
pub(super) fn parse(line: &[u8], dialect: Dialect) -> Result<Request, Malformed> {
    // A verb starts in column one: a line that begins with a blank has an empty one.
    let blank = line.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    let (verb, rest) = line.split_at(blank.unwrap_or(line.len()));
    parse_verb(verb, &mut Words::new(dialect, rest))
}

/// Reads the words of a verb.
pub(super) fn parse_verb(verb: &[u8], w: &mut Words<'_>) -> Result<Request, Malformed> {
    if let Some(request) = parse_body_verb(verb, w)? {
        return Ok(request);
    }
    Ok(match verb {
        b"whoami" => Request::Whoami {
            limit: w.unsigned()?,
        },
        b"whoareyou" => Request::Whoareyou {
            host: w.text()?,
            limit: w.unsigned()?,
        },
        b"debug" => Request::Debug { flag: w.text()? },

        b"open" => Request::Open {
            path: w.path()?,
            flags: OpenFlags::parse(&w.word()?),
            mode: w.mode()?,
        },
        b"close" => Request::Close {
            fd: w.descriptor()?,
        },
        b"pread" => Request::Pread {
            fd: w.descriptor()?,
            length: w.unsigned()?,
            offset: w.unsigned()?,
        },
        b"sread" => Request::Sread {
            fd: w.descriptor()?,
            stride: w.stride()?,
        },
        b"fstat" => Request::Fstat {
            fd: w.descriptor()?,
        },
        b"fstatfs" => Request::Fstatfs {
            fd: w.descriptor()?,
        },
        b"fsync" => Request::Fsync {
            fd: w.descriptor()?,
        },
        b"ftruncate" => Request::Ftruncate {
            fd: w.descriptor()?,
            length: w.unsigned()?,
        },
        b"fchmod" => Request::Fchmod {
            fd: w.descriptor()?,
            mode: w.mode()?,
        },
        b"fchown" => Request::Fchown {
            fd: w.descriptor()?,
            uid: w.number()?,
            gid: w.number()?,
        },
        b"fgetxattr" => Request::Fgetxattr {
            fd: w.descriptor()?,
            name: w.text()?,
        },
        b"flistxattr" => Request::Flistxattr {
            fd: w.descriptor()?,
        },
        b"fremovexattr" => Request::Fremovexattr {
            fd: w.descriptor()?,
            name: w.text()?,
        },

        b"getfile" => Request::Getfile { path: w.path()? },
        b"putfile" => Request::Putfile {
            path: w.path()?,
            mode: w.mode()?,
            length: w.unsigned()?,
        },
        b"getstream" => Request::Getstream { path: w.path()? },
        b"putstream" => Request::Putstream { path: w.path()? },

        b"getdir" => Request::Getdir { path: w.path()? },
        b"getlongdir" => Request::Getlongdir { path: w.path()? },
        b"mkdir" => Request::Mkdir {
            path: w.path()?,
            mode: w.mode()?,
        },
        b"rmdir" => Request::Rmdir { path: w.path()? },
        b"rmall" => Request::Rmall { path: w.path()? },
        b"unlink" => Request::Unlink { path: w.path()? },
        b"rename" => Request::Rename {
            from: w.path()?,
            to: w.path()?,
        },
        b"link" => Request::Link {
            from: w.path()?,
            to: w.path()?,
        },
        b"symlink" => Request::Symlink {
            target: w.text()?,
            path: w.path()?,
        },
        b"readlink" => Request::Readlink {
            path: w.path()?,
            limit: w.unsigned()?,
        },
        b"localpath" => Request::Localpath { path: w.path()? },

        b"stat" => Request::Stat { path: w.path()? },
        b"lstat" => Request::Lstat { path: w.path()? },
        b"statfs" => Request::Statfs { path: w.path()? },
        b"access" => Request::Access {
            path: w.path()?,
            mode: w.access_mode()?,
        },
        b"chmod" => Request::Chmod {
            path: w.path()?,
            mode: w.mode()?,
        },
        b"chown" => Request::Chown {
            path: w.path()?,
            uid: w.number()?,
            gid: w.number()?,
        },
        b"lchown" => Request::Lchown {
            path: w.path()?,
            uid: w.number()?,
            gid: w.number()?,
        },
        b"truncate" => Request::Truncate {
            path: w.path()?,
            length: w.unsigned()?,
        },
        b"utime" => Request::Utime {
            path: w.path()?,
            atime: w.number()?,
            mtime: w.number()?,
        },
        b"md5" => Request::Hash {
            algorithm: HashAlgorithm::Md5,
            path: w.path()?,
        },
        b"hash" => Request::Hash {
            algorithm: w.algorithm()?,
            path: w.path()?,
        },
        b"setrep" => Request::Setrep {
            path: w.path()?,
            count: w.unsigned()?,
        },
        b"getxattr" => Request::Getxattr {
            path: w.path()?,
            name: w.text()?,
        },
        b"lgetxattr" => Request::Lgetxattr {
            path: w.path()?,
            name: w.text()?,
        },
        b"listxattr" => Request::Listxattr { path: w.path()? },
        b"llistxattr" => Request::Llistxattr { path: w.path()? },
        b"removexattr" => Request::Removexattr {
            path: w.path()?,
            name: w.text()?,
        },
        b"lremovexattr" => Request::Lremovexattr {
            path: w.path()?,
            name: w.text()?,
        },
        b"audit" => Request::Audit { path: w.path()? },
        b"search" => Request::Search {
            patterns: w.text()?,
            roots: w.text()?,
            flags: w.unsigned()?,
        },

        b"getacl" => Request::Getacl { path: w.path()? },
        b"setacl" => Request::Setacl {
            path: w.path()?,
            subject: w.text()?,
            rights: w.text()?,
        },
        b"resetacl" => Request::Resetacl {
            path: w.path()?,
            rights: w.text()?,
        },

        b"thirdput" => Request::Thirdput {
            path: w.path()?,
            host: w.text()?,
            target: w.path()?,
        },

        b"ticket_modify" => Request::TicketModify {
            ticket: w.ticket()?,
            path: w.path()?,
            rights: w.text()?,
        },
        b"ticket_delete" => Request::TicketDelete {
            ticket: w.ticket()?,
        },
        b"ticket_get" => Request::TicketGet {
            ticket: w.ticket()?,
        },
        b"ticket_list" => Request::TicketList { subject: w.text()? },

        b"lsalloc" => Request::Lsalloc { path: w.path()? },
        b"mkalloc" => Request::Mkalloc {
            path: w.path()?,
            length: w.unsigned()?,
            mode: w.mode()?,
        },
        b"job_wait" => Request::JobWait {
            id: w.number()?,
            seconds: w.number()?,
        },

        b"features" => Request::Features,
        b"sha256" => Request::Sha256 { path: w.path()? },
        b"exec_attach" => Request::ExecAttach {
            execution: w.execution()?,
            out: w.unsigned()?,
            err: w.unsigned()?,
        },
        b"exec_status" => Request::ExecStatus {
            execution: w.execution()?,
        },
        b"exec_wait" => Request::ExecWait {
            execution: w.execution()?,
            seconds: w.unsigned()?.min(EXEC_WAIT_MAX),
        },
        b"exec_signal" => Request::ExecSignal {
            execution: w.execution()?,
            number: w.mode()?,
        },
        b"exec_list" => Request::ExecList,
        b"exec_remove" => Request::ExecRemove {
            execution: w.execution()?,
        },
        b"exec_output" => Request::ExecOutput {
            execution: w.execution()?,
            stream: w.output_stream()?,
            offset: w.unsigned()?,
            length: w.unsigned()?,
        },
        _ => return Err(Code::InvalidRequest.into()),
    })
}

/// The verbs whose body follows at once (part 3.3 and 3.7). Where all words are there and numbers
/// are numbers, the client sends the body even if a number is out of range, so a refusal says how
/// much there is to drop. `None` for every other verb.
fn parse_body_verb(verb: &[u8], w: &mut Words<'_>) -> Result<Option<Request>, Malformed> {
    Ok(Some(match verb {
        b"pwrite" => {
            let (fd, length, offset) = (w.number()?, w.unsigned()?, w.number()?);
            let refuse = after_body(length);
            Request::Pwrite {
                fd: descriptor(fd).map_err(&refuse)?,
                length,
                offset: non_negative(offset).map_err(&refuse)?,
            }
        }
        b"swrite" => {
            let (fd, length) = (w.number()?, w.unsigned()?);
            let (piece, every, offset) = w.stride_numbers()?;
            let refuse = after_body(length);
            let fd = descriptor(fd).map_err(&refuse)?;
            let stride = Stride {
                length,
                piece: non_negative(piece).map_err(&refuse)?,
                every: non_negative(every).map_err(&refuse)?,
                offset: non_negative(offset).map_err(&refuse)?,
            };
            Request::Swrite { fd, stride }
        }
        b"fsetxattr" => {
            let fd = w.number()?;
            let name = w.text()?;
            let (length, flags) = w.xattr_value()?;
            let fd = descriptor(fd).map_err(after_body(length))?;
            Request::Fsetxattr {
                fd,
                name,
                length,
                flags,
            }
        }
        b"setxattr" | b"lsetxattr" => {
            let path = w.path();
            let name = w.text()?;
            let (length, flags) = w.xattr_value()?;
            let path = path.map_err(after_body(length))?;
            if verb == b"setxattr" {
                Request::Setxattr {
                    path,
                    name,
                    length,
                    flags,
                }
            } else {
                Request::Lsetxattr {
                    path,
                    name,
                    length,
                    flags,
                }
            }
        }
        b"ticket_register" => {
            let subject = w.text()?;
            // The reference takes what is no number for 0: expired at once.
            let seconds = number_prefix(&w.word()?).unwrap_or(0);
            let length = w.counted(Code::NoMemory)?;
            Request::TicketRegister {
                subject,
                seconds,
                length,
            }
        }
        b"job_create" => Request::JobCreate {
            length: w.counted(Code::NoMemory)?,
        },
        b"job_commit" => Request::JobCommit {
            length: w.counted(Code::NoMemory)?,
        },
        b"job_kill" => Request::JobKill {
            length: w.counted(Code::NoMemory)?,
        },
        b"job_reap" => Request::JobReap {
            length: w.counted(Code::NoMemory)?,
        },
        b"job_status" => Request::JobStatus {
            length: w.counted(Code::NoMemory)?,
        },
        b"store" => {
            let path = w.path();
            let (mode, mtime, length) = (w.mode()?, w.number()?, w.unsigned()?);
            let path = path.map_err(after_body(length))?;
            Request::Store {
                path,
                mode,
                mtime,
                length,
            }
        }
        b"exec" => Request::Exec {
            length: w.unsigned()?,
        },
        _ => return Ok(None),
    }))
}

pub(super) fn descriptor(number: i64) -> Result<Descriptor, Code> {
    // The reference narrows to 32 bits, so that 4294967296 reaches descriptor 0 (weakness W28).
    Descriptor::try_from(number).map_err(|_| Code::BadDescriptor)
}

fn non_negative(number: i64) -> Result<u64, Code> {
    u64::try_from(number).map_err(|_| Code::InvalidRequest)
}

/// The words of a line, read from left to right.
pub(super) struct Words<'a> {
    dialect: Dialect,
    rest: &'a [u8],
    /// Something is glued to the number that was read last. The reference reads a line by one pattern,
    /// in which that would be the next word: if there is to be one, the line is no request.
    glued: bool,
}

impl<'a> Words<'a> {
    pub(super) const fn new(dialect: Dialect, rest: &'a [u8]) -> Self {
        Self {
            dialect,
            rest,
            glued: false,
        }
    }

    fn word(&mut self) -> Result<Cow<'a, [u8]>, Code> {
        if self.glued && self.dialect == Dialect::Plain {
            return Err(Code::InvalidRequest);
        }
        let (rest, word) = match self.dialect {
            Dialect::Plain => {
                let (rest, word) = word(self.rest).map_err(|_| Code::InvalidRequest)?;
                (rest, Cow::Borrowed(word))
            }
            Dialect::Condor => {
                let (rest, word) = dialect::word(self.rest)?;
                (rest, Cow::Owned(word))
            }
        };
        self.rest = rest;
        Ok(word)
    }

    pub(super) fn text(&mut self) -> Result<Vec<u8>, Code> {
        self.word().map(Cow::into_owned)
    }

    pub(super) fn path(&mut self) -> Result<VirtualPath, Code> {
        let word = self.word()?;
        match self.dialect {
            Dialect::Plain => VirtualPath::from_wire(&word),
            Dialect::Condor => VirtualPath::from_decoded(&word),
        }
    }

    /// A number; what is glued to the last one is ignored.
    pub(super) fn number(&mut self) -> Result<i64, Code> {
        let word = self.word()?;
        let number = number_prefix(&word).ok_or(Code::InvalidRequest)?;
        let digits = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+"));
        self.glued = !digits.unwrap_or(&word).iter().all(u8::is_ascii_digit);
        Ok(number)
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, Code> {
        non_negative(self.number()?)
    }

    pub(super) fn descriptor(&mut self) -> Result<Descriptor, Code> {
        descriptor(self.number()?)
    }

    /// Permission bits: the low 32 bits of any number, of which the server uses few.
    fn mode(&mut self) -> Result<u32, Code> {
        let bits = self.number()? & i64::from(u32::MAX);
        u32::try_from(bits).map_err(|_| Code::InvalidRequest)
    }

    fn access_mode(&mut self) -> Result<AccessMode, Code> {
        u8::try_from(self.number()?)
            .ok()
            .and_then(AccessMode::new)
            .ok_or(Code::InvalidRequest)
    }

    fn stride(&mut self) -> Result<Stride, Code> {
        let length = self.unsigned()?;
        let (piece, every, offset) = self.stride_numbers()?;
        Ok(Stride {
            length,
            piece: non_negative(piece)?,
            every: non_negative(every)?,
            offset: non_negative(offset)?,
        })
    }

    /// Piece, distance and offset, whose order is the dialect's.
    fn stride_numbers(&mut self) -> Result<(i64, i64, i64), Code> {
        let numbers = [self.number()?, self.number()?, self.number()?];
        Ok(match (self.dialect, numbers) {
            (Dialect::Plain, [piece, every, offset])
            | (Dialect::Condor, [offset, piece, every]) => (piece, every, offset),
        })
    }

    fn algorithm(&mut self) -> Result<HashAlgorithm, Code> {
        match &*self.word()? {
            b"md5" => Ok(HashAlgorithm::Md5),
            b"sha1" => Ok(HashAlgorithm::Sha1),
            _ => Err(Code::InvalidRequest),
        }
    }

    fn ticket(&mut self) -> Result<TicketName, Code> {
        TicketName::parse(&self.word()?).ok_or(Code::InvalidRequest)
    }

    fn execution(&mut self) -> Result<ExecutionName, Code> {
        ExecutionName::parse(&self.word()?).ok_or(Code::InvalidRequest)
    }

    fn output_stream(&mut self) -> Result<OutputStream, Code> {
        match &*self.word()? {
            b"out" => Ok(OutputStream::Out),
            b"err" => Ok(OutputStream::Err),
            _ => Err(Code::InvalidRequest),
        }
    }

    /// The length of a body that is kept in memory: above [`IO_MAX`] the body is dropped and the
    /// answer is `too_long`.
    fn counted(&mut self, too_long: Code) -> Result<u64, Malformed> {
        let length = self.unsigned()?;
        if length > IO_MAX {
            return Err(Malformed {
                code: too_long,
                body: length,
            });
        }
        Ok(length)
    }

    fn xattr_value(&mut self) -> Result<(u64, XattrFlags), Malformed> {
        let length = self.counted(Code::NoMemory)?;
        let flags = match self.number().map_err(after_body(length))? {
            0 => XattrFlags::Either,
            1 => XattrFlags::Create,
            2 => XattrFlags::Replace,
            _ => {
                return Err(Malformed {
                    code: Code::InvalidRequest,
                    body: length,
                });
            }
        };
        Ok((length, flags))
    }
}
