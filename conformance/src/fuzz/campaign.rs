//! Scripts until two servers differ, and the shortest script that shows it.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;

use super::accepted::{Accepted, Verdict};
use super::kind::Kind;
use super::play::Player;
use super::{Step, generate, normalise, paste, text, tree};
use crate::target::Target;

/// Steps of a script.
const STEPS: usize = 40;
/// What a script has none of. A whole file replaces the old one on one server and is written into it on
/// the other, so that those who have it open, or know it by another name, see different things from
/// then on: a script has either whole files, or open files and other names.
const WITHOUT: [&[Kind]; 2] = [&[Kind::Open, Kind::Link], &[Kind::Putfile, Kind::Thirdput]];
/// What scripts on servers with a quota (`-Q`) have none of: there the reference keeps a descriptor for each
/// look at an allocation, so that its numbers are others.
const WITH_NUMBERS: [Kind; 18] = [
    Kind::Open,
    Kind::Close,
    Kind::Pread,
    Kind::Sread,
    Kind::Pwrite,
    Kind::Swrite,
    Kind::Fstat,
    Kind::Fstatfs,
    Kind::Fsync,
    Kind::Ftruncate,
    Kind::Fchmod,
    Kind::Fchown,
    Kind::Fgetxattr,
    Kind::Flistxattr,
    Kind::Fsetxattr,
    Kind::Fremovexattr,
    // What its accounts say besides goes wrong from one connection to the next (W26).
    Kind::Lsalloc,
    Kind::Statfs,
];
/// Bytes of a body that are shown.
const SHOWN: usize = 32;
/// How long shortening a script may go on; a replay that hangs may end later.
const SHORTEN_MAX: Duration = Duration::from_secs(30);
/// Replays that shortening a script may take.
const REPLAYS_MAX: usize = 400;

/// Two servers, of which the second is held against the first.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The servers.
    pub servers: [&'a dyn Target; 2],
    /// The options that both were started with, separated by blanks.
    pub options: &'a str,
}

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
    /// The options of the servers.
    pub server: String,
    /// The steps, as few as could be.
    pub script: Vec<Step>,
    /// What differs after them.
    pub difference: Difference,
    /// The normalised replies of both servers to each step.
    pub replies: Vec<[Vec<u8>; 2]>,
}

/// What a campaign did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Scripts that were played.
    pub scripts: u64,
    /// Requests that were compared.
    pub requests: u64,
}

/// Plays the scripts of `seeds` on two servers, without some kinds of requests, until `deadline`, or until a difference is found.
///
/// # Errors
///
/// Fails if a server cannot be reached, or a script cannot be prepared.
pub fn run(
    pair: Pair<'_>,
    seeds: Range<u64>,
    without: &[Kind],
    deadline: Instant,
    tally: &mut Tally,
) -> Result<Option<Finding>> {
    let accepted = Accepted::load()?;
    let quota = pair.options.starts_with("-Q");
    let without = [without, if quota { &WITH_NUMBERS } else { &[] }].concat();
    for seed in seeds {
        if Instant::now() >= deadline {
            break;
        }
        let script = script(seed, &without);
        let played = play(pair, &script, &accepted)?;
        let steps = played.replies.len();
        tally.scripts += 1;
        tally.requests += steps as u64;
        if let Some(difference) = played.difference {
            let script = script.into_iter().take(steps).collect();
            return finding(pair, seed, script, difference, &accepted).map(Some);
        }
    }
    Ok(None)
}

/// Makes the shortest script of one that shows a difference, with all that is known of it.
fn finding(
    pair: Pair<'_>,
    seed: u64,
    script: Vec<Step>,
    difference: Difference,
    accepted: &Accepted,
) -> Result<Finding> {
    let shows = |played: &Played| {
        let steps = played.replies.len();
        played.difference.as_ref().map(|_| steps)
    };
    let script = shorten(pair, script, accepted, shows)?;
    let played = play(pair, &script, accepted)?;
    Ok(Finding {
        seed,
        server: pair.options.to_owned(),
        script,
        // One that shows only now and then is shown as it was found.
        difference: played.difference.unwrap_or(difference),
        replies: played.replies,
    })
}

/// Returns the script of a seed.
#[must_use]
pub fn script(seed: u64, without: &[Kind]) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let [whole, open] = WITHOUT;
    let without = [without, if rng.bool() { whole } else { open }].concat();
    (0..STEPS)
        .map(|_| generate::step(&mut rng, &without))
        .collect()
}

/// What came of a script that was played on two servers.
#[derive(Debug, Default)]
pub struct Played {
    /// The normalised replies of both to each step, as far as it was played.
    pub replies: Vec<[Vec<u8>; 2]>,
    /// The steps whose replies differ as an entry of `fuzz.toml` accepts, each with the entry's place.
    pub accepted: Vec<(usize, usize)>,
    /// How they differ at the end, if not so.
    pub difference: Option<Difference>,
}

