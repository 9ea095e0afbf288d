//! A broker of any kind, as one value.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use beacon::Credentials;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, free_address};
use crate::{activemq, coilmq, embedded, rabbitmq};

/// The maker of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours, in a process of its own.
    Embedded,
    /// RabbitMQ with its STOMP plugin.
    RabbitMq,
    /// ActiveMQ "classic" with a STOMP connector.
    ActiveMq,
    /// CoilMQ.
    CoilMq,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Embedded => "embedded",
            Self::RabbitMq => "RabbitMQ",
            Self::ActiveMq => "ActiveMQ",
            Self::CoilMq => "CoilMQ",
        })
    }
}

/// Returns the account of guests: it may send presence, and nothing else where the broker can tell.
#[must_use]
pub fn guest_account() -> Credentials {
    account("vm")
}

/// Returns the account of agents.
#[must_use]
pub fn agent_account() -> Credentials {
    account("host")
}

fn account(login: &str) -> Credentials {
    Credentials {
        login: login.to_owned(),
        passcode: format!("{login}-secret"),
    }
}

/// A running broker; its processes end with it.
#[derive(Debug)]
pub struct Broker {
    kind: Kind,
    address: SocketAddr,
    processes: Option<Processes>,
    directory: TempDir,
}

/// The processes of a broker.
#[derive(Debug)]
pub(crate) struct Processes {
    /// The broker.
    pub(crate) main: Process,
    /// What it needs beside itself.
    pub(crate) helper: Option<Process>,
}

impl Broker {
    /// Starts a broker and waits until it answers.
    ///
    /// # Errors
    ///
    /// The broker is not installed, ends, or does not answer in [`START_WITHIN`]; the text has its log.
    pub fn start(kind: Kind) -> Result<Self> {
        let mut broker = Self {
            kind,
            address: free_address()?,
            processes: None,
            directory: tempfile::tempdir()?,
        };
        broker.start_again()?;
        Ok(broker)
    }

    /// Starts the broker that was killed, on the same port and with what it had on disk.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_again(&mut self) -> Result<()> {
        let (directory, address) = (self.directory.path(), self.address);
        let said_before = self.log().len();
        let processes = match self.kind {
            Kind::Embedded => embedded::start(directory, address),
            Kind::RabbitMq => rabbitmq::start(directory, address),
            Kind::ActiveMq => activemq::start(directory, address),
            Kind::CoilMq => coilmq::start(directory, address),
        }?;
        self.processes = Some(processes);
        let deadline = Instant::now() + START_WITHIN;
        while !(self.has_said(said_before) && answers(address)) {
            let runs = match &mut self.processes {
                Some(processes) => processes.main.is_running()?,
                None => false,
            };
            if !runs || Instant::now() > deadline {
                let how = if runs { "does not answer" } else { "has ended" };
                bail!("{} {how}; its log:\n{}", self.kind, self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Returns whether the broker has said by itself that it is ready, where it is of a kind that does.
    ///
    /// RabbitMQ listens before, and leaves some who come too early without an answer for ever.
    fn has_said(&self, before: usize) -> bool {
        let words = match self.kind {
            Kind::RabbitMq => "completed with",
            _ => "",
        };
        self.log()
            .get(before..)
            .is_some_and(|log| log.contains(words))
    }

    /// Returns the broker's maker.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns where the broker listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the broker's main process.
    ///
    /// # Errors
    ///
    /// The broker was killed.
    pub fn process(&self) -> Result<&Process> {
        let processes = self.processes.as_ref();
        Ok(&processes.context("the broker was killed")?.main)
    }

    /// Kills the broker as a crash would.
    pub fn kill(&mut self) {
        if let Some(Processes { mut main, helper }) = self.processes.take() {
            main.kill();
            drop(helper);
        }
    }

    /// Stops the broker's threads: its kernel still accepts connections, and nobody answers.
    ///
    /// # Errors
    ///
    /// The broker was killed.
    pub fn freeze(&self) -> Result<()> {
        Ok(self.process()?.signal(Signal::STOP)?)
    }

    /// Lets a frozen broker go on.
    ///
    /// # Errors
    ///
    /// The broker was killed.
    pub fn thaw(&self) -> Result<()> {
        Ok(self.process()?.signal(Signal::CONT)?)
    }

    /// Returns what the broker has written.
    #[must_use]
    pub fn log(&self) -> String {
        let log = std::fs::read(self.directory.path().join(LOG)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

/// Returns whether the broker accepts the agent's account.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let Credentials { login, passcode } = agent_account();
        let connect = format!(
            "CONNECT\naccept-version:1.1\nhost:/\nlogin:{login}\npasscode:{passcode}\n\n\0"
        );
        stream.write_all(connect.as_bytes())?;
        let mut word = [0; 9];
        stream.read_exact(&mut word)?;
        Ok(&word == b"CONNECTED")
    };
    ask().unwrap_or(false)
}

/// How long a broker may take to start, on a busy machine.
pub const START_WITHIN: Duration = Duration::from_secs(200);
/// Name of the file with what a broker writes.
pub(crate) const LOG: &str = "log";

/// Opens the file that a broker's output goes to, at its end.
pub(crate) fn log(directory: &std::path::Path) -> Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    Ok(options
        .create(true)
        .append(true)
        .open(directory.join(LOG))?)
}
