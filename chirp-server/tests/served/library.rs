//! The client library as its users meet this server: through a Unix socket, over IPv6, with streams,
//! tickets, searches and jobs.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use chirp_client::job::{JobDescription, JobState};
use chirp_client::ticket::{Offered, TicketFile, TicketKey};
use chirp_client::{
    Client, Code, ConnectOptions, Error, Found, Method, SearchOptions, VirtualPath,
};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::{PATIENCE, Place, Server};

fn path(text: &str) -> VirtualPath {
    VirtualPath::from_decoded(text.as_bytes()).unwrap()
}

/// Runs a client's side of a test, within the time that one may take.
fn run<T>(journey: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let journey = async { tokio::time::timeout(PATIENCE, journey).await };
    runtime.block_on(journey).expect("in time")
}

async fn connect(address: &str, method: Method) -> Result<Client, Error> {
    let mut options = ConnectOptions::new(address.parse().unwrap());
    options.methods = vec![method];
    Client::connect(options).await
}

/// The subject of who runs the tests, by `unix`.
fn me() -> String {
    let user = uzers::get_user_by_uid(rustix::process::getuid().as_raw()).unwrap();
    format!("unix:{}", user.name().display())
}

/// A server with a Unix socket, on which everybody may connect, and a directory of ours.
fn serve_locally(place: &Place) -> (Server<'_>, String) {
    place.directory("d", &format!("{} rwlda\naddress:* rwlda\n", me()));
    let socket = place.base("socket");
    let socket = socket.to_str().unwrap();
    let server = place.serve(&["--listen-unix", socket, "--listen-unix-mode", "666"]);
    (server, format!("unix:{socket}"))
}

#[test]
fn everything_goes_through_a_unix_socket() {
    let place = Place::new();
    let (server, address) = serve_locally(&place);
    let content: Vec<u8> = (0u32..3_000_000).map(|n| n.to_le_bytes()[1]).collect();
    run(async {
        let client = connect(&address, Method::Unix).await.unwrap();
        assert_eq!(client.subject().as_str(), me());
        assert_eq!(client.host(), address);
        let (file, length) = (path("/d/f"), content.len() as u64);
        let mut source = &content[..];
        client
            .putfile(&file, 0o600, length, &mut source)
            .await
            .unwrap();
        let mut received = Vec::new();
        let mut body = client.getfile(&file).await.unwrap();
        body.read_to_end(&mut received).await.unwrap();
        assert!(received == content, "the content is another one");
        // Work aside, while which the server watches whether its client is there.
        assert_eq!(client.sha256(&file).await.unwrap().len(), 32);

        let another = || async { client.connect_another().await.unwrap().unwrap() };
        let mut stream = another().await.putstream(&path("/d/s")).await.unwrap();
        stream.write_all(&content).await.unwrap();
        stream.finish().await.unwrap();
        let mut stream = another().await.getstream(&path("/d/s")).await.unwrap();
        received.clear();
        stream.read_to_end(&mut received).await.unwrap();
        assert!(received == content, "the stream is another one");

        // Who has no address has no name either.
        for method in [Method::Address, Method::Hostname] {
            let error = connect(&address, method).await.err().unwrap();
            assert!(matches!(error, Error::Login { .. }), "{error}");
        }
        // Unasked, what can work is tried.
        let options = ConnectOptions::new(address.parse().unwrap());
        let client = Client::connect(options).await.unwrap();
        assert_eq!(client.subject().as_str(), me());
    });
    server.guest(1).expect("whoami 7\n", "7\naddress");
}

#[test]
fn the_socket_has_its_permissions_and_outlives_no_server() {
    let place = Place::new();
    let socket = place.base("socket");
    let args = ["--listen-unix", socket.to_str().unwrap()];
    let mut server = place.serve(&args);
    let mode = |path: &Path| {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        assert!(metadata.file_type().is_socket());
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(&socket), 0o600);
    let mut second = Server::command(&place);
    second.args(args);
    let refusal = crate::common::refusal(second);
    assert!(
        refusal.contains("another server listens there"),
        "{refusal}"
    );
    server.signal(Signal::KILL);
    server.wait();
    assert!(socket.exists(), "nobody was left to remove it");
    let mut server = place.serve(&args);
    assert_eq!(mode(&socket), 0o600);
    server.signal(Signal::TERM);
    server.wait();
    assert!(!socket.exists());
}

#[test]
fn a_client_that_leaves_a_unix_socket_ends_its_work() {
    let place = Place::new();
    let (_server, address) = serve_locally(&place);
    run(async {
        let client = connect(&address, Method::Unix).await.unwrap();
        // The connection is closed in the middle of a body, and others are served.
        let (file, mut nothing) = (path("/d/half"), tokio::io::repeat(7).take(100_000));
        let cut = client.putfile(&file, 0o600, 1_000_000, &mut nothing).await;
        assert!(matches!(cut, Err(Error::Local { .. })), "{cut:?}");
        drop(client);
        let client = connect(&address, Method::Unix).await.unwrap();
        let missing = client.stat(&file).await.unwrap_err();
        assert_eq!(missing.code(), Some(Code::DoesntExist));
    });
}

