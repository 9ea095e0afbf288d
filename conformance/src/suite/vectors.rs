//! The recorded vectors on one server.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::access::{self, Access};
use super::subject::{Place, Subject};
use crate::compare::Expected;
use crate::differences::{Difference, Differences};
use crate::script;
use crate::target::{Options, Target};
use crate::vector::{Expect, Level, Login, Vector};

/// Where vectors work; most begin with removing it.
const PLACE: &str = "/v";
/// Vectors whose names begin so are one story: they run in order, on a server of their own.
pub const STORY: &str = "job-lifecycle";
/// Options with which each vector gets a server of its own: the reference's accounts of space go wrong
/// from one connection to the next (W26).
const OWN: &str = "-Q";
/// How much of what was sent is shown.
const SHOWN: usize = 200;

/// What became of one vector on one server.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// The vector.
    pub vector: String,
    /// How binding it is.
    pub level: Level,
    /// How the reply compares.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How a reply compares with what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It is as recorded.
    Recorded,
    /// It is another one that is accepted.
    Accepted {
        /// The two answers.
        #[serde(flatten)]
        answers: Answers,
        /// Why that is accepted.
        reason: String,
    },
    /// It is neither.
    Differs {
        /// The two answers.
        #[serde(flatten)]
        answers: Answers,
    },
    /// It could not be tried on this server, which says nothing of it.
    NotApplicable {
        /// Why not.
        why: String,
    },
    /// There is no answer to compare: the set-up did not take, or the server ended.
    Failed {
        /// What went wrong.
        error: String,
    },
}

/// What was asked, and two answers that are not alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answers {
    /// The bytes under test, escaped.
    pub sent: String,
    /// What was recorded.
    pub recorded: String,
    /// What came.
    pub came: String,
}

/// Plays the vectors on a server, in their order, with the options that each was recorded with.
///
/// # Errors
///
/// Fails if the server cannot be started or reached at all, or lets nobody work there.
pub fn play(
    subject: &Subject,
    overwrite: bool,
    vectors: &[Vector],
    differences: &Differences,
) -> Result<Vec<Case>> {
    let access = match &subject.place {
        Place::Program(_) => Access::WHOLE,
        Place::Address(_) => {
            let server = subject.serve(&Options::default())?;
            Access::probe(server.as_ref(), PLACE, overwrite)?
        }
    };
    let mut groups: BTreeMap<String, Vec<&Vector>> = BTreeMap::new();
    for vector in vectors {
        let own = match vector {
            _ if vector.name.starts_with(STORY) => STORY,
            _ if vector.server.contains(OWN) => &vector.name,
            _ => "",
        };
        let group = groups.entry(format!("{} {own}", vector.server));
        group.or_default().push(vector);
    }
    let mut cases = Vec::new();
    for group in groups.values() {
        cases.extend(play_group(subject, access, group, differences)?);
    }
    if let Place::Address(_) = subject.place {
        let server = subject.serve(&Options::default())?;
        access::clear(server.as_ref(), PLACE, access.owner)?;
    }
    Ok(cases)
}

/// Plays vectors that share a server.
fn play_group(
    subject: &Subject,
    access: Access,
    vectors: &[&Vector],
    differences: &Differences,
) -> Result<Vec<Case>> {
    let mut server: Option<Box<dyn Target + Send>> = None;
    let mut cases = Vec::new();
    for vector in vectors {
        let verdict = match adapted(vector, subject, access) {
            Err(why) => Verdict::NotApplicable { why },
            Ok(vector) => {
                let running = match server.take() {
                    Some(running) => running,
                    None => subject.serve(&Options::from_words(&vector.server))?,
                };
                match judge(&vector, running.as_ref(), differences) {
                    Ok(verdict) => {
                        server = Some(running);
                        verdict
                    }
                    // It may have ended; the next vector gets a new one.
                    Err(error) => Verdict::Failed {
                        error: format!("{error:#}"),
                    },
                }
            }
        };
        cases.push(Case {
            vector: vector.name.clone(),
            level: vector.level,
            verdict,
        });
    }
    Ok(cases)
}

/// Returns the vector as this server can be asked it, or why it cannot.
fn adapted(vector: &Vector, subject: &Subject, access: Access) -> Result<Vector, String> {
    if subject.as_program().is_none() && !vector.server.is_empty() {
        return Err(format!("needs a server with {}", vector.server));
    }
    let mut vector = vector.clone();
    if access.owner == Login::Unix {
        return Ok(vector);
    }
    let logins = [vector.setup_auth, vector.auth];
    let names_unix = |text: &str| text.contains("unix") || text.contains("{USER}");
    let texts = [&vector.expect.reply, &vector.expect.regex];
    let texts = texts.into_iter().flatten().chain(&vector.setup);
    if logins.contains(&access.owner)
        || names_unix(&vector.send)
        || texts.into_iter().any(|text| names_unix(text))
    {
        return Err("needs the login unix, with the right to make a directory".to_owned());
    }
    for login in [&mut vector.setup_auth, &mut vector.auth] {
        if *login == Login::Unix {
            *login = access.owner;
        }
    }
    Ok(vector)
}

fn judge(vector: &Vector, server: &dyn Target, differences: &Differences) -> Result<Verdict> {
    let account = server.account();
    let expected = |expect: &Expect| Expected::new(expect, &account.login);
    let recorded = expected(&vector.expect)?;
    let entry = differences.entry(vector);
    let accepted = entry.map(Difference::expect);
    let mut either = expected(&vector.expect)?;
    if let Some(accepted) = &accepted {
        either = either.or(expected(accepted)?);
    }
    let observed = script::play(vector, server.address(), account, &either)?;
    if recorded.matches(&observed) {
        return Ok(Verdict::Recorded);
    }
    let answers = Answers {
        sent: vector.send.escape_debug().take(SHOWN).collect(),
        recorded: recorded.to_string(),
        came: observed.to_string(),
    };
    Ok(match entry {
        Some(entry) if either.matches(&observed) => Verdict::Accepted {
            answers,
            reason: entry.reason.clone(),
        },
        _ => Verdict::Differs { answers },
    })
}
