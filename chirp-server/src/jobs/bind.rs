//! Files of the tree bound into a sandbox, and what a program made bound back (part 9.5). Rights
//! are asked for again by the same door: they may have changed since the job was created.

use std::fs::File;
use std::io::{Read, Write};

use chirp_proto::Code;
use chirp_proto::acl::Rights;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::description::{Binding, File as Bound, PATH_BYTES};
use super::pattern;
use super::rights::{needed, retried, server_path};
use super::sandbox::{Sandbox, TaskPath};
use super::text::Text;
use crate::authorize::{Door, Granted};
use crate::export::Export;
use crate::space::Reservation;
use crate::vfs::temporary::{Replace, Temporary};
use crate::vfs::{Dir, Object, Open, Upload};

/// Bytes that are copied at once: between two of them a job can be ended.
const PIECE: usize = 8 * 1024 * 1024;

/// Why a job comes to nothing, in words for its status. Where the reference has a text, the system's
/// for an errno, it is the same.
#[derive(Debug)]
pub(super) struct Trouble(pub(super) String);

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self(system_text(errno.raw_os_error()))
    }
}

impl From<Code> for Trouble {
    fn from(code: Code) -> Self {
        let errno = match code {
            // It stands for a broken connection otherwise.
            Code::Unknown => Errno::IO.raw_os_error(),
            code => code.errno(),
        };
        Self(system_text(errno))
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self(system_text(errno)),
            None => Self(error.to_string()),
        }
    }
}

/// The refusal of a binding by URL (weakness W15: the reference spins on some for ever).
pub(super) fn url_refused(file: &Bound) -> Trouble {
    Trouble(format!(
        "{} {}: this server fetches and sends no URL; put the file here and bind it by LINK or COPY",
        file.kind.name(),
        file.task_path
    ))
}

/// Binds an input.
///
/// # Errors
///
/// [`Trouble`]; `CANCELED` in words if `cancel` came true.
pub(super) fn input(
    export: &Export,
    door: Door<'_>,
    sandbox: &Sandbox,
    file: &Bound,
    cancel: &CancellationToken,
) -> Result<(), Trouble> {
    let path = server_path(&file.serv_path)?;
    let task_path = TaskPath::parse(&file.task_path)?;
    let (dir, name) = sandbox.make_parent(&task_path)?;
    let reading = Open {
        read: true,
        ..Open::default()
    };
    let (source, mut content) = retried(door, || {
        let source = door.bind(&path, needed(file))?;
        if source.directory().is_ok() {
            // As the reference says it.
            let code = match file.binding {
                Binding::Link => Code::NotAuthorized,
                Binding::Copy | Binding::Url => Code::IsDirectory,
            };
            return Ok(Err(match code {
                Code::NotAuthorized => Trouble::from(Errno::PERM),
                code => Trouble::from(code),
            }));
        }
        let content = source.open(reading)?;
        Ok(Ok((source, content)))
    })??;
    if file.binding == Binding::Link && may_share(export, door, &path, &content)? {
        match link(source.holder(), source.name(), &dir, name, &content) {
            // Another file system, or one without links: a copy is as good.
            Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::STALE) => {}
            other => return Ok(other?),
        }
    }
    let size = rustix::fs::fstat(&content)?.st_size;
    export.space().room(u64::try_from(size).unwrap_or(0))?;
    copy(&mut content, &dir, name, cancel)
}

/// Says whether the program may get the file itself and not a copy. What it then writes changes the
/// file, so its subject must hold W there; and the file must be as the program expects it, for the
/// mode of the original is not changed (the reference makes it 0700). Where there are allocations, what
/// it writes would not be charged to any.
fn may_share(
    export: &Export,
    door: Door<'_>,
    path: &chirp_proto::VirtualPath,
    content: &File,
) -> Result<bool, Errno> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(content)?.st_mode);
    let both = Rights::READ.union(Rights::WRITE);
    let shareable = mode.contains(Mode::RWXU) && !export.space().has_allocations();
    Ok(shareable && retried(door, || door.bind(path, both).map(drop)).is_ok())
}

/// Links a file, if the name still stands for the one that was opened.
fn link(from: &Dir, name: &[u8], to: &Dir, new: &[u8], content: &File) -> Result<(), Errno> {
    rustix::fs::linkat(from, name, to, new, AtFlags::empty())?;
    let (linked, opened) = (to.stat(new)?, rustix::fs::fstat(content)?);
    if (linked.st_dev, linked.st_ino) == (opened.st_dev, opened.st_ino) {
        Ok(())
    } else {
        to.unlink_if_there(new)?;
        Err(Errno::STALE)
    }
}

