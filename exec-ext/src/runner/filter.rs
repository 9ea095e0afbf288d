//! The filter of system calls: which have no place in a job.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

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

/// What keeps system calls from programs.
#[derive(Debug)]
pub(super) struct Filter {
    program: BpfProgram,
    /// The same, but for what a launcher says with its password.
    launcher: BpfProgram,
    password: u64,
}

impl Filter {
    /// Makes the filter. Where Landlock keeps programs from tracing others they may trace their own children.
    ///
    /// # Errors
    ///
    /// The system has no random numbers, or the filter cannot be made.
    pub(super) fn new(landlock: bool, network: bool) -> io::Result<Self> {
        let password = getrandom::u64().map_err(io::Error::other)?;
        let made = |password| filter(landlock, network, password).map_err(io::Error::other);
        Ok(Self {
            program: made(None)?,
            launcher: made(Some(password))?,
            password,
        })
    }

    /// Returns the steps of a program's filter.
    pub(super) fn steps(&self) -> &[sock_filter] {
        &self.program
    }

    /// Returns what a launcher gives as the thread-local storage of a sibling that it starts, which has none. A program
    /// inherits the launcher's filter, but cannot read it, and so does not know this.
    pub(super) fn password(&self) -> u64 {
        self.password
    }

    /// Filters the calls of the calling thread and its children for ever. Allocates nothing.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn enter(&self) -> io::Result<()> {
        enter(&self.program)
    }

    /// Likewise for a launcher and the programs that it starts.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn enter_launcher(&self) -> io::Result<()> {
        enter(&self.launcher)
    }
}

fn enter(program: &BpfProgram) -> io::Result<()> {
    seccompiler::apply_filter(program).map_err(|_| io::Error::last_os_error())
}

/// Which argument of `clone` is the thread-local storage, see clone(2).
const CLONE_TLS: u8 = if cfg!(target_arch = "x86_64") { 4 } else { 3 };

/// Makes a filter of system calls. With the password, siblings may be started.
fn filter(
    landlock: bool,
    network: bool,
    password: Option<u64>,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut refused = never_needed();
    if !landlock {
        refused.extend([
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
        ]);
    }
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
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
    // Who starts a sibling starts a child of the server, which nobody would look for.
    let parent = u64::from(libc::CLONE_PARENT.cast_unsigned());
    let (length, is_sibling) = (SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(parent));
    let mut sibling = vec![SeccompCondition::new(0, length, is_sibling, parent)?];
    if let Some(password) = password {
        let (length, is_other) = (SeccompCmpArgLen::Qword, SeccompCmpOp::Ne);
        sibling.push(SeccompCondition::new(
            CLONE_TLS, length, is_other, password,
        )?);
    }
    namespaces.push(SeccompRule::new(sibling)?);
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
    let verdicts = refused
        .into_iter()
        .map(|call| (call, Verdict::Refuse))
        .chain(rules.keys().map(|&call| (call, Verdict::Examine)))
        .chain([(libc::SYS_clone3, Verdict::Unknown)]);
    let verdicts =
        verdicts.filter_map(|(call, verdict)| Some((u32::try_from(call).ok()?, verdict)));
    let mut program = by_number(&verdicts.collect());
    let examination = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        TargetArch::try_from(std::env::consts::ARCH)?,
    )?;
    program.extend(BpfProgram::try_from(examination)?);
    Ok(program)
}

/// What becomes of a system call, as far as its number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// The error of what is not permitted.
    Refuse,
    /// The error of an older kernel, for calls that a filter cannot look into: `clone3`, whose flags are in memory
    /// (programs then use `clone`), and those of the x32 convention, which have numbers of their own.
    Unknown,
    /// Its arguments tell: by what follows.
    Examine,
}

/// Numbers from here on belong to the x32 convention.
const X32: u32 = 0x4000_0000;

/// Makes the beginning of a filter, which decides by number and runs into what follows for calls to be examined and
/// for those of another architecture. Numbers that are not named are allowed.
///
/// The kernel runs a new filter for every call that there is, to learn which are always allowed. With a comparison
/// for each call, one after the other, that takes half a millisecond each time a program is started. This
/// searches by halves.
fn by_number(verdicts: &BTreeMap<u32, Verdict>) -> BpfProgram {
    // Where ranges of equal verdicts begin.
    let mut ranges = vec![(0, Verdict::Allow)];
    for (&call, &verdict) in verdicts {
        ranges.push((call, verdict));
        ranges.push((call + 1, Verdict::Allow));
    }
    ranges.push((X32, Verdict::Unknown));
    let mut starts = BTreeMap::new();
    starts.extend(ranges);
    let mut ranges: Vec<(u32, Verdict)> = starts.into_iter().collect();
    ranges.dedup_by_key(|&mut (_, verdict)| verdict);

    let mut program = vec![
        step(BPF_LD | BPF_W | BPF_ABS, ARCHITECTURE),
        jump(BPF_JEQ, NATIVE, 1, 0),
        step(BPF_JMP | BPF_JA, TO_THE_END),
        step(BPF_LD | BPF_W | BPF_ABS, NUMBER),
    ];
    search(&ranges, &mut program);
    let end = program.len();
    for (index, step) in program.iter_mut().enumerate() {
        if step.code == BPF_JMP | BPF_JA && step.k == TO_THE_END {
            step.k = u32::try_from(end - index - 1).unwrap_or(TO_THE_END);
        }
    }
    program
}

