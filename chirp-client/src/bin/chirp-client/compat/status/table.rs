//! What `chirp_status` prints.

use serde_json::Value;

use super::{Record, json};
use crate::size;

/// What stands for a value that is not there.
const UNKNOWN: &str = "???";

/// The least width of the column of names.
const NAME_LEAST: usize = 25;

/// What the reference counts the column of names as when it looks which columns fit.
const NAME_COUNTED: usize = 17;

/// The table for people, as wide as the terminal.
pub(super) fn table(records: &[Record], width: usize) -> String {
    let columns = columns(width);
    let mut text = String::new();
    for column in &columns {
        text.push_str(&column.cell(&column.field.to_uppercase()));
    }
    text.push('\n');
    for record in records {
        for column in &columns {
            let value = match column.right {
                true => size::shown(number(record, column.field)),
                false => self::text(record, column.field).unwrap_or_else(|| UNKNOWN.to_owned()),
            };
            text.push_str(&column.cell(&value));
        }
        text.push('\n');
    }
    text
}

/// A column: its field, its width, and whether it holds sizes, which stand to the right.
struct Column {
    field: &'static str,
    width: usize,
    right: bool,
}

impl Column {
    /// Returns a text cut or filled to the width, and a blank.
    fn cell(&self, text: &str) -> String {
        // What a stranger told the catalog must not move the cursor.
        let text = text.chars().map(|c| if c.is_control() { '?' } else { c });
        let text: String = text.take(self.width).collect();
        let width = self.width;
        match self.right {
            true => format!("{text:>width$} "),
            false => format!("{text:<width$} "),
        }
    }
}

fn columns(width: usize) -> Vec<Column> {
    let fields = [
        ("type", 8, false),
        ("name", NAME_COUNTED, false),
        ("port", 5, false),
        ("owner", 10, false),
        ("version", 8, false),
        ("total", 8, true),
        ("avail", 8, true),
    ];
    let others: usize = fields.iter().map(|(_, width, _)| width + 1).sum::<usize>() - NAME_COUNTED;
    let mut used = 0;
    let mut columns = Vec::new();
    for (field, counted, right) in fields {
        used += counted + 1;
        if used > width && !columns.is_empty() {
            break;
        }
        let width = match field {
            "name" => width.saturating_sub(others).max(NAME_LEAST),
            _ => counted,
        };
        columns.push(Column {
            field,
            width,
            right,
        });
    }
    columns
}

/// `NAME:PORT` of each Chirp server.
pub(super) fn brief(records: &[Record]) -> String {
    let servers = records.iter().filter(|record| {
        let kind = record.get("type").and_then(Value::as_str);
        kind == Some("chirp")
    });
    let line = |record: &Record| {
        let name = text(record, "name").unwrap_or_else(|| UNKNOWN.to_owned());
        let port = record.get("port").and_then(Value::as_i64).unwrap_or(0);
        format!("{name}:{port}\n")
    };
    servers.map(line).collect()
}

/// The records as they came.
pub(super) fn verbose(records: &[Record]) -> String {
    let lines: Vec<String> = records.iter().map(json::line).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// How many there are, and how much they have together.
pub(super) fn totals(records: &[Record]) -> String {
    let sum = |field| -> f64 { records.iter().map(|record| number(record, field)).sum() };
    let (total, available) = (sum("total"), sum("avail"));
    format!(
        "NODES: {:4}\nTOTAL: {}\nAVAIL: {}\nINUSE: {}\n",
        records.len(),
        size::shown(total),
        size::shown(available),
        size::shown((total - available).max(0.0)),
    )
}

/// Returns a field as it is shown, if the record has it.
pub(super) fn text(record: &Record, field: &str) -> Option<String> {
    match record.get(field)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Returns a field that is a number, else 0.
pub(super) fn number(record: &Record, field: &str) -> f64 {
    record.get(field).and_then(Value::as_f64).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> Record {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_table_is_the_reference_s() {
        let records = [
            record(
                r#"{"type":"chirp","name":"localhost","port":9229,"owner":"alice",
                "version":"8.0.0","total":270553174016,"avail":77045039104}"#,
            ),
            record(r#"{"type":"chirp"}"#),
            record(r#"{"type":"wq_master","port":"1240","name":"a\u001b[31mb","total":5}"#),
        ];
        let lines = [
            "TYPE     NAME                       PORT  OWNER      VERSION     TOTAL    AVAIL ",
            "chirp    localhost                  9229  alice      8.0.0    252.0 GB  71.8 GB ",
            "chirp    ???                        ???   ???        ???          0.0B     0.0B ",
            "wq_maste a?[31mb                    1240  ???        ???          5.0B     0.0B ",
        ];
        assert_eq!(table(&records, 80), lines.join("\n") + "\n");
        let sums = "NODES:    3\nTOTAL: 252.0 GB\nAVAIL: 71.8 GB\nINUSE: 180.2 GB\n";
        assert_eq!(totals(&records), sums);
        assert_eq!(brief(&records), "localhost:9229\n???:0\n");
    }

    #[test]
    fn columns_go_as_the_terminal_narrows() {
        // The widths at which the reference shows one more.
        for (width, shown) in [
            (1, 1),
            (26, 1),
            (27, 2),
            (32, 2),
            (33, 3),
            (44, 4),
            (53, 5),
            (62, 6),
            (71, 7),
            (200, 7),
        ] {
            assert_eq!(columns(width).len(), shown, "{width}");
        }
        assert!(columns(100).iter().any(|column| column.width == 46));
    }
}
