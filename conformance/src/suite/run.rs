//! Runs the parts that were asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;

use super::access::{self, Access};
use super::results::{Finding, Played, Results};
use super::subject::{Place, Shown, Subject, version};
use super::{results, vectors};
use crate::differences::Differences;
use crate::fuzz::campaign::{self, Pair, Tally};
use crate::fuzz::generate::PLACE;
use crate::fuzz::kind::Kind;
use crate::matrix::accepted::Accepted;
use crate::matrix::clients::Clients;
use crate::matrix::outcome::Outcome;
use crate::matrix::{self, Journey};
use crate::program::Program;
use crate::target::{Options, Target};
use crate::vector::{self, Login, Vector};

/// Random scripts that are played on one pair of servers before the next pair's turn.
const TURN: u64 = 50;

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
    /// Journeys with two sets of clients on two servers.
    pub matrix: Option<Matrix>,
}

/// Journeys in every cell.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The sets of clients; the first is the one to be like.
    pub clients: [Clients; 2],
    /// Only journeys whose names contain this.
    pub only: String,
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
    /// Sets of options of both servers, each separated by blanks: scripts take turns on a pair of servers
    /// with each. Servers by address have the options that they have.
    pub options: Vec<String>,
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
        matrix: None,
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
    if let Some(choice) = &run.matrix {
        results.clients = choice.clients.iter().map(shown).collect();
        let programs: Vec<&Program> = run.servers.iter().filter_map(Subject::as_program).collect();
        match programs.as_slice() {
            [first, second] => {
                let servers = [(*first).clone(), (*second).clone()];
                results.matrix = Some(journeys(choice, &servers)?);
                if !choice.only.is_empty() {
                    let text = format!("journeys whose names do not contain {:?}", choice.only);
                    results.left_out.push(text);
                }
            }
            _ => results.left_out.push(
                "the matrix needs two servers that it can start: each journey has options and a tree of its own"
                    .to_owned(),
            ),
        }
    }
    Ok(results)
}

fn shown(clients: &Clients) -> Shown {
    let chirp = clients.tool("chirp");
    Shown {
        label: clients.label().to_owned(),
        place: chirp.display().to_string(),
        version: version(&chirp),
    }
}

/// Does the journeys, several at a time.
fn journeys(choice: &Matrix, servers: &[Program; 2]) -> Result<Vec<Outcome>> {
    let accepted = Accepted::written()?;
    let chosen: Vec<Journey> = matrix::journeys()
        .into_iter()
        .filter(|journey| journey.name().contains(&choice.only))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "no journey's name contains {:?}",
        choice.only
    );
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(journey) = chosen.get(at) else {
                        return;
                    };
                    let outcome = matrix::run(journey, &choice.clients, servers, &accepted);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.insert(at, outcome);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(done.into_values().collect())
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
    // A server that runs already has the options that it has.
    let programs = subjects
        .iter()
        .all(|subject| matches!(subject.place, Place::Program(_)));
    let sets: &[String] = if programs {
        &choice.options
    } else {
        &[String::new()]
    };
    let mut pairs = Vec::new();
    for options in sets {
        let serve = |subject: &Subject| subject.serve(&Options::from_words(options));
        let [left, right] = subjects.map(serve);
        pairs.push((options, [left?, right?]));
    }
    for (_, servers) in &pairs {
        for (subject, server) in subjects.iter().zip(servers) {
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
    }
    let deadline = Instant::now() + choice.time;
    let end = choice.seed.saturating_add(choice.scripts);
    let mut tally = Tally::default();
    let mut findings = Vec::new();
    let mut told = BTreeSet::new();
    let mut next = choice.seed;
    for (options, servers) in pairs.iter().cycle() {
        if Instant::now() >= deadline || next >= end || !(choice.go_on || findings.is_empty()) {
            break;
        }
        let servers = servers
            .each_ref()
            .map(|server| -> &dyn Target { server.as_ref() });
        let turn = end.min(next.saturating_add(TURN));
        let found = campaign::run(
            Pair { servers, options },
            next..turn,
            &choice.without,
            deadline,
            &mut tally,
        )?;
        next = found.as_ref().map_or(turn, |finding| finding.seed + 1);
        if let Some(finding) = found {
            let summary = finding.summary();
            if told.insert(summary.clone()) {
                let script = finding.to_string();
                findings.push(Finding { summary, script });
            }
        }
    }
    for (subject, server) in pairs.iter().flat_map(|(_, pair)| subjects.iter().zip(pair)) {
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
