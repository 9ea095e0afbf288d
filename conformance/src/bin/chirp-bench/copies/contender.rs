//! Those that copy, and how each is told to.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conformance::program::Program;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::sshd::{Sshd, find};
use crate::subject::Subject;

/// The longest that one copy may take.
const LIMIT: Duration = Duration::from_secs(900);
/// How often a running copy's memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A way to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// `chirp-client`, with our server.
    Ours,
    /// `chirp`, with the reference's server.
    Reference,
    Scp,
    Sftp,
    Rsync,
    /// `tar` through `ssh`.
    Tar,
}

/// Which way a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Put,
    Get,
}

/// One copy of a directory, or of a file by those that speak Chirp.
pub(crate) struct Copy<'a> {
    pub(crate) way: Way,
    /// What is here.
    pub(crate) local: &'a Path,
    /// What is there: a path of the machine to those that use ssh, a virtual one to the others.
    pub(crate) remote: &'a Path,
    pub(crate) address: SocketAddr,
    pub(crate) sshd: &'a Sshd,
}

/// What a copy took.
pub(crate) struct Cost {
    pub(crate) time: Duration,
    /// Most memory of the process, in KiB; that of `tar | ssh` is the shell's.
    pub(crate) memory: u64,
}

impl Contender {
    /// All, in the order of the table.
    pub(crate) const ALL: [Self; 6] = [
        Self::Ours,
        Self::Reference,
        Self::Scp,
        Self::Sftp,
        Self::Rsync,
        Self::Tar,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Reference => "chirp",
            Self::Scp => "scp -r",
            Self::Sftp => "sftp",
            Self::Rsync => "rsync",
            Self::Tar => "tar|ssh",
        }
    }

    /// Returns the server it speaks to, or none if that is `sshd`.
    pub(crate) fn server(self) -> Option<Subject> {
        match self {
            Self::Ours => Some(Subject::Ours),
            Self::Reference => Some(Subject::Reference),
            Self::Scp | Self::Sftp | Self::Rsync | Self::Tar => None,
        }
    }

    /// Copies.
    ///
    /// # Errors
    ///
    /// Fails if the program is missing, fails or takes longer than 15 minutes.
    pub(crate) fn copy(self, copy: &Copy<'_>) -> Result<Cost> {
        let (mut command, input) = self.command(copy)?;
        measure(&mut command, &input).with_context(|| format!("{} failed", self.name()))
    }

    /// Returns what to run, and its input.
    fn command(self, copy: &Copy<'_>) -> Result<(Command, String)> {
        let (local, remote) = (copy.local.display(), copy.remote.display());
        let port = copy.address.port().to_string();
        let there = format!("127.0.0.1:{remote}");
        let ssh = |program: &str, flag: &str| -> Result<Command> {
            let mut command = Command::new(find(program, "openssh-client")?);
            command
                .args(copy.sshd.options())
                .args([flag, port.as_str()]);
            Ok(command)
        };
        let verb = match copy.way {
            Way::Put => "put",
            Way::Get => "get",
        };
        let (from, to) = match copy.way {
            Way::Put => (local.to_string(), there),
            Way::Get => (there, local.to_string()),
        };
        let mut input = String::new();
        let command = match self {
            Self::Ours | Self::Reference => {
                let program = match self {
                    Self::Ours => Program::our_client()?,
                    _ => Program::reference("chirp")?,
                };
                let mut command = Command::new(program.path);
                command.args(["-a", "address", "-t", "600"]);
                command.args([&copy.address.to_string(), verb]);
                match copy.way {
                    Way::Put => command.args([copy.local, copy.remote]),
                    Way::Get => command.args([copy.remote, copy.local]),
                };
                command
            }
            Self::Scp => {
                let mut command = ssh("scp", "-P")?;
                command.args(["-r", "-q", &from, &to]);
                command
            }
            Self::Sftp => {
                let mut command = ssh("sftp", "-P")?;
                command.args(["-q", "-b", "-", "127.0.0.1"]);
                input = match copy.way {
                    // It wants the directory to be there.
                    Way::Put => format!("mkdir {remote}\nput -r {local}/* {remote}\n"),
                    Way::Get => {
                        fs::create_dir(copy.local)?;
                        format!("get -r {remote}/* {local}\n")
                    }
                };
                command
            }
            Self::Rsync => {
                let mut words: Vec<OsString> = vec!["ssh".into(), "-p".into(), port.into()];
                words.extend(copy.sshd.options());
                let mut command = Command::new(find("rsync", "rsync")?);
                command.arg("-a").arg("-e").arg(words.join(" ".as_ref()));
                command.args([from + "/", to]);
                command
            }
            Self::Tar => {
                let ssh = ssh("ssh", "-p")?;
                let mut words = vec![ssh.get_program().to_owned()];
                words.extend(ssh.get_args().map(ToOwned::to_owned));
                let ssh = words.join(" ".as_ref());
                let ssh = ssh.to_string_lossy();
                let line = match copy.way {
                    Way::Put => format!(
                        "tar -C {local} -cf - . | {ssh} 127.0.0.1 'mkdir {remote} && tar -C {remote} -xf -'"
                    ),
                    Way::Get => format!(
                        "mkdir {local} && {ssh} 127.0.0.1 'tar -C {remote} -cf - .' | tar -C {local} -xf -"
                    ),
                };
                let mut command = Command::new("/bin/bash");
                command.args(["-o", "pipefail", "-c", &line]);
                command
            }
        };
        Ok((command, input))
    }
}

/// Gets a directory of our server again, where most of it or all may be already.
///
/// # Errors
///
/// As [`Contender::copy`].
pub(crate) fn resume(address: SocketAddr, remote: &Path, local: &Path) -> Result<Cost> {
    let mut command = Command::new(Program::our_client()?.path);
    command.args(["-a", "address", &address.to_string(), "get", "--resume"]);
    // What is in the directory, as for `cp`: the second time it is there.
    command.args([&remote.join("."), local]);
    measure(&mut command, "").context("the second copy failed")
}

/// Runs a command to its end.
fn measure(command: &mut Command, input: &str) -> Result<Cost> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let said = directory.path().join("said");
    let script = directory.path().join("input");
    fs::write(&script, input)?;
    let log = fs::File::create(&said)?;
    let begun = Instant::now();
    let mut child = command
        .stdin(fs::File::open(&script)?)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let pid = Pid::from_child(&child);
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let status_file = PathBuf::from(format!("/proc/{}/status", pid.as_raw_nonzero()));
    let (ended, running) = channel::<()>();
    // Looks at the memory now and then: what is not there any more cannot be asked.
    let watch = thread::spawn(move || {
        let mut memory = 0;
        while running.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            memory = peak(&status_file).unwrap_or_default().max(memory);
            if begun.elapsed() > LIMIT {
                let _ = pidfd_send_signal(&handle, Signal::KILL);
            }
        }
        memory
    });
    let status = child.wait();
    let time = begun.elapsed();
    drop(ended);
    let memory = watch.join().unwrap_or_default();
    let status = status?;
    ensure!(
        status.success(),
        "{status} after {time:?}: {}",
        fs::read_to_string(&said).unwrap_or_default().trim_end()
    );
    Ok(Cost { time, memory })
}

/// Returns the most memory that a process has had, in KiB.
fn peak(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
