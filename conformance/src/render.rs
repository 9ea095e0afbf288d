//! Writes `CONFORMANCE.md`: what is compared, what differs and why.

use std::fmt::Write as _;

use anyhow::Result;

use crate::coverage::{Coverage, Status};
use crate::differences::{Difference, Differences};
use crate::fuzz::accepted::Accepted;
use crate::guided::Guided;
use crate::matrix;
use crate::proof::Proof;
use crate::vector::{self, Level, Vector};

const HEAD: &str = "\
# Conformance

<!-- Written by `cargo run -p conformance -- render` from conformance/differences.toml, matrix.toml, fuzz.toml, coverage.toml, proof.toml and guided.toml. -->

Our server and the reference's (Debian's `coop-computing-tools`) are started side by side and get the
same bytes; a reply is compared byte by byte. `cargo nextest run -p conformance` does that with every
recorded vector of `conformance/vectors/`: those that came with the specification, and those that
`conformance record` made for every request and recorded from the reference. In *the matrix* the reference's tools and ours
(`chirp` with every command of its help, from arguments, from a script and at a terminal; `chirp_get`,
`chirp_put`, `chirp_stream_files`, `chirp_status`; a shell script that starts the server) do the same on the
reference's server and on ours: each journey in all four cells, transfers between servers in both
directions, tickets made by one side's client and used by the other's. All that they print, their exit
codes, and the trees that they leave on the servers and beside the tools are compared with the
reference's client on the reference's server. `chirp_benchmark`, `chirp_distribute` and `chirp_audit_cluster`
of the reference do the same on both servers.

A vector is a *must*, a *should* (a sensible different answer is tolerable) or a *quirk* (an accident
of the reference). Both servers must pass every *must*. Where ours answers a *should* or a *quirk*
otherwise, the answer is listed here with its reason and tested as strictly as the others; an entry
that our server no longer needs fails the run.
";

/// Returns the text of `CONFORMANCE.md` from the lists as this program was built with them.
///
/// # Errors
///
/// Fails if a list is damaged, or has entries that nothing needs.
pub fn page() -> Result<String> {
    let vectors = vector::recorded()?;
    Ok(written(
        &vectors,
        &Differences::accepted(&vectors)?,
        &Accepted::load()?,
        &matrix::accepted::Accepted::written()?,
        &Coverage::written()?,
        &Proof::written()?,
        &Guided::written()?,
    ))
}

fn written(
    vectors: &[Vector],
    differences: &Differences,
    random: &Accepted,
    matrix: &matrix::accepted::Accepted,
    coverage: &Coverage,
    proof: &Proof,
    guided: &Guided,
) -> String {
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
        let shown: Vec<&Vector> = vectors
            .iter()
            .filter(|vector| {
                differences
                    .entry(vector)
                    .is_some_and(|found| std::ptr::eq(found, entry))
            })
            .collect();
        if shown
            .iter()
            .all(|vector| entry.vectors.contains(&vector.name))
        {
            for vector in shown {
                row(&mut page, vector, entry);
            }
        } else {
            pattern_row(&mut page, &shown, entry);
        }
    }
    random_scripts(&mut page, random);
    journeys(&mut page, matrix);
    requests(&mut page, coverage);
    methods(&mut page, coverage);
    options(&mut page, coverage);
    replacing(&mut page, coverage);
    weaknesses(&mut page, coverage);
    mistakes(&mut page, proof);
    long_runs(&mut page, guided);
    page
}

fn random_scripts(page: &mut String, random: &Accepted) {
    page.push_str(
        "\nRandom scripts of several subjects (`conformance fuzz`, some in every test run) show these besides; \
         replies are patterns, and what differs by nature (inodes, times, order) is left out.\n\n\
         | Requests | Reference | Ours | Why |\n|---|---|---|---|\n",
    );
    for pattern in random.patterns() {
        let (requests, [reference, ours], reason) = pattern.shown();
        let requests: Vec<String> = requests.iter().map(|name| verb(name)).collect();
        let (reference, ours) = (
            cell(reference.trim_end(), false),
            cell(ours.trim_end(), false),
        );
        let _ = writeln!(
            page,
            "| {} | {reference} | {ours} | {reason} |",
            code(&requests)
        );
    }
}

fn journeys(page: &mut String, matrix: &matrix::accepted::Accepted) {
    page.push_str(
        "\nThe journeys of the matrix (`conformance matrix`, all in every test run) show these; anything else \
         that differs fails, and so does an entry that no longer differs.\n\n\
         | Journeys | | Why |\n|---|---|---|\n",
    );
    for entry in matrix.entries() {
        let _ = writeln!(
            page,
            "| {} | {} of our {} | {} |",
            code(&entry.journeys),
            entry.part,
            entry.whose(),
            entry.reason
        );
    }
}

