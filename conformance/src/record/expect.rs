//! What of a recorded answer every later answer must have: all of it, but for what the machine decides.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::compare::Observed;
use crate::vector::{Expect, Vector};

/// Any number, with or without a sign.
const NUMBER: &str = "-?\\d+";

/// Returns `case` with what `observed` shows, for a server that ran as `login`.
///
/// # Errors
///
/// Fails if the answer cannot be written as a vector.
pub fn fill(case: &Vector, observed: &Observed, login: &str) -> Result<Vector> {
    let text: String = observed.reply.iter().copied().map(char::from).collect();
    let text = text.replace(&format!("unix:{login}"), "unix:{USER}");
    let code = leading_number(&text);
    let (reply, regex) = match pattern(case, &text) {
        None => (Some(text), None),
        Some(pattern) => (None, Some(pattern)),
    };
    // A count of the login's letters is not the same everywhere.
    let code = code.filter(|_| {
        regex
            .as_ref()
            .is_none_or(|pattern: &String| !pattern.starts_with('\\'))
    });
    let mut vector = case.clone();
    vector.expect = Expect {
        code,
        reply,
        regex,
        eof: observed.eof,
    };
    let expected = crate::compare::Expected::new(&vector.expect, login)?;
    anyhow::ensure!(
        expected.matches(observed),
        "its own pattern {expected} does not match {observed}"
    );
    Ok(vector)
}

fn leading_number(text: &str) -> Option<i64> {
    text.lines().next()?.parse().ok()
}

/// Returns the expression for an answer of which something may be otherwise; none if nothing may.
fn pattern(case: &Vector, text: &str) -> Option<String> {
    let succeeded = !text.starts_with('-');
    let verb = match case.verb() {
        "large" => case.send.split(' ').next().unwrap_or_default(),
        verb => verb,
    };
    let pattern = match verb {
        // What the reference sends behind a stream is an errno of earlier (W27).
        "putstream" | "putstream-over" if observed_end(text) => r"0\n(?:-\d+\n)?".to_owned(),
        "whoareyou" if succeeded && text.len() > WHO.len() => format!("\\d+\n{}[^\n]*", &WHO[2..]),
        "ticket_get" | "ticket_modify" | "whoami" => ticket(text),
        "getdir" | "search" => listings(text, 1),
        "getlongdir" => listings(text, 2),
        verb => lines(text, verb == "utime" && text.starts_with("0\n")),
    };
    (pattern != escape(text)).then_some(pattern)
}

/// Of more lines only the shape is compared, and their number.
const LARGE: usize = 40;
/// The longest beginning of what `whoareyou` answers that is the same on every machine.
const WHO: &str = "9\nhostname:";

fn observed_end(text: &str) -> bool {
    text.strip_prefix("0\n")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-') && rest.ends_with('\n'))
}

/// Escapes what has a meaning in expressions; line ends and signs stay readable.
#[must_use]
pub fn escape(text: &str) -> String {
    regex::escape(text)
        .replace(r"\-", "-")
        .replace(r"\{USER\}", "{USER}")
}

/// Every line as it is, but for lines that are a stat or statfs line.
fn lines(text: &str, times: bool) -> String {
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| self::line(line, times))
        .collect();
    lines.join("\n")
}

fn line(line: &str, times: bool) -> String {
    // Glued to counted data, as behind `getfile`, it is still what stands behind the last blank.
    if numbers(line, 13) {
        return stat(line, times);
    }
    if numbers(line, 7) {
        return [NUMBER; 7].join(" ");
    }
    escape(line)
}

fn numbers(line: &str, count: usize) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    words.len() == count && words.iter().all(|word| word.parse::<i64>().is_ok())
}

/// The expression for a stat line: type, permissions, links and size; of a directory neither links nor
/// size, which are the file system's affair. With `times` those that a client can set, too.
fn stat(line: &str, times: bool) -> String {
    let fields: Vec<&str> = line.split(' ').collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let directory = field(2)
        .parse::<i64>()
        .is_ok_and(|mode| mode & 0o170_000 == 0o040_000);
    let kept = |at: usize| match at {
        2 => true,
        3 | 7 => !directory,
        10 | 11 => times,
        _ => false,
    };
    let shown: Vec<&str> = (0..fields.len())
        .map(|at| if kept(at) { field(at) } else { NUMBER })
        .collect();
    shown.join(" ")
}

/// Listings, one behind the other or with other answers between them; each is a status line, then entries of
/// `group` lines in any order, up to an empty line.
fn listings(text: &str, group: usize) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((status, behind)) = rest.split_once('\n') {
        shown.push_str(&line(status, false));
        shown.push('\n');
        rest = behind;
        let listed = behind.split_once("\n\n");
        if let Some((entries, behind)) =
            listed.filter(|_| status == "0" && !behind.starts_with('\n'))
        {
            shown.push_str(&listing(entries, group));
            rest = behind;
        }
    }
    shown + &lines(rest, false)
}

