//! All that a run saw.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::matrix::outcome::{Outcome, Verdict as CellVerdict};

use super::subject::Shown;
use super::vectors::{Case, Verdict};

/// What a run saw of the servers, and of the clients if there were any.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// When it began, in UTC.
    pub date: String,
    /// The servers.
    pub servers: Vec<Shown>,
    /// The sets of clients.
    pub clients: Vec<Shown>,
    /// The vectors, for each server.
    pub vectors: Vec<Played>,
    /// The random scripts, if there were two servers.
    pub random: Option<Random>,
    /// The journeys, if there were two servers to start and two sets of clients.
    pub matrix: Option<Vec<Outcome>>,
    /// Parts that were asked for and could not be tried, and why; that is no pass.
    pub left_out: Vec<String>,
}

/// The vectors on one server.
#[derive(Clone, Debug, Serialize)]
pub struct Played {
    /// The server's label.
    pub server: String,
    /// What became of each vector.
    pub cases: Vec<Case>,
}

/// What random scripts did.
#[derive(Clone, Debug, Serialize)]
pub struct Random {
    /// The first seed.
    pub seed: u64,
    /// Scripts that were played.
    pub scripts: u64,
    /// Requests that were compared.
    pub requests: u64,
    /// What differed: the shortest scripts, as they are shown.
    pub findings: Vec<Finding>,
}

/// A difference that a random script found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The last request's kind and how the replies begin.
    pub summary: String,
    /// The shortest script, and the two replies or trees.
    pub script: String,
}

/// How many vectors came out how on a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// As recorded.
    pub recorded: usize,
    /// Otherwise, and accepted.
    pub accepted: usize,
    /// Otherwise.
    pub differs: usize,
    /// Not tried.
    pub not_applicable: usize,
    /// Nothing to compare.
    pub failed: usize,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// Nothing differs but what is accepted.
    Same,
    /// Something differs.
    Differs,
    /// Something could not be judged: no set-up, no server.
    Broken,
}

impl Played {
    /// Counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for case in &self.cases {
            let count = match case.verdict {
                Verdict::Recorded => &mut counts.recorded,
                Verdict::Accepted { .. } => &mut counts.accepted,
                Verdict::Differs { .. } => &mut counts.differs,
                Verdict::NotApplicable { .. } => &mut counts.not_applicable,
                Verdict::Failed { .. } => &mut counts.failed,
            };
            *count += 1;
        }
        counts
    }
}

impl Results {
    /// Returns how the run ends.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        let mut cases = self.vectors.iter().flat_map(|played| &played.cases);
        let random = self.random.as_ref();
        let unset = |verdict: &CellVerdict| matches!(verdict, CellVerdict::NotSetUp { .. });
        let unjudged = cases
            .clone()
            .any(|case| matches!(case.verdict, Verdict::Failed { .. }));
        if unjudged || self.cells().any(unset) {
            return Conclusion::Broken;
        }
        let differs = cases.any(|case| matches!(case.verdict, Verdict::Differs { .. }))
            || random.is_some_and(|random| !random.findings.is_empty())
            || self.cells().any(differs_in_cell);
        if differs {
            Conclusion::Differs
        } else {
            Conclusion::Same
        }
    }

    /// Returns the names of the cases that differ or failed: what would catch a mistake.
    #[must_use]
    pub fn caught(&self) -> Vec<String> {
        let mut names = Vec::new();
        for case in self.vectors.iter().flat_map(|played| &played.cases) {
            if matches!(
                case.verdict,
                Verdict::Differs { .. } | Verdict::Failed { .. }
            ) {
                names.push(format!("vector {}", case.vector));
            }
        }
        for finding in self.random.iter().flat_map(|random| &random.findings) {
            names.push(format!("random {}", finding.summary));
        }
        for outcome in self.matrix.iter().flatten() {
            let caught = |verdict: &CellVerdict| {
                differs_in_cell(verdict) || matches!(verdict, CellVerdict::NotSetUp { .. })
            };
            if outcome.cells.iter().any(|cell| caught(&cell.verdict)) {
                names.push(format!("matrix {}", outcome.journey));
            }
        }
        names
    }

    fn cells(&self) -> impl Iterator<Item = &CellVerdict> {
        let outcomes = self.matrix.iter().flatten();
        outcomes.flat_map(|outcome| outcome.cells.iter().map(|cell| &cell.verdict))
    }
}

