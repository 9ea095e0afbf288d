//! A ticket's key, made and used by `openssl`, as the reference's clients do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use md5::{Digest as _, Md5};

use crate::common::{Peer, Place};

/// A private key, in a file beside the tree.
pub(crate) struct Key {
    file: PathBuf,
    /// The public key's text.
    pub(crate) public: String,
}

impl Key {
    pub(crate) fn new(place: &Place, name: &str) -> Self {
        let file = place.base(name);
        openssl(&["genrsa", "-out", file.to_str().unwrap(), "1024"]);
        let public = openssl(&["rsa", "-in", file.to_str().unwrap(), "-pubout"]);
        let public = String::from_utf8(public).unwrap();
        Self { file, public }
    }

    /// The digest that the ticket of this key has.
    pub(crate) fn digest(&self) -> String {
        digest(&self.public)
    }

    pub(crate) fn sign(&self, challenge: &Path) -> Vec<u8> {
        let (key, challenge) = (self.file.to_str().unwrap(), challenge.to_str().unwrap());
        openssl(&["pkeyutl", "-sign", "-inkey", key, "-in", challenge])
    }

    /// Signs the digest of something in the form that every other protocol uses.
    pub(crate) fn sign_as_others_do(&self, data: &Path) -> Vec<u8> {
        let (key, data) = (self.file.to_str().unwrap(), data.to_str().unwrap());
        openssl(&["dgst", "-sha256", "-sign", key, data])
    }
}

/// The digest of a ticket that was registered with this text.
pub(crate) fn digest(text: &str) -> String {
    Md5::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Registers a ticket; returns the answer.
pub(crate) fn register(peer: &mut Peer, subject: &str, seconds: i64, text: &str) -> i64 {
    peer.number(format!(
        "ticket_register {subject} {seconds} {}\n{text}",
        text.len()
    ))
}

/// Begins a login with a ticket; returns the challenge, or nothing if the ticket is declined.
#[track_caller]
pub(crate) fn begin(peer: &mut Peer, digest: &str) -> Option<Vec<u8>> {
    peer.send(format!("ticket\n{digest}\n"))
        .read_exactly("yes\n");
    match peer.line().as_str() {
        "declined" => None,
        "64" => Some(peer.take(64)),
        other => panic!("an answer to a digest: {other}"),
    }
}

/// Ends it with a signature; returns whether it is good.
#[track_caller]
pub(crate) fn finish(peer: &mut Peer, signature: &[u8]) -> bool {
    peer.send(format!("{}\n", signature.len())).send(signature);
    match peer.line().as_str() {
        "success" => {
            peer.read_exactly("yes\nticket\n");
            peer.line();
            true
        }
        "failure" => false,
        other => panic!("a verdict: {other}"),
    }
}

/// Logs in with a ticket.
#[track_caller]
pub(crate) fn login(place: &Place, peer: &mut Peer, digest: &str, key: &Key) -> bool {
    let Some(challenge) = begin(peer, digest) else {
        return false;
    };
    let file = place.base(&format!(
        "challenge-{}",
        peer.socket().local_addr().unwrap().port()
    ));
    std::fs::write(&file, challenge).unwrap();
    finish(peer, &key.sign(&file))
}

/// Who the server says a peer acts for.
#[track_caller]
pub(crate) fn whoami(peer: &mut Peer) -> String {
    peer.send("whoami 1000\n");
    String::from_utf8(peer.counted().unwrap()).unwrap()
}

#[track_caller]
fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    output.stdout
}
