//! Where a scene happens, and what is written down of it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use conformance::account::Account;
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};
use conformance::tool::{self, Outcome};
use tempfile::TempDir;

use crate::normal::Normal;
use crate::terminal;

/// How `chirp` is told its commands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As arguments.
    Batch,
    /// As lines of standard input.
    Script,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Script => "script",
        }
    }
}

/// Servers of one maker, a directory for the tools, and what they said so far.
pub(crate) struct Play {
    servers: Vec<Server>,
    account: Account,
    form: Form,
    work: TempDir,
    environment: Vec<(String, String)>,
    normal: Normal,
    transcript: Vec<String>,
}

impl Play {
    pub(crate) fn set(maker: Maker, form: Form, options: &str, count: usize) -> Result<Self> {
        let options = Options::from_words(options);
        let makers = vec![maker; count];
        let mut play = Self::with_servers(&makers, form, &options)?;
        // For scripts that start a server themselves.
        let server = Program::server(maker)?.path;
        play.set_variable("SERVER", &server.to_string_lossy());
        Ok(play)
    }

    /// Starts a server of each of these makers.
    pub(crate) fn with_servers(makers: &[Maker], form: Form, options: &Options) -> Result<Self> {
        let account = Account::unprivileged()?;
        let work = tempfile::Builder::new().prefix("conformance-").tempdir()?;
        account.own(work.path())?;
        let mut normal = Normal::new()?;
        normal.replace(&work.path().to_string_lossy(), "{WORK}");
        let mut servers = Vec::new();
        for (index, maker) in makers.iter().enumerate() {
            let server = Server::start(&Program::server(*maker)?, options)?;
            normal.replace(&server.address().to_string(), &placeholder(index));
            normal.replace(
                &server.root().to_string_lossy(),
                &format!("{{ROOT{index}}}"),
            );
            servers.push(server);
        }
        Ok(Self {
            servers,
            account,
            form,
            work,
            environment: Vec::new(),
            normal,
            transcript: Vec::new(),
        })
    }

    /// Runs one command of `chirp` as this user. `{HOST}`, `{HOST1}`, … in it are the servers.
    pub(crate) fn chirp(&mut self, line: &str) -> Result<Outcome> {
        self.chirp_with(&["-a", "unix"], line)
    }

    /// As [`Play::chirp`], with these options of `chirp` before the host.
    pub(crate) fn chirp_with(&mut self, options: &[&str], line: &str) -> Result<Outcome> {
        let mut arguments = vec!["-t".to_owned(), "5".to_owned()];
        arguments.extend(options.iter().map(|word| (*word).to_owned()));
        arguments.push("{HOST}".to_owned());
        match self.form {
            Form::Batch => {
                arguments.extend(split(line));
                self.record("chirp", &arguments, "")
            }
            Form::Script => self.record("chirp", &arguments, &format!("{line}\n")),
        }
    }

    /// Runs `chirp` with a script on its standard input, whatever the form.
    pub(crate) fn script(&mut self, script: &str) -> Result<Outcome> {
        let arguments = ["-t", "5", "-a", "unix", "{HOST}"].map(str::to_owned);
        self.record("chirp", &arguments, script)
    }

    /// Runs a command line: a program of the reference with its arguments.
    pub(crate) fn tool(&mut self, line: &str) -> Result<Outcome> {
        let mut words = split(line);
        ensure!(!words.is_empty(), "no program");
        let name = words.remove(0);
        self.record(&name, &words, "")
    }

    /// Types lines at a terminal, each at a prompt of `chirp`.
    pub(crate) fn terminal(&mut self, lines: &[&str]) -> Result<()> {
        let program = Program::reference("chirp")?;
        let host = self.address(0)?.to_string();
        let filled: Vec<String> = lines.iter().map(|line| self.fill(line)).collect();
        let mut command = Command::new(&program.path);
        command
            .args(["-t", "5", "-a", "unix", &host])
            .current_dir(self.work.path())
            .env("HOME", self.work.path())
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("TERM", "dumb");
        self.account.apply(&mut command);
        let (shown, code) = terminal::converse(command, &filled)?;
        ensure!(shown.contains("hello"), "no answers in {shown:?}");
        let mut step = format!("$ chirp at a terminal: {lines:?}");
        self.add(&mut step, "shown", &shown);
        step.push_str(&format!("\nexit {code:?}"));
        self.transcript.push(step);
        Ok(())
    }

    /// Runs a command of the shell.
    pub(crate) fn shell(&mut self, line: &str) -> Result<Outcome> {
        self.record("sh", &["-c".to_owned(), line.to_owned()], "")
    }

