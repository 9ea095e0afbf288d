//! Writes `CONFORMANCE.md`: what is compared, what differs and why.

use std::fmt::Write as _;

use crate::differences::{Difference, Differences};
use crate::vector::{Level, Vector};

const HEAD: &str = "\
# Conformance

<!-- Written by `cargo run -p conformance -- render` from conformance/differences.toml. -->

Our server and the reference's (Debian's `coop-computing-tools`) are started side by side and get the
same bytes; a reply is compared byte by byte. `cargo test -p conformance` does that with every
recorded vector of `conformance/vectors/chirp-vectors.jsonl` whose request our server has, and lets
the reference's own `chirp`, `chirp_get` and `chirp_put` work against our server and our client
against the reference's server.

A vector is a *must*, a *should* (a sensible different answer is tolerable) or a *quirk* (an accident
of the reference). Both servers must pass every *must*. Where ours answers a *should* or a *quirk*
otherwise, the answer is listed here with its reason and tested as strictly as the others; an entry
that our server no longer needs fails the run.
";

/// Returns the text of `CONFORMANCE.md`.
#[must_use]
pub fn page(vectors: &[Vector], differences: &Differences) -> String {
    let count = |level| {
        vectors
            .iter()
            .filter(|vector| vector.level == level)
            .count()
    };
    let mut page = String::from(HEAD);
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "\nThere are {} vectors: {} must, {} should, {} quirk.\n\n## Accepted differences\n\n",
        vectors.len(),
        count(Level::Must),
        count(Level::Should),
        count(Level::Quirk),
    );
    page.push_str("| Vector | Sent | Reference | Ours | Why |\n|---|---|---|---|---|\n");
    for entry in differences.entries() {
        for name in &entry.vectors {
            if let Some(vector) = vectors.iter().find(|vector| vector.name == *name) {
                row(&mut page, vector, entry);
            }
        }
    }
    page
}

fn row(page: &mut String, vector: &Vector, entry: &Difference) {
    let expect = &vector.expect;
    let _ = writeln!(
        page,
        "| {} | {} | {} | {} | {} |",
        vector.name,
        cell(&vector.send, false),
        answer(expect.reply.as_ref(), expect.regex.as_ref(), expect.eof),
        answer(entry.reply.as_ref(), entry.regex.as_ref(), entry.eof),
        entry.reason.replace('|', "\\|"),
    );
}

fn answer(reply: Option<&String>, regex: Option<&String>, eof: bool) -> String {
    let text = match (reply, regex) {
        (Some(reply), _) if reply.is_empty() => "nothing".to_owned(),
        (Some(reply), _) => cell(reply, false),
        (None, Some(regex)) => cell(regex, true),
        (None, None) => String::new(),
    };
    if eof {
        format!("{text}, then closed")
    } else {
        text
    }
}

/// Longest text shown whole in a cell.
const LONGEST: usize = 60;

fn cell(text: &str, is_pattern: bool) -> String {
    let mut shown: String = text.escape_debug().take(LONGEST).collect();
    if shown.chars().count() == LONGEST {
        shown.push('…');
    }
    let shown = shown.replace('|', "\\|");
    if is_pattern {
        format!("like `{shown}`")
    } else {
        format!("`{shown}`")
    }
}
