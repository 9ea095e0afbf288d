//! Makes vectors systematically and records what the reference answers to them.
//!
//! For every request there is a [`template`]: its words, what must exist for it to succeed, and a
//! request that shows what it did. Each family varies one word of it, or the caller's rights, while
//! everything else stays as it succeeds:
//!
//! - [`words`]: the plain request; words that are missing; the texts that mean something else
//! - [`rights`]: each right missing in turn, each right alone, no right
//! - [`objects`]: each kind of object under each path
//! - [`numbers`]: each boundary of each number
//! - [`paths`]: each way to write each path
//! - [`extras`]: what none of these reaches
//!
//! [`left_out`] lists what the reference cannot be asked, and why. [`expect`] makes of an answer what
//! every run must answer, [`mod@file`] writes it all down.

pub mod expect;
pub mod extras;
pub mod file;
pub mod left_out;
pub mod numbers;
pub mod objects;
pub mod paths;
pub mod rights;
pub mod template;
pub mod words;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::differences::Differences;
use crate::fuzz::kind::Kind;
use crate::program::Program;
use crate::script::Player;
use crate::target::{Options, Server};
use crate::vector::{Level, Login, Vector};
use left_out::LeftOut;
use template::{Line, Template};

/// Returns all vectors to record, grouped by what their names begin with; what is expected is not known yet.
///
/// # Errors
///
/// Fails if the list of what is left out is malformed.
pub fn cases() -> Result<Vec<Vec<Vector>>> {
    let mut left_out = LeftOut::new()?;
    Ok(all()
        .into_iter()
        .map(|group| {
            let kept = group.into_iter().filter(|case| !left_out.names(&case.name));
            kept.collect()
        })
        .filter(|group: &Vec<Vector>| !group.is_empty())
        .collect())
}

/// Returns what [`cases`] does, with what is left out.
fn all() -> Vec<Vec<Vector>> {
    let mut groups: Vec<Vec<Vector>> = Vec::new();
    for template in Kind::ALL.iter().flat_map(|kind| Template::of(*kind)) {
        let mut cases = words::cases(&template);
        // What another template of the request has been varied in already.
        if !template.again {
            cases.extend(rights::cases(&template));
            cases.extend(objects::cases(&template));
            cases.extend(numbers::cases(&template));
            cases.extend(paths::cases(&template));
        }
        let verb = |group: &[Vector]| group.first().map(|case| case.verb().to_owned());
        let same = groups.iter().position(|group| verb(group) == verb(&cases));
        match same.and_then(|at| groups.get_mut(at)) {
            Some(group) => group.extend(cases),
            None => groups.push(cases),
        }
    }
    groups.extend(extras::cases());
    groups
}

/// One vector in the making: a template's line, and what is there before it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name without the verb.
    pub name: String,
    /// The lines under test, each with its body and what stands around it.
    pub lines: Vec<Line>,
    /// The requests that make what is there.
    pub setup: Vec<String>,
    /// What the host makes: [`Vector::host`].
    pub host: Vec<String>,
    /// Who sends the line.
    pub login: Login,
    /// Whether what was done is looked at.
    pub probed: bool,
}

impl Case {
    /// Returns the vector of this case of `template`.
    #[must_use]
    pub fn vector(self, template: &Template) -> Vector {
        let send = self.lines.iter();
        let send: String = send
            .map(|line| template.message(line, self.probed))
            .collect();
        let mut vector = Vector::new(
            format!("{}.{}", template.verb, self.name),
            template.server,
            send,
        );
        let mut setup = vec!["rmall /v\n".to_owned(), "mkdir /v 448\n".to_owned()];
        for request in self.setup {
            if !setup.contains(&request) {
                setup.push(request);
            }
        }
        vector.setup = setup;
        vector.host = self.host;
        vector.auth = self.login;
        vector
    }
}

/// Plays `cases` on servers of `program` and fills in what it answers. Each group has a server of its
/// own; with `-Q` each vector has (W26).
///
/// # Errors
///
/// Fails with the names of all vectors that could not be played.
pub fn record(
    program: &Program,
    cases: Vec<Vec<Vector>>,
    differences: &Differences,
) -> Result<Vec<Vector>> {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut done: Vec<(usize, Vector)> = Vec::new();
    let mut failures = Vec::new();
    thread::scope(|scope| {
        let started: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let (mut done, mut failures) = (Vec::new(), Vec::new());
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(group) = cases.get(index) else {
                            return (done, failures);
                        };
                        for (case, outcome) in group.iter().zip(answers(program, group)) {
                            let filled = outcome.and_then(|(observed, login)| {
                                expect::fill(case, &observed, &login)
                            });
                            match filled {
                                Ok(mut vector) => {
                                    vector.level = match differences.for_vector(&vector) {
                                        Some(_) => Level::Quirk,
                                        None => Level::Must,
                                    };
                                    done.push((index, vector));
                                }
                                Err(error) => failures.push(format!("{}: {error:#}", case.name)),
                            }
                        }
                    }
                })
            })
            .collect();
        for worker in started {
            match worker.join() {
                Ok((vectors, reasons)) => {
                    done.extend(vectors);
                    failures.extend(reasons);
                }
                Err(_) => failures.push("a thread that records has panicked".to_owned()),
            }
        }
    });
    if !failures.is_empty() {
        bail!(
            "{} vectors could not be recorded:\n{}",
            failures.len(),
            failures.join("\n")
        );
    }
    // Stable: within a group the order is that of the cases.
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, vector)| vector).collect())
}

