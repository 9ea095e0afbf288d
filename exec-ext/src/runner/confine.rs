//! What keeps a program to what it needs: Landlock rules for files, signals and the network, and a
//! filter against system calls that have no place in a job.
//!
//! Both need no privileges and pass on to every descendant. The rules are laid out before the fork;
//! the child only enters them, which allocates nothing.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::enclosure::{self, Enclosure, Enclosures};
use super::filter::Filter;
use super::sys;
use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};

/// The newest rules that this knows; older kernels enforce what they have of them.
const KNOWN: ABI = ABI::V6;

/// What programs may reach besides their working directory and a temporary one of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Files and directories with all below them that programs may read and execute.
    pub read: Vec<PathBuf>,
    /// Likewise, to read and to write.
    pub write: Vec<PathBuf>,
    /// Whether they may use the network. Unix sockets are files.
    pub network: bool,
}

/// The confinement of a server's programs, as far as this kernel has it.
pub struct Confinement {
    reach: Reach,
    landlock: u32,
    filter: Option<Arc<Filter>>,
    enclosures: Option<Enclosures>,
    /// Rules without those for one program, and when they were laid out.
    next: Mutex<Option<(Instant, RulesetCreated)>>,
}

/// How long rules are kept for the next program: they are for files of the moment at which they were laid out.
const RULES_LIFE: Duration = Duration::from_secs(5);

impl Confinement {
    /// Finds out what this kernel enforces of `reach`.
    #[must_use]
    pub fn new(reach: Reach) -> Self {
        let landlock = sys::landlock_version();
        let filter = Filter::new(landlock > 0, reach.network)
            .inspect_err(|error| tracing::warn!(%error, "system calls cannot be filtered"));
        Self {
            reach,
            landlock,
            filter: filter.ok().map(Arc::new),
            enclosures: None,
            next: Mutex::default(),
        }
    }

    /// Returns what programs may reach.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Gives each program user, pid and mount namespaces of its own. Blocks until that has been tried.
    ///
    /// # Errors
    ///
    /// There are none to be had here: the system's error. Nothing has changed then.
    pub fn enclose(&mut self) -> io::Result<()> {
        self.enclosures = Some(Enclosures::open(self.filter.clone(), self.landlock > 0)?);
        Ok(())
    }

    /// Says whether programs have namespaces of their own.
    #[must_use]
    pub fn namespaces(&self) -> bool {
        self.enclosures.is_some()
    }

    /// Says whether the processes of one execution can be limited.
    #[must_use]
    pub fn limits_processes(&self) -> bool {
        self.namespaces() && enclosure::counts_processes()
    }

    /// Returns namespaces for one program, where it gets its own.
    pub(super) fn enclosure(&self) -> io::Result<Option<Enclosure>> {
        self.enclosures.as_ref().map(Enclosures::take).transpose()
    }

    /// Returns the version of Landlock's rules that the kernel has; 0 for none.
    #[must_use]
    pub fn landlock(&self) -> u32 {
        self.landlock
    }

    /// Says whether system calls are filtered.
    #[must_use]
    pub fn seccomp(&self) -> bool {
        self.filter.is_some()
    }

    /// Returns what is not enforced on this kernel, in words; empty where all is.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        match self.landlock {
            0 => missing.push("files (Landlock is not available)"),
            1 | 2 => missing.push("truncation of files (Linux before 6.2)"),
            _ => {}
        }
        if self.landlock < 6 {
            missing.push("signals to other processes (Linux before 6.12)");
        }
        if self.filter.is_none() {
            missing.push("system calls (no filter)");
        }
        missing
    }

    /// Lays out the rules for one program that may write below `cwd` and `temporary`.
    pub(super) fn cell(&self, cwd: BorrowedFd<'_>, temporary: BorrowedFd<'_>) -> io::Result<Cell> {
        let next = self.next().take();
        let next = next.filter(|(made, _)| made.elapsed() < RULES_LIFE);
        let rules = next.map_or_else(|| self.rules(), |(_, rules)| Ok(rules));
        let below = |directory| PathBeneath::new(directory, AccessFs::from_all(KNOWN));
        let rules = rules.and_then(|rules| {
            let rules = rules.add_rule(below(cwd))?.add_rule(below(temporary))?;
            Ok(rules.into())
        });
        Ok(Cell {
            ruleset: rules.map_err(io::Error::other)?,
            filter: self.filter.clone(),
            processes: match self.enclosures {
                Some(_) => processes(&self.reach.read),
                None => Vec::new(),
            },
        })
    }

    /// Lays out most of the rules for another program, so that it can be started sooner.
    pub(super) fn prepare_next(&self) {
        // What fails is tried again then, and told.
        if let Ok(rules) = self.rules() {
            *self.next() = Some((Instant::now(), rules));
        }
    }

    /// Lays out the rules that are the same for all programs.
    fn rules(&self) -> Result<RulesetCreated, RulesetError> {
        let (read, all) = (AccessFs::from_read(KNOWN), AccessFs::from_all(KNOWN));
        let mut ruleset = Ruleset::default()
            .handle_access(all)?
            .scope(Scope::from_all(KNOWN))?;
        if !self.reach.network {
            ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
        }
        let created = ruleset
            .create()?
            .add_rules(path_beneath_rules(&self.reach.read, read))?
            .add_rules(path_beneath_rules(&self.reach.write, all))?;
        Ok(created)
    }

    fn next(&self) -> MutexGuard<'_, Option<(Instant, RulesetCreated)>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confinement")
            .field("reach", &self.reach)
            .field("landlock", &self.landlock)
            .field("seccomp", &self.seccomp())
            .field("namespaces", &self.namespaces())
            .finish()
    }
}

/// The rules of one program, to be entered by it.
pub(super) struct Cell {
    ruleset: Option<OwnedFd>,
    filter: Option<Arc<Filter>>,
    /// What of `/proc` it may read: in an enclosure that is another file system than the server's.
    processes: Vec<CString>,
}

impl Cell {
    /// Confines the calling process for ever, which may have joined an enclosure, and may have a launcher's filter.
    /// Allocates nothing.
    pub(super) fn enter(&self, enclosed: bool, is_filtered: bool) -> io::Result<()> {
        if let Some(ruleset) = &self.ruleset {
            for path in self.processes.iter().filter(|_| enclosed) {
                // What does not exist is passed over, as everywhere in the policy.
                let _ = sys::landlock_add_readable(ruleset, path);
            }
            sys::landlock_enter(ruleset)?;
        }
        if let Some(filter) = self.filter.as_ref().filter(|_| !is_filtered) {
            filter.enter()?;
        }
        Ok(())
    }
}

/// Returns the paths in and of `/proc`.
fn processes(paths: &[PathBuf]) -> Vec<CString> {
    let own = paths.iter().filter(|path| path.starts_with("/proc"));
    own.filter_map(|path| CString::new(path.as_os_str().as_bytes()).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let reach = Reach {
            read: Vec::new(),
            write: Vec::new(),
            network: true,
        };
        let mut confinement = Confinement::new(reach);
        confinement.landlock = 7;
        assert!(confinement.missing().is_empty());
        confinement.landlock = 2;
        assert_eq!(confinement.missing().len(), 2);
        confinement.landlock = 0;
        confinement.filter = None;
        assert_eq!(confinement.missing().len(), 3);
        assert!(!confinement.seccomp());
    }
}