fn differs_in_cell(verdict: &CellVerdict) -> bool {
    matches!(
        verdict,
        CellVerdict::Differs { .. } | CellVerdict::Failed { .. }
    )
}

/// Journeys of one combination of clients and servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Whose clients.
    pub clients: String,
    /// Whose servers.
    pub servers: String,
    /// How the journeys came out there; [`Counts::recorded`] are those like in the first cell.
    pub counts: Counts,
}

impl Results {
    /// Returns the combinations of the matrix, in the order in which they come first.
    #[must_use]
    pub fn combinations(&self) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for cell in self
            .matrix
            .iter()
            .flatten()
            .flat_map(|outcome| &outcome.cells)
        {
            let same =
                |other: &Cell| other.clients == cell.clients && other.servers == cell.servers;
            let at = cells.iter().position(same).unwrap_or_else(|| {
                cells.push(Cell {
                    clients: cell.clients.clone(),
                    servers: cell.servers.clone(),
                    counts: Counts::default(),
                });
                cells.len() - 1
            });
            let Some(Cell { counts, .. }) = cells.get_mut(at) else {
                continue;
            };
            let count = match &cell.verdict {
                CellVerdict::Same => &mut counts.recorded,
                CellVerdict::Accepted { .. } => &mut counts.accepted,
                CellVerdict::Differs { .. } | CellVerdict::Failed { .. } => &mut counts.differs,
                CellVerdict::LeftOut { .. } => &mut counts.not_applicable,
                CellVerdict::NotSetUp { .. } => &mut counts.failed,
            };
            *count += 1;
        }
        cells
    }
}

impl Counts {
    /// Returns how many there are.
    #[must_use]
    pub const fn all(&self) -> usize {
        self.recorded + self.accepted + self.differs + self.not_applicable + self.failed
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} the same, {} accepted, {} differ, {} not applicable, {} without an answer",
            self.recorded, self.accepted, self.differs, self.not_applicable, self.failed
        )
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for played in &self.vectors {
            writeln!(f, "vectors on {}: {}", played.server, played.counts())?;
            let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
            for case in &played.cases {
                match &case.verdict {
                    Verdict::Recorded | Verdict::Accepted { .. } => {}
                    Verdict::NotApplicable { why } => *reasons.entry(why).or_default() += 1,
                    Verdict::Failed { error } => writeln!(f, "  {}: {error}", case.vector)?,
                    Verdict::Differs { answers } => {
                        writeln!(f, "  {} ({:?})", case.vector, case.level)?;
                        writeln!(f, "    sent      {}", answers.sent)?;
                        writeln!(f, "    recorded  {}", answers.recorded)?;
                        writeln!(f, "    came      {}", answers.came)?;
                    }
                }
            }
            for (why, count) in reasons {
                writeln!(f, "  not applicable: {count} {why}")?;
            }
        }
        if let Some(random) = &self.random {
            writeln!(
                f,
                "random scripts: {} scripts, {} requests, {} differences",
                random.scripts,
                random.requests,
                random.findings.len()
            )?;
            for finding in &random.findings {
                writeln!(f, "{}", finding.script)?;
            }
        }
        for cell in self.combinations() {
            let (clients, servers) = (cell.clients, cell.servers);
            writeln!(f, "clients of {clients} on {servers}: {}", cell.counts)?;
        }
        for outcome in self.matrix.iter().flatten() {
            let shown = outcome.to_string();
            if !shown.is_empty() {
                writeln!(f, "{}:\n{shown}", outcome.journey)?;
            }
        }
        for reason in &self.left_out {
            writeln!(f, "left out: {reason}")?;
        }
        Ok(())
    }
}
