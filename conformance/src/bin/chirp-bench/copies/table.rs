//! What the copies took, for people and for programs.

use serde_json::{Value as Json, json};

use super::contender::Contender;

/// One measurement.
#[derive(Clone, Copy)]
pub(crate) enum Value {
    Seconds(f64),
    Mebibytes(f64),
}

impl Value {
    fn number(self) -> f64 {
        match self {
            Self::Seconds(number) | Self::Mebibytes(number) => number,
        }
    }

    fn show(self) -> String {
        match self {
            Self::Seconds(number) => format!("{number:.2} s"),
            Self::Mebibytes(number) => format!("{number:.1} MiB"),
        }
    }
}

/// What our client is to reach. Less is better everywhere.
struct Target {
    /// Whose value is compared with the limit.
    what: &'static str,
    limit: Limit,
}

enum Limit {
    /// At most this part of what another column has.
    Of(f64, &'static str),
    /// At most this.
    Fixed(f64),
}

/// One line of the table: what each column measured, in the order of the turns.
pub(crate) struct Line {
    name: String,
    columns: Vec<(&'static str, Vec<Value>)>,
    targets: Vec<Target>,
}

/// The columns in their order.
fn titles() -> impl Iterator<Item = &'static str> {
    let contenders = Contender::ALL.into_iter().map(Contender::name);
    contenders.chain(["bare socket", "memory"])
}

impl Line {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            columns: Vec::new(),
            targets: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, column: &'static str, value: Value) {
        match self.columns.iter_mut().find(|(name, _)| *name == column) {
            Some((_, values)) => values.push(value),
            None => self.columns.push((column, vec![value])),
        }
    }

    /// Without delay faster than everybody and 3 times the reference; at 50 ms 20 times the reference
    /// and no slower than `tar`.
    pub(crate) fn target_of_tree(&mut self, round_trip: u64) {
        let reference = Contender::Reference.name();
        match round_trip {
            0 => {
                for other in [
                    Contender::Scp,
                    Contender::Sftp,
                    Contender::Rsync,
                    Contender::Tar,
                ] {
                    self.at_most(1.0, other.name());
                }
                self.at_most(1.0 / 3.0, reference);
            }
            50 => {
                self.at_most(1.0 / 20.0, reference);
                self.at_most(1.0, Contender::Tar.name());
            }
            _ => {}
        }
    }

    /// 0.9 of the rate of a bare socket, in less than 32 MiB.
    pub(crate) fn target_of_big(&mut self) {
        self.at_most(1.0 / 0.9, "bare socket");
        self.targets.push(Target {
            what: "memory",
            limit: Limit::Fixed(32.0),
        });
    }

    /// So many seconds.
    pub(crate) fn target_below(&mut self, seconds: f64) {
        self.targets.push(Target {
            what: Contender::Ours.name(),
            limit: Limit::Fixed(seconds),
        });
    }

    fn at_most(&mut self, part: f64, other: &'static str) {
        self.targets.push(Target {
            what: Contender::Ours.name(),
            limit: Limit::Of(part, other),
        });
    }

    fn best(&self, column: &str) -> Option<Value> {
        let (_, values) = self.columns.iter().find(|(name, _)| *name == column)?;
        let less = |one: Value, other: Value| {
            if other.number() < one.number() {
                other
            } else {
                one
            }
        };
        values.iter().copied().reduce(less)
    }

    fn reached(&self, target: &Target) -> bool {
        let limit = match target.limit {
            Limit::Of(part, other) => self.best(other).map(|value| part * value.number()),
            Limit::Fixed(limit) => Some(limit),
        };
        match (self.best(target.what), limit) {
            (Some(value), Some(limit)) => value.number() <= limit,
            _ => false,
        }
    }

    fn verdict(&self, target: &Target) -> String {
        let verdict = if self.reached(target) {
            "reached"
        } else {
            "MISSED"
        };
        match target.limit {
            Limit::Of(part, other) => format!("{:.2} × {other} {verdict}", 1.0 / part),
            Limit::Fixed(limit) if target.what == "memory" => {
                format!("under {limit} MiB {verdict}")
            }
            Limit::Fixed(limit) => format!("under {limit} s {verdict}"),
        }
    }

    /// Returns the cells of the table: the name, each column's best, the targets.
    fn cells(&self) -> Vec<String> {
        let best =
            titles().map(|title| self.best(title).map_or_else(|| "–".to_owned(), Value::show));
        let targets: Vec<String> = self.targets.iter().map(|t| self.verdict(t)).collect();
        [self.name.clone()]
            .into_iter()
            .chain(best)
            .chain([targets.join(", ")])
            .collect()
    }

    /// Returns everything measured.
    pub(crate) fn json(&self) -> Json {
        let values: serde_json::Map<String, Json> = self
            .columns
            .iter()
            .map(|(name, values)| {
                let all: Vec<f64> = values.iter().map(|value| value.number()).collect();
                ((*name).to_owned(), json!(all))
            })
            .collect();
        let targets: Vec<Json> = self
            .targets
            .iter()
            .map(|target| json!({"text": self.verdict(target), "reached": self.reached(target)}))
            .collect();
        json!({"name": self.name, "values": values, "targets": targets})
    }
}

/// Returns the rows of the table, the title's first.
pub(crate) fn rows(lines: &[Line]) -> Vec<Vec<String>> {
    let head = [String::new()]
        .into_iter()
        .chain(titles().map(str::to_owned))
        .chain(["target".to_owned()])
        .collect();
    [head]
        .into_iter()
        .chain(lines.iter().map(Line::cells))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        let mut line = Line::new("put".to_owned());
        line.add("ours", Value::Seconds(2.0));
        line.add("ours", Value::Seconds(1.0));
        line.add("chirp", Value::Seconds(25.0));
        line.add("tar|ssh", Value::Seconds(0.5));
        line
    }

    #[test]
    fn the_best_turn_is_judged() {
        let mut line = line();
        line.target_of_tree(50);
        let cells = line.cells();
        assert_eq!(cells.get(1).map(String::as_str), Some("1.00 s"));
        assert_eq!(
            cells.last().map(String::as_str),
            Some("20.00 × chirp reached, 1.00 × tar|ssh MISSED")
        );
    }

    #[test]
    fn what_was_not_measured_is_not_reached() {
        let mut line = line();
        line.target_of_big();
        let verdicts: Vec<bool> = line.targets.iter().map(|t| line.reached(t)).collect();
        assert_eq!(verdicts, [false, false]);
        assert_eq!(rows(&[line]).len(), 2);
    }
}
