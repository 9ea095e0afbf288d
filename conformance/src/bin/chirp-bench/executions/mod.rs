//! Programs run through our server, beside what a bare process costs and beside what people run programs in
//! guests with today.
//!
//! - [`client`]: an execution as its client sees it
//! - [`rivals`]: `ssh` over a connection that is open already, and the QEMU guest agent where it is installed
//! - [`crowd`]: a thousand at once
//! - [`table`]: what was found, for people and programs
//!
//! The server confines programs as it does by default. All of its clients are this program.

use std::cell::OnceCell;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conformance::connection::Connection;
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};
use serde_json::json;

use self::client::Client;
use self::rivals::{Agent, Ssh};
use self::table::{Column, Line};
use crate::subject;

mod client;
mod crowd;
mod rivals;
pub(crate) mod table;

/// The program that does nothing, as every contender names it.
const NOTHING: &str = "/bin/true";

/// The output that is streamed, below the server's tree.
const STREAMED: &str = "stream";

/// One part of the table.
#[derive(Clone, Copy)]
pub(crate) enum Experiment {
    /// `true`, again and again.
    Nothing,
    /// The output of a program, of that many MiB.
    Output(usize),
    /// That many programs at once.
    Crowd(usize),
}

/// Returns the experiments in the order of the table.
pub(crate) fn all(output: usize, crowd: usize) -> Vec<Experiment> {
    vec![
        Experiment::Nothing,
        Experiment::Output(output),
        Experiment::Crowd(crowd),
    ]
}

/// What the executions need: made when first needed.
#[derive(Default)]
pub(crate) struct Bench {
    server: OnceCell<Server>,
    ssh: OnceCell<Ssh>,
    agent: OnceCell<Option<Agent>>,
}

impl Experiment {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Nothing => "exec true".to_owned(),
            Self::Output(size) => format!("exec cat of {size} MiB"),
            Self::Crowd(count) => format!("{count} executions at once"),
        }
    }

    /// Takes the measurements: every contender once in each turn.
    pub(crate) fn run(self, bench: &Bench, turns: u32, time: Duration) -> Result<Vec<Line>> {
        match self {
            Self::Nothing => bench
                .nothing(self.name(), turns, time)
                .map(|line| vec![line]),
            Self::Output(size) => bench
                .output(self.name(), turns, size)
                .map(|line| vec![line]),
            Self::Crowd(count) => crowd::measure(&self.name(), count, 8 * time),
        }
    }
}

impl Bench {
    fn server(&self) -> Result<&Server> {
        if let Some(running) = self.server.get() {
            return Ok(running);
        }
        let started = start()?;
        Ok(self.server.get_or_init(|| started))
    }

    fn ssh(&self) -> Result<&Ssh> {
        if let Some(running) = self.ssh.get() {
            return Ok(running);
        }
        let started = Ssh::start()?;
        Ok(self.ssh.get_or_init(|| started))
    }

    fn agent(&self) -> Result<Option<&Agent>> {
        if let Some(running) = self.agent.get() {
            return Ok(running.as_ref());
        }
        let started = Agent::start()?;
        Ok(self.agent.get_or_init(|| started).as_ref())
    }

    /// How long one execution of nothing takes, in microseconds.
    fn nothing(&self, name: String, turns: u32, time: Duration) -> Result<Line> {
        let mut line = Line::small_is_good(name, "µs");
        let mut client = Client::open(self.server()?.address(), 1)?;
        let request = json!({"cmd": NOTHING});
        for _ in 0..turns {
            let bare = average(time, || {
                let status = Command::new(NOTHING).stdin(Stdio::null()).status()?;
                ensure!(status.success(), "{NOTHING} failed: {status}");
                Ok(())
            })?;
            line.add(Column::Bare, bare);
            let ours = average_of(time, || {
                let begun = Instant::now();
                let id = client.start(&request)?;
                client.finish()?;
                let took = begun.elapsed();
                // Not counted: the others remember nothing.
                client.remove(id)?;
                Ok(took)
            })?;
            line.add(Column::Ours, ours);
            line.add(
                Column::Ssh,
                average(time, || self.ssh()?.run(NOTHING).map(drop))?,
            );
            if let Some(agent) = self.agent()? {
                line.add(Column::Agent, average(time, || agent.run(NOTHING))?);
            }
        }
        line.at_most(1.5, Column::Bare);
        Ok(line)
    }

