//! The watchdog (`host-agent.md` part 4): which machines are to be restarted, and when to give up.
//!
//! A state machine without I/O and without a clock: what is seen goes in with the time, decisions come out.
//! A machine that is paused, saved or off is left alone, and nothing is counted against it meanwhile.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::hypervisor::State;

/// Settings of the watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogConfig {
    /// `Host.boot_timeout`: how long a machine may run before its guest is heard of.
    pub boot_timeout: Duration,
    /// `Host.reboot_after`: how long a guest may be gone while its machine runs.
    pub reboot_after: Duration,
    /// `Host.max_restarts`: restarts within an hour; then the machine is given up.
    pub max_restarts: u32,
    /// The pause after the first restart; it doubles with each.
    pub backoff: Duration,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        Self {
            boot_timeout: Duration::from_secs(300),
            reboot_after: Duration::from_secs(60),
            max_restarts: 3,
            backoff: Duration::from_secs(60),
        }
    }
}

/// Restarts longer ago than this do not count.
const WINDOW: Duration = Duration::from_secs(3600);

/// What the registry knows of a machine's guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// It was never heard of.
    Unheard,
    /// It is registered; with this it counts as recovered.
    Here,
    /// It said good-bye.
    Left,
    /// It is gone since then.
    Gone(Instant),
}

/// One machine as it is seen now.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What tells the machine from others.
    pub machine: &'a str,
    /// Its state.
    pub state: State,
    /// Its guest.
    pub guest: Sight,
    /// When it was last started, reset or resumed on purpose, where that is known.
    pub started: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Press the reset button.
    Reset,
    /// Cut the power, and start.
    PowerCycle,
    /// Start: it is off already.
    Start,
    /// Nothing more, until somebody starts it or its guest is heard of.
    GiveUp,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "reset",
            Self::PowerCycle => "power-cycle",
            Self::Start => "start",
            Self::GiveUp => "give-up",
        })
    }
}

/// A decision about one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The machine.
    pub machine: String,
    /// What is to be done.
    pub action: Action,
    /// Why, in words.
    pub why: String,
}

/// The watchdog of all machines.
#[derive(Debug)]
pub struct Watchdog {
    config: WatchdogConfig,
    watched: HashMap<String, Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    /// Since when it runs, as far as is known.
    running: Option<Instant>,
    /// Restarts of the last hour.
    restarts: VecDeque<Instant>,
    /// Restarts since its guest was last here.
    in_a_row: u32,
    /// When the next restart is allowed.
    not_before: Option<Instant>,
    given_up: bool,
}

impl Watchdog {
    /// Returns a watchdog that has seen nothing.
    #[must_use]
    pub fn new(config: WatchdogConfig) -> Self {
        Self {
            config,
            watched: HashMap::new(),
        }
    }

