//! `putfile` never damages what was there, whatever happens in the middle of it.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::common::{Peer, Place, Server, eventually, require_root};

/// Starts an upload of `length` bytes that stops half-way, with its temporary file in the tree.
#[track_caller]
fn half_an_upload(place: &Place, peer: &mut Peer, path: &str, length: usize) {
    let before = place.debris().len();
    peer.send(format!("putfile {path} 420 {length}\n"))
        .read_exactly("0\n");
    peer.send(vec![b'n'; length / 2]);
    assert!(
        place.debris().len() > before,
        "it is built beside the old one"
    );
}

const NONE: [PathBuf; 0] = [];

#[test]
fn a_connection_cut_in_the_middle_keeps_the_old_content_and_leaves_nothing() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    assert_eq!(owner.putfile("/f", "old content"), 11);
    let mut peer = server.owner();
    half_an_upload(&place, &mut peer, "/f", 4_000_000);
    eventually("some of it is written", || {
        let written = |path| fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
        place.debris().iter().any(written)
    });
    assert_eq!(owner.getfile("/f"), Ok(b"old content".to_vec()));
    assert_eq!(owner.list("/"), [b"f"]);
    drop(peer);
    eventually("nothing is left of the upload", || {
        place.debris().is_empty()
    });
    let mut half_closed = server.owner();
    half_an_upload(&place, &mut half_closed, "/f", 1000);
    half_closed.finish_sending();
    half_closed.read_end();
    eventually("nothing is left of the upload", || {
        place.debris().is_empty()
    });
    assert_eq!(owner.getfile("/f"), Ok(b"old content".to_vec()));
}

#[test]
fn a_server_killed_in_the_middle_cleans_up_at_its_next_start() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    let mut owner = server.owner();
    owner.expect("mkdir /d 448\nmkdir /d/e 448\n", "0\n0\n");
    for path in ["/f", "/d/e/f"] {
        owner.putfile(path, "old");
    }
    let mut first = server.owner();
    half_an_upload(&place, &mut first, "/f", 1000);
    let mut second = server.owner();
    half_an_upload(&place, &mut second, "/d/e/f", 2000);
    // One whose directory moves under it is found all the same.
    owner.expect("rename /d /moved\n", "0\n");
    server.signal(Signal::KILL);
    server.wait();
    drop(server);
    assert_eq!(place.debris().len(), 2);
    let server = place.serve(&[]);
    assert_eq!(place.debris(), NONE);
    let mut owner = server.owner();
    assert_eq!(owner.getfile("/f"), Ok(b"old".to_vec()));
    assert_eq!(owner.getfile("/moved/e/f"), Ok(b"old".to_vec()));
    drop(server);
    let journal = fs::read(place.base("transient").join("unfinished.journal")).unwrap();
    assert_eq!(
        journal.escape_ascii().to_string(),
        "",
        "the journal is empty"
    );
}

#[test]
fn a_server_killed_at_any_moment_of_many_uploads_leaves_whole_files_only() {
    let place = Place::new();
    let version = |number: u8| vec![number; 40_000 + usize::from(number)];
    place.write("f", version(0));
    for round in 1..=10u64 {
        let mut server = place.serve(&[]);
        let mut peers: Vec<Peer> = (0..3).map(|_| server.owner()).collect();
        std::thread::scope(|scope| {
            for (number, peer) in (1..).zip(&mut peers) {
                let content = version(number);
                let request = [
                    format!("putfile /f 420 {}\n", content.len()).as_bytes(),
                    content.as_slice(),
                    format!("mkdir /d{number} 448\nrmdir /d{number}\n").as_bytes(),
                    format!("setacl / unix:c{number} rl\n").as_bytes(),
                ]
                .concat();
                scope.spawn(move || while peer.try_send(&request) {});
            }
            // Another moment in every round.
            std::thread::sleep(std::time::Duration::from_millis(20 + round * 7));
            server.signal(Signal::KILL);
            server.wait();
        });
        drop(server);
        let server = place.serve(&[]);
        assert_eq!(place.debris(), NONE, "round {round}");
        let mut owner = server.owner();
        let content = owner.getfile("/f").unwrap();
        let number = content.first().copied().unwrap_or(u8::MAX);
        assert!(
            content == version(number),
            "round {round}: {}",
            content.len()
        );
        assert!(
            owner.answer("getacl /\n").starts_with(b"0\nunix:"),
            "round {round}"
        );
    }
}

