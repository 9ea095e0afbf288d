//! A client's tickets and jobs: what was promised of them, and what there is after a kill.

use std::fs;

use crate::common::{Peer, Place};
use crate::random::Random;
use crate::ticket::Key;

/// Tickets by their keys, and jobs.
pub(super) struct Held {
    /// Each with the rights it has in `/`, if it is registered.
    tickets: Vec<(Key, Option<&'static str>)>,
    /// Each with whether it was committed.
    jobs: Vec<(i64, bool)>,
    /// What was not answered before the kill.
    pub(super) under_way: Option<Operation>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Register(usize),
    Modify(usize, &'static str),
    Delete(usize),
    Create,
    Commit(i64),
}

const MASKS: [&str; 3] = ["r", "l", "rl"];

const JOB: &str = r#"{"executable":"/bin/true","arguments":["true"],"environment":{},"files":[]}"#;

impl Held {
    pub(super) const fn nothing() -> Self {
        Self {
            tickets: Vec::new(),
            jobs: Vec::new(),
            under_way: None,
        }
    }

    pub(super) fn with_keys(place: &Place, client: usize) -> Self {
        let key = |number| Key::new(place, &format!("key{client}.{number}"));
        Self {
            tickets: (0..2).map(|number| (key(number), None)).collect(),
            ..Self::nothing()
        }
    }

    pub(super) const fn is_any(&self) -> bool {
        !self.tickets.is_empty()
    }

    pub(super) fn choose(&self, random: &mut Random) -> Operation {
        let at = random.below(self.tickets.len());
        let open = self.jobs.iter().rfind(|(_, committed)| !committed);
        match (random.below(6), self.tickets[at].1, open) {
            (0, Some(_), _) => Operation::Delete(at),
            (1 | 2, Some(_), _) => Operation::Modify(at, MASKS[random.below(MASKS.len())]),
            (3, ..) => Operation::Create,
            (4, _, Some((id, _))) => Operation::Commit(*id),
            _ => Operation::Register(at),
        }
    }

    pub(super) fn request(&self, operation: Operation) -> String {
        let digest = |at: usize| self.tickets[at].0.digest();
        match operation {
            Operation::Register(at) => {
                let key = &self.tickets[at].0.public;
                format!("ticket_register self 86400 {}\n{key}", key.len())
            }
            Operation::Modify(at, rights) => {
                format!("ticket_modify ticket:{} / {rights}\n", digest(at))
            }
            Operation::Delete(at) => format!("ticket_delete ticket:{}\n", digest(at)),
            Operation::Create => format!("job_create {}\n{JOB}", JOB.len()),
            Operation::Commit(id) => {
                let ids = format!("[{id}]");
                format!("job_commit {}\n{ids}", ids.len())
            }
        }
    }

    pub(super) fn apply(&mut self, operation: Operation, answer: i64) {
        match operation {
            // The masks of one that was there before are lost.
            Operation::Register(at) => self.tickets[at].1 = Some("n"),
            Operation::Modify(at, rights) => self.tickets[at].1 = Some(rights),
            Operation::Delete(at) => self.tickets[at].1 = None,
            Operation::Create => self.jobs.push((answer, false)),
            Operation::Commit(id) => {
                for job in self.jobs.iter_mut().filter(|job| job.0 == id) {
                    job.1 = true;
                }
            }
        }
    }

    /// Compares with what there is after a kill, and goes on from there. Returns the ids of all jobs.
    #[track_caller]
    pub(super) fn settle(&mut self, place: &Place, owner: &mut Peer, context: &str) -> Vec<i64> {
        let under_way = self.under_way.take();
        let listing = String::from_utf8(owner.answer("ticket_list self\n")).unwrap();
        for (at, (key, promised)) in self.tickets.iter_mut().enumerate() {
            let possible = match under_way {
                Some(Operation::Register(other)) if other == at => Some(Some("n")),
                Some(Operation::Modify(other, rights)) if other == at => Some(Some(rights)),
                Some(Operation::Delete(other)) if other == at => Some(None),
                _ => None,
            };
            let found = mask(place, &key.digest());
            let is_so = |state: Option<&str>| found.as_deref() == state;
            let state = [Some(*promised), possible]
                .into_iter()
                .flatten()
                .find(|state| is_so(*state));
            *promised = state.unwrap_or_else(|| {
                panic!("{context}: a ticket is {found:?}, but {promised:?} was promised, and {under_way:?} under way")
            });
            // The server says the same.
            let is_listed = listing.contains(&key.digest());
            assert_eq!(is_listed, promised.is_some(), "{context}");
        }
        for (id, committed) in &self.jobs {
            let ids = format!("[{id}]");
            owner.send(format!("job_status {}\n{ids}", ids.len()));
            let status = owner
                .counted()
                .unwrap_or_else(|code| panic!("{context}: job {id}: {code}"));
            let status = String::from_utf8(status).unwrap();
            assert!(
                !committed || !status.contains("\"CREATED\""),
                "{context}: {status}"
            );
        }
        self.jobs.iter().map(|(id, _)| *id).collect()
    }
}

/// Returns the rights in `/` of the ticket on disk.
#[track_caller]
fn mask(place: &Place, digest: &str) -> Option<String> {
    let text = fs::read_to_string(place.host(format!(".__ticket.{digest}"))).ok()?;
    let (_, rest) = text
        .split_once("rights \"/\" \"")
        .unwrap_or_else(|| panic!("no whole ticket: {text}"));
    let (rights, _) = rest
        .split_once("\"\n")
        .unwrap_or_else(|| panic!("no whole ticket: {text}"));
    Some(rights.to_owned())
}
