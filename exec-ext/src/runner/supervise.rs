//! The life of one execution, from the started program to the recorded end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::blocking::shortly;
use super::config::ExecutionsConfig;
use super::execution::{Channel, Execution, Stop};
use super::leader::Leader;
use super::prepared::Held;
use super::spawn::Spawned;
use super::sys::{self, Exit, ExitWatch};
use super::temporary::Temporary;
use super::terminal::{self, Sink};
use super::window::{Closing, PipeEnd};
use crate::status::{EndedBy, Limits, Results};

/// What the supervisor of one execution works with.
pub(super) struct Supervisor {
    execution: Arc<Execution>,
    leader: Leader,
    /// Where a terminal's output goes, if neither to clients nor into a capture.
    sink: Option<Sink>,
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    temporary: Option<Temporary>,
    held: Option<Held>,
    limits: Limits,
    pipe_grace: Duration,
    started: Instant,
}

impl Supervisor {
    /// Takes over a started program.
    ///
    /// # Errors
    ///
    /// A handle cannot be registered with the runtime; the program has then been killed.
    pub(super) fn new(
        execution: Arc<Execution>,
        spawned: Spawned,
        limits: Limits,
        config: &ExecutionsConfig,
    ) -> std::io::Result<Self> {
        let Spawned {
            pid,
            kin,
            temporary,
            held,
            enclosure,
            handle,
            terminal,
            sink,
            stdin,
            stdout,
            stderr,
        } = spawned;
        // A terminal is none of the pipes that are checked for.
        let receiver = |fd: Option<OwnedFd>| match terminal.is_some() {
            true => fd
                .map(|fd| pipe::Receiver::from_file_unchecked(fd.into()))
                .transpose(),
            false => fd.map(pipe::Receiver::from_owned_fd).transpose(),
        };
        let sender = |fd: Option<OwnedFd>| match terminal.is_some() {
            true => fd
                .map(|fd| pipe::Sender::from_file_unchecked(fd.into()))
                .transpose(),
            false => fd.map(pipe::Sender::from_owned_fd).transpose(),
        };
        let registered = (|| {
            Ok((
                ExitWatch::new(handle)?,
                sender(stdin)?,
                receiver(stdout)?,
                receiver(stderr)?,
            ))
        })();
        let (exit, stdin, stdout, stderr) = registered.inspect_err(|_: &std::io::Error| {
            sys::kill_and_reap(pid);
        })?;
        let kin = Arc::new(kin);
        execution.set_leader(pid, Arc::clone(&kin), terminal);
        Ok(Self {
            execution,
            leader: Leader::new(
                pid,
                exit,
                kin,
                enclosure,
                config.term_grace,
                config.descendants_grace,
            ),
            sink,
            stdin,
            stdout,
            stderr,
            temporary,
            held,
            limits,
            pipe_grace: config.pipe_grace,
            started: Instant::now(),
        })
    }

    /// Sees the execution to its end and records it.
    pub(super) async fn run(mut self) {
        let (closing, watch_closing) = watch::channel(Closing::Open);
        let execution = Arc::clone(&self.execution);
        let (stdin, stdout, stderr) = (self.stdin.take(), self.stdout.take(), self.stderr.take());
        let feed = async {
            if let Some(pipe) = stdin {
                execution.stdin.feed(pipe).await;
            }
        };
        let sink = self.sink.take();
        let out = async {
            match (sink, stdout) {
                (Some(sink), Some(terminal)) => {
                    let poured = terminal::pour(terminal, sink, watch_closing.clone());
                    let (end, lost) = poured.await;
                    execution.out.close(lost);
                    end
                }
                (_, stdout) => fill(&execution, Channel::Out, stdout, &watch_closing).await,
            }
        };
        let err = fill(&execution, Channel::Err, stderr, &watch_closing);
        let pipes = async { tokio::join!(out, err) };
        let kept = self.held.take();
        let temporary = self.temporary.take();
        let ends = self.until_end(&closing, kept);
        let ((), (out_end, err_end), (exit, survivors, kept)) = tokio::join!(feed, pipes, ends);
        let held = out_end == PipeEnd::Held || err_end == PipeEnd::Held;
        // What the server closed while the program ran was not held by a descendant.
        let held = held && *watch_closing.borrow() != Closing::HangUp;
        let results = self.results(exit, survivors, held);
        execution.audit(&results);
        let end = execution.record_of_end(Some(results.clone()));
        let ended = Arc::clone(&execution);
        // It can only fail with the runtime.
        let _ = shortly(move || {
            drop(kept);
            drop(temporary);
            ended.write_end(&end);
        })
        .await;
        if let Some(share) = execution.temporary() {
            share.close();
        }
        execution.finish(results);
    }

    /// Waits for the program, ends what it leaves behind, and has its pipes closed. Returns the
    /// exit, the survivors, and what was kept for the program where that is still to be dropped.
    async fn until_end(
        &self,
        closing: &watch::Sender<Closing>,
        kept: Option<Held>,
    ) -> (Exit, Vec<u32>, Option<Held>) {
        self.until_exit(closing).await;
        let exited = Instant::now();
        // Nobody reads standard input any more, whatever descendants think.
        self.execution.stdin.break_off();
        let ended = async {
            // The program last, so that its ids stay its own.
            let ended = self.leader.end(|| self.execution.take_leader());
            let (exit, survivors) = ended.await;
            if kept.is_none() || self.execution.pipes_closed() {
                return (exit, survivors, kept);
            }
            // Nothing of the program runs any more, whoever still has to fetch what it wrote.
            let _ = tokio::task::spawn_blocking(move || drop(kept)).await;
            (exit, survivors, None)
        };
        let closed = self.close_pipes(exited + self.pipe_grace, closing);
        let (ended, ()) = tokio::join!(ended, closed);
        ended
    }

