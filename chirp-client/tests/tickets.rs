//! Tickets, handed to and fro between this library and the reference's client and server, and
//! logins by ticket to servers that do not play by the rules.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use chirp_client::ticket::{Offered, TicketFile, TicketKey, name_of};
use chirp_client::{Client, Code, ConnectOptions, Error, Method};
use support::{LIMIT, Peer, Reference, as_nobody, path, stranger};
use tokio::io::DuplexStream;

const DAY: Duration = Duration::from_secs(86_400);

/// Runs the reference's `chirp` on a server and returns what it prints.
fn chirp(server: &Reference, login: &[&str], command: &[&str]) -> String {
    let mut chirp = Command::new("chirp");
    chirp
        .args(login)
        .args(["-t", "10"])
        .arg(server.address())
        .args(command)
        .current_dir("/")
        .stdin(Stdio::null());
    as_nobody(&mut chirp);
    let output = chirp
        .output()
        .expect("chirp: apt-get install coop-computing-tools");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

async fn log_in(server: &Reference, tickets: &[&Path]) -> Result<Client, Error> {
    let mut options = ConnectOptions::new(server.address().parse().unwrap());
    options.methods = vec![Method::Ticket];
    options.tickets = Offered::Files(tickets.iter().map(PathBuf::from).collect());
    Client::connect(options).await
}

#[tokio::test]
async fn our_ticket_serves_on_the_references_server_and_to_its_client() {
    let server = Reference::start();
    let directory = server.outside("keys");
    let client = server.client().await;
    let owner = "address:127.0.0.1";
    client.mkdir(&path("/data"), 0o700).await.unwrap();

    let key = TicketKey::generate(1024).unwrap();
    let name = key.name();
    let file = directory.join("our ticket");
    let ticket = TicketFile::create(&file, key).unwrap();
    support::give_away(&file);
    let public = ticket.key().public_pem();
    client.ticket_register("self", public, DAY).await.unwrap();
    client
        .ticket_modify(&name, &path("/data"), "rwl")
        .await
        .unwrap();
    assert_eq!(client.ticket_list("self").await.unwrap(), [name]);
    let info = client.ticket_get(&name).await.unwrap();
    assert_eq!(
        (&info.owner[..], &info.public_key[..]),
        (owner.as_bytes(), public.as_bytes())
    );
    assert!((1..=86_400).contains(&info.seconds_left));
    let masks: Vec<_> = info
        .masks
        .iter()
        .map(|(directory, rights)| (&directory[..], &rights[..]))
        .collect();
    assert_eq!(masks, [(&b"/"[..], &b"n"[..]), (b"/data", b"rwlp")]);

    // A ticket that the server does not know comes before it, and a file that is none.
    let unknown = directory.join("unknown");
    TicketFile::create(&unknown, TicketKey::generate(640).unwrap()).unwrap();
    let nothing = directory.join("nothing");
    std::fs::write(&nothing, "# Chirp Ticket\n").unwrap();
    let holder = log_in(&server, &[&nothing, &unknown, &file]).await.unwrap();
    assert_eq!(
        holder.subject().as_str(),
        format!("ticket:{}", name.digits())
    );
    assert_eq!(holder.whoami().await.unwrap(), owner.as_bytes());
    holder.getdir(&path("/data")).await.unwrap();
    let refused = holder.getdir(&path("/")).await.err().unwrap();
    assert_eq!(refused.code(), Some(Code::NotAuthorized));

    let as_file = file.to_str().unwrap();
    let listed = chirp(&server, &["-a", "ticket", "-i", as_file], &["whoami"]);
    assert_eq!(listed.trim(), owner);
    let shown = chirp(&server, &["-a", "address"], &["ticket_get", as_file]);
    assert!(shown.contains("/data rwlp"), "{shown}");
    chirp(&server, &["-a", "address"], &["ticket_delete", as_file]);
    assert!(client.ticket_list("self").await.unwrap().is_empty());
    let error = log_in(&server, &[&file]).await.err().unwrap();
    assert!(matches!(error, Error::Login { .. }), "{error}");
}

#[tokio::test]
async fn the_references_ticket_serves_here() {
    let server = Reference::start();
    let directory = server.outside("keys");
    let file = directory.join("its ticket");
    let create = ["ticket_create", "-o", file.to_str().unwrap(), "/", "rl"];
    chirp(&server, &["-a", "address"], &create);
    let holder = log_in(&server, &[&file]).await.unwrap();
    holder.getdir(&path("/")).await.unwrap();
    let name = name_of(file.to_str().unwrap()).unwrap();
    let refused = holder.ticket_get(&name).await.unwrap_err();
    assert_eq!(
        refused.code(),
        Some(Code::NotAuthorized),
        "by login it is not its owner"
    );
    let owner = server.client().await;
    let info = owner.ticket_get(&name).await.unwrap();
    let ticket = TicketFile::read(&file).unwrap();
    assert_eq!(info.public_key, ticket.key().public_pem().as_bytes());
    owner.ticket_delete(&name).await.unwrap();
}

/// Tickets of a test, and where they are.
struct Keys {
    _directory: tempfile::TempDir,
    offered: Offered,
    digits: Vec<String>,
}

fn keys(count: usize) -> Keys {
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..count)
        .map(|number| directory.path().join(format!("key{number}")))
        .collect();
    let digits = files.iter().map(|file| {
        let key = TicketKey::generate(640).unwrap();
        let digits = key.name().digits().to_owned();
        TicketFile::create(file, key).unwrap();
        digits
    });
    Keys {
        digits: digits.collect(),
        offered: Offered::Files(files),
        _directory: directory,
    }
}