#[test]
fn ipv6_is_as_good_as_ipv4() {
    let place = Place::new();
    place.directory("d", "address:::1 rwlda\n");
    let server = place.serve(&["-I", "::1"]);
    let port = server.port;
    run(async {
        let client = connect(&format!("[::1]:{port}"), Method::Address)
            .await
            .unwrap();
        assert_eq!(client.subject().as_str(), "address:::1");
        assert_eq!(client.host(), format!("[::1]:{port}"));
        let (file, mut content) = (path("/d/f"), &b"abc"[..]);
        client.putfile(&file, 0o600, 3, &mut content).await.unwrap();
        assert_eq!(client.stat(&file).await.unwrap().size, 3);
        // Nobody listens on IPv4.
        let refused = connect(&format!("127.0.0.1:{port}"), Method::Address).await;
        assert!(matches!(refused, Err(Error::Connect { .. })));
    });
}

#[test]
fn a_ticket_of_ours_serves_on_ours() {
    let place = Place::new();
    let (server, local) = serve_locally(&place);
    let address = format!("127.0.0.1:{}", server.port);
    run(async {
        let owner = connect(&address, Method::Address).await.unwrap();
        let key = tokio::task::spawn_blocking(|| TicketKey::generate(1024));
        let key = key.await.unwrap().unwrap();
        let (name, file) = (key.name(), place.base("ticket"));
        let day = Duration::from_secs(86_400);
        owner
            .ticket_register("self", key.public_pem(), day)
            .await
            .unwrap();
        owner.ticket_modify(&name, &path("/d"), "rl").await.unwrap();
        TicketFile::create(&file, key).unwrap();
        assert_eq!(owner.ticket_list("self").await.unwrap(), [name]);
        let info = owner.ticket_get(&name).await.unwrap();
        assert_eq!(info.owner, "address:127.0.0.1");
        assert_eq!(info.masks[1], ("/d".into(), "rl".into()));
        // Also where the owner could not log in.
        for address in [&address, &local] {
            let mut options = ConnectOptions::new(address.parse().unwrap());
            options.methods = vec![Method::Ticket];
            options.tickets = Offered::Files(vec![file.clone()]);
            let holder = Client::connect(options).await.unwrap();
            assert_eq!(holder.whoami().await.unwrap(), "address:127.0.0.1");
            holder.getdir(&path("/d")).await.unwrap();
            let refused = holder.mkdir(&path("/d/x"), 0o700).await.unwrap_err();
            assert_eq!(refused.code(), Some(Code::NotAuthorized));
        }
        owner.ticket_delete(&name).await.unwrap();
        let unknown = owner.ticket_get(&name).await.unwrap_err();
        assert_eq!(unknown.code(), Some(Code::InvalidRequest));
    });
}

#[test]
fn trees_are_searched_and_counted_and_jobs_described() {
    let place = Place::new();
    let (server, _) = serve_locally(&place);
    let address = format!("127.0.0.1:{}", server.port);
    run(async {
        let client = connect(&address, Method::Address).await.unwrap();
        client.mkdir(&path("/d/a b"), 0o700).await.unwrap();
        let (file, mut content) = (path("/d/a b/foo"), &b"abc"[..]);
        client.putfile(&file, 0o600, 3, &mut content).await.unwrap();
        let options = SearchOptions {
            metadata: true,
            ..SearchOptions::default()
        };
        let roots = [path("/d"), path("/d/none")];
        let mut search = client.search(b"foo", &roots, options).await.unwrap();
        let Some(Found::Match { path: at, stat }) = search.next().await.unwrap() else {
            panic!("nothing was found");
        };
        assert_eq!((&at[..], stat.unwrap().size), (&b"/a b/foo"[..], 3));
        let failed = search.next().await.unwrap().unwrap();
        assert_eq!(failed.code(), Some(Code::DoesntExist), "{failed:?}");
        assert_eq!(search.next().await.unwrap(), None);
        let usage = client.audit(&path("/d")).await.unwrap();
        assert_eq!(usage.iter().map(|owner| owner.bytes).sum::<u64>(), 3);
        let job = JobDescription::new("/bin/true", ["true"]);
        let refused = client.job_create(&job).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::InvalidRequest), "without --jobs");
        client.whoami().await.unwrap();
    });
    drop(server);
    let server = place.serve(&["--jobs"]);
    let address = format!("127.0.0.1:{}", server.port);
    // What lies outside the tree is run by those who may run things in its root.
    let mut owner = server.owner();
    owner.send("setacl / address:127.0.0.1 x\n");
    assert_eq!(owner.line(), "0");
    run(async {
        let client = connect(&address, Method::Address).await.unwrap();
        let job = JobDescription::new("/bin/true", ["true"]);
        let id = client.job_create(&job).await.unwrap();
        let status = client.job_status(&[id]).await.unwrap();
        assert_eq!(status[0].status, JobState::Created);
        client.job_kill(&[id]).await.unwrap();
        let number = i64::try_from(id).unwrap();
        let killed = client.job_wait(number, 5).await.unwrap();
        assert_eq!(killed[0].status, JobState::Killed);
        client.job_reap(&[id]).await.unwrap();
    });
}
