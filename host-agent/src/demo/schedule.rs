//! Which guest counts which shard: one owner of the queue, one task for each shard that is counted.
//!
//! A guest's failure is not believed to be its death: only the agent says that a guest is gone, and then its
//! shard goes to another.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use beacon::MacId;
use beacon::registry::GuestState;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::guests::DemoGuest;
use super::input::{Shard, Stager};
use super::job::{self, Counted};
use crate::api::client::{ApiClient, Lines};
use crate::api::types::Notice;
use crate::output;

/// How often a shard is tried.
const ATTEMPTS: u32 = 3;

/// How long the agent has to see that a killed guest is gone.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// What one guest did.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    /// Shards begun.
    pub(super) attempts: u32,
    /// Shards begun and not finished.
    pub(super) lost: u32,
    /// Files counted.
    pub(super) files: usize,
    /// Bytes pushed and pulled.
    pub(super) bytes: u64,
    /// Time with a shard in hand.
    pub(super) busy: Duration,
    /// Processor seconds of its programs.
    pub(super) cpu: f64,
    /// Why the agent says that it is gone; none while it lives.
    pub(super) gone: Option<String>,
    /// Whether it was killed.
    pub(super) killed: bool,
}

/// A shard that was counted, with who did it.
#[derive(Debug)]
pub(super) struct Finished {
    /// The shard's number, from 0.
    pub(super) shard: usize,
    /// The guest's place in the list.
    pub(super) guest: usize,
    /// Which attempt it was, from 1.
    pub(super) attempt: u32,
    /// The table.
    pub(super) table: PathBuf,
}

/// All that came of the shards.
#[derive(Debug)]
pub(super) struct Done {
    /// One entry for each shard.
    pub(super) finished: Vec<Finished>,
    /// One entry for each guest.
    pub(super) tallies: Vec<Tally>,
    /// The shard that was lost with the killed guest.
    pub(super) lost_shard: Option<usize>,
}

/// Kills one guest, once, when it has really begun a shard.
#[derive(Debug, Default)]
struct Killer {
    armed: AtomicBool,
    victim: OnceLock<MacId>,
}

impl Killer {
    /// Called with every sign of progress; kills the guest that gives the first one after arming.
    fn hear(&self, guest: &DemoGuest, shard: usize) {
        if !self.armed.swap(false, Ordering::SeqCst) {
            return;
        }
        // Armed once only, so there is no other.
        let _ = self.victim.set(guest.id);
        match guest.kill() {
            Ok(process) => output::note(&format!(
                "demo: KILLED {} (process {process}) with SIGKILL while it counts shard {}",
                guest.name,
                shard + 1
            )),
            Err(error) => output::note(&format!("demo: {}: {error:#}", guest.name)),
        }
    }
}

/// The schedule's state.
pub(super) struct Schedule {
    agent: ApiClient,
    stager: Stager,
    workspace: PathBuf,
    guests: Vec<Arc<DemoGuest>>,
    tallies: Vec<Tally>,
    idle: VecDeque<usize>,
    queue: VecDeque<(Arc<Shard>, u32)>,
    /// Shards whose guest failed, until the agent has said what is with it.
    in_doubt: Vec<(usize, Arc<Shard>, u32, Instant)>,
    running: JoinSet<Attempt>,
    killer: Arc<Killer>,
    finished: Vec<Finished>,
    lost_shard: Option<usize>,
    total: usize,
}

/// The outcome of one attempt at a shard.
struct Attempt {
    guest: usize,
    shard: Arc<Shard>,
    number: u32,
    took: Duration,
    counted: anyhow::Result<Counted>,
}

impl Schedule {
    /// Returns a schedule with all shards to do and all guests idle.
    pub(super) fn new(
        agent: ApiClient,
        stager: Stager,
        workspace: PathBuf,
        guests: Vec<Arc<DemoGuest>>,
        shards: Vec<Shard>,
    ) -> Self {
        Self {
            agent,
            stager,
            workspace,
            tallies: vec![Tally::default(); guests.len()],
            idle: (0..guests.len()).collect(),
            guests,
            total: shards.len(),
            queue: shards
                .into_iter()
                .map(|shard| (Arc::new(shard), 1))
                .collect(),
            in_doubt: Vec::new(),
            running: JoinSet::new(),
            killer: Arc::new(Killer::default()),
            finished: Vec::new(),
            lost_shard: None,
        }
    }

    /// Has every shard counted, with one guest killed on the way.
    ///
    /// # Errors
    ///
    /// A shard failed too often, no guest is left, or the agent does not see the killed one go.
    pub(super) async fn run(mut self, events: &mut Lines) -> anyhow::Result<Done> {
        let mut seen_by: Option<Instant> = None;
        loop {
            self.assign();
            let gone_seen = self
                .tallies
                .iter()
                .all(|tally| !tally.killed || tally.gone.is_some());
            if self.finished.len() == self.total && gone_seen {
                return Ok(Done {
                    finished: self.finished,
                    tallies: self.tallies,
                    lost_shard: self.lost_shard,
                });
            }
            if self.running.is_empty()
                && self.in_doubt.is_empty()
                && self.finished.len() < self.total
            {
                bail!(
                    "no guest is left for {} shards",
                    self.total - self.finished.len()
                );
            }
            if !gone_seen && seen_by.is_none() {
                seen_by = Some(Instant::now() + SEEN_WITHIN);
            }
            let doubt_ends = self.in_doubt.iter().map(|&(.., until)| until).min();
            tokio::select! {
                notice = events.next::<Notice>() => self.hear(notice?.context("the agent has stopped")?),
                Some(attempt) = self.running.join_next() => self.take(attempt?)?,
                () = until(doubt_ends) => self.end_doubt()?,
                () = until(seen_by.filter(|_| !gone_seen)) => {
                    bail!("the agent does not see the killed guest go within {} s", SEEN_WITHIN.as_secs());
                }
            }
        }
    }