#[test]
fn a_damaged_journal_stops_no_start_and_removes_nothing_else() {
    let place = Place::new();
    let outside = place.base("outside");
    fs::create_dir(&outside).unwrap();
    for name in [".__put.x", "f"] {
        fs::write(outside.join(name), "outside").unwrap();
    }
    place.give(&outside);
    place.write("f", "kept");
    place.write(".__put.left", "debris");
    place.link("../outside", "link");
    let hex = |path: &str| {
        path.bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let mut journal = String::from("nonsense\n\n-99\n+x y z\n+1\n+2 zz .__put.x\n");
    for (path, name) in [
        ("../outside", ".__put.x"),
        (outside.to_str().unwrap(), ".__put.x"),
        ("link", ".__put.x"),
        ("", "f"),
        ("", "../outside/.__put.x"),
        ("", ".__put./../../outside/f"),
        ("", ".__put.left"),
    ] {
        journal.push_str(&format!("+{} {} {name}\n", journal.len(), hex(path)));
    }
    journal.push_str("+9999 66");
    let path = place.base("transient").join("unfinished.journal");
    fs::write(&path, journal).unwrap();
    place.give(&path);
    let server = place.serve(&[]);
    assert_eq!(server.owner().getfile("/f"), Ok(b"kept".to_vec()));
    for name in [".__put.x", "f"] {
        assert!(outside.join(name).exists(), "{name}");
    }
    assert_eq!(place.debris(), NONE);
}

#[test]
fn an_upload_through_a_link_replaces_what_the_link_leads_to() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.putfile("/f", "old");
    owner.expect("symlink f /l\nsymlink new /dangling\n", "0\n0\n");
    assert_eq!(owner.putfile("/l", "new content"), 11);
    assert_eq!(owner.putfile("/dangling", "made"), 4);
    assert_eq!(owner.getfile("/f"), Ok(b"new content".to_vec()));
    assert_eq!(owner.getfile("/new"), Ok(b"made".to_vec()));
    owner.expect("readlink /l 9\nreadlink /dangling 9\n", "1\nf3\nnew");
}

#[test]
fn a_full_disk_is_told_and_the_old_content_stays_as_root() {
    require_root();
    let place = Place::new();
    let tree = place.base("root");
    // A file system of 1 MiB that only the server sees, gone with it.
    let mut command = std::process::Command::new("unshare");
    let script = format!(
        "mount -t tmpfs -o size=1m,mode=0700,uid=65534,gid=65534 none {} && exec \"$@\"",
        tree.display()
    );
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    let served = Server::command(&place);
    command.arg(served.get_program()).args(served.get_args());
    let server = Server::spawn(&place, command);
    let mut owner = server.owner();
    assert_eq!(owner.putfile("/f", vec![b'o'; 100_000]), 100_000);
    let old = owner.getfile("/f").unwrap();
    let before = owner.answer("statfs /\n");
    for _ in 0..3 {
        assert_eq!(owner.putfile("/f", vec![b'n'; 2_000_000]), -6);
        assert_eq!(owner.putfile("/new", vec![b'n'; 2_000_000]), -6);
    }
    owner.answer("open /g wc 420\n");
    owner
        .send("pwrite 0 2000000 0\n")
        .send(vec![b'n'; 2_000_000]);
    owner.expect("", "-6\n");
    owner.expect("close 0\nunlink /g\n", "0\n0\n");
    assert_eq!(owner.getfile("/f"), Ok(old));
    assert_eq!(owner.list("/"), [b"f"]);
    assert_eq!(
        owner.answer("statfs /\n"),
        before,
        "all of the space is given back"
    );
    assert_eq!(owner.putfile("/f", "fits"), 4);
}

