//! The server's side of the login, by every method: pieces do not matter, nobody gets in as somebody that
//! was not proved, and what follows the login is left for the requests.
#![no_main]

use std::cmp;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use chirp_proto::{Dialect, Method};
use chirp_server::auth::cookie::{CookieFile, CookieLogin};
use chirp_server::auth::{AuthConfig, login};
use chirp_server::tickets::{TicketPolicy, Tickets};
use chirp_server::vfs::{Journal, Root};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

/// A ticket of `unix:alice` that can be logged in with, whose other half is nowhere.
const TICKET: &str = "subject \"unix:alice\"\nticket \"-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCrfw2C0UCFL6+UCJDYo61Pq4p0
Jj4jChGzsvfnnvBHa7FRCF7rEQqyIqlCPENyhX1hngcklgByXM7xnvlXPIe+pdBp
4OgeqKvfk/x6nrJ8wVTicNxYLQza44UOIUXVmzyICPVddtukLjf3YUafRZe8qzVU
g3BO2oHb64PNFNfTJwIDAQAB
-----END PUBLIC KEY-----
\"\nexpiration \"99999999999\"\nrights \"/\" \"rwlda\"\n";
/// Its file.
const TICKET_NAME: &str = ".__ticket.6e1991b66de852b3aeeebbc79307039b";
/// What HTCondor's clients have to know.
const COOKIE: &str = "c00kie-of-the-test";

struct Fixture {
    config: AuthConfig,
    runtime: Runtime,
    _directory: TempDir,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("root");
    fs::create_dir(&root).expect("the exported directory");
    fs::write(root.join(TICKET_NAME), TICKET).expect("a ticket");
    // The waiting for a wrong cookie and for a challenge is skipped as soon as nothing else can happen.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    Fixture {
        config: config(directory.path(), &root),
        runtime,
        _directory: directory,
    }
});

fn config(directory: &Path, root_path: &Path) -> AuthConfig {
    let root = Root::open(root_path).expect("the root");
    let (journal, _) = Journal::open(directory, &root).expect("a journal");
    let journal = Arc::new(journal);
    let tickets = Tickets::open(&root, directory, &journal, TicketPolicy::default());
    let tickets = tickets.expect("the tickets");
    let file = directory.join("cookie");
    fs::write(&file, COOKIE).expect("a cookie file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode");
    let cookie = CookieFile::open(&file)
        .and_then(|file| file.read(rustix::process::geteuid(), root_path))
        .expect("a cookie");
    AuthConfig {
        methods: vec![
            Method::Unix,
            Method::Hostname,
            Method::Address,
            Method::Ticket,
        ],
        challenge_dir: directory.to_owned(),
        unix_timeout: Duration::ZERO,
        passwd: None,
        tickets: Arc::new(tickets),
        cookie: Some(CookieLogin::new(cookie, "condor")),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, script)) = data.split_first() else {
        return;
    };
    let whole = talk(script, script.len().max(1));
    let pieces = talk(script, usize::from(piece).max(1));
    assert_eq!(whole, pieces);
});

/// What a login came to: who, and what is left of the script; and how much the server said. Challenges
/// differ each time, but not in length.
type Seen = (Option<(String, Vec<u8>)>, usize);

fn talk(script: &[u8], piece: usize) -> Seen {
    let fixture = &*FIXTURE;
    let mut stream = Script {
        left: script,
        piece,
        said: 0,
    };
    let mut buffer = BytesMut::new();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let outcome = login(&fixture.config, Some(peer), &mut stream, &mut buffer);
    let Ok(login) = fixture.runtime.block_on(outcome) else {
        return (None, stream.said);
    };
    let rest = [&buffer[..], stream.left].concat();
    assert!(script.ends_with(&rest));
    let who = login.who.login().to_string();
    assert!(login.who.ticket().is_none(), "a signature was forged");
    assert_eq!(login.who.login(), login.who.subject());
    let used = &script[..script.len() - rest.len()];
    match login.dialect {
        Dialect::Condor => {
            assert_eq!(who, "unix:condor");
            assert!(contains(used, COOKIE.as_bytes()));
        }
        // Nobody makes the file that a unix login asks for.
        Dialect::Plain => assert!(
            who == "address:127.0.0.1" || who.starts_with("hostname:"),
            "{who}"
        ),
    }
    (Some((who, rest)), stream.said)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A peer that sends a script piece by piece and then leaves, whatever it is told.
struct Script<'a> {
    left: &'a [u8],
    piece: usize,
    said: usize,
}

impl AsyncRead for Script<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = cmp::min(self.piece, buffer.remaining()).min(self.left.len());
        let (now, later) = self.left.split_at(length);
        buffer.put_slice(now);
        self.left = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.said += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