/// The entries of one listing in any order, and the empty line behind them.
fn listing(entries: &str, group: usize) -> String {
    let entries: Vec<&str> = entries.split('\n').collect();
    // Each spelled out, with a counter behind it, they would make too large a machine.
    let large = entries.len() > LARGE;
    let shown: BTreeSet<String> = entries
        .chunks(group)
        .map(|entry| {
            let parent = entry.first() == Some(&"..");
            let lines: Vec<String> = entry
                .iter()
                .map(|text| match parent && numbers(text, 13) {
                    // That of the root is the host's affair (W13).
                    true => [NUMBER; 13].join(" "),
                    false => found(text),
                })
                .collect();
            let shown = lines.join("\n");
            match large {
                true => shown.replace(|c: char| c.is_ascii_digit(), r"\d"),
                false => shown,
            }
        })
        .collect();
    let count = entries.len() / group;
    let shown: Vec<String> = shown.into_iter().collect();
    format!("(?:(?:{})\n){{{count}}}\n", shown.join("|"))
}

/// A line of `search`, which may have a stat line between its colons.
fn found(text: &str) -> String {
    let parts: Vec<String> = text.split(':').map(|part| line(part, false)).collect();
    parts.join(":")
}

/// The seconds that a ticket has left stand in a line of their own, and the length of the owner's name
/// above that.
fn ticket(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let shown: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(at, line)| {
            let owner = lines
                .get(at + 1)
                .is_some_and(|next| next.starts_with("unix:{USER}"));
            let seconds = matches!(line.parse(), Ok(3500..=3600));
            match (owner || seconds) && line.parse::<u64>().is_ok() {
                true => r"\d+".to_owned(),
                false => escape(line),
            }
        })
        .collect();
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(name: &str, reply: &str) -> Expect {
        let case = Vector::new(name.to_owned(), "", "x\n".to_owned());
        let reply = reply.bytes().collect();
        let observed = Observed { reply, eof: false };
        fill(&case, &observed, "nobody").unwrap().expect
    }

    #[test]
    fn what_the_machine_decides_may_be_anything() {
        let file = filled("stat.a", "0\n5 6 33152 1 7 7 0 11 4096 8 9 9 9\n");
        let any = r"-?\d+ -?\d+ 33152 1 -?\d+ -?\d+ -?\d+ 11 -?\d+ -?\d+ -?\d+ -?\d+ -?\d+";
        assert_eq!(file.regex, Some(format!("0\n{any}\n")));
        assert_eq!(file.code, Some(0));
        let set = filled("utime.a", "0\n0\n5 6 33152 1 7 7 0 11 4096 8 1000 2000 9\n");
        assert!(
            set.regex
                .unwrap()
                .ends_with(r" 1000 2000 -?\d+\n".replace("\\n", "\n").as_str())
        );
    }

    #[test]
    fn of_a_directory_neither_links_nor_size_count() {
        let directory = filled("stat.a", "0\n5 6 16832 3 7 7 0 4096 4096 8 9 9 9\n");
        assert!(
            directory
                .regex
                .unwrap()
                .contains(r" 16832 -?\d+ -?\d+ -?\d+ -?\d+ -?\d+ ")
        );
    }

    #[test]
    fn entries_come_in_any_order() {
        let listing = filled("getdir.a", "0\nx\n..\n.\n\n3\nuni");
        let listing = listing.regex.unwrap();
        assert_eq!(listing, "0\n(?:(?:\\.|\\.\\.|x)\n){3}\n3\nuni");
    }

    #[test]
    fn every_one_of_several_listings_may_be_in_any_order() {
        let several = filled("getdir.a", "0\n..\n.\n\n-2\n0\n\n0\ny\nx\n\n");
        let several = several.regex.unwrap();
        let [first, second] =
            [r"(?:(?:\.|\.\.)\n){2}", r"(?:(?:x|y)\n){2}"].map(|text| text.replace("\\n", "\n"));
        assert_eq!(several, format!("0\n{first}\n-2\n0\n\n0\n{second}\n"));
    }

    #[test]
    fn the_account_has_no_name() {
        let plain = filled("getacl.a", "0\nunix:nobody rwldpa\n\n");
        assert_eq!(plain.reply.as_deref(), Some("0\nunix:{USER} rwldpa\n\n"));
        let counted = filled("whoami.a", "11\nunix:nobody");
        assert_eq!(counted.regex.as_deref(), Some("\\d+\nunix:{USER}"));
    }

    #[test]
    fn a_failure_is_exact() {
        assert_eq!(filled("stat.a", "-3\n").reply.as_deref(), Some("-3\n"));
    }
}
