//! Running a hypervisor's own program: an argument list, never a shell; bounded in time and output.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::Error;

/// Bytes of each of the two outputs that are kept; what comes after is read and dropped.
pub const OUTPUT_MAX: usize = 4 * 1024 * 1024;

/// What a program said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; 128 and the signal's number where a signal ended it.
    pub code: i32,
    /// Standard output. What is not UTF-8 in it is replaced.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Output {
    /// Returns what the program said about a failure, in one line.
    #[must_use]
    pub fn said(&self) -> String {
        let text = [&self.err, &self.out]
            .into_iter()
            .map(|text| {
                let lines: Vec<&str> = text
                    .lines()
                    .map(str::trim)
                    .filter(|l| !l.is_empty())
                    .collect();
                lines.join("; ")
            })
            .find(|text| !text.is_empty());
        match text {
            Some(mut text) => {
                if let Some((cut, _)) = text.char_indices().nth(SAID_MAX) {
                    text.truncate(cut);
                    text.push('…');
                }
                format!("{text} (exit code {})", self.code)
            }
            None => format!("exit code {}, and not a word", self.code),
        }
    }
}

/// Characters of a program's complaint that an error repeats.
const SAID_MAX: usize = 500;

/// A program of a hypervisor, ready to be run with arguments.
#[derive(Debug, Clone)]
pub struct Tool {
    program: PathBuf,
    arguments: Vec<OsString>,
    remedy: String,
}

impl Tool {
    /// Returns the tool of that name: in the directory `helpers` where one is set, else by `PATH`. `remedy`
    /// is what to do when it is not there.
    #[must_use]
    pub fn new(name: &str, helpers: Option<&Path>, remedy: &str) -> Self {
        Self {
            program: helpers.map_or_else(|| PathBuf::from(name), |helpers| helpers.join(name)),
            arguments: Vec::new(),
            remedy: remedy.to_owned(),
        }
    }

    /// Returns the tool with arguments that are given each time, before the others.
    #[must_use]
    pub fn with<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|text| text.as_ref().to_owned()));
        self
    }

    /// Returns the program's file or name.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs it with nothing on standard input.
    ///
    /// # Errors
    ///
    /// It cannot be started, or takes longer than `limit`. How it ends is not looked at.
    ///
    /// # Cancel safety
    ///
    /// The program goes on until it ends or the limit is over.
    pub async fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Result<Output, Error> {
        self.feed(arguments, Vec::new(), limit).await
    }

    /// Runs it with these bytes on standard input.
    ///
    /// # Errors
    ///
    /// As [`Tool::run`].
    ///
    /// # Cancel safety
    ///
    /// The program goes on until it ends or the limit is over.
    pub async fn feed<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: Vec<u8>,
        limit: Duration,
    ) -> Result<Output, Error> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(arguments);
        let what = shown(&command);
        let tool = self.clone();
        let ran = tokio::task::spawn_blocking(move || run(command, &input, limit)).await;
        let failed = |said: String| Error::Failed {
            what: what.clone(),
            said,
        };
        match ran {
            Ok(Ok(Some(output))) => Ok(output),
            Ok(Ok(None)) => Err(Error::TimedOut { what, limit }),
            Ok(Err(error)) => Err(tool
                .unstartable(&error)
                .unwrap_or_else(|| failed(error.to_string()))),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    fn unstartable(&self, error: &io::Error) -> Option<Error> {
        let tool = self.program.display().to_string();
        match error.kind() {
            io::ErrorKind::NotFound => Some(Error::ToolMissing {
                tool,
                reason: "there is no such program".to_owned(),
                remedy: self.remedy.clone(),
            }),
            io::ErrorKind::PermissionDenied => Some(Error::ToolMissing {
                tool,
                reason: "it may not be executed by this user".to_owned(),
                remedy: self.remedy.clone(),
            }),
            _ => None,
        }
    }
}

/// Returns a command as people would type it, for errors.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .display()
        .to_string();
    for argument in command.get_args().take(8) {
        text.push(' ');
        let argument = argument.to_string_lossy();
        if argument.is_empty() || argument.contains(|c: char| c.is_whitespace() || c == '"') {
            text.push_str(&format!("{argument:?}"));
        } else {
            text.push_str(&argument);
        }
    }
    text
}

