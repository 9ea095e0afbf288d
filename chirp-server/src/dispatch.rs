//! Requests to handlers: the whole list of verbs, each with the rights it needs and what it does.

use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;

use chirp_proto::acl::Rights;
use chirp_proto::request::HashAlgorithm;
use chirp_proto::{Code, Request};

use crate::authorize::Failure;
use crate::export::Export;
use crate::handlers::body::Refused;
use crate::handlers::{
    acl, alloc, audit, body, digest, dir, file, identity, metadata, name, position, search, stream,
    third, ticket, xattr,
};
use crate::outcome::Outcome;
use crate::session::Session;
use crate::vfs::Follow;

/// How often a request is begun anew because its object was replaced between check and use.
const RACES_MAX: usize = 64;

/// The version of the protocol in HTCondor's count.
const CONDOR_VERSION: u64 = 2;

/// Carries out a request, or says what the connection has to do for it.
///
/// The verbs of the exec extension are not for here: where it is on, the connection answers them.
#[must_use]
pub fn dispatch(export: &Export, session: &mut Session, request: &Request) -> Outcome {
    for _ in 0..RACES_MAX {
        match attempt(export, session, request) {
            Ok(outcome) => return outcome,
            Err(Failure::Stale) => {}
            Err(Failure::Code(code)) => return refuse(request, code),
            Err(Failure::Group(group)) => return Outcome::Group(group),
        }
    }
    refuse(request, Code::TryAgain)
}

/// A refused request's body is on its way nevertheless: it is taken and dropped.
pub(crate) fn refuse(request: &Request, code: Code) -> Outcome {
    match request.body_length() {
        0 => Outcome::Failed(code),
        length => Outcome::Receive {
            length,
            sink: Box::new(Refused(code)),
        },
    }
}

