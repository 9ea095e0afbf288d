//! What keeps a program to what it needs: Landlock rules for files, signals and the network, and a
//! filter against system calls that have no place in a job.
//!
//! Both need no privileges and pass on to every descendant. The rules are laid out before the fork;
//! the child only enters them, which allocates nothing.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::enclosure::{self, Enclosure, Enclosures};
use super::sys;

/// The newest rules that this knows; older kernels enforce what they have of them.
const KNOWN: ABI = ABI::V6;

/// Names in the type of a namespace: `CLONE_NEW…`.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

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
    filter: Option<Arc<BpfProgram>>,
    enclosures: Option<Enclosures>,
}

impl Confinement {
    /// Finds out what this kernel enforces of `reach`.
    #[must_use]
    pub fn new(reach: Reach) -> Self {
        let landlock = sys::landlock_version();
        let filter = filter(landlock > 0, reach.network)
            .inspect_err(|error| tracing::warn!(%error, "system calls cannot be filtered"));
        Self {
            reach,
            landlock,
            filter: filter.ok().map(Arc::new),
            enclosures: None,
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
        self.enclosures = Some(Enclosures::open(self.filter.clone())?);
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
        Ok(Cell {
            ruleset: self.ruleset(cwd, temporary).map_err(io::Error::other)?,
            filter: self.filter.clone(),
            processes: match self.enclosures {
                Some(_) => processes(&self.reach.read),
                None => Vec::new(),
            },
        })
    }

    fn ruleset(
        &self,
        cwd: BorrowedFd<'_>,
        temporary: BorrowedFd<'_>,
    ) -> Result<Option<OwnedFd>, landlock::RulesetError> {
        let (read, all) = (AccessFs::from_read(KNOWN), AccessFs::from_all(KNOWN));
        let mut ruleset = Ruleset::default()
            .handle_access(all)?
            .scope(Scope::from_all(KNOWN))?;
        if !self.reach.network {
            ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
        }
        let beneath = |directory, access: BitFlags<AccessFs>| PathBeneath::new(directory, access);
        let created = ruleset
            .create()?
            .add_rules(path_beneath_rules(&self.reach.read, read))?
            .add_rules(path_beneath_rules(&self.reach.write, all))?
            .add_rule(beneath(cwd, all))?
            .add_rule(beneath(temporary, all))?;
        Ok(created.into())
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
    filter: Option<Arc<BpfProgram>>,
    /// What of `/proc` it may read: in an enclosure that is another file system than the server's.
    processes: Vec<CString>,
}

impl Cell {
    /// Confines the calling process for ever, which may have joined an enclosure. Allocates nothing.
    pub(super) fn enter(&self, enclosed: bool) -> io::Result<()> {
        if let Some(ruleset) = &self.ruleset {
            for path in self.processes.iter().filter(|_| enclosed) {
                // What does not exist is passed over, as everywhere in the policy.
                let _ = sys::landlock_add_readable(ruleset, path);
            }
            sys::landlock_enter(ruleset)?;
        }
        if let Some(filter) = &self.filter {
            seccompiler::apply_filter(filter).map_err(|_| io::Error::last_os_error())?;
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

/// Makes the filter of system calls. Where Landlock keeps programs from tracing others they may trace
/// their own children.
fn filter(landlock: bool, network: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let always = never_needed().into_iter();
    let tracing = [
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
    ];
    rules.extend(always.map(|call| (call, Vec::new())));
    if !landlock {
        rules.extend(tracing.map(|call| (call, Vec::new())));
    }
    let argument = |index, operator, value| {
        let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?;
        SeccompRule::new(vec![condition])
    };
    let mut namespaces = Vec::new();
    for flag in NAMESPACES {
        let bit = u64::from(flag.cast_unsigned());
        namespaces.push(argument(0, SeccompCmpOp::MaskedEq(bit), bit)?);
    }
    rules.insert(libc::SYS_unshare, namespaces.clone());
    rules.insert(libc::SYS_clone, namespaces);
    // Whoever is the same user may set limits of any process, and so starve the server. Reading them is
    // free, and so are one's own.
    let of_another = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0)?;
    let to_set = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    rules.insert(
        libc::SYS_prlimit64,
        vec![SeccompRule::new(vec![of_another, to_set])?],
    );
    // What puts characters into a terminal's input, as if somebody had typed them.
    let mut injections = Vec::new();
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        injections.push(argument(1, SeccompCmpOp::Eq, request)?);
    }
    rules.insert(libc::SYS_ioctl, injections);
    if !network {
        let local = libc::AF_UNIX.cast_unsigned();
        let other = argument(0, SeccompCmpOp::Ne, u64::from(local))?;
        rules.insert(libc::SYS_socket, vec![other]);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        TargetArch::try_from(std::env::consts::ARCH)?,
    )?;
    let compiled: BpfProgram = filter.try_into()?;
    let mut program = Vec::from(UNKNOWN_CALLS);
    program.extend(compiled);
    Ok(program)
}

/// Answers as an older kernel to calls that a filter cannot look into: `clone3`, whose flags are in
/// memory (programs then use `clone`), and those of the x32 convention, which have numbers of their own.
const UNKNOWN_CALLS: [sock_filter; 4] = {
    const fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
        sock_filter { code, jt, jf, k }
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the number of a system call and an errno are small and positive"
    )]
    let (clone3, enosys) = (libc::SYS_clone3 as u32, libc::ENOSYS as u32);
    [
        // Load the number, which lies first.
        step(0x20, 0, 0, 0),
        // If it is clone3, go to the answer.
        step(0x15, 1, 0, clone3),
        // If it is not above all ordinary ones, skip the answer.
        step(0x35, 0, 1, 0x4000_0000),
        step(0x06, 0, 0, 0x0005_0000 | enosys),
    ]
};

/// Calls that no job needs, most of which need privileges that no job has.
fn never_needed() -> Vec<i64> {
    let mut calls = vec![
        libc::SYS_acct,
        libc::SYS_add_key,
        libc::SYS_adjtimex,
        libc::SYS_bpf,
        libc::SYS_chroot,
        libc::SYS_clock_adjtime,
        libc::SYS_clock_settime,
        libc::SYS_delete_module,
        libc::SYS_finit_module,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_init_module,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_uring_setup,
        libc::SYS_kcmp,
        libc::SYS_kexec_file_load,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_lookup_dcookie,
        libc::SYS_mount,
        libc::SYS_mount_setattr,
        libc::SYS_move_mount,
        libc::SYS_nfsservctl,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_perf_event_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pivot_root,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_reboot,
        libc::SYS_request_key,
        libc::SYS_setdomainname,
        libc::SYS_sethostname,
        libc::SYS_setns,
        libc::SYS_settimeofday,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_syslog,
        libc::SYS_umount2,
        libc::SYS_userfaultfd,
        libc::SYS_vhangup,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_ioperm, libc::SYS_iopl]);
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_can_be_made_for_every_kind_of_reach() {
        for landlock in [false, true] {
            for network in [false, true] {
                let program = filter(landlock, network).unwrap();
                assert!(program.len() > UNKNOWN_CALLS.len());
            }
        }
    }

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
