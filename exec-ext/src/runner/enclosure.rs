//! User, pid and mount namespaces of a program's own, where unprivileged ones are to be had.
//!
//! Each enclosure is held by its first process, which is ours, does nothing, and reaps what the program
//! leaves behind. When that process is killed the kernel ends everything in there, whatever it does to
//! hide or to ignore signals. The program joins from outside and is the server's own child, so that its
//! exit and its resource use are told by the kernel and need no messenger.
//!
//! Making an enclosure takes longer than starting a program. One thread makes them, keeps some ready while
//! programs are being started, and lives as long as any of them: the kernel kills their first processes when it ends,
//! and so with the server.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getegid, geteuid, pidfd_send_signal};
use seccompiler::BpfProgram;

use super::sys::{self, ChildSetup, FirstProcess, Image};

/// Enclosures that are kept ready while programs are being started.
const SPARES: usize = 2;

/// How long one is kept: it holds file systems of the moment at which it was made.
const SPARE_LIFE: Duration = Duration::from_secs(5);

/// Processes of an enclosure that are ours: the first one.
const OWN_PROCESSES: u64 = 1;

/// Where enclosures come from. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Enclosures {
    requests: Sender<SyncSender<io::Result<First>>>,
}

impl Enclosures {
    /// Finds out whether there are any, by making one and joining it. `filter` confines its first process.
    ///
    /// # Errors
    ///
    /// There are none; the system's error.
    pub(super) fn open(filter: Option<Arc<BpfProgram>>) -> io::Result<Self> {
        let plan = FirstProcess::new(geteuid().as_raw(), getegid().as_raw(), filter);
        let (requests, asked) = channel();
        let thread = std::thread::Builder::new().name("enclosures".to_owned());
        thread.spawn(move || make(&plan, &asked))?;
        let enclosures = Self { requests };
        enclosures.take()?.try_to_join()?;
        Ok(enclosures)
    }

    /// Returns an empty enclosure.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn take(&self) -> io::Result<Enclosure> {
        let (reply, made) = sync_channel(1);
        let gone = |_| io::Error::other("the thread that makes enclosures has ended");
        self.requests.send(reply).map_err(|_| gone(()))?;
        let first = made.recv().map_err(|_| gone(()))??;
        Ok(Enclosure {
            first,
            _maker: self.clone(),
        })
    }
}

/// Says whether limits on processes count those of one enclosure. The kernel lets its superuser have any
/// number, in whatever namespace.
pub(super) fn counts_processes() -> bool {
    !rustix::process::getuid().is_root()
}

/// The thread that makes enclosures, until nobody can ask for one and none is left.
fn make(plan: &FirstProcess, asked: &Receiver<SyncSender<io::Result<First>>>) {
    // Its children inherit that: none runs the server's handlers.
    sys::block_signals();
    let mut spares: VecDeque<First> = VecDeque::new();
    loop {
        let request = if spares.is_empty() {
            asked.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            asked.recv_timeout(SPARE_LIFE)
        };
        match request {
            Ok(reply) => {
                spares.retain(First::is_fresh);
                let first = spares.pop_front().map_or_else(|| First::make(plan), Ok);
                // Whoever asked and has gone leaves it to be ended.
                let _ = reply.send(first);
            }
            Err(RecvTimeoutError::Timeout) => {
                spares.clear();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if spares.len() < SPARES
            && let Ok(first) = First::make(plan)
        {
            spares.push_back(first);
        }
    }
}

/// The first process of an enclosure, which is killed when this is dropped.
#[derive(Debug)]
struct First {
    pid: Pid,
    handle: Arc<OwnedFd>,
    made: Instant,
}

impl First {
    fn make(plan: &FirstProcess) -> io::Result<Self> {
        let (pid, handle) = sys::enclose(plan)?;
        Ok(Self {
            pid,
            handle: Arc::new(handle),
            made: Instant::now(),
        })
    }

    fn is_fresh(&self) -> bool {
        self.made.elapsed() < SPARE_LIFE
    }

    fn kill(&self) {
        let _ = pidfd_send_signal(self.handle.as_fd(), Signal::KILL);
    }

    /// Waits for its end and reaps it. It ends after everything in there has ended and been reaped.
    fn ended(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok();
            let mut descriptors = [PollFd::new(&*self.handle, PollFlags::IN)];
            match poll(&mut descriptors, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(ready) if ready > 0 => {
                    let _ = sys::reap(self.pid);
                    return true;
                }
                _ => return false,
            }
        }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.kill();
        // Where a program that joined was not reaped, it cannot be waited for.
        self.ended(Duration::from_millis(100));
    }
}

/// Namespaces for one program. What is in there is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Enclosure {
    first: First,
    /// Keeps the thread, with which the first process would end.
    _maker: Enclosures,
}

