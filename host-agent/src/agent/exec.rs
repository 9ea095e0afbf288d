//! Programs run on guests for callers of the API.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use beacon::mac::MacId;
use chirp_client::exec::Ending;
use chirp_client::{Client, Error};
use exec_ext::request::{ExecRequest, OnDisconnect, OutputTo, StdinFrom};
use exec_ext::status::Status;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, PollSender};

use crate::api::types::{ExecFrame, Target};
use crate::guest::{self, Missed};

/// Frames that may wait for the caller. With [`CHUNK_MAX`] this bounds the memory of one call.
pub(crate) const FRAMES_WAITING: usize = 32;

/// Bytes of output in one frame at most.
const CHUNK_MAX: usize = 64 * 1024;

/// How long connecting to a guest may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// Guests that one call runs on at once; the rest wait.
const GUESTS_AT_ONCE: usize = 256;

/// Reads what is to be run out of a call, as strictly as a guest would.
///
/// # Errors
///
/// What is wrong with it, for the caller.
pub(crate) fn request(json: &serde_json::Value) -> Result<ExecRequest, String> {
    let received =
        ExecRequest::parse(json.to_string().as_bytes()).map_err(|error| error.to_string())?;
    let mut request = ExecRequest::clone(&received);
    if request.detach {
        return Err("detach: a call lasts as long as its program".to_owned());
    }
    if request.stdin == StdinFrom::Stream {
        return Err("stdin: a call cannot stream it; name a file in the guest".to_owned());
    }
    // The caller's connection is the program's leash.
    request.on_disconnect = OnDisconnect::Kill;
    Ok(request)
}

/// Runs the program on all targets at once and tells the caller through `frames`, until all have ended or
/// the token is cancelled, which ends the programs.
pub(crate) async fn run(
    targets: Vec<Target>,
    request: ExecRequest,
    frames: mpsc::Sender<ExecFrame>,
    token: CancellationToken,
) {
    let work = async {
        // A caller that is gone cancels the token, so a failed send needs no other answer.
        let _ = frames
            .send(ExecFrame::Targets {
                guests: targets.clone(),
            })
            .await;
        let mut running = JoinSet::new();
        for target in targets {
            if running.len() >= GUESTS_AT_ONCE {
                running.join_next().await;
            }
            let (request, frames) = (request.clone(), frames.clone());
            running.spawn(async move {
                let id = target.id;
                let last = match one(&target, request, &frames).await {
                    Ok(status) => ExecFrame::End {
                        id,
                        status: Box::new(status),
                    },
                    Err(error) => ExecFrame::Failed {
                        id,
                        error: error.to_string(),
                    },
                };
                let _ = frames.send(last).await;
            });
        }
        while running.join_next().await.is_some() {}
        let _ = frames.send(ExecFrame::Done).await;
    };
    tokio::select! {
        () = work => {}
        // Dropping the work drops the connections, and `on_disconnect` ends the programs.
        () = token.cancelled() => {}
    }
}

async fn one(
    target: &Target,
    mut request: ExecRequest,
    frames: &mpsc::Sender<ExecFrame>,
) -> Result<Status, Missed> {
    if request.cmd_id.is_none() {
        request.cmd_id = exec_ext::request::CmdId::new(&uuid::Uuid::new_v4().to_string());
    }
    tracing::debug!(event = "cmd.sent", guest = target.name, cmd = %request.cmd.display(), "running a program");
    let client = guest::meet_target(target, CONNECT_WITHIN).await?;
    let mut out = FrameSink::new(frames, target.id, false);
    let mut err = FrameSink::new(frames, target.id, true);
    let status = stream(&client, &request, &mut out, &mut err).await;
    match &status {
        Ok(status) => tracing::info!(
            event = "cmd.finished", guest = target.name, cmd_id = status.cmd_id, cmd = %request.cmd.display(),
            "a program ended"
        ),
        Err(error) => tracing::warn!(
            event = "cmd.finished", guest = target.name, cmd = %request.cmd.display(), %error,
            "a program's end is not known"
        ),
    }
    Ok(status?)
}

/// Runs a program whose output is discarded, and returns its final status.
///
/// # Errors
///
/// It could not be started, or its end is not known.
pub(super) async fn run_to_end(client: &Client, request: &ExecRequest) -> Result<Status, Error> {
    debug_assert!(request.stdout == OutputTo::Discard, "output would be lost");
    stream(
        client,
        request,
        &mut tokio::io::sink(),
        &mut tokio::io::sink(),
    )
    .await
}

/// Takes one stream of one guest and hands it on as frames, as slowly as the caller reads them.
struct FrameSink {
    frames: PollSender<ExecFrame>,
    id: MacId,
    is_err: bool,
}

impl FrameSink {
    fn new(frames: &mpsc::Sender<ExecFrame>, id: MacId, is_err: bool) -> Self {
        Self {
            frames: PollSender::new(frames.clone()),
            id,
            is_err,
        }
    }
}

impl AsyncWrite for FrameSink {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the caller is gone");
        ready!(self.frames.poll_reserve(context)).map_err(|_| gone())?;
        let data = data.get(..CHUNK_MAX).unwrap_or(data);
        let (id, bytes) = (self.id, data.to_vec());
        let frame = if self.is_err {
            ExecFrame::Err { id, data: bytes }
        } else {
            ExecFrame::Out { id, data: bytes }
        };
        self.frames.send_item(frame).map_err(|_| gone())?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Starts a program and hands its output on until it ends.
async fn stream(
    client: &Client,
    request: &ExecRequest,
    out: &mut (impl AsyncWrite + Unpin),
    err: &mut (impl AsyncWrite + Unpin),
) -> Result<Status, Error> {
    let (_, mut control) = mpsc::channel(1);
    let execution = client.exec(request).await?;
    match execution
        .run(None::<tokio::io::Empty>, out, err, &mut control)
        .await?
    {
        Ending::Ended(status) => Ok(*status),
        Ending::Detached => Err(Error::Exec {
            host: client.host().to_owned(),
            reason: "another client took the program over".to_owned(),
        }),
    }
}
