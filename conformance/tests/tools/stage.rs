//! Where a case happens: a fresh server, a client, and a directory for the client.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};
use conformance::tool::{self, Outcome};
use tempfile::TempDir;

/// A server with an empty root, and an empty working directory for clients.
pub(crate) struct Stage {
    server: Server,
    client: Program,
    work: TempDir,
}

/// Returns the client of `maker`, if it and its companions are there.
pub(crate) fn client(maker: Maker) -> Result<Program> {
    match maker {
        Maker::Reference => {
            Program::reference("chirp_get")?;
            Program::reference("chirp_put")?;
            Program::reference("chirp")
        }
        Maker::Ours => Program::our_client(),
    }
}

impl Stage {
    pub(crate) fn set(client: Maker, server: Maker) -> Result<Self> {
        let server = Server::start(&Program::server(server)?, &Options::default())?;
        let work = tempfile::Builder::new().prefix("conformance-").tempdir()?;
        server.account().own(work.path())?;
        Ok(Self {
            server,
            client: self::client(client)?,
            work,
        })
    }

    /// Runs the client with `-t 5 -a unix HOST:PORT` and `words`.
    pub(crate) fn client(&self, words: &[&str]) -> Result<Outcome> {
        self.client_fed(words, b"")
    }

    /// As [`Stage::client`], with `input` on its standard input.
    pub(crate) fn client_fed(&self, words: &[&str], input: &[u8]) -> Result<Outcome> {
        let host = self.host();
        let arguments = [&["-t", "5", "-a", "unix", &host], words].concat();
        self.run(&self.client.path, &arguments, input)
    }

    /// Runs the client with exactly these arguments.
    pub(crate) fn client_raw(&self, arguments: &[&str]) -> Result<Outcome> {
        self.run(&self.client.path, arguments, b"")
    }

    /// Runs `chirp_put -t 5 -a unix LOCAL HOST:PORT REMOTE`.
    pub(crate) fn chirp_put(&self, local: &str, remote: &str) -> Result<Outcome> {
        let host = self.host();
        let program = Program::reference("chirp_put")?;
        let arguments = ["-t", "5", "-a", "unix", local, &host, remote];
        self.run(&program.path, &arguments, b"")
    }

    /// Runs `chirp_get -t 5 -a unix HOST:PORT REMOTE LOCAL`.
    pub(crate) fn chirp_get(&self, remote: &str, local: &str) -> Result<Outcome> {
        let host = self.host();
        let program = Program::reference("chirp_get")?;
        let arguments = ["-t", "5", "-a", "unix", &host, remote, local];
        self.run(&program.path, &arguments, b"")
    }

    fn run(&self, program: &Path, arguments: &[&str], input: &[u8]) -> Result<Outcome> {
        tool::run(
            program,
            arguments,
            self.work.path(),
            self.server.account(),
            input,
        )
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(crate) fn host(&self) -> String {
        self.address().to_string()
    }

    /// The login of the user that server and clients run as.
    pub(crate) fn login(&self) -> &str {
        &self.server.account().login
    }

    pub(crate) fn uid(&self) -> u32 {
        self.server.account().uid
    }

    /// The served directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.server.root()
    }

    /// A path in the clients' directory.
    pub(crate) fn local(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Writes a file in the clients' directory, with mode 0644.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.local(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        self.server.account().own(&path)
    }

    pub(crate) fn mkdir(&self, name: &str) -> Result<()> {
        let path = self.local(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        self.server.account().own(&path)
    }

    pub(crate) fn symlink(&self, target: &str, name: &str) -> Result<()> {
        let path = self.local(name);
        symlink(target, &path).with_context(|| format!("cannot create {}", path.display()))?;
        self.server.account().own(&path)
    }

    /// Makes a directory `tree` with a bit of everything.
    pub(crate) fn plant_tree(&self) -> Result<()> {
        self.mkdir("tree")?;
        self.mkdir("tree/sub")?;
        self.mkdir("tree/sub/empty dir")?;
        self.write("tree/one", b"1\n")?;
        self.write("tree/empty", b"")?;
        self.write("tree/sub/100% sp ace", b"two\nlines\n")?;
        self.write("tree/sub/big", &pattern(300_000))?;
        self.write("tree/script", b"#!/bin/sh\n")?;
        fs::set_permissions(self.local("tree/script"), fs::Permissions::from_mode(0o755))?;
        self.symlink("../one", "tree/sub/link")
    }
}

/// Returns bytes in which a lost, doubled or swapped block shows.
pub(crate) fn pattern(length: u32) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Checks that two trees are alike: names, kinds, contents, link targets, and the owner's `x`.
/// Names that the server reserves (`.__*`) do not count.
pub(crate) fn same_tree(left: &Path, right: &Path) -> Result<()> {
    let (left, right) = (snapshot(left)?, snapshot(right)?);
    ensure!(
        left.len() == right.len(),
        "trees of different size:\n{:?}\n{:?}",
        names(&left),
        names(&right)
    );
    for (one, other) in left.iter().zip(&right) {
        ensure!(one.0 == other.0, "{} here, {} there", one.0, other.0);
        ensure!(one.1 == other.1, "{} differs", one.0);
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Entry {
    Directory,
    File { content: Vec<u8>, executable: bool },
    Link(PathBuf),
}

fn names(entries: &[(String, Entry)]) -> Vec<&str> {
    entries.iter().map(|entry| entry.0.as_str()).collect()
}

fn snapshot(top: &Path) -> Result<Vec<(String, Entry)>> {
    let mut entries = Vec::new();
    visit(top, "", &mut entries)?;
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(entries)
}

fn visit(directory: &Path, prefix: &str, entries: &mut Vec<(String, Entry)>) -> Result<()> {
    let listing =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for item in listing {
        let path = item?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with(".__") {
            continue;
        }
        let name = format!("{prefix}/{name}");
        let metadata = fs::symlink_metadata(&path)?;
        let entry = if metadata.is_dir() {
            visit(&path, &name, entries)?;
            Entry::Directory
        } else if metadata.is_symlink() {
            Entry::Link(fs::read_link(&path)?)
        } else {
            Entry::File {
                content: fs::read(&path)?,
                executable: metadata.permissions().mode() & 0o100 != 0,
            }
        };
        entries.push((name, entry));
    }
    Ok(())
}
