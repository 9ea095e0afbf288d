//! Starting: what is served, and what the server refuses.

use std::fs;

use std::process::Command;

use crate::common::{Peer, Place, Server, is_root, refusal, require_root};

/// The command of a server with these options, whose values are paths in the place.
fn ours(place: &Place, paths: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-server"));
    command.args(["-I", "127.0.0.1"]);
    for (option, path) in paths {
        command.arg(option).arg(place.base(path));
    }
    if is_root() {
        command.args(["-i", &place.user]);
    }
    command
}

#[test]
fn the_port_file_holds_the_port_and_a_line_end() {
    let place = Place::new();
    let server = place.serve(&[]);
    let text = fs::read_to_string(place.base("port")).unwrap();
    assert_eq!(text, format!("{}\n", server.port));
    assert!(Peer::try_connect(server.port, 1).is_ok());
}

#[test]
fn root_without_a_user_is_refused_as_root() {
    require_root();
    let place = Place::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-server"));
    command.arg("-r").arg(place.base("root"));
    assert!(refusal(command).contains("-i USER"));
    for (user, words) in [
        ("root", "that is root"),
        ("no-such-account", "no such user"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-server"));
        command.arg("-r").arg(place.base("root")).args(["-i", user]);
        let said = refusal(command);
        assert!(said.contains(words) && said.contains(user), "{said}");
    }
}

#[test]
fn a_server_started_by_root_is_no_longer_root_as_root() {
    require_root();
    let place = Place::new();
    let server = place.serve(&[]);
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(line("Uid:"), ["65534"; 4]);
    assert_eq!(line("Gid:"), ["65534"; 4]);
    assert_eq!(line("CapEff:"), ["0000000000000000"]);
    assert_eq!(line("CapPrm:"), ["0000000000000000"]);
}

#[test]
fn a_missing_tree_is_made_but_not_its_parent() {
    let place = Place::new();
    let root = place.base("root");
    fs::remove_dir(&root).unwrap();
    let server = place.serve(&[]);
    assert!(root.join(".__acl").exists());
    drop(server);
    fs::remove_dir_all(&root).unwrap();
    fs::remove_dir_all(place.base("transient")).unwrap();
    place.give(&place.base(""));
    let said = refusal(ours(
        &place,
        &[("-r", "root/missing/parent"), ("-y", "transient")],
    ));
    assert!(said.contains("missing/parent"), "{said}");
}

#[test]
fn wrong_options_are_refused_with_words() {
    let place = Place::new();
    for (args, words) in [
        (&["-A", "/nonexistent/acl"][..], "/nonexistent/acl"),
        (&["-a", "telepathy"], "telepathy"),
        (&["-t", "never"], "number"),
        (&["--no-such-option"], "--no-such-option"),
        (&["--sandbox=perhaps"], "perhaps"),
        (&["-o", "/nonexistent/log"], "/nonexistent/log"),
    ] {
        let mut command = Server::command(&place);
        command.args(args);
        let said = refusal(command);
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

#[test]
fn with_exec_the_transient_directory_may_not_lie_in_the_tree() {
    let place = Place::new();
    let mut command = ours(&place, &[("-r", "root"), ("-y", "root/state")]);
    command.arg("--exec");
    let said = refusal(command);
    assert!(said.contains("-y") && said.contains("inside"), "{said}");
}

#[test]
fn a_taken_port_is_refused_by_name() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = ours(&place, &[("-r", "root"), ("-y", "transient")]);
    command.args(["-p", &port]);
    let said = refusal(command);
    assert!(said.contains(&port), "{said}");
}

#[test]
fn two_servers_with_one_transient_directory_are_refused() {
    let place = Place::new();
    let server = place.serve(&[]);
    let said = refusal(Server::command(&place));
    assert!(said.contains("in use"), "{said}");
    // The first one is none the worse for it.
    server.owner().expect("whoami 4\n", "4\nunix");
    drop(server);
    place.serve(&[]);
}

#[test]
fn a_fresh_tree_gets_the_first_list_and_an_existing_one_keeps_its_own() {
    let place = Place::new();
    let list = || fs::read_to_string(place.host(".__acl")).unwrap();
    drop(place.serve(&[]));
    assert_eq!(list(), format!("unix:{} rwlda\n", place.user));
    drop(place.serve(&["--exec"]));
    assert_eq!(list(), format!("unix:{} rwlda\n", place.user));
    fs::remove_file(place.host(".__acl")).unwrap();
    drop(place.serve(&["--exec"]));
    assert_eq!(list(), format!("unix:{} rwldax\n", place.user));
}

#[test]
fn a_default_list_governs_where_there_is_none() {
    let place = Place::new();
    let default = place.base("default");
    fs::write(&default, "address:127.0.0.2 rl\n").unwrap();
    place.give(&default);
    place.write("f", "x");
    let server = place.serve(&["-A", default.to_str().unwrap()]);
    let mut guest = server.guest(2);
    guest.expect(
        "getfile /f\nputfile /g 420 1\nstat /none/x\nstat /f/x\n",
        "1\nx-2\n-3\n-14\n",
    );
    server.guest(3).expect("getfile /f\n", "-2\n");
    assert!(!place.host(".__acl").exists());
}

#[test]
fn a_read_only_server_changes_nothing_for_anybody() {
    let place = Place::new();
    place.write("f", "x");
    place.directory("d", &format!("unix:{} rwldax\n", place.user));
    let superuser = format!("unix:{}", place.user);
    // A catalog is told the tree's id, but this tree gets none to keep.
    let server = place.serve(&["-R", "-P", &superuser, "-u", "127.0.0.1:9"]);
    let mut owner = server.owner();
    for line in [
        "putfile /g 420 1",
        "putfile /f 420 1",
        "open /f w 0",
        "open /g wc 420",
        "mkdir /e 448",
        "rmdir /d",
        "rmall /d",
        "unlink /f",
        "rename /f /g",
        "link /f /g",
        "symlink f /g",
        "chmod /f 420",
        "truncate /f 0",
        "utime /f 1 1",
        "setacl / unix:x r",
        "putfile /.__acl 420 1",
    ] {
        owner.expect(format!("{line}\n"), "-2\n");
    }
    owner.expect("getfile /f\n", "1\nx");
    assert!(owner.answer("open /f r 0\n").starts_with(b"0\n"));
    owner.expect("fchmod 0 448\n", "-2\n");
    assert_eq!(owner.list("/"), [&b"d"[..], b"f"]);
    assert!(!place.host(".__uuid").exists());
}

#[test]
fn a_catalog_is_told_who_serves_where() {
    let place = Place::new();
    let catalog = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    catalog
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    let named = catalog.local_addr().unwrap().to_string();
    let server = place.serve(&["-u", &named, "--name", "g1"]);
    let mut datagram = [0; 4096];
    let length = catalog.recv(&mut datagram).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&datagram[..length]).unwrap();
    assert_eq!(record["type"], "chirp");
    assert_eq!(record["name"], "g1");
    assert_eq!(record["port"], server.port);
    assert_eq!(record["owner"], place.user.as_str());
    assert!(
        record["total"].as_u64() > Some(0) && record["avail"].is_u64(),
        "{record}"
    );
}
