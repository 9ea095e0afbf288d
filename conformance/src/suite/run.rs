//! Runs the parts that were asked for.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use super::access::{self, Access};
use super::results::{Finding, Played, Results};
use super::subject::{Place, Subject};
use super::{results, vectors};
use crate::differences::Differences;
use crate::fuzz::campaign::{self, Tally};
use crate::fuzz::generate::PLACE;
use crate::fuzz::kind::Kind;
use crate::target::Options;
use crate::vector::{self, Login, Vector};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Run {
    /// The servers, one or two.
    pub servers: Vec<Subject>,
    /// Whether what a server by address has where the cases work may be removed.
    pub overwrite: bool,
    /// The recorded vectors whose names contain this; none at all without.
    pub vectors: Option<String>,
    /// Random scripts, for two servers.
    pub random: Option<Random>,
}

/// Random scripts.
#[derive(Clone, Debug)]
pub struct Random {
    /// The first script's seed.
    pub seed: u64,
    /// How many scripts at most.
    pub scripts: u64,
    /// After this no further script is begun.
    pub time: Duration,
    /// Requests that the scripts have none of.
    pub without: Vec<Kind>,
    /// Whether to go on after a difference; each kind of difference is told once.
    pub go_on: bool,
}

/// Runs what is asked for.
///
/// # Errors
///
/// Fails if a server cannot be started or reached, or lets nobody work.
pub fn run(run: &Run) -> Result<Results> {
    let mut results = Results {
        date: Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
        servers: run.servers.iter().map(Subject::shown).collect(),
        clients: Vec::new(),
        vectors: Vec::new(),
        random: None,
        left_out: Vec::new(),
    };
    if let Some(only) = &run.vectors {
        results.vectors = recorded(run, only)?;
    }
    if let Some(choice) = &run.random {
        match run.servers.as_slice() {
            [first, second] => {
                results.random = random(
                    [first, second],
                    run.overwrite,
                    choice,
                    &mut results.left_out,
                )?;
            }
            _ => results
                .left_out
                .push("random scripts need two servers".to_owned()),
        }
    }
    Ok(results)
}

/// Plays the vectors on all servers at once.
fn recorded(run: &Run, only: &str) -> Result<Vec<Played>> {
    let all = vector::recorded()?;
    let differences = Differences::accepted(&all)?;
    let chosen: Vec<Vector> = all
        .into_iter()
        .filter(|vector| vector.name.contains(only))
        .collect();
    ensure!(!chosen.is_empty(), "no vector's name contains {only:?}");
    thread::scope(|scope| {
        let players: Vec<_> = run
            .servers
            .iter()
            .map(|subject| {
                let (chosen, differences) = (&chosen, &differences);
                scope.spawn(move || {
                    let cases = vectors::play(subject, run.overwrite, chosen, differences)
                        .with_context(|| format!("the vectors on {}", subject.label))?;
                    Ok(Played {
                        server: subject.label.clone(),
                        cases,
                    })
                })
            })
            .collect();
        players
            .into_iter()
            .map(|player| match player.join() {
                Ok(played) => played,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

/// Plays random scripts; nothing where a server does not let all of their subjects in.
fn random(
    subjects: [&Subject; 2],
    overwrite: bool,
    choice: &Random,
    left_out: &mut Vec<String>,
) -> Result<Option<results::Random>> {
    let [left, right] = subjects.map(|subject| subject.serve(&Options::default()));
    let (left, right) = (left?, right?);
    for (subject, server) in subjects.iter().zip([&left, &right]) {
        if let Place::Address(_) = subject.place
            && Access::probe(server.as_ref(), PLACE, overwrite)? != Access::WHOLE
        {
            left_out.push(format!(
                "random scripts need the login unix, which {} does not let work",
                subject.label
            ));
            return Ok(None);
        }
    }
    let deadline = Instant::now() + choice.time;
    let end = choice.seed.saturating_add(choice.scripts);
    let mut tally = Tally::default();
    let mut findings = Vec::new();
    let mut told = BTreeSet::new();
    let mut next = choice.seed;
    while let Some(finding) = campaign::run(
        [left.as_ref(), right.as_ref()],
        next..end,
        &choice.without,
        deadline,
        &mut tally,
    )? {
        next = finding.seed + 1;
        let summary = finding.summary();
        if told.insert(summary.clone()) {
            let script = finding.to_string();
            findings.push(Finding { summary, script });
        }
        if !choice.go_on {
            break;
        }
    }
    for (subject, server) in subjects.iter().zip([&left, &right]) {
        if let Place::Address(_) = subject.place {
            access::clear(server.as_ref(), PLACE, Login::Unix)?;
        }
    }
    Ok(Some(results::Random {
        seed: choice.seed,
        scripts: tally.scripts,
        requests: tally.requests,
        findings,
    }))
}