    /// How fast a program's output comes, in MiB/s.
    fn output(&self, name: String, turns: u32, size: usize) -> Result<Line> {
        let mut line = Line::large_is_good(name, "MiB/s");
        let server = self.server()?;
        let path = server.root().join(STREAMED);
        let block: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_le_bytes).collect();
        let mut file = std::fs::File::create(&path)?;
        for _ in 0..size {
            file.write_all(&block)?;
        }
        drop(file);
        server.account().own(&path)?;
        let path = path.to_str().context("a path that is no text")?;
        let expected = (size * block.len()) as u64;
        let rate = |took: Duration| size as f64 / took.as_secs_f64();
        let mut client = Client::open(server.address(), 1)?;
        for _ in 0..turns {
            let begun = Instant::now();
            let received = bare_output(path)?;
            line.add(Column::Bare, rate(begun.elapsed()));
            ensure!(received == expected, "{received} bytes through a bare pipe");
            let begun = Instant::now();
            let id = client.start(&json!({"cmd": "cat", "args": [STREAMED]}))?;
            let received = client.finish()?;
            line.add(Column::Ours, rate(begun.elapsed()));
            ensure!(received == expected, "{received} bytes of an execution");
            client.remove(id)?;
            let begun = Instant::now();
            let received = self.ssh()?.run(&format!("cat {path}"))?;
            line.add(Column::Ssh, rate(begun.elapsed()));
            ensure!(received == expected, "{received} bytes through ssh");
        }
        line.at_least(0.6, Column::Bare);
        Ok(line)
    }
}

/// Starts a server that lets peers of two addresses run programs: none may take all places.
fn start() -> Result<Server> {
    let options = Options::from_words("-M 0 --exec");
    let server = Server::start(&Program::server(Maker::Ours)?, &options)?;
    let mut connection = Connection::open(server.address())?;
    connection.log_in_by_unix(server.account())?;
    for number in [1, 2, 3] {
        let line = format!("setacl / address:127.0.0.{number} rwldax\n");
        subject::request(&mut connection, line.as_bytes())?;
    }
    Ok(server)
}

/// Returns the average time of an action in microseconds, of as many as `time` has room for.
fn average(time: Duration, mut action: impl FnMut() -> Result<()>) -> Result<f64> {
    average_of(time, || {
        let begun = Instant::now();
        action()?;
        Ok(begun.elapsed())
    })
}

/// Likewise for an action that says itself how long it took.
fn average_of(time: Duration, mut action: impl FnMut() -> Result<Duration>) -> Result<f64> {
    // The first one finds nothing in any cache.
    action()?;
    let (mut sum, mut count) = (Duration::ZERO, 0_u32);
    while sum < time || count < 3 {
        sum += action()?;
        count += 1;
    }
    Ok(sum.as_secs_f64() * 1e6 / f64::from(count))
}

/// Copies what `cat` writes to a pipe into a socket, as a server without any protocol would, and returns
/// how many bytes came out of it.
fn bare_output(path: &str) -> Result<u64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut child = Command::new("cat")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cat")?;
    let mut pipe = child.stdout.take().context("no pipe")?;
    let sender = std::thread::spawn(move || -> Result<()> {
        let mut socket = TcpStream::connect(address)?;
        let mut chunk = vec![0; 1 << 16];
        loop {
            let count = pipe.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            socket.write_all(chunk.get(..count).unwrap_or_default())?;
        }
    });
    let (mut socket, _) = listener.accept()?;
    let mut chunk = vec![0; 1 << 16];
    let mut received = 0;
    loop {
        match socket.read(&mut chunk)? {
            0 => break,
            count => received += count as u64,
        }
    }
    let sent = sender.join();
    sent.map_err(|_| anyhow::anyhow!("the sender failed"))??;
    child.wait()?;
    Ok(received)
}
