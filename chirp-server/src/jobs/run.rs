//! The life of one running job, from its sandbox to its last output.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chirp_proto::request::TicketName;
use chirp_proto::{Code, Method, Subject};
use exec_ext::runner::{Batch, Ended};
use exec_ext::status::Limits;
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::bind::{self, Trouble};
use super::description::{Binding, Description, File, Kind};
use super::job::{Exit, Job, Owner, State};
use super::sandbox::Sandbox;
use super::store::{self, Change};
use super::{STATUS_MAX, Shared, blocking, json, lock, now, rights, survivors};
use crate::config;
use crate::exec::Exec;
use crate::server::Server;
use crate::session::Principal;

/// What jobs are run on.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) server: Arc<Server>,
    pub(super) port: u16,
}

/// Runs a claimed job to its end, which is then on record. Where `cancel` comes true it ends sooner:
/// its owner killed it, or the server stops.
pub(super) async fn run(
    shared: &Arc<Shared>,
    ground: &Arc<Ground>,
    job: Job,
    cancel: CancellationToken,
) {
    let (id, description) = (job.id, Arc::clone(&job.description));
    tracing::debug!(target: "job", id, subject = job.owner.subject, "preparing a job");
    let prepared = {
        let (shared, ground, cancel) = (Arc::clone(shared), Arc::clone(ground), cancel.clone());
        let (owner, description) = (job.owner.clone(), Arc::clone(&description));
        blocking(move || prepare(&shared, &ground, id, &owner, &description, &cancel)).await
    };
    let sandbox = match prepared {
        Ok(Ok(sandbox)) => sandbox,
        // It stays COMMITTED for the next server, or is KILLED.
        _ if cancel.is_cancelled() => return,
        Ok(Err(trouble)) => return fail(shared, id, trouble).await,
        Err(code) => return fail(shared, id, code.into()).await,
    };
    let sandbox = Arc::new(sandbox);
    run_in(shared, ground, &job, &sandbox, &cancel).await;
    // Removing what a program has made takes its time.
    let _ = blocking(move || drop(sandbox)).await;
    ground.server.export.space().changed_outside();
}

async fn run_in(
    shared: &Arc<Shared>,
    ground: &Arc<Ground>,
    job: &Job,
    sandbox: &Arc<Sandbox>,
    cancel: &CancellationToken,
) {
    let id = job.id;
    match note_start(shared, id, sandbox.name().to_owned(), cancel).await {
        Ok(true) => {}
        Ok(false) => return,
        Err(code) => return fail(shared, id, code.into()).await,
    }
    let end = end_of_program(shared, ground, job, sandbox, cancel).await;
    // Whatever it wrote is nothing that this server has charged to anybody.
    ground.server.export.space().changed_outside();
    let exit = match end {
        Ok(Some(exit)) => exit,
        Ok(None) => return,
        Err(trouble) => return fail(shared, id, trouble).await,
    };
    let outputs = {
        let (ground, sandbox, mut job) = (Arc::clone(ground), Arc::clone(sandbox), job.clone());
        blocking(move || {
            let files = (*job.files).clone();
            let files = bind_outputs(&ground.server, &sandbox, &job.owner, id, files)?;
            job.finish(now(), exit, files.clone());
            if json::length(&job) > STATUS_MAX {
                return Err(Trouble(
                    "the paths of the outputs are too long for the status of a job".to_owned(),
                ));
            }
            Ok(files)
        })
        .await
    };
    match outputs {
        Ok(Ok(files)) => finish(shared, id, exit, files).await,
        Ok(Err(trouble)) => fail(shared, id, trouble).await,
        Err(code) => fail(shared, id, code.into()).await,
    }
}

/// Checks what may have changed since the job was created, makes its sandbox and binds its inputs.
fn prepare(
    shared: &Shared,
    ground: &Ground,
    id: u64,
    owner: &Owner,
    description: &Description,
    cancel: &CancellationToken,
) -> Result<Sandbox, Trouble> {
    if shared.settings.sandbox == config::Sandbox::Require && ground.server.exec.is_none() {
        return Err(Trouble(
            "jobs are confined with --exec only, and the server was started with --sandbox=require"
                .to_owned(),
        ));
    }
    let files = &description.files;
    if let Some(file) = files.iter().find(|file| file.binding == Binding::Url) {
        return Err(bind::url_refused(file));
    }
    let (export, root) = (&ground.server.export, &shared.settings.root);
    let who = principal(owner)?;
    let door = export.door(&who);
    rights::may_run(root, door, description)?;
    let sandbox = Sandbox::make(export, root, id)?;
    for file in files.iter() {
        if cancel.is_cancelled() {
            return Err(Errno::CANCELED.into());
        }
        match file.kind {
            Kind::Input => bind::input(export, door, &sandbox, file, cancel)?,
            // A program finds the directories of its outputs.
            Kind::Output => bind::prepare_output(&sandbox, file)?,
        }
    }
    Ok(sandbox)
}

