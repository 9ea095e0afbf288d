//! What no family reaches: a pattern's star that stands for nothing, growth in limited space, and
//! listings larger than a buffer.

use crate::vector::{Login, Vector};

/// How many entries a large listing has, with names of [`LONG`] bytes: more than 32 KiB.
const ENTRIES: usize = 160;
/// The length of their names.
const LONG: usize = 220;
/// Lines of a large list of rights, with subjects as long.
const LINES: usize = 150;

/// Options of a server with little space.
const QUOTA: &str = "-Q 1MB";

/// Returns the vectors of this family, grouped by what their names begin with: no verb, but what they share.
#[must_use]
pub fn cases() -> Vec<Vec<Vector>> {
    vec![patterns(), growth(), large()]
}

fn vector(name: String, options: &str, setup: Vec<String>, send: String) -> Vector {
    let mut vector = Vector::new(name, options, send);
    vector.setup = vec!["rmall /v\n".to_owned(), "mkdir /v 448\n".to_owned()];
    vector.setup.extend(setup);
    vector
}

/// Lists of rights whose pattern is for the caller, or just not.
fn patterns() -> Vec<Vector> {
    let subjects = [
        ("star-behind", "address:127.0.0.1*"),
        ("star-before", "*address:127.0.0.1"),
        ("star-between", "address:127.*0.0.1"),
        ("star-at-the-dot", "address:127.0.0.*"),
        ("star-alone", "*"),
        ("two-stars", "address:*.*"),
        ("too-long", "address:127.0.0.1?*"),
        ("question-mark", "address:127.0.0.?"),
        ("other-end", "address:*2"),
        ("other-beginning", "hostname:*1"),
        ("only-beginning", "address:127.0.0"),
    ];
    let cases = subjects.into_iter().map(|(name, subject)| {
        let setup = vec![format!("setacl /v {subject} l\n")];
        let mut case = vector(format!("pattern.{name}"), "", setup, "stat /v\n".to_owned());
        case.auth = Login::Address;
        case
    });
    cases.collect()
}

/// Requests that make a file larger than the space that is left, and some that do not.
fn growth() -> Vec<Vector> {
    let sizes = [
        ("shorter", "5"),
        ("longer", "1000"),
        ("too-long", "2000000"),
    ];
    let file = || vec!["putfile /v/f 420 11\nhello world".to_owned()];
    let mut cases = Vec::new();
    for (name, size) in sizes {
        cases.push(vector(
            format!("growth.truncate-{name}"),
            QUOTA,
            file(),
            format!("truncate /v/f {size}\nstat /v/f\n"),
        ));
        let mut setup = file();
        setup.push("open /v/f rw 0\n".to_owned());
        cases.push(vector(
            format!("growth.ftruncate-{name}"),
            QUOTA,
            setup.clone(),
            format!("ftruncate 0 {size}\nfstat 0\n"),
        ));
        cases.push(vector(
            format!("growth.pwrite-{name}"),
            QUOTA,
            setup,
            format!("pwrite 0 1 {size}\nxfstat 0\n"),
        ));
    }
    cases
}

/// Listings and lists of rights that no single buffer holds.
fn large() -> Vec<Vector> {
    let name = |at: usize| format!("{at:03}{}", "n".repeat(LONG - 3));
    let entries: Vec<String> = (0..ENTRIES)
        .map(|at| format!("symlink x /v/{}\n", name(at)))
        .collect();
    let rights: Vec<String> = (0..LINES)
        .map(|at| format!("setacl /v unix:{} rl\n", name(at)))
        .collect();
    let case = |verb: &str, setup: &[String], send: &str| {
        vector(format!("large.{verb}"), "", setup.to_vec(), send.to_owned())
    };
    vec![
        case("getdir", &entries, "getdir /v\n"),
        case("getlongdir", &entries, "getlongdir /v\n"),
        case("search", &entries, "search *n /v 0\n"),
        case("getacl", &rights, "getacl /v\n"),
    ]
}
