//! A program's streams on this machine: output as it comes, input, signals and the user's terminal, for
//! as many connections as that takes.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chirp_client::Client;
use chirp_client::exec::{Control, Ending, Execution, Status};
use chirp_proto::request::ExecutionName;
use rustix::process::{Signal, getpid, kill_process};
use tokio::io::AsyncRead;
use tokio::signal::unix::{Signal as Caught, SignalKind, signal};
use tokio::sync::mpsc;

use super::Failure;
use super::keyboard::{self, DetachKeys, Raw, Silence};
use super::resume::{self, Counted, Replay};
use crate::output;

/// What waits to be told to the server while there is no connection.
const CONTROLS_MAX: usize = 16;

/// What goes to a program's standard input.
pub(super) enum Input {
    /// Nothing: it is closed.
    Closed,
    /// Nothing, and it stays open for whoever joins later.
    Silent,
    /// What this brings.
    From(Box<dyn AsyncRead + Unpin>),
    /// What is typed, until these keys leave the program to itself.
    Typed(DetachKeys),
}

/// What came of a session.
pub(super) enum Outcome {
    /// The program ended.
    Ended(Box<Status>),
    /// The user left the program to itself.
    Left,
}

/// Takes part in a program's run until it ends or is left; on further connections where one is lost and
/// `name` tells how to find the program again. `received` bytes of standard input are the server's already.
pub(super) async fn run(
    client: &Client,
    mut execution: Execution,
    name: Option<ExecutionName>,
    input: Input,
    received: u64,
) -> Result<Outcome, Failure> {
    let (controls, mut control) = mpsc::channel(CONTROLS_MAX);
    let left = Arc::new(AtomicBool::new(false));
    let raw = match &input {
        Input::Typed(_) => Some(Raw::enter()?),
        _ => None,
    };
    let signals = Signals::catch(raw.is_some())?;
    let mut input: Option<Replay> = match input {
        Input::Closed => None,
        Input::Silent => Some(Replay::behind(received, Box::new(Silence))),
        Input::From(source) => Some(Replay::behind(received, source)),
        Input::Typed(detach) => {
            let keys = keyboard::keys(detach, controls.clone(), Arc::clone(&left));
            Some(Replay::behind(received, Box::new(keys)))
        }
    };
    execution = execution.with_stdin_from(received);
    let mut out = Counted::new(tokio::io::stdout());
    let mut err = Counted::new(tokio::io::stderr());
    let begun = execution.begun();
    let known = name.as_ref();
    let away = Cell::new(false);
    let streams = async {
        loop {
            if raw.is_some() {
                // It may have changed while there was no connection.
                let _full = controls.try_send(Control::Resize(keyboard::size()));
            }
            let ran = execution.run(input.as_mut(), &mut out, &mut err, &mut control);
            let (error, name, begun) = match (ran.await, known, begun.get()) {
                (Err(error), Some(name), Some(begun)) => (error, name, begun),
                (outcome, _, _) => return outcome.map_err(Failure::from),
            };
            let away = Away::begin(client, &away, raw.as_ref());
            let (out, err) = (begun.out + out.count, begun.err + err.count);
            let join = async |next: &Client| next.exec_attach(name, out, err).await;
            let (status, joined) = resume::again(client, error, join).await?;
            let received = status.stdin_received;
            let from = match &mut input {
                Some(input) => input.restart(received).ok_or_else(|| {
                    let reason =
                        "more standard input was lost with the connection than can be sent again";
                    Failure::Other(format!("{}: {reason}", client.host()))
                })?,
                None => received,
            };
            execution = joined.with_stdin_from(from);
            drop(away);
        }
    };
    let ending = tokio::select! {
        ending = streams => ending?,
        () = signals.pass(&controls, raw.as_ref(), &away) => {
            drop(raw);
            if away.get() {
                let reason = "no connection; the program was left to itself";
                return Err(Failure::Other(format!("{}: {reason}", client.host())));
            }
            if let (Some(name), Some(Ok(next))) = (&name, client.connect_another().await) {
                // Else the server ends it, because nobody comes back.
                let _ = next.exec_signal(name, KILL.unsigned_abs()).await;
            }
            let reason = "given up; the server ends the program";
            return Err(Failure::Other(format!("{}: {reason}", client.host())));
        }
    };
    drop(raw);
    match ending {
        Ending::Ended(status) => Ok(Outcome::Ended(status)),
        Ending::Detached if left.load(Ordering::Relaxed) => Ok(Outcome::Left),
        Ending::Detached => {
            let reason = "another client took the program over";
            Err(Failure::Other(format!("{}: {reason}", client.host())))
        }
    }
}

