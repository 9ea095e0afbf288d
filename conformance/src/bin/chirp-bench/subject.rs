//! The three that are measured, made ready.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use conformance::connection::{Connection, PATIENCE};
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};

/// Size of the large file.
pub(crate) const BIG: u64 = 256 * 1024 * 1024;
/// Size of the small file.
pub(crate) const SMALL: usize = 4096;

/// One of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Reference,
    Ours,
    Floor,
}

impl Subject {
    /// All, in the order of the table.
    pub(crate) const ALL: [Self; 3] = [Self::Reference, Self::Ours, Self::Floor];

    /// Returns whose server it is; the floor is nobody's.
    pub(crate) fn maker(self) -> Option<Maker> {
        match self {
            Self::Reference => Some(Maker::Reference),
            Self::Ours => Some(Maker::Ours),
            Self::Floor => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Ours => "ours",
            Self::Floor => "floor",
        }
    }
}

/// Both servers, running and filled alike.
pub(crate) struct Subjects {
    reference: Server,
    ours: Server,
}

impl Subjects {
    /// Starts both servers and puts the files there that the experiments use.
    pub(crate) fn start() -> Result<Self> {
        let ready = |maker| -> Result<Server> {
            let server = start(maker)?;
            fill(&server).with_context(|| format!("cannot prepare the {} server", maker.name()))?;
            Ok(server)
        };
        Ok(Self {
            reference: ready(Maker::Reference)?,
            ours: ready(Maker::Ours)?,
        })
    }

    /// Returns a server's address; the floor has one only while it is measured.
    pub(crate) fn address(&self, subject: Subject) -> Option<SocketAddr> {
        self.server(subject).map(Server::address)
    }

    /// Returns a server.
    pub(crate) fn server(&self, subject: Subject) -> Option<&Server> {
        match subject {
            Subject::Reference => Some(&self.reference),
            Subject::Ours => Some(&self.ours),
            Subject::Floor => None,
        }
    }

    /// Returns the large file, as the floor sends it.
    pub(crate) fn big_file(&self) -> PathBuf {
        self.ours.root().join("bench/big")
    }

    /// Returns the directory that our server serves.
    pub(crate) fn directory(&self) -> PathBuf {
        self.ours.root()
    }
}

/// Starts a server as both are measured: without a limit on connections, which only the
/// reference has at 100.
pub(crate) fn start(maker: Maker) -> Result<Server> {
    Server::start(&Program::server(maker)?, &Options::from_words("-M 0"))
}

/// Gives the peers that log in by address all rights, and makes the files.
fn fill(server: &Server) -> Result<()> {
    let mut connection = Connection::open(server.address())?;
    connection.log_in_by_unix(server.account())?;
    request(&mut connection, b"setacl / address:127.0.0.1 rwldax\n")?;
    request(&mut connection, b"mkdir /bench 448\n")?;
    let directory = server.root().join("bench");
    let block = vec![b'x'; 1 << 20];
    let blocks = usize::try_from(BIG)? / block.len();
    for (name, length, count) in [("f", SMALL, 1), ("big", block.len(), blocks)] {
        let path = directory.join(name);
        let mut file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        for _ in 0..count {
            file.write_all(block.get(..length).unwrap_or(&block))?;
        }
        server.account().own(&path)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(())
}

/// Sends a request that answers `0`.
pub(crate) fn request(connection: &mut Connection, line: &[u8]) -> Result<()> {
    connection.send(line)?;
    let mut reply = Vec::new();
    connection.read_until(&mut reply, PATIENCE, |bytes| bytes.ends_with(b"\n"))?;
    ensure!(
        reply == b"0\n",
        "\"{}\" was answered \"{}\"",
        line.escape_ascii(),
        reply.escape_ascii()
    );
    Ok(())
}

/// Connects and logs in by address.
pub(crate) fn log_in(address: SocketAddr) -> Result<Connection> {
    let mut connection = Connection::open(address)?;
    connection.log_in_by_address()?;
    Ok(connection)
}
