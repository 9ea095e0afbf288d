//! Jobs (`chirp-protocol.md`, part 9): programs that are described now and run later, in a sandbox
//! with files of the tree bound into it.
//!
//! A job is run by the runner of `exec`, with its limits and its confinement, and only for a
//! subject with the execute right (the reference asks for none, weakness W6): see `rights`.
//!
//! | module | content |
//! |---|---|
//! | `text`, `description` | the body of `job_create` |
//! | `job`, `json` | one job, its states, its status object |
//! | `table` | all jobs in memory |
//! | `store` | all jobs on disk |
//! | [`inspect`] | what is read from outside, without a server |
//! | `scheduler`, `run` | which job runs when; the life of a running one |
//! | `keeper` | the thread that programs are tied to |
//! | `sandbox`, `bind`, `pattern` | the directory of a job; files in and out |
//! | `rights` | what the subject must hold |
//! | `survivors` | programs of a server that was killed |

mod bind;
mod description;
pub mod inspect;
mod job;
mod json;
mod keeper;
mod pattern;
mod rights;
mod run;
mod sandbox;
mod scheduler;
mod store;
mod survivors;
mod table;
mod text;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chirp_proto::Code;
use chirp_proto::limits::IO_MAX;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Args, Sandbox};
use crate::export::Export;
use crate::session::Principal;
use crate::transient::Transient;

use description::Description;
use job::{Job, Owner, State};
use keeper::Keeper;
use store::{Change, Store};
use table::{Asker, Table};

/// The longest wait of one `job_wait`.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Jobs that one `job_wait` answers at most.
const WAIT_JOBS_MAX: usize = 1024;

/// Bytes that the status of a new job may have: what is added later must fit in an answer, too.
const STATUS_CREATED_MAX: usize = STATUS_MAX / 2;

/// Bytes that the status of any job may have, so that an array of it alone is shorter than the longest
/// answer.
const STATUS_MAX: usize = ANSWER_MAX - 4;

/// Bytes of the longest answer.
#[expect(clippy::cast_possible_truncation, reason = "16 MiB")]
const ANSWER_MAX: usize = IO_MAX as usize;

/// Bytes that any status has at least: its keys alone have more.
const STATUS_MIN: usize = 256;

/// Bytes of a body above which it counts as large.
pub(crate) const LARGE_BODY: u64 = 1024 * 1024;

/// Large bodies that are in memory at once.
const LARGE_BODIES: usize = 4;

/// The jobs of a server. Clones are the same.
#[derive(Clone, Debug)]
pub struct Jobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    /// Whoever has this is the only one who changes jobs.
    store: Arc<tokio::sync::Mutex<Store>>,
    /// Told when a job has ended or was reaped.
    ended: Notify,
    /// Told when there may be a job to start.
    work: Notify,
    /// The jobs that are being worked on, and how to end that.
    working: Mutex<HashMap<u64, CancellationToken>>,
    stopping: CancellationToken,
    tasks: TaskTracker,
    large_bodies: Arc<Semaphore>,
    keeper: Keeper,
    settings: Settings,
}

#[derive(Debug)]
struct Settings {
    /// The exported directory as programs see it.
    root: PathBuf,
    concurrency: usize,
    time_limit: Duration,
    sandbox: Sandbox,
}

