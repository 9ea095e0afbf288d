//! Starting the program: pipes, limits, environment, and the errors that are known before it runs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chirp_proto::Code;
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, accessat};
use rustix::io::{ReadWriteFlags, preadv2};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, prlimit};

use super::StartError;
use super::blocking::patiently;
use super::confine::Confinement;
use super::enclosure::{self, Enclosure};
use super::kin::Kin;
use super::prepared::{Held, Input, Output, Prepared, find_program};
use super::sys::{self, ChildSetup, Image};
use super::temporary::Temporary;
use super::terminal::{self, Sink};
use crate::request::{ExecRequest, Terminal};
use crate::status::Limits;

/// For how long a program file that is open for writing is tried again. A process of ours between
/// fork and exec holds copies of every descriptor for a moment, also of a file just put.
const BUSY_PATIENCE: Duration = Duration::from_millis(200);

/// Open files of a program where no limit is set: what programs expect, whatever the server needs.
const OPEN_FILES_DEFAULT: u64 = 1024;

/// A running program with the server's ends of its pipes.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: Pid,
    pub(super) kin: Kin,
    pub(super) temporary: Option<Temporary>,
    pub(super) held: Option<Held>,
    /// The namespaces that it runs in, if it has its own.
    pub(super) enclosure: Option<Enclosure>,
    /// A pidfd.
    pub(super) handle: OwnedFd,
    /// The server's side of its terminal, if it has one.
    pub(super) terminal: Option<OwnedFd>,
    /// Where the terminal's output goes, if neither to clients nor into a capture.
    pub(super) sink: Option<Sink>,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// Starts the program. Blocks until its exec has succeeded or failed.
pub(super) fn spawn(
    request: &ExecRequest,
    prepared: Prepared,
    confined: Option<(&Confinement, Temporary)>,
    kin: Kin,
) -> Result<Spawned, StartError> {
    let Prepared {
        program,
        cwd,
        stdin,
        stdout,
        stderr,
        env,
        limits,
        held,
    } = prepared;
    accessat(&cwd, c".", Access::EXEC_OK, AtFlags::EACCESS).map_err(|errno| {
        let path = request.path.display();
        StartError::new(
            Code::from_errno(errno.raw_os_error()),
            format!("cannot work in {path}: {errno}"),
        )
    })?;
    let means = |what: &str, error: io::Error| StartError::means(what, &error);
    let mut env = env;
    let (mut cell, mut temporary, mut enclosure) = (None, None, None);
    if let Some((confinement, own)) = confined {
        env.push(("TMPDIR".into(), own.path().into()));
        let directory = own.open().map_err(|e| means("temporary directory", e))?;
        let rules = confinement.cell(cwd.as_fd(), directory.as_fd());
        cell = Some(rules.map_err(|e| means("sandbox", e))?);
        temporary = Some(own);
        enclosure = confinement
            .enclosure()
            .map_err(|e| means("namespaces", e))?;
    }
    let processes = limits.processes.map(enclosure::limit_of);
    let join = enclosure.as_ref();
    let join = join.map(|enclosure| enclosure.join(&cwd, processes.is_none()));
    let join = join.transpose().map_err(|e| means("namespaces", e))?;
    let env = environment(env, request);
    let program = resolve(program, &env)?;
    let mut args = vec![request.cmd.clone()];
    args.extend(request.args.iter().cloned());
    let image = Image::new(program.as_os_str(), &args, &env)
        .map_err(|error| StartError::new(Code::InvalidRequest, error.to_string()))?;
    let Streams {
        child,
        stdin,
        stdout,
        stderr,
        terminal,
        sink,
    } = match request.tty {
        Some(size) => Streams::of_terminal(size, stdin, stdout, limits.file_bytes)
            .map_err(|e| means("terminal", e))?,
        None => Streams::of_pipes(stdin, stdout, stderr).map_err(|e| means("pipes", e))?,
    };
    let mut setup = ChildSetup {
        image,
        streams: child,
        cwd,
        rlimits: rlimits(&limits, &kin),
        cell,
        terminal: terminal.is_some(),
        join,
        tied: false,
    };
    if let Some([while_started, _]) = processes {
        setup
            .rlimits
            .push((Resource::Nproc, exactly(while_started)));
    }
    let (pid, handle) = launch(&program, setup)?;
    if let Some([_, then]) = processes {
        // It can only fail with the program.
        let _ = prlimit(Some(pid), Resource::Nproc, exactly(then));
    }
    kin.led_by(pid);
    Ok(Spawned {
        pid,
        kin,
        temporary,
        held,
        enclosure,
        handle,
        terminal,
        sink,
        stdin,
        stdout,
        stderr,
    })
}

/// Starts a child. Blocks until its exec has succeeded or failed.
pub(super) fn launch(program: &Path, setup: ChildSetup) -> Result<(Pid, OwnedFd), StartError> {
    let is_busy = |outcome: &io::Result<Pid>| {
        let error = outcome.as_ref().err();
        error.and_then(io::Error::raw_os_error) == Some(libc::ETXTBSY)
    };
    let mut started = match is_in_memory(&setup.cwd, program) {
        true => sys::launch(&setup),
        false => patiently(|| sys::launch(&setup)),
    };
    if is_busy(&started) {
        let begun = Instant::now();
        patiently(|| {
            while is_busy(&started) && begun.elapsed() < BUSY_PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
                started = sys::launch(&setup);
            }
        });
    }
    let pid = started.map_err(|error| StartError::exec(program, &error))?;
    // The program's ends of the pipes go with it, or they would never be closed.
    drop(setup);
    hold(pid)
}

