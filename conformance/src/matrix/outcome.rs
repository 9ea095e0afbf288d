//! What was written down in each cell, and what differs.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Error;
use serde::Serialize;

use super::accepted::Accepted;
use super::cell::{Cell, Side};
use super::clients::Clients;
use crate::program::Program;

/// How much of a text is shown.
const SHOWN: usize = 2000;

/// One thing that was done, or one that was left, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The command line, or the name of what was left.
    pub what: String,
    /// What is compared, by name: `exit`, `stdout`, `stderr`, `shown`, `left`.
    pub parts: Vec<(&'static str, String)>,
}

/// What was written down in a cell.
#[derive(Clone, Debug)]
pub(super) struct Record {
    steps: Vec<Step>,
    end: End,
}

#[derive(Clone, Debug)]
enum End {
    Done,
    Failed(String),
    NotSetUp(String),
    LeftOut(String),
}

impl Record {
    pub(super) fn done(steps: Vec<Step>) -> Self {
        let end = End::Done;
        Self { steps, end }
    }

    pub(super) fn failed(steps: Vec<Step>, error: &Error) -> Self {
        let end = End::Failed(format!("{error:#}"));
        Self { steps, end }
    }

    pub(super) fn not_set_up(error: &Error) -> Self {
        Self {
            steps: Vec::new(),
            end: End::NotSetUp(format!("{error:#}")),
        }
    }

    pub(super) fn left_out(reason: String) -> Self {
        Self {
            steps: Vec::new(),
            end: End::LeftOut(reason),
        }
    }
}

/// How a cell compares with the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// It says and leaves the same.
    Same,
    /// It differs where that is accepted, for these reasons.
    Accepted {
        /// The reasons, each once.
        reasons: BTreeSet<String>,
    },
    /// It differs.
    Differs {
        /// Where, and how.
        differences: Vec<Difference>,
    },
    /// The journey expects something that did not come.
    Failed {
        /// What did not come.
        error: String,
        /// What differs up to there.
        differences: Vec<Difference>,
    },
    /// Nothing was compared: the set-up of the journey did not take.
    NotSetUp {
        /// What did not take.
        error: String,
    },
    /// Nothing was compared: the journey is not for these clients or servers.
    LeftOut {
        /// Why not.
        reason: String,
    },
}

/// A part of a step that is not as in the first cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The step.
    pub step: String,
    /// The part of it.
    pub part: String,
    /// How it is in the first cell.
    pub first: String,
    /// How it is here.
    pub here: String,
}

/// A cell of a journey.
#[derive(Clone, Debug, Serialize)]
pub struct CellOutcome {
    /// Whose clients: `A`, or `A, then B`.
    pub clients: String,
    /// Whose servers: `A`, or `A to B`.
    pub servers: String,
    /// How it compares with the first cell.
    #[serde(flatten)]
    pub verdict: Verdict,
    #[serde(skip)]
    cell: Cell,
    #[serde(skip)]
    record: Record,
}

impl CellOutcome {
    pub(super) fn new(
        cell: &Cell,
        clients: &[Clients; 2],
        servers: &[Program; 2],
        record: Record,
    ) -> Self {
        let [make, take] = cell.clients.map(|side| side.of(clients).label());
        let servers: Vec<&str> = cell
            .servers
            .iter()
            .map(|side| side.of(servers).label.as_str())
            .collect();
        let (from, to) = (servers.first(), servers.last());
        Self {
            clients: if make == take {
                make.to_owned()
            } else {
                format!("{make}, then {take}")
            },
            servers: match (from, to) {
                (Some(from), Some(to)) if from != to => format!("{from} to {to}"),
                (from, _) => from.copied().unwrap_or("none").to_owned(),
            },
            verdict: Verdict::Same,
            cell: cell.clone(),
            record,
        }
    }
}

/// A journey in all its cells.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The journey's name.
    pub journey: String,
    /// The cells; the first is the one that the others are compared with.
    pub cells: Vec<CellOutcome>,
    /// Accepted differences that are said to show in this journey and do not.
    pub stale: Vec<String>,
}