impl Jobs {
    /// Opens the jobs of a transient directory, and ends what programs a server before this one has
    /// left running. None without `--jobs`.
    ///
    /// # Errors
    ///
    /// The jobs on disk cannot be used.
    pub fn open(args: &Args, root: &Path, transient: &Transient) -> anyhow::Result<Option<Self>> {
        if !args.jobs {
            return Ok(None);
        }
        let (mut store, table) = Store::open(transient.path())?;
        let table = Mutex::new(table);
        fail_interrupted(&mut store, &table, root)?;
        let concurrency = match args.job_concurrency {
            0 => usize::MAX,
            limit => limit,
        };
        Ok(Some(Self {
            shared: Arc::new(Shared {
                table,
                store: Arc::new(tokio::sync::Mutex::new(store)),
                ended: Notify::new(),
                work: Notify::new(),
                working: Mutex::default(),
                stopping: CancellationToken::new(),
                tasks: TaskTracker::new(),
                large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)),
                keeper: Keeper::start()?,
                settings: Settings {
                    root: root.to_owned(),
                    concurrency,
                    time_limit: args.job_time_limit,
                    sandbox: args.sandbox,
                },
            }),
        }))
    }

    /// Begins to run committed jobs, for a server that listens on `port`.
    pub fn start(&self, server: Arc<crate::server::Server>, port: u16) {
        let shared = Arc::clone(&self.shared);
        self.shared
            .tasks
            .spawn(scheduler::run(shared, server, port));
    }

    /// Starts no more jobs and ends those that run, which are then ERRORED. Gives up after
    /// `patience`.
    pub async fn shutdown(&self, patience: Duration) {
        self.shared.stopping.cancel();
        for working in lock(&self.shared.working).values() {
            working.cancel();
        }
        self.shared.tasks.close();
        if tokio::time::timeout(patience, self.shared.tasks.wait())
            .await
            .is_err()
        {
            let left = lock(&self.shared.working).len();
            tracing::warn!(left, "jobs that could not be ended in time");
        }
    }

    /// Reports whether a job is being worked on, from the making of its sandbox to the removal.
    pub(crate) fn is_working(&self) -> bool {
        !lock(&self.shared.working).is_empty()
    }

    /// Returns the permits for bodies above [`LARGE_BODY`].
    pub(crate) fn large_bodies(&self) -> &Arc<Semaphore> {
        &self.shared.large_bodies
    }

    /// `job_create`: returns the id of the new job.
    ///
    /// # Errors
    ///
    /// -8 for what is no job, -24 for too long a path, -2 and -3 where the subject may not run or
    /// bind that, -7 where its status would be too long to be answered, -9 and -7 where it has too many
    /// or too large jobs, or the system's.
    pub(crate) async fn create(
        &self,
        server: &Arc<crate::server::Server>,
        who: &Principal,
        body: Vec<u8>,
    ) -> Result<u64, Code> {
        let (shared, server) = (Arc::clone(&self.shared), Arc::clone(server));
        let (who, owner) = (who.clone(), owner(who));
        let check = move || {
            let description = Description::parse(&body)?;
            rights::check(
                &shared.settings.root,
                server.export.door(&who),
                &description,
            )?;
            let job = Job::new(0, owner, description, now());
            if json::length(&job) > STATUS_CREATED_MAX {
                return Err(Code::NoMemory);
            }
            Ok(job)
        };
        let mut job = blocking(check).await??;
        self.exclusively(move |shared, store| {
            job.id = store.next_id();
            let (id, weight) = (job.id, job.description.weight());
            let forgotten = lock(&shared.table).room_for(&job.owner.subject, weight)?;
            shared.forget(store, forgotten)?;
            store.add(&shared.table, job).map_err(code)?;
            Ok(id)
        })
        .await?
    }

    /// `job_commit`: lets jobs run. Those that were committed before stay as they are.
    ///
    /// # Errors
    ///
    /// As `Table::find`, or the system's; nothing has changed then.
    pub(crate) async fn commit(&self, asker: Asker, body: Vec<u8>) -> Result<u64, Code> {
        self.exclusively(move |shared, store| {
            let (ids, _) = shared.selected(&asker, &body, |job| job.state == State::Created)?;
            let at = now();
            shared.change(store, &ids, |ids| Change::Commit { ids, at })?;
            shared.work.notify_one();
            Ok(0)
        })
        .await?
    }

    /// `job_kill`: ends jobs.
    ///
    /// # Errors
    ///
    /// As [`Jobs::commit`], and -2 if one has ended. Those that run are ended even if that cannot be
    /// written down.
    pub(crate) async fn kill(&self, asker: Asker, body: Vec<u8>) -> Result<u64, Code> {
        self.exclusively(move |shared, store| {
            let (ids, all) = shared.selected(&asker, &body, |job| !job.state.is_terminal())?;
            // Also where one is named twice: the second time it has ended, as in the reference.
            if !all {
                return Err(Code::NotAuthorized);
            }
            let (killed, result) = store.kill(&shared.table, ids, now());
            let working = lock(&shared.working);
            for token in killed.iter().filter_map(|id| working.get(id)) {
                token.cancel();
            }
            drop(working);
            shared.ended.notify_waiters();
            result.map(|()| 0).map_err(code)
        })
        .await?
    }

    /// `job_reap`: notes that the owner knows of the end of jobs. Others stay as they are.
    ///
    /// # Errors
    ///
    /// As [`Jobs::commit`].
    pub(crate) async fn reap(&self, asker: Asker, body: Vec<u8>) -> Result<u64, Code> {
        self.exclusively(move |shared, store| {
            let (ids, _) = shared.selected(&asker, &body, Job::is_ready)?;
            let at = now();
            shared.change(store, &ids, |ids| Change::Reap { ids, at })?;
            shared.ended.notify_waiters();
            Ok(0)
        })
        .await?
    }

    /// `job_status`: returns the status objects of jobs, in the order they were asked for.
    ///
    /// # Errors
    ///
    /// -8 for no array of ids, -2 for a job that does not exist or is somebody else's, -5 where the
    /// answer would be longer than any may be.
    pub(crate) async fn status(&self, asker: Asker, body: Vec<u8>) -> Result<Vec<u8>, Code> {
        let shared = Arc::clone(&self.shared);
        let answer = move || {
            let ids = description::parse_ids(&body)?;
            let table = lock(&shared.table);
            let found = table.find(&asker, &ids).map_err(|_| Code::NotAuthorized)?;
            if found.len() > ANSWER_MAX / STATUS_MIN {
                return Err(Code::TooBig);
            }
            let found: Vec<Job> = found.into_iter().cloned().collect();
            drop(table);
            let (answer, written) = array(&found);
            if written < found.len() {
                return Err(Code::TooBig);
            }
            Ok(answer)
        };
        blocking(answer).await?
    }

    /// `job_wait`: returns the status objects of ended jobs as soon as there are any, and none
    /// when the time is over or `stop` comes true.
    ///
    /// # Errors
    ///
    /// As `Table::waited_for`.
    ///
    /// # Cancel safety
    ///
    /// Cancelling changes nothing.
    pub(crate) async fn wait(
        &self,
        asker: &Asker,
        id: i64,
        seconds: i64,
        stop: &CancellationToken,
    ) -> Result<Vec<u8>, Code> {
        let time = match u64::try_from(seconds) {
            Ok(seconds) => Duration::from_secs(seconds).min(WAIT_MAX),
            Err(_) => WAIT_MAX,
        };
        let deadline = tokio::time::Instant::now() + time;
        loop {
            let ended = self.shared.ended.notified();
            tokio::pin!(ended);
            // From here on nothing is missed, although it is looked at later.
            ended.as_mut().enable();
            let found: Option<Vec<Job>> = lock(&self.shared.table)
                .waited_for(asker, id, WAIT_JOBS_MAX)?
                .map(|jobs| jobs.into_iter().cloned().collect());
            if let Some(jobs) = found {
                let (answer, written) = blocking(move || array(&jobs)).await?;
                if written > 0 {
                    return Ok(answer);
                }
            }
            tokio::select! {
                () = &mut ended => {}
                () = tokio::time::sleep_until(deadline) => return Ok(b"[]".to_vec()),
                () = stop.cancelled() => return Ok(b"[]".to_vec()),
            }
        }
    }

    /// Runs a change when no other one is made, on a thread that may wait for the disk. It is
    /// finished even if whoever asked for it has left.
    async fn exclusively<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Shared, &mut Store) -> T + Send + 'static,
    ) -> Result<T, Code> {
        self.shared.exclusively(act).await
    }
}

