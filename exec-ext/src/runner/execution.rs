//! One execution: what others may ask of it, apart from any connection.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use chirp_proto::Code;
use chirp_proto::request::OutputStream;
use rustix::process::Pid;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Room;
use super::budget::Share;
use super::capture::Capture;
use super::config::ExecutionsConfig;
use super::error::StartError;
use super::kin::Kin;
use super::stdin::{InputAfterEof, Stdin};
use super::store::{Filed, Record, RecordedEnd};
use super::sys;
use super::terminal;
use super::usage;
use super::window::Window;
use crate::frame::Position;
use crate::limits::{INLINE_JSON_MAX, INLINE_MAX};
use crate::request::{Digest, OnDisconnect, OutputTo, Received, StdinFrom, Terminal};
use crate::status::{Resources, Results, State, Status, Usage};

/// An execution of the table, running or ended.
#[derive(Debug)]
pub struct Execution {
    /// What is on disk of it. The end is filled in when it is written.
    record: Record,
    filed: Filed,
    on_disconnect: OnDisconnect,
    begun: Instant,
    usage_every: Option<Duration>,
    has_terminal: bool,
    /// Whether an output goes to clients: only then can it be missed by nobody being attached.
    streamed: bool,
    pub(super) out: Window,
    pub(super) err: Window,
    pub(super) stdin: Stdin,
    captures: Captures,
    /// What its program's temporary directory takes up, where it has one.
    temporary: Option<Share>,
    /// Told when there may be something new for the attached client.
    activity: Arc<Notify>,
    /// Told when the supervisor has something to look at.
    pub(super) attention: Notify,
    control: Mutex<Control>,
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Control {
    /// The program, while it may be signalled, and what is of its kin.
    leader: Option<(Pid, Arc<Kin>)>,
    /// The program's terminal, while it runs and the terminal is not hung up.
    terminal: Option<OwnedFd>,
    /// Counts attachments; the current client has the latest number.
    epoch: u64,
    attached: bool,
    /// Since when nobody has been attached.
    unattended: Option<Instant>,
    stop: Option<Stop>,
    end: Option<End>,
    /// Whether somebody has learnt of the end and had all output.
    fetched: bool,
}

/// Why an execution is being ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The wall time is over.
    Wall,
    /// Nobody was attached for too long.
    Orphan,
    /// Its temporary directory took too much of the transient directory.
    Temporary,
    /// The server stops.
    Shutdown,
    /// The connection was lost and the request said so.
    Disconnect,
}

impl Stop {
    /// Returns the limit's name for the results.
    pub(super) fn limit(self) -> Option<&'static str> {
        match self {
            Self::Wall => Some("wall_s"),
            Self::Orphan => Some("orphan_s"),
            Self::Temporary => Some("temporary_bytes"),
            Self::Shutdown => Some("shutdown"),
            Self::Disconnect => None,
        }
    }
}

/// The captured outputs of an execution.
#[derive(Debug)]
struct Captures {
    out: Option<Arc<Capture>>,
    err: Option<Arc<Capture>>,
}

#[derive(Debug)]
struct End {
    at: SystemTime,
    /// None where the server was killed first.
    results: Option<Results>,
}

/// Which of the two output streams is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Out,
    Err,
}

impl Execution {
    /// Makes an execution that is about to be supervised.
    pub(super) fn new(
        record: Record,
        filed: Filed,
        request: &Received,
        config: &ExecutionsConfig,
        room: &Room,
    ) -> Self {
        let execution = Self::make(
            &record,
            filed,
            [&request.stdout, request.stderr_in_force()],
            request.tty.is_some(),
            request.stdin == StdinFrom::Stream,
            config,
            room,
        );
        Self {
            on_disconnect: request.on_disconnect,
            usage_every: usage_every(request.usage_ms),
            temporary: config
                .confinement
                .is_some()
                .then(|| Share::forced(&room.space, &record.subject, 0)),
            record,
            ..execution
        }
    }

