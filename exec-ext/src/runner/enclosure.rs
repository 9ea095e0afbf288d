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
//!
//! One that a program has left empty is ready for the next: programs have no privileges in there, and are kept from
//! whatever would outlive them other than processes.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, getegid, geteuid, pidfd_send_signal};

use super::blocking::patiently;
use super::filter::Filter;
use super::spawn;
use super::sys::{self, ChildSetup, FirstProcess, Image, Launcher};

/// Enclosures that are kept ready while programs are being started.
const SPARES: usize = 2;

/// How long one is kept: it holds file systems of the moment at which it was made.
const SPARE_LIFE: Duration = Duration::from_secs(5);

/// Processes of an enclosure that are ours: the first one.
const OWN_PROCESSES: u64 = 1;

/// Where enclosures come from. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Enclosures {
    ready: Arc<Ready>,
    requests: Sender<Request>,
    /// Whether programs can leave nothing in there but processes.
    reusable: bool,
}

/// What the thread that makes enclosures is asked for.
#[derive(Debug)]
enum Request {
    /// One now.
    Make(SyncSender<io::Result<First>>),
    /// A look at those that are ready: whether there is one, and that none gets too old.
    Look,
}

impl Enclosures {
    /// Finds out whether there are any, by making one and joining it. `filter` confines its first process.
    /// `landlock` says whether programs are kept from the first process and its files.
    ///
    /// # Errors
    ///
    /// There are none; the system's error.
    pub(super) fn open(filter: Option<Arc<Filter>>, landlock: bool) -> io::Result<Self> {
        let reusable = landlock && filter.is_some();
        let steps = filter.as_deref().map(Filter::steps);
        let plan = FirstProcess::new(geteuid().as_raw(), getegid().as_raw(), steps)?;
        let (requests, asked) = channel();
        let ready = Arc::new(Ready::default());
        let thread = std::thread::Builder::new().name("enclosures".to_owned());
        let spares = Arc::clone(&ready);
        thread.spawn(move || make(&plan, filter.as_ref(), &asked, &spares))?;
        let enclosures = Self {
            ready,
            requests,
            reusable,
        };
        enclosures.take()?.try_to_join()?;
        Ok(enclosures)
    }

    /// Returns an empty enclosure.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn take(&self) -> io::Result<Enclosure> {
        let gone = || io::Error::other("the thread that makes enclosures has ended");
        let (first, is_last) = self.ready.take();
        let first = if let Some(first) = first {
            if is_last {
                self.requests.send(Request::Look).map_err(|_| gone())?;
            }
            first
        } else {
            let (reply, made) = sync_channel(1);
            let request = Request::Make(reply);
            self.requests.send(request).map_err(|_| gone())?;
            Arc::new(patiently(|| made.recv()).map_err(|_| gone())??)
        };
        Ok(Enclosure {
            first,
            killed: AtomicBool::new(false),
            maker: self.clone(),
        })
    }

    /// Keeps one for the next program, unless there are enough or it is too old.
    fn keep(&self, first: &Arc<First>) {
        if !first.is_fresh() {
            return;
        }
        first.was_used.store(true, Ordering::Relaxed);
        let mut ready = self.ready.lock();
        let was_empty = ready.is_empty();
        if ready.len() < SPARES {
            ready.push_back(Arc::clone(first));
        }
        drop(ready);
        if was_empty || first.launcher.get().is_none() {
            // Nobody watches its age otherwise, or gives it a launcher. Without that thread it has ended.
            let _ = self.requests.send(Request::Look);
        }
    }
}

/// Enclosures that wait for programs.
#[derive(Debug, Default)]
struct Ready(Mutex<VecDeque<Arc<First>>>);

