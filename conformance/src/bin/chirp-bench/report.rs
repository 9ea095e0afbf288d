//! The table and the JSON.

use std::fmt::Write as _;
use std::fs;
use std::thread;

use anyhow::Result;
use conformance::render::thousands;
use serde_json::{Value, json};

use crate::copies::{self, table::Line};
use crate::executions;
use crate::experiment::{Row, Target};
use crate::subject::{Subject, Subjects};

/// What a run found, and where.
pub(crate) struct Report {
    machine: String,
    directory: String,
    turns: u32,
    rows: Vec<Row>,
    executions: Vec<executions::table::Line>,
    copies: Vec<Line>,
}

impl Report {
    pub(crate) fn new(
        subjects: &Subjects,
        turns: u32,
        rows: Vec<Row>,
        executions: Vec<executions::table::Line>,
        copies: Vec<Line>,
    ) -> Self {
        Self {
            machine: machine(),
            directory: subjects.directory().display().to_string(),
            turns,
            rows,
            executions,
            copies,
        }
    }

    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{}; {} turns, best (median); files in {}\n\n",
            self.machine, self.turns, self.directory
        );
        let mut lines = vec![
            [
                "",
                "reference",
                "ours",
                "floor",
                "ours/ref",
                "ours/floor",
                "target",
            ]
            .map(str::to_owned),
        ];
        lines.extend(self.rows.iter().map(Row::cells));
        if !self.rows.is_empty() {
            align(&mut text, &lines);
        }
        if !self.executions.is_empty() {
            if !self.rows.is_empty() {
                text.push('\n');
            }
            text.push_str("programs run, best (median)\n\n");
            align(&mut text, &executions::table::rows(&self.executions));
        }
        if !self.copies.is_empty() {
            if !self.rows.is_empty() || !self.executions.is_empty() {
                text.push('\n');
            }
            text.push_str("trees and files copied, best\n\n");
            align(&mut text, &copies::table::rows(&self.copies));
        }
        text
    }

    /// Returns everything measured, for programs.
    pub(crate) fn json(&self) -> Result<String> {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let executions: Vec<Value> = self.executions.iter().map(|line| line.json()).collect();
        let copies: Vec<Value> = self.copies.iter().map(Line::json).collect();
        let value = json!({
            "machine": self.machine,
            "directory": self.directory,
            "turns": self.turns,
            "experiments": rows,
            "executions": executions,
            "copies": copies,
        });
        Ok(serde_json::to_string_pretty(&value)? + "\n")
    }
}

/// Writes rows of cells in columns: the first to the left, the last as it is, the others to the right.
fn align(text: &mut String, lines: &[impl AsRef<[String]>]) {
    let columns = lines.iter().map(|line| line.as_ref().len()).max();
    let mut widths = vec![0; columns.unwrap_or_default()];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line.as_ref()) {
            *width = cell.chars().count().max(*width);
        }
    }
    for line in lines {
        let mut row = String::new();
        for (at, (cell, width)) in line.as_ref().iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match at {
                0 => write!(row, "{cell:<width$}"),
                _ if at + 1 == widths.len() => write!(row, "  {cell}"),
                _ => write!(row, "  {cell:>width$}"),
            };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
}

impl Row {
    fn series(&self, subject: Subject) -> &[f64] {
        let at = Subject::ALL.iter().position(|other| *other == subject);
        at.and_then(|at| self.values.get(at))
            .map_or(&[], Vec::as_slice)
    }

    fn best(&self, subject: Subject) -> Option<f64> {
        let series = self.series(subject).iter().copied();
        if self.small_is_good {
            series.reduce(f64::min)
        } else {
            series.reduce(f64::max)
        }
    }

    fn median(&self, subject: Subject) -> Option<f64> {
        let mut series = self.series(subject).to_vec();
        series.sort_by(f64::total_cmp);
        series.get(series.len() / 2).copied()
    }

    /// Our best through another's best.
    fn ratio(&self, subject: Subject) -> Option<f64> {
        Some(self.best(Subject::Ours)? / self.best(subject)?)
    }