/// Writes down that the program is about to run; false if the job is not to run any more.
async fn note_start(
    shared: &Arc<Shared>,
    id: u64,
    sandbox: String,
    cancel: &CancellationToken,
) -> Result<bool, Code> {
    let cancel = cancel.clone();
    shared
        .exclusively(move |shared, store| {
            let queued = lock(&shared.table)
                .get(id)
                .is_some_and(|job| job.state == State::Committed);
            if !queued || cancel.is_cancelled() {
                return Ok(false);
            }
            let at = now();
            let change = Change::Start { id, at, sandbox };
            store.change(&shared.table, &change).map_err(super::code)?;
            Ok(true)
        })
        .await?
}

/// Runs the program. None if its owner killed the job.
async fn end_of_program(
    shared: &Arc<Shared>,
    ground: &Ground,
    job: &Job,
    sandbox: &Arc<Sandbox>,
    cancel: &CancellationToken,
) -> Result<Option<Exit>, Trouble> {
    let batch = batch(job, sandbox, ground)?;
    // Where nothing confines it the lists of the whole tree are to be kept from it.
    let server = Arc::clone(&ground.server);
    let kept = blocking(move || {
        let export = &server.export;
        export.guard().watch(export.root.dir(), b"")
    });
    let kept = kept.await?.map_err(|error| Trouble(error.to_string()))?;
    let runtime = tokio::runtime::Handle::current();
    let (keeper, log) = (Arc::clone(shared), Arc::clone(sandbox));
    let id = job.id;
    let (started, kept) = blocking(move || {
        let words = format!(
            "chirp-server {}: job {id}: execve {:?} {:?}\n",
            env!("CARGO_PKG_VERSION"),
            batch.program,
            batch.args
        );
        bind::start_log(&log, &words);
        let started = keeper.keeper.run(batch, runtime);
        // What is put right where none was started is put right here, too.
        let kept = matches!(started, Some(Ok(_))).then_some(kept);
        (started, kept)
    })
    .await?;
    let running = match started.ok_or(Errno::CANCELED)? {
        Ok(running) => running,
        Err(error) if error.code == Code::TooManyOpen => return Err(Trouble(error.message)),
        // The reference's job process, which cannot become the program, ends itself so.
        Err(error) => {
            tracing::info!(target: "job", id, %error, "the program cannot be run");
            return Ok(Some(Exit::Signaled(rustix::process::Signal::USR1.as_raw())));
        }
    };
    tracing::info!(target: "job", id, subject = job.owner.subject, pid = running.pid(), "job started");
    let limit = shared.settings.time_limit;
    let overdue = tokio::time::sleep(limit);
    tokio::pin!(overdue);
    let stop = async {
        tokio::select! {
            () = &mut overdue => {}
            () = cancel.cancelled() => {}
        }
    };
    let ended: Ended = running.end(stop).await;
    // What left the program's session before the program ended is nobody's child by now.
    let place = sandbox.host().to_owned();
    blocking(move || {
        survivors::end(&[place]);
        drop(kept);
    })
    .await?;
    tracing::info!(target: "job", id, exited = ended.exited, code = ended.code, "job ended");
    let killed = lock(&shared.table)
        .get(id)
        .is_none_or(|job| job.state.is_terminal());
    if killed {
        Ok(None)
    } else if cancel.is_cancelled() {
        Err(Trouble(
            "the server stopped while the job was running".to_owned(),
        ))
    } else if overdue.is_elapsed() {
        Err(Trouble(format!(
            "ended after {} s, the longest that a job may run here",
            limit.as_secs()
        )))
    } else if ended.exited {
        Ok(Some(Exit::Exited(ended.code)))
    } else {
        Ok(Some(Exit::Signaled(ended.code)))
    }
}

