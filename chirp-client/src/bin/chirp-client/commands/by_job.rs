//! A program as a job, on a server that runs nothing else: output in files of the tree, fetched at the
//! end.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::ExitCode;

use chirp_client::job::{JobDescription, JobExit, JobFile, JobState, JobStatus};
use chirp_client::{Client, Code, Error, OpenFlags, VirtualPath};
use tokio::signal::unix::{SignalKind, signal};

use super::exec::{CLIENT_FAILED, Exec};
use super::{Failure, executions, range};
use crate::output;

/// Sends the program's streams where they can be fetched from, and becomes the program.
const SCRIPT: &str = "exec \"$@\" > stdout 2> stderr < /dev/null";

/// The exit status of a program that was killed.
const KILLED: u8 = 128 + 9;

/// Runs a program as a job. `unsupported` is what the server said of the exec extension.
pub(super) async fn run(
    client: &Client,
    exec: &Exec,
    unsupported: Error,
) -> Result<ExitCode, Failure> {
    let host = client.host();
    if let Some(what) = exec.beyond_jobs() {
        return Err(Failure::Other(format!(
            "{unsupported}. A job in its place would have no {what}"
        )));
    }
    let id = getrandom::u64()
        .map_err(|error| Failure::Other(format!("no random name for the output: {error}")))?;
    let outputs = [("stdout", "out"), ("stderr", "err")]
        .map(|(task, name)| (task, format!("/exec-{id:016x}.{name}")));
    let job = describe(exec, &outputs)?;
    let id = match client.job_create(&job).await {
        // A server without jobs knows no such request.
        Err(error) if error.code() == Some(Code::InvalidRequest) => return Err(unsupported.into()),
        created => created?,
    };
    output::message(&format!(
        "{host}: no exec here, so this is job {id}: no input, its output at the end, in a directory of its own"
    ));
    let outcome = async {
        client.job_commit(&[id]).await?;
        let status = wait(client, id).await?;
        for (task, path) in &outputs {
            fetch(client, task, path).await?;
        }
        exit_code(client, &status)
    };
    let outcome = outcome.await;
    for (_, path) in &outputs {
        // What is left of a job that failed may be missing, and nothing can be done about the rest.
        if let Ok(path) = VirtualPath::from_decoded(path.as_bytes()) {
            let _ = client.unlink(&path).await;
        }
    }
    let _ = client.job_reap(&[id]).await;
    outcome
}

fn describe(exec: &Exec, outputs: &[(&str, String)]) -> Result<JobDescription, Failure> {
    let text = |word: &OsStr| {
        let text = word.to_str().map(str::to_owned);
        text.ok_or_else(|| Failure::Other(format!("{}: a job's words are UTF-8", word.display())))
    };
    let mut arguments: Vec<String> = ["sh", "-c", SCRIPT, "sh"].map(str::to_owned).into();
    arguments.push(text(&exec.program)?);
    for argument in &exec.arguments {
        arguments.push(text(argument)?);
    }
    let mut job = JobDescription::new("/bin/sh", arguments);
    job.environment = exec.env.iter().cloned().collect();
    let outputs = outputs.iter();
    job.files = outputs
        .map(|(task, path)| JobFile::output(path.as_str(), *task))
        .collect();
    Ok(job)
}

/// Waits for the job's end. An interrupt kills it.
async fn wait(client: &Client, id: u64) -> Result<JobStatus, Failure> {
    let failed = |error| Failure::Other(format!("failed to catch signals: {error}"));
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
    let number = i64::try_from(id)
        .map_err(|_| Failure::Other(format!("the server's number {id} is too large")))?;
    loop {
        let ended = tokio::select! {
            ended = client.job_wait(number, -1) => ended?,
            _ = interrupts.recv() => return kill(client, id).await,
            _ = terminations.recv() => return kill(client, id).await,
        };
        if let Some(status) = ended.into_iter().next() {
            return Ok(status);
        }
    }
}

/// Kills a job, on another connection: on the first one the server still waits for the job.
async fn kill(client: &Client, id: u64) -> Result<JobStatus, Failure> {
    let client = match client.connect_another().await {
        Some(another) => another?,
        None => client.clone(),
    };
    match client.job_kill(&[id]).await {
        // It has ended meanwhile.
        Err(error) if error.code() == Some(Code::NotAuthorized) => {}
        killed => killed?,
    }
    let status = client.job_status(&[id]).await?.into_iter().next();
    status.ok_or_else(|| Failure::Other(format!("{}: job {id} is gone", client.host())))
}

/// Writes what a job left in a file to standard output or error. There is none of a job that could not
/// be set up.
async fn fetch(client: &Client, task: &str, path: &str) -> Result<(), Failure> {
    let path = super::remote(path.as_bytes())?;
    let (file, _) = match client.open(&path, OpenFlags::parse(b"r"), 0).await {
        Err(error) if error.code() == Some(Code::DoesntExist) => return Ok(()),
        opened => opened?,
    };
    if task == "stdout" {
        range::to_stdout(client, file, 0, u64::MAX).await?;
    } else {
        const PIECE: u64 = 1024 * 1024;
        let mut at = 0;
        loop {
            let bytes = client.pread(file, PIECE, at).await?;
            if bytes.is_empty() {
                break;
            }
            at += bytes.len() as u64;
            let written = io::stderr().lock().write_all(&bytes);
            written
                .map_err(|error| Failure::Other(format!("failed to write to stderr: {error}")))?;
        }
    }
    Ok(client.close(file).await?)
}

fn exit_code(client: &Client, status: &JobStatus) -> Result<ExitCode, Failure> {
    let host = client.host();
    match (status.status, status.exit_status) {
        (JobState::Finished, Some(JobExit::Exited)) => {
            let code = status.exit_code.and_then(|code| u8::try_from(code).ok());
            Ok(ExitCode::from(code.unwrap_or(CLIENT_FAILED)))
        }
        (JobState::Finished, Some(JobExit::Signaled)) => {
            let name = status.exit_signal.as_deref().unwrap_or_default();
            let number = executions::signal(name)
                .ok()
                .and_then(|n| u8::try_from(n).ok());
            match number {
                Some(number) => Ok(ExitCode::from(128 + number)),
                None => Err(Failure::Other(format!(
                    "{host}: ended by the signal {name}"
                ))),
            }
        }
        (JobState::Killed, _) => {
            output::message(&format!("{host}: job {} was killed", status.id));
            Ok(ExitCode::from(KILLED))
        }
        _ => {
            let reason = status.error.as_deref().unwrap_or("nobody knows why");
            Err(Failure::Other(format!(
                "{host}: job {} failed: {reason}",
                status.id
            )))
        }
    }
}