    fn record(&mut self, name: &str, arguments: &[String], input: &str) -> Result<Outcome> {
        let program = Program::reference(name)?;
        let filled: Vec<String> = arguments.iter().map(|word| self.fill(word)).collect();
        let outcome = tool::run_with(
            &program.path,
            &filled,
            self.work.path(),
            &self.account,
            self.fill(input).as_bytes(),
            &self.environment,
        )?;
        let mut step = format!("$ {name} {}", arguments.join(" "));
        if !input.is_empty() {
            step.push_str(&format!("\n< {}", input.escape_debug()));
        }
        let stdout = String::from_utf8_lossy(&outcome.stdout).into_owned();
        self.add(&mut step, "stdout", &stdout);
        self.add(&mut step, "stderr", &outcome.stderr);
        step.push_str(&format!("\nexit {:?}", outcome.code));
        self.transcript.push(step);
        Ok(outcome)
    }

    fn add(&mut self, step: &mut String, what: &str, text: &str) {
        for line in self.normal.apply(text).lines() {
            step.push_str(&format!("\n{what}: {line}"));
        }
    }

    /// Writes down a text.
    pub(crate) fn note(&mut self, text: &str) {
        let text = self.normal.apply(text);
        self.transcript.push(text);
    }

    /// Sorts what the last tool printed: the order of a directory is nobody's promise.
    pub(crate) fn sort(&mut self) {
        if let Some(step) = self.transcript.last_mut() {
            let mut lines: Vec<&str> = step.lines().collect();
            if let Some(printed) = lines.get_mut(1..) {
                printed.sort_unstable();
            }
            *step = lines.join("\n");
        }
    }

    /// Writes down the trees of all servers.
    pub(crate) fn trees(&mut self) -> Result<()> {
        for index in 0..self.servers.len() {
            let mut lines = Vec::new();
            visit(&self.root(index)?, "", &mut lines)?;
            lines.sort();
            for line in lines {
                self.note(&format!("tree {index}: {line}"));
            }
        }
        Ok(())
    }

    /// Writes down the trees of all servers, and returns everything written.
    pub(crate) fn finish(mut self) -> Result<Vec<String>> {
        self.trees()?;
        Ok(self.transcript)
    }

    /// Waits until files, one on each server, have that many bytes together: what a stream carries is
    /// written after the client has gone.
    pub(crate) fn wait_for_bytes(&self, names: &[&str], wanted: u64) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut sum = 0;
            for (index, name) in names.iter().enumerate() {
                sum += fs::metadata(self.root(index)?.join(name)).map_or(0, |file| file.len());
            }
            if sum == wanted {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{names:?} have {sum} bytes, not {wanted}, ten seconds after their streams"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns how many servers there are.
    pub(crate) fn servers(&self) -> usize {
        self.servers.len()
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (index, server) in self.servers.iter().enumerate() {
            text = text.replace(&placeholder(index), &server.address().to_string());
            if index == 0 {
                text = text.replace("{ROOT}", &server.root().to_string_lossy());
            }
        }
        text.replace("{WORK}", &self.work.path().to_string_lossy())
            .replace("{USER}", &self.account.login)
    }

    pub(crate) fn address(&self, index: usize) -> Result<SocketAddr> {
        Ok(self.servers.get(index).context("no such server")?.address())
    }

    pub(crate) fn root(&self, index: usize) -> Result<PathBuf> {
        Ok(self.servers.get(index).context("no such server")?.root())
    }

    pub(crate) fn work(&self) -> &Path {
        self.work.path()
    }

    /// Sets a variable of the tools' environment.
    pub(crate) fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Writes a file into the tools' directory.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.work.path().join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        self.account.own(&path)
    }
}

fn placeholder(index: usize) -> String {
    match index {
        0 => "{HOST}".to_owned(),
        other => format!("{{HOST{other}}}"),
    }
}

/// Splits at blanks, except between apostrophes, as `chirp` does with a line.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Lists everything below a directory: kind, mode, links and content. Of the names that a server
/// reserves only the lists of rights count.
fn visit(directory: &Path, prefix: &str, lines: &mut Vec<String>) -> Result<()> {
    let listing =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for item in listing {
        let path = item?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with(".__") && name != ".__acl" {
            continue;
        }
        let name = format!("{prefix}/{name}");
        let metadata = fs::symlink_metadata(&path)?;
        let mode = metadata.permissions().mode();
        if metadata.is_dir() {
            lines.push(format!("{name} {mode:o}"));
            visit(&path, &name, lines)?;
        } else if metadata.is_symlink() {
            lines.push(format!("{name} -> {}", fs::read_link(&path)?.display()));
        } else {
            let content = fs::read(&path)?;
            let start = content.get(..200).unwrap_or(&content);
            lines.push(format!(
                "{name} {mode:o} {} bytes, sum {}: {}",
                content.len(),
                sum(&content),
                start.escape_ascii()
            ));
        }
    }
    Ok(())
}

/// Adds up the bytes so that a changed or moved one shows.
fn sum(content: &[u8]) -> u64 {
    content.iter().fold(1, |sum, byte| {
        u64::wrapping_mul(sum, 31).wrapping_add(u64::from(*byte))
    })
}
