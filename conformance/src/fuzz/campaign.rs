//! Scripts until two servers differ, and the shortest script that shows it.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;

use super::accepted::{Accepted, Verdict};
use super::kind::Kind;
use super::play::Player;
use super::{CONNECTIONS, Step, generate, normalise, tree};
use crate::target::Target;

/// Steps of a script.
const STEPS: usize = 40;
/// What a script has none of. A whole file replaces the old one on one server and is written into it on
/// the other, so that those who have it open, or know it by another name, see different things from
/// then on: a script has either whole files, or open files and other names.
const WITHOUT: [&[Kind]; 2] = [&[Kind::Open, Kind::Link], &[Kind::Putfile, Kind::Thirdput]];
/// Bytes of a body that are shown.
const SHOWN: usize = 32;
/// How long shortening a script may go on; a replay that hangs may end later.
const SHORTEN_MAX: Duration = Duration::from_secs(30);
/// Replays that shortening a script may take.
const REPLAYS_MAX: usize = 400;

/// How two servers differ at the end of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The last step's replies.
    Replies(Vec<u8>, Vec<u8>),
    /// What lies under a path: none for nothing.
    Tree(String, [Option<String>; 2]),
}

/// A script, and the difference that it shows.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The seed of the script that found it.
    pub seed: u64,
    /// The steps, as few as could be.
    pub script: Vec<Step>,
    /// What differs after them.
    pub difference: Difference,
}

/// What a campaign did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Scripts that were played.
    pub scripts: u64,
    /// Requests that were compared.
    pub requests: u64,
}

/// Plays the scripts of `seeds`, without some kinds of requests, until `deadline`, or until a difference is found.
///
/// # Errors
///
/// Fails if a server cannot be reached, or a script cannot be prepared.
pub fn run(
    servers: [&dyn Target; 2],
    seeds: Range<u64>,
    without: &[Kind],
    deadline: Instant,
    tally: &mut Tally,
) -> Result<Option<Finding>> {
    let accepted = Accepted::load()?;
    for seed in seeds {
        if Instant::now() >= deadline {
            break;
        }
        let mut rng = Rng::with_seed(seed);
        let [whole, open] = WITHOUT;
        let without = [without, if rng.bool() { whole } else { open }].concat();
        let script: Vec<Step> = (0..STEPS)
            .map(|_| generate::step(&mut rng, &without))
            .collect();
        let (played, difference) = play(servers, &script, &accepted)?;
        tally.scripts += 1;
        tally.requests += played as u64;
        if let Some(difference) = difference {
            let script = script.into_iter().take(played).collect();
            return shorten(servers, seed, script, difference, &accepted).map(Some);
        }
    }
    Ok(None)
}

/// Plays a script on both servers. Returns how many steps were compared, and how they differ.
fn play(
    servers: [&dyn Target; 2],
    script: &[Step],
    accepted: &Accepted,
) -> Result<(usize, Option<Difference>)> {
    let [left, right] = servers;
    let (mut one, mut other) = (Player::prepare(left)?, Player::prepare(right)?);
    for (at, step) in script.iter().enumerate() {
        let left = normalise::reply(step, &one.play(step)?);
        let right = normalise::reply(step, &other.play(step)?);
        if left == right {
            continue;
        }
        match accepted.judge(step, &left, &right) {
            Some(Verdict::GoOn) => {}
            Some(Verdict::Ends) => return Ok((at + 1, None)),
            None => return Ok((at + 1, Some(Difference::Replies(left, right)))),
        }
    }
    let [left, right] = tree::read(servers)?;
    let path = left
        .keys()
        .chain(right.keys())
        .find(|path| left.get(*path) != right.get(*path));
    let difference = path.map(|path| {
        let sides = [left.get(path).cloned(), right.get(path).cloned()];
        Difference::Tree(path.clone(), sides)
    });
    Ok((script.len(), difference))
}

/// Leaves out what is not needed for a difference, larger parts first.
fn shorten(
    servers: [&dyn Target; 2],
    seed: u64,
    mut script: Vec<Step>,
    mut difference: Difference,
    accepted: &Accepted,
) -> Result<Finding> {
    let until = Instant::now() + SHORTEN_MAX;
    let mut replays = 0;
    let mut part = script.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < script.len() && replays < REPLAYS_MAX && Instant::now() < until {
            let mut shorter = script.clone();
            shorter.drain(at..(at + part).min(script.len()));
            replays += 1;
            match play(servers, &shorter, accepted)? {
                (played, Some(found)) => {
                    shorter.truncate(played);
                    (script, difference) = (shorter, found);
                }
                (_, None) => at += part,
            }
        }
        part /= 2;
    }
    Ok(Finding {
        seed,
        script,
        difference,
    })
}

impl Finding {
    /// Returns what findings of the same difference have in common: the last request's kind and how
    /// the replies begin.
    #[must_use]
    pub fn summary(&self) -> String {
        let kind = self.script.last().map(|step| Kind::of(&step.request));
        match &self.difference {
            Difference::Replies(left, right) => {
                let status = |reply: &[u8]| {
                    let line = reply.split(|byte| *byte == b'\n').next();
                    line.unwrap_or_default().escape_ascii().to_string()
                };
                format!("{kind:?} {} {}", status(left), status(right))
            }
            Difference::Tree(_, _) => format!("{kind:?} tree"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "The servers differ (seed {}). The shortest script:",
            self.seed
        )?;
        for step in &self.script {
            let login = CONNECTIONS.get(step.connection);
            let login = login.map(|login| format!("{login:?}").to_lowercase());
            write!(
                f,
                "  {:9} {}",
                login.unwrap_or_default(),
                step.line().trim_ascii_end().escape_ascii()
            )?;
            if !step.body.is_empty() {
                let shown = step.body.get(..SHOWN).unwrap_or(&step.body);
                write!(f, "  + {} bytes: {}", step.body.len(), shown.escape_ascii())?;
            }
            writeln!(f)?;
        }
        match &self.difference {
            Difference::Replies(left, right) => {
                writeln!(f, "first:  {}", left.escape_ascii())?;
                writeln!(f, "second: {}", right.escape_ascii())
            }
            Difference::Tree(path, [left, right]) => {
                let shown =
                    |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".into());
                writeln!(f, "in the tree, {path}")?;
                writeln!(f, "first:  {}", shown(left))?;
                writeln!(f, "second: {}", shown(right))
            }
        }
    }
}