    /// Makes an execution of an earlier server from its record. One without an end is lost.
    pub(super) fn restored(
        mut record: Record,
        filed: Filed,
        config: &ExecutionsConfig,
        room: &Room,
    ) -> Self {
        let end = record.end.take().unwrap_or_else(|| RecordedEnd {
            at: seconds(SystemTime::now()),
            results: None,
            stdin_received: 0,
            stdin_eof: false,
            out_from: 0,
            err_from: 0,
            out: None,
            err: None,
        });
        record.end = Some(end.clone());
        let to = |name| match record.request.get(name).and_then(Value::as_str) {
            Some("capture") => &OutputTo::Capture,
            _ => &OutputTo::Discard,
        };
        let has_terminal = record.request.get("tty").is_some_and(|tty| !tty.is_null());
        let stderr = match has_terminal {
            true => &OutputTo::Stdout,
            false => to("stderr"),
        };
        let outputs = [to("stdout"), stderr];
        let execution = Self::make(&record, filed, outputs, false, false, config, room);
        execution.out.restore(end.out_from);
        execution.err.restore(end.err_from);
        execution.stdin.restore(end.stdin_received, end.stdin_eof);
        for (capture, written) in [
            (&execution.captures.out, end.out),
            (&execution.captures.err, end.err),
        ] {
            if let Some(capture) = capture {
                capture.restore(written);
            }
        }
        execution.lock().end = Some(End {
            at: time(end.at),
            results: end.results,
        });
        execution.ended.send_replace(true);
        Self {
            record,
            ..execution
        }
    }

    fn make(
        record: &Record,
        filed: Filed,
        [stdout, stderr]: [&OutputTo; 2],
        has_terminal: bool,
        stdin_streamed: bool,
        config: &ExecutionsConfig,
        room: &Room,
    ) -> Self {
        let (id, subject) = (record.id, record.subject.as_str());
        let activity = Arc::new(Notify::new());
        let window = |streamed| {
            let (budget, activity) = (Arc::clone(&room.windows), Arc::clone(&activity));
            Window::new(config.window_bytes, subject, budget, activity, streamed)
        };
        let capture = |to: &OutputTo, name| {
            let path = config.transient.join(format!("exec/{id}.{name}"));
            let (space, activity) = (Arc::clone(&room.space), Arc::clone(&activity));
            let make = || Capture::new(path, record.capture_bytes, subject, space, activity);
            (*to == OutputTo::Capture).then(|| Arc::new(make()))
        };
        let out_streamed = *stdout == OutputTo::Stream;
        let err_streamed = *stderr == OutputTo::Stream;
        Self {
            record: record.clone(),
            filed,
            on_disconnect: OnDisconnect::Keep,
            begun: Instant::now(),
            usage_every: None,
            streamed: out_streamed || err_streamed,
            has_terminal,
            temporary: None,
            // Whatever becomes of a terminal's output, it has to be read.
            out: window(out_streamed || (has_terminal && *stdout != OutputTo::Capture)),
            err: window(err_streamed),
            captures: Captures {
                out: capture(stdout, "out"),
                err: capture(stderr, "err"),
            },
            stdin: Stdin::new(config.stdin_bytes, Arc::clone(&activity), stdin_streamed),
            activity,
            attention: Notify::new(),
            control: Mutex::default(),
            ended: watch::Sender::new(false),
        }
    }

    /// Returns the server's number for it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// Returns the caller's id for it, or the one the server chose.
    #[must_use]
    pub fn cmd_id(&self) -> &str {
        &self.record.cmd_id
    }

