//! Each way to write each path.

use super::Case;
use super::template::{Role, Template, Word};
use crate::vector::{Login, Vector};

/// Ways to write the path of the object `N` in `/v`.
const SPELLINGS: &[(&str, &str)] = &[
    ("mixed", "../v//./none/../N"),
    ("relative", "v/N"),
    ("relative-dot", "./v/N"),
    ("relative-dot-dot", "../v/N"),
    ("dot", "/v/./N"),
    ("dot-dot", "/v/none/../N"),
    ("above-root", "/../../v/N"),
    ("slashes", "//v///N"),
    ("trailing-slash", "/v/N/"),
    ("trailing-slashes", "/v/N//"),
    ("trailing-dot", "/v/N/."),
    ("trailing-dot-dot", "/v/N/x/.."),
    ("parent", "/v/N/.."),
    ("only-dot", "."),
    ("only-dot-dot", ".."),
    ("escaped-slash", "%2Fv%2fN"),
    ("escaped-dot-dot", "/v/x/%2E%2e/N"),
    ("escaped-name", "/v/%N"),
    ("escaped-nul", "/v/N%00x"),
    ("escaped-escape", "/v/%25N"),
    ("query", "/v/N?x#y"),
];

/// Names, as they are written; where an object must exist, it has that name.
const NAMES: &[(&str, &str)] = &[
    ("blank", "a%20b"),
    ("tab", "a%09b"),
    ("control", "a%01b"),
    ("percent", "a%25b"),
    ("plus", "a+b"),
    ("star", "*"),
    ("backslash", "a\\b"),
    ("quote", "a'b\"c"),
    ("colon", "a:b"),
    ("bar", "a|b"),
    ("dash", "-a"),
    ("three-dots", "..."),
    ("dotted", ".x"),
    ("delete", "a%7Fb"),
    ("utf-8", "\u{c3}\u{a9}"),
    ("escaped-utf-8", "%C3%A9"),
    ("high-byte", "%ff"),
];

/// The longest name, and one byte more.
const LONGEST: usize = 255;
/// Spellings that are tried for every verb; the first has in it what most of the others have.
const COMMON: &[&str] = &["mixed", "trailing-slash"];
/// Requests for which every spelling is tried; for the others it is the same.
const SPELLED: &[&str] = &["lstat", "putfile", "getdir"];
/// Requests for which every name is tried.
const NAMED: &[&str] = &["putfile"];

/// Returns the vectors of this family.
#[must_use]
pub fn cases(template: &Template) -> Vec<Vector> {
    let mut cases = Vec::new();
    for (at, (word, kind)) in template.words.iter().enumerate() {
        let Word::Path(role) = kind else {
            continue;
        };
        let name = |what: &str| match template.paths() {
            1 => format!("path.{what}"),
            _ => format!("path.{word}={what}"),
        };
        let mut add = |name: String, path: String, made: Vec<String>| {
            let mut line = template.line();
            line.set(at, path);
            let mut setup = template.setup_without(at);
            setup.extend(made);
            let case = Case {
                name,
                lines: vec![line],
                setup,
                host: Vec::new(),
                login: Login::Unix,
                probed: true,
            };
            cases.push(case.vector(template));
        };
        let all = SPELLED.contains(&template.verb);
        for (spelling, path) in SPELLINGS {
            let common = COMMON.contains(spelling) && !template.alike();
            if !all && !common {
                continue;
            }
            add(name(spelling), spelled(path, *role), role.at("/v").1);
        }
        for extra in if all { [0, 1].as_slice() } else { &[] } {
            let path = format!("/v/{}", "n".repeat(LONGEST + extra));
            let made = match *extra {
                0 => role.made(&path),
                _ => Vec::new(),
            };
            add(name(&format!("name-of-{}", LONGEST + extra)), path, made);
        }
        if !NAMED.contains(&template.verb) {
            continue;
        }
        for (what, text) in NAMES {
            let path = format!("/v/{text}");
            let made = role.made(&path);
            add(name(&format!("name-{what}")), path, made);
        }
        let deep = "/v".to_owned() + &"/d".repeat(60);
        add(name("deep"), deep, Vec::new());
        if *role == Role::Name {
            add(name("name-line-feed"), "/v/a%0Ab".to_owned(), Vec::new());
        }
    }
    cases
}

fn spelled(path: &str, role: Role) -> String {
    let name = role.name();
    let escaped: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    match path.split_once("%N") {
        Some((before, behind)) => format!("{before}%{escaped}{behind}"),
        None => path.replace('N', name),
    }
}