fn attempt(export: &Export, session: &mut Session, request: &Request) -> Result<Outcome, Failure> {
    use Follow::{No, Yes};
    let dialect = session.dialect();
    let (who, descriptors) = session.parts_mut();
    let (subject, door) = (who.subject(), export.door(who));
    let space = export.space();
    match request {
        Request::Whoami { limit } => Ok(identity::whoami(subject, *limit)),
        Request::Whoareyou { host, limit } => third::whoareyou(host, *limit),
        Request::Thirdput { path, host, target } => third::thirdput(door, who, path, host, target),
        Request::Debug { flag } => identity::debug(export.is_superuser(who), flag),

        Request::Open { path, flags, mode } => {
            file::open(space, door, descriptors, path, *flags, *mode)
        }
        Request::Close { fd } => file::close(descriptors, *fd),
        Request::Pread { fd, length, offset } => {
            file::pread(descriptors.file(*fd)?, *length, *offset)
        }
        Request::Sread { fd, stride } => file::sread(descriptors.file(*fd)?, *stride),
        Request::Pwrite { fd, length, offset } => {
            file::pwrite(space, descriptors.file(*fd)?, *length, *offset)
        }
        Request::Swrite { fd, stride } => file::swrite(space, descriptors.file(*fd)?, *stride),
        Request::Fstat { fd } => file::fstat(descriptors.file(*fd)?),
        Request::Fstatfs { fd } => file::fstatfs(space, descriptors.file(*fd)?),
        Request::Fsync { fd } => Ok(file::fsync(descriptors.file(*fd)?)),
        Request::Ftruncate { fd, length } => {
            file::ftruncate(space, descriptors.file(*fd)?, *length)
        }
        Request::Fchmod { fd, mode } => {
            file::fchmod(descriptors.file(*fd)?, *mode, export.is_read_only())
        }
        Request::Fchown { fd, uid: _, gid: _ } => file::fchown(descriptors.file(*fd)?),
        Request::Read { fd, length } => position::read(descriptors.file(*fd)?, *length),
        Request::Write { fd, length } => position::write(space, descriptors.file(*fd)?, *length),
        Request::Lseek { fd, offset, whence } => {
            position::lseek(descriptors.file(*fd)?, *offset, *whence)
        }

        Request::Fgetxattr { fd, name } => {
            xattr::get(&*xattr::readable(descriptors.file(*fd)?)?, name)
        }
        Request::Flistxattr { fd } => xattr::list(&*xattr::readable(descriptors.file(*fd)?)?),
        Request::Fsetxattr {
            fd,
            name,
            length,
            flags,
        } => {
            let file = xattr::writable(descriptors.file(*fd)?)?;
            xattr::set(space, file, name, *length, *flags)
        }
        Request::Fremovexattr { fd, name } => {
            xattr::remove(&*xattr::writable(descriptors.file(*fd)?)?, name)
        }

        Request::Getfile { path } => body::getfile(&door.look(path, Yes, Rights::READ)?),
        Request::Putfile { path, mode, length } => {
            let (target, replace) = door.put(path)?;
            body::putfile(export, &target, replace, *mode, *length)
        }

        Request::Store {
            path,
            mode,
            mtime,
            length,
        } => {
            let (target, replace) = door.put(path)?;
            body::store(export, &target, replace, (*mode, *mtime), *length)
        }

        Request::Getstream { path } => stream::getstream(&door.look(path, Yes, Rights::READ)?),
        Request::Putstream { path } => {
            let (target, replace) = door.put(path)?;
            stream::putstream(space, &target, replace)
        }

        Request::Getdir { path } => {
            let dir = door.directory(path, Rights::LIST)?;
            dir::listing(export, &dir, false, dialect)
        }
        Request::Getlongdir { path } => {
            let dir = door.directory(path, Rights::LIST)?;
            dir::listing(export, &dir, true, dialect)
        }
        // The mode is always 0700 (part 3.6).
        Request::Mkdir { path, mode: _ } => {
            let (target, acl) = door.mkdir(path)?;
            name::mkdir(export, &target, &acl)
        }
        Request::Rmdir { path } => name::rmdir(export, &door.delete(path)?),
        Request::Rmall { path } => name::rmall(export, &door.delete(path)?),
        Request::Unlink { path } => name::unlink(export, &door.delete(path)?),
        Request::Rename { from, to } => name::rename(export, &door.take(from)?, &door.create(to)?),
        Request::Link { from, to } => {
            let source = door.change(from, No, Rights::READ.union(Rights::WRITE))?;
            name::link(export, &source, &door.create(to)?)
        }
        Request::Symlink { target, path } => name::symlink(&door.create(path)?, target),
        Request::Readlink { path, limit } => {
            name::readlink(&door.look(path, No, Rights::READ)?, *limit)
        }
        Request::Localpath { path } => {
            Ok(name::localpath(&door.look(path, Yes, Rights::LIST)?, path))
        }

        Request::Stat { path } => metadata::stat(&door.look(path, Yes, Rights::LIST)?),
        Request::Lstat { path } => metadata::stat(&door.look(path, No, Rights::LIST)?),
        Request::Statfs { path } => metadata::statfs(export, &door.look(path, Yes, Rights::LIST)?),
        Request::Access { path, mode } => metadata::access(&door.access(path, *mode)?, *mode),
        Request::Chmod { path, mode } => {
            metadata::chmod(&door.change(path, Yes, Rights::WRITE)?, *mode)
        }
        Request::Chown {
            path,
            uid: _,
            gid: _,
        }
        | Request::Lchown {
            path,
            uid: _,
            gid: _,
        } => metadata::chown(&door.change(path, Yes, Rights::WRITE)?),
        Request::Truncate { path, length } => {
            metadata::truncate(export, &door.change(path, Yes, Rights::WRITE)?, *length)
        }
        Request::Utime { path, atime, mtime } => {
            metadata::utime(&door.change(path, Yes, Rights::WRITE)?, *atime, *mtime)
        }
        Request::Getxattr { path, name } => {
            xattr::get(&*xattr::of(&door.look(path, Yes, Rights::READ)?)?, name)
        }
        Request::Lgetxattr { path, name } => {
            xattr::get(&*xattr::of(&door.look(path, No, Rights::READ)?)?, name)
        }
        Request::Listxattr { path } => {
            xattr::list(&*xattr::of(&door.look(path, Yes, Rights::READ)?)?)
        }
        Request::Llistxattr { path } => {
            xattr::list(&*xattr::of(&door.look(path, No, Rights::READ)?)?)
        }
        Request::Setxattr {
            path,
            name,
            length,
            flags,
        } => {
            let file = xattr::of(&door.change(path, Yes, Rights::WRITE)?)?;
            xattr::set(space, file, name, *length, *flags)
        }
        Request::Lsetxattr {
            path,
            name,
            length,
            flags,
        } => {
            let file = xattr::of(&door.change(path, No, Rights::WRITE)?)?;
            xattr::set(space, file, name, *length, *flags)
        }
        Request::Removexattr { path, name } => {
            xattr::remove(&*xattr::of(&door.change(path, Yes, Rights::WRITE)?)?, name)
        }
        Request::Lremovexattr { path, name } => {
            xattr::remove(&*xattr::of(&door.change(path, No, Rights::WRITE)?)?, name)
        }
        Request::Hash { algorithm, path } => {
            let source = door.look(path, Yes, Rights::READ)?;
            match algorithm {
                HashAlgorithm::Md5 => digest::digest::<Md5>(&source),
                HashAlgorithm::Sha1 => digest::digest::<Sha1>(&source),
            }
        }
        Request::Sha256 { path } => {
            digest::digest::<Sha256>(&door.look(path, Yes, Rights::READ)?)
        }

        Request::Audit { path } => audit::audit(&door.look(path, Yes, Rights::ADMIN)?),
        Request::Search {
            patterns,
            roots,
            flags,
        } => search::search(who, patterns, roots, *flags),

        Request::Getacl { path } => acl::getacl(door, path),
        Request::Setacl {
            path,
            subject,
            rights,
        } => acl::setacl(export, &door.administer(path)?, subject, rights),
        Request::Resetacl { path, rights } => {
            acl::resetacl(export, &door.administer(path)?, subject, rights)
        }

        Request::Lsalloc { path } => alloc::lsalloc(export, &door.allocation(path)?),
        // The mode is that of mkdir.
        Request::Mkalloc {
            path,
            length,
            mode: _,
        } => {
            let (target, acl) = door.mkalloc(path)?;
            alloc::mkalloc(export, &target, &acl, *length)
        }

        Request::TicketRegister {
            subject,
            seconds,
            length,
        } => ticket::register(export, who, subject, *seconds, *length),
        Request::TicketModify {
            ticket,
            path,
            rights,
        } => ticket::modify(export, who, *ticket, path, rights),
        Request::TicketDelete { ticket } => ticket::delete(export, who, *ticket),
        Request::TicketGet { ticket } => ticket::get(export, who, *ticket),
        Request::TicketList { subject } => ticket::list(export, who, subject),
        // HTCondor's dialect. There is no batch system behind this server whose jobs have attributes,
        // logs or other places for their files.
        Request::Version => Ok(Outcome::Number(CONDOR_VERSION)),
        Request::GetJobAttr { .. }
        | Request::GetJobAttrDelayed { .. }
        | Request::SetJobAttr { .. }
        | Request::SetJobAttrDelayed { .. }
        | Request::Ulog { .. }
        | Request::Constrain { .. }
        | Request::Lookup { .. } => Err(Code::NotSupported.into()),

        // Local storage keeps one copy, as the reference's.
        Request::Setrep { path, count: _ } => door
            .bind(path, Rights::WRITE)
            .and(Err(Code::InvalidRequest.into())),
        // Jobs are answered by the connection, where they are on and where they are not.
        Request::JobCreate { .. }
        | Request::JobCommit { .. }
        | Request::JobKill { .. }
        | Request::JobReap { .. }
        | Request::JobStatus { .. }
        | Request::JobWait { .. } => Err(Code::InvalidRequest.into()),

        Request::Features
        | Request::Exec { .. }
        | Request::ExecAttach { .. }
        | Request::ExecStatus { .. }
        | Request::ExecWait { .. }
        | Request::ExecSignal { .. }
        | Request::ExecList
        | Request::ExecRemove { .. }
        | Request::ExecOutput { .. } => Err(Code::NotSupported.into()),
    }
}
