//! Today's client on an older server, and an older client on today's server. The older ones are
//! stored: see `older/README.md`.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use conformance::account::Account;
use conformance::program::Program;
use conformance::target::{Options, Server};
use tempfile::TempDir;

/// The stored programs.
const OLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/older/chirp-0.1.0-x86_64-linux.tar.xz"
);

#[test]
fn todays_client_works_with_an_older_server() -> Result<()> {
    let older = Older::unpack()?;
    let pair = Pair::start(&older.server(), &Program::our_client()?)?;
    pair.copies_a_tree()?;
    pair.runs_programs()?;
    pair.looks_after_files()?;
    // What is newer than the server does its work with what the server has.
    pair.succeeds(&["tree", "/"])?;
    pair.succeeds(&["du", "/"])?;
    pair.succeeds(&["features"])?;
    Ok(())
}

#[test]
fn an_older_client_works_with_todays_server() -> Result<()> {
    let older = Older::unpack()?;
    let pair = Pair::start(&Program::our_server()?, &older.client())?;
    pair.copies_a_tree()?;
    pair.runs_programs()?;
    pair.looks_after_files()
}

/// The stored programs, unpacked.
struct Older(TempDir);

impl Older {
    fn unpack() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        // Servers and clients run as somebody else.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let status = Command::new("tar")
            .args(["-xJf", OLDER, "-C"])
            .arg(directory.path())
            .status()
            .context("cannot run tar")?;
        ensure!(
            status.success(),
            "tar cannot unpack {OLDER}: {status}; it needs xz: apt-get install xz-utils"
        );
        Ok(Self(directory))
    }

    fn client(&self) -> Program {
        self.program("chirp-client")
    }

    fn server(&self) -> Program {
        self.program("chirp-server")
    }

    fn program(&self, name: &str) -> Program {
        Program {
            label: format!("older {name}"),
            path: self.0.path().join(name),
        }
    }
}

/// A server, a client, and a directory for the client.
struct Pair {
    server: Server,
    client: PathBuf,
    account: Account,
    local: TempDir,
}

impl Pair {
    fn start(server: &Program, client: &Program) -> Result<Self> {
        let server = Server::start(server, &Options::from_words("--exec"))?;
        let account = Account::unprivileged()?;
        let local = tempfile::tempdir()?;
        account.own(local.path())?;
        let pair = Self {
            server,
            client: client.path.clone(),
            account,
            local,
        };
        let subject = format!("unix:{}", pair.account.login);
        pair.succeeds(&["setacl", "/", &subject, "rwldax"])?;
        Ok(pair)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command
            .args(["-a", "unix", "-t", "20"])
            .arg(self.server.address().to_string())
            .args(arguments)
            .current_dir(self.local.path())
            .stdin(Stdio::null());
        self.account.apply(&mut command);
        command
    }

