//! What catalogs are told, and what cctools' own catalog makes of it.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde_json::Value;

use crate::common::{PATIENCE, Place, Server, eventually, is_root};

/// A catalog that only listens.
fn socket() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let named = socket.local_addr().unwrap().to_string();
    (socket, named)
}

#[track_caller]
fn record(socket: &UdpSocket) -> Value {
    let mut datagram = vec![0; 1 << 16];
    let length = socket.recv(&mut datagram).unwrap();
    serde_json::from_slice(&datagram[..length]).unwrap()
}

/// Waits for a record of which this is so.
#[track_caller]
fn record_where(socket: &UdpSocket, so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let record = record(socket);
        if so(&record) {
            return record;
        }
        assert!(Instant::now() < deadline, "the last record is {record}");
    }
}

#[test]
fn a_record_has_every_field_of_the_reference() {
    let place = Place::new();
    let (catalog, named) = socket();
    let server = place.serve(&[
        "-u",
        &named,
        "-n",
        "guest",
        "-w",
        "somebody",
        "--project-name",
        "things",
        "-F",
        "10M",
    ]);
    let record = record(&catalog);
    let fields = record.as_object().unwrap();
    let text = |name: &str| {
        record[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name} in {record}"))
    };
    let number = |name: &str| {
        record[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} in {record}"))
    };
    assert_eq!(text("type"), "chirp");
    assert_eq!(
        text("backend"),
        format!("local://{}", place.base("root").display())
    );
    assert_eq!(text("name"), "guest");
    assert_eq!(text("owner"), "somebody");
    assert_eq!(text("project"), "things");
    assert_eq!(text("url"), format!("chirp://guest:{}", server.port));
    assert_eq!(text("opsys"), "linux");
    assert_eq!(
        text("uuid"),
        fs::read_to_string(place.host(".__uuid")).unwrap()
    );
    assert!(
        !text("cpu").is_empty() && !text("opsysversion").is_empty() && !text("version").is_empty()
    );
    assert_eq!(number("port"), f64::from(server.port));
    assert_eq!(number("minfree"), f64::from(10 << 20));
    for name in [
        "avail",
        "total",
        "cpus",
        "memory_avail",
        "memory_total",
        "starttime",
    ] {
        assert!(number(name) > 0.0, "{name}");
    }
    for name in [
        "load1",
        "load5",
        "load15",
        "bytes_read",
        "bytes_written",
        "total_ops",
    ] {
        assert!(number(name) >= 0.0, "{name}");
    }
    assert_eq!(record["clients"], Value::Array(vec![]));
    assert_eq!(fields.len(), 26, "{record}");
}

#[test]
fn nobody_is_told_unless_asked_to() {
    let place = Place::new();
    let (catalog, named) = socket();
    for args in [&[][..], &["-u", "-"]] {
        let mut command = Server::command(&place);
        command.args(args).env("CATALOG_HOST", &named);
        let server = Server::spawn(&place, command);
        server.owner().expect("whoami 4\n", "4\nunix");
    }
    assert!(!place.host(".__uuid").exists());
    catalog.set_nonblocking(true).unwrap();
    assert!(catalog.recv(&mut [0; 10]).is_err());
}

#[test]
fn what_clients_do_is_told_by_address() {
    let place = Place::new();
    place.write("f", vec![b'x'; 1000]);
    let (catalog, named) = socket();
    let server = place.serve(&["-u", &named, "-U", "1", "-P", "address:127.0.0.2"]);
    assert_eq!(record(&catalog)["total_ops"], 0);
    let mut owner = server.owner();
    owner.expect("setacl / address:127.0.0.2 rwl\n", "0\n");
    let mut guest = server.guest(2);
    assert_eq!(guest.getfile("/f").unwrap().len(), 1000);
    guest.answer("open /g wc 420\npwrite 0 5 0\nhello");
    // Told once all of it is counted; the connections are still open.
    let told = record_where(&catalog, |record| record["total_ops"].as_u64() >= Some(6));
    assert_eq!(
        (&told["bytes_read"], &told["bytes_written"]),
        (&1000.into(), &5.into())
    );
    let quiet = record_where(&catalog, |record| record["clients"] == Value::Array(vec![]));
    assert_eq!(quiet["total_ops"], told["total_ops"], "the sum stays");
}

