//! The agent itself: one task that owns the registry of guests.
//!
//! Beacons, the broker's news, outcomes of checks and the API's questions come in as messages and are
//! answered one after another, so the registry needs no lock. What takes time (checks and probes) runs in
//! tasks of its own, a bounded number at once.

pub(crate) mod check;
pub(crate) mod exec;
pub(crate) mod machines;
mod notice;
pub(crate) mod service;
mod snapshot;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use beacon::broker::PublisherLost;
use beacon::mac::MacId;
use beacon::message::Beacon;
use beacon::registry::{
    CheckResult, Counters, Event, EventKind, GuestRecord, ProbeResult, Registry, RegistryConfig,
    Snapshot, Target,
};
use beacon::subscriber::Heard;
use host_agent::hypervisor::{Machine, State};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::types::Notice;
use snapshot::Keeper;

/// Checks and probes at once. The rest wait: thousands of guests may appear in one second.
const CHECKS_AT_ONCE: usize = 64;

/// Lines of `GET /events` that a slow reader may be behind before it is told that it missed some.
const NOTICES_KEPT: usize = 1024;

/// Questions that may wait for the agent.
const QUESTIONS_MAX: usize = 64;

/// Unknown guests that wait until the hypervisor has been asked; more are asked for with their next beacons.
const WAITING_MAX: usize = 256;

/// Guests and announcements that are refused are logged this often, all of a kind together.
const REFUSED_EVERY: Duration = Duration::from_secs(60);

/// The agent cannot answer: it is stopping.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the agent is stopping")]
pub(crate) struct Stopping;

/// A handle by which the API asks the agent.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    questions: mpsc::Sender<Question>,
}

#[derive(Debug)]
enum Question {
    Guests(Which, oneshot::Sender<Vec<GuestRecord>>),
    Events(oneshot::Sender<(Vec<GuestRecord>, broadcast::Receiver<Arc<Notice>>)>),
    Presence(oneshot::Sender<Presence>),
    Machines(Vec<Machine>, oneshot::Sender<()>),
    Power(Vec<MacId>, Power, oneshot::Sender<()>),
    Tell(Box<Notice>, oneshot::Sender<()>),
}

/// What was done to a guest's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    /// It is paused, saved, or about to be.
    Paused,
    /// It goes on.
    Resumed,
    /// It goes on from a snapshot.
    Restored,
    /// It is off, or starts from the beginning.
    Ended(&'static str),
}

/// Which guests are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that are registered.
    Registered,
    /// Those that are gone or left since some minutes, too.
    All,
}

/// What the agent knows of presence as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presence {
    /// Whether the broker is heard.
    pub(crate) broker_up: bool,
    /// What was counted.
    pub(crate) counters: Counters,
}

impl Handle {
    /// Returns guests, in order of name and id.
    pub(crate) async fn guests(&self, which: Which) -> Result<Vec<GuestRecord>, Stopping> {
        self.ask(|answer| Question::Guests(which, answer)).await
    }

    /// Returns the registered guests and everything that happens after.
    pub(crate) async fn events(
        &self,
    ) -> Result<(Vec<GuestRecord>, broadcast::Receiver<Arc<Notice>>), Stopping> {
        self.ask(Question::Events).await
    }

    /// Tells the agent which machines the hypervisor has.
    pub(crate) async fn machines(&self, machines: Vec<Machine>) -> Result<(), Stopping> {
        self.ask(|answer| Question::Machines(machines, answer))
            .await
    }

    /// Tells the agent what was done to the machine of these ids.
    pub(crate) async fn power(&self, ids: Vec<MacId>, power: Power) -> Result<(), Stopping> {
        self.ask(|answer| Question::Power(ids, power, answer)).await
    }

    /// Tells everybody who listens. An agent that stops need not be told.
    pub(crate) async fn tell(&self, notice: Notice) {
        let _ = self
            .ask(|answer| Question::Tell(Box::new(notice), answer))
            .await;
    }