impl Shared {
    /// As [`Jobs::exclusively`].
    async fn exclusively<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&Self, &mut Store) -> T + Send + 'static,
    ) -> Result<T, Code> {
        let mut store = Arc::clone(&self.store).lock_owned().await;
        let shared = Arc::clone(self);
        blocking(move || act(&shared, &mut store)).await
    }

    /// Finds the jobs of a body, all or none, and returns those that are to be changed, each once,
    /// and whether those are as many as were named.
    fn selected(
        &self,
        asker: &Asker,
        body: &[u8],
        wanted: impl Fn(&Job) -> bool,
    ) -> Result<(Vec<u64>, bool), Code> {
        let ids = description::parse_ids(body)?;
        let table = lock(&self.table);
        let (asked, found) = (ids.len(), table.find(asker, &ids)?);
        let mut ids: Vec<u64> = found
            .into_iter()
            .filter(|job| wanted(job))
            .map(|job| job.id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let all = ids.len() == asked;
        Ok((ids, all))
    }

    /// Makes a change, unless it is one of nothing.
    fn change(
        &self,
        store: &mut Store,
        ids: &[u64],
        change: impl FnOnce(Vec<u64>) -> Change,
    ) -> Result<(), Code> {
        if ids.is_empty() {
            return Ok(());
        }
        store
            .change(&self.table, &change(ids.to_vec()))
            .map_err(code)
    }

    /// Forgets jobs, if there are any to forget.
    fn forget(&self, store: &mut Store, ids: Vec<u64>) -> Result<(), Code> {
        if !ids.is_empty() {
            tracing::info!(target: "job", count = ids.len(), "forgot jobs that ended long ago");
        }
        self.change(store, &ids, |ids| Change::Forget { ids })
    }
}