/// Says whether the beginning of a program's file need not be fetched from anywhere. The rest is fetched by the program.
fn is_in_memory(cwd: &OwnedFd, program: &Path) -> bool {
    let stat = rustix::fs::statat(cwd, program, AtFlags::empty());
    if !stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file()) {
        return false;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::openat(cwd, program, flags, Mode::empty()) else {
        return false;
    };
    let mut start = [0; 256];
    let mut buffers = [io::IoSliceMut::new(&mut start)];
    let read = preadv2(&file, &mut buffers, 0, ReadWriteFlags::NOWAIT);
    read.is_ok_and(|count| count > 0)
}

/// Gets the handle of a child, or ends it: without one it could not be watched.
fn hold(pid: Pid) -> Result<(Pid, OwnedFd), StartError> {
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(handle) => Ok((pid, handle)),
        Err(errno) => {
            sys::kill_and_reap(pid);
            Err(StartError::means("process handle", &errno.into()))
        }
    }
}

/// A limit that may not be raised again.
fn exactly(limit: u64) -> Rlimit {
    Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    }
}

/// The clean environment with the request's variables over it.
fn environment(
    base: Vec<(OsString, OsString)>,
    request: &ExecRequest,
) -> Vec<(OsString, OsString)> {
    let mut all: BTreeMap<OsString, OsString> = base.into_iter().collect();
    let own = request.env.iter();
    all.extend(own.map(|(name, value)| (OsString::from(name), value.clone())));
    all.into_iter().collect()
}

/// Looks a bare name up in the `PATH` that the program will have.
fn resolve(program: PathBuf, env: &[(OsString, OsString)]) -> Result<PathBuf, StartError> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return Ok(program);
    }
    let path = env.iter().find(|(name, _)| name == "PATH");
    find_program(
        program.as_os_str(),
        path.map_or_else(|| OsStr::new(""), |(_, path)| path.as_os_str()),
    )
}

fn input(stdin: Input) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    Ok(match stdin {
        Input::Null => (null()?, None),
        Input::File(file) => (file, None),
        Input::Stream => {
            let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
            (reading, Some(writing))
        }
    })
}

/// Opens the null device.
pub(super) fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(c"/dev/null", flags, Mode::empty())?)
}

/// The standard streams of a program and the server's ends of them.
struct Streams {
    child: [OwnedFd; 3],
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    sink: Option<Sink>,
}

impl Streams {
    fn of_pipes(stdin: Input, stdout: Output, stderr: Output) -> io::Result<Self> {
        let (child_in, stdin) = input(stdin)?;
        let (child_out, stdout, child_err, stderr) = outputs(stdout, stderr)?;
        Ok(Self {
            child: [child_in, child_out, child_err],
            stdin,
            stdout,
            stderr,
            terminal: None,
            sink: None,
        })
    }

    /// Makes a terminal that is standard output and error, and standard input too unless that comes from
    /// elsewhere. `file_bytes` bounds a file that its output goes to, which the program does not write.
    fn of_terminal(
        size: Terminal,
        stdin: Input,
        stdout: Output,
        file_bytes: Option<u64>,
    ) -> io::Result<Self> {
        let (master, slave) = terminal::open(size)?;
        let (child_in, stdin) = match stdin {
            Input::Stream => (shared(&slave)?, Some(shared(&master)?)),
            other => input(other)?,
        };
        let sink = match stdout {
            Output::Stream | Output::Capture => None,
            Output::File(file) => Some(Sink::File(file.into(), file_bytes)),
            Output::Discard | Output::Stdout => Some(Sink::Nowhere),
        };
        Ok(Self {
            child: [child_in, shared(&slave)?, slave],
            stdin,
            stdout: Some(shared(&master)?),
            stderr: None,
            terminal: Some(master),
            sink,
        })
    }
}

type Outputs = (OwnedFd, Option<OwnedFd>, OwnedFd, Option<OwnedFd>);

/// Makes both outputs; they may be one.
fn outputs(stdout: Output, stderr: Output) -> io::Result<Outputs> {
    let (child_out, out) = output(stdout)?;
    let (child_err, err) = match stderr {
        Output::Stdout => (shared(&child_out)?, None),
        other => output(other)?,
    };
    Ok((child_out, out, child_err, err))
}

fn shared(fd: &OwnedFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

/// Makes one output: the program's end, and the server's where it is a pipe.
fn output(output: Output) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    Ok(match output {
        Output::Stream | Output::Capture => {
            let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
            (writing, Some(reading))
        }
        Output::File(file) => (file, None),
        // Standard output has no other stream to join.
        Output::Discard | Output::Stdout => (null()?, None),
    })
}

/// The limits that the kernel enforces, and the mark. None is above the server's own hard limit, which could not
/// be raised.
pub(super) fn rlimits(limits: &Limits, kin: &Kin) -> Vec<(Resource, Rlimit)> {
    let mut all: Vec<_> = kin.limit().into_iter().collect();
    let mut set = |resource, soft: u64, hard: u64| {
        let own = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        all.push((
            resource,
            Rlimit {
                current: Some(soft.min(own)),
                maximum: Some(hard.min(own)),
            },
        ));
    };
    set(Resource::Core, 0, 0);
    if let Some(seconds) = limits.cpu_s {
        // XCPU at the limit, which a program may use to tidy up, and KILL a second later.
        set(Resource::Cpu, seconds, seconds.saturating_add(1));
    }
    if let Some(bytes) = limits.memory_bytes {
        set(Resource::As, bytes, bytes);
    }
    if let Some(bytes) = limits.file_bytes {
        set(Resource::Fsize, bytes, bytes);
    }
    match limits.open_files {
        Some(files) => set(Resource::Nofile, files, files),
        None => set(Resource::Nofile, OPEN_FILES_DEFAULT, u64::MAX),
    }
    all
}
