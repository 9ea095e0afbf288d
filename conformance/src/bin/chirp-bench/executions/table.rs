//! What the executions took, for people and for programs.

use serde_json::{Value, json};

use crate::report::number;

/// Who was measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Our server.
    Ours,
    /// The kernel alone, in this program.
    Bare,
    /// `ssh` over a connection that is open already.
    Ssh,
    /// The QEMU guest agent.
    Agent,
}

impl Column {
    const ALL: [Self; 4] = [Self::Ours, Self::Bare, Self::Ssh, Self::Agent];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Bare => "bare",
            Self::Ssh => "ssh",
            Self::Agent => "guest agent",
        }
    }
}

/// What our server is to reach.
#[derive(Clone, Copy)]
enum Target {
    AtMost(f64, Column),
    AtLeast(f64, Column),
    Below(f64),
}

/// One line of the table: what each column measured, in the order of the turns.
pub(crate) struct Line {
    name: String,
    unit: &'static str,
    small_is_good: bool,
    values: Vec<(Column, f64)>,
    target: Option<Target>,
}

impl Line {
    pub(crate) fn small_is_good(name: String, unit: &'static str) -> Self {
        Self {
            name,
            unit,
            small_is_good: true,
            values: Vec::new(),
            target: None,
        }
    }

    pub(crate) fn large_is_good(name: String, unit: &'static str) -> Self {
        Self {
            small_is_good: false,
            ..Self::small_is_good(name, unit)
        }
    }

    pub(crate) fn add(&mut self, column: Column, value: f64) {
        self.values.push((column, value));
    }

    pub(crate) fn at_most(&mut self, times: f64, other: Column) {
        self.target = Some(Target::AtMost(times, other));
    }

    pub(crate) fn at_least(&mut self, times: f64, other: Column) {
        self.target = Some(Target::AtLeast(times, other));
    }

    pub(crate) fn below(&mut self, limit: f64) {
        self.target = Some(Target::Below(limit));
    }

    /// Returns a column's values, the best one first.
    fn sorted(&self, column: Column) -> Vec<f64> {
        let of_column = self.values.iter().filter(|(other, _)| *other == column);
        let mut values: Vec<f64> = of_column.map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        if !self.small_is_good {
            values.reverse();
        }
        values
    }

    /// Our best through another's best.
    fn ratio(&self, other: Column) -> Option<f64> {
        Some(self.sorted(Column::Ours).first()? / self.sorted(other).first()?)
    }

    fn reached(&self, target: Target) -> bool {
        let ours = self.sorted(Column::Ours);
        match target {
            Target::AtMost(times, other) => self.ratio(other).is_some_and(|ratio| ratio <= times),
            Target::AtLeast(times, other) => self.ratio(other).is_some_and(|ratio| ratio >= times),
            Target::Below(limit) => ours.first().is_some_and(|value| *value < limit),
        }
    }

    fn verdict(&self, target: Target) -> String {
        let verdict = if self.reached(target) {
            "reached"
        } else {
            "MISSED"
        };
        match target {
            Target::AtMost(times, other) => {
                format!("at most {times} × {} {verdict}", other.name())
            }
            Target::AtLeast(times, other) => format!("{times} × {} {verdict}", other.name()),
            Target::Below(limit) => format!("under {limit} {} {verdict}", self.unit),
        }
    }

    /// Returns the cells of the table: the name, each column's best and median, our part of the bare one's,
    /// the target.
    fn cells(&self) -> Vec<String> {
        let value = |column| {
            let values = self.sorted(column);
            let median = values.get(values.len() / 2).copied();
            match (values.first(), median) {
                (Some(best), Some(median)) if values.len() > 1 => {
                    format!("{} ({}) {}", number(*best), number(median), self.unit)
                }
                (Some(only), _) => format!("{} {}", number(*only), self.unit),
                (None, _) => "–".to_owned(),
            }
        };
        let ratio = self.ratio(Column::Bare);
        let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let target = self.target.map_or_else(String::new, |t| self.verdict(t));
        [self.name.clone()]
            .into_iter()
            .chain(Column::ALL.map(value))
            .chain([ratio, target])
            .collect()
    }

    /// Returns everything measured.
    pub(crate) fn json(&self) -> Value {
        let measured = Column::ALL.into_iter();
        let values: serde_json::Map<String, Value> = measured
            .map(|column| (column, self.sorted(column)))
            .filter(|(_, values)| !values.is_empty())
            .map(|(column, values)| (column.name().to_owned(), json!(values)))
            .collect();
        let target = self
            .target
            .map(|target| json!({"text": self.verdict(target), "reached": self.reached(target)}));
        json!({"name": self.name, "unit": self.unit, "values": values, "target": target})
    }
}

/// Returns the rows of the table, the title's first.
pub(crate) fn rows(lines: &[Line]) -> Vec<Vec<String>> {
    let head = [String::new()]
        .into_iter()
        .chain(Column::ALL.map(|column| column.name().to_owned()))
        .chain(["ours/bare", "target"].map(str::to_owned))
        .collect();
    [head]
        .into_iter()
        .chain(lines.iter().map(Line::cells))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_values_are_compared_and_targets_told() {
        let mut line = Line::small_is_good("x".to_owned(), "µs");
        for value in [300.0, 200.0, 250.0] {
            line.add(Column::Ours, value);
        }
        line.add(Column::Bare, 150.0);
        line.at_most(1.5, Column::Bare);
        let cells = line.cells();
        assert_eq!(cells.get(1).map(String::as_str), Some("200 (250) µs"));
        assert_eq!(cells.get(3).map(String::as_str), Some("–"));
        let last = cells.last().map(String::as_str);
        assert_eq!(last, Some("at most 1.5 × bare reached"));
        line.below(200.0);
        assert!(!line.target.is_some_and(|target| line.reached(target)));
        let mut line = Line::large_is_good("x".to_owned(), "MiB/s");
        line.add(Column::Ours, 59.0);
        line.add(Column::Bare, 100.0);
        line.at_least(0.6, Column::Bare);
        assert!(!line.target.is_some_and(|target| line.reached(target)));
        assert_eq!(rows(&[line]).len(), 2);
    }
}
