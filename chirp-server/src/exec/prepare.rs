//! From an `exec` request to open handles: every path it names goes through the same door as any
//! other request's.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use chirp_proto::acl::Rights;
use chirp_proto::request::OpenFlags;
use chirp_proto::{Code, VirtualPath};
use exec_ext::request::{ExecRequest, OutputTo, StdinFrom};
use exec_ext::runner::{
    DEFAULT_PATH, Input, Output, Prepared, StartError, find_program, patiently,
};
use rustix::io::Errno;

use super::Exec;
use crate::authorize::{Door, Failure, Granted};
use crate::export::Export;
use crate::guard::{Unkept, Watch};
use crate::session::Principal;
use crate::vfs::{Dir, Follow};

/// How often a path is looked at anew because it changed between check and use.
const RACES_MAX: usize = 16;

/// Resolves and opens what a request names, for a subject that may do so.
///
/// # Errors
///
/// [`StartError`]: the code and words that the client is told.
pub(crate) fn prepare(
    exec: &Exec,
    export: &Export,
    who: &Principal,
    request: &ExecRequest,
) -> Result<Prepared, StartError> {
    if let Some(reason) = &exec.unconfined {
        return Err(StartError::new(Code::NotSupported, reason));
    }
    let door = export.door(who);
    let path = virtual_path(&request.path)?;
    let (place, cwd) = named(door, &path, || {
        let place = door.look(&path, Follow::Yes, Rights::EXECUTE)?;
        let cwd = place.directory().and_then(Dir::readable)?;
        Ok((place, cwd))
    })?;
    let program = program(exec, door, &path, request)?;
    if let Some(allowed) = &exec.allowed {
        // A name in the tree is looked up through the same handle as it will be started from.
        let found = match program.strip_prefix("./") {
            Ok(name) => Path::new(&format!("/proc/self/fd/{}", cwd.as_raw_fd())).join(name),
            Err(_) => program.clone(),
        };
        if !allowed.allows(who.subject().as_str(), &found) {
            let cmd = request.cmd.display();
            return Err(StartError::new(
                Code::NotAuthorized,
                format!("cmd {cmd}: not among the programs that --exec-allow lets you run"),
            ));
        }
    }
    let stdout = output(door, &request.stdout)?;
    let (stdin, stderr) = (input(door, &request.stdin)?, output(door, &request.stderr)?);
    // Last, so that nothing else keeps the program from being started or from being ended.
    let kept = keep(exec, export, &place).map_err(|error| {
        let words = format!("{path}: {error}");
        StartError::new(Code::from_errno(Errno::from(error).raw_os_error()), words)
    })?;
    Ok(Prepared {
        program,
        cwd,
        stdin,
        stdout,
        stderr,
        env: exec.environment.clone(),
        limits: exec.limits_for(&request.limits),
        held: Some(Box::new(kept)),
    })
}

/// Keeps the access control lists from a program, wherever it can write in the tree: below its directory and
/// where the policy says; everywhere, if nothing confines it.
fn keep(exec: &Exec, export: &Export, place: &Granted) -> Result<Vec<Watch>, Unkept> {
    let guard = export.guard();
    if !exec.is_confined() {
        return Ok(vec![guard.watch(export.root.dir(), b"")?]);
    }
    let mut kept = vec![guard.watch(place.directory()?, place.path())?];
    for path in exec.writable_inside() {
        if let Some(dir) = export.root.descend(&path)? {
            kept.push(guard.watch(&dir, &path)?);
        }
    }
    Ok(kept)
}

/// Finds the program; where it lies in the exported tree, the subject needs `x` there too.
fn program(
    exec: &Exec,
    door: Door<'_>,
    cwd: &VirtualPath,
    request: &ExecRequest,
) -> Result<PathBuf, StartError> {
    let cmd = request.cmd.as_os_str();
    if let Some(name) = cmd.as_bytes().strip_prefix(b"./") {
        let inside = cwd.join(name).map_err(|code| refusal(code, cmd))?;
        named(door, &inside, || {
            door.look(&inside, Follow::Yes, Rights::EXECUTE).map(drop)
        })?;
        return Ok(cmd.into());
    }
    let found = if cmd.as_bytes().starts_with(b"/") {
        PathBuf::from(cmd)
    } else if cmd.as_bytes().contains(&b'/') {
        return Err(StartError::new(
            Code::InvalidRequest,
            format!(
                "cmd {}: give an absolute path, a bare name, or ./NAME relative to path",
                cmd.display()
            ),
        ));
    } else {
        let usual: &OsStr = DEFAULT_PATH.as_ref();
        let search = request.env.get("PATH").map_or(usual, OsString::as_os_str);
        find_program(cmd, search)?
    };
    if let Some(inside) = inside_tree(&exec.root, &found) {
        named(door, &inside, || {
            door.look(&inside, Follow::Yes, Rights::EXECUTE).map(drop)
        })?;
    }
    Ok(found)
}

/// Returns where in the exported tree a host path leads, if it leads there.
pub(crate) fn inside_tree(root: &Path, program: &Path) -> Option<VirtualPath> {
    let real = program.canonicalize().ok()?;
    let inside = real.strip_prefix(root).ok()?;
    VirtualPath::from_decoded(inside.as_os_str().as_bytes()).ok()
}

fn input(door: Door<'_>, from: &StdinFrom) -> Result<Input, StartError> {
    Ok(match from {
        StdinFrom::None => Input::Null,
        StdinFrom::Stream => Input::Stream,
        StdinFrom::File(path) => Input::File(open(door, path, OpenFlags::parse(b"r"))?),
    })
}

fn output(door: Door<'_>, to: &OutputTo) -> Result<Output, StartError> {
    Ok(match to {
        OutputTo::Stream => Output::Stream,
        OutputTo::Capture => Output::Capture,
        OutputTo::Discard => Output::Discard,
        OutputTo::Stdout => Output::Stdout,
        OutputTo::File { path, append } => {
            let letters: &[u8] = if *append { b"wca" } else { b"wct" };
            Output::File(open(door, path, OpenFlags::parse(letters))?)
        }
    })
}

fn open(door: Door<'_>, path: &OsStr, flags: OpenFlags) -> Result<OwnedFd, StartError> {
    let path = virtual_path(path)?;
    let file: File = named(door, &path, || {
        let (target, how) = door.open(&path, flags, 0o600)?;
        match target.directory() {
            Ok(_) => Err(Code::IsDirectory.into()),
            Err(_) => Ok(target.open(how)?),
        }
    })?;
    Ok(file.into())
}

fn virtual_path(path: &OsStr) -> Result<VirtualPath, StartError> {
    VirtualPath::from_decoded(path.as_bytes()).map_err(|code| refusal(code, path))
}

/// Names the path in a refusal, and looks again where it changed between check and use.
fn named<T>(
    door: Door<'_>,
    path: &VirtualPath,
    mut action: impl FnMut() -> Result<T, Failure>,
) -> Result<T, StartError> {
    for _ in 0..RACES_MAX {
        match action() {
            Ok(value) => return Ok(value),
            Err(Failure::Stale) => {}
            Err(Failure::Group(group)) => patiently(|| door.fetch_waiting(&group)),
            Err(Failure::Code(code)) => {
                return Err(StartError::new(code, format!("{path}: {code}")));
            }
        }
    }
    Err(StartError::new(
        Code::TryAgain,
        format!("{path}: changed while it was looked at"),
    ))
}

fn refusal(code: Code, path: &OsStr) -> StartError {
    StartError::new(code, format!("{}: {code}", path.display()))
}
