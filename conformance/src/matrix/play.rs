//! Where a journey happens in one cell, and what is written down of it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, ensure};
use tempfile::TempDir;

use super::cell::Cell;
use super::clients::Clients;
use super::normal::Normal;
use super::outcome::{Record, Step};
use super::{terminal, tree};
use crate::account::Account;
use crate::program::Program;
use crate::target::{Options, Server};
use crate::tool::{self, Outcome};

/// The longest file in which something may differ from run to run, as a ticket does. Longer ones are as they
/// are, and looking through them takes longer than all else.
const VARYING_MAX: usize = 10_000;

/// How `chirp` is told its commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As arguments.
    Batch,
    /// As lines of standard input.
    Script,
    /// As arguments, in a journey in which that is all the same.
    Tools,
}

impl Form {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Script => "script",
            Self::Tools => "tools",
        }
    }
}

/// Servers, a directory for the tools, and what they said so far.
pub(super) struct Play<'a> {
    servers: Vec<Server>,
    account: Account,
    form: Form,
    /// The clients that work now, and those that use what they made.
    clients: [&'a Clients; 2],
    work: TempDir,
    environment: Vec<(String, String)>,
    normal: Normal,
    steps: Vec<Step>,
    /// Whether what is done now only prepares: then each tool has to succeed.
    preparing: bool,
}

impl<'a> Play<'a> {
    /// Starts the servers of a cell, and lets its clients log in on each.
    pub(super) fn set(
        cell: &Cell,
        clients: &'a [Clients; 2],
        servers: &[Program; 2],
        form: Form,
        options: &str,
    ) -> Result<Self> {
        let options = Options::from_words(options);
        let account = Account::unprivileged()?;
        let work = tempfile::Builder::new().prefix("conformance-").tempdir()?;
        account.own(work.path())?;
        let mut normal = Normal::new()?;
        normal.replace(&work.path().to_string_lossy(), "{WORK}");
        let mut started = Vec::new();
        for (index, side) in cell.servers.iter().enumerate() {
            let server = Server::start(side.of(servers), &options)?;
            normal.replace(&server.address().to_string(), &placeholder(index));
            normal.replace(
                &server.root().to_string_lossy(),
                &format!("{{ROOT{index}}}"),
            );
            started.push(server);
        }
        let mut play = Self {
            servers: started,
            account,
            form,
            clients: cell.clients.map(|side| side.of(clients)),
            work,
            environment: Vec::new(),
            normal,
            steps: Vec::new(),
            preparing: false,
        };
        // For scripts that start a server themselves.
        if let Some(side) = cell.servers.first() {
            play.set_variable("SERVER", &side.of(servers).path.to_string_lossy());
        }
        play.log_in()?;
        Ok(play)
    }

    /// Checks that each set of clients reaches each server as this user, so that no two cells are
    /// alike only because nothing worked in either.
    fn log_in(&self) -> Result<()> {
        let expected = format!("unix:{}\n", self.account.login);
        let [make, take] = self.clients;
        for clients in [make, take] {
            for server in &self.servers {
                let host = server.address().to_string();
                let arguments = ["-t", "20", "-a", "unix", host.as_str(), "whoami"];
                let path = clients.tool("chirp");
                tool::run(&path, &arguments, self.work.path(), &self.account, b"")?
                    .succeeds()?
                    .prints(&expected)
                    .with_context(|| format!("{} cannot log in", clients.label()))?;
            }
            if make.label() == take.label() {
                break;
            }
        }
        Ok(())
    }

    /// Does what a journey needs before it begins. Each tool has to succeed; what came of it is
    /// compared as any other step is.
    pub(super) fn prepare(&mut self, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.preparing = true;
        act(self).context("set-up")?;
        self.preparing = false;
        Ok(())
    }

    /// Lets the other set of clients, in cells in which there is one, do what follows.
    pub(super) fn hand_over(&mut self) {
        self.clients.reverse();
    }

