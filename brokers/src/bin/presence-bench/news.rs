//! Real guests and a real agent: how soon the registry says what is so.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use brokers::process::{Process, free_address};
use brokers::{Broker, Kind};
use rustix::process::geteuid;
use serde_json::Value;
use tempfile::TempDir;

/// `Host.vm_gc_grace` of the measured agent, in seconds; guests beat every second.
const GRACE: u64 = 3;
/// The user that the guests' servers become where this runs as root.
const NOBODY: (&str, u32) = ("nobody", 65534);
const PATIENCE: Duration = Duration::from_secs(60);

/// What was found.
pub(crate) struct News {
    ready: Vec<Duration>,
    lost: Vec<(Kind, Duration, Duration)>,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |part: usize| {
            let index = (self.ready.len().saturating_sub(1)) * part / 100;
            self.ready.get(index).copied().unwrap_or_default()
        };
        writeln!(
            f,
            "from \"server listens\" to \"registry says ready\", {} guests: best {:.1?}, median {:.1?}, worst {:.1?}",
            self.ready.len(),
            at(0),
            at(50),
            at(100)
        )?;
        for (kind, late, gone) in &self.lost {
            writeln!(
                f,
                "from SIGKILL, {kind}: late after {late:.2?}, gone after {gone:.2?}; by silence alone at most \
                 {:.1?} and {:.1?}, and 1 s",
                Duration::from_secs(GRACE),
                Duration::from_secs(GRACE) * 3 / 2
            )?;
        }
        Ok(())
    }
}

pub(crate) fn measure(turns: usize) -> Result<News> {
    let mut ready = Vec::new();
    let agent = Agent::start(None)?;
    for turn in 0..turns {
        let name = format!("ready-{turn}");
        let (guest, listens) = Guest::start(&agent, &name)?;
        ready.push(
            agent
                .when(&name, "ready")?
                .saturating_duration_since(listens),
        );
        drop(guest);
    }
    ready.sort_unstable();
    let mut lost = vec![lose(&agent, Kind::Embedded)?];
    // It starts at once, and like all others it does not tell that a publisher died.
    let broker = Broker::start(Kind::CoilMq)?;
    lost.push(lose(&Agent::start(Some(broker.address()))?, broker.kind())?);
    Ok(News { ready, lost })
}

/// Kills a guest; returns how long that took to be seen.
fn lose(agent: &Agent, kind: Kind) -> Result<(Kind, Duration, Duration)> {
    let (mut guest, _) = Guest::start(agent, "lost")?;
    agent.when("lost", "ready")?;
    let killed = Instant::now();
    guest.process.kill();
    let late = agent
        .when("lost", "late")?
        .saturating_duration_since(killed);
    let gone = agent
        .when("lost", "gone")?
        .saturating_duration_since(killed);
    Ok((kind, late, gone))
}

/// An agent, and what it says as it says it.
struct Agent {
    _process: Process,
    _directory: TempDir,
    broker: SocketAddr,
    events: mpsc::Receiver<(Instant, Value)>,
}

impl Agent {
    /// Starts an agent with its own broker or a given one.
    fn start(broker: Option<SocketAddr>) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (settings, broker) = match broker {
            Some(at) => (
                format!(
                    "[EmbeddedBroker]\nenabled = no\n[Broker]\nhost = {}\nport = {}\n",
                    at.ip(),
                    at.port()
                ),
                at,
            ),
            None => {
                let at = free_address()?;
                (
                    format!("[EmbeddedBroker]\nlisten_port = {}\n", at.port()),
                    at,
                )
            }
        };
        let file = directory.path().join("agent.ini");
        std::fs::write(&file, format!("{settings}[Host]\nvm_gc_grace = {GRACE}\n"))?;
        let socket = directory.path().join("agent.sock");
        let log = File::create(directory.path().join("log"))?;
        let mut command = Command::new(beside("host-agent")?);
        command
            .args(["serve", "--config"])
            .arg(file)
            .arg("--socket")
            .arg(&socket)
            .stderr(log);
        let process = Process::start(&mut command)?;
        let events = listen(&socket)?;
        Ok(Self {
            _process: process,
            _directory: directory,
            broker,
            events,
        })
    }

    /// Waits until the agent says that a guest is in a state; returns when it did.
    fn when(&self, name: &str, state: &str) -> Result<Instant> {
        loop {
            let event = self.events.recv_timeout(PATIENCE);
            let (at, event) = event.with_context(|| format!("{name} never was {state}"))?;
            let of = event.pointer("/guest/name").and_then(Value::as_str);
            if of == Some(name) && event.get("to").and_then(Value::as_str) == Some(state) {
                return Ok(at);
            }
        }
    }
}

/// Follows the events of the agent behind that socket.
fn listen(socket: &Path) -> Result<mpsc::Receiver<(Instant, Value)>> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) => ensure!(Instant::now() < deadline, "no agent: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let (sender, events) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Between the lines are the sizes of chunks.
            let event = serde_json::from_str(&line).ok().filter(Value::is_object);
            if let Some(event) = event
                && sender.send((Instant::now(), event)).is_err()
            {
                return;
            }
        }
    });
    Ok(events)
}

/// A guest.
struct Guest {
    process: Process,
    _directory: TempDir,
}

impl Guest {
    /// Starts a guest; returns when it was first seen to listen.
    fn start(agent: &Agent, name: &str) -> Result<(Self, Instant)> {
        let directory = tempfile::tempdir()?;
        let address = free_address()?;
        let mut command = Command::new(beside("chirp-server")?);
        command.arg("-r").arg(directory.path().join("root"));
        command.arg("-y").arg(directory.path().join("transient"));
        command.args(["-I", "127.0.0.1", "-p", &address.port().to_string()]);
        command.args(["--exec", "--name", name, "--beacon-interval", "1"]);
        command.arg(format!("--announce={}", agent.broker));
        for part in ["root", "transient"] {
            let part = directory.path().join(part);
            std::fs::create_dir(&part)?;
            if geteuid().is_root() {
                std::os::unix::fs::chown(&part, Some(NOBODY.1), Some(NOBODY.1))?;
            }
        }
        if geteuid().is_root() {
            use std::os::unix::fs::PermissionsExt as _;
            let open = std::fs::Permissions::from_mode(0o711);
            std::fs::set_permissions(directory.path(), open)?;
            command.args(["-i", NOBODY.0]);
        }
        let log = File::create(directory.path().join("log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let process = Process::start(&mut command)?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            ensure!(Instant::now() < deadline, "{name} does not listen");
            std::thread::sleep(Duration::from_micros(200));
        }
        let listens = Instant::now();
        let guest = Self {
            process,
            _directory: directory,
        };
        Ok((guest, listens))
    }
}

/// Returns the program of that name beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(
        program.is_file(),
        "{} is missing: build it with the same profile",
        program.display()
    );
    Ok(program)
}
