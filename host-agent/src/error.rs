//! The agent's errors, each with the thing, the reason and, where there is one, the remedy.

use std::io;
use std::path::PathBuf;

/// Why the API's socket cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// The directory is not private.
    #[error("the directory {} of the API socket {reason}; make it a directory of your own with mode 0700, or name another socket with --socket or Host.api_socket", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another agent runs there.
    #[error("another host-agent is running on {}; stop it, or name another socket with --socket or Host.api_socket", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket stands there.
    #[error("{} exists and is no socket; remove it, or name another socket with --socket or Host.api_socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit into a socket address.
    #[error("the socket path {} is longer than {limit} bytes; name a shorter one with --socket or Host.api_socket", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// How long one may be.
        limit: usize,
    },
    /// Nobody listens there.
    #[error("no host-agent is running on {} ({source}); start one with `host-agent serve`, or name its socket with --socket or --config", path.display())]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// The other end is not ours.
    #[error("the socket {} belongs to user {uid}, who is neither you nor root; name your agent's with --socket", path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// A system call failed.
    #[error("cannot use the API socket {}: {source}", path.display())]
    Io {
        /// The socket or its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
