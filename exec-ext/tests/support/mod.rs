//! What the tests share: a table in a directory of its own, and both ends of a stream in memory.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test program uses a part of this module"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod leftovers;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use exec_ext::client::{Control, Ending, ExecStream, StreamError};
use exec_ext::request::{CmdId, ExecRequest, OutputTo, Received, StdinFrom};
use exec_ext::runner::{
    Execution, Executions, ExecutionsConfig, Input, Output, Prepared, StartError, Started,
    clean_environment,
};
use exec_ext::status::{Limits, Results, Status};
use exec_ext::{StreamSettings, stream};
use tempfile::TempDir;
use tokio::io::{AsyncRead, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// Nothing that these tests wait for may take longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const SUBJECT: &str = "unix:tester";

/// A table of executions and the directories it works with.
pub struct World {
    pub executions: Executions,
    pub directory: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ExecutionsConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("transient")).unwrap();
        std::fs::create_dir(directory.path().join("work")).unwrap();
        let mut config = ExecutionsConfig::new(directory.path().join("transient"));
        change(&mut config);
        Self {
            executions: Executions::new(config).unwrap(),
            directory,
        }
    }

    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    pub async fn start(&self, request: &ExecRequest) -> Result<Started, StartError> {
        let received: Arc<Received> = Arc::new(ExecRequest::parse(&request.to_json()).unwrap());
        let prepared = prepared(&received, self.work());
        self.executions
            .start(SUBJECT, received, move || Ok(prepared))
            .await
    }

    /// Starts the request and streams it to its end.
    pub async fn run(&self, request: &ExecRequest, stdin: &[u8]) -> Outcome {
        let started = self.start(request).await.unwrap();
        let client = serve(started, StreamSettings::default());
        within(client.collect(request, Some(stdin))).await.unwrap()
    }

    pub async fn sh(&self, script: &str) -> Outcome {
        self.run(&sh(script), b"").await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        leftovers::end_in(self.directory.path());
    }
}

/// A request for a shell script.
pub fn sh(script: &str) -> ExecRequest {
    let mut request = ExecRequest::new("/bin/sh");
    request.args = vec!["-c".into(), script.into()];
    request
}

pub fn with_id(mut request: ExecRequest, id: &str) -> ExecRequest {
    request.cmd_id = CmdId::new(id);
    request
}

pub fn with_stdin(mut request: ExecRequest) -> ExecRequest {
    request.stdin = StdinFrom::Stream;
    request
}

/// Does what a server does between the request and the start.
pub fn prepared(request: &ExecRequest, work: PathBuf) -> Prepared {
    let output = |to: &OutputTo| match to {
        OutputTo::Stream => Output::Stream,
        OutputTo::Capture => Output::Capture,
        OutputTo::Stdout => Output::Stdout,
        OutputTo::File { path, .. } => Output::File(File::create(path).unwrap().into()),
        _ => Output::Discard,
    };
    Prepared {
        program: PathBuf::from(&request.cmd),
        cwd: OwnedFd::from(File::open(work).unwrap()),
        stdin: match &request.stdin {
            StdinFrom::None => Input::Null,
            StdinFrom::Stream => Input::Stream,
            StdinFrom::File(path) => Input::File(File::open(path).unwrap().into()),
        },
        stdout: output(&request.stdout),
        stderr: output(&request.stderr),
        env: clean_environment("/".as_ref(), "tester".as_ref()),
        limits: request.limits.within(&Limits {
            orphan_s: Some(3600),
            ..Limits::default()
        }),
        held: None,
    }
}

/// The client's end of a stream that is being served, and the server's outcome.
pub struct Client {
    pub reader: ReadHalf<DuplexStream>,
    pub writer: WriteHalf<DuplexStream>,
    pub server: tokio::task::JoinHandle<(Result<stream::StreamEnd, stream::StreamError>, BytesMut)>,
    pub execution: Arc<Execution>,
}

/// Serves a started execution's streams on one end of a pipe in memory.
pub fn serve(started: Started, settings: StreamSettings) -> Client {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let ticket = started.attach.expect("not detached");
    let server = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(far);
        let mut buffered = BytesMut::new();
        let end = stream::serve(
            ticket,
            &mut reader,
            &mut buffered,
            &mut stream::Reply::default(),
            &mut writer,
            settings,
        )
        .await;
        (end, buffered)
    });
    let (reader, writer) = tokio::io::split(near);
    Client {
        reader,
        writer,
        server,
        execution: started.execution,
    }
}

/// What a client got of an execution.
#[derive(Debug)]
pub struct Outcome {
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    pub ending: Ending,
}

impl Outcome {
    pub fn status(&self) -> &Status {
        match &self.ending {
            Ending::Ended(status) => status,
            Ending::Detached => panic!("detached"),
        }
    }

    pub fn results(&self) -> &Results {
        self.status().results.as_ref().unwrap()
    }

    pub fn code(&self) -> (bool, i32) {
        let results = self.results();
        (results.finished, results.exit_code_or_signal)
    }
}

impl Client {
    /// Streams to the end, and checks that the server saw the same end.
    pub async fn collect<I: AsyncRead + Unpin>(
        self,
        request: &ExecRequest,
        stdin: Option<I>,
    ) -> Result<Outcome, StreamError> {
        let (sender, mut control) = mpsc::channel(1);
        drop(sender);
        self.collect_with(request, stdin, &mut control).await
    }

    pub async fn collect_with<I: AsyncRead + Unpin>(
        self,
        request: &ExecRequest,
        stdin: Option<I>,
        control: &mut mpsc::Receiver<Control>,
    ) -> Result<Outcome, StreamError> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let stream = ExecStream::new(self.reader, self.writer, BytesMut::new(), request);
        let finished = stream.run(stdin, &mut out, &mut err, control).await?;
        let (end, buffered) = self.server.await.unwrap();
        let expected = match finished.ending {
            Ending::Ended(_) => stream::StreamEnd::Ended,
            Ending::Detached => stream::StreamEnd::Detached,
        };
        assert_eq!(end.unwrap(), expected);
        assert!(buffered.is_empty());
        Ok(Outcome {
            out,
            err,
            ending: finished.ending,
        })
    }
}

/// Awaits `future`, but not for ever.
pub async fn within<F: Future>(future: F) -> F::Output {
    let waited = tokio::time::timeout(PATIENCE, future).await;
    waited.expect("took too long")
}

/// Asks again and again until the answer is yes.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Says whether a process exists and is no zombie.
pub fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
        !matches!(state, Some(b'Z' | b'X'))
    })
}