    fn runs(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments).output();
        output.with_context(|| format!("cannot run {}", self.client.display()))
    }

    fn succeeds(&self, arguments: &[&str]) -> Result<String> {
        let output = self.runs(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Puts a tree, gets it back, and finds the same in all three places.
    fn copies_a_tree(&self) -> Result<()> {
        let source = self.local.path().join("source");
        plant(&source, &self.account)?;
        let planted = content(&source)?;
        self.succeeds(&["put", "source", "/"])?;
        let stored = content(&self.server.root().join("source"))?;
        ensure!(
            planted == stored,
            "{planted:?} was put, {stored:?} is there"
        );
        self.succeeds(&["get", "/source", "back"])?;
        let back = content(&self.local.path().join("back"))?;
        ensure!(planted == back, "{planted:?} was there, {back:?} came");
        Ok(())
    }

    fn runs_programs(&self) -> Result<()> {
        let script = "cat; echo oops >&2; exit 7";
        let mut child = self
            .command(&["exec", "--stdin", "-", "--", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // More than any pipe or window holds.
        let input = vec![b'x'; 3_000_000];
        let mut stdin = child.stdin.take().context("stdin is a pipe")?;
        let sent = input.clone();
        let sending = std::thread::spawn(move || stdin.write_all(&sent));
        let output = child.wait_with_output()?;
        sending
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        ensure!(output.status.code() == Some(7), "{:?}", output.status);
        ensure!(output.stderr == b"oops\n", "{:?}", output.stderr);
        ensure!(output.stdout == input, "{} bytes", output.stdout.len());
        let missing = self.runs(&["exec", "--", "no-such-program"])?;
        ensure!(missing.status.code() == Some(127), "{missing:?}");
        Ok(())
    }

    fn looks_after_files(&self) -> Result<()> {
        let subject = format!("unix:{}\n", self.account.login);
        ensure!(self.succeeds(&["whoami"])? == subject);
        self.succeeds(&["mkdir", "-p", "/a/b"])?;
        self.succeeds(&["put", "source/small", "/a/f"])?;
        self.succeeds(&["mv", "/a/f", "/a/b"])?;
        ensure!(self.succeeds(&["ls", "/a/b"])? == "f\n");
        ensure!(self.succeeds(&["cat", "/a/b/f"])? == "small\n");
        ensure!(self.succeeds(&["stat", "/a/b/f"])?.contains("size:    6\n"));
        let sha256 = "4c47b3e816fbe7d40cef9f665ba8f0be1ae68b5e8e7ed70f5b6bab7f70528e8f";
        ensure!(self.succeeds(&["sha256", "/a/b/f"])? == format!("{sha256}  /a/b/f\n"));
        let md5 = "D15DBFCB847653913855E21370D83AF1";
        ensure!(self.succeeds(&["md5", "/a/b/f"])? == format!("{md5}\t/a/b/f\n"));
        ensure!(
            self.succeeds(&["getacl", "/a"])?
                .contains(subject.trim_end())
        );
        self.succeeds(&["rm", "/a"])?;
        let none = self.runs(&["ls", "/a"])?;
        ensure!(none.status.code() == Some(1), "{none:?}");
        Ok(())
    }
}

/// Makes a tree of everything that a tree can have.
fn plant(top: &Path, account: &Account) -> Result<()> {
    for directory in ["", "empty", "many", "many/.hidden", "ü b"] {
        fs::create_dir(top.join(directory))?;
    }
    for number in 0..300 {
        fs::write(top.join(format!("many/{number}")), number.to_string())?;
    }
    let large: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    fs::write(top.join("large"), large)?;
    fs::write(top.join("small"), "small\n")?;
    fs::write(top.join(".dot"), "")?;
    fs::write(top.join("ü b/%20 c"), "x")?;
    let program = top.join("program");
    fs::write(&program, "#!/bin/sh\n")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    symlink("../small", top.join("many/link"))?;
    symlink("nowhere", top.join("dangling"))?;
    for path in content(top)?.keys() {
        account.own(&top.join(path))?;
    }
    account.own(top)
}

/// What is at a path: a directory, a link's text, or bytes and whether they may be run.
#[derive(Debug, PartialEq)]
enum Node {
    Directory,
    Link(PathBuf),
    File { length: usize, sum: u64, runs: bool },
}

/// Returns all that is in a tree but the server's own files.
fn content(top: &Path) -> Result<BTreeMap<PathBuf, Node>> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory);
        for entry in entries.with_context(|| directory.display().to_string())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(".__") {
                continue;
            }
            let path = entry.path();
            let kind = entry.file_type()?;
            let node = if kind.is_symlink() {
                Node::Link(fs::read_link(&path)?)
            } else if kind.is_dir() {
                left.push(path.clone());
                Node::Directory
            } else {
                let bytes = fs::read(&path)?;
                Node::File {
                    length: bytes.len(),
                    sum: bytes.iter().fold(0, |sum: u64, &byte| {
                        sum.wrapping_mul(31).wrapping_add(u64::from(byte))
                    }),
                    runs: entry.metadata()?.permissions().mode() & 0o100 != 0,
                }
            };
            found.insert(path.strip_prefix(top)?.to_owned(), node);
        }
    }
    Ok(found)
}