impl Enclosure {
    /// Lays out what a child needs to join and to work in `cwd`, a directory.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn join(&self, cwd: &OwnedFd) -> io::Result<Join> {
        Join::new(Arc::clone(&self.first.handle), cwd)
    }

    /// Says whether nothing runs in there but the first process. Asked after the program's exit, whose
    /// descendants are then the first process's children.
    pub(super) fn is_empty(&self) -> bool {
        let pid = self.first.pid.as_raw_nonzero();
        let children = fs::read(format!("/proc/{pid}/task/{pid}/children"));
        children.is_ok_and(|list| list.is_empty())
    }

    /// Has the kernel end everything in there.
    pub(super) fn kill(&self) {
        self.first.kill();
    }

    /// Waits until everything has ended, the program having been reaped; false if it takes too long.
    pub(super) fn ended(&self, patience: Duration) -> bool {
        self.first.ended(patience)
    }

    /// Joins and does nothing there.
    fn try_to_join(&self) -> io::Result<()> {
        let cwd: OwnedFd = fs::File::open("/")?.into();
        let join = self.join(&cwd)?;
        let setup = ChildSetup {
            // There is no such program: that this is what fails shows that all before it worked.
            image: Image::new("".as_ref(), &[], &[])?,
            cwd,
            rlimits: Vec::new(),
            cell: None,
            terminal: false,
            join: Some(join),
            tied: false,
        };
        match super::spawn::try_launch(setup) {
            Some(libc::ENOENT) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other("a trial went wrong")),
        }
    }
}

/// What a child needs to become a program in an enclosure.
pub(super) struct Join {
    /// The pidfd of the first process.
    pub(super) first: Arc<OwnedFd>,
    /// Where the child that joins tells the id of the one that it starts there.
    pub(super) report: OwnedFd,
    /// The other end of that.
    told: Arc<OwnedFd>,
    /// The path of the working directory: a handle would lead into the server's own mounts.
    pub(super) cwd: CString,
}

impl Join {
    fn new(first: Arc<OwnedFd>, cwd: &OwnedFd) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
        let path: PathBuf = fs::read_link(format!("/proc/self/fd/{}", cwd.as_raw_fd()))?;
        let (told, report) = rustix::pipe::pipe_with(
            rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK,
        )?;
        Ok(Self {
            first,
            report,
            told: Arc::new(told),
            cwd: CString::new(path.into_os_string().into_vec())?,
        })
    }

    /// Returns the end from which [`joined`] reads.
    pub(super) fn told(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.told)
    }
}

/// Returns the id of the process that the last child to join has started, once that child has ended.
pub(super) fn joined(told: &OwnedFd) -> Option<Pid> {
    let mut id = [0; 4];
    match rustix::io::read(told, &mut id) {
        Ok(4) => Pid::from_raw(i32::from_ne_bytes(id)),
        _ => None,
    }
}

/// Returns the limit that gives a program so many processes in an enclosure: while it is started, and then.
/// Until it is reaped, the child that joined counts too.
pub(super) fn limit_of(processes: u64) -> [u64; 2] {
    let then = processes.saturating_add(OWN_PROCESSES);
    [then.saturating_add(1), then]
}
