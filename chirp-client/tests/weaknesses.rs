//! The weaknesses of the reference's client (`chirp-protocol.md`, part 13.3), which ours has not. Where
//! it is quick, the reference's tool shows that it has.

#![expect(clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::process::{Command, Output, Stdio};
use std::time::Instant;

use chirp_client::{Error, HashAlgorithm, OpenFlags, VirtualPath, XattrFlags, XattrTarget};
use support::{LIMIT, Reference, answered, pair, path};

fn run(program: &str, server: &str, options: &[&str], arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .args(options)
        .arg(server)
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::null());
    support::as_nobody(&mut command);
    command.output().expect("it runs")
}

const OURS: &str = env!("CARGO_BIN_EXE_chirp-client");
const OPTIONS: [&str; 4] = ["-a", "address", "-t", "10"];

#[test]
fn a_get_that_is_refused_leaves_the_local_file() {
    let server = Reference::start();
    let local = server.outside("local");
    let file = local.join("f");
    let dir = server.root().join("d");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("f"), "remote").unwrap();
    std::fs::write(dir.join(".__acl"), "address:127.0.0.1 l\n").unwrap();
    for made in [dir.join("f"), dir.join(".__acl"), dir] {
        support::give_away(&made);
    }
    let keep = || {
        std::fs::write(&file, "precious").unwrap();
        support::give_away(&file);
    };
    let target = file.to_str().unwrap();
    keep();
    let theirs = run(
        "chirp_get",
        &server.address(),
        &["-a", "address", "-t", "5"],
        &["/d/f", target],
    );
    assert!(!theirs.status.success());
    assert_eq!(std::fs::read(&file).unwrap(), b"");
    keep();
    for source in ["/d/f", "/d/none", "/d"] {
        let ours = run(OURS, &server.address(), &OPTIONS, &["get", source, target]);
        assert!(!ours.status.success(), "{source}: {ours:?}");
        assert_eq!(std::fs::read(&file).unwrap(), b"precious", "{source}");
    }
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again() {
    let (one, other) = (path("/a"), path("/b"));
    for verb in ["rename", "mkdir", "unlink"] {
        let (client, mut peer) = pair().await;
        let call = async {
            match verb {
                "rename" => client.rename(&one, &other).await,
                "mkdir" => client.mkdir(&one, 0o700).await,
                _ => client.unlink(&one).await,
            }
        };
        let script = async {
            peer.expect(verb).await;
            // It is done, and the answer is lost.
            drop(peer);
        };
        let (result, ()) = tokio::join!(call, script);
        assert!(
            matches!(result, Err(Error::Uncertain { .. })),
            "{verb}: {result:?}"
        );
        // A further call says so, too, and does not connect anew by itself.
        assert!(client.is_closed());
    }
}

#[test]
fn a_port_where_nobody_listens_is_told_at_once() {
    // Bound, so that nobody else gets it, and not listening.
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(
        &socket,
        &std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0),
    )
    .unwrap();
    let address: std::net::SocketAddr = rustix::net::getsockname(&socket)
        .unwrap()
        .try_into()
        .unwrap();
    let begun = Instant::now();
    // Without any option about time, which is an hour in the reference.
    let output = run(OURS, &address.to_string(), &[], &["whoami"]);
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains(&address.port().to_string()), "{words}");
}

#[test]
fn every_name_can_be_said_in_every_command() {
    let server = Reference::start();
    let local = server.outside("local");
    let content = local.join("content");
    std::fs::write(&content, "content").unwrap();
    support::give_away(&content);
    let content = content.to_str().unwrap();
    let names = [
        "a b",
        "tab\there",
        "bell\u{7}",
        "café",
        "日本語",
        "50%",
        "%41",
        "back\\slash",
        "'quote\"",
        "<x>",
        "~{|}",
        " lead",
        "\u{7f}",
        "+?#&",
    ];
    for name in names {
        let remote = format!("/{name}");
        let ours = |arguments: &[&str]| {
            let output = run(OURS, &server.address(), &OPTIONS, arguments);
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            output.stdout
        };
        ours(&["put", content, &remote]);
        // Under exactly this name, and no other.
        assert_eq!(
            std::fs::read(server.root().join(name)).unwrap(),
            b"content",
            "{name:?}"
        );
        assert_eq!(ours(&["cat", &remote]), b"content", "{name:?}");
        assert!(
            ours(&["md5", &remote]).starts_with(b"9A0364B9E99BB480DD25E1F0284C8555"),
            "{name:?}"
        );
        ours(&["stat", &remote]);
        let moved = format!("/moved {name}");
        ours(&["mv", &remote, &moved]);
        ours(&["rm", &moved]);
        assert!(!server.root().join(name).exists());
    }
    assert_eq!(
        std::fs::read_dir(server.root()).unwrap().count(),
        2,
        "the list and the server's id"
    );
}

#[tokio::test]
async fn times_beyond_32_bits_and_numbers_of_descriptors_are_sent_whole() {
    let (client, mut peer) = pair().await;
    let one = path("/a");
    let call = client.utime(&one, 5_000_000_000, -5_000_000_000);
    answered(call, &mut peer, "utime /a 5000000000 -5000000000\n", "0\n")
        .await
        .unwrap();
    let open = client.open(&one, OpenFlags::parse(b"r"), 0);
    let opened = "7\n1 2 33152 1 5 6 0 7 8 9 10 11 12\n";
    let opened = answered(open, &mut peer, "open /a r 0\n", opened).await;
    let target = XattrTarget::Descriptor(opened.unwrap().0);
    let call = client.setxattr(&target, "user.a", "v".into(), XattrFlags::Either);
    answered(call, &mut peer, "fsetxattr 7 user.a 1 0\nv", "0\n")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_path_is_encoded_in_the_verbs_where_the_reference_forgets_it() {
    let (client, mut peer) = pair().await;
    let odd = VirtualPath::from_decoded(b"/a b%").unwrap();
    let call = client.hash(HashAlgorithm::Md5, &odd);
    answered(
        call,
        &mut peer,
        "hash md5 /a%20b%25\n",
        format!("16\n{}", "x".repeat(16)),
    )
    .await
    .unwrap();
}