    /// Looks at every machine that there is. Those that are not among them are forgotten.
    pub fn look(&mut self, seen: &[Seen<'_>], now: Instant) -> Vec<Decision> {
        self.watched
            .retain(|machine, _| seen.iter().any(|seen| seen.machine == machine));
        seen.iter()
            .filter_map(|seen| {
                let watch = self.watched.entry(seen.machine.to_owned()).or_default();
                let (action, why) = watch.look(&self.config, seen, now)?;
                Some(Decision {
                    machine: seen.machine.to_owned(),
                    action,
                    why,
                })
            })
            .collect()
    }

    /// Returns the machines that were given up.
    pub fn given_up(&self) -> impl Iterator<Item = &str> {
        self.watched
            .iter()
            .filter(|(_, watch)| watch.given_up)
            .map(|(machine, _)| machine.as_str())
    }
}

impl Watch {
    fn look(
        &mut self,
        config: &WatchdogConfig,
        seen: &Seen<'_>,
        now: Instant,
    ) -> Option<(Action, String)> {
        if let Some(started) = seen.started
            && self.running.is_none_or(|running| running < started)
        {
            self.running = Some(started);
            // Somebody tries again; the watchdog's own restarts do not come here while it has given up.
            self.given_up = false;
        }
        match seen.state {
            State::Running => {
                self.running.get_or_insert(now);
            }
            State::Aborted | State::Stuck => {}
            State::PoweredOff | State::Saved | State::Paused => {
                self.running = None;
                return None;
            }
            // On its way, or not known: what comes of it will be seen.
            _ => return None,
        }
        if seen.guest == Sight::Here && seen.state == State::Running {
            self.in_a_row = 0;
            self.not_before = None;
            self.given_up = false;
            return None;
        }
        let why = self.trouble(config, seen, now)?;
        if self.given_up || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        while self
            .restarts
            .front()
            .is_some_and(|&at| now.saturating_duration_since(at) >= WINDOW)
        {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= usize::try_from(config.max_restarts).unwrap_or(usize::MAX) {
            self.given_up = true;
            let why = format!(
                "{why}; it was restarted {} times within an hour",
                self.restarts.len()
            );
            return Some((Action::GiveUp, why));
        }
        let action = match (seen.state, self.in_a_row) {
            (State::Aborted, _) => Action::Start,
            (_, 0) => Action::Reset,
            _ => Action::PowerCycle,
        };
        let doublings = self.in_a_row.min(16);
        self.not_before = Some(now + config.backoff.saturating_mul(1 << doublings));
        self.in_a_row += 1;
        self.restarts.push_back(now);
        self.running = Some(now);
        Some((action, why))
    }

    /// Returns what is wrong with a machine, if anything is.
    fn trouble(&self, config: &WatchdogConfig, seen: &Seen<'_>, now: Instant) -> Option<String> {
        match seen.state {
            State::Aborted => return Some("its hypervisor's process ended unasked".to_owned()),
            State::Stuck => return Some("the hypervisor gave it up".to_owned()),
            _ => {}
        }
        let running = self.running?;
        let up = now.saturating_duration_since(running);
        match seen.guest {
            // Gone in this run, not before it.
            Sight::Gone(since) if since > running => {
                let gone = now.saturating_duration_since(since);
                (gone >= config.reboot_after)
                    .then(|| format!("it runs, but its guest is gone for {} s", gone.as_secs()))
            }
            Sight::Unheard | Sight::Gone(_) => (up >= config.boot_timeout).then(|| {
                format!(
                    "it runs for {} s, and its guest was not heard of",
                    up.as_secs()
                )
            }),
            Sight::Here | Sight::Left => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Bench {
        watchdog: Watchdog,
        start: Instant,
        started: Option<Instant>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                watchdog: Watchdog::new(WatchdogConfig::default()),
                start: Instant::now(),
                started: None,
            }
        }

        fn at(&self, seconds: u32) -> Instant {
            self.start + SECOND * seconds
        }

        fn look(&mut self, seconds: u32, state: State, guest: Sight) -> Option<(Action, String)> {
            let seen = Seen {
                machine: "a",
                state,
                guest,
                started: self.started,
            };
            let now = self.at(seconds);
            let mut decisions = self.watchdog.look(&[seen], now);
            assert!(decisions.len() <= 1);
            decisions
                .pop()
                .map(|decision| (decision.action, decision.why))
        }

        fn action(&mut self, seconds: u32, state: State, guest: Sight) -> Option<Action> {
            self.look(seconds, state, guest).map(|(action, _)| action)
        }
    }

    #[test]
    fn a_guest_that_is_gone_while_its_machine_runs_is_reset_then_power_cycled_then_given_up() {
        let mut bench = Bench::new();
        assert_eq!(bench.action(0, State::Running, Sight::Here), None);
        let gone = Sight::Gone(bench.at(100));
        assert_eq!(bench.action(159, State::Running, gone), None);
        let (action, why) = bench.look(160, State::Running, gone).unwrap();
        assert_eq!(action, Action::Reset);
        assert_eq!(why, "it runs, but its guest is gone for 60 s");
        // Now it boots, and has the time of a boot.
        assert_eq!(bench.action(459, State::Running, gone), None);
        assert_eq!(
            bench.action(460, State::Running, gone),
            Some(Action::PowerCycle)
        );
        assert_eq!(
            bench.action(760, State::Running, gone),
            Some(Action::PowerCycle)
        );
        let (action, why) = bench.look(1060, State::Running, gone).unwrap();
        assert_eq!(action, Action::GiveUp);
        assert!(why.ends_with("restarted 3 times within an hour"), "{why}");
        assert_eq!(bench.watchdog.given_up().collect::<Vec<_>>(), ["a"]);
        // Once only, and not again when the hour is over.
        assert_eq!(bench.action(1100, State::Running, gone), None);
        assert_eq!(bench.action(90_000, State::Running, gone), None);
        // Until its guest is heard of.
        assert_eq!(bench.action(90_001, State::Running, Sight::Here), None);
        assert_eq!(bench.watchdog.given_up().count(), 0);
        let gone = Sight::Gone(bench.at(90_100));
        assert_eq!(
            bench.action(90_160, State::Running, gone),
            Some(Action::Reset)
        );
    }

    #[test]
    fn a_machine_that_never_boots_is_restarted_after_the_boot_timeout() {
        let mut bench = Bench::new();
        assert_eq!(bench.action(0, State::PoweredOff, Sight::Unheard), None);
        assert_eq!(bench.action(10, State::Starting, Sight::Unheard), None);
        assert_eq!(bench.action(12, State::Running, Sight::Unheard), None);
        assert_eq!(bench.action(311, State::Running, Sight::Unheard), None);
        let (action, why) = bench.look(312, State::Running, Sight::Unheard).unwrap();
        assert_eq!(action, Action::Reset);
        assert_eq!(why, "it runs for 300 s, and its guest was not heard of");
    }

    #[test]
    fn paused_and_saved_machines_are_left_alone_and_get_a_full_grace() {
        let mut bench = Bench::new();
        assert_eq!(bench.action(0, State::Running, Sight::Unheard), None);
        for (at, state) in [
            (299, State::Paused),
            (5000, State::Paused),
            (5001, State::Saved),
        ] {
            assert_eq!(bench.action(at, state, Sight::Unheard), None);
        }
        assert_eq!(bench.action(6000, State::Running, Sight::Unheard), None);
        assert_eq!(bench.action(6299, State::Running, Sight::Unheard), None);
        assert_eq!(
            bench.action(6300, State::Running, Sight::Unheard),
            Some(Action::Reset)
        );
    }

    #[test]
    fn aborted_machines_are_started_with_a_growing_pause() {
        let mut bench = Bench::new();
        bench.watchdog.config.max_restarts = 10;
        let mut at = Vec::new();
        for second in 0..2000 {
            if let Some(action) = bench.action(second, State::Aborted, Sight::Unheard) {
                assert_eq!(action, Action::Start);
                at.push(second);
            }
        }
        assert_eq!(at, [0, 60, 180, 420, 900, 1860]);
    }

    #[test]
    fn restarts_of_more_than_an_hour_ago_do_not_count() {
        let mut bench = Bench::new();
        for hour in 0..5 {
            let now = hour * 3000;
            assert_eq!(
                bench.action(now, State::Stuck, Sight::Here),
                Some(Action::Reset)
            );
            // Up again for a while.
            assert_eq!(bench.action(now + 10, State::Running, Sight::Here), None);
        }
    }

    #[test]
    fn who_said_good_bye_is_not_hung() {
        let mut bench = Bench::new();
        assert_eq!(bench.action(0, State::Running, Sight::Here), None);
        assert_eq!(bench.action(100_000, State::Running, Sight::Left), None);
    }

    #[test]
    fn somebodys_own_reset_gives_the_time_of_a_boot() {
        let mut bench = Bench::new();
        assert_eq!(bench.action(0, State::Running, Sight::Here), None);
        let gone = Sight::Gone(bench.at(100));
        bench.started = Some(bench.at(101));
        assert_eq!(bench.action(102, State::Running, gone), None);
        assert_eq!(bench.action(400, State::Running, gone), None);
        assert_eq!(bench.action(401, State::Running, gone), Some(Action::Reset));
    }

    #[test]
    fn machines_that_are_no_more_are_forgotten() {
        let mut bench = Bench::new();
        assert_eq!(bench.action(0, State::Running, Sight::Unheard), None);
        assert!(bench.watchdog.look(&[], bench.at(299)).is_empty());
        assert_eq!(bench.action(301, State::Running, Sight::Unheard), None);
    }
}
