//! The client's side of the login (`chirp-protocol.md`, part 2).

mod cookie;
mod ticket;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use chirp_proto::dialect::Dialect;
use chirp_proto::{Method, Subject};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::connection::{Fault, Reader};
use crate::cookie::Cookie;
use crate::ticket::Offered;

/// What the name of a challenge file begins with, on the reference's server and on ours. Anything
/// else a server asks for is not made: an empty file can matter (`/etc/nologin`).
const CHALLENGE_PREFIX: &[u8] = b"challenge.";

/// What logins may have to show.
#[derive(Clone, Copy)]
pub(crate) struct Secrets<'a> {
    pub(crate) tickets: &'a Offered,
    pub(crate) cookie: Option<&'a Cookie>,
}

/// A login that passed.
pub(crate) struct Login {
    /// Who the server takes us for.
    pub(crate) subject: Subject,
    /// How we showed that.
    pub(crate) method: Method,
    /// What is spoken from here on.
    pub(crate) dialect: Dialect,
}

/// Why nobody was let in.
pub(crate) enum LoginError {
    /// The connection is of no more use.
    Fault(Fault),
    /// No method passed: each with its outcome, in order.
    Refused(String),
}

impl<F: Into<Fault>> From<F> for LoginError {
    fn from(fault: F) -> Self {
        Self::Fault(fault.into())
    }
}

/// Tries the methods in their order until one passes.
pub(crate) async fn login(
    reader: &mut Reader,
    writer: &mut (impl AsyncWrite + Unpin),
    methods: &[Method],
    secrets: Secrets<'_>,
) -> Result<Login, LoginError> {
    let mut tried = Vec::new();
    for &method in methods {
        match attempt(reader, writer, method, secrets).await? {
            Ok(subject) => {
                return Ok(Login {
                    subject,
                    method,
                    dialect: match method {
                        Method::Cookie => Dialect::Condor,
                        _ => Dialect::Plain,
                    },
                });
            }
            Err(reason) => tried.push(format!("{method}: {reason}")),
        }
    }
    Err(LoginError::Refused(if tried.is_empty() {
        "no method to try".to_owned()
    } else {
        tried.join("; ")
    }))
}

/// Runs one method; the inner error is why the next one's turn has come.
async fn attempt(
    reader: &mut Reader,
    writer: &mut (impl AsyncWrite + Unpin),
    method: Method,
    secrets: Secrets<'_>,
) -> Result<Result<Subject, String>, LoginError> {
    if method == Method::Cookie {
        return match secrets.cookie {
            Some(cookie) => cookie::offer(reader, writer, cookie).await,
            None => Ok(Err("there is no cookie to offer".to_owned())),
        };
    }
    let keys = match method {
        Method::Ticket => secrets.tickets.keys(),
        _ => Vec::new(),
    };
    if method == Method::Ticket && keys.is_empty() {
        return Ok(Err("there is no ticket to offer".to_owned()));
    }
    send(writer, method.name().as_bytes()).await?;
    if !is_offered(reader).await? {
        return Ok(Err("the server does not offer it".to_owned()));
    }
    let passed = match method {
        Method::Unix => match unix(reader, writer).await? {
            Ok(passed) => passed,
            Err(reason) => return Ok(Err(reason)),
        },
        Method::Ticket => match ticket::offer(reader, writer, keys).await? {
            Ok(()) => true,
            Err(reason) => return Ok(Err(reason)),
        },
        _ => yes_or_no(reader).await?,
    };
    if !passed {
        return Ok(Err("the server refused it".to_owned()));
    }
    if !yes_or_no(reader).await? {
        return Ok(Err("the server refused it".to_owned()));
    }
    let name = reader.line().await?;
    let subject = reader.line().await?;
    if name != method.name() {
        return Err(LoginError::Fault(Fault::Protocol(format!(
            "login by {method} was confirmed as {:?}",
            name.escape_ascii().to_string()
        ))));
    }
    Ok(Ok(Subject::new(method, &subject)))
}

/// Proves the local user by making the file that the server names. Returns the server's verdict, or
/// why the file was not made.
async fn unix(
    reader: &mut Reader,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<Result<bool, String>, LoginError> {
    let path = reader.line().await?;
    match Challenge::create(&path) {
        Ok(_file) => {
            send(writer, b"yes").await?;
            Ok(Ok(yes_or_no(reader).await?))
        }
        Err(reason) => {
            send(writer, b"no").await?;
            Ok(Err(reason))
        }
    }
}

/// The challenge file; deleted when this is dropped.
struct Challenge(PathBuf);

impl Challenge {
    fn create(path: &[u8]) -> Result<Self, String> {
        let path = Path::new(OsStr::from_bytes(path));
        check_challenge_path(path)
            .map_err(|reason| format!("the server asks for the file {path:?}, {reason}"))?;
        // Exclusive creation does not follow a link of that name either.
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| format!("failed to create {}: {error}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Challenge {
    fn drop(&mut self) {
        // The server deletes it too; who comes second finds nothing.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Refuses what no honest server asks for.
fn check_challenge_path(path: &Path) -> Result<(), &'static str> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return Err("which is no absolute path");
    }
    if !components.all(|component| matches!(component, Component::Normal(_))) {
        return Err("which is no plain path");
    }
    let bytes = path.as_os_str().as_bytes();
    if bytes.contains(&0) || bytes.iter().any(u8::is_ascii_control) {
        return Err("which is no plain path");
    }
    let named = path
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(CHALLENGE_PREFIX));
    if !named || bytes.ends_with(b"/") {
        return Err("which is no challenge");
    }
    if path.parent().is_none_or(|parent| parent == Path::new("/")) {
        return Err("which lies in the root directory");
    }
    Ok(())
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), line: &[u8]) -> Result<(), Fault> {
    writer.write_all(&[line, b"\n"].concat()).await?;
    writer.flush().await?;
    Ok(())
}

/// Reads what the server says to a method. HTCondor's proxy knows none but the cookie, and answers
/// any other with a code.
async fn is_offered(reader: &mut Reader) -> Result<bool, Fault> {
    let line = reader.line().await?;
    match &line[..] {
        b"-1" => Ok(false),
        _ => meaning(&line),
    }
}

async fn yes_or_no(reader: &mut Reader) -> Result<bool, Fault> {
    meaning(&reader.line().await?)
}

fn meaning(line: &[u8]) -> Result<bool, Fault> {
    match line {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(Fault::Protocol(format!(
            "{:?} where yes or no was due; is this a Chirp server?",
            line.get(..60).unwrap_or(line).escape_ascii().to_string()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_challenges_are_made() {
        for good in ["/tmp/challenge.1.2", "/var/lib/x/challenge.ab-9"] {
            assert_eq!(check_challenge_path(Path::new(good)), Ok(()), "{good}");
        }
        for bad in [
            "",
            "challenge.1",
            "/challenge.1",
            "/etc/nologin",
            "/tmp/../etc/challenge.1",
            "/tmp/challenge.1/..",
            "/tmp/challenge.1/",
            "/tmp/challenge.\n1",
            "/",
        ] {
            assert!(check_challenge_path(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_existing_file_or_link_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("challenge.1");
        std::fs::write(&file, "precious").unwrap();
        let link = directory.path().join("challenge.2");
        std::os::unix::fs::symlink(directory.path().join("made"), &link).unwrap();
        for path in [&file, &link] {
            assert!(Challenge::create(path.as_os_str().as_bytes()).is_err());
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
        assert!(!directory.path().join("made").exists());
    }
}
