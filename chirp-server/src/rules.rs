//! The rule that each request needs, in one table, to be held against parts 3, 6 and 7 of
//! `chirp-protocol.md`.
//!
//! [`crate::dispatch`] asks the [`crate::authorize::Door`] for what stands here, and each way through the
//! door says in which directory, and whether a link at the end is followed. `tests/files/rights.rs` plays
//! verbs of most rows with sets of rights, and holds the answers against this table.

use chirp_proto::acl::Rights;

/// What a verb needs.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// Sets of rights of which each is enough, in the letters of lists; `n` for none.
    pub enough: &'static [&'static str],
}

/// The table. `open` needs each right that its letters ask for, `access` those of its mode; `link` and
/// `rename` need W for their second path too, `exec` and jobs R and W for their inputs and outputs.
pub const RULES: &[Rule] = &[
    rule(&["getfile", "getstream", "hash", "md5", "sha256"], &["r"]),
    rule(&["getxattr", "listxattr"], &["r"]),
    rule(&["lgetxattr", "llistxattr", "readlink"], &["r"]),
    rule(&["stat", "statfs", "localpath", "lsalloc"], &["l"]),
    // R of a file or a link, which is copied itself; L of a directory.
    rule(&["thirdput"], &["r", "l"]),
    rule(&["lstat"], &["l"]),
    rule(&["getdir", "getlongdir", "search"], &["l"]),
    rule(&["access", "open"], &["r", "w", "x", "l", "p"]),
    rule(&["putfile", "putstream", "store"], &["w", "p"]),
    rule(
        &["chmod", "chown", "lchown", "truncate", "utime", "setrep"],
        &["w"],
    ),
    rule(&["setxattr", "removexattr"], &["w"]),
    rule(&["lsetxattr", "lremovexattr"], &["w"]),
    rule(&["symlink"], &["w"]),
    rule(&["mkdir", "mkalloc"], &["w", "v"]),
    rule(&["link"], &["rw"]),
    rule(&["rename"], &["rwd"]),
    rule(&["unlink", "rmdir", "rmall"], &["d"]),
    rule(&["setacl", "resetacl", "audit"], &["a"]),
    rule(&["getacl"], &["n"]),
    rule(&["exec", "job_create", "job_commit"], &["x"]),
    // By whose it is: the caller's own, or any for the superuser.
    rule(
        &[
            "ticket_register",
            "ticket_delete",
            "ticket_get",
            "ticket_list",
        ],
        &["n"],
    ),
    // Besides: all the rights that the mask leaves.
    rule(&["ticket_modify"], &["n"]),
    rule(&["job_wait", "job_status", "job_reap", "job_kill"], &["n"]),
    rule(
        &["exec_attach", "exec_status", "exec_wait", "exec_signal"],
        &["n"],
    ),
    rule(&["exec_list", "exec_remove", "exec_output"], &["n"]),
    // The superuser's.
    rule(&["debug"], &["n"]),
    rule(&["whoami", "whoareyou", "features"], &["n"]),
    // By descriptors, which were opened with the rights for what they can do.
    rule(
        &[
            "close", "pread", "sread", "pwrite", "swrite", "fstat", "fstatfs",
        ],
        &["n"],
    ),
    rule(&["fsync", "ftruncate", "fchmod", "fchown"], &["n"]),
    rule(
        &["fgetxattr", "flistxattr", "fsetxattr", "fremovexattr"],
        &["n"],
    ),
];

const fn rule(verbs: &'static [&'static str], enough: &'static [&'static str]) -> Rule {
    Rule { verbs, enough }
}

impl Rule {
    /// Returns the rule of a verb; verbs of HTCondor's dialect have those of the verbs they stand for.
    #[must_use]
    pub fn of(verb: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.verbs.contains(&verb))
    }

    /// Reports whether rights in the directory that counts are enough.
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