    /// Returns who started it.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.record.subject
    }

    /// Returns the digest of the request.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.record.digest
    }

    /// Says whether it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Returns the whole status.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = self.status_brief();
        status.request = Some(self.record.request.clone());
        let mut nothing_left = status.out_from == status.out_to && status.err_from == status.err_to;
        if let Some(results) = &mut status.results {
            let out = self.captures.out.as_deref().map(inline).unwrap_or_default();
            let err = self.captures.err.as_deref().map(inline).unwrap_or_default();
            nothing_left &= !out.cut && !err.cut;
            (results.out, results.out_base64) = (out.text, out.base64);
            (results.err, results.err_base64) = (err.text, err.base64);
            if nothing_left {
                self.lock().fetched = true;
            }
        }
        status
    }

    /// Returns the status for a list: without request and captured output.
    #[must_use]
    pub fn status_brief(&self) -> Status {
        let control = self.lock();
        let (out, err) = (self.out.range(), self.err.range());
        let (stdin_received, stdin_eof) = self.stdin.position();
        let end = control.end.as_ref();
        let leader = control.leader.as_ref();
        let pid = leader.map(|(pid, _)| pid.as_raw_nonzero().get().unsigned_abs());
        Status {
            id: self.record.id,
            cmd_id: self.record.cmd_id.clone(),
            subject: self.record.subject.clone(),
            state: match end {
                None => State::Running,
                Some(End { results: None, .. }) => State::Lost,
                Some(_) => State::Ended,
            },
            started: self.record.started,
            ended: end.map(|end| seconds(end.at)),
            pid,
            stdin_received,
            stdin_eof,
            attached: control.attached,
            out_from: out.from,
            out_to: out.to,
            err_from: err.from,
            err_to: err.to,
            request: None,
            results: end.and_then(|end| end.results.clone()),
        }
    }

    /// Returns the status once the execution has ended or `timeout` is over.
    ///
    /// # Cancel safety
    ///
    /// Cancelling changes nothing.
    pub async fn wait(&self, timeout: Duration) -> Status {
        let mut ended = self.ended.subscribe();
        // An error would mean that the sender is gone, which `self` owns.
        let _ = tokio::time::timeout(timeout, ended.wait_for(|&ended| ended)).await;
        self.status()
    }

    /// Sends a signal, 1 to 64, to the program's process group. After its end this does nothing.
    pub fn signal(&self, number: i32) {
        if !(1..=64).contains(&number) {
            return;
        }
        // Under the lock: the supervisor reaps the leader only after taking it out from there, so
        // its id cannot have been given to somebody else.
        let control = self.lock();
        if let Some((leader, _)) = &control.leader {
            let _ = sys::signal_group(*leader, number);
        }
    }

    /// Reads captured output, at most `length` bytes from `offset` on, which counts the bytes that
    /// were kept: behind the head follows the tail. Empty behind the last one. While the program
    /// runs, only what lies in the first half of the limit stays where it is. Blocks for the disk.
    ///
    /// # Errors
    ///
    /// The stream is not captured (-8), or the system's.
    pub fn captured(
        &self,
        stream: OutputStream,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StartError> {
        let capture = match stream {
            OutputStream::Out => &self.captures.out,
            OutputStream::Err => &self.captures.err,
        };
        let Some(capture) = capture else {
            return Err(StartError::new(
                Code::InvalidRequest,
                format!("{} is not captured", stream.name()),
            ));
        };
        let bytes = capture.read(offset, length).map_err(|error| {
            let code = error.raw_os_error().map_or(Code::Unknown, Code::from_errno);
            StartError::new(code, format!("captured output: {error}"))
        })?;
        let ended = self.has_ended();
        if ended && offset.saturating_add(bytes.len() as u64) >= capture.extent().kept {
            self.lock().fetched = true;
        }
        Ok(bytes)
    }

    /// Says whether its program was to run under a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// Gives the program's terminal another size. After its end this does nothing.
    pub(crate) fn resize(&self, size: Terminal) {
        let control = self.lock();
        if let Some(terminal) = &control.terminal {
            // Only a terminal that is gone has no size.
            let _ = terminal::resize(terminal, size);
        }
    }

    /// Returns the capture of a stream, if it has one.
    pub(super) fn capture(&self, channel: Channel) -> Option<&Arc<Capture>> {
        match channel {
            Channel::Out => self.captures.out.as_ref(),
            Channel::Err => self.captures.err.as_ref(),
        }
    }

    /// Says whether nothing more will come from the program.
    pub(super) fn pipes_closed(&self) -> bool {
        let mut captures = [&self.captures.out, &self.captures.err]
            .into_iter()
            .flatten();
        captures.all(|capture| capture.extent().closed)
            && self.out.range().closed
            && self.err.range().closed
    }

    /// Returns how many bytes the program wrote to a stream, and how many of them were not kept.
    pub(super) fn written(&self, channel: Channel) -> (u64, u64) {
        if let Some(capture) = self.capture(channel) {
            let extent = capture.extent();
            return (extent.written, extent.written - extent.kept);
        }
        let range = self.window(channel).range();
        (range.to + range.dropped, range.dropped)
    }

    /// Returns the record with the end.
    pub(super) fn record_of_end(&self, results: Option<Results>) -> Record {
        let (stdin_received, stdin_eof) = self.stdin.position();
        let written = |capture: &Option<Arc<Capture>>| capture.as_ref().map(|c| c.written());
        let mut record = self.record.clone();
        record.end = Some(RecordedEnd {
            at: seconds(SystemTime::now()),
            results,
            stdin_received,
            stdin_eof,
            out_from: self.out.range().from,
            err_from: self.err.range().from,
            out: written(&self.captures.out),
            err: written(&self.captures.err),
        });
        record
    }

    /// Writes a record of the end. Blocks for the disk.
    pub(super) fn write_end(&self, record: &Record) {
        if let Err(error) = self.filed.end(record) {
            tracing::error!(id = record.id, %error, "the end of an execution cannot be written down");
        }
    }

    /// Writes the record of an execution that was found without an end.
    pub(super) fn save_lost(&self) -> io::Result<()> {
        self.filed.end(&self.record)
    }

    /// Has what is on disk removed with the execution.
    pub(super) fn forget(&self) {
        self.filed.remove();
        for capture in [&self.captures.out, &self.captures.err]
            .into_iter()
            .flatten()
        {
            capture.forget();
        }
    }

    /// Attaches a new client at the first bytes that nobody has acknowledged, and silences the former
    /// one.
    pub(super) fn attach(self: &Arc<Self>) -> AttachTicket {
        let control = self.lock();
        let (out, err) = (self.out.range().from, self.err.range().from);
        self.attach_under(control, out, err)
    }

    /// Attaches a new client from these offsets of the streams on, and silences the former one. The
    /// status to answer is to be taken afterwards.
    ///
    /// # Errors
    ///
    /// An offset lies below what was acknowledged, or above what was produced (-8); then nothing has
    /// changed.
    pub fn attach_at(self: &Arc<Self>, out: u64, err: u64) -> Result<AttachTicket, StartError> {
        // Acknowledgements take this lock, too: what is checked here stays true.
        let control = self.lock();
        for (name, offset, window) in [("out", out, &self.out), ("err", err, &self.err)] {
            let range = window.range();
            if !(range.from..=range.to).contains(&offset) {
                let (from, to) = (range.from, range.to);
                return Err(StartError::new(
                    Code::InvalidRequest,
                    format!("{name} can be had from {from} to {to}, not from {offset}"),
                ));
            }
        }
        Ok(self.attach_under(control, out, err))
    }

    fn attach_under(
        self: &Arc<Self>,
        mut control: MutexGuard<'_, Control>,
        out: u64,
        err: u64,
    ) -> AttachTicket {
        control.epoch += 1;
        control.attached = true;
        control.unattended = None;
        let epoch = control.epoch;
        self.stdin.restart_credit();
        let (stdin, eof) = self.stdin.position();
        let position = Position {
            out,
            err,
            stdin,
            eof,
        };
        drop(control);
        self.activity.notify_waiters();
        self.attention.notify_one();
        AttachTicket {
            execution: Arc::clone(self),
            epoch,
            position,
            settled: false,
        }
    }

    /// Waits for news of the streams or the end; to be asked for before the state is looked at.
    pub(super) fn news(&self) -> tokio::sync::futures::Notified<'_> {
        self.activity.notified()
    }

    /// Notes that nobody is attached from the start.
    pub(super) fn leave_unattended(&self) {
        self.lock().unattended = Some(Instant::now());
    }

    /// Notes the running program.
    pub(super) fn set_leader(&self, pid: Pid, kin: Arc<Kin>, terminal: Option<OwnedFd>) {
        let mut control = self.lock();
        control.leader = Some((pid, kin));
        control.terminal = terminal;
    }

    /// Takes the program out of reach of signals, before it is reaped.
    pub(super) fn take_leader(&self) {
        let mut control = self.lock();
        control.leader = None;
        control.terminal = None;
    }

    /// Lets go of the program's terminal and of what is still to be typed. Returns whether it has one.
    pub(super) fn hang_up(&self) -> bool {
        let had = self.lock().terminal.take().is_some();
        if had {
            self.stdin.break_off();
        }
        had
    }

    /// Returns how often its client wants to be told what it uses, if at all.
    pub(crate) fn usage_every(&self) -> Option<Duration> {
        self.usage_every
    }

    /// Returns what it has used so far; None once its program has ended.
    pub(crate) async fn usage(&self) -> Option<Usage> {
        let (_, kin) = self.lock().leader.clone()?;
        let look = tokio::task::spawn_blocking(move || usage::of(&kin));
        let wall = self.begun.elapsed();
        Some(Usage {
            wall_s: super::round(wall.as_secs_f64()),
            resources: look.await.ok()?,
        })
    }

    /// Asks the supervisor to end the execution. The first reason stays.
    pub(super) fn stop(&self, reason: Stop) {
        let mut control = self.lock();
        if control.end.is_none() {
            control.stop.get_or_insert(reason);
        }
        drop(control);
        self.attention.notify_one();
    }

    /// Returns what its temporary directory takes up, where it has one.
    pub(super) fn temporary(&self) -> Option<&Share> {
        self.temporary.as_ref()
    }

    /// Returns why the execution is to be ended, if it is.
    pub(super) fn stopping(&self) -> Option<Stop> {
        self.lock().stop
    }

    /// Returns since when nobody has been attached to a streamed output.
    pub(super) fn orphaned_since(&self) -> Option<Instant> {
        let control = self.lock();
        control
            .unattended
            .filter(|_| self.streamed && !control.attached)
    }

    /// Writes the execution's line in the log: who ran what and where, how it ended and what it used.
    /// Neither arguments nor variables, which may hold secrets.
    pub(super) fn audit(&self, results: &Results) {
        let Resources {
            ru_utime,
            ru_stime,
            ru_maxrss,
            ..
        } = results.resources;
        let field = |name| self.record.request.get(name).map(Value::to_string);
        tracing::info!(
            target: "exec",
            id = self.record.id,
            cmd_id = self.record.cmd_id,
            subject = self.record.subject,
            cmd = field("cmd"),
            path = field("path").unwrap_or_else(|| "\"/\"".to_owned()),
            exited = results.finished,
            code = results.exit_code_or_signal,
            limit = results.limit.as_deref(),
            wall_s = results.wall_s,
            ru_utime,
            ru_stime,
            ru_maxrss,
            survivors = results.survivors.len(),
            "execution ended"
        );
    }

    /// Records the end.
    pub(super) fn finish(&self, results: Results) {
        let mut control = self.lock();
        control.end = Some(End {
            at: SystemTime::now(),
            results: Some(results),
        });
        drop(control);
        self.ended.send_replace(true);
        self.activity.notify_waiters();
    }

    /// Says whether it has ended and nobody is being told so.
    pub(super) fn is_at_rest(&self) -> bool {
        let control = self.lock();
        control.end.is_some() && !control.attached
    }

    /// Returns how long ago it ended and whether its end was fetched; None while it runs.
    pub(super) fn rest(&self) -> Option<(Duration, bool)> {
        let control = self.lock();
        let end = control.end.as_ref()?;
        let age = end.at.elapsed().unwrap_or_default();
        Some((age, control.fetched && !control.attached))
    }

    /// Returns the request's choice for a lost connection.
    pub(super) fn on_disconnect(&self) -> OnDisconnect {
        self.on_disconnect
    }

    pub(super) fn window(&self, channel: Channel) -> &Window {
        match channel {
            Channel::Out => &self.out,
            Channel::Err => &self.err,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to be the one client of an execution's streams. If it is dropped without having been
/// served, or the service ends with a lost connection, what the request says for that case happens.
#[derive(Debug)]
pub struct AttachTicket {
    execution: Arc<Execution>,
    epoch: u64,
    position: Position,
    settled: bool,
}

impl AttachTicket {
    /// Returns the execution.
    #[must_use]
    pub fn execution(&self) -> &Arc<Execution> {
        &self.execution
    }

    /// Returns where the streams stood when this client was attached.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Returns what tells about news; to be asked before the state is looked at.
    pub(crate) fn activity(&self) -> tokio::sync::futures::Notified<'_> {
        self.execution.news()
    }

    /// Says whether this is still the execution's client.
    pub(crate) fn is_current(&self) -> bool {
        let control = self.execution.lock();
        control.epoch == self.epoch
    }

    /// Returns up to `longest` bytes of a stream from `offset` on; None once another client has
    /// taken over.
    pub(crate) fn output(&self, channel: Channel, offset: u64, longest: usize) -> Option<Bytes> {
        // The lock is held meanwhile, so that nothing is read after a take-over.
        let control = self.execution.lock();
        let bytes = self.execution.window(channel).copy(offset, longest);
        (control.epoch == self.epoch).then_some(bytes)
    }

    /// Takes an acknowledgement. That of a client who was replaced is passed over: the new one
    /// still has to get what it covers.
    pub(crate) fn acknowledge(&self, out: u64, err: u64) {
        let control = self.execution.lock();
        if control.epoch == self.epoch {
            self.execution.out.acknowledge(out);
            self.execution.err.acknowledge(err);
        }
    }

    /// Grants standard input, if it is worth a frame.
    pub(crate) fn grant(&self) -> Option<u64> {
        let control = self.execution.lock();
        if control.epoch == self.epoch {
            self.execution.stdin.grant()
        } else {
            None
        }
    }

    /// Takes standard input; that of a client who was replaced is dropped.
    pub(crate) fn input(&self, bytes: &[u8]) -> Result<(), InputAfterEof> {
        let control = self.execution.lock();
        if control.epoch == self.epoch {
            self.execution.stdin.push(bytes)
        } else {
            Ok(())
        }
    }

    /// Closes standard input.
    pub(crate) fn close_input(&self) {
        let control = self.execution.lock();
        if control.epoch == self.epoch {
            self.execution.stdin.close();
        }
    }

    /// Returns the final status once the execution has ended and a client at these offsets has had
    /// all output.
    pub(crate) fn end_at(&self, out: u64, err: u64) -> Option<Status> {
        if !self.execution.has_ended() {
            return None;
        }
        let complete = out >= self.execution.out.range().to && err >= self.execution.err.range().to;
        complete.then(|| self.execution.status())
    }

    /// Leaves the execution to itself: the client asked for that, or was replaced.
    pub(crate) fn detach(mut self) {
        self.leave(false);
    }

    /// Leaves an ended execution whose client has everything.
    pub(crate) fn complete(mut self) {
        self.acknowledge(u64::MAX, u64::MAX);
        let mut control = self.execution.lock();
        let first = !std::mem::replace(&mut control.fetched, true);
        let end = control.end.as_ref();
        let results = end.and_then(|end| end.results.clone());
        drop(control);
        self.leave(false);
        let streamed = |results: &Results| results.out_bytes + results.err_bytes > 0;
        if first && results.as_ref().is_some_and(streamed) {
            // The record still says that the last bytes are missing.
            let execution = Arc::clone(&self.execution);
            let write = move || execution.write_end(&execution.record_of_end(results));
            // Nobody waits for it.
            drop(tokio::task::spawn_blocking(write));
        }
    }

    /// Ends the attachment, if it is still the current one.
    fn leave(&mut self, lost: bool) {
        if self.settled {
            return;
        }
        self.settled = true;
        let mut control = self.execution.lock();
        if control.epoch != self.epoch {
            return;
        }
        control.attached = false;
        control.unattended = Some(Instant::now());
        drop(control);
        if lost && self.execution.on_disconnect() == OnDisconnect::Kill {
            self.execution.stop(Stop::Disconnect);
        }
        self.execution.attention.notify_one();
    }
}

impl Drop for AttachTicket {
    fn drop(&mut self) {
        self.leave(true);
    }
}

/// The beginning of captured output, as a status holds it.
#[derive(Debug, Default)]
struct Inline {
    text: Option<String>,
    base64: Option<String>,
    /// Whether there is more.
    cut: bool,
}

/// Returns the beginning of captured output for a status: as text where it is text, else in base64.
/// What cannot be read is left out; the counts in the results tell that it is missing.
fn inline(capture: &Capture) -> Inline {
    let bytes = match capture.read(0, INLINE_MAX) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(%error, "captured output cannot be read");
            return Inline::default();
        }
    };
    let more = capture.extent().kept > bytes.len() as u64;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        // The limit may lie within a character.
        Err(error) if more && error.error_len().is_none() => {
            let whole = bytes.get(..error.valid_up_to());
            whole
                .and_then(|whole| std::str::from_utf8(whole).ok())
                .unwrap_or_default()
        }
        Err(_) => {
            return Inline {
                text: None,
                base64: Some(BASE64.encode(bytes)),
                cut: more,
            };
        }
    };
    let fitting = text.get(..fitting(text)).unwrap_or_default();
    Inline {
        text: Some(fitting.to_owned()),
        base64: None,
        cut: more || fitting.len() < text.len(),
    }
}

/// Returns how much of a text can stand in a status: control characters take six bytes each there, and
/// a status has to fit into a frame.
fn fitting(text: &str) -> usize {
    let mut room = INLINE_JSON_MAX;
    for (index, character) in text.char_indices() {
        let takes = match character {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            control if control < ' ' => 6,
            other => other.len_utf8(),
        };
        if takes > room {
            return index;
        }
        room -= takes;
    }
    text.len()
}

/// Returns the time between two looks at what a program uses: it takes a look at every process.
fn usage_every(milliseconds: u64) -> Option<Duration> {
    const LEAST: u64 = 100;
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.max(LEAST)))
}

/// The time so many seconds after 1970; that itself where there is no such time.
fn time(seconds: f64) -> SystemTime {
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// Seconds since 1970, to the millisecond.
pub(super) fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    super::round(since.as_secs_f64())
}