/// The number of SIGKILL.
const KILL: i32 = Signal::KILL.as_raw();

/// The time without a connection. Somebody who types in vain has an ordinary terminal meanwhile, where
/// Ctrl-C ends the client.
struct Away<'a> {
    raw: &'a Raw,
    flag: &'a Cell<bool>,
}

impl<'a> Away<'a> {
    fn begin(client: &Client, flag: &'a Cell<bool>, raw: Option<&'a Raw>) -> Option<Self> {
        let raw = raw?;
        raw.leave();
        flag.set(true);
        let host = client.host();
        output::message(&format!(
            "{host}: connection lost; trying again, Ctrl-C gives up"
        ));
        Some(Self { raw, flag })
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        // Only a terminal that is gone refuses.
        let _gone = self.raw.again();
        self.flag.set(false);
    }
}

/// The signals that are for the program.
struct Signals {
    interrupts: Caught,
    terminations: Caught,
    hangups: Caught,
    /// With a terminal.
    of_terminal: Option<OfTerminal>,
}

/// The signals about the terminal.
struct OfTerminal {
    quits: Caught,
    sizes: Caught,
    stops: Caught,
    continues: Caught,
}

impl Signals {
    fn catch(terminal: bool) -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind)
                .map_err(|error| Failure::Other(format!("failed to catch signals: {error}")))
        };
        let of_terminal = if terminal {
            Some(OfTerminal {
                quits: catch(SignalKind::quit())?,
                sizes: catch(SignalKind::window_change())?,
                stops: catch(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
                continues: catch(SignalKind::from_raw(Signal::CONT.as_raw()))?,
            })
        } else {
            None
        };
        Ok(Self {
            interrupts: catch(SignalKind::interrupt())?,
            terminations: catch(SignalKind::terminate())?,
            hangups: catch(SignalKind::hangup())?,
            of_terminal,
        })
    }

    /// Passes the first signal on, and has the second one kill the program; returns at the third, and at
    /// any while somebody at a terminal is `away`. At a terminal, where no key means a signal, the first
    /// one hangs up.
    async fn pass(
        mut self,
        controls: &mpsc::Sender<Control>,
        raw: Option<&Raw>,
        away: &Cell<bool>,
    ) {
        let tell = |control| {
            // A full queue says as much already.
            let _full = controls.try_send(control);
        };
        let first = self.next(controls, raw).await;
        if away.get() {
            return;
        }
        tell(Control::Signal(match raw {
            Some(_) => SignalKind::hangup().as_raw_value(),
            None => first.as_raw_value(),
        }));
        self.next(controls, raw).await;
        if away.get() {
            return;
        }
        tell(Control::Signal(KILL));
        self.next(controls, raw).await;
    }

    /// Returns the next signal that is for the program, and does what those about the terminal ask for.
    async fn next(&mut self, controls: &mpsc::Sender<Control>, raw: Option<&Raw>) -> SignalKind {
        loop {
            let about = async {
                match &mut self.of_terminal {
                    Some(signals) => signals.next().await,
                    None => std::future::pending().await,
                }
            };
            let told = tokio::select! {
                _ = self.interrupts.recv() => return SignalKind::interrupt(),
                _ = self.terminations.recv() => return SignalKind::terminate(),
                _ = self.hangups.recv() => return SignalKind::hangup(),
                told = about => told,
            };
            match (told, raw) {
                (Told::Quit, _) => return SignalKind::quit(),
                (Told::Stop, Some(raw)) => {
                    raw.leave();
                    // What stops everybody else; on from here with SIGCONT.
                    let _stopped = kill_process(getpid(), Signal::STOP);
                }
                (Told::Continue, Some(raw)) => {
                    let _gone = raw.again();
                    let _full = controls.try_send(Control::Resize(keyboard::size()));
                }
                (Told::Size, _) => {
                    let _full = controls.try_send(Control::Resize(keyboard::size()));
                }
                (Told::Stop | Told::Continue, None) => {}
            }
        }
    }
}

/// What a signal says about the terminal.
#[derive(Clone, Copy, Debug)]
enum Told {
    Quit,
    Size,
    Stop,
    Continue,
}

impl OfTerminal {
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.quits.recv() => Told::Quit,
            _ = self.sizes.recv() => Told::Size,
            _ = self.stops.recv() => Told::Stop,
            _ = self.continues.recv() => Told::Continue,
        }
    }
}

/// Tells the user how to come back to a program.
pub(super) fn tell_left(client: &Client, name: &str) {
    let host = client.host();
    output::message(&format!(
        "{host}: left running; `attach {name}` comes back to it, `kill {name}` ends it"
    ));
}