    /// Returns whether the broker is heard, and what was counted.
    pub(crate) async fn presence(&self) -> Result<Presence, Stopping> {
        self.ask(Question::Presence).await
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Question,
    ) -> Result<T, Stopping> {
        let (answer, answered) = oneshot::channel();
        self.questions
            .send(question(answer))
            .await
            .map_err(|_| Stopping)?;
        answered.await.map_err(|_| Stopping)
    }
}

/// Settings of the agent's task.
#[derive(Debug, Clone)]
pub(crate) struct AgentConfig {
    /// `Host.vm_gc_grace`.
    pub(crate) grace: Duration,
    /// `Host.accept_unknown_guests`.
    pub(crate) accept_unknown: bool,
    /// The machines that the hypervisor has at the start.
    pub(crate) machines: Vec<Machine>,
    /// Is told when a guest announces itself that no machine is known of, and when one is not met where its
    /// machine was; none without a hypervisor.
    pub(crate) unknown: Option<Arc<Notify>>,
    /// Where the guests are written down, if anywhere.
    pub(crate) snapshot: Option<PathBuf>,
}

/// What the agent hears.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Beacons and the state of the connection to the broker.
    pub(crate) presence: mpsc::Receiver<Heard>,
    /// Publishers of the embedded broker that ended without BYE; none with a foreign broker.
    pub(crate) lost: Option<mpsc::Receiver<PublisherLost>>,
}

/// The agent's task, ready to run.
#[derive(Debug)]
pub(crate) struct Agent {
    config: AgentConfig,
    registry: Registry,
    broker_up: bool,
    sources: Sources,
    questions: mpsc::Receiver<Question>,
    notices: broadcast::Sender<Arc<Notice>>,
    checks: JoinSet<Outcome>,
    running: HashSet<(MacId, Kind)>,
    permits: Arc<Semaphore>,
    keeper: Option<Keeper>,
    /// What unknown guests said last, until the hypervisor has been asked for them.
    waiting: HashMap<MacId, (Beacon, Option<IpAddr>)>,
    refused: Rarely,
    full: Rarely,
    too_many: Rarely,
}

/// Something that is logged at most once in [`REFUSED_EVERY`].
#[derive(Debug, Default)]
struct Rarely(Option<Instant>);

impl Rarely {
    fn may_speak(&mut self, now: Instant) -> bool {
        let may = self
            .0
            .is_none_or(|at| now.saturating_duration_since(at) >= REFUSED_EVERY);
        if may {
            self.0 = Some(now);
        }
        may
    }
}

/// What kind of check runs for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Check,
    Probe,
}

/// The outcome of a check or probe.
#[derive(Debug)]
struct Outcome {
    id: MacId,
    target: Target,
    found: Found,
}

#[derive(Debug)]
enum Found {
    Check(CheckResult),
    Probe(ProbeResult),
}

impl Agent {
    /// Returns the agent and the handle to ask it by.
    pub(crate) fn new(config: AgentConfig, sources: Sources) -> (Self, Handle) {
        let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
        let registry = Registry::new(RegistryConfig {
            grace: config.grace,
            ..RegistryConfig::default()
        });
        let keeper = config
            .snapshot
            .clone()
            .map(|path| Keeper::new(path, registry.revision()));
        let agent = Self {
            config,
            registry,
            // The registry's own first assumption: nothing to probe yet, so it costs nothing.
            broker_up: false,
            sources,
            questions,
            notices: broadcast::channel(NOTICES_KEPT).0,
            checks: JoinSet::new(),
            running: HashSet::new(),
            permits: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
            keeper,
            waiting: HashMap::new(),
            refused: Rarely::default(),
            full: Rarely::default(),
            too_many: Rarely::default(),
        };
        (agent, Handle { questions: sender })
    }

