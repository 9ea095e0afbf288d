//! What was found, for people.

use std::fmt;
use std::time::Duration;

/// Times of one thing that was done some times.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Takes one.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
        self.0.sort_unstable();
    }

    /// Returns the one in the middle; zero where there is none.
    pub(crate) fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    fn best(&self) -> Duration {
        self.0.first().copied().unwrap_or_default()
    }
}

/// Shows the median, and the best in parentheses.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => f.pad("–"),
            false => f.pad(&format!("{:.1?} ({:.1?})", self.median(), self.best())),
        }
    }
}

/// One row: what was done, and how long each took.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: Times,
    pub(crate) rival: Times,
    pub(crate) floor: Times,
    /// How many times as fast as the guest agent ours is to be.
    pub(crate) wanted: f64,
    /// What else there is to say.
    pub(crate) note: String,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, wanted: f64) -> Self {
        Self {
            name: name.into(),
            ours: Times::default(),
            rival: Times::default(),
            floor: Times::default(),
            wanted,
            note: String::new(),
        }
    }
}

/// The part of the bare TCP copy's speed that ours is to reach.
const OF_FLOOR: f64 = 0.8;

pub(crate) const HEAD: &str = "median (best)                  ours               guest agent        as fast  wanted   bare TCP           of it   wanted";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = |of: &Times| of.median().as_secs_f64() / self.ours.median().as_secs_f64();
        let reached = |ratio: f64, wanted: f64| if ratio >= wanted { "reached" } else { "MISSED" };
        let (times, wanted) = (ratio(&self.rival), self.wanted);
        write!(
            f,
            "{:26} {:>18} {:>18} {times:8.1}x {wanted:5.1} {} {:>18}",
            self.name,
            self.ours.to_string(),
            self.rival.to_string(),
            reached(times, wanted),
            self.floor.to_string(),
        )?;
        if !self.floor.median().is_zero() {
            let part = ratio(&self.floor);
            write!(f, " {part:6.2} {OF_FLOOR:6.1} {}", reached(part, OF_FLOOR))?;
        }
        if !self.note.is_empty() {
            write!(f, "\n    {}", self.note)?;
        }
        Ok(())
    }
}