    /// Waits for the program's exit, ending it where a limit or somebody asks for that.
    async fn until_exit(&self, closing: &watch::Sender<Closing>) {
        let wall = self.limits.wall_s.map(|s| after(self.started, s));
        let mut kill_at = None;
        loop {
            if kill_at.is_none()
                && let Some(reason) = self.execution.stopping()
            {
                if reason == Stop::Disconnect && self.execution.hang_up() {
                    // The kernel tells the program once the last handle on the terminal is closed.
                    closing.send_replace(Closing::HangUp);
                } else {
                    self.leader.terminate().await;
                }
                kill_at = Some(self.leader.deadline());
            }
            let orphan = self.orphan_deadline();
            tokio::select! {
                () = self.leader.exited() => return,
                () = self.execution.attention.notified() => {}
                () = at(wall), if kill_at.is_none() => self.execution.stop(Stop::Wall),
                () = at(orphan), if kill_at.is_none() => self.execution.stop(Stop::Orphan),
                () = at(kill_at), if kill_at.is_some() => {
                    self.leader.kill().await;
                    kill_at = Some(self.leader.deadline());
                }
            }
        }
    }

    /// Closes pipes that are still held when the grace time is over.
    async fn close_pipes(&self, grace_over: Instant, closing: &watch::Sender<Closing>) {
        let pipes_closed = async {
            loop {
                let news = self.execution.news();
                if self.execution.pipes_closed() {
                    return;
                }
                news.await;
            }
        };
        tokio::pin!(pipes_closed);
        tokio::select! {
            () = &mut pipes_closed => return,
            () = sleep_until(grace_over) => {}
        }
        closing.send_replace(Closing::Drain);
        // What was written is still delivered, at the reader's pace, unless nobody comes for it.
        let mut abandoned = false;
        loop {
            if abandoned || self.is_abandoned() {
                closing.send_replace(Closing::Now);
                pipes_closed.await;
                return;
            }
            tokio::select! {
                () = &mut pipes_closed => return,
                () = self.execution.attention.notified() => {}
                () = at(self.orphan_deadline()) => {
                    self.execution.stop(Stop::Orphan);
                    abandoned = true;
                }
            }
        }
    }

    /// Says whether nobody is to be waited for with what the ended program left in its pipes.
    fn is_abandoned(&self) -> bool {
        match self.execution.stopping() {
            Some(Stop::Shutdown | Stop::Orphan) => true,
            Some(Stop::Disconnect) => self.execution.orphaned_since().is_some(),
            Some(Stop::Wall | Stop::Temporary) | None => false,
        }
    }

    fn results(&self, exit: Exit, survivors: Vec<u32>, held: bool) -> Results {
        let (out_bytes, out_dropped) = self.execution.written(Channel::Out);
        let (err_bytes, err_dropped) = self.execution.written(Channel::Err);
        let stopped = self.execution.stopping().and_then(Stop::limit);
        let limit = stopped.or_else(|| self.kernel_limit(exit));
        Results {
            cmd_id: self.execution.cmd_id().to_owned(),
            out: None,
            err: None,
            out_base64: None,
            err_base64: None,
            finished: exit.exited,
            exit_code_or_signal: exit.code,
            resources: exit.resources,
            wall_s: super::round(self.started.elapsed().as_secs_f64()),
            limit: limit.map(str::to_owned),
            ended_by: if held { EndedBy::Grace } else { EndedBy::Exit },
            survivors,
            out_bytes,
            err_bytes,
            out_dropped,
            err_dropped,
        }
    }

    /// Returns the limit whose signal ended the program.
    fn kernel_limit(&self, exit: Exit) -> Option<&'static str> {
        if exit.exited {
            return None;
        }
        let used = exit.resources.ru_utime + exit.resources.ru_stime;
        #[expect(clippy::cast_precision_loss, reason = "a limit is below 2^53")]
        let cpu_used_up = self.limits.cpu_s.is_some_and(|limit| used >= limit as f64);
        match exit.code {
            libc::SIGXCPU if self.limits.cpu_s.is_some() => Some("cpu_s"),
            libc::SIGKILL if cpu_used_up => Some("cpu_s"),
            libc::SIGXFSZ if self.limits.file_bytes.is_some() => Some("file_bytes"),
            _ => None,
        }
    }

    fn orphan_deadline(&self) -> Option<Instant> {
        let seconds = self.limits.orphan_s.filter(|&seconds| seconds > 0)?;
        Some(after(self.execution.orphaned_since()?, seconds))
    }
}

/// Fills a window or a capture from its pipe; a stream without pipe is closed from the start.
async fn fill(
    execution: &Execution,
    channel: Channel,
    pipe: Option<pipe::Receiver>,
    closing: &watch::Receiver<Closing>,
) -> PipeEnd {
    let Some(pipe) = pipe else {
        return PipeEnd::Closed;
    };
    match execution.capture(channel) {
        Some(capture) => capture.fill(pipe, closing.clone()).await,
        None => execution.window(channel).fill(pipe, closing.clone()).await,
    }
}

/// Sleeps until `deadline`; for ever where there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Adds seconds that a peer chose: what no clock reaches is as good as never.
fn after(start: Instant, seconds: u64) -> Instant {
    const CENTURY: u64 = 100 * 365 * 24 * 3600;
    start + Duration::from_secs(seconds.min(CENTURY))
}