async fn call(ours: DuplexStream, tickets: &Offered) -> Result<Client, Error> {
    let methods = [Method::Ticket, Method::Address];
    let login = Client::from_stream_with("peer:1", ours, &methods, tickets, None);
    tokio::time::timeout(LIMIT, login).await.unwrap()
}

#[tokio::test]
async fn every_ticket_is_offered_then_the_next_method_has_its_turn() {
    let keys = keys(3);
    let (ours, mut peer) = stranger();
    let script = async {
        peer.expect("ticket\n").await.send("yes\n").await;
        let first = format!("{}\n", keys.digits[0]);
        peer.expect(first).await.send("declined\n").await;
        // What newer servers of the reference say of one that they do not know.
        let second = format!("{}\n", keys.digits[1]);
        peer.expect(second).await.send("failure\n").await;
        let third = format!("{}\n", keys.digits[2]);
        peer.expect(third)
            .await
            .send("64\n")
            .await
            .send([7; 64])
            .await;
        let signature = signature(&mut peer).await;
        assert_eq!(signature.len(), 80);
        peer.send("failure\n").await;
        peer.expect("==\naddress\n").await;
        peer.send("yes\nyes\nyes\naddress\n1.2.3.4\n").await;
    };
    let (client, ()) = tokio::join!(call(ours, &keys.offered), script);
    assert_eq!(client.unwrap().subject().as_str(), "address:1.2.3.4");
}

/// Takes a signature with its length.
async fn signature(peer: &mut Peer) -> Vec<u8> {
    let length = peer.line().await.parse().unwrap();
    peer.take(length).await
}

#[tokio::test]
async fn a_challenge_that_is_none_is_not_signed() {
    for (challenge, words) in [
        ("0\n", "\"0\""),
        ("1025\n", "\"1025\""),
        ("-1\n", "\"-1\""),
        ("99999999999999999999\n", "login by ticket"),
        ("maybe\n", "maybe"),
    ] {
        let keys = keys(1);
        let (ours, mut peer) = stranger();
        let script = async {
            peer.expect("ticket\n").await.send("yes\n").await;
            peer.expect(format!("{}\n", keys.digits[0])).await;
            peer.send(challenge).await;
            peer.expect_end().await;
        };
        let (client, ()) = tokio::join!(call(ours, &keys.offered), script);
        let error = client.err().unwrap();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    // One that the key cannot sign, as a longer one of 1024 bytes, gets no signature.
    let keys = keys(1);
    let (ours, mut peer) = stranger();
    let script = async {
        peer.expect("ticket\n").await.send("yes\n").await;
        peer.expect(format!("{}\n", keys.digits[0])).await;
        peer.send("1024\n").await.send([7; 1024]).await;
        peer.expect("0\n").await.send("failure\n").await;
        peer.expect("==\naddress\n").await.send("no\n").await;
    };
    let (client, ()) = tokio::join!(call(ours, &keys.offered), script);
    assert!(matches!(client.err().unwrap(), Error::Login { .. }));
}

#[tokio::test]
async fn without_a_ticket_the_method_is_not_asked_for() {
    let none = Offered::Files(vec!["/nonexistent/ticket".into()]);
    let (ours, mut peer) = stranger();
    let script = async {
        peer.expect("address\n").await.send("no\n").await;
    };
    let (client, ()) = tokio::join!(call(ours, &none), script);
    let error = client.err().unwrap().to_string();
    assert!(
        error.contains("ticket: there is no ticket to offer"),
        "{error}"
    );
}