    /// Runs until the token is cancelled. Checks that run then are dropped.
    pub(crate) async fn run(mut self, token: CancellationToken) {
        let machines = std::mem::take(&mut self.config.machines);
        self.learn_machines(&machines);
        if let Some(path) = self.config.snapshot.clone() {
            match tokio::task::spawn_blocking(move || snapshot::read(&path)).await {
                Ok(read) => self.remember(read),
                Err(error) => self.remember(Err(std::io::Error::other(error))),
            }
            // Those that were read have their machines' names and pauses now.
            self.learn_machines(&machines);
        }
        loop {
            let deadline = self
                .registry
                .next_deadline()
                .map(tokio::time::Instant::from_std);
            let revision = self.registry.revision();
            tokio::select! {
                () = token.cancelled() => break,
                event = self.sources.presence.recv() => match event {
                    Some(event) => self.hear(event),
                    // The subscriber ends with the same token only.
                    None => break,
                },
                Some(lost) = receive(&mut self.sources.lost) => {
                    tracing::debug!(id = %lost.id, peer = %lost.peer, why = lost.why, "publisher lost");
                    let events = self.registry.publisher_lost(lost.id, Instant::now());
                    self.act(events);
                }
                Some(question) = self.questions.recv() => self.answer(question),
                Some(outcome) = self.checks.join_next() => match outcome {
                    Ok(outcome) => self.learn(outcome),
                    Err(error) => tracing::error!(%error, "a guest's check failed by a defect of this program"),
                },
                () = sleep_until(deadline) => {
                    let events = self.registry.tick(Instant::now());
                    self.act(events);
                }
                () = due(&mut self.keeper, revision) => {
                    if let Some(keeper) = &mut self.keeper {
                        keeper.start(self.registry.snapshot(SystemTime::now()), revision);
                    }
                }
            }
        }
        if let Some(keeper) = self.keeper.take() {
            let snapshot = || self.registry.snapshot(SystemTime::now());
            keeper.finish(snapshot, self.registry.revision()).await;
        }
    }

