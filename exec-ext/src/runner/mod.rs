//! Running programs: the table of executions and the life of each.
//!
//! An execution lives apart from the connection that streams it. Its supervisor, one task, feeds
//! and reads the pipes, enforces the limits of the clock and waits for the program by its pidfd. A
//! client is attached through an [`AttachTicket`], one at a time.

mod batch;
mod blocking;
mod budget;
mod capture;
mod config;
mod confine;
mod enclosure;
mod error;
mod execution;
mod filter;
mod group;
mod ids;
mod kin;
mod leader;
mod measure;
mod prepared;
mod spawn;
mod stdin;
mod store;
mod supervise;
mod sys;
mod temporary;
mod terminal;
mod usage;
mod window;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use chirp_proto::Code;
use chirp_proto::request::ExecutionName;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::request::Received;
use crate::status::{Limits, Status};

pub use batch::{Batch, Ended, Running};
pub use blocking::patiently;
pub use config::ExecutionsConfig;
pub use confine::{Confinement, Reach};
pub use error::StartError;
pub(crate) use execution::Channel;
pub use execution::{AttachTicket, Execution};
pub use prepared::{DEFAULT_PATH, Held, Input, Output, Prepared, clean_environment, find_program};
pub use sys::is_open_for_writing;

use budget::{Budget, Share};
use execution::Stop;
use ids::Ids;
use kin::Kin;
use store::{Filed, Record};
use supervise::Supervisor;
use temporary::Temporary;

/// The part of the transient directory that records and captured output have.
const DIRECTORY: &str = "exec";

/// The table of executions of one server. Clones are the same table.
#[derive(Clone, Debug)]
pub struct Executions {
    shared: Arc<Shared>,
}

/// The answer to a start.
#[derive(Debug)]
pub struct Started {
    /// The execution, whose id is the reply.
    pub execution: Arc<Execution>,
    /// The right to its streams; None where the request said `detach`.
    pub attach: Option<AttachTicket>,
    /// Whether it had been started before, by a request with the same `cmd-id`.
    pub existing: bool,
}

