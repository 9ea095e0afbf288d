use std::io::{self, Write};

use chirp_client::exec::{Control, Execution, State, Status};
use chirp_client::{Client, Code, ExecutionName, OutputStream};
use clap::Args;
use serde_json::Value;
use tokio::io::{AsyncWrite, sink};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Failure;
use super::executions::{has_terminal, name};
use super::keyboard::Silence;
use crate::output;

/// Bytes that are asked for at a time.
const PIECE: u64 = 1024 * 1024;

/// Seconds between two looks at captured output that is followed.
const PAUSE: u64 = 1;

/// Shows what a program has written: captured output, and of what is streamed as much as the server still
/// has. Standard output goes to standard output and standard error to standard error.
///
/// Nothing is taken away by looking, but with -f streamed output is: it is yours then, as with attach.
/// What goes to a file is in that file.
#[derive(Args)]
#[command(after_help = "Examples:
  id=$(chirp-client guest exec --detach --cwd /jobs/17 -- ./run)
  chirp-client guest logs $id
  chirp-client guest logs --stderr $id | tail
  chirp-client guest logs -f backup")]
pub(crate) struct Logs {
    /// Go on with what the program writes until it ends. Ctrl-C ends only that.
    #[arg(short, long)]
    follow: bool,
    /// Show standard output only.
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Show standard error only.
    #[arg(long)]
    stderr: bool,
    /// The server's number for it, or the --cmd-id it was given.
    #[arg(value_parser = name)]
    id: ExecutionName,
}

/// Where an output of a program goes.
enum Goes {
    Captured,
    Streamed,
    /// In words.
    Elsewhere(String),
}

impl Logs {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut status = client.exec_status(&self.id).await?;
        let mut captured = Vec::new();
        let mut streamed = [false, false];
        for (index, stream) in self.wanted().into_iter().enumerate() {
            let Some(stream) = stream else { continue };
            match goes(&status, stream) {
                Goes::Captured => captured.push((stream, 0)),
                Goes::Streamed => *streamed.get_mut(index).unwrap_or(&mut false) = true,
                Goes::Elsewhere(place) => {
                    let host = client.host();
                    output::message(&format!("{host}: std{} {place}", stream.name()));
                }
            }
        }
        if !captured.is_empty() {
            loop {
                let running = status.state == State::Running;
                for (stream, at) in &mut captured {
                    self.copy(client, *stream, at).await?;
                }
                if !running || !self.follow {
                    break;
                }
                status = client.exec_wait(&self.id, PAUSE).await?;
            }
            tell_dropped(client, &status, &captured);
        }
        match streamed {
            [false, false] => Ok(()),
            wanted => self.streamed(client, &status, wanted).await,
        }
    }

    /// The streams to show, each in its place.
    fn wanted(&self) -> [Option<OutputStream>; 2] {
        [
            (!self.stderr).then_some(OutputStream::Out),
            (!self.stdout).then_some(OutputStream::Err),
        ]
    }

    /// Shows captured output from `at` on.
    async fn copy(
        &self,
        client: &Client,
        stream: OutputStream,
        at: &mut u64,
    ) -> Result<(), Failure> {
        loop {
            let bytes = client.exec_output(&self.id, stream, *at, PIECE).await?;
            if bytes.is_empty() {
                return Ok(());
            }
            *at += bytes.len() as u64;
            match stream {
                OutputStream::Out => output::write(&bytes)?,
                OutputStream::Err => {
                    let written = io::stderr().lock().write_all(&bytes);
                    written.map_err(|error| {
                        Failure::Other(format!("failed to write to stderr: {error}"))
                    })?;
                }
            }
        }
    }

    /// Shows streamed output.
    async fn streamed(
        &self,
        client: &Client,
        status: &Status,
        [out, err]: [bool; 2],
    ) -> Result<(), Failure> {
        let host = client.host();
        if status.attached {
            let reason = "somebody is attached and gets the output; `attach` takes it over";
            return Err(Failure::Other(format!("{host}: {reason}")));
        }
        let gone = status.out_from * u64::from(out) + status.err_from * u64::from(err);
        if gone > 0 {
            output::message(&format!(
                "{host}: the first {gone} bytes were taken by a client"
            ));
        }
        let from = (status.out_from, status.err_from);
        let (status, execution) = match client.exec_attach(&self.id, from.0, from.1).await {
            // The range was another a moment ago.
            Err(error) if error.code() == Some(Code::InvalidRequest) => {
                let reason = "somebody else takes the output just now; try again";
                return Err(Failure::Other(format!("{host}: {reason}")));
            }
            attached => attached?,
        };
        let mut out: Box<dyn AsyncWrite + Unpin> = match out {
            true => Box::new(tokio::io::stdout()),
            false => Box::new(sink()),
        };
        let mut err: Box<dyn AsyncWrite + Unpin> = match err {
            true => Box::new(tokio::io::stderr()),
            false => Box::new(sink()),
        };
        if self.follow {
            follow(execution, &mut out, &mut err).await
        } else {
            Ok(execution.look(&status, &mut out, &mut err).await?)
        }
    }
}

/// Takes what comes until the program ends; the first signal leaves it to itself.
async fn follow(
    execution: Execution,
    out: &mut (impl AsyncWrite + Unpin),
    err: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Failure> {
    let failed = |error| Failure::Other(format!("failed to catch signals: {error}"));
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
    let (controls, mut control) = mpsc::channel(1);
    let run = execution.run(Some(Silence), out, err, &mut control);
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => return Ok(ended.map(drop)?),
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
    }
    // It can only have ended.
    let _ended = controls.try_send(Control::Detach);
    Ok(run.await.map(drop)?)
}

/// Says where an output goes, from the request that a status shows.
fn goes(status: &Status, stream: OutputStream) -> Goes {
    let field = match stream {
        OutputStream::Out => "stdout",
        OutputStream::Err if has_terminal(status) => {
            return Goes::Elsewhere("joins stdout at the terminal".to_owned());
        }
        OutputStream::Err => "stderr",
    };
    let request = status.request.as_ref();
    match request.and_then(|request| request.get(field)) {
        None => Goes::Streamed,
        Some(Value::String(word)) => match word.as_str() {
            "capture" => Goes::Captured,
            "discard" => Goes::Elsewhere("is discarded".to_owned()),
            "stdout" => Goes::Elsewhere("joins stdout".to_owned()),
            _ => Goes::Streamed,
        },
        Some(file) => {
            let path = file.get("file").and_then(Value::as_str);
            let path = output::printable(path.unwrap_or("a file").as_bytes());
            Goes::Elsewhere(format!("goes to {}", String::from_utf8_lossy(&path)))
        }
    }
}

/// Tells how much of what was shown the server did not keep.
fn tell_dropped(client: &Client, status: &Status, shown: &[(OutputStream, u64)]) {
    let Some(results) = &status.results else {
        return;
    };
    for (stream, _) in shown {
        let dropped = match stream {
            OutputStream::Out => results.out_dropped,
            OutputStream::Err => results.err_dropped,
        };
        if dropped > 0 {
            let (host, name) = (client.host(), stream.name());
            output::message(&format!(
                "{host}: {dropped} bytes in the middle of std{name} were more than the server keeps"
            ));
        }
    }
}