/// Copies a file into the sandbox, sharing its blocks where the file system can.
fn copy(
    content: &mut File,
    dir: &Dir,
    name: &[u8],
    cancel: &CancellationToken,
) -> Result<(), Trouble> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut copy: File = rustix::fs::openat(dir, name, flags, Mode::RWXU)?.into();
    if rustix::fs::ioctl_ficlone(&copy, &*content).is_ok() {
        return Ok(());
    }
    loop {
        if cancel.is_cancelled() {
            return Err(Errno::CANCELED.into());
        }
        // The kernel copies where it can; the standard library knows where it cannot.
        if std::io::copy(&mut content.take(PIECE as u64), &mut copy)? == 0 {
            return Ok(());
        }
    }
}

/// Makes the directory that an output is expected in.
///
/// # Errors
///
/// [`Trouble`].
pub(super) fn prepare_output(sandbox: &Sandbox, file: &Bound) -> Result<(), Trouble> {
    sandbox.make_parent(&TaskPath::parse(&file.task_path)?)?;
    Ok(())
}

/// Binds an output back, if the program made it. Returns its path on the server and its size.
///
/// # Errors
///
/// [`Trouble`]. What had the name keeps it then.
pub(super) fn output(
    export: &Export,
    door: Door<'_>,
    sandbox: &Sandbox,
    file: &Bound,
    id: u64,
) -> Result<Option<(Text, u64)>, Trouble> {
    let task_path = TaskPath::parse(&file.task_path)?;
    let found = sandbox
        .find_parent(&task_path)
        .and_then(|(dir, name)| Ok((open_made(&dir, name, file.binding)?, dir, name)));
    let (mut content, dir, name) = match found {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let size = u64::try_from(rustix::fs::fstat(&content)?.st_size).unwrap_or(0);
    let path = pattern::expand(file.serv_path.as_bytes(), id, &mut content, size)?;
    if path.len() >= PATH_BYTES {
        return Err(Code::NameTooLong.into());
    }
    let path = Text::new(path);
    let wanted = server_path(&path)?;
    let bind = || -> Result<(), Trouble> {
        let target = retried(door, || door.bind(&wanted, needed(file)))?;
        if file.binding == Binding::Link {
            match put_link(export, &target, &dir, name, &content) {
                Err(Errno::XDEV | Errno::MLINK) => {}
                other => return Ok(other?),
            }
        }
        put_copy(export, &target, &content)
    };
    bind()?;
    Ok(Some((path, size)))
}

/// Opens a file that a program made, if it is one.
fn open_made(dir: &Dir, name: &[u8], binding: Binding) -> Result<File, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let stat = dir.stat(name)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Symlink => return Err(Errno::LOOP),
        FileType::Directory if binding == Binding::Link => return Err(Errno::PERM),
        FileType::Directory => return Err(Errno::ISDIR),
        _ => return Err(Errno::INVAL),
    }
    let file: File = rustix::fs::openat(dir, name, flags, Mode::empty())?.into();
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Errno::INVAL),
    }
}

/// Gives a program's file a name in the tree, in place of what has it.
fn put_link(
    export: &Export,
    target: &Granted,
    dir: &Dir,
    name: &[u8],
    content: &File,
) -> Result<(), Errno> {
    let made = rustix::fs::fstat(content)?;
    match target.object() {
        Object::Directory(..) => return Err(Errno::ISDIR),
        Object::Missing(Errno::NOENT) => {}
        Object::Missing(errno) => return Err(*errno),
        // The same file already: renaming one of its names over the other would do nothing.
        Object::Other(there) if (there.st_dev, there.st_ino) == (made.st_dev, made.st_ino) => {
            return Ok(());
        }
        Object::Other(_) => {}
    }
    // No set-id bits, and the server never loses access to what it exports.
    let mode = Mode::from_raw_mode(made.st_mode & 0o777 | 0o600);
    if mode != Mode::from_raw_mode(made.st_mode) {
        rustix::fs::fchmod(content, mode)?;
    }
    let temporary = Temporary::new(&export.journal, target.holder(), target.holder_path())?;
    link(dir, name, target.holder(), temporary.name(), content)?;
    let size = u64::try_from(made.st_size).unwrap_or(0);
    let mut space = Reservation::new(export.space(), target.holder(), target.name())?;
    space.grow(0, size)?;
    space.install(target.holder(), target.name(), size, || {
        temporary.install(target.name(), Replace::Yes)
    })
}

/// Puts the content of a program's file under a name in the tree, as `putfile` does.
fn put_copy(export: &Export, target: &Granted, mut content: &File) -> Result<(), Trouble> {
    let mode = rustix::fs::fstat(content)?.st_mode;
    let mut upload = Upload::begin(target, mode, Replace::Yes, &export.journal, export.space())?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            count => upload.write(buffer.get(..count).unwrap_or_default())?,
        }
    }
    Ok(upload.commit()?)
}

/// Writes what a program's start-up was, for an output that asks for it.
pub(super) fn start_log(sandbox: &Sandbox, words: &str) {
    if let Some(mut log) = sandbox.log(START_LOG) {
        // Nobody depends on it.
        let _ = log.write_all(words.as_bytes());
    }
}

/// The name of the reference's log of a job's start-up.
const START_LOG: &str = ".chirp.debug";

/// Returns the system's words for an errno, without its number.
fn system_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
