//! Programs without streams: what a server runs aside, for somebody who looks at the end only.
//!
//! They are started, limited and ended as those of the table are, but have no record here: who
//! starts one keeps what is to be known of it.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chirp_proto::Code;
use rustix::process::Pid;

use super::StartError;
use super::confine::Confinement;
use super::kin::{self, Kin};
use super::leader::Leader;
use super::spawn::{launch, null, rlimits};
use super::sys::{self, ChildSetup, ExitWatch, Image};
use crate::status::{Limits, Resources};

/// How long a program has to react to TERM before it is killed.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// How long its descendants have after its end, likewise.
const DESCENDANTS_GRACE: Duration = Duration::from_millis(500);

/// A program to run: its streams are the null device, its environment is exactly `env`.
#[derive(Debug)]
pub struct Batch {
    /// The program, absolute or relative to `cwd`; it is not searched for.
    pub program: PathBuf,
    /// All arguments, the program's own name first.
    pub args: Vec<OsString>,
    /// The environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub cwd: OwnedFd,
    /// The limits that the kernel enforces (`cpu_s`, `memory_bytes`, `file_bytes`, `open_files`).
    pub limits: Limits,
    /// What it may reach besides what lies below `cwd`; `None` for all that the account may. It is in the
    /// namespaces of the caller.
    pub confinement: Option<Arc<Confinement>>,
}

impl Batch {
    /// Starts the program in a session of its own. Blocks until its exec has succeeded or failed.
    ///
    /// The kernel kills the program when the calling thread ends, so that it does not survive a
    /// server that is killed: call this on a thread that lives as long as the server.
    ///
    /// # Errors
    ///
    /// [`StartError`]; its code is [`Code::TooManyOpen`] where no process was to be had, and any
    /// other where the program cannot be run.
    pub fn start(self, runtime: &tokio::runtime::Handle) -> Result<Running, StartError> {
        let image = Image::new(self.program.as_os_str(), &self.args, &self.env)
            .map_err(|error| StartError::new(Code::InvalidRequest, error.to_string()))?;
        let kin = Kin::new().map_err(|error| StartError::means("mark", &error))?;
        kin::watch(runtime);
        // Its working directory is its temporary one, too.
        let cwd = self.cwd.as_fd();
        let cell = self.confinement.as_deref().map(|it| it.cell(cwd, cwd));
        let cell = cell
            .transpose()
            .map_err(|error| StartError::means("sandbox", &error))?;
        let streams = || Ok([null()?, null()?, null()?]);
        let setup = ChildSetup {
            image,
            streams: streams().map_err(|error| StartError::means("null device", &error))?,
            rlimits: rlimits(&self.limits, &kin),
            cell,
            cwd: self.cwd,
            terminal: false,
            join: None,
            tied: true,
        };
        let (pid, handle) = launch(&self.program, setup)?;
        kin.led_by(pid);
        let _entered = runtime.enter();
        let exit = ExitWatch::new(handle).map_err(|error| {
            sys::kill_and_reap(pid);
            StartError::new(
                Code::TooManyOpen,
                format!("cannot start: process handle: {error}"),
            )
        })?;
        Ok(Running {
            pid,
            leader: Leader::new(
                pid,
                exit,
                Arc::new(kin),
                None,
                TERM_GRACE,
                DESCENDANTS_GRACE,
            ),
        })
    }
}

/// A running program; to be seen to its end with [`Running::end`].
pub struct Running {
    pid: Pid,
    leader: Leader,
}

impl Running {
    /// Returns the process id, which is also that of its session and of its group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for the program's end, or brings it about by TERM and then KILL once `stop` is over.
    /// Whatever the program left running is ended too.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the program would stay unwatched.
    pub async fn end(self, stop: impl Future<Output = ()>) -> Ended {
        tokio::select! {
            () = self.leader.exited() => {}
            () = stop => {
                self.leader.terminate().await;
                while tokio::time::timeout_at(self.leader.deadline(), self.leader.exited())
                    .await
                    .is_err()
                {
                    self.leader.kill().await;
                }
            }
        }
        let (exit, survivors) = self.leader.end(|| {}).await;
        Ended {
            exited: exit.exited,
            code: exit.code,
            resources: exit.resources,
            survivors,
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// True where it exited, false where a signal ended it.
    pub exited: bool,
    /// The exit code, or the signal's number.
    pub code: i32,
    /// What it and every descendant that was waited for used.
    pub resources: Resources,
    /// Process ids of descendants that could not be ended.
    pub survivors: Vec<u32>,
}
