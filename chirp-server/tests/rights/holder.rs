//! Somebody with the private key of a ticket.

use std::io::Write;
use std::process::{Command, Stdio};

use md5::{Digest as _, Md5};

use crate::common::{Peer, Server};

/// A key pair as `openssl` makes it.
pub(crate) struct Holder {
    private: tempfile::NamedTempFile,
    /// The text to register.
    pub(crate) public: String,
    /// The ticket's name without `ticket:`.
    pub(crate) digest: String,
}

impl Holder {
    pub(crate) fn new(bits: u32) -> Self {
        let bits = format!("rsa_keygen_bits:{bits}");
        let private = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits], b"");
        let public = String::from_utf8(openssl(&["rsa", "-pubout"], &private)).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), private).unwrap();
        Self {
            private: file,
            digest: digest(&public),
            public,
        }
    }

    /// Registers the key for whoever the peer is.
    #[track_caller]
    pub(crate) fn register(&self, peer: &mut Peer, seconds: i64) {
        let Self { public, .. } = self;
        let length = public.len();
        peer.expect(
            format!("ticket_register self {seconds} {length}\n{public}"),
            "0\n",
        );
    }

    /// Sets masks.
    #[track_caller]
    pub(crate) fn allow(&self, peer: &mut Peer, masks: &[(&str, &str)]) {
        let Self { digest, .. } = self;
        for (path, rights) in masks {
            peer.expect(
                format!("ticket_modify ticket:{digest} {path} {rights}\n"),
                "0\n",
            );
        }
    }

    /// Signs a challenge as the method asks for it.
    pub(crate) fn sign(&self, challenge: &[u8]) -> Vec<u8> {
        let key = self.private.path().to_str().unwrap();
        openssl(&["pkeyutl", "-sign", "-inkey", key], challenge)
    }

    /// Names the ticket on a connection and returns the challenge, if there is one.
    #[track_caller]
    pub(crate) fn challenge(&self, peer: &mut Peer) -> Option<Vec<u8>> {
        peer.send(format!("ticket\n{}\n", self.digest))
            .read_exactly("yes\n");
        match peer.line().as_str() {
            "declined" => None,
            length => Some(peer.take(length.parse().unwrap())),
        }
    }

    /// Returns the answer to `ticket_get` without the time that is left.
    #[track_caller]
    pub(crate) fn shown(&self, peer: &mut Peer) -> String {
        let Self { digest, public, .. } = self;
        peer.send(format!("ticket_get ticket:{digest}\n"))
            .read_exactly("0\n");
        let owner = String::from_utf8(peer.counted().unwrap()).unwrap();
        assert_eq!(peer.counted().unwrap(), public.as_bytes());
        let left: i64 = peer.line().parse().unwrap();
        assert!((1..=600).contains(&left), "{left}");
        let mut shown = owner;
        loop {
            let line = peer.line();
            if line == "0" {
                return shown;
            }
            shown.push('\n');
            shown.push_str(&line);
        }
    }

    /// Logs in.
    #[track_caller]
    pub(crate) fn login(&self, server: &Server<'_>, owner: &str) -> Peer {
        let mut peer = server.connect();
        let challenge = self.challenge(&mut peer).expect("a challenge");
        let signature = self.sign(&challenge);
        peer.send(format!("{}\n", signature.len())).send(&signature);
        peer.read_exactly(format!("success\nyes\nticket\n{}\n", self.digest));
        peer.act_as(owner);
        peer
    }
}

pub(crate) fn digest(text: &str) -> String {
    let digest = Md5::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {args:?}");
    output.stdout
}