impl Executions {
    /// Makes a table with the ended executions of earlier servers with this transient directory. What
    /// ran when one was killed is ended now, and lost. Blocks for the disk.
    ///
    /// # Errors
    ///
    /// The counter of ids or the records in the transient directory cannot be read.
    pub fn new(config: ExecutionsConfig) -> io::Result<Self> {
        let ids = Ids::open(&config.transient)?;
        let captures = directory(&config.transient)?;
        let room = Room {
            windows: Arc::new(Budget::new(config.windows_total_bytes)),
            space: Arc::new(Budget::new(config.space_bytes)),
        };
        let table = restore(&captures, &config, &room)?;
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                room,
                ids: Mutex::new(ids),
                table: Mutex::new(table),
                settled: Notify::new(),
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// Starts what `request` asks for, or finds the execution that `subject` started with the same
    /// `cmd-id` and the same digest, and takes over its streams.
    ///
    /// `prepare` resolves and opens what the request names. It runs only if there is something to
    /// start, and may block ([`patiently`] where that is long), so that a repeated request does not truncate a file.
    ///
    /// # Errors
    ///
    /// [`StartError`] with the code to answer: every reason not to run that is known before the
    /// program's first instruction.
    ///
    /// # Cancel safety
    ///
    /// A start that was begun is finished even if the future is dropped; the execution is then
    /// treated as one whose connection was lost.
    pub async fn start<F>(
        &self,
        subject: &str,
        request: Arc<Received>,
        prepare: F,
    ) -> Result<Started, StartError>
    where
        F: FnOnce() -> Result<Prepared, StartError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let subject = subject.to_owned();
        let start = async move { shared.start(&subject, &request, prepare).await };
        // A task of its own, so that a lost connection cannot leave a started program unsupervised.
        match self.shared.tasks.spawn(start).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StartError::new(
                Code::TryAgain,
                "cannot start: the server stops",
            )),
        }
    }

    /// Finds an execution by its id or, after `@`, its `cmd-id`. To anyone but its owner and the
    /// superuser it does not exist.
    #[must_use]
    pub fn find(
        &self,
        subject: &str,
        name: &ExecutionName,
        superuser: bool,
    ) -> Option<Arc<Execution>> {
        self.shared.table().find(subject, name, superuser)
    }

    /// Forgets an ended execution with what is left of its output. Returns whether there was one that
    /// this subject may see.
    ///
    /// # Errors
    ///
    /// It still runs, or a client is being told of its end (-10).
    pub fn remove(
        &self,
        subject: &str,
        name: &ExecutionName,
        superuser: bool,
    ) -> Result<bool, StartError> {
        let mut table = self.shared.table();
        let Some(execution) = table.find(subject, name, superuser) else {
            return Ok(false);
        };
        if !execution.is_at_rest() {
            return Err(StartError::new(
                Code::Busy,
                "the execution runs, or somebody is being told of its end",
            ));
        }
        table.remove(execution.id());
        Ok(true)
    }

    /// Returns the executions that `subject` may see, in order of their ids, without their
    /// requests.
    #[must_use]
    pub fn list(&self, subject: &str, superuser: bool) -> Vec<Status> {
        let table = self.shared.table();
        let visible = table.by_id.values().cloned();
        let visible: Vec<_> = visible
            .filter(|execution| superuser || execution.subject() == subject)
            .collect();
        drop(table);
        visible
            .iter()
            .map(|execution| execution.status_brief())
            .collect()
    }

    /// Takes every execution from its client, and lets it run on whatever its request says of a lost connection:
    /// the connections have ended for a reason of the server's. Times for coming back begin anew. Returns how
    /// many executions had not come to rest.
    #[must_use]
    pub fn detach_all(&self) -> usize {
        let all: Vec<_> = self.shared.table().by_id.values().cloned().collect();
        let restless = all.iter().filter(|execution| !execution.is_at_rest());
        restless
            .map(|execution| execution.attach().detach())
            .count()
    }

    /// Ends every execution, by TERM and after the usual time by KILL, and refuses new ones.
    /// Returns how many have not ended when `patience` is over.
    ///
    /// # Cancel safety
    ///
    /// Executions go on being ended after a cancelled call.
    pub async fn shutdown(&self, patience: Duration) -> usize {
        let running = self.shared.close();
        for execution in &running {
            execution.stop(Stop::Shutdown);
        }
        self.shared.tasks.close();
        // What is in the way of the end is counted below.
        let _ = tokio::time::timeout(patience, self.shared.tasks.wait()).await;
        let left = self.shared.table();
        let left = left.by_id.values();
        left.filter(|execution| !execution.has_ended()).count()
    }
}

#[derive(Debug)]
struct Shared {
    config: ExecutionsConfig,
    room: Room,
    ids: Mutex<Ids>,
    table: Mutex<Table>,
    /// Told when a start has succeeded or failed.
    settled: Notify,
    /// Supervisors and starts, so that shutdown can wait for them.
    tasks: TaskTracker,
}

/// The room that executions share for their output.
#[derive(Debug)]
struct Room {
    /// In memory, for what is streamed.
    windows: Arc<Budget>,
    /// On disk, for records, captured output and temporary directories.
    space: Arc<Budget>,
}

#[derive(Debug, Default)]
struct Table {
    by_id: BTreeMap<u64, Arc<Execution>>,
    /// Ids by subject and `cmd-id`.
    ids: HashMap<(String, String), u64>,
    /// Subjects and `cmd-id`s that are being started right now.
    starting: HashSet<(String, String)>,
    /// Whether the size of temporary directories is being looked at.
    measured: bool,
    closed: bool,
}

impl Table {
    /// See [`Executions::find`].
    fn find(&self, subject: &str, name: &ExecutionName, superuser: bool) -> Option<Arc<Execution>> {
        let found = match name {
            ExecutionName::Id(id) => self.by_id.get(id).cloned(),
            ExecutionName::CmdId(cmd_id) => {
                let own = self.by_cmd_id(subject, cmd_id);
                let any = || {
                    let mut all = self.by_id.values().rev();
                    all.find(|execution| execution.cmd_id() == cmd_id).cloned()
                };
                own.or_else(|| if superuser { any() } else { None })
            }
        };
        found.filter(|execution| superuser || execution.subject() == subject)
    }