#[test]
fn w7_a_tree_s_id_that_is_cut_short_is_made_anew() {
    let place = Place::new();
    let (catalog, named) = socket();
    let id = || {
        let server = place.serve(&["-u", &named]);
        let id = record(&catalog)["uuid"].as_str().unwrap().to_owned();
        server.owner().expect("whoami 4\n", "4\nunix");
        id
    };
    let first = id();
    let form: String = first
        .chars()
        .map(|letter| {
            if letter.is_ascii_digit() || ('A'..='F').contains(&letter) {
                'X'
            } else {
                letter
            }
        })
        .collect();
    assert_eq!(form, "XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX");
    assert_eq!(id(), first, "kept");
    // As the reference writes one in lower case, or with a line end.
    place.write(".__uuid", "32ee7fee-1a1d-479b-a1af-e38b554b63db\n");
    assert_eq!(id(), "32ee7fee-1a1d-479b-a1af-e38b554b63db");
    for damaged in [&b""[..], b"32EE7FEE", b"\xff\xfe", &[b'A'; 100_000]] {
        place.write(".__uuid", damaged);
        let id = id();
        assert_eq!(id.len(), 36);
        assert_eq!(fs::read_to_string(place.host(".__uuid")).unwrap(), id);
    }
    // What cannot be replaced keeps nobody from serving.
    fs::remove_file(place.host(".__uuid")).unwrap();
    fs::create_dir_all(place.host(".__uuid/x")).unwrap();
    assert_eq!(id().len(), 36);
    fs::remove_dir_all(place.host(".__uuid")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.host(".__uuid"), 0o666.into()).unwrap();
    assert_eq!(id().len(), 36);
}

#[test]
fn by_tcp_a_record_goes_to_the_next_port() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = Server::command(&place);
    command
        .args(["-u", "127.0.0.1"])
        .env("CATALOG_PORT", (port - 1).to_string())
        .env("CATALOG_UPDATE_PROTOCOL", "tcp");
    let server = Server::spawn(&place, command);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["port"], server.port);
}

#[test]
fn a_catalog_that_hangs_holds_up_no_other() {
    let place = Place::new();
    // One that never takes a connection, one whose name nobody knows, and one that works.
    let (hanging, full) = full_listener();
    let working = TcpListener::bind("127.0.0.1:0").unwrap();
    let before = working.local_addr().unwrap().port() - 1;
    let list = format!("127.0.0.1:{},no-such-host.invalid", hanging - 1);
    let mut command = Server::command(&place);
    command
        .args(["-U", "1", "-u", &list, "-u", &format!("127.0.0.1:{before}")])
        .env("CATALOG_UPDATE_PROTOCOL", "tcp");
    let _server = Server::spawn(&place, command);
    let begun = Instant::now();
    for _ in 0..3 {
        let (mut stream, _) = working.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(stream.read_to_end(&mut Vec::new()).unwrap() > 300);
    }
    // An update to the one that hangs is given up after 15 s.
    assert!(begun.elapsed() < Duration::from_secs(12));
    drop(full);
}

/// Makes a port where a connection is neither accepted nor refused: the queue of those that wait is full.
fn full_listener() -> (u16, Vec<OwnedFd>) {
    let socket = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap()
    };
    let listener = socket();
    rustix::net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = SocketAddrV4::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
    let mut held = vec![listener];
    for _ in 0..8 {
        let waiting = socket();
        // Most stay in progress.
        let _ = rustix::net::connect(&waiting, &address);
        held.push(waiting);
    }
    (address.port(), held)
}