    /// Runs one command of `chirp` as this user. `{HOST}`, `{HOST1}`, … in it are the servers.
    pub(super) fn chirp(&mut self, line: &str) -> Result<Outcome> {
        self.chirp_with(&["-a", "unix"], line)
    }

    /// As [`Play::chirp`], with these options of `chirp` before the host.
    pub(super) fn chirp_with(&mut self, options: &[&str], line: &str) -> Result<Outcome> {
        let mut arguments = vec!["-t".to_owned(), "5".to_owned()];
        arguments.extend(options.iter().map(|word| (*word).to_owned()));
        arguments.push("{HOST}".to_owned());
        match self.form {
            Form::Batch | Form::Tools => {
                arguments.extend(split(line));
                self.record("chirp", &arguments, "")
            }
            Form::Script => self.record("chirp", &arguments, &format!("{line}\n")),
        }
    }

    /// Runs `chirp` with a script on its standard input, whatever the form.
    pub(super) fn script(&mut self, script: &str) -> Result<Outcome> {
        let arguments = ["-t", "5", "-a", "unix", "{HOST}"].map(str::to_owned);
        self.record("chirp", &arguments, script)
    }

    /// Runs a command line: a program of the reference with its arguments.
    pub(super) fn tool(&mut self, line: &str) -> Result<Outcome> {
        let mut words = split(line);
        ensure!(!words.is_empty(), "no program");
        let name = words.remove(0);
        self.record(&name, &words, "")
    }

    /// Types lines at a terminal, each at a prompt of `chirp`.
    pub(super) fn terminal(&mut self, lines: &[&str]) -> Result<()> {
        let host = self.address(0)?.to_string();
        let filled: Vec<String> = lines.iter().map(|line| self.fill(line)).collect();
        let [clients, _] = self.clients;
        let mut command = Command::new(clients.tool("chirp"));
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
        self.steps.push(Step {
            what: format!("$ chirp at a terminal: {lines:?}"),
            parts: vec![
                ("exit", format!("{code:?}")),
                ("shown", self.normal.apply(&shown)),
            ],
        });
        Ok(())
    }

    /// Runs a command of the shell.
    pub(super) fn shell(&mut self, line: &str) -> Result<Outcome> {
        self.record("sh", &["-c".to_owned(), line.to_owned()], "")
    }

    fn record(&mut self, name: &str, arguments: &[String], input: &str) -> Result<Outcome> {
        let [clients, _] = self.clients;
        let program = if clients.has(name) {
            clients.tool(name)
        } else {
            Program::reference(name)?.path
        };
        let filled: Vec<String> = arguments.iter().map(|word| self.fill(word)).collect();
        let mut environment = self.environment.clone();
        let path = clients.search_path()?;
        environment.push(("PATH".to_owned(), path.to_string_lossy().into_owned()));
        if !input.is_empty() {
            // Wherever it repeats what it reads (see `without_echo`), in lines as they are.
            environment.push(("TERM".to_owned(), "dumb".to_owned()));
            environment.push(("COLUMNS".to_owned(), "1000".to_owned()));
        }
        let outcome = tool::run_with(
            &program,
            &filled,
            self.work.path(),
            &self.account,
            self.fill(input).as_bytes(),
            &environment,
        )?;
        let mut what = format!("$ {name} {}", arguments.join(" "));
        if !input.is_empty() {
            what.push_str(&format!(" < {}", input.escape_debug()));
        }
        let stdout = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let stdout = without_echo(&stdout, &self.fill(input));
        self.steps.push(Step {
            what,
            parts: vec![
                ("exit", format!("{:?}", outcome.code)),
                ("stdout", self.normal.apply(&stdout)),
                ("stderr", self.normal.apply(&outcome.stderr)),
            ],
        });
        if self.preparing {
            return outcome.succeeds();
        }
        Ok(outcome)
    }

