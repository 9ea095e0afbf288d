//! Whose a process is, whatever it does to hide it.
//!
//! Every program is started with a mark: a random number as its hard limit of `RLIMIT_LOCKS`, which
//! Linux has not used for anything since 2.4. The mark passes on to all descendants, through `setsid`,
//! double forks and cleared environments, can be read of every process of the same user with one
//! system call, and cannot be raised without privileges. A program may lower it. That takes it out of
//! no reach: the server is the subreaper of all it starts, so a process whose parent has ended becomes
//! the server's child, and a child with a mark that belongs to no program is ended at sight. In namespaces of its
//! own nothing of a program comes to the server, and nobody looks.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getpid, getrlimit, set_child_subreaper};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::group::Member;
use super::sys;

/// The limit that carries the mark.
const CARRIER: Resource = Resource::Locks;

/// Where nothing limits them, marks lie from half of this on.
const MARKS_END: u64 = 1 << 62;

/// Below so many possible marks there is none: two programs would share one too easily.
const MARKS_MIN: u64 = 1 << 32;

/// How long to leave between two looks at all processes for what ended or escaped.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// The programs that run, by their marks. Children belong to the process, so this is one for all
/// tables of it.
static PROGRAMS: LazyLock<Mutex<Programs>> = LazyLock::new(Mutex::default);

#[derive(Debug, Default)]
struct Programs {
    /// The leader of each; None while it is being started.
    leaders: HashMap<u64, Option<Pid>>,
    /// The task that reaps what others leave behind. It ends with its runtime.
    sweeper: Option<JoinHandle<()>>,
}

/// The mark of one program and everything that descends from it, for as long as it is supervised.
#[derive(Debug)]
pub(super) struct Kin {
    /// None where the server's own limit is too low to give marks.
    mark: Option<u64>,
}

impl Kin {
    /// Makes a mark for a program that is about to be started, and the server the heir of what its
    /// programs leave behind.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn new() -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        let end = own_limit().min(MARKS_END);
        if end < MARKS_MIN {
            return Ok(Self { mark: None });
        }
        let random = getrandom::u64().map_err(io::Error::other)?;
        // In the upper half: a server that runs as a program of another one can still give marks.
        let mark = end / 2 + random % (end / 2);
        programs().leaders.insert(mark, None);
        Ok(Self { mark: Some(mark) })
    }

    /// Returns the limit that gives a process the mark.
    pub(super) fn limit(&self) -> Option<(Resource, Rlimit)> {
        let limit = Rlimit {
            current: self.mark,
            maximum: self.mark,
        };
        self.mark.map(|_| (CARRIER, limit))
    }

    /// Returns the mark, to be recognized after the server's death.
    pub(super) fn mark(&self) -> Option<u64> {
        self.mark
    }

    /// Notes the program, which only its supervisor may reap.
    pub(super) fn led_by(&self, leader: Pid) {
        if let Some(mark) = self.mark {
            programs().leaders.insert(mark, Some(leader));
        }
    }

    /// Says whether a process has this mark.
    pub(super) fn includes(&self, pid: Pid) -> bool {
        self.mark.is_some() && mark_of(pid) == self.mark
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        if let Some(mark) = self.mark {
            programs().leaders.remove(&mark);
        }
    }
}

/// Says whether a process is a child of this one whose mark belongs to no program.
pub(super) fn is_stray(pid: Pid) -> bool {
    let Some(mark) = mark_of(pid) else {
        return false;
    };
    let known = programs().leaders.contains_key(&mark);
    !known && parent_of(pid) == Some(getpid())
}

/// Ends every process that has one of these marks, of a server that was killed. Blocks until they are
/// gone or it has been tried often enough; returns how many are left.
pub(super) fn end_marked(marks: &[u64]) -> usize {
    const TRIES: u32 = 100;
    let belongs = |pid| mark_of(pid).is_some_and(|mark| marks.contains(&mark));
    for _ in 0..TRIES {
        let mut members: Vec<Member> = processes()
            .filter(|&pid| belongs(pid))
            .filter_map(|pid| Member::hold(pid, belongs))
            .collect();
        members.retain(Member::alive);
        if members.is_empty() {
            return 0;
        }
        for member in &members {
            member.signal(Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    processes().filter(|&pid| belongs(pid)).count()
}

/// Has descendants that ended after their parents reaped, and strays ended, from now on.
pub(super) fn watch(runtime: &Handle) {
    let mut programs = programs();
    let runs = programs.sweeper.as_ref();
    if runs.is_some_and(|task| !task.is_finished()) {
        return;
    }
    let _entered = runtime.enter();
    // Children end all the time: this looks once for all that end in one pause.
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!(%error, "descendants that outlive their parents cannot be reaped");
            return;
        }
    };
    programs.sweeper = Some(runtime.spawn(async move {
        while ended.recv().await.is_some() {
            if tokio::task::spawn_blocking(sweep).await.is_err() {
                return;
            }
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
    }));
}

/// Reaps what has ended and was left to this process, and ends strays.
fn sweep() {
    for pid in processes() {
        let Some(mark) = mark_of(pid) else { continue };
        let leader = programs().leaders.get(&mark).copied();
        match leader {
            // It may be the program itself, which is not known yet.
            Some(None) => {}
            Some(Some(leader)) if leader == pid => {}
            // Of somebody else's children this says that they are none of ours.
            Some(Some(_)) => drop(sys::reap(pid)),
            None => {
                if let Some(stray) = Member::hold(pid, is_stray) {
                    stray.signal(Signal::KILL);
                }
                drop(sys::reap(pid));
            }
        }
    }
}

/// Returns the mark of a process; None for one that has the server's own limit or is not to be seen.
fn mark_of(pid: Pid) -> Option<u64> {
    sys::hard_limit(pid, libc::RLIMIT_LOCKS).filter(|&limit| limit < own_limit())
}

fn own_limit() -> u64 {
    static OWN: LazyLock<u64> = LazyLock::new(|| getrlimit(CARRIER).maximum.unwrap_or(u64::MAX));
    *OWN
}

fn programs() -> MutexGuard<'static, Programs> {
    PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the ids of all processes that can be seen.
pub(super) fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(number)
    })
}

/// Returns the parent of a process.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name in parentheses may hold anything, so count from the last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    Pid::from_raw(fields.split(' ').nth(1)?.parse().ok()?)
}
