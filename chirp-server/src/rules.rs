//! The rule that each request needs, in one table, to be held against parts 3, 6 and 7 of
//! `chirp-protocol.md`.
//!
//! [`crate::dispatch`] asks the [`crate::authorize::Door`] for what stands here; the tests play each verb
//! with sets of rights and hold the answers against this table, so the two cannot part.

use chirp_proto::acl::Rights;

/// What a verb needs of its path.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// Sets of rights of which each is enough, in the letters of lists; `n` for none.
    pub enough: &'static [&'static str],
    /// In which directory they are needed.
    pub place: Place,
    /// Whether a link at the end of the path is followed first.
    pub follows: bool,
}

/// In which directory rights are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// No rights are asked for, or not by path.
    Nowhere,
    /// In the directory itself that the path names.
    Itself,
    /// In the path's directory; of a directory in itself (part 3.1).
    Governing,
    /// In the directory that holds the name.
    Holder,
    /// In the directory that holds the name, or for what is no directory in the one above (part 6.6).
    HolderOrAbove,
}

use Place::{Governing, Holder, HolderOrAbove, Itself, Nowhere};

/// The table. `open` needs each right that its letters ask for, `access` those of its mode; `link` and
/// `rename` need W for their second path too, `exec` and jobs R and W for their inputs and outputs.
pub const RULES: &[Rule] = &[
    rule(
        &["getfile", "getstream", "hash", "md5", "sha256"],
        &["r"],
        Governing,
        true,
    ),
    rule(
        &["getxattr", "listxattr", "thirdput"],
        &["r"],
        Governing,
        true,
    ),
    rule(
        &["lgetxattr", "llistxattr", "readlink"],
        &["r"],
        Governing,
        false,
    ),
    rule(
        &["stat", "statfs", "localpath", "lsalloc"],
        &["l"],
        Governing,
        true,
    ),
    rule(&["lstat"], &["l"], Governing, false),
    rule(&["getdir", "getlongdir", "search"], &["l"], Itself, true),
    rule(
        &["access", "open"],
        &["r", "w", "x", "l", "p"],
        Governing,
        true,
    ),
    rule(&["putfile", "putstream"], &["w", "p"], Governing, true),
    rule(
        &["chmod", "chown", "lchown", "truncate", "utime", "setrep"],
        &["w"],
        Governing,
        true,
    ),
    rule(&["setxattr", "removexattr"], &["w"], Governing, true),
    rule(&["lsetxattr", "lremovexattr"], &["w"], Governing, false),
    rule(&["symlink"], &["w"], Governing, false),
    rule(&["mkdir", "mkalloc"], &["w", "v"], Holder, false),
    rule(&["link"], &["rw"], Governing, false),
    rule(&["rename"], &["rwd"], HolderOrAbove, false),
    rule(&["unlink", "rmdir", "rmall"], &["d"], HolderOrAbove, false),
    rule(&["setacl", "resetacl", "audit"], &["a"], Itself, true),
    rule(&["getacl"], &["n"], Nowhere, true),
    rule(&["exec", "job_create", "job_commit"], &["x"], Itself, true),
    // By whose it is: the caller's own, or any for the superuser.
    rule(
        &[
            "ticket_register",
            "ticket_delete",
            "ticket_get",
            "ticket_list",
        ],
        &["n"],
        Nowhere,
        false,
    ),
    // Besides: all the rights that the mask leaves.
    rule(&["ticket_modify"], &["n"], Itself, true),
    rule(
        &["job_wait", "job_status", "job_reap", "job_kill"],
        &["n"],
        Nowhere,
        false,
    ),
    rule(
        &["exec_attach", "exec_status", "exec_wait", "exec_signal"],
        &["n"],
        Nowhere,
        false,
    ),
    rule(
        &["exec_list", "exec_remove", "exec_output"],
        &["n"],
        Nowhere,
        false,
    ),
    // The superuser's.
    rule(&["debug"], &["n"], Nowhere, false),
    rule(&["whoami", "whoareyou", "features"], &["n"], Nowhere, false),
    // By descriptors, which were opened with the rights for what they can do.
    rule(
        &[
            "close", "pread", "sread", "pwrite", "swrite", "fstat", "fstatfs",
        ],
        &["n"],
        Nowhere,
        false,
    ),
    rule(
        &["fsync", "ftruncate", "fchmod", "fchown"],
        &["n"],
        Nowhere,
        false,
    ),
    rule(
        &["fgetxattr", "flistxattr", "fsetxattr", "fremovexattr"],
        &["n"],
        Nowhere,
        false,
    ),
];

const fn rule(
    verbs: &'static [&'static str],
    enough: &'static [&'static str],
    place: Place,
    follows: bool,
) -> Rule {
    Rule {
        verbs,
        enough,
        place,
        follows,
    }
}

impl Rule {
    /// Returns the rule of a verb; verbs of HTCondor's dialect have those of the verbs they stand for.
    #[must_use]
    pub fn of(verb: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.verbs.contains(&verb))
    }

    /// Reports whether rights in [`Rule::place`] are enough.
    #[must_use]
    pub fn allows(&self, held: Rights) -> bool {
        self.enough
            .iter()
            .any(|set| held.contains(Rights::parse(set.as_bytes()).without_implied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_has_one_rule() {
        for rule in RULES {
            for verb in rule.verbs {
                let count = RULES
                    .iter()
                    .filter(|rule| rule.verbs.contains(verb))
                    .count();
                assert_eq!(count, 1, "{verb}");
            }
        }
    }

    #[test]
    fn every_verb_of_the_parser_has_a_rule() {
        // Words of the parser's own match, so that a new verb without a rule is noticed.
        let parser = include_str!("../../chirp-proto/src/parse/request.rs");
        let verbs = parser
            .lines()
            .filter(|line| line.trim_start().starts_with("b\""));
        let mut found = 0;
        for line in verbs.filter(|line| line.contains("=>")) {
            let names = line.split("=>").next().unwrap_or_default().split('|');
            for name in
                names.map(|name| name.trim().trim_start_matches("b\"").trim_end_matches('"'))
            {
                if name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                {
                    found += 1;
                    assert!(
                        Rule::of(name).is_some() || NO_VERBS.contains(&name),
                        "{name}"
                    );
                }
            }
        }
        assert!(found > 70, "{found}");
    }

    /// Words of other parts of the parser, and verbs that only HTCondor's dialect has: by descriptor, or
    /// never supported.
    const NO_VERBS: [&str; 15] = [
        "read",
        "write",
        "lseek",
        "version",
        "lookup",
        "constrain",
        "ulog",
        "get_job_attr",
        "get_job_attr_delayed",
        "set_job_attr",
        "set_job_attr_delayed",
        "out",
        "err",
        "cookie",
        "sha1",
    ];
}