#[test]
fn two_clients_that_put_one_file_leave_one_of_their_versions_whole() {
    let place = Place::new();
    let server = place.serve(&[]);
    let versions: [Vec<u8>; 3] =
        [b'a', b'b', b'c'].map(|byte| vec![byte; 300_000 + usize::from(byte)]);
    let mut reader = server.owner();
    reader.putfile("/f", &versions[0]);
    std::thread::scope(|scope| {
        for version in &versions {
            let mut writer = server.owner();
            scope.spawn(move || {
                for _ in 0..30 {
                    assert_eq!(writer.putfile("/f", version), version.len() as i64);
                }
            });
        }
        for _ in 0..60 {
            let read = reader.getfile("/f").unwrap();
            assert!(
                versions.contains(&read),
                "a mixture of {} bytes",
                read.len()
            );
        }
    });
    assert_eq!(place.debris(), NONE);
    assert_eq!(reader.list("/"), [b"f"]);
}

#[test]
fn a_tree_that_changes_during_an_upload_loses_nothing_else() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.expect(
        "mkdir /moved 448\nmkdir /gone 448\nmkdir /taken 448\n",
        "0\n0\n0\n",
    );
    let mut moved = server.owner();
    half_an_upload(&place, &mut moved, "/moved/f", 1000);
    owner.expect("rename /moved /elsewhere\nmkdir /moved 448\n", "0\n0\n");
    moved.send([b'n'; 500]);
    moved.expect("", "1000\n");
    // It went where its directory went.
    assert_eq!(owner.list("/moved").len(), 0);
    assert_eq!(
        owner.getfile("/elsewhere/f").map(|content| content.len()),
        Ok(1000)
    );

    let mut gone = server.owner();
    half_an_upload(&place, &mut gone, "/gone/f", 1002);
    owner.expect("rmall /gone\n", "0\n");
    gone.send([b'n'; 501]);
    let answer = gone.number("");
    assert!(answer < 0, "there is nowhere to put it: {answer}");
    owner.expect("stat /gone\n", "-3\n");

    // A directory has taken the name meanwhile.
    let mut taken = server.owner();
    half_an_upload(&place, &mut taken, "/taken/f", 1004);
    owner.expect("mkdir /taken/f 448\n", "0\n");
    taken.send([b'n'; 502]);
    taken.expect("", "-13\n");
    assert_eq!(owner.list("/taken"), [b"f"]);
    assert_eq!(place.debris(), NONE);
}

#[test]
fn a_file_or_directory_that_may_not_be_written_is_refused_before_the_body() {
    let place = Place::new();
    let server = place.serve(&[]);
    let mut owner = server.owner();
    owner.putfile("/f", "old");
    owner.expect("mkdir /d 448\n", "0\n");
    owner.putfile("/d/f", "old");
    use std::os::unix::fs::PermissionsExt;
    let set = |path: &str, mode| {
        fs::set_permissions(place.host(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("f", 0o400);
    set("d", 0o500);
    assert_eq!(owner.putfile("/f", "new"), -2);
    assert_eq!(owner.putfile("/d/f", "new"), -2);
    assert_eq!(owner.putfile("/d/g", "new"), -2);
    assert_eq!(owner.getfile("/f"), Ok(b"old".to_vec()));
    assert_eq!(owner.getfile("/d/f"), Ok(b"old".to_vec()));
    set("d", 0o700);
    assert_eq!(place.debris(), NONE);
}

#[test]
fn a_file_limit_of_the_process_is_told_and_the_old_content_stays() {
    let place = Place::new();
    let mut command = std::process::Command::new("sh");
    // 512-byte blocks.
    command.args(["-c", "ulimit -f 200 && exec \"$@\"", "sh"]);
    let served = Server::command(&place);
    command.arg(served.get_program()).args(served.get_args());
    let server = Server::spawn(&place, command);
    let mut owner = server.owner();
    owner.putfile("/f", "old");
    // The signal that comes with it must not end the server.
    assert_eq!(owner.putfile("/f", vec![b'n'; 2_000_000]), -5);
    assert_eq!(owner.getfile("/f"), Ok(b"old".to_vec()));
    owner.expect("truncate /f 99999999\n", "-5\n");
    assert_eq!(place.debris(), NONE);
}