    /// Sorts what the last tool printed: the order of a directory is nobody's promise.
    pub(super) fn sort(&mut self) {
        if let Some(step) = self.steps.last_mut() {
            for (_, text) in &mut step.parts {
                let mut lines: Vec<&str> = text.lines().collect();
                lines.sort_unstable();
                *text = lines.join("\n");
            }
        }
    }

    /// Writes down the trees of all servers.
    pub(super) fn trees(&mut self) -> Result<()> {
        for index in 0..self.servers.len() {
            let root = self.root(index)?;
            self.leave(&format!("tree {index}"), &root)?;
        }
        Ok(())
    }

    /// Writes down what is in a directory.
    fn leave(&mut self, what: &str, directory: &Path) -> Result<()> {
        let normal = &mut self.normal;
        let lines = tree::list(directory, |content| match str::from_utf8(content) {
            Ok(text) if content.len() <= VARYING_MAX => normal.apply(text).into_bytes(),
            _ => content.to_owned(),
        })?;
        // The names of tickets are their digests.
        let left = self.normal.apply(&lines.join("\n"));
        self.steps.push(Step {
            what: what.to_owned(),
            parts: vec![("left", left)],
        });
        Ok(())
    }

    /// Writes down the trees of all servers and of the tools' directory.
    pub(super) fn finish(mut self) -> Record {
        let work = self.work.path().to_owned();
        match self.trees().and_then(|()| self.leave("local tree", &work)) {
            Ok(()) => Record::done(self.steps),
            Err(error) => Record::failed(self.steps, &error),
        }
    }

    /// Ends where the journey found something else than it expects.
    pub(super) fn fail(self, error: &Error) -> Record {
        if self.preparing {
            return Record::not_set_up(error);
        }
        Record::failed(self.steps, error)
    }

    /// Waits until files, one on each server, have that many bytes together: what a stream carries is
    /// written after the client has gone.
    pub(super) fn wait_for_bytes(&self, names: &[&str], wanted: u64) -> Result<()> {
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

    /// Checks that a file on the first server has exactly this content.
    pub(super) fn holds(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.root(0)?.join(name);
        let came = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            came == content,
            "{name} has \"{}\", not \"{}\"",
            came.escape_ascii(),
            content.escape_ascii()
        );
        Ok(())
    }

    /// Returns how many servers there are.
    pub(super) fn servers(&self) -> usize {
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

    pub(super) fn address(&self, index: usize) -> Result<SocketAddr> {
        Ok(self.servers.get(index).context("no such server")?.address())
    }

    pub(super) fn root(&self, index: usize) -> Result<PathBuf> {
        Ok(self.servers.get(index).context("no such server")?.root())
    }

    pub(super) fn work(&self) -> &Path {
        self.work.path()
    }

    /// Sets a variable of the tools' environment.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Writes a file into the tools' directory.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
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

/// Leaves out the lines that a tool repeats of its input: the reference's `chirp` does where it is
/// built with readline, as Debian's is, and nobody's script reads them.
fn without_echo(stdout: &str, input: &str) -> String {
    let mut echo = input.lines().filter(|line| !line.is_empty()).peekable();
    let mut kept = String::new();
    for line in stdout.split_inclusive('\n') {
        let repeats = line.strip_suffix('\n').is_some();
        if repeats
            && echo
                .peek()
                .is_some_and(|next| line.trim_end_matches('\n') == *next)
        {
            echo.next();
        } else {
            kept.push_str(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_input_is_left_out_once_and_in_order() {
        assert_eq!(without_echo("a\nx\nb\nb\n", "a\nb\n"), "x\nb\n");
        assert_eq!(without_echo("b\na\n", "a\n\nb\n"), "b\n");
        assert_eq!(without_echo("a\nb\n", "a\n\nb\n"), "");
        assert_eq!(without_echo("a", "a\n"), "a");
        assert_eq!(without_echo("text\n", ""), "text\n");
    }
}