type Answer = Result<(crate::compare::Observed, String)>;

fn answers(program: &Program, group: &[Vector]) -> Vec<Answer> {
    let alone = group.iter().any(|case| case.server.contains("-Q"));
    let size = if alone { 1 } else { group.len().max(1) };
    let mut answers = Vec::new();
    for cases in group.chunks(size) {
        let options = cases.first().map_or("", |case| case.server.as_str());
        match Server::start(program, &Options::from_words(options)) {
            Ok(server) => {
                let root = server.root();
                let mut player = Player::new(server.address(), server.account(), Some(&root));
                answers.extend(cases.iter().map(|case| {
                    let observed = player.observe(case)?;
                    Ok((observed, server.account().login.clone()))
                }));
            }
            Err(error) => {
                let text = format!("{error:#}");
                answers.extend(cases.iter().map(|_| Err(anyhow::anyhow!(text.clone()))));
            }
        }
    }
    answers
}

/// Returns the recorded vectors that are not answered so any more: `was`, as the file has them, against
/// `now`.
#[must_use]
pub fn changes(was: &[Vector], now: &[Vector]) -> Vec<String> {
    let mut changes = Vec::new();
    for vector in now {
        match was.iter().find(|old| old.name == vector.name) {
            None => changes.push(format!("{}: not in the file", vector.name)),
            Some(old) if old != vector => changes.push(format!(
                "{}: recorded {:?}, now {:?}",
                vector.name, old.expect, vector.expect
            )),
            Some(_) => {}
        }
    }
    changes.extend(
        was.iter()
            .filter(|old| now.iter().all(|vector| vector.name != old.name))
            .map(|old| format!("{}: in the file, but not made any more", old.name)),
    );
    changes
}

/// Records the vectors whose names begin with one of `prefixes` (all if there are none) and writes them
/// down; with `check` only compares them with what is written.
///
/// # Errors
///
/// Fails if a vector cannot be recorded, and with `check` if one is answered otherwise than written.
#[expect(clippy::print_stdout, reason = "a program says what it did")]
pub fn run(check: bool, prefixes: &[String]) -> Result<()> {
    let program = Program::reference_server()?;
    let wanted = |name: &str| prefixes.is_empty() || prefixes.iter().any(|p| name.starts_with(p));
    let cases: Vec<Vec<Vector>> = cases()?
        .into_iter()
        .map(|group| {
            group
                .into_iter()
                .filter(|case| wanted(&case.name))
                .collect()
        })
        .collect();
    let differences = Differences::load()?;
    let recorded = record(&program, cases, &differences)?;
    let written = file::read()?;
    if check {
        let was: Vec<Vector> = written
            .vectors
            .into_iter()
            .filter(|vector| wanted(&vector.name))
            .collect();
        let changes = changes(&was, &recorded);
        if !changes.is_empty() {
            bail!(
                "{} vectors are not as recorded:\n{}",
                changes.len(),
                changes.join("\n")
            );
        }
        println!("{} vectors, all as recorded", recorded.len());
        return Ok(());
    }
    let count = recorded.len();
    let mut kept: Vec<Vector> = written
        .vectors
        .iter()
        .filter(|vector| !wanted(&vector.name))
        .cloned()
        .collect();
    kept.extend(recorded);
    file::write(&program, written.header, kept).context("cannot write the vectors")?;
    println!("{count} vectors recorded");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_begin_with_the_verb() {
        let mut names = BTreeSet::new();
        for vector in cases().unwrap().into_iter().flatten() {
            assert!(names.insert(vector.name.clone()), "{}", vector.name);
        }
    }

    #[test]
    fn what_is_made_is_what_is_recorded() {
        let made: Vec<String> = cases()
            .unwrap()
            .into_iter()
            .flatten()
            .map(|vector| vector.name + &vector.send)
            .collect();
        let recorded: Vec<String> = crate::vector::generated()
            .unwrap()
            .into_iter()
            .map(|vector| vector.name + &vector.send)
            .collect();
        assert!(
            made == recorded,
            "recorded.jsonl is stale; run: cargo run -p conformance -- record"
        );
    }
}
