//! Starts a server, waits until it takes requests, stops it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::account::Account;
use crate::connection::Connection;
use crate::program::Program;

mod bound;

/// How often a server is started anew because another one took its port.
const START_TRIES: u32 = 10;
/// What a server says then.
const PORT_TAKEN: &str = "Address already in use";
/// How long a server may take from its start to its first login.
const START_LIMIT: Duration = Duration::from_secs(20);
/// The authentication methods with which the vectors were recorded.
const METHODS: [&str; 4] = ["unix", "hostname", "address", "ticket"];
/// How often a starting server is looked at.
const POLL: Duration = Duration::from_millis(2);

/// What to start a server with, besides what every server here gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Further arguments; `{DEFAULT_ACL}` stands for a file with `unix:{USER} rwlda` and
    /// `address:127.0.0.1 rl`.
    pub arguments: Vec<String>,
    /// The catalog to tell about the server, as `HOST:PORT`; nobody if there is none.
    pub catalog: Option<SocketAddr>,
}

impl Options {
    /// Splits a vector's `server` text at blanks.
    #[must_use]
    pub fn from_words(words: &str) -> Self {
        Self {
            arguments: words.split_whitespace().map(str::to_owned).collect(),
            catalog: None,
        }
    }
}

/// A server that takes requests.
pub trait Target {
    /// Returns where it listens.
    fn address(&self) -> SocketAddr;
    /// Returns the user who logs in to it by the method `unix`.
    fn account(&self) -> &Account;
    /// Returns the directory that it serves, where that can be looked at.
    fn served(&self) -> Option<PathBuf>;
}

impl Target for Server {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn account(&self) -> &Account {
        &self.account
    }

    fn served(&self) -> Option<PathBuf> {
        Some(self.root())
    }
}

/// A server that somebody else started: nothing is known of it but where it listens.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    address: SocketAddr,
    account: Account,
}

impl Elsewhere {
    /// Returns the server at `address`, without asking it anything.
    ///
    /// # Errors
    ///
    /// As [`Account::unprivileged`].
    pub fn at(address: SocketAddr) -> Result<Self> {
        Ok(Self {
            address,
            account: Account::unprivileged()?,
        })
    }
}

impl Target for Elsewhere {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn account(&self) -> &Account {
        &self.account
    }

    fn served(&self) -> Option<PathBuf> {
        None
    }
}

/// A running server on a free loopback port, with an empty root of its own.
///
/// Dropping it kills the server with everything it started, and removes its directories.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    account: Account,
    directories: Directories,
}

impl Server {
    /// Starts a server and returns when it has let somebody log in.
    ///
    /// # Errors
    ///
    /// Fails with the end of the server's log if it ends or takes longer than 20 seconds.
    pub fn start(program: &Program, options: &Options) -> Result<Self> {
        let mut tries = 1;
        loop {
            match Self::start_once(program, options) {
                // The reference looks for a free port and then takes it: servers that start at the
                // same time can find the same one.
                Err(error) if tries < START_TRIES && format!("{error:#}").contains(PORT_TAKEN) => {
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn start_once(program: &Program, options: &Options) -> Result<Self> {
        let account = Account::unprivileged()?;
        let directories = Directories::create(&account)?;
        let mut command = command(program, options, &account, &directories)?;
        account.apply(&mut command);
        let child = bound::spawn(command)
            .with_context(|| format!("cannot run {}", program.path.display()))?;
        let mut server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            account,
            directories,
        };
        match server.wait_until_ready() {
            Ok(()) => Ok(server),
            Err(error) => {
                let log = fs::read_to_string(server.directories.log()).unwrap_or_default();
                let start = log.len().saturating_sub(2000);
                let log = log.get(start..).unwrap_or(&log).trim_end();
                Err(error.context(format!("{} said: {log}", program.path.display())))
            }
        }
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the user it runs as.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Returns the directory that it serves.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.directories.root()
    }

    /// Returns its process, which is also its process group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended while starting: {status}");
            }
            match self.probe() {
                // One that has ended meanwhile was not the one that answered.
                Ok(()) if self.child.try_wait()?.is_none() => return Ok(()),
                Ok(()) => {}
                Err(error) if Instant::now() >= deadline => {
                    return Err(error.context("the server takes no requests after 20 s"));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// The port file may be there before the server listens, so only a login counts.
    fn probe(&mut self) -> Result<()> {
        let text = fs::read_to_string(self.directories.port_file())?;
        let line = text.strip_suffix('\n').context("half a port file")?;
        self.address.set_port(line.parse()?);
        Connection::open(self.address)?.log_in_by_address()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The reference has a process for each connection; the group is the server's own.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn command(
    program: &Program,
    options: &Options,
    account: &Account,
    directories: &Directories,
) -> Result<Command> {
    let log = File::create(directories.log()).context("cannot create the server's log")?;
    let mut command = Command::new(&program.path);
    command
        .arg("-r")
        .arg(directories.root())
        .arg("-y")
        .arg(directories.transient())
        .arg("-Z")
        .arg(directories.port_file())
        .args(["-I", "127.0.0.1", "-u"])
        .arg(
            options
                .catalog
                .map_or_else(|| "-".to_owned(), |catalog| catalog.to_string()),
        );
    for method in METHODS {
        command.args(["-a", method]);
    }
    for argument in &options.arguments {
        if argument == "{DEFAULT_ACL}" {
            command.arg(directories.write_default_acl(account)?);
        } else {
            command.arg(argument);
        }
    }
    command
        // The reference fills 16 MiB for each connection: in large pages that takes a third of the time.
        .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    Ok(command)
}

/// The temporary directory of one server: root, transient directory, port file, log.
#[derive(Debug)]
struct Directories {
    top: TempDir,
}

impl Directories {
    fn create(account: &Account) -> Result<Self> {
        let top = tempfile::Builder::new()
            .prefix("conformance-")
            .tempdir()
            .context("cannot create a temporary directory")?;
        let this = Self { top };
        account.own(this.top.path())?;
        for directory in [this.root(), this.transient()] {
            fs::create_dir(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
            account.own(&directory)?;
        }
        Ok(this)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn transient(&self) -> PathBuf {
        self.path("transient")
    }

    fn port_file(&self) -> PathBuf {
        self.path("port")
    }

    fn log(&self) -> PathBuf {
        self.path("log")
    }

    fn write_default_acl(&self, account: &Account) -> Result<PathBuf> {
        let path = self.path("default-acl");
        let text = format!("unix:{} rwlda\naddress:127.0.0.1 rl\n", account.login);
        write_for(account, &path, &text)?;
        Ok(path)
    }
}

fn write_for(account: &Account, path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    account.own(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_at_blanks() {
        assert_eq!(Options::from_words("").arguments, Vec::<String>::new());
        assert_eq!(Options::from_words("-Q 1MB").arguments, ["-Q", "1MB"]);
    }

    #[test]
    fn a_program_that_ends_at_once_is_reported_with_what_it_said() {
        let program = Program {
            label: "cat".to_owned(),
            path: PathBuf::from("/bin/cat"),
        };
        let error = Server::start(&program, &Options::default()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("cat: "), "{text}");
        assert!(text.contains("ended while starting"), "{text}");
    }
}