/// A process of the reference's, ended by its handle.
struct Reference(Child);

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts cctools' catalog on a port whose next one is free too, and returns it with its address.
fn catalog_server(place: &Place) -> (Reference, String) {
    for _ in 0..20 {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        if port == u16::MAX || TcpListener::bind(("127.0.0.1", port + 1)).is_err() {
            continue;
        }
        drop(probe);
        let named = format!("127.0.0.1:{port}");
        let mut child = Command::new("catalog_server")
            .args([
                "-I",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-U",
                "1h",
                "-u",
                &named,
                "-H",
            ])
            .arg(place.base("history"))
            .current_dir(place.base(""))
            .stdout(Stdio::null())
            .stderr(fs::File::create(place.base("catalog.log")).unwrap())
            .spawn()
            .expect("cctools' catalog_server");
        let mut ended = false;
        eventually("the catalog listens, or ends", || {
            ended = child.try_wait().unwrap().is_some();
            ended || std::net::TcpStream::connect(&named).is_ok()
        });
        if !ended {
            return (Reference(child), named);
        }
    }
    panic!("no port for the catalog");
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new("timeout")
        .arg("20")
        .arg(program)
        .args(args)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_reference_s_tools_show_ours_and_theirs_alike() {
    let place = Place::new();
    let (_catalog, named) = catalog_server(&place);
    let options = [
        "-u",
        &named,
        "-U",
        "1",
        "-w",
        "somebody",
        "--project-name",
        "things",
    ];
    let server = place.serve(&options);
    for name in ["their root", "their transient"] {
        fs::create_dir(place.base(name)).unwrap();
        place.give(&place.base(name));
    }
    let mut command = Command::new("chirp_server");
    command
        .arg("-r")
        .arg(place.base("their root"))
        .arg("-y")
        .arg(place.base("their transient"));
    command
        .args(["-I", "127.0.0.1", "-Z"])
        .arg(place.base("their port"))
        .args(options);
    if is_root() {
        command.args(["-i", &place.user]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut theirs = Reference(command.spawn().expect("cctools' chirp_server"));
    let status =
        |args: &[&str]| output("chirp_status", &[&["-t", "5", "-c", &named], args].concat());
    eventually("both are listed", || {
        assert_eq!(theirs.0.try_wait().unwrap(), None);
        let shown = status(&["-s"]);
        shown.lines().count() == 2
    });
    let their_port = fs::read_to_string(place.base("their port")).unwrap();
    let (our_port, their_port) = (server.port.to_string(), their_port.trim().to_owned());
    let ports = |shown: &str| {
        let mut ports: Vec<String> = shown
            .lines()
            .filter(|line| line.starts_with("chirp "))
            .map(|line| line.split_whitespace().nth(2).unwrap().to_owned())
            .collect();
        ports.sort();
        ports
    };
    let mut both = vec![our_port.clone(), their_port.clone()];
    both.sort();
    let where_port = format!("port=={our_port}");
    for (args, expected) in [
        (&[][..], &both),
        (&["-a"], &both),
        (&["--server-project=things"], &both),
        (&["--server-project=other"], &vec![]),
        (&["--server-lastheardfrom=1h"], &both),
        (&["owner", "somebody"], &both),
        (&["owner", "else"], &vec![]),
        (&["--where", &where_port], &vec![our_port.clone()]),
    ] {
        assert_eq!(&ports(&status(args)), expected, "chirp_status {args:?}");
    }
    // Apart from port and version the lines are the same.
    let lines: Vec<Vec<String>> = status(&[])
        .lines()
        .filter(|line| line.starts_with("chirp "))
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0][1], &lines[0][3]), (&lines[1][1], &lines[1][3]));
    assert!(
        lines.iter().all(|words| words.len() == lines[0].len()),
        "{lines:?}"
    );
    assert!(status(&["-T"]).contains("NODES:"));
    // Each field of theirs is one of ours, of the same kind.
    let listed: Vec<Value> = serde_json::from_str(&status(&["-l"])).unwrap();
    let of = |port: &str| {
        let found = listed
            .iter()
            .find(|record| record["port"].as_u64() == port.parse().ok());
        found.unwrap().as_object().unwrap()
    };
    let (ours, theirs) = (of(&our_port), of(&their_port));
    for (name, value) in theirs {
        let same = ours.get(name).map(std::mem::discriminant);
        assert_eq!(same, Some(std::mem::discriminant(value)), "{name}");
    }
    assert_eq!(ours.len(), theirs.len());
    let asked = output(
        "catalog_query",
        &["-t", "5", "-c", &named, "--where", "type==\"chirp\""],
    );
    assert!(
        asked.contains(&our_port) && asked.contains(&their_port),
        "{asked}"
    );
}

#[test]
fn the_reference_s_catalog_takes_records_by_tcp() {
    let place = Place::new();
    let (_catalog, named) = catalog_server(&place);
    let mut command = Server::command(&place);
    command
        .args(["-u", &named, "-U", "1", "-w", "by-tcp"])
        .env("CATALOG_UPDATE_PROTOCOL", "tcp");
    let server = Server::spawn(&place, command);
    eventually("it is listed", || {
        let shown = output("chirp_status", &["-t", "5", "-c", &named]);
        shown.contains("by-tcp") && shown.contains(&server.port.to_string())
    });
    assert!(!server.log().contains("cannot reach"), "{}", server.log());
}
