//! Each kind of object under each path.

use super::Case;
use super::template::{FILE, Role, Template, Word};
use crate::vector::{Login, Vector};

/// A kind of object.
struct Object {
    name: &'static str,
    /// For which requests it is tried.
    tried: Tried,
    /// The requests that make it.
    made: &'static [&'static str],
    /// What the host makes.
    host: &'static [&'static str],
    path: &'static str,
}

/// For which requests a kind of object is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tried {
    /// For every one.
    Always,
    /// Not for those that are like another ([`Template::alike`]).
    Mostly,
    /// For those of [`WHOLE`].
    Seldom,
}

const fn object(
    name: &'static str,
    tried: Tried,
    made: &'static [&'static str],
    path: &'static str,
) -> Object {
    Object {
        name,
        tried,
        made,
        host: &[],
        path,
    }
}

const fn by_host(
    name: &'static str,
    tried: Tried,
    made: &'static [&'static str],
    host: &'static [&'static str],
    path: &'static str,
) -> Object {
    Object {
        name,
        tried,
        made,
        host,
        path,
    }
}

const MKDIR: &str = "mkdir /v/d 448\n";
const CONTENT: &str = "putfile /v/d/x 420 1\n1";
const TO_FILE: &[&str] = &[FILE, "symlink f /v/l\n"];
const TO_DIRECTORY: &[&str] = &[MKDIR, CONTENT, "symlink d /v/l\n"];
const TO_CONTENT: &[&str] = &[MKDIR, CONTENT, "symlink d/x /v/l\n"];
const OUT: &[&str] = &["symlink ../../../etc/passwd /v/l\n"];

/// The kinds.
const OBJECTS: &[Object] = &[
    object("file", Tried::Always, &[FILE], "/v/f"),
    object("directory", Tried::Always, &[MKDIR, CONTENT], "/v/d"),
    object("empty-directory", Tried::Seldom, &[MKDIR], "/v/d"),
    object("link-to-file", Tried::Mostly, TO_FILE, "/v/l"),
    object("link-to-directory", Tried::Mostly, TO_DIRECTORY, "/v/l"),
    object("link-into-directory", Tried::Seldom, TO_CONTENT, "/v/l"),
    object("link-to-root", Tried::Seldom, &["symlink / /v/l\n"], "/v/l"),
    object("link-out", Tried::Mostly, OUT, "/v/l"),
    object(
        "link-to-missing",
        Tried::Always,
        &["symlink none /v/l\n"],
        "/v/l",
    ),
    object(
        "link-to-itself",
        Tried::Seldom,
        &["symlink l /v/l\n"],
        "/v/l",
    ),
    object(
        "hard-link",
        Tried::Seldom,
        &[FILE, "link /v/f /v/h\n"],
        "/v/h",
    ),
    by_host("fifo", Tried::Seldom, &[], &["fifo v/p"], "/v/p"),
    by_host("socket", Tried::Seldom, &[], &["socket v/s"], "/v/s"),
    object("missing", Tried::Always, &[], "/v/none"),
    object("missing-parent", Tried::Seldom, &[], "/v/none/x"),
    object("below-file", Tried::Mostly, &[FILE], "/v/f/x"),
    object("list", Tried::Seldom, &[MKDIR], "/v/d/.__acl"),
    by_host(
        "hidden-file",
        Tried::Always,
        &[],
        &["file v/.__x"],
        "/v/.__x",
    ),
    by_host(
        "unlisted-directory",
        Tried::Seldom,
        &[MKDIR, CONTENT],
        &["unlisted v/d"],
        "/v/d",
    ),
    object("root", Tried::Mostly, &[], "/"),
];

/// The requests for which all kinds are tried: each kind of answer, and of change, has one.
const WHOLE: &[&str] = &[
    "lstat",
    "open",
    "putfile",
    "putstream",
    "getfile",
    "getdir",
    "mkdir",
    "rmdir",
    "unlink",
    "rename",
    "setacl",
    "lsetxattr",
    "search",
];

/// Returns the vectors of this family.
#[must_use]
pub fn cases(template: &Template) -> Vec<Vector> {
    let mut cases = Vec::new();
    let most = match () {
        () if WHOLE.contains(&template.verb) => Tried::Seldom,
        () if template.alike() => Tried::Always,
        () => Tried::Mostly,
    };
    for (at, (word, kind)) in template.words.iter().enumerate() {
        let Word::Path(role) = kind else {
            continue;
        };
        for object in OBJECTS {
            // That is what the plain request is about.
            let plain = match role {
                Role::File => object.name == "file",
                Role::Directory => object.name == "directory",
                Role::Link => object.name == "link-to-file",
                Role::Name => object.name == "missing",
            };
            if plain || object.tried > most {
                continue;
            }
            let name = match template.paths() {
                1 => format!("object.{}", object.name),
                _ => format!("object.{word}={}", object.name),
            };
            let mut line = template.line();
            line.set(at, object.path);
            let mut setup = template.setup_without(at);
            setup.extend(object.made.iter().map(|&request| request.to_owned()));
            // A directory is made once.
            if setup.iter().any(|request| request == CONTENT) {
                setup.retain(|request| request != MKDIR);
                let place = setup.iter().position(|request| request == CONTENT);
                setup.insert(place.unwrap_or_default(), MKDIR.to_owned());
            }
            let case = Case {
                name,
                lines: vec![line],
                setup,
                host: object.host.iter().map(|&text| text.to_owned()).collect(),
                login: Login::Unix,
                probed: true,
            };
            cases.push(case.vector(template));
        }
    }
    cases
}