    /// Gives shards to idle guests.
    fn assign(&mut self) {
        while !self.queue.is_empty()
            && let Some(guest) = self.idle.pop_front()
            && let Some((shard, number)) = self.queue.pop_front()
        {
            self.start(guest, shard, number);
        }
    }

    fn start(&mut self, place: usize, shard: Arc<Shard>, number: u32) {
        let (Some(guest), Some(tally)) = (self.guests.get(place), self.tallies.get_mut(place))
        else {
            return;
        };
        tally.attempts += 1;
        let again = if number > 1 {
            format!(", attempt {number}")
        } else {
            String::new()
        };
        output::note(&format!(
            "demo: shard {} -> {}: {} files, {}{again}",
            shard.number + 1,
            guest.name,
            shard.files.len(),
            bytesize::ByteSize(shard.bytes())
        ));
        let (guest, agent, stager, workspace, killer) = (
            Arc::clone(guest),
            self.agent.clone(),
            self.stager.clone(),
            self.workspace.clone(),
            Arc::clone(&self.killer),
        );
        self.running.spawn(async move {
            let began = Instant::now();
            let heard = |line: &str| {
                // First of all, so that the guest dies before it can finish.
                killer.hear(&guest, shard.number);
                output::note(&format!(
                    "demo: shard {} on {}: {line}",
                    shard.number + 1,
                    guest.name
                ));
            };
            let counted =
                job::count(&agent, &stager, &guest, &shard, number, &workspace, heard).await;
            Attempt {
                guest: place,
                shard,
                number,
                took: began.elapsed(),
                counted,
            }
        });
    }

    /// Takes what came of one attempt.
    fn take(&mut self, attempt: Attempt) -> anyhow::Result<()> {
        let Attempt {
            guest: place,
            shard,
            number,
            took,
            counted,
        } = attempt;
        let (Some(guest), Some(tally)) = (self.guests.get(place), self.tallies.get_mut(place))
        else {
            return Ok(());
        };
        tally.busy += took;
        match counted {
            Ok(counted) => {
                output::note(&format!(
                    "demo: shard {} done by {} in {:.1} s, SHA-256 {} agrees thrice",
                    shard.number + 1,
                    guest.name,
                    counted.took.as_secs_f64(),
                    counted.digest.get(..12).unwrap_or(&counted.digest)
                ));
                tally.files += shard.files.len();
                tally.bytes += counted.moved;
                tally.cpu += counted.cpu;
                self.finished.push(Finished {
                    shard: shard.number,
                    guest: place,
                    attempt: number,
                    table: counted.table,
                });
                self.idle.push_back(place);
                if self.finished.len() == self.total.div_ceil(4) {
                    self.killer.armed.store(true, Ordering::SeqCst);
                }
            }
            Err(error) => {
                tally.lost += 1;
                tally.killed = self.killer.victim.get() == Some(&guest.id);
                output::note(&format!(
                    "demo: shard {} on {} failed: {error:#}",
                    shard.number + 1,
                    guest.name
                ));
                if number >= ATTEMPTS {
                    return Err(error.context(format!(
                        "shard {} failed {ATTEMPTS} times",
                        shard.number + 1
                    )));
                }
                if tally.killed {
                    self.lost_shard = Some(shard.number);
                }
                if tally.gone.is_some() {
                    self.queue.push_front((shard, number + 1));
                } else {
                    self.in_doubt
                        .push((place, shard, number, Instant::now() + SEEN_WITHIN));
                }
            }
        }
        Ok(())
    }

    /// Takes the agent's word on a guest.
    fn hear(&mut self, notice: Notice) {
        let Notice::State {
            from,
            to,
            why,
            guest: record,
            ..
        } = notice
        else {
            return;
        };
        let Some(place) = self.guests.iter().position(|guest| guest.id == record.id) else {
            return;
        };
        let from = from.map_or_else(String::new, |from| format!("{from} -> "));
        output::note(&format!(
            "demo: the agent says of {}: {from}{to}: {why}",
            record.name
        ));
        if to == GuestState::Ready {
            // It was only late: what it failed at meanwhile is tried again.
            self.end_doubt_of(place);
            return;
        }
        if matches!(to, GuestState::Gone | GuestState::Left) {
            if let Some(tally) = self.tallies.get_mut(place) {
                tally.gone = Some(why);
            }
            self.idle.retain(|&idle| idle != place);
            while let Some(at) = self.in_doubt.iter().position(|&(of, ..)| of == place) {
                let (_, shard, number, _) = self.in_doubt.swap_remove(at);
                self.queue.push_front((shard, number + 1));
            }
        }
    }

    fn end_doubt_of(&mut self, place: usize) {
        while let Some(at) = self.in_doubt.iter().position(|&(of, ..)| of == place) {
            let (_, shard, number, _) = self.in_doubt.swap_remove(at);
            self.queue.push_front((shard, number + 1));
            self.idle.push_back(place);
        }
    }

    /// Tries shards again whose guest failed and is there all the same.
    fn end_doubt(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        while let Some(&(place, ..)) = self.in_doubt.iter().find(|&&(.., until)| until <= now) {
            if self.guests.get(place).is_some_and(|guest| guest.is_dead()) {
                bail!(
                    "the agent does not see a dead guest go within {} s",
                    SEEN_WITHIN.as_secs()
                );
            }
            self.end_doubt_of(place);
        }
        Ok(())
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