impl Ready {
    /// Takes one, and says whether it was the last. Those that are too old are left to the thread, which ends them.
    fn take(&self) -> (Option<Arc<First>>, bool) {
        let mut all = self.lock();
        let by_launcher = |first: &Arc<First>| first.is_fresh() && first.launcher.get().is_some();
        let best = all.iter().position(by_launcher);
        let best = best.or_else(|| all.iter().position(|first| first.is_fresh()));
        let first = best.and_then(|at| all.remove(at));
        let is_last = !all.iter().any(|first| first.is_fresh());
        drop(all);
        // Whatever has ended it.
        (first.filter(|first| !first.ended(Duration::ZERO)), is_last)
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Gives those a launcher that a program had before: it takes as long as to start one, and pays where one comes
    /// after the other.
    fn give_launchers(&self, filter: &Arc<Filter>) {
        let all = self.lock();
        let used = all.iter().filter(|it| it.was_used.load(Ordering::Relaxed));
        let used: Vec<Arc<First>> = used.cloned().collect();
        drop(all);
        for first in used.iter().filter(|it| it.launcher.get().is_none()) {
            // Without one it is as it was.
            if let Ok(launcher) = Launcher::start(first.handle.as_fd(), filter) {
                let _ = first.launcher.set(launcher);
            }
        }
    }

    /// Ends those that are too old, which takes its time.
    fn drop_stale(&self) {
        let mut all = self.lock();
        let mut stale = Vec::new();
        all.retain(|first| {
            let is_fresh = first.is_fresh();
            if !is_fresh {
                stale.push(Arc::clone(first));
            }
            is_fresh
        });
        drop(all);
        drop(stale);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<First>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says whether limits on processes count those of one enclosure. The kernel lets its superuser have any
/// number, in whatever namespace.
pub(super) fn counts_processes() -> bool {
    !rustix::process::getuid().is_root()
}

/// The thread that makes enclosures, until nobody can ask for one and none is left.
fn make(
    plan: &FirstProcess,
    filter: Option<&Arc<Filter>>,
    asked: &Receiver<Request>,
    ready: &Ready,
) {
    // Its children inherit that: none runs the server's handlers.
    sys::block_signals();
    loop {
        let request = if ready.is_empty() {
            asked.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            asked.recv_timeout(SPARE_LIFE)
        };
        match request {
            Ok(Request::Make(reply)) => {
                // Whoever asked and has gone leaves it to be ended.
                let _ = reply.send(First::make(plan));
            }
            Ok(Request::Look) => {}
            Err(RecvTimeoutError::Timeout) => {
                ready.drop_stale();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        ready.drop_stale();
        if let Some(filter) = filter {
            ready.give_launchers(filter);
        }
        if ready.is_empty()
            && let Ok(first) = First::make(plan)
        {
            ready.lock().push_back(Arc::new(first));
        }
    }
}

/// The first process of an enclosure, which is killed when this is dropped: by the last who has it.
#[derive(Debug)]
struct First {
    pid: Pid,
    handle: OwnedFd,
    made: Instant,
    /// Whether a program had it.
    was_used: AtomicBool,
    /// What starts programs in it sooner.
    launcher: OnceLock<Launcher>,
}

impl First {
    fn make(plan: &FirstProcess) -> io::Result<Self> {
        let (pid, handle) = sys::enclose(plan)?;
        Ok(Self {
            pid,
            handle,
            made: Instant::now(),
            was_used: AtomicBool::new(false),
            launcher: OnceLock::new(),
        })
    }

    fn is_fresh(&self) -> bool {
        let launcher = self.launcher.get();
        self.made.elapsed() < SPARE_LIFE && !launcher.is_some_and(Launcher::is_gone)
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
            let mut descriptors = [PollFd::new(&self.handle, PollFlags::IN)];
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
    first: Arc<First>,
    killed: AtomicBool,
    /// Keeps the thread, with which the first process would end.
    maker: Enclosures,
}

impl Enclosure {
    /// Says whether another program may have it when it is empty.
    pub(super) fn is_reusable(&self) -> bool {
        self.maker.reusable && !self.killed.load(Ordering::Relaxed)
    }

    /// Leaves it to the next program. This one has ended with all that it left, and has been reaped.
    pub(super) fn give_back(&self) {
        self.maker.keep(&self.first);
    }

    /// Lays out what a child needs to join and to work in `cwd`, a directory. `by_launcher` says whether a launcher
    /// may start it, which is a process in there too.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn join(&self, cwd: &OwnedFd, by_launcher: bool) -> io::Result<Join> {
        let path = fs::read_link(format!("/proc/self/fd/{}", cwd.as_raw_fd()))?;
        Ok(Join {
            first: Arc::clone(&self.first),
            by_launcher,
            cwd: CString::new(path.into_os_string().into_vec())?,
        })
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
        self.killed.store(true, Ordering::Relaxed);
        self.first.kill();
    }

    /// Waits until everything has ended, the program having been reaped; false if it takes too long.
    pub(super) fn ended(&self, patience: Duration) -> bool {
        self.first.ended(patience)
    }

    /// Joins and does nothing there.
    fn try_to_join(&self) -> io::Result<()> {
        let cwd: OwnedFd = fs::File::open("/")?.into();
        let join = self.join(&cwd, false)?;
        let setup = ChildSetup {
            // There is no such program: that this is what fails shows that all before it worked.
            image: Image::new("".as_ref(), &[], &[])?,
            streams: [spawn::null()?, spawn::null()?, spawn::null()?],
            cwd,
            rlimits: Vec::new(),
            cell: None,
            terminal: false,
            join: Some(join),
            tied: false,
        };
        match sys::launch(&setup) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(error),
            Ok(pid) => {
                sys::kill_and_reap(pid);
                Err(io::Error::other("a trial went wrong"))
            }
        }
    }
}

/// What a child needs to become a program in an enclosure.
pub(super) struct Join {
    first: Arc<First>,
    by_launcher: bool,
    /// The path of the working directory: a handle would lead into the server's own mounts.
    pub(super) cwd: CString,
}

impl Join {
    /// Returns the pidfd of the first process.
    pub(super) fn first(&self) -> BorrowedFd<'_> {
        self.first.handle.as_fd()
    }

    /// Returns what may start the child instead of the calling thread.
    pub(super) fn launcher(&self) -> Option<&Launcher> {
        let launcher = self.first.launcher.get();
        launcher.filter(|_| self.by_launcher)
    }
}

/// Returns the limit that gives a program so many processes in an enclosure: while it is started, and then.
/// Until it is reaped, the child that joined counts too.
pub(super) fn limit_of(processes: u64) -> [u64; 2] {
    let then = processes.saturating_add(OWN_PROCESSES);
    [then.saturating_add(1), then]
}
