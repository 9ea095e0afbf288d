//! One page about a run: what was compared, how often it was the same, each difference and its reason.
//!
//! The page is Markdown; as HTML it is the same page, in one file that needs nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use pulldown_cmark::{Options, Parser, html};

use crate::matrix::outcome::{Outcome, Verdict as CellVerdict};
use crate::suite::results::{Played, Random, Results};
use crate::suite::subject::Shown;
use crate::suite::vectors::{Answers, Verdict};
use crate::vector::Level;

/// Longest text shown whole in a cell.
const LONGEST: usize = 100;

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Chirp conformance report</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; }
th, td { border: 1px solid #8886; padding: .25rem .6rem; text-align: left; vertical-align: top; }
th { background: #8882; }
tr:nth-child(even) td { background: #8881; }
code { font: .85em ui-monospace, monospace; overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: .6rem; background: #8882; }
</style>
</head>
<body>
"#;
const TAIL: &str = "</body>\n</html>\n";

/// Returns the page about a run in Markdown.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut page = String::from("# Chirp conformance report\n\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        "{}, by `conformance {}`. What follows is what that run saw.\n",
        results.date,
        env!("CARGO_PKG_VERSION")
    );
    subjects(&mut page, results);
    summary(&mut page, results);
    matrix(&mut page, results);
    vectors(&mut page, results);
    if let Some(random) = &results.random {
        scripts(&mut page, results, random);
    }
    left_out(&mut page, results);
    page
}

/// Returns a page in Markdown as a document for browsers.
#[must_use]
pub fn html(markdown: &str) -> String {
    let mut page = String::from(HEAD);
    html::push_html(&mut page, Parser::new_ext(markdown, Options::ENABLE_TABLES));
    page.push_str(TAIL);
    page
}

fn subjects(page: &mut String, results: &Results) {
    page.push_str("| | | Version |\n|---|---|---|\n");
    let kinds = [("server", &results.servers), ("clients", &results.clients)];
    for (kind, list) in kinds {
        for Shown { label, version, .. } in list {
            let version = version
                .as_deref()
                .map_or_else(|| "not told".to_owned(), plain);
            let _ = writeln!(page, "| {kind} | {} | {version} |", plain(label));
        }
    }
}

fn summary(page: &mut String, results: &Results) {
    page.push_str(
        "\n## Counts\n\n| What | Cases | Same | Accepted | Differ | Not applicable | Without an answer |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for played in &results.vectors {
        let counts = played.counts();
        let _ = writeln!(
            page,
            "| vectors on {} | {} | {} | {} | {} | {} | {} |",
            plain(&played.server),
            played.cases.len(),
            counts.recorded,
            counts.accepted,
            counts.differs,
            counts.not_applicable,
            counts.failed
        );
    }
    for cell in results.combinations() {
        let counts = cell.counts;
        let _ = writeln!(
            page,
            "| journeys, clients: {}; servers: {} | {} | {} | {} | {} | {} | {} |",
            plain(&cell.clients),
            plain(&cell.servers),
            counts.all(),
            counts.recorded,
            counts.accepted,
            counts.differs,
            counts.not_applicable,
            counts.failed
        );
    }
    if let Some(random) = &results.random {
        let _ = writeln!(
            page,
            "| requests in {} random scripts | {} | {} | in these | {} | 0 | 0 |",
            random.scripts,
            random.requests,
            random.requests - random.findings.len() as u64,
            random.findings.len()
        );
    }
    page.push_str(
        "\nThe same: as recorded, or as the first. Accepted: otherwise, and listed below with the reason. \
         Not applicable and without an answer are no passes.\n",
    );
}

fn matrix(page: &mut String, results: &Results) {
    let Some(outcomes) = &results.matrix else {
        return;
    };
    let columns = results.combinations();
    page.push_str(
        "\n## Matrix\n\nEach journey is done with each set of clients on each server; what is said and what is left is compared \
         with the first column. ✓ the same, ≈ accepted, ✗ differs, ! not set up, – not for these.\n\n| Journey |",
    );
    for cell in &columns {
        let _ = write!(
            page,
            " {} on {} |",
            plain(&cell.clients),
            plain(&cell.servers)
        );
    }
    page.push_str("\n|---|");
    page.push_str(&"---|".repeat(columns.len()));
    page.push('\n');
    for outcome in outcomes {
        let _ = write!(page, "| {} |", plain(&outcome.journey));
        for column in &columns {
            let found = outcome
                .cells
                .iter()
                .find(|cell| cell.clients == column.clients && cell.servers == column.servers);
            let mark = found.map_or("", |cell| match cell.verdict {
                CellVerdict::Same => "✓",
                CellVerdict::Accepted { .. } => "≈",
                CellVerdict::Differs { .. } | CellVerdict::Failed { .. } => "✗",
                CellVerdict::NotSetUp { .. } => "!",
                CellVerdict::LeftOut { .. } => "–",
            });
            let _ = write!(page, " {mark} |");
        }
        page.push('\n');
    }
    reasons(page, outcomes);
    for outcome in outcomes {
        let shown = outcome.to_string();
        if !shown.is_empty() {
            let _ = writeln!(
                page,
                "\n### What differs in {}\n\n{}",
                plain(&outcome.journey),
                block(&shown)
            );
        }
    }
}

/// Lists what is accepted or left out in the matrix, by reason.
fn reasons(page: &mut String, outcomes: &[Outcome]) {
    let mut accepted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut absent: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for outcome in outcomes {
        for cell in &outcome.cells {
            match &cell.verdict {
                CellVerdict::Accepted { reasons } => {
                    for reason in reasons {
                        accepted.entry(reason).or_default().insert(&outcome.journey);
                    }
                }
                CellVerdict::LeftOut { reason } => {
                    absent.entry(reason).or_default().insert(&outcome.journey);
                }
                _ => {}
            }
        }
    }
    for (title, list) in [("Accepted", accepted), ("Left out", absent)] {
        if list.is_empty() {
            continue;
        }
        let _ = writeln!(
            page,
            "\n### {title} in the matrix\n\n| Reason | Journeys |\n|---|---|"
        );
        for (reason, journeys) in list {
            let journeys: Vec<String> = journeys.into_iter().map(plain).collect();
            let _ = writeln!(page, "| {} | {} |", plain(reason), journeys.join(", "));
        }
    }
}

fn vectors(page: &mut String, results: &Results) {
    if results.vectors.is_empty() {
        return;
    }
    page.push_str("\n## Vectors\n\nWhat each server answers to recorded bytes, by how binding that is.\n\n| |");
    for level in LEVELS {
        let _ = write!(page, " {level:?} |");
    }
    page.push_str("\n|---|---|---|---|\n");
    for played in &results.vectors {
        let _ = write!(page, "| {} |", plain(&played.server));
        for level in LEVELS {
            let of_level = played.cases.iter().filter(|case| case.level == level);
            let same = |verdict: &Verdict| matches!(verdict, Verdict::Recorded);
            let recorded = of_level.clone().filter(|case| same(&case.verdict)).count();
            let _ = write!(page, " {recorded} of {} as recorded |", of_level.count());
        }
        page.push('\n');
    }
    for played in &results.vectors {
        differing(page, played);
        accepted(page, played);
    }
}

const LEVELS: [Level; 3] = [Level::Must, Level::Should, Level::Quirk];

fn differing(page: &mut String, played: &Played) {
    let found = played.cases.iter().filter_map(|case| match &case.verdict {
        Verdict::Differs { answers } => Some((case, Ok(answers))),
        Verdict::Failed { error } => Some((case, Err(error))),
        Verdict::Recorded | Verdict::Accepted { .. } | Verdict::NotApplicable { .. } => None,
    });
    let mut found = found.peekable();
    if found.peek().is_none() {
        return;
    }
    let _ = writeln!(
        page,
        "\n### What differs on {}\n\n| Vector | Level | Sent | Recorded | Came |\n|---|---|---|---|---|",
        plain(&played.server)
    );
    for (case, outcome) in found {
        let level = format!("{:?}", case.level).to_lowercase();
        let _ = match outcome {
            Ok(answers) => writeln!(page, "| {} | {level} | {} |", case.vector, cells(answers)),
            Err(error) => writeln!(page, "| {} | {level} | | | {} |", case.vector, plain(error)),
        };
    }
}

fn accepted(page: &mut String, played: &Played) {
    let mut reasons: BTreeMap<&str, Vec<(&str, &Answers)>> = BTreeMap::new();
    for case in &played.cases {
        if let Verdict::Accepted { answers, reason } = &case.verdict {
            let cases = reasons.entry(reason).or_default();
            cases.push((&case.vector, answers));
        }
    }
    if reasons.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "\n### Accepted differences of {}\n\nFor each reason the first vector that shows it.\n\n\
         | Reason | Vectors | The first | Sent | Recorded | Came |\n|---|---|---|---|---|---|",
        plain(&played.server)
    );
    for (reason, cases) in reasons {
        let Some((first, answers)) = cases.first() else {
            continue;
        };
        let _ = writeln!(
            page,
            "| {} | {} | {first} | {} |",
            reason.replace('|', "\\|"),
            cases.len(),
            cells(answers)
        );
    }
}

fn scripts(page: &mut String, results: &Results, random: &Random) {
    let [first, second] = results.servers.as_slice() else {
        return;
    };
    let _ = writeln!(
        page,
        "\n## Random scripts\n\nRandom requests of three subjects, the same on both servers, compared step by step; then the trees. \
         {} scripts from seed {}, {} requests. {} is held against {}.",
        random.scripts,
        random.seed,
        random.requests,
        plain(&second.label),
        plain(&first.label)
    );
    for finding in &random.findings {
        let _ = writeln!(
            page,
            "\n### {}\n\n{}",
            plain(&finding.summary),
            block(&finding.script)
        );
    }
}

fn left_out(page: &mut String, results: &Results) {
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for played in &results.vectors {
        for case in &played.cases {
            if let Verdict::NotApplicable { why } = &case.verdict {
                *reasons.entry((&played.server, why)).or_default() += 1;
            }
        }
    }
    if reasons.is_empty() && results.left_out.is_empty() {
        return;
    }
    page.push_str("\n## Not tried\n\n");
    for ((server, why), count) in reasons {
        let _ = writeln!(
            page,
            "* {count} vectors on {}: {}",
            plain(server),
            plain(why)
        );
    }
    for reason in results.left_out.iter().collect::<BTreeSet<_>>() {
        let _ = writeln!(page, "* {}", plain(reason));
    }
}

fn cells(answers: &Answers) -> String {
    [&answers.sent, &answers.recorded, &answers.came]
        .map(|text| code(text))
        .join(" | ")
}

/// Returns text that Markdown and HTML leave as it is, in one line.
fn plain(text: impl AsRef<str>) -> String {
    let mut out = String::new();
    for letter in text.as_ref().chars() {
        match letter {
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '&' => {
                out.push('\\');
                out.push(letter);
            }
            other => out.push(other),
        }
    }
    out
}

/// Returns text as a block of code. Four blanks before each line, as no text can end that.
fn block(text: &str) -> String {
    let lines: Vec<String> = text
        .trim_end()
        .lines()
        .map(|line| format!("    {line}"))
        .collect();
    lines.join("\n")
}

/// Returns text as code, in a cell of a table.
fn code(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST).collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    let shown = shown.replace('|', "\\|");
    // A fence longer than any run of backticks within.
    let longest = shown.split(|letter| letter != '`').map(str::len).max();
    let fence = "`".repeat(longest.unwrap_or(0) + 1);
    match fence.len() {
        1 => format!("{fence}{shown}{fence}"),
        _ => format!("{fence} {shown} {fence}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::results::Finding;
    use crate::suite::vectors::Case;

    fn results() -> Results {
        let answers = |sent: &str| Answers {
            sent: sent.to_owned(),
            recorded: "\"0\\n\"".to_owned(),
            came: "\"<b>|`\"".to_owned(),
        };
        let case = |vector: &str, verdict| Case {
            vector: vector.to_owned(),
            level: Level::Must,
            verdict,
        };
        let shown = |label: &str| Shown {
            label: label.to_owned(),
            place: "somewhere".to_owned(),
            version: None,
        };
        Results {
            date: "today".to_owned(),
            servers: vec![shown("left"), shown("<right>")],
            clients: Vec::new(),
            vectors: vec![Played {
                server: "<right>".to_owned(),
                cases: vec![
                    case("same", Verdict::Recorded),
                    case(
                        "other",
                        Verdict::Differs {
                            answers: answers("stat /a|b"),
                        },
                    ),
                    case(
                        "better",
                        Verdict::Accepted {
                            answers: answers("open"),
                            reason: "It is better.".to_owned(),
                        },
                    ),
                    case(
                        "none",
                        Verdict::NotApplicable {
                            why: "no -Q".to_owned(),
                        },
                    ),
                ],
            }],
            random: Some(Random {
                seed: 7,
                scripts: 3,
                requests: 100,
                findings: vec![Finding {
                    summary: "Stat 0 -3".to_owned(),
                    script: "unix stat /<script>".to_owned(),
                }],
            }),
            matrix: None,
            left_out: vec!["the matrix needs clients".to_owned()],
        }
    }

    #[test]
    fn every_difference_and_its_reason_is_on_the_page() {
        let page = markdown(&results());
        for text in [
            "| vectors on \\<right\\> | 4 | 1 | 1 | 1 | 1 | 0 |",
            "| other | must |",
            "| It is better. | 1 | better |",
            "1 vectors on \\<right\\>: no -Q",
            "the matrix needs clients",
            "unix stat /<script>",
            "3 scripts from seed 7, 100 requests",
        ] {
            assert!(page.contains(text), "{text} in\n{page}");
        }
    }

    #[test]
    fn nothing_that_came_is_taken_for_the_pages_own() {
        let page = html(&markdown(&results()));
        assert!(!page.contains("<b>") && !page.contains("<script>") && !page.contains("<right>"));
        assert!(page.contains("&lt;b&gt;|`"), "{page}");
        assert!(page.contains("<td>other</td>"), "{page}");
        assert!(page.contains("<code>stat /a|b</code>"), "{page}");
    }
}
