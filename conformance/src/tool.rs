//! Runs a command-line program as an ordinary user, within a time limit, and judges what it did.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::account::Account;

/// The longest that a program may run. It bounds a test; it is no measure of anything.
const LIMIT: Duration = Duration::from_secs(60);

/// What a program did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub shown: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, with anything that is not UTF-8 replaced.
    pub stderr: String,
}

/// Runs `program` with `arguments` in `directory` as `account`, with `input` on its standard input.
///
/// # Errors
///
/// Fails if it cannot be started, or has not ended after a minute; then it is killed with everything
/// that it started.
pub fn run(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    directory: &Path,
    account: &Account,
    input: &[u8],
) -> Result<Outcome> {
    run_with(program, arguments, directory, account, input, &[])
}

/// As [`run`], with further variables in the environment.
///
/// # Errors
///
/// As [`run`].
pub fn run_with(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    directory: &Path,
    account: &Account,
    input: &[u8],
    environment: &[(String, String)],
) -> Result<Outcome> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(environment.iter().cloned())
        .current_dir(directory)
        .env("HOME", directory)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    account.apply(&mut command);
    let shown = show(&command);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let input = input.to_vec();
    let stdin = child.stdin.take();
    // Threads, so that neither side waits for the other on a full pipe. They end with the pipes,
    // and those with the process group.
    let feed = thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input closes it.
            let _ = stdin.write_all(&input);
        }
    });
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let ended = ends(&child);
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait();
    let _ = feed.join();
    let stdout = stdout.join().unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned();
    if !ended? {
        bail!("{shown} still runs after {LIMIT:?}; stderr: {stderr}");
    }
    Ok(Outcome {
        shown,
        code: status?.code(),
        stdout,
        stderr,
    })
}

fn show(command: &Command) -> String {
    let mut shown = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Waits until the program has ended; `false` if it takes too long.
fn ends(child: &Child) -> Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Instant::now() + LIMIT;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))?;
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the end of a program"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n  exit    {:?}\n  stdout  \"{}\"\n  stderr  \"{}\"",
            self.shown,
            self.code,
            self.stdout.escape_ascii(),
            self.stderr.escape_debug()
        )
    }
}

impl Outcome {
    /// Checks that it exited with 0.
    ///
    /// # Errors
    ///
    /// Fails with everything known about the run otherwise.
    pub fn succeeds(self) -> Result<Self> {
        self.exits(0)
    }

    /// Checks the exit code.
    ///
    /// # Errors
    ///
    /// Fails with everything known about the run otherwise.
    pub fn exits(self, code: i32) -> Result<Self> {
        ensure!(self.code == Some(code), "exit code {code} expected: {self}");
        Ok(self)
    }

    /// Checks all of the standard output.
    ///
    /// # Errors
    ///
    /// Fails with everything known about the run otherwise.
    pub fn prints(self, text: &str) -> Result<Self> {
        ensure!(
            self.stdout == text.as_bytes(),
            "output {text:?} expected: {self}"
        );
        Ok(self)
    }

    /// Checks the lines of the standard output, in any order.
    ///
    /// # Errors
    ///
    /// Fails with everything known about the run otherwise.
    pub fn lists(self, expected: &[&str]) -> Result<Self> {
        let mut lines: Vec<&[u8]> = self
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        lines.sort_unstable();
        let mut wanted: Vec<&[u8]> = expected.iter().map(|line| line.as_bytes()).collect();
        wanted.sort_unstable();
        ensure!(lines == wanted, "lines {expected:?} expected: {self}");
        Ok(self)
    }

    /// Checks that one line of the standard output has exactly these words, whatever the blanks
    /// between them.
    ///
    /// # Errors
    ///
    /// Fails with everything known about the run otherwise.
    pub fn has_line(self, words: &str) -> Result<Self> {
        let text = String::from_utf8_lossy(&self.stdout);
        let found = text
            .lines()
            .any(|line| line.split_whitespace().eq(words.split_whitespace()));
        ensure!(found, "a line {words:?} expected: {self}");
        Ok(self)
    }

    /// Checks that the standard error contains a text.
    ///
    /// # Errors
    ///
    /// Fails with everything known about the run otherwise.
    pub fn complains(self, text: &str) -> Result<Self> {
        ensure!(
            self.stderr.contains(text),
            "{text:?} on stderr expected: {self}"
        );
        Ok(self)
    }
}