/// Plays a script on both servers, up to the first difference that is not accepted.
///
/// # Errors
///
/// Fails if a server cannot be reached or prepared.
pub fn play(pair: Pair<'_>, script: &[Step], accepted: &Accepted) -> Result<Played> {
    let [left, right] = pair.servers;
    let mut one = Player::prepare(left, pair.options)?;
    let mut other = Player::prepare(right, pair.options)?;
    let mut played = Played::default();
    for (at, step) in script.iter().enumerate() {
        let reply = normalise::reply(step, &one.play(step)?);
        let other_reply = normalise::reply(step, &other.play(step)?);
        played.replies.push([reply.clone(), other_reply.clone()]);
        let judged = accepted.judge(pair.options, step, &reply, &other_reply);
        let Some((entry, pattern)) = judged else {
            if reply == other_reply {
                continue;
            }
            played.difference = Some(Difference::Replies(reply, other_reply));
            return Ok(played);
        };
        if reply == other_reply && trees(pair.servers)?.is_none() {
            continue;
        }
        played.accepted.push((at, entry));
        if pattern.verdict() == Verdict::Ends {
            return Ok(played);
        }
    }
    played.difference = trees(pair.servers)?;
    Ok(played)
}

/// Compares what lies in the place of scripts.
fn trees(servers: [&dyn Target; 2]) -> Result<Option<Difference>> {
    let [left, right] = tree::read(servers)?;
    let path = left
        .keys()
        .chain(right.keys())
        .find(|path| left.get(*path) != right.get(*path));
    Ok(path.map(|path| {
        let sides = [left.get(path).cloned(), right.get(path).cloned()];
        Difference::Tree(path.clone(), sides)
    }))
}

/// Plays a script and returns, for those of these entries that it shows, the shortest script that does so
/// with its last step.
///
/// # Errors
///
/// As [`play`].
pub fn examples(
    pair: Pair<'_>,
    script: Vec<Step>,
    accepted: &Accepted,
    entries: &BTreeSet<usize>,
) -> Result<Vec<(usize, Vec<String>)>> {
    let played = play(pair, &script, accepted)?;
    let shown: BTreeSet<usize> = played.accepted.iter().map(|(_, entry)| *entry).collect();
    let mut examples = Vec::new();
    for &entry in shown.intersection(entries) {
        let shows = |played: &Played| {
            let mut all = played.accepted.iter();
            all.find(|(_, found)| *found == entry).map(|(at, _)| at + 1)
        };
        let end = shows(&played).unwrap_or(script.len());
        let script = script.iter().take(end).cloned().collect();
        let script = shorten(pair, script, accepted, shows)?;
        examples.push((entry, script.iter().map(text::write).collect()));
    }
    Ok(examples)
}

/// Leaves out of a script what is not needed for something to show, larger parts first. `shows` returns
/// after how many steps it has shown.
///
/// # Errors
///
/// As [`play`].
pub fn shorten(
    pair: Pair<'_>,
    mut script: Vec<Step>,
    accepted: &Accepted,
    shows: impl Fn(&Played) -> Option<usize>,
) -> Result<Vec<Step>> {
    let until = Instant::now() + SHORTEN_MAX;
    let mut replays = 0;
    let mut part = script.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < script.len() && replays < REPLAYS_MAX && Instant::now() < until {
            let mut shorter = script.clone();
            shorter.drain(at..(at + part).min(script.len()));
            replays += 1;
            match shows(&play(pair, &shorter, accepted)?) {
                Some(steps) => {
                    shorter.truncate(steps);
                    script = shorter;
                }
                None => at += part,
            }
        }
        part /= 2;
    }
    Ok(script)
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
            write!(
                f,
                "  {:9} {}",
                step.by.name(),
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
                writeln!(f, "second: {}", right.escape_ascii())?;
            }
            Difference::Tree(path, [left, right]) => {
                let shown =
                    |side: &Option<String>| side.clone().unwrap_or_else(|| "nothing".into());
                writeln!(f, "in the tree, {path}")?;
                writeln!(f, "first:  {}", shown(left))?;
                writeln!(f, "second: {}", shown(right))?;
            }
        }
        writeln!(
            f,
            "As a vector, to paste into conformance/vectors/found.jsonl:"
        )?;
        writeln!(f, "{}", paste::script(self))?;
        if let Some(vector) = paste::vector(self) {
            writeln!(
                f,
                "or, as one connection suffices, into a file of recorded ones:"
            )?;
            writeln!(f, "{vector}")?;
        }
        Ok(())
    }
}