/// Runs a program to its end; nothing where the limit was over first and it was killed.
fn run(mut command: Command, input: &[u8], limit: Duration) -> io::Result<Option<Output>> {
    let deadline = Instant::now() + limit;
    let mut child = command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Messages are matched: not in another language.
        .env("LC_ALL", "C.UTF-8")
        .env_remove("LANGUAGE")
        .process_group(0)
        .spawn()?;
    let watched = watch(&mut child, input, deadline);
    if !matches!(watched, Ok(Some(_))) {
        // Not reaped yet, so that the number is still the group's.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait()?;
    Ok(watched?.map(|(out, err)| Output {
        code: status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        out,
        err,
    }))
}

/// Feeds and reads a child until it has ended; nothing where the deadline comes first.
fn watch(
    child: &mut Child,
    input: &[u8],
    deadline: Instant,
) -> io::Result<Option<(String, String)>> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut stdin = child.stdin.take();
    let mut rest = input;
    let mut out = Pipe::new(child.stdout.take())?;
    let mut err = Pipe::new(child.stderr.take())?;
    if let Some(stdin) = &stdin {
        nonblocking(stdin.as_fd())?;
    }
    loop {
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return Ok(None);
        };
        let (mut gone, mut writable) = (false, false);
        {
            let mut fds = vec![PollFd::new(&ended, PollFlags::IN)];
            let outputs = [
                out.file.as_ref().map(|file| file.as_fd()),
                err.file.as_ref().map(|file| file.as_fd()),
            ];
            for file in outputs.into_iter().flatten() {
                fds.push(PollFd::from_borrowed_fd(file, PollFlags::IN));
            }
            if let Some(stdin) = &stdin {
                fds.push(PollFd::new(stdin, PollFlags::OUT));
            }
            let wait = Timespec::try_from(left).ok();
            match poll(&mut fds, wait.as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            gone |= fds.first().is_some_and(|fd| !fd.revents().is_empty());
            writable |= stdin.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty());
        }
        out.read()?;
        err.read()?;
        if writable && let Some(pipe) = &mut stdin {
            match pipe.write(rest) {
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It does not want to hear the rest.
                Err(_) => rest = &[],
            }
            if rest.is_empty() {
                stdin = None;
            }
        }
        // What it left behind may keep the pipes open for ever; all that it wrote itself is in them by now.
        if gone {
            out.read()?;
            err.read()?;
            return Ok(Some((out.text(), err.text())));
        }
    }
}

/// One output of a child, as far as it was read.
#[derive(Debug)]
struct Pipe<F> {
    file: Option<F>,
    bytes: Vec<u8>,
}

impl<F: Read + std::os::fd::AsFd> Pipe<F> {
    fn new(file: Option<F>) -> io::Result<Self> {
        if let Some(file) = &file {
            nonblocking(file.as_fd())?;
        }
        Ok(Self {
            file,
            bytes: Vec::new(),
        })
    }

    /// Reads what is there, but not for ever from one who writes for ever.
    fn read(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut buffer = [0; 16 * 1024];
        for _ in 0..64 {
            match file.read(&mut buffer) {
                Ok(0) => {
                    self.file = None;
                    return Ok(());
                }
                Ok(n) => {
                    let room = OUTPUT_MAX.saturating_sub(self.bytes.len()).min(n);
                    self.bytes
                        .extend_from_slice(buffer.get(..room).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

fn nonblocking(file: BorrowedFd<'_>) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn sh() -> Tool {
        Tool::new("sh", None, "install a shell").with(["-c"])
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn both_outputs_and_the_code_come_back() {
        let output = block(sh().run(["echo a; echo b >&2; exit 3"], LONG)).unwrap();
        assert_eq!(
            (output.code, output.out.as_str(), output.err.as_str()),
            (3, "a\n", "b\n")
        );
        assert_eq!(output.said(), "b (exit code 3)");
        let killed = block(sh().run(["kill -9 $$"], LONG)).unwrap();
        assert_eq!(killed.code, 137);
    }

    #[test]
    fn arguments_are_never_read_by_a_shell() {
        let echo = Tool::new("printf", None, "");
        let output = block(echo.run(["%s|", "a b", "$(id)", "; exit 1", "\"", ""], LONG)).unwrap();
        assert_eq!(output.out, "a b|$(id)|; exit 1|\"||");
    }

    #[test]
    fn more_input_than_a_pipe_holds_comes_back_while_it_is_fed() {
        let input = b"0123456789abcdef".repeat(64 * 1024);
        let cat = Tool::new("cat", None, "");
        let output = block(cat.feed([] as [&str; 0], input.clone(), LONG)).unwrap();
        assert_eq!(output.out.len(), input.len());
    }

    #[test]
    fn endless_output_is_cut_and_the_limit_ends_the_whole_group() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; exec yes", pid.display());
        // A busy machine may not even have started the shell when the first limit is over.
        let pid: i32 = [2, 10, 60]
            .into_iter()
            .find_map(|limit| {
                let limit = Duration::from_secs(limit);
                let error = block(sh().run([&script], limit)).unwrap_err();
                assert!(matches!(error, Error::TimedOut { .. }), "{error}");
                std::fs::read_to_string(&pid).ok()?.trim().parse().ok()
            })
            .unwrap();
        let deadline = Instant::now() + LONG;
        // Its parent is whoever adopts orphans here, who may be slow to reap it.
        while std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z"))
        {
            assert!(Instant::now() < deadline, "the tool's child lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_child_left_behind_with_the_pipes_does_not_hold_up_the_end() {
        let output = block(sh().run(["sleep 90 & echo $!"], LONG)).unwrap();
        let pid: i32 = output.out.trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn a_missing_tool_is_named_with_the_remedy() {
        let tool = Tool::new("VBoxNothing", Some(Path::new("/nonexistent")), "install it");
        let error = block(tool.run(["--version"], LONG)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot run /nonexistent/VBoxNothing: there is no such program; install it"
        );
    }
}