    /// Takes up the guests that an earlier agent wrote down.
    fn remember(&mut self, read: std::io::Result<Option<Snapshot>>) {
        let restored = match read {
            Ok(None) => return,
            Ok(Some(snapshot)) => self
                .registry
                .restore(snapshot, Instant::now(), SystemTime::now())
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match restored {
            Ok(events) => {
                self.act(events);
                if !self.config.accept_unknown {
                    self.drop_unknown();
                }
            }
            Err(error) => tracing::warn!(
                event = "snapshot.unusable", path = ?self.config.snapshot, %error,
                "the guests that were written down cannot be read; they are known by their next beacons"
            ),
        }
    }

    fn hear(&mut self, heard: Heard) {
        let now = Instant::now();
        match heard {
            Heard::Up => {
                self.broker_up = true;
                self.registry.broker_up(now);
                self.tell(Notice::Broker {
                    time: notice::now(),
                    up: true,
                    why: "subscribed".to_owned(),
                });
            }
            Heard::Down(why) => {
                self.broker_up = false;
                self.registry.broker_down(now);
                self.tell(Notice::Broker {
                    time: notice::now(),
                    up: false,
                    why,
                });
            }
            Heard::Beacon { beacon, peer } => self.hear_beacon(&beacon, peer, now),
            // The subscriber has logged it.
            Heard::Unusable(_) => self.registry.count_unusable(),
        }
    }

    fn hear_beacon(&mut self, beacon: &Beacon, peer: Option<IpAddr>, now: Instant) {
        if !self.config.accept_unknown
            && let Some(said) = &beacon.announcement
            && self.registry.get(said.id).is_none()
            && !self.registry.is_named(said.id)
        {
            if let Some(unknown) = &self.config.unknown {
                if self.waiting.len() < WAITING_MAX || self.waiting.contains_key(&said.id) {
                    self.waiting.insert(said.id, (beacon.clone(), peer));
                }
                unknown.notify_one();
                return;
            }
            if self.refused.may_speak(now) {
                tracing::warn!(
                    id = %said.id, name = said.name,
                    "refused a guest that no hypervisor knows; Host.accept_unknown_guests = yes takes it on"
                );
            }
            return;
        }
        if let (Some(said), Some(unknown)) = (&beacon.announcement, &self.config.unknown)
            && self.registry.get(said.id).is_none()
            && !self.registry.is_named(said.id)
        {
            unknown.notify_one();
        }
        let before = self.registry.counters();
        let events = self.registry.handle(beacon, peer, now, SystemTime::now());
        let after = self.registry.counters();
        let said = beacon
            .announcement
            .as_ref()
            .map(|said| (said.id, &said.name));
        if after.full > before.full && self.full.may_speak(now) {
            tracing::warn!(
                guest = ?said, known = self.registry.all().count(),
                "there are as many guests as an agent can have: another one is not taken on"
            );
        }
        if after.too_many > before.too_many && self.too_many.may_speak(now) {
            tracing::warn!(
                guest = ?said, ?peer,
                "more announcements a second than anybody needs: the excess is dropped"
            );
        }
        self.act(events);
    }

    /// Does what the registry asks for and tells what it reports.
    fn act(&mut self, events: Vec<Event>) {
        for event in events {
            notice::log(&event);
            match &event.kind {
                EventKind::Check(target) => self.start(event.id, Kind::Check, target.clone()),
                EventKind::Probe(target) => self.start(event.id, Kind::Probe, target.clone()),
                _ => {
                    let guest = self
                        .registry
                        .get(event.id)
                        .map(beacon::registry::Guest::record);
                    if let Some(notice) = guest.and_then(|guest| notice::of(&event, guest)) {
                        self.tell(notice);
                    }
                }
            }
        }
    }

    fn start(&mut self, id: MacId, kind: Kind, target: Target) {
        // One of a kind for each guest: an outcome for an older target makes the registry ask again.
        if !self.running.insert((id, kind)) {
            return;
        }
        let permits = Arc::clone(&self.permits);
        self.checks.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await.ok();
            let found = match kind {
                Kind::Check => Found::Check(check::check(&target).await),
                Kind::Probe => Found::Probe(check::probe(&target).await),
            };
            Outcome { id, target, found }
        });
    }

    fn learn(&mut self, outcome: Outcome) {
        let Outcome { id, target, found } = outcome;
        let now = Instant::now();
        // Where its hypervisor forwards a port to it, that may be another one by now.
        let met = matches!(
            found,
            Found::Check(CheckResult::Passed) | Found::Probe(ProbeResult::Answered)
        );
        if !met
            && let Some(unknown) = &self.config.unknown
            && self
                .registry
                .get(id)
                .is_some_and(beacon::registry::Guest::is_forwarded)
        {
            unknown.notify_one();
        }
        let (kind, events) = match found {
            Found::Check(result) => (
                Kind::Check,
                self.registry
                    .confirm(id, &target.boot, &target.run, result, now),
            ),
            Found::Probe(result) => (
                Kind::Probe,
                self.registry
                    .probed(id, &target.boot, &target.run, result, now),
            ),
        };
        self.running.remove(&(id, kind));
        self.act(events);
        // What was learnt about an earlier run or address says nothing about the guest of now.
        let moved = self.registry.get(id).is_some_and(|guest| {
            let said = guest.announcement();
            guest.state().is_registered()
                && (said.boot != target.boot
                    || said.run != target.run
                    || guest.address() != target.address)
        });
        if moved && let Some(guest) = self.registry.get(id) {
            let said = guest.announcement();
            let target = Target {
                address: guest.address(),
                boot: said.boot.clone(),
                run: said.run.clone(),
                why: "started again while it was checked".to_owned(),
            };
            self.start(id, kind, target);
        }
    }

    /// Takes what the hypervisor has: names for ids, and what is paused.
    fn learn_machines(&mut self, machines: &[Machine]) {
        let names = machines
            .iter()
            .flat_map(|machine| machine.macs.iter().map(|&mac| (mac, machine.name.clone())))
            .collect();
        self.registry.set_names(names);
        let now = Instant::now();
        let forwards = machines
            .iter()
            .filter_map(|machine| Some((machine, machine.forwarded?)))
            .flat_map(|(machine, at)| machine.macs.iter().map(move |&mac| (mac, at)))
            .collect();
        let events = self.registry.set_forwards(forwards, now);
        self.act(events);
        for machine in machines {
            let paused = match machine.state {
                State::Paused | State::Saved => true,
                State::Running => false,
                _ => continue,
            };
            for &mac in &machine.macs {
                let events = self.registry.paused(mac, paused, now);
                self.act(events);
            }
        }
        for (id, (beacon, peer)) in std::mem::take(&mut self.waiting) {
            if self.registry.is_named(id) {
                self.hear_beacon(&beacon, peer, now);
            } else if self.refused.may_speak(now) {
                let name = beacon.announcement.as_ref().map(|said| &said.name);
                tracing::warn!(
                    %id, ?name,
                    "refused a guest that the hypervisor has no machine of; Host.accept_unknown_guests = yes \
                     takes it on"
                );
            }
        }
    }

    /// Ends guests that were written down and that no machine is known of.
    fn drop_unknown(&mut self) {
        let unknown: Vec<MacId> = self
            .registry
            .guests()
            .map(beacon::registry::Guest::id)
            .filter(|&id| !self.registry.is_named(id))
            .collect();
        for id in unknown {
            let why = "the hypervisor has no machine of it";
            let events = self.registry.stopped(id, why, Instant::now());
            self.act(events);
        }
    }

    fn power(&mut self, ids: &[MacId], power: Power) {
        let now = Instant::now();
        for &id in ids {
            let events = match power {
                Power::Paused => self.registry.paused(id, true, now),
                Power::Resumed => self.registry.paused(id, false, now),
                Power::Restored => self.registry.restored(id, now),
                Power::Ended(why) => self.registry.stopped(id, why, now),
            };
            self.act(events);
        }
    }

    fn answer(&mut self, question: Question) {
        // An asker that is gone needs no answer.
        match question {
            Question::Guests(which, answer) => drop(answer.send(self.guests(which))),
            Question::Events(answer) => {
                let guests = self.guests(Which::Registered);
                drop(answer.send((guests, self.notices.subscribe())));
            }
            Question::Machines(machines, answer) => {
                self.learn_machines(&machines);
                // Who asked only waits for it to be done.
                let _ = answer.send(());
            }
            Question::Power(ids, power, answer) => {
                self.power(&ids, power);
                // Who asked only waits for it to be done.
                let _ = answer.send(());
            }
            Question::Tell(notice, answer) => {
                self.tell(*notice);
                // Who asked only waits for it to be done.
                let _ = answer.send(());
            }
            Question::Presence(answer) => drop(answer.send(Presence {
                broker_up: self.broker_up,
                counters: self.registry.counters(),
            })),
        }
    }

    fn guests(&self, which: Which) -> Vec<GuestRecord> {
        let mut guests: Vec<_> = self
            .registry
            .all()
            .filter(|guest| which == Which::All || guest.state().is_registered())
            .map(beacon::registry::Guest::record)
            .collect();
        guests.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        guests
    }

    fn tell(&self, notice: Notice) {
        // Nobody listens, most of the time.
        let _ = self.notices.send(Arc::new(notice));
    }
}

/// Waits until a registry of that revision is to be written down.
async fn due(keeper: &mut Option<Keeper>, revision: u64) {
    match keeper {
        Some(keeper) => keeper.due(revision).await,
        None => std::future::pending().await,
    }
}

/// Receives, or waits for ever where there is nothing to receive from.
async fn receive<T>(receiver: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match receiver {
        Some(receiver) => match receiver.recv().await {
            Some(value) => Some(value),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
