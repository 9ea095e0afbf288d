//! The server in the background (`-b`): it starts itself again in a session of its own, and the first
//! process waits until the second one listens.
//!
//! Nothing forks with threads or open state here: the second process is a fresh one, which reads the
//! same command line. Its standard output is a pipe to the first one until it is ready; standard error
//! stays as it is until then, so that what keeps it from starting is seen.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal};

use crate::manner::Manner;

/// What the second process sends when it is ready.
const READY: &[u8] = b"ready\n";

/// The option that tells the second process what it is.
const DETACHED: &str = "--detached";

/// Starts the server in the background and waits until it serves or has failed; then writes its process
/// id to `pid_file`. Returns the exit status: that of the server, if it failed.
///
/// The file is written here because this process still is whoever the command was started as, who may
/// write where the server's account may not.
///
/// # Errors
///
/// The program cannot be started again, the file cannot be written, or the log is to go to standard
/// output, which nobody would read; then nothing is left running.
pub fn start(
    manner: Manner,
    pid_file: Option<&Path>,
    log: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        log != Some(Path::new(":stdout")),
        "the log of a server in the background (-b) cannot go to its standard output (-o :stdout), \
         which it lets go of: name a file with -o"
    );
    if let Some(path) = pid_file {
        std::fs::metadata(directory(path)).with_context(|| named(path))?;
    }
    let mut given = std::env::args_os();
    let program = given.next().unwrap_or_else(|| manner.program().into());
    let mut child = Command::new("/proc/self/exe")
        .arg0(program)
        .arg(DETACHED)
        .args(given)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the server in the background (-b)")?;
    let mut said = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        // It ends when the server lets go of it after the word, or with the process. One more byte than
        // the word is asked for, so that the end is waited for: who started the command finds a server
        // that holds nothing of it any more.
        pipe.take(READY.len() as u64 + 1).read_to_end(&mut said)?;
    }
    if said != READY {
        return failed(manner, &mut child, &said);
    }
    if let Some(path) = pid_file
        && let Err(error) = write_pid(path, child.id())
    {
        // Its end takes as long as it takes; whoever started it is told at once.
        let _ = rustix::process::kill_process(Pid::from_child(&child), Signal::TERM);
        return Err(error);
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for a server that did not become ready, and returns its exit status. One that said something
/// else is not about to end, so it is ended.
fn failed(manner: Manner, child: &mut Child, said: &[u8]) -> anyhow::Result<ExitCode> {
    if !said.is_empty() {
        child.kill()?;
        child.wait()?;
        anyhow::bail!(
            "the server in the background (-b) said {:?} where it says that it is ready; it was ended",
            said.escape_ascii().to_string()
        );
    }
    let status = child.wait()?;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code
        .and_then(|code| u8::try_from(code).ok())
        .filter(|&code| code != 0)
        .map_or_else(|| manner.after_fatal(), ExitCode::from))
}

/// Writes the process id without an LF, as the reference does, over whatever a server before left there.
/// The file is never seen half written.
fn write_pid(path: &Path, pid: u32) -> anyhow::Result<()> {
    let write = || {
        let mut new = tempfile::NamedTempFile::new_in(directory(path))?;
        new.write_all(pid.to_string().as_bytes())?;
        new.as_file()
            .set_permissions(Permissions::from_mode(0o644))?;
        new.persist(path)?;
        anyhow::Ok(())
    };
    write().with_context(|| named(path))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn named(path: &Path) -> String {
    format!("process id file {} (-B)", path.display())
}

/// Leaves the session of whoever started the server.
pub fn detach(manner: Manner) {
    // Fails for a leader of a process group only, which a process that was just started is not unless
    // it was made one on purpose.
    let _ = rustix::process::setsid();
    // `ps` and `killall` know a process by the file it was started from, here /proc/self/exe.
    if let Ok(name) = CString::new(manner.program()) {
        let _ = rustix::thread::set_name(&name);
    }
}

/// Says that the server takes requests, which lets the first process end, and lets go of what it
/// inherited.
///
/// # Errors
///
/// The descriptors cannot be replaced.
pub fn ready() -> anyhow::Result<()> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("cannot open /dev/null")?;
    rustix::stdio::dup2_stderr(&null)?;
    // The first process may have been ended; the server goes on nevertheless.
    let _ = rustix::io::write(rustix::stdio::stdout(), READY);
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_server_that_says_anything_but_that_it_is_ready_is_ended() {
        let begun = Instant::now();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let error = failed(Manner::of(None), &mut child, b"a line").unwrap_err();
        assert!(error.to_string().contains("\"a line\""), "{error}");
        assert!(child.try_wait().unwrap().is_some());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