impl Outcome {
    pub(super) fn compare(
        journey: String,
        mut cells: Vec<CellOutcome>,
        accepted: &Accepted,
    ) -> Self {
        let expected = cells.first().map(|cell| cell.record.steps.clone());
        let expected = expected.unwrap_or_default();
        let mut used = BTreeSet::new();
        let mut compared = BTreeSet::new();
        for cell in &mut cells {
            cell.verdict = judge(&journey, &expected, cell, accepted, &mut used);
            if matches!(
                cell.verdict,
                Verdict::Same | Verdict::Accepted { .. } | Verdict::Differs { .. }
            ) {
                compared.extend(sides(&cell.cell));
            }
        }
        let stale = accepted
            .of_journey(&journey)
            .filter(|(index, entry)| compared.contains(&entry.side) && !used.contains(index))
            .map(|(_, entry)| entry.reason.clone())
            .collect();
        Self {
            journey,
            cells,
            stale,
        }
    }

    /// Returns whether nothing differs but what is accepted, and all was set up.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let good = |cell: &CellOutcome| {
            matches!(
                cell.verdict,
                Verdict::Same | Verdict::Accepted { .. } | Verdict::LeftOut { .. }
            )
        };
        self.stale.is_empty() && self.cells.iter().all(good)
    }
}

/// What is of the second side in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Clients,
    Servers,
}

/// Returns what is of the second side.
fn sides(cell: &Cell) -> BTreeSet<Kind> {
    let mut kinds = BTreeSet::new();
    if cell.clients.contains(&Side::Second) {
        kinds.insert(Kind::Clients);
    }
    if cell.servers.contains(&Side::Second) {
        kinds.insert(Kind::Servers);
    }
    kinds
}

fn judge(
    journey: &str,
    expected: &[Step],
    cell: &CellOutcome,
    accepted: &Accepted,
    used: &mut BTreeSet<usize>,
) -> Verdict {
    let error = match &cell.record.end {
        End::NotSetUp(error) => {
            return Verdict::NotSetUp {
                error: error.clone(),
            };
        }
        End::LeftOut(reason) => {
            return Verdict::LeftOut {
                reason: reason.clone(),
            };
        }
        End::Failed(error) => Some(error.clone()),
        End::Done => None,
    };
    let kinds = sides(&cell.cell);
    let mut reasons = BTreeSet::new();
    let mut differences = Vec::new();
    for difference in differing(expected, &cell.record.steps) {
        let excuse = accepted
            .of_journey(journey)
            .find(|(_, entry)| kinds.contains(&entry.side) && entry.covers(&difference));
        if let Some((index, entry)) = excuse {
            used.insert(index);
            reasons.insert(entry.reason.clone());
        } else {
            differences.push(difference);
        }
    }
    match error {
        Some(error) => Verdict::Failed { error, differences },
        None if !differences.is_empty() => Verdict::Differs { differences },
        None if !reasons.is_empty() => Verdict::Accepted { reasons },
        None => Verdict::Same,
    }
}