/// Returns the verb on the wire of a request named as in the code.
fn verb(name: &str) -> String {
    let mut verb = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !verb.is_empty() {
            verb.push('_');
        }
        verb.push(letter.to_ascii_lowercase());
    }
    verb
}

fn requests(page: &mut String, coverage: &Coverage) {
    page.push_str("\n## Requests\n\n| Requests | | |\n|---|---|---|\n");
    for group in &coverage.request {
        let status = group.refused.as_ref().map_or("served", |_| "refused");
        let note = group.refused.as_ref().unwrap_or(&group.note);
        let _ = writeln!(page, "| {} | {status} | {note} |", code(&group.verbs));
    }
}

fn methods(page: &mut String, coverage: &Coverage) {
    page.push_str("\n## Authentication methods\n\n| Method | | |\n|---|---|---|\n");
    for method in &coverage.method {
        let _ = writeln!(
            page,
            "| {} | {} | {} |",
            method.name,
            word(method.status),
            method.note
        );
    }
}

fn options(page: &mut String, coverage: &Coverage) {
    page.push_str("\n## Options of the server\n\n| Option | | |\n|---|---|---|\n");
    for option in &coverage.option {
        let _ = writeln!(
            page,
            "| {} | {} | {} |",
            code(&option.names),
            word(option.status),
            option.note
        );
    }
}

fn replacing(page: &mut String, coverage: &Coverage) {
    page.push_str(
        "\n## Renaming a complete file over the old one\n\nWhat a client sees of it, and the tests that show it:\n\n",
    );
    for sentence in &coverage.replacing {
        let _ = writeln!(page, "* {} ({})", sentence.what, code(&sentence.tests));
    }
}

fn weaknesses(page: &mut String, coverage: &Coverage) {
    page.push_str(
        "\n## Weaknesses of the reference\n\nPart 13 of the specification; each test attacks our server, or our client, in that way.\n\n\
         | | Weakness | Ours without it |\n|---|---|---|\n",
    );
    for weakness in &coverage.weakness {
        let _ = writeln!(
            page,
            "| {} | {} | {} |",
            weakness.name,
            weakness.what,
            code(&weakness.tests)
        );
    }
}

fn mistakes(page: &mut String, proof: &Proof) {
    page.push_str(
        "\n## What the suite catches\n\nEach of these mistakes (`conformance/bugs/NAME.patch`) was put into the programs alone, \
         and the suite run on what came out: `make prove`.\n\n\
         | Mistake | What is wrong | Cases | Some of them |\n|---|---|---|---|\n",
    );
    for bug in &proof.bug {
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} |",
            bug.name,
            bug.what,
            bug.count,
            code(&bug.caught).replace('|', "\\|")
        );
    }
}

fn long_runs(page: &mut String, guided: &Guided) {
    let _ = write!(
        page,
        "\n## Coverage-guided fuzzing\n\nEach parser of bytes from outside has a target in `fuzz/`, seeded from the recorded vectors, \
         and has run for {} minutes without a finding; `make test` runs each for 20 seconds.\n\n\
         | Target | Reads | Executions |\n|---|---|--:|\n",
        guided.minutes
    );
    for target in &guided.target {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            target.name,
            target.reads,
            thousands(&target.executions.to_string())
        );
    }
}

/// Groups the digits of a whole number by thousands.
#[must_use]
pub fn thousands(digits: &str) -> String {
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Served => "served",
        Status::Same => "same",
        Status::Differs => "differs",
        Status::Refused => "refused",
    }
}

fn code(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
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

/// One row for all vectors of an entry with patterns, with what the first of them sends.
fn pattern_row(page: &mut String, shown: &[&Vector], entry: &Difference) {
    let patterns: Vec<String> = entry
        .vectors
        .iter()
        .map(|text| format!("`{text}`"))
        .collect();
    let example = shown.first();
    let sent = example.map_or_else(String::new, |vector| cell(&vector.send, false));
    let reference = example.map_or_else(String::new, |vector| {
        let expect = &vector.expect;
        answer(expect.reply.as_ref(), expect.regex.as_ref(), expect.eof)
    });
    let _ = writeln!(
        page,
        "| {} ({} vectors) | {sent} | {reference} | {} | {} |",
        patterns.join(", "),
        shown.len(),
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