/// Adds the search for a number in `ranges`, of which there is at least one.
fn search(ranges: &[(u32, Verdict)], program: &mut BpfProgram) {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let Some(&(start, verdict)) = upper.first() else {
        return;
    };
    if lower.is_empty() {
        program.push(match verdict {
            Verdict::Allow => step(BPF_RET, libc::SECCOMP_RET_ALLOW),
            Verdict::Refuse => step(BPF_RET, error(libc::EPERM)),
            Verdict::Unknown => step(BPF_RET, error(libc::ENOSYS)),
            Verdict::Examine => step(BPF_JMP | BPF_JA, TO_THE_END),
        });
        return;
    }
    // A conditional jump cannot go far, and this one may have to.
    program.push(jump(BPF_JGE, start, 0, 1));
    let far = program.len();
    program.push(step(BPF_JMP | BPF_JA, 0));
    search(lower, program);
    let length = u32::try_from(program.len() - far - 1).unwrap_or(TO_THE_END);
    if let Some(step) = program.get_mut(far) {
        step.k = length;
    }
    search(upper, program);
}

/// What the distance of a jump to the end is before that is known: none that the kernel would take.
const TO_THE_END: u32 = u32::MAX;

/// Where the architecture and the number of a call lie, see seccomp(2).
const ARCHITECTURE: u32 = 4;
const NUMBER: u32 = 0;

/// The architecture of this program, as the kernel names it to filters: `AUDIT_ARCH_…` of `linux/audit.h`.
const NATIVE: u32 = {
    const BITS_64: u32 = 0x8000_0000;
    const LITTLE_ENDIAN: u32 = 0x4000_0000;
    const MACHINE: u16 = if cfg!(target_arch = "aarch64") {
        libc::EM_AARCH64
    } else {
        libc::EM_X86_64
    };
    BITS_64 | LITTLE_ENDIAN | MACHINE as u32
};

// Of `linux/bpf_common.h`.
const BPF_LD: u16 = 0x00;
const BPF_W: u16 = 0x00;
const BPF_ABS: u16 = 0x20;
const BPF_JMP: u16 = 0x05;
const BPF_JA: u16 = 0x00;
const BPF_JEQ: u16 = 0x10;
const BPF_JGE: u16 = 0x30;
const BPF_RET: u16 = 0x06;

const fn step(code: u16, k: u32) -> sock_filter {
    sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Compares what was loaded with `k`, and skips so many steps where that is true and where it is not.
const fn jump(comparison: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    let code = BPF_JMP | comparison;
    sock_filter { code, jt, jf, k }
}

/// What a filter returns for a call to fail with this error.
const fn error(errno: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()
}

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
                let program = Filter::new(landlock, network).unwrap();
                // What the kernel takes at most.
                assert!(program.steps().len() <= 4096);
            }
        }
    }

    /// Runs the steps that decide by number. None where they run into what follows.
    fn verdict(program: &[sock_filter], architecture: u32, number: u32) -> Option<u32> {
        let mut loaded = 0;
        let mut at = 0;
        while let Some(step) = program.get(at) {
            at += 1;
            at += match step.code {
                0x20 if step.k == ARCHITECTURE => {
                    loaded = architecture;
                    0
                }
                0x20 if step.k == NUMBER => {
                    loaded = number;
                    0
                }
                0x05 => step.k as usize,
                0x15 if loaded == step.k => step.jt.into(),
                0x35 if loaded >= step.k => step.jt.into(),
                0x15 | 0x35 => step.jf.into(),
                0x06 => return Some(step.k),
                code => panic!("no such step: {code:#x}"),
            };
        }
        assert_eq!(at, program.len());
        None
    }

    #[test]
    fn every_number_finds_its_verdict() {
        let named = [
            (0, Verdict::Refuse),
            (7, Verdict::Examine),
            (8, Verdict::Refuse),
            (9, Verdict::Refuse),
            (300, Verdict::Unknown),
            (435, Verdict::Refuse),
        ];
        // So many that the way from one end to the other is longer than a conditional jump.
        let many = (1000..3000).step_by(2).map(|call| (call, Verdict::Refuse));
        let verdicts = named.into_iter().chain(many).collect();
        let program = by_number(&verdicts);
        let numbers = (0..3100).chain([X32 - 1, X32, X32 + 59, u32::MAX]);
        for number in numbers {
            let expected = match verdicts.get(&number) {
                Some(Verdict::Examine) => None,
                Some(Verdict::Refuse) => Some(0x0005_0001),
                Some(Verdict::Unknown) => Some(0x0005_0026),
                None if number >= X32 => Some(0x0005_0026),
                Some(Verdict::Allow) | None => Some(0x7fff_0000),
            };
            assert_eq!(verdict(&program, NATIVE, number), expected, "{number}");
            assert_eq!(verdict(&program, NATIVE - 1, number), None);
        }
    }
}