fn differing(expected: &[Step], came: &[Step]) -> Vec<Difference> {
    let mut found = Vec::new();
    for at in 0..expected.len().max(came.len()) {
        let (first, here) = (expected.get(at), came.get(at));
        let what = |step: Option<&Step>| step.map_or("nothing", |step| &step.what).to_owned();
        let (Some(first), Some(here)) = (first, here) else {
            // A journey that failed ends early; what it did not do is one difference.
            found.push(Difference {
                step: what(first.or(here)),
                part: "step".to_owned(),
                first: what(first),
                here: what(here),
            });
            break;
        };
        if first.what != here.what {
            found.push(Difference {
                step: first.what.clone(),
                part: "step".to_owned(),
                first: first.what.clone(),
                here: here.what.clone(),
            });
            continue;
        }
        for (part, text) in &first.parts {
            let other = here.parts.iter().find(|(name, _)| name == part);
            let other = other.map_or("", |(_, text)| text);
            if text != other {
                found.push(Difference {
                    step: first.what.clone(),
                    part: (*part).to_owned(),
                    first: text.clone(),
                    here: other.to_owned(),
                });
            }
        }
    }
    found
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}\n    {}:", self.step, self.part)?;
        for (mark, text) in [('-', &self.first), ('+', &self.here)] {
            let cut: String = text.chars().take(SHOWN).collect();
            for line in cut.lines() {
                writeln!(f, "    {mark} {line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    /// Shows what is not clean.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for cell in &self.cells {
            let place = format!("clients: {}; servers: {}", cell.clients, cell.servers);
            let differences = match &cell.verdict {
                Verdict::Same | Verdict::Accepted { .. } | Verdict::LeftOut { .. } => continue,
                Verdict::NotSetUp { error } => {
                    writeln!(f, "{place}: an error of the suite, no set-up: {error}")?;
                    continue;
                }
                Verdict::Differs { differences } => {
                    writeln!(f, "{place}: differs from the first cell (-):")?;
                    differences
                }
                Verdict::Failed { error, differences } => {
                    writeln!(f, "{place}: not as the journey expects: {error}")?;
                    differences
                }
            };
            for difference in differences {
                write!(f, "{difference}")?;
            }
        }
        for reason in &self.stale {
            writeln!(f, "accepted, but nothing differs like that: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Mix;
    use super::*;

    fn step(what: &str, stdout: &str) -> Step {
        Step {
            what: what.to_owned(),
            parts: vec![("stdout", stdout.to_owned())],
        }
    }

    /// A journey in four cells of which the last has this record.
    fn judged(record: Record, accepted: &str) -> Outcome {
        let good = Record::done(vec![step("a", "x"), step("b", "y")]);
        let mut records = vec![good.clone(), good.clone(), good, record];
        let cells = Mix::Apart.cells(1).into_iter();
        let cells = cells.map(|cell| CellOutcome {
            clients: "some".to_owned(),
            servers: "others".to_owned(),
            verdict: Verdict::Same,
            cell,
            record: records.remove(0),
        });
        let accepted = Accepted::parse(accepted).unwrap();
        Outcome::compare("batch::cat".to_owned(), cells.collect(), &accepted)
    }

    const ENTRY: &str = "[[difference]]\njourneys = [\"cat\"]\nside = \"clients\"\nstep = \"b\"\n\
        part = \"stdout\"\nfirst = \"y\"\nsecond = \"z\"\nreason = \"r\"\n";

    #[test]
    fn what_is_the_same_is_clean() {
        let record = Record::done(vec![step("a", "x"), step("b", "y")]);
        assert!(judged(record, "").is_clean());
    }

    #[test]
    fn a_difference_is_found_and_shown() {
        let record = Record::done(vec![step("a", "x"), step("b", "z")]);
        let outcome = judged(record, "");
        assert!(!outcome.is_clean());
        let text = outcome.to_string();
        assert!(text.contains("- y") && text.contains("+ z"), "{text}");
    }

    #[test]
    fn an_accepted_difference_is_clean_and_has_its_reason() {
        let record = Record::done(vec![step("a", "x"), step("b", "z")]);
        let outcome = judged(record, ENTRY);
        assert!(outcome.is_clean(), "{outcome}");
        let reasons = BTreeSet::from(["r".to_owned()]);
        assert_eq!(outcome.cells[3].verdict, Verdict::Accepted { reasons });
    }

    #[test]
    fn an_accepted_difference_that_does_not_show_is_not_clean() {
        let record = Record::done(vec![step("a", "x"), step("b", "y")]);
        let outcome = judged(record, ENTRY);
        assert!(!outcome.is_clean());
        assert_eq!(outcome.stale, ["r"]);
    }

    #[test]
    fn a_step_that_is_missing_differs() {
        let record = Record::done(vec![step("a", "x")]);
        assert!(!judged(record, "").is_clean());
    }

    #[test]
    fn a_set_up_that_did_not_take_is_no_pass_even_in_all_cells() {
        let record = Record::not_set_up(&anyhow::anyhow!("no server"));
        let outcome = judged(record, "");
        assert!(!outcome.is_clean());
        assert!(outcome.to_string().contains("error of the suite"));
    }
}