    fn reached(&self, target: Target) -> bool {
        match target {
            Target::Times(times, subject) => self.ratio(subject).is_some_and(|r| r >= times),
            Target::Below(limit) => self.best(Subject::Ours).is_some_and(|v| v < limit),
            Target::AtMost(times, subject) => self.ratio(subject).is_some_and(|r| r <= times),
        }
    }

    fn target(&self, target: Target) -> String {
        let verdict = if self.reached(target) {
            "reached"
        } else {
            "MISSED"
        };
        match target {
            Target::Times(times, subject) => {
                format!("{times} × {} {verdict}", subject.name())
            }
            Target::AtMost(times, subject) => {
                format!("at most {times} × {} {verdict}", subject.name())
            }
            Target::Below(limit) => format!("under {limit} {} {verdict}", self.unit),
        }
    }

    fn cells(&self) -> [String; 7] {
        let value = |subject| match (self.best(subject), self.median(subject)) {
            (Some(best), Some(median)) => {
                let (best, median) = (number(best), number(median));
                format!("{best} ({median}) {}", self.unit)
            }
            _ => "–".to_owned(),
        };
        let ratio = |subject| {
            self.ratio(subject)
                .map_or_else(|| "–".to_owned(), |r| format!("{r:.2}"))
        };
        let targets: Vec<String> = self.targets.iter().map(|t| self.target(*t)).collect();
        [
            self.name.clone(),
            value(Subject::Reference),
            value(Subject::Ours),
            value(Subject::Floor),
            ratio(Subject::Reference),
            ratio(Subject::Floor),
            targets.join(", "),
        ]
    }

    fn json(&self) -> Value {
        let values: serde_json::Map<String, Value> = Subject::ALL
            .iter()
            .filter(|subject| !self.series(**subject).is_empty())
            .map(|subject| {
                let numbers = json!({
                    "best": self.best(*subject),
                    "median": self.median(*subject),
                    "all": self.series(*subject),
                });
                (subject.name().to_owned(), numbers)
            })
            .collect();
        let targets: Vec<Value> = self
            .targets
            .iter()
            .map(|target| match target {
                Target::Times(times, subject) => json!({
                    "times": times, "of": subject.name(), "reached": self.reached(*target),
                }),
                Target::AtMost(times, subject) => json!({
                    "at_most_times": times, "of": subject.name(), "reached": self.reached(*target),
                }),
                Target::Below(limit) => json!({
                    "below": limit, "reached": self.reached(*target),
                }),
            })
            .collect();
        json!({
            "name": self.name,
            "unit": self.unit,
            "values": values,
            "ours_per_reference": self.ratio(Subject::Reference),
            "ours_per_floor": self.ratio(Subject::Floor),
            "targets": targets,
        })
    }
}

/// Writes a number as people read it: thousands grouped, decimals only where they matter.
pub(crate) fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    thousands(&format!("{value:.0}"))
}

/// Names the machine: numbers without it say nothing.
fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(
            || "unknown CPU".to_owned(),
            |(_, name)| name.trim().to_owned(),
        );
    let system = rustix::system::uname();
    format!(
        "{cores} cores of {cpu}, Linux {}",
        system.release().to_string_lossy()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            name: "stat".to_owned(),
            unit: "/s",
            values: [vec![10.0, 20.0, 15.0], vec![100.0], vec![]],
            targets: vec![],
            small_is_good: false,
        }
    }

    #[test]
    fn best_median_and_ratio_are_of_the_right_subject() {
        let row = row();
        assert_eq!(row.best(Subject::Reference), Some(20.0));
        assert_eq!(row.median(Subject::Reference), Some(15.0));
        assert_eq!(row.ratio(Subject::Reference), Some(5.0));
        assert_eq!(row.ratio(Subject::Floor), None);
    }

    #[test]
    fn a_target_is_reached_or_missed() {
        let row = row();
        assert!(row.reached(Target::Times(5.0, Subject::Reference)));
        assert!(!row.reached(Target::Times(5.1, Subject::Reference)));
        assert!(!row.reached(Target::Times(0.5, Subject::Floor)));
        assert!(row.reached(Target::Below(101.0)));
        assert!(!row.reached(Target::Below(100.0)));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(7.25), "7.2");
        assert_eq!(number(999.4), "999");
        assert_eq!(number(1_234_567.0), "1,234,567");
    }
}
