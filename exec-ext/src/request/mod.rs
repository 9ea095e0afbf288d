//! What `exec` asks for: the request as a value, its strict reader and its digest.
//!
//! Strings of a request are byte strings ([`OsString`]): names in a guest need not be UTF-8, and on
//! the wire `{"base64":"…"}` stands for those that are not.

mod canonical;
mod fields;
mod json;
mod write;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Deref;

use chirp_proto::Code;
use serde_json::Value;

use crate::limits::REQUEST_MAX;
use crate::status::Limits;

/// One `exec` request, valid in itself. Whether the subject may have it is the server's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program: an absolute path in the guest, a bare name to be found through `PATH`, or
    /// `./name` relative to [`path`](Self::path).
    pub cmd: OsString,
    /// The arguments behind the program's own name.
    pub args: Vec<OsString>,
    /// Variables added to the clean environment. Names hold neither `=` nor NUL.
    pub env: BTreeMap<String, OsString>,
    /// The working directory, a virtual path in the exported tree; not yet normalised.
    pub path: OsString,
    /// The caller's unique id; the server chooses one where it is absent.
    pub cmd_id: Option<CmdId>,
    /// Where standard input comes from.
    pub stdin: StdinFrom,
    /// Where standard output goes.
    pub stdout: OutputTo,
    /// Where standard error goes. With [`tty`](Self::tty) it joins standard output, whatever stands here.
    pub stderr: OutputTo,
    /// The terminal to run under, if any.
    pub tty: Option<Terminal>,
    /// Limits asked for; the server's own stay in force.
    pub limits: Limits,
    /// Milliseconds between `usage` frames; 0 sends none.
    pub usage_ms: u64,
    /// What to do when the connection is lost.
    pub on_disconnect: OnDisconnect,
    /// Whether to answer the id and return to request mode at once.
    pub detach: bool,
}

impl ExecRequest {
    /// Returns a request for `cmd` with every other field at its default.
    #[must_use]
    pub fn new(cmd: impl Into<OsString>) -> Self {
        Self {
            cmd: cmd.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            path: OsString::from("/"),
            cmd_id: None,
            stdin: StdinFrom::None,
            stdout: OutputTo::Stream,
            stderr: OutputTo::Stream,
            tty: None,
            limits: Limits::default(),
            usage_ms: 0,
            on_disconnect: OnDisconnect::Keep,
            detach: false,
        }
    }

    /// Reads the JSON body of an `exec` request, as strictly as the specification asks.
    ///
    /// # Errors
    ///
    /// [`RequestError`] names the offending field: unknown or repeated at any depth, of a wrong
    /// type, out of range, an integer beyond 2^53, or a string with NUL; or says that the body is
    /// above [`REQUEST_MAX`] or no JSON.
    pub fn parse(body: &[u8]) -> Result<Received, RequestError> {
        if body.len() > REQUEST_MAX {
            return Err(RequestError {
                code: Code::TooBig,
                message: format!("request body above {REQUEST_MAX} bytes"),
            });
        }
        let sent = json::parse(body)?;
        let request = fields::request(&sent)?;
        Ok(Received {
            request,
            digest: canonical::digest(&sent),
            shown: without_environment(sent),
        })
    }

    /// Returns the JSON body that asks for this, without the fields that have their defaults.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        write::value(self).to_string().into_bytes()
    }

    /// Returns the SHA-256 of the canonical form (RFC 8785) of [`to_json`](Self::to_json): the
    /// digest a server computes when it receives that body.
    #[must_use]
    pub fn digest(&self) -> Digest {
        canonical::digest(&write::value(self))
    }

    /// Returns where standard error goes: with a terminal, wherever standard output goes.
    #[must_use]
    pub fn stderr_in_force(&self) -> &OutputTo {
        match self.tty {
            Some(_) => &OutputTo::Stdout,
            None => &self.stderr,
        }
    }
}

/// A request as a server received it: the value, and what has to be kept of the bytes.
#[derive(Clone, Debug)]
pub struct Received {
    request: ExecRequest,
    digest: Digest,
    shown: Value,
}

impl Received {
    /// Returns the SHA-256 of the canonical form of the body as it was sent. A field given with
    /// its default counts: two bodies agree only if they say the same.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the request as sent, for a status: the environment's values are left out (their
    /// names stay, with null).
    #[must_use]
    pub fn shown(&self) -> &Value {
        &self.shown
    }
}

impl Deref for Received {
    type Target = ExecRequest;

    fn deref(&self) -> &ExecRequest {
        &self.request
    }
}

/// The SHA-256 of a request's canonical JSON.
pub type Digest = [u8; 32];

/// A caller's id for an execution: 1 to 128 characters of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CmdId(String);

impl CmdId {
    /// Takes `text` as an id; None if it is empty, too long or holds another character.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let length = 1..=crate::limits::CMD_ID_MAX;
        (length.contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// Returns the id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for CmdId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a program's standard input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StdinFrom {
    /// Nowhere: it is at its end at once.
    None,
    /// The client, through `in` frames.
    Stream,
    /// A file in the exported tree, by its virtual path.
    File(OsString),
}

/// Where a program's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputTo {
    /// The client, through `out` or `err` frames.
    Stream,
    /// Kept for the status and `exec_output`.
    Capture,
    /// Nowhere.
    Discard,
    /// A file in the exported tree.
    File {
        /// The file's virtual path.
        path: OsString,
        /// Whether to write behind what is there instead of replacing it.
        append: bool,
    },
    /// Where standard output goes; for standard error only.
    Stdout,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Lines, from 1.
    pub rows: u16,
    /// Characters in a line, from 1.
    pub cols: u16,
}

/// What happens to an execution whose connection is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It goes on and can be taken over later.
    #[default]
    Keep,
    /// It is ended.
    Kill,
}

/// Why a body is not a valid request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// The code to answer: [`Code::TooBig`] above the size limit, [`Code::InvalidRequest`] else.
    pub code: Code,
    /// The words after it, naming the field; one line.
    pub message: String,
}

impl RequestError {
    fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: Code::InvalidRequest,
            message: message.into(),
        }
    }
}

/// Replaces the values of `env` by null.
fn without_environment(mut sent: Value) -> Value {
    if let Some(Value::Object(variables)) = sent.get_mut("env") {
        for value in variables.values_mut() {
            *value = Value::Null;
        }
    }
    sent
}

#[cfg(test)]
mod tests;
