//! What programs may reach, and who may run which: two small files that the administrator may give.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use chirp_proto::acl::{Acl, Rights};
use exec_ext::runner::Reach;
use serde::Deserialize;

/// What programs may read where no policy says otherwise: what a system installs, its settings, and
/// what it tells of itself.
const READ: [&str; 12] = [
    "/bin",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix",
    "/opt",
    "/proc",
    "/run/systemd/resolve",
    "/sbin",
    "/sys",
    "/usr",
];

/// What they may write besides: devices that keep nothing.
const WRITE: [&str; 8] = [
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/random",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];

/// The content of a `--sandbox-policy` file. What it does not name keeps its default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Policy {
    /// Files and directories that programs may read and execute, besides the exported tree.
    read: Vec<PathBuf>,
    /// Likewise, to read and to write, besides what lies below the request's `path`.
    write: Vec<PathBuf>,
    /// Whether programs may use the network.
    network: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            read: READ.map(PathBuf::from).into(),
            write: WRITE.map(PathBuf::from).into(),
            network: true,
        }
    }
}

/// Reads what programs may reach, which always includes reading the tree at `root`.
///
/// # Errors
///
/// The file cannot be read, is no policy, or names a path that is not absolute, or one through which
/// programs could reach the server's own state below `transient`.
pub(super) fn reach(file: Option<&Path>, root: &Path, transient: &Path) -> anyhow::Result<Reach> {
    let policy = match file {
        None => Policy::default(),
        Some(file) => {
            let named = || format!("sandbox policy {}", file.display());
            let text = fs::read_to_string(file).with_context(named)?;
            let policy: Policy = toml::from_str(&text).with_context(named)?;
            for path in policy.read.iter().chain(&policy.write) {
                ensure!(
                    path.is_absolute(),
                    "{}: {} is not absolute",
                    named(),
                    path.display()
                );
            }
            policy
        }
    };
    for path in policy.read.iter().chain(&policy.write) {
        let real = path.canonicalize();
        ensure!(
            real.is_err() || real.is_ok_and(|real| !transient.starts_with(real)),
            "programs could reach the transient directory {} through {} of the sandbox policy; \
             name another one with -y",
            transient.display(),
            path.display()
        );
    }
    let mut read = policy.read;
    read.push(root.to_owned());
    Ok(Reach {
        read,
        write: policy.write,
        network: policy.network,
    })
}

/// Who may run which programs, from an `--exec-allow` file.
#[derive(Debug)]
pub(super) struct Allowed(Vec<(Acl, Vec<PathBuf>)>);

impl Allowed {
    /// Reads a file of subjects, with wildcards as in an ACL, and their programs.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is none.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let named = || format!("list of allowed programs {}", file.display());
        let text = fs::read_to_string(file).with_context(named)?;
        let lists: BTreeMap<String, Vec<PathBuf>> = toml::from_str(&text).with_context(named)?;
        let mut all = Vec::new();
        for (subject, programs) in lists {
            ensure!(
                !subject.is_empty() && !subject.contains(char::is_whitespace),
                "{}: {subject:?} is no subject",
                named()
            );
            for program in &programs {
                ensure!(
                    program.is_absolute(),
                    "{}: {} is not absolute",
                    named(),
                    program.display()
                );
            }
            // The one place that knows how subjects match is the ACL.
            all.push((Acl::parse(format!("{subject} x\n").as_bytes()), programs));
        }
        Ok(Self(all))
    }

    /// Says whether `subject` may run `program`: everything where no list is for it, else what one of
    /// its lists names.
    pub(super) fn allows(&self, subject: &str, program: &Path) -> bool {
        let mut own = self
            .0
            .iter()
            .filter(|(who, _)| who.rights_of(subject).contains(Rights::EXECUTE))
            .peekable();
        if own.peek().is_none() {
            return true;
        }
        let Ok(program) = program.canonicalize() else {
            return false;
        };
        own.flat_map(|(_, programs)| programs)
            .any(|named| named.canonicalize().is_ok_and(|named| named == program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_policy_changes_what_it_names() {
        let (root, state) = (Path::new("/srv/tree"), Path::new("/var/state"));
        let default = reach(None, root, state).unwrap();
        assert!(default.network && default.read.contains(&root.to_owned()));
        let policy = file("read = [\"/usr\"]\nnetwork = false\n");
        let own = reach(Some(policy.path()), root, state).unwrap();
        assert_eq!(own.read, [Path::new("/usr"), root]);
        assert!(!own.network);
        assert_eq!(own.write, default.write);
    }

    #[test]
    fn a_policy_that_is_wrong_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().canonicalize().unwrap();
        for wrong in [
            "reed = []",
            "read = [\"usr\"]",
            "network = 1",
            "write = [\"/\"]",
        ] {
            let policy = file(wrong);
            let outcome = reach(Some(policy.path()), Path::new("/srv/tree"), &state);
            assert!(outcome.is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_subject_with_a_list_may_run_only_what_it_names() {
        let list = file(
            "\"unix:alice\" = [\"/bin/sh\"]\n\"address:10.*\" = []\n\"unix:*\" = [\"/bin/true\"]\n",
        );
        let allowed = Allowed::read(list.path()).unwrap();
        let may = |subject, program| allowed.allows(subject, Path::new(program));
        assert!(may("unix:alice", "/bin/sh") && may("unix:alice", "/usr/bin/true"));
        assert!(!may("unix:alice", "/bin/cat") && !may("unix:bob", "/bin/sh"));
        assert!(!may("address:10.0.0.1", "/bin/true"));
        assert!(may("hostname:other", "/bin/cat"));
        for wrong in ["\"unix:a b\" = []", "\"unix:a\" = [\"sh\"]", "x = 1", "["] {
            assert!(Allowed::read(file(wrong).path()).is_err(), "{wrong}");
        }
    }
}