    fn by_cmd_id(&self, subject: &str, cmd_id: &str) -> Option<Arc<Execution>> {
        let key = (subject.to_owned(), cmd_id.to_owned());
        self.by_id.get(self.ids.get(&key)?).cloned()
    }

    fn remove(&mut self, id: u64) {
        if let Some(execution) = self.by_id.remove(&id) {
            let subject = execution.subject().to_owned();
            self.ids.remove(&(subject, execution.cmd_id().to_owned()));
            execution.forget();
        }
    }
}

impl Shared {
    async fn start<F>(
        self: &Arc<Self>,
        subject: &str,
        request: &Arc<Received>,
        prepare: F,
    ) -> Result<Started, StartError>
    where
        F: FnOnce() -> Result<Prepared, StartError> + Send + 'static,
    {
        let claim = match self.claim(subject, request).await? {
            Claimed::Existing(execution) => return Ok(started(execution, request, true)),
            Claimed::New(claim) => claim,
        };
        let confinement = self.config.confinement.as_deref();
        if !confinement.is_some_and(Confinement::namespaces) {
            // In namespaces of its own a program leaves what it started to their first process.
            kin::watch(&tokio::runtime::Handle::current());
        }
        let shared = Arc::clone(self);
        let wanted = Arc::clone(request);
        let (cmd_id, owner) = (claim.key.1.clone(), subject.to_owned());
        let spawn = move || {
            let id = shared.next_id()?;
            let kin = Kin::new().map_err(|error| StartError::means("mark", &error))?;
            let record = Record {
                id,
                cmd_id,
                subject: owner,
                digest: wanted.digest(),
                request: wanted.shown().clone(),
                started: execution::seconds(SystemTime::now()),
                mark: kin.mark(),
                capture_bytes: shared.config.capture_bytes,
                end: None,
            };
            let means = |error| StartError::means("record of the execution", &error);
            let room = store::room_for(&record).map_err(means)?;
            let share = Share::take(&shared.room.space, &record.subject, room);
            let directory = shared.config.transient.join(DIRECTORY);
            let share = share.ok_or_else(no_space)?;
            // Nothing that the request names is touched before there is room for it.
            shared.can_limit(&wanted.limits)?;
            let prepared = prepare()?;
            let limits = prepared.limits;
            shared.can_limit(&limits)?;
            let confined = shared.confined(id)?;
            let filed = Filed::create(&directory, &record, share).map_err(means)?;
            match spawn::spawn(&wanted, prepared, confined, kin) {
                Ok(spawned) => Ok((record, filed, limits, spawned)),
                Err(error) => {
                    filed.remove();
                    Err(error)
                }
            }
        };
        let spawned = blocking::shortly(spawn).await;
        let (record, filed, limits, spawned) = spawned
            .map_err(|_| StartError::new(Code::TryAgain, "cannot start: the server stops"))??;
        let id = record.id;
        let execution = Execution::new(record, filed, request, &self.config, &self.room);
        let execution = Arc::new(execution);
        let supervisor = Supervisor::new(Arc::clone(&execution), spawned, limits, &self.config)
            .map_err(|error| StartError::means("process handle", &error))
            .inspect_err(|_| execution.forget())?;
        let started = started(Arc::clone(&execution), request, false);
        let mut table = self.table();
        table.ids.insert(claim.key.clone(), id);
        table.by_id.insert(id, Arc::clone(&execution));
        let closed = table.closed;
        if self.config.confinement.is_some() && !std::mem::replace(&mut table.measured, true) {
            // It ends by itself, with the last program that runs or with the table.
            tokio::spawn(measure::watch(Arc::downgrade(self)));
        }
        drop(table);
        if closed {
            // It slipped in while the table was being closed.
            execution.stop(Stop::Shutdown);
        }
        self.tasks.spawn(supervisor.run());
        if let Some(confinement) = self.config.confinement.clone() {
            // While the program goes its way, and once the client has been answered.
            self.tasks.spawn(async move { confinement.prepare_next() });
        }
        tracing::debug!(id, subject, cmd = %request.cmd.display(), "execution started");
        Ok(started)
    }