/// Returns who asks, for the verbs that concern jobs that exist.
pub(crate) fn asker(export: &Export, who: &Principal) -> Asker {
    Asker {
        subject: who.subject().as_str().to_owned(),
        superuser: export.is_superuser(who),
    }
}

fn owner(who: &Principal) -> Owner {
    Owner {
        login: who.login().as_str().to_owned(),
        subject: who.subject().as_str().to_owned(),
    }
}

/// Ends what programs of jobs a server before this one has left running, and says so in the status of
/// jobs that were.
fn fail_interrupted(store: &mut Store, table: &Mutex<Table>, root: &Path) -> anyhow::Result<()> {
    let interrupted: Vec<u64> = lock(table)
        .all()
        .filter(|job| job.state == State::Started)
        .map(|job| job.id)
        .collect();
    // Also of jobs that have ended: a KILLED one may not have been through with it.
    let sandboxes: Vec<PathBuf> = lock(table)
        .all()
        .filter_map(|job| job.sandbox.as_ref())
        .map(|sandbox| root.join(sandbox))
        .filter(|sandbox| sandbox.symlink_metadata().is_ok())
        .collect();
    if !sandboxes.is_empty() {
        survivors::end(&sandboxes);
    }
    for id in interrupted {
        tracing::warn!(target: "job", id, "the job ran when the server before this one ended");
        let error = "the server ended while the job was running".to_owned();
        let at = now();
        store.change(table, &Change::Fail { id, at, error })?;
    }
    let outdated = lock(table).outdated(now());
    if !outdated.is_empty() {
        store.change(table, &Change::Forget { ids: outdated })?;
    }
    Ok(())
}

/// Returns an array of status objects, as many as fit in an answer, and how many those are. One that
/// does not fit even alone hides no other.
fn array(jobs: &[Job]) -> (Vec<u8>, usize) {
    let mut answer = b"[".to_vec();
    let mut written = 0;
    for job in jobs {
        let before = answer.len();
        if written > 0 {
            answer.push(b',');
        }
        json::status(job, &mut answer);
        if answer.len() < ANSWER_MAX {
            written += 1;
            continue;
        }
        let alone = answer.len() - before;
        answer.truncate(before);
        if alone <= STATUS_MAX {
            break;
        }
        tracing::warn!(target: "job", id = job.id, "the status of the job is too long to be answered");
    }
    answer.push(b']');
    (answer, written)
}

/// Runs work that waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Code> {
    // It fails only if the work panicked or the server ends.
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Code::TryAgain)
}

fn code(error: io::Error) -> Code {
    tracing::error!(target: "job", %error, "cannot write down a change of jobs");
    error.raw_os_error().map_or(Code::Unknown, Code::from_errno)
}

/// Returns the time in seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
