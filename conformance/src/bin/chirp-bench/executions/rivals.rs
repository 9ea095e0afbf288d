//! What people run programs on other machines with.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::copies::sshd::{self, Sshd};

/// How long a rival may take to start.
const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// An `ssh` server, and a client whose connection others share.
pub(crate) struct Ssh {
    sshd: Sshd,
    master: Child,
    directory: TempDir,
}

impl Ssh {
    pub(crate) fn start() -> Result<Self> {
        let sshd = Sshd::start()?;
        let directory = directory()?;
        let mut command = Command::new(sshd::find("ssh", "openssh-client")?);
        command
            .args(["-M", "-N", "-S"])
            .arg(directory.path().join("control"))
            .args(sshd.options())
            .args(["-p", &sshd.address().port().to_string(), "127.0.0.1"]);
        let master = quiet(&mut command).spawn().context("cannot run ssh")?;
        let mut ssh = Self {
            sshd,
            master,
            directory,
        };
        let control = ssh.directory.path().join("control");
        await_path(&control, &mut ssh.master, "ssh")?;
        Ok(ssh)
    }

    /// Runs a command over the open connection, and returns how many bytes it wrote.
    pub(crate) fn run(&self, command: &str) -> Result<u64> {
        let mut child = Command::new("ssh")
            .arg("-S")
            .arg(self.directory.path().join("control"))
            .args(self.sshd.options())
            .args(["-p", &self.sshd.address().port().to_string()])
            .args(["127.0.0.1", command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run ssh")?;
        let mut output = child.stdout.take().context("no pipe")?;
        let count = std::io::copy(&mut output, &mut std::io::sink())?;
        let status = child.wait()?;
        ensure!(status.success(), "ssh failed: {status}");
        Ok(count)
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// The real guest agent, on this machine: without a virtual machine and its serial port between, which
/// flatters it.
pub(crate) struct Agent {
    child: Child,
    directory: TempDir,
}

impl Agent {
    /// Starts it; none where it is not installed.
    pub(crate) fn start() -> Result<Option<Self>> {
        let Ok(program) = sshd::find("qemu-ga", "qemu-guest-agent") else {
            return Ok(None);
        };
        let directory = directory()?;
        let mut command = Command::new(program);
        command
            .args(["-m", "unix-listen", "-p"])
            .arg(directory.path().join("socket"))
            .arg("-t")
            .arg(directory.path())
            .arg("-f")
            .arg(directory.path().join("pid"));
        let child = quiet(&mut command).spawn().context("cannot run qemu-ga")?;
        let mut agent = Self { child, directory };
        let socket = agent.directory.path().join("socket");
        await_path(&socket, &mut agent.child, "qemu-ga")?;
        Ok(Some(agent))
    }

    /// Runs a program, and asks again and again until it has ended: the agent has no other way.
    pub(crate) fn run(&self, program: &str) -> Result<()> {
        let stream = UnixStream::connect(self.directory.path().join("socket"))?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut ask = |request: Value| -> Result<Value> {
            (&stream).write_all(format!("{request}\n").as_bytes())?;
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let mut answer: Value = serde_json::from_str(&line)?;
            match answer.get_mut("return") {
                Some(value) => Ok(value.take()),
                None => bail!("the guest agent answered {line}"),
            }
        };
        let started = ask(json!({"execute": "guest-exec", "arguments": {"path": program}}))?;
        let pid = started.get("pid").context("no pid")?;
        let status = json!({"execute": "guest-exec-status", "arguments": {"pid": pid}});
        loop {
            let told = ask(status.clone())?;
            if told.get("exited") == Some(&Value::Bool(true)) {
                ensure!(told.get("exitcode") == Some(&json!(0)), "{told}");
                return Ok(());
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn directory() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    let made = builder.prefix("chirp-bench-").tempdir();
    made.context("cannot create a temporary directory")
}

fn quiet(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// Waits until a program has made its socket.
fn await_path(path: &Path, child: &mut Child, name: &str) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    while !path.exists() {
        let ended = child.try_wait()?;
        ensure!(ended.is_none(), "{name} ended at once: {ended:?}");
        ensure!(Instant::now() < deadline, "{name} is not ready after 20 s");
        thread::sleep(POLL);
    }
    Ok(())
}