    /// Finds the execution that the request repeats, or reserves its `cmd-id` and its place.
    async fn claim(
        self: &Arc<Self>,
        subject: &str,
        request: &Received,
    ) -> Result<Claimed, StartError> {
        loop {
            let settled = self.settled.notified();
            if let Some(claimed) = self.try_claim(subject, request)? {
                return Ok(claimed);
            }
            // The same request is being started on another connection.
            settled.await;
        }
    }

    fn try_claim(
        self: &Arc<Self>,
        subject: &str,
        request: &Received,
    ) -> Result<Option<Claimed>, StartError> {
        let mut table = self.table();
        let cmd_id = match &request.cmd_id {
            Some(cmd_id) => cmd_id.to_string(),
            None => table.free_cmd_id(subject),
        };
        let key = (subject.to_owned(), cmd_id);
        if table.starting.contains(&key) {
            return Ok(None);
        }
        if let Some(execution) = table.by_cmd_id(subject, &key.1) {
            return if execution.digest() == request.digest() {
                Ok(Some(Claimed::Existing(execution)))
            } else {
                Err(StartError::new(
                    Code::AlreadyExists,
                    format!("cmd-id {}: used before with another request", key.1),
                ))
            };
        }
        self.make_room(&mut table, subject)?;
        table.starting.insert(key.clone());
        drop(table);
        Ok(Some(Claimed::New(Claim {
            shared: Arc::clone(self),
            key,
        })))
    }

    /// Checks the bounds, and forgets what may be forgotten.
    fn make_room(&self, table: &mut Table, subject: &str) -> Result<(), StartError> {
        let refuse = |what: String| Err(StartError::new(Code::TooManyOpen, what));
        if table.closed {
            return Err(StartError::new(
                Code::TryAgain,
                "cannot start: the server stops",
            ));
        }
        let forgotten: Vec<u64> = table
            .by_id
            .values()
            .filter(|execution| {
                let rest = execution.rest();
                rest.is_some_and(|(age, _)| age > self.config.remembered)
            })
            .map(|execution| execution.id())
            .collect();
        for id in forgotten {
            table.remove(id);
        }
        let starting = table.starting.len();
        let own_starting = table.starting.iter().filter(|key| key.0 == subject).count();
        let running = |execution: &&Arc<Execution>| !execution.has_ended();
        let all = table.by_id.values();
        if all.clone().filter(running).count() + starting >= self.config.max_executions {
            let max = self.config.max_executions;
            return refuse(format!("{max} executions run at once already"));
        }
        if self.room.space.is_full(subject) {
            return Err(no_space());
        }
        let own = all.filter(|execution| execution.subject() == subject);
        let own_running = own.clone().filter(running).count() + own_starting;
        if own_running >= self.config.max_running_per_subject {
            let max = self.config.max_running_per_subject;
            return refuse(format!("{max} executions of yours run at once already"));
        }
        if own.clone().count() + own_starting < self.config.max_records_per_subject {
            return Ok(());
        }
        let oldest = own.clone().find(|execution| {
            let rest = execution.rest();
            rest.is_some_and(|(age, fetched)| fetched && age > self.config.kept)
        });
        match oldest.map(|execution| execution.id()) {
            Some(id) => {
                table.remove(id);
                Ok(())
            }
            None => {
                let max = self.config.max_records_per_subject;
                refuse(format!(
                    "{max} executions of yours are remembered; fetch and remove ended ones"
                ))
            }
        }
    }

