//! Each right missing in turn, and all of them.

use super::Case;
use super::template::{Line, Role, Template, Word};
use crate::vector::{Login, Vector};

/// Who asks.
const CALLER: &str = "address:127.0.0.1";
/// All rights.
const ALL: &str = "rwldpaxv";
/// What the caller holds, by the name of the directory in which; the empty text stands for no line in the
/// list.
const HELD: &[(&str, &str)] = &[
    ("all", ALL),
    ("without-r", "wldpaxv"),
    ("without-w", "rldpaxv"),
    ("without-l", "rwdpaxv"),
    ("without-d", "rwlpaxv"),
    ("without-p", "rwldaxv"),
    ("without-a", "rwldpxv"),
    ("without-x", "rwldpav"),
    ("without-v", "rwldpax"),
    ("without-wp", "rldaxv"),
    ("none", ""),
];

/// Returns the vectors of this family: for each path of a request, rights in the directory that holds
/// it, and in the directory that it is. One vector asks the same of as many directories as there are
/// sets of rights; of a request that ends its connection there is one for each.
#[must_use]
pub fn cases(template: &Template) -> Vec<Vector> {
    let mut cases = Vec::new();
    for (at, (word, kind)) in template.words.iter().enumerate() {
        let Word::Path(role) = kind else {
            continue;
        };
        let mut places = vec![("in", false)];
        if *role == Role::Directory {
            places.push(("on", true));
        }
        for (place, on) in places {
            let name = match template.paths() {
                1 => format!("right.{place}"),
                _ => format!("right.{place}-{word}"),
            };
            if template.ends() {
                for held in HELD {
                    let name = format!("{name}.{}", held.0);
                    cases.push(case(template, at, on, name, &[*held]));
                }
            } else {
                cases.push(case(template, at, on, name, HELD));
            }
        }
    }
    cases
}

fn case(
    template: &Template,
    varied: usize,
    on: bool,
    name: String,
    sets: &[(&str, &str)],
) -> Vector {
    let mut case = Case {
        name,
        lines: Vec::new(),
        setup: Vec::new(),
        host: Vec::new(),
        login: Login::Address,
        probed: false,
    };
    for (place, rights) in sets {
        let place = format!("/v/{place}");
        case.setup.push(format!("mkdir {place} 448\n"));
        let line = prepare(template, varied, on, &place, rights, &mut case.setup);
        case.lines.push(line);
    }
    case.vector(template)
}

/// Returns the request about what is in `place`, with the rest of what makes it so.
fn prepare(
    template: &Template,
    varied: usize,
    on: bool,
    place: &str,
    rights: &str,
    setup: &mut Vec<String>,
) -> Line {
    let mut line = template.line();
    let mut grants = Vec::new();
    for (at, (_, kind)) in template.words.iter().enumerate() {
        let Word::Path(role) = kind else {
            continue;
        };
        let directory = if template.paths() > 1 {
            let directory = format!("{place}/{at}");
            setup.push(format!("mkdir {directory} 448\n"));
            directory
        } else {
            place.to_owned()
        };
        let (object, made) = role.at(&directory);
        setup.extend(made);
        let subject = template.acts_as(at).unwrap_or(CALLER);
        let held = if at == varied { rights } else { ALL };
        // Of a directory either its own list counts or that of the one that holds it; the other grants
        // nothing where the rights are varied, and all elsewhere.
        let both = at != varied && *role == Role::Directory;
        if both || at == varied && on {
            grants.push((object.clone(), subject, held));
        }
        if both || !(at == varied && on) {
            grants.push((directory, subject, held));
        }
        line.set(at, object);
    }
    setup.extend(template.made_besides(&line));
    setup.extend(
        grants
            .into_iter()
            .filter(|(_, _, held)| !held.is_empty())
            .map(|(path, subject, held)| format!("setacl {path} {subject} {held}\n")),
    );
    line
}