/// Describes the program to the runner.
fn batch(job: &Job, sandbox: &Sandbox, ground: &Ground) -> Result<Batch, Trouble> {
    let description = &job.description;
    // Programs of `exec` and of jobs are held alike; with jobs alone they are the reference's.
    let exec = ground.server.exec.as_deref();
    let confinement = exec.map(Exec::confinement).transpose();
    let confinement = confinement.map_err(|reason| Trouble(reason.to_owned()))?;
    let limits = exec.map(|exec| exec.limits_for(&Limits::default()));
    let text = |text: &super::text::Text| OsString::from_vec(text.as_bytes().to_vec());
    Ok(Batch {
        program: PathBuf::from(text(&description.executable)),
        args: description.arguments.iter().map(text).collect(),
        env: environment(&job.owner, description, sandbox.host(), ground.port),
        cwd: sandbox.handle()?,
        limits: limits.unwrap_or_default(),
        confinement: confinement.flatten(),
    })
}

/// Returns the variables of part 9.5: the job's, and the usual ones that it does not give itself.
fn environment(
    owner: &Owner,
    description: &Description,
    sandbox: &Path,
    port: u16,
) -> Vec<(OsString, OsString)> {
    let sandbox = sandbox.as_os_str().to_owned();
    let usual = [
        // Without a host, as the reference has it.
        ("CHIRP_HOST", OsString::from(format!(":{port}"))),
        ("CHIRP_SUBJECT", OsString::from(&owner.subject)),
        ("HOME", sandbox.clone()),
        ("LANG", OsString::from("C")),
        ("LC_ALL", OsString::from("C")),
        ("PATH", OsString::from("/bin:/usr/bin:/usr/local/bin")),
        ("PWD", sandbox.clone()),
        ("TMPDIR", sandbox),
        ("USER", OsString::from("chirp")),
    ];
    let own = &description.environment;
    let given = |name: &str| own.keys().any(|own| own.as_bytes() == name.as_bytes());
    let usual = usual
        .into_iter()
        .filter(|(name, _)| !given(name))
        .map(|(name, value)| (OsString::from(name), value));
    let text = |text: &super::text::Text| OsString::from_vec(text.as_bytes().to_vec());
    own.iter()
        .map(|(name, value)| (text(name), text(value)))
        .chain(usual)
        .collect()
}

fn bind_outputs(
    server: &Server,
    sandbox: &Sandbox,
    owner: &Owner,
    id: u64,
    mut files: Vec<File>,
) -> Result<Vec<File>, Trouble> {
    let who = principal(owner)?;
    let door = server.export.door(&who);
    for file in files.iter_mut().filter(|file| file.kind == Kind::Output) {
        if let Some((path, size)) = bind::output(&server.export, door, sandbox, file, id)? {
            file.serv_path = path;
            file.size = Some(size);
        }
    }
    Ok(files)
}

async fn finish(shared: &Arc<Shared>, id: u64, exit: Exit, files: Vec<File>) {
    note_end(shared, id, move |job| job.finish(now(), exit, files)).await;
}

async fn fail(shared: &Arc<Shared>, id: u64, trouble: Trouble) {
    let Trouble(error) = trouble;
    tracing::info!(target: "job", id, error, "the job came to nothing");
    note_end(shared, id, move |job| job.fail(now(), error)).await;
}

/// Writes down what became of a job, unless its owner killed it meanwhile.
async fn note_end(shared: &Arc<Shared>, id: u64, end: impl FnOnce(&mut Job) + Send + 'static) {
    let noted = shared
        .exclusively(move |shared, store| {
            store.note(&shared.table, |table| {
                if table.get(id)?.state.is_terminal() {
                    return None;
                }
                table.update(id, end);
                table.get(id).map(store::record)
            });
            shared.ended.notify_waiters();
        })
        .await;
    if noted.is_err() {
        tracing::error!(target: "job", id, "cannot write down what became of a job");
    }
}

/// Returns who a job acts as: its owner as of the login that created it, so that a job created with a
/// ticket has that ticket's rights only, and none once it is deleted or expired.
fn principal(owner: &Owner) -> Result<Principal, Trouble> {
    let subject = |text: &str| {
        let (method, name) = text.split_once(':')?;
        let method = Method::from_name(method.as_bytes())?;
        Some(Subject::new(method, name.as_bytes()))
    };
    let principal = match TicketName::parse(owner.login.as_bytes()) {
        Some(ticket) => subject(&owner.subject).map(|owner| Principal::by_ticket(ticket, owner)),
        None if owner.login == owner.subject => subject(&owner.login).map(Principal::new),
        None => None,
    };
    principal.ok_or_else(|| Errno::ACCESS.into())
}
