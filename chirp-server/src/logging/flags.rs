//! What `-d FLAG` and the request `debug FLAG` turn on: the reference's flags, and what they are here.

/// What a flag stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Forget the flags before this one.
    Clear,
    /// Log in detail what is said under this directive.
    Detail(&'static str),
    /// Always logged, or about something that this server does not do.
    Nothing,
}

use Meaning::{Clear, Detail, Nothing};

/// Flags with a meaning here: the reference's, then ours.
const MEANINGS: &[(&str, Meaning)] = &[
    ("clear", Clear),
    ("all", Detail("debug")),
    ("debug", Detail("chirp_server=debug")),
    ("auth", Detail("auth=debug")),
    ("login", Detail("auth=debug")),
    ("user", Detail("auth=debug")),
    ("dns", Detail("dns=debug")),
    ("resolve", Detail("dns=debug")),
    ("chirp", Detail("chirp=debug")),
    ("tcp", Detail("tcp=debug")),
    ("process", Detail("exec=debug")),
    ("local", Detail("chirp_server::vfs=debug")),
    ("alloc", Detail("chirp_server::space=debug")),
    ("catalog", Detail("catalog=debug")),
    ("exec", Detail("exec=debug")),
    ("beacon", Detail("beacon=debug")),
    // Errors and notices are always logged, with the time.
    ("fatal", Nothing),
    ("error", Nothing),
    ("notice", Nothing),
    ("time", Nothing),
    ("pid", Nothing),
];

/// The reference's flags for what this server does not have: other file systems, other programs.
const ELSEWHERE: &[&str] = &[
    "syscall",
    "channel",
    "libcall",
    "http",
    "ftp",
    "nest",
    "cvmfs",
    "multi",
    "dcap",
    "rfio",
    "glite",
    "lfc",
    "gfal",
    "grow",
    "pstree",
    "cache",
    "poll",
    "hdfs",
    "bxgrid",
    "irods",
    "wq",
    "mpi",
    "xrootd",
    "remote",
    "batch",
    "rmonitor",
    "makeflow",
    "makeflow_run",
    "makeflow_alloc",
    "makeflow_lexer",
    "makeflow_parser",
    "makeflow_hook",
    "ext",
    "confuga",
    "dataswarm",
    "tlq",
    "jx",
];

/// Returns what a flag stands for, or nothing for one that nobody knows.
pub(super) fn meaning(flag: &str) -> Option<Meaning> {
    let found = MEANINGS.iter().find(|(name, _)| *name == flag);
    found
        .map(|(_, meaning)| *meaning)
        .or_else(|| ELSEWHERE.contains(&flag).then_some(Nothing))
}

/// Returns the names of the flags that do something, as a list for people.
pub(super) fn known() -> String {
    let useful = MEANINGS.iter().filter(|(_, meaning)| *meaning != Nothing);
    useful.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `chirp_server --help` of the reference lists them.
    const REFERENCE: &str = "clear fatal error notice debug syscall channel process resolve libcall tcp dns \
        auth local http ftp nest chirp cvmfs multi dcap rfio glite lfc gfal grow pstree alloc cache poll hdfs \
        bxgrid login irods wq mpi user xrootd remote batch rmonitor makeflow makeflow_run makeflow_alloc \
        makeflow_lexer makeflow_parser makeflow_hook ext rmonitor confuga dataswarm tlq jx all time pid";

    #[test]
    fn every_flag_of_the_reference_is_known() {
        for flag in REFERENCE.split_whitespace() {
            assert!(meaning(flag).is_some(), "{flag}");
        }
        assert_eq!(meaning("telepathy"), None);
        assert_eq!(meaning("Auth"), None);
    }
}
