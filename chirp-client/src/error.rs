//! What can go wrong, each with the host it happened at, the thing it concerned and the reason.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use chirp_proto::Code;

use crate::transfer::Incomplete;

/// A failure of a call. Its text names host, path and reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is no `HOST`, `HOST:PORT`, `[V6]:PORT` or `unix:/PATH`.
    #[error("bad address {address:?}: {reason}")]
    Address {
        /// The text that was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// No connection came about.
    #[error("{host}: failed to connect: {source}")]
    Connect {
        /// `HOST:PORT`.
        host: String,
        /// Of the last address that was tried.
        source: io::Error,
    },

    /// The server let none of the methods pass.
    #[error("{host}: login failed: {tried}")]
    Login {
        /// `HOST:PORT`.
        host: String,
        /// Each method that was tried with its outcome, in order.
        tried: String,
    },

    /// The server answered with an error code. The connection stays usable.
    #[error(
        "{host}: {verb}{}{path}: {}{}",
        if path.is_empty() { "" } else { " " },
        code.text(),
        message.as_ref().map(|words| format!(" ({words})")).unwrap_or_default()
    )]
    Refused {
        /// `HOST:PORT`.
        host: String,
        /// The request, as the wire names it.
        verb: String,
        /// What it was about, printable; empty where the verb has no object.
        path: String,
        /// The code.
        code: Code,
        /// The server's own words, which only the extension's verbs may add.
        message: Option<String>,
    },

    /// The server sent what no Chirp server may. The connection is closed.
    #[error("{host}: protocol violation: {what}")]
    Protocol {
        /// `HOST:PORT`.
        host: String,
        /// What was wrong.
        what: String,
    },

    /// Time went by without progress.
    #[error("{host}: {what}: nothing came for {}s{}", after.as_secs_f64(), if *usable {
        ""
    } else {
        "; the connection was given up"
    })]
    Timeout {
        /// `HOST:PORT`.
        host: String,
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// Whether the connection can still be used: not if the time passed in the middle of a
        /// body.
        usable: bool,
    },

    /// The connection is gone, now or since an earlier call. Nothing was changed by the request: it
    /// never left, or it only looks.
    #[error("{host}: connection lost: {reason}")]
    Lost {
        /// `HOST:PORT`.
        host: String,
        /// Why.
        reason: String,
    },

    /// The connection was lost before the answer to a request that changes something came.
    #[error(
        "{host}: {verb}{}{path}: it may or may not have been done: connection lost: {reason}",
        if path.is_empty() { "" } else { " " },
    )]
    Uncertain {
        /// `HOST:PORT`.
        host: String,
        /// The request, as the wire names it.
        verb: String,
        /// What it was about, printable; empty where the verb has no object.
        path: String,
        /// Why the connection ended.
        reason: String,
    },

    /// A local file or stream failed.
    #[error("failed to {doing} {}: {source}", path.display())]
    Local {
        /// What was being done: "open", "write to".
        doing: &'static str,
        /// The file on this machine.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },

    /// The request cannot be expressed on the wire; nothing was sent.
    #[error("{what}: {reason}")]
    Argument {
        /// The argument, printable.
        what: String,
        /// Why it cannot be sent.
        reason: &'static str,
    },

    /// The server lacks a feature that was asked for.
    #[error("{host}: the server does not offer {feature}{}", remedy_for(feature))]
    Unsupported {
        /// `HOST:PORT`.
        host: String,
        /// The feature's name in the reply of `features`.
        feature: &'static str,
    },

    /// A program's output or its status did not arrive as the server said it would.
    #[error("{host}: exec: {reason}")]
    Exec {
        /// `HOST:PORT`.
        host: String,
        /// What happened.
        reason: String,
    },

    /// A copy needs more space than there is; nothing was copied.
    #[error("{place}: {needed} bytes are needed and {available} are free; make room or copy less")]
    NoSpace {
        /// The directory, with its host where that is another one.
        place: String,
        /// What would have to be written, in bytes.
        needed: u64,
        /// What may be written, in bytes.
        available: u64,
    },

    /// A transfer was ended by [`crate::transfer::TransferOptions::cancel`].
    #[error("the copy was given up before its end")]
    Cancelled,

    /// What arrived is not what was sent.
    #[error("{path}: its {digest} differs from that of the original: {remedy}")]
    Different {
        /// The copy, with its host where that is another one.
        path: String,
        /// The digest that was compared.
        digest: &'static str,
        /// What to do.
        remedy: &'static str,
    },

    /// Some entries of a tree were not copied; all others were.
    #[error(transparent)]
    Incomplete(#[from] Box<Incomplete>),
}

impl Error {
    /// Returns the wire code, if the server refused the request.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Reports whether connecting may succeed a little later: nobody listens yet, or the network is
    /// away.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown
                    | io::ErrorKind::TimedOut
                    // The socket of a server that is being started again.
                    | io::ErrorKind::NotFound
            ),
            Self::Lost { .. } | Self::Timeout { .. } => true,
            _ => false,
        }
    }

    /// Reports whether the connection is of no more use after this.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::Timeout { usable, .. } => !*usable,
            Self::Connect { .. }
            | Self::Login { .. }
            | Self::Protocol { .. }
            | Self::Lost { .. }
            | Self::Uncertain { .. }
            | Self::Exec { .. } => true,
            _ => false,
        }
    }
}

fn remedy_for(feature: &str) -> &'static str {
    match feature {
        "exec" => "; it needs a chirp-server started with --exec",
        "sha256" => "; md5 works on every server",
        _ => "",
    }
}

/// Returns bytes as people read them: text as it is, anything else escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}
