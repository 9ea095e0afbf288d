//! The recorded vectors on one server.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::access::{self, Access};
use super::subject::{Place, Subject};
use crate::compare::Expected;
use crate::differences::Differences;
use crate::script::{Idle, Player};
use crate::target::{Options, Target};
use crate::vector::{Level, Login, Vector};

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
            // What one of them leaves in the root, and in the server, the others of its group expect.
            _ if vector.is_generated() => vector.verb(),
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
    let mut server: Option<(Box<dyn Target + Send>, Idle)> = None;
    let mut cases = Vec::new();
    for vector in vectors {
        let verdict = match adapted(vector, subject, access) {
            Err(why) => Verdict::NotApplicable { why },
            Ok(vector) => {
                let (running, idle) = match server.take() {
                    Some(running) => running,
                    None => (
                        subject.serve(&Options::from_words(&vector.server))?,
                        Idle::default(),
                    ),
                };
                let root = running.served();
                let mut player =
                    Player::new(running.address(), running.account(), root.as_deref()).with(idle);
                match judge(&vector, &mut player, differences) {
                    Ok(verdict) => {
                        let idle = player.into_idle();
                        server = Some((running, idle));
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
    if subject.as_program().is_none() && !vector.host.is_empty() {
        return Err("needs what only the host can make in the server's tree".to_owned());
    }
    if subject.as_program().is_none() && vector.is_about_root() {
        return Err("is about the root, which is somebody's there".to_owned());
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

fn judge(vector: &Vector, player: &mut Player<'_>, differences: &Differences) -> Result<Verdict> {
    let login = player.login().to_owned();
    let recorded = Expected::new(&vector.expect, &login)?;
    let entry = differences.entry(vector);
    let mut either = Expected::new(&vector.expect, &login)?;
    if let Some(accepted) = differences.for_vector(vector) {
        either = either.or(Expected::new(&accepted, &login)?);
    }
    let observed = player.play(vector, &either)?;
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
