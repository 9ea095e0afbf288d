//! Real agents and guests for tests: processes on loopback with directories of their own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test file uses a part of this; a harness fails by panicking"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long any state may take to come about on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An ordinary user that every system has.
pub(crate) const NOBODY: u32 = 65534;

/// Looks until there is something to see.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns whether this runs as root: guests then work as another user.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A child process that is killed when it goes out of scope.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits for the end and returns the exit code.
    pub(crate) fn code(&mut self) -> Option<i32> {
        wait_for("the end of a process", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the program under test, with nothing of the caller's settings.
pub(crate) fn host_agent() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-agent"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOST_AGENT_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("CHIRP_SERVER")
        .stdin(Stdio::null());
    command
}

/// Returns the guests' server, which cargo puts beside the program under test.
pub(crate) fn chirp_server() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_host-agent")).with_file_name("chirp-server");
    assert!(
        program.is_file(),
        "these tests need {}: run `cargo build -p chirp-server` with the same profile, or test the whole workspace",
        program.display()
    );
    program
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) process: Process,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) broker: String,
}

impl Agent {
    /// Starts an agent that no busy machine makes miss a guest.
    pub(crate) fn start() -> Self {
        Self::start_with("vm_gc_grace = 60\n")
    }

    /// Starts an agent with these lines in its `[Host]` section.
    pub(crate) fn start_with(host: &str) -> Self {
        Self::start_from(&format!(
            "[EmbeddedBroker]\nlisten_port = 0\n[Host]\n{host}"
        ))
    }

    /// Starts an agent with this settings file.
    pub(crate) fn start_from(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("agent.ini"), settings).unwrap();
        let process = Self::spawn(directory.path());
        let mut agent = Self {
            process,
            directory,
            broker: String::new(),
        };
        agent.wait_until_up();
        agent
    }

    /// Starts another process in the place of one that has ended.
    pub(crate) fn restart(&mut self) {
        self.process = Self::spawn(self.directory.path());
        self.wait_until_up();
    }

    fn spawn(directory: &Path) -> Process {
        let log = std::fs::File::create(directory.join("agent.log")).unwrap();
        let child = host_agent()
            .args(["serve", "--config"])
            .arg(directory.join("agent.ini"))
            .arg("--socket")
            .arg(directory.join("agent.sock"))
            .stderr(log)
            .spawn()
            .unwrap();
        Process(child)
    }

    pub(crate) fn wait_until_up(&mut self) {
        let answer = wait_for("the agent's API", || {
            assert!(
                self.process.0.try_wait().unwrap().is_none(),
                "the agent has ended: {}",
                self.log()
            );
            self.get("/agent")
                .filter(|answer| answer["broker_up"] == true)
        });
        // An agent without a broker of its own has none to tell.
        answer["broker_addresses"][0]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut self.broker);
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("agent.log")).unwrap_or_default()
    }

    /// Asks the API by hand; nothing where nobody answers.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// Returns a command that talks to this agent.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = host_agent();
        command
            .arg(arguments[0])
            .arg("--socket")
            .arg(self.socket())
            .args(&arguments[1..]);
        command
    }

    /// Runs a command that talks to this agent.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Returns the guest of that name as the API has it now.
    pub(crate) fn guest(&self, name: &str) -> Option<Value> {
        let guests = self.get("/guests")?;
        guests["guests"]
            .as_array()?
            .iter()
            .find(|guest| guest["name"] == name)
            .cloned()
    }

    /// Waits until a guest is in that state.
    pub(crate) fn wait_state(&self, name: &str, state: &str) -> Value {
        wait_for(
            &format!("{name} to be {state}; the agent's log: {}", self.log()),
            || self.guest(name).filter(|guest| guest["state"] == state),
        )
    }
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// A guest: a real chirp-server that announces itself.
pub(crate) struct Guest {
    pub(crate) process: Process,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) name: String,
}

impl Guest {
    /// Starts a guest that runs programs, and waits until the agent finds it ready.
    pub(crate) fn start(agent: &Agent, name: &str) -> Self {
        let guest = Self::spawn(agent, name, &["--exec"]);
        agent.wait_state(name, "ready");
        guest
    }

    /// Starts a guest.
    pub(crate) fn spawn(agent: &Agent, name: &str, more: &[&str]) -> Self {
        Self::spawn_beating(agent, name, "1", more)
    }

    /// Starts a guest that announces itself every so many seconds.
    pub(crate) fn spawn_beating(agent: &Agent, name: &str, seconds: &str, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711)).unwrap();
        for part in ["root", "transient"] {
            let part = directory.path().join(part);
            std::fs::create_dir(&part).unwrap();
            if is_root() {
                std::os::unix::fs::chown(&part, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(chirp_server());
        command
            .arg("-r")
            .arg(directory.path().join("root"))
            .arg("-y")
            .arg(directory.path().join("transient"))
            .args([
                "-I",
                "127.0.0.1",
                "-p",
                "0",
                "--name",
                name,
                "--beacon-interval",
                seconds,
            ])
            .arg(format!("--announce={}", agent.broker))
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if is_root() {
            command.args(["-i", "nobody"]);
        }
        let process = Process(command.spawn().unwrap());
        Self {
            process,
            directory,
            name: name.to_owned(),
        }
    }

    /// Starts a guest that runs programs and logs in to the broker.
    pub(crate) fn with_account(agent: &Agent, name: &str, login: &str, passcode: &str) -> Self {
        let file = agent.directory.path().join(format!("{name}.ini"));
        let text = format!("[Broker]\nusername = {login}\npassword = {passcode}\n");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let config = format!("--config={}", file.display());
        Self::spawn(agent, name, &["--exec", &config])
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }
}

impl Drop for Guest {
    /// Lets the guest end its programs; one that does not stop is killed.
    fn drop(&mut self) {
        let process = rustix::process::Pid::from_child(&self.process.0);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.process.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Returns the living processes whose command line holds that text.
pub(crate) fn processes_with(text: &str) -> Vec<String> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .chars()
                .all(|c| c.is_ascii_digit())
        })
        // A zombie's command line is empty.
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

/// Reads a child's output line by line, with patience.
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    pub(crate) fn of(stream: impl std::io::Read + Send + 'static) -> Self {
        let (lines, read) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self(read)
    }

    /// Returns the next line that the test accepts; the ones before are dropped.
    pub(crate) fn find(&self, what: &str, accept: impl Fn(&str) -> bool) -> String {
        loop {
            let line = self.0.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no line with {what}: {error}"));
            if accept(&line) {
                return line;
            }
        }
    }
}

/// Makes files in a few directories, with words that are easy to count: three in each, and in file N then "alpha beta"
/// N times `times` times.
pub(crate) fn words_below(directory: &Path, files: usize, parts: usize, times: usize) {
    for number in 0..files {
        let sub = directory.join(format!("part-{}", number % parts));
        std::fs::create_dir_all(&sub).unwrap();
        let text = format!(
            "Common words, common {}",
            "alpha beta\n".repeat(number * times)
        );
        std::fs::write(sub.join(format!("{number}.txt")), text).unwrap();
    }
}
