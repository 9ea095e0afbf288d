//! `chirp_status`: the servers that a catalog knows (parts 10.4 and 12.5).

mod catalog;
mod json;
mod table;

use std::time::Duration;

use clap::{CommandFactory as _, Parser};
use serde_json::{Map, Value};

use super::access::{Log, Logged};
use super::trouble::{Ending, Trouble};
use crate::cli::duration;
use crate::output;

/// What a catalog says of one server.
type Record = Map<String, Value>;

/// Shows the Chirp servers that a catalog knows.
///
/// Arguments: the NAME of a server, or a FIELD and the VALUE that it must have.
#[derive(Parser)]
#[command(
    name = "chirp_status",
    version = super::VERSION,
    disable_version_flag = true,
    override_usage = "chirp_status [options] [ <name> | <field> <value> ]",
    max_term_width = 100,
    args_override_self = true,
    infer_long_args = true
)]
pub(super) struct Status {
    /// Ask the catalog at HOST[:PORT]; of a list with commas the first that answers
    /// [default: CATALOG_HOST, else the public ones].
    #[arg(short, long, value_name = "HOST")]
    catalog: Option<String>,
    #[command(flatten)]
    log: Log,
    /// Accepted for old scripts: the log is not rotated.
    #[arg(short = 'O', long, value_name = "BYTES")]
    debug_rotate_max: Option<String>,
    /// Only servers with this space available, as in 100MB.
    #[arg(short = 'A', long, value_name = "SIZE", value_parser = crate::size::parse)]
    server_space: Option<u64>,
    /// Only servers of this project.
    #[arg(long, value_name = "NAME")]
    server_project: Option<String>,
    /// Only servers that the catalog heard from within this time.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    server_lastheardfrom: Option<Duration>,
    /// Show all records, not just those of Chirp servers and catalogs.
    #[arg(short, long)]
    all: bool,
    /// Give up after this time.
    #[arg(short, long, value_name = "TIME", value_parser = duration, default_value = "60")]
    timeout: Duration,
    /// Show NAME:PORT of each Chirp server.
    #[arg(short = 's', long)]
    brief: bool,
    /// Show the records as JSON.
    #[arg(short = 'l', long)]
    verbose: bool,
    /// Show sums.
    #[arg(short = 'T', long)]
    totals: bool,
    /// Show what fulfils this expression, which the catalog understands.
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Show the version.
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// A name, or a field and its value.
    #[arg(value_name = "WORDS", hide = true)]
    words: Vec<String>,
}

impl Logged for Status {
    const AFTER_HELP: u8 = 1;

    fn log(&self) -> &Log {
        &self.log
    }
}

/// Asks and shows.
pub(super) async fn run(status: Status) -> Ending {
    let wanted = match status.words.as_slice() {
        [] => None,
        [name] => Some(("name", name.as_str())),
        [field, value] => Some((field.as_str(), value.as_str())),
        _ => return super::help(Status::command(), Ending::Failure),
    };
    let catalogs = catalog::named(status.catalog.as_deref());
    let expression = status.expression();
    let query = catalog::query(&catalogs, &expression, status.filter.is_some());
    let records = match tokio::time::timeout(status.timeout, query).await {
        Ok(Ok(records)) => records,
        Ok(Err(reason)) => {
            Trouble::Words(reason).tell("couldn't query catalog");
            return Ending::Failure;
        }
        Err(_) => {
            let seconds = status.timeout.as_secs_f64();
            Trouble::Words(format!("no answer for {seconds}s")).tell("couldn't query catalog");
            return Ending::Failure;
        }
    };
    let mut records: Vec<Record> = records
        .into_iter()
        .filter(|record| status.shows(record, wanted))
        .collect();
    records.sort_by_cached_key(|record| {
        let text = |field| {
            table::text(record, field)
                .unwrap_or_default()
                .to_lowercase()
        };
        (text("type"), text("name"))
    });
    let shown = if status.brief {
        table::brief(&records)
    } else if status.verbose {
        table::verbose(&records)
    } else if status.totals {
        table::totals(&records)
    } else {
        table::table(&records, columns())
    };
    match output::write(shown.as_bytes()) {
        Ok(()) => Ending::Success,
        Err(_) => Ending::PipeClosed,
    }
}

/// Returns the width of the table.
fn columns() -> usize {
    let variable = std::env::var("COLUMNS").ok();
    variable.and_then(|text| text.parse().ok()).unwrap_or(80)
}

impl Status {
    /// Returns what the catalog is asked for.
    fn expression(&self) -> String {
        let all = self.filter.as_deref().unwrap_or("true");
        if self.all {
            return all.to_owned();
        }
        // Without the brackets, as the reference has it, every catalog fulfils every expression.
        format!(r#"({all}) and (type=="chirp" or type=="catalog")"#)
    }

    /// Reports whether a record is one of those that were asked for.
    fn shows(&self, record: &Record, wanted: Option<(&str, &str)>) -> bool {
        let is =
            |field: &str, value: &str| record.get(field).and_then(Value::as_str) == Some(value);
        let heard = |within: &Duration| {
            let heard = record.get("lastheardfrom").and_then(Value::as_i64);
            let within = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
            let now = jiff::Timestamp::now().as_second();
            heard.is_none_or(|heard| heard >= now.saturating_sub(within))
        };
        let available = table::number(record, "avail");
        (self.all || is("type", "chirp") || is("type", "catalog"))
            && wanted.is_none_or(|(field, value)| is(field, value))
            && self
                .server_project
                .as_deref()
                .is_none_or(|name| is("project", name))
            && self
                .server_space
                .is_none_or(|least| available >= least as f64)
            && self.server_lastheardfrom.as_ref().is_none_or(heard)
    }
}
