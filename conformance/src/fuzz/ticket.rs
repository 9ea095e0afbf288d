//! The ticket with which a script's last subject logs in: the `unix` subject's, registered before each
//! script. Its key is always the same, so that a script names the same ticket wherever it is played.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::connection::{Connection, Stop};

/// The public key: the text that is registered.
pub const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCrfw2C0UCFL6+UCJDYo61Pq4p0
Jj4jChGzsvfnnvBHa7FRCF7rEQqyIqlCPENyhX1hngcklgByXM7xnvlXPIe+pdBp
4OgeqKvfk/x6nrJ8wVTicNxYLQza44UOIUXVmzyICPVddtukLjf3YUafRZe8qzVU
g3BO2oHb64PNFNfTJwIDAQAB
-----END PUBLIC KEY-----
";
/// The digest of [`KEY`], by which a ticket is named.
pub const DIGEST: &str = "6e1991b66de852b3aeeebbc79307039b";
/// Its other half. It protects nothing: only servers that live as long as a test know the ticket.
const SECRET: &str = include_str!("ticket.pem");

/// How long a server may take for a step of the login.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Logs in with the ticket. Returns whether the server took it.
///
/// # Errors
///
/// Fails if the connection does, or `openssl` cannot be run.
pub fn log_in(connection: &mut Connection) -> Result<bool> {
    connection.send(b"ticket\n")?;
    let mut answer = Vec::new();
    let is_answer = |bytes: &[u8]| bytes == b"yes\n" || bytes == b"no\n";
    read(connection, &mut answer, is_answer)?;
    if answer == b"no\n" {
        return Ok(false);
    }
    connection.send(format!("{DIGEST}\n").as_bytes())?;
    answer.clear();
    let is_told = |bytes: &[u8]| match bytes.strip_prefix(b"64\n") {
        Some(challenge) => challenge.len() == 64,
        None => bytes == b"declined\n",
    };
    read(connection, &mut answer, is_told)?;
    let Some(challenge) = answer.strip_prefix(b"64\n") else {
        return Ok(false);
    };
    let signature = sign(challenge)?;
    connection.send(&[format!("{}\n", signature.len()).as_bytes(), &signature].concat())?;
    answer.clear();
    let end = format!("success\nyes\nticket\n{DIGEST}\n");
    read(connection, &mut answer, |bytes| bytes == end.as_bytes())?;
    Ok(true)
}

fn read(
    connection: &mut Connection,
    answer: &mut Vec<u8>,
    done: impl Fn(&[u8]) -> bool,
) -> Result<()> {
    let stop = connection.read_until(answer, SILENCE, done)?;
    ensure!(
        stop == Stop::Satisfied,
        "login by ticket: the server said \"{}\"",
        answer.escape_ascii()
    );
    Ok(())
}

/// Signs a challenge as the reference's client does: no digest, so no digest's prefix.
fn sign(challenge: &[u8]) -> Result<Vec<u8>> {
    let directory = TempDir::new()?;
    let path = |name: &str| directory.path().join(name);
    fs::write(path("key"), SECRET)?;
    fs::write(path("challenge"), challenge)?;
    let output = Command::new("openssl")
        .args(["pkeyutl", "-sign", "-inkey"])
        .arg(path("key"))
        .arg("-in")
        .arg(path("challenge"))
        .stdin(Stdio::null())
        .output()
        .context("cannot run openssl; on Debian: apt-get install openssl")?;
    ensure!(
        output.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