    /// Returns what confines a program, with a temporary directory for it.
    fn confined(&self, id: u64) -> Result<Option<(&Confinement, Temporary)>, StartError> {
        let Some(confinement) = &self.config.confinement else {
            return Ok(None);
        };
        let path = self.config.transient.join(format!("exec/{id}.tmp"));
        let temporary = Temporary::make(path);
        let temporary =
            temporary.map_err(|error| StartError::means("temporary directory", &error))?;
        Ok(Some((confinement, temporary)))
    }

    /// Checks that every limit can be enforced.
    fn can_limit(&self, limits: &Limits) -> Result<(), StartError> {
        let confinement = self.config.confinement.as_deref();
        let counted = confinement.is_some_and(Confinement::limits_processes);
        if limits.processes.is_none() || counted {
            return Ok(());
        }
        Err(StartError::new(
            Code::NotSupported,
            "limits.processes: the processes of one execution can be counted only where it has namespaces",
        ))
    }

    fn next_id(&self) -> Result<u64, StartError> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.next()
            .map_err(|error| StartError::means("counter of ids", &error))
    }

    /// Refuses further starts and returns what runs.
    fn close(&self) -> Vec<Arc<Execution>> {
        let mut table = self.table();
        table.closed = true;
        table.by_id.values().cloned().collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Chooses a `cmd-id` for a request without one.
    fn free_cmd_id(&self, subject: &str) -> String {
        let newest = self.by_id.keys().next_back().copied().unwrap_or(0);
        let first = newest + 1;
        let taken = |cmd_id: &String| {
            let key = (subject.to_owned(), cmd_id.clone());
            self.ids.contains_key(&key) || self.starting.contains(&key)
        };
        let mut candidates = (first..).map(|number| format!("server.{number}"));
        // There are more numbers than records.
        candidates.find(|cmd_id| !taken(cmd_id)).unwrap_or_default()
    }
}

fn no_space() -> StartError {
    let what = "no room is left for what executions keep on disk; remove ended ones";
    StartError::new(Code::NoSpace, what)
}

enum Claimed {
    Existing(Arc<Execution>),
    New(Claim),
}

/// A `cmd-id` that is being started; given up when it is dropped.
struct Claim {
    shared: Arc<Shared>,
    key: (String, String),
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.table().starting.remove(&self.key);
        self.shared.settled.notify_waiters();
    }
}

/// Attaches the caller, unless it only wants the id.
fn started(execution: Arc<Execution>, request: &Received, existing: bool) -> Started {
    let attach = if request.detach {
        if !existing {
            execution.leave_unattended();
        }
        None
    } else {
        Some(execution.attach())
    };
    Started {
        execution,
        attach,
        existing,
    }
}

/// Reads the executions of earlier servers. What is left of the programs of one that was killed is
/// ended: nobody could be told of their end.
fn restore(directory: &Path, config: &ExecutionsConfig, room: &Room) -> io::Result<Table> {
    let mut table = Table::default();
    let mut marks = Vec::new();
    for record in store::load(directory)? {
        let id = record.id;
        let lost = record.end.is_none();
        marks.extend(record.mark.filter(|_| lost));
        let share = Share::forced(&room.space, &record.subject, store::room_for(&record)?);
        let filed = Filed::restored(directory, id, share);
        let execution = Execution::restored(record, filed, config, room);
        if lost {
            tracing::warn!(
                id,
                subject = execution.subject(),
                "an execution was lost: its server was killed"
            );
            execution.save_lost()?;
        }
        let key = (
            execution.subject().to_owned(),
            execution.cmd_id().to_owned(),
        );
        table.ids.insert(key, id);
        table.by_id.insert(id, Arc::new(execution));
    }
    if !marks.is_empty() {
        let left = kin::end_marked(&marks);
        if left > 0 {
            tracing::warn!(left, "processes of lost executions could not be ended");
        }
    }
    Ok(table)
}

/// Makes the directory for records and captured output, for the server only.
fn directory(transient: &Path) -> io::Result<PathBuf> {
    let directory = transient.join(DIRECTORY);
    let made = DirBuilder::new().mode(0o700).create(&directory);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(directory),
    }
}

/// Rounds seconds to the millisecond, for statuses.
fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
