//! `putfile` never damages what was there, and leaves no debris.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chirp_proto::parse::{Decoder, Step};
use chirp_server::dispatch::dispatch;
use chirp_server::export::{Export, Policy};
use chirp_server::outcome::Outcome;

use crate::language::{Peer, Tree, names};

/// Begins a request whose body is to come.
fn begin(peer: &mut Peer<'_>, line: &str) -> Box<dyn chirp_server::outcome::Receiver> {
    let Step::Request { request, .. } = Decoder::default().step(line.as_bytes()) else {
        panic!("{line}");
    };
    match dispatch(peer.export, &mut peer.session, &request) {
        Outcome::ReceiveAfterGo { sink, .. } | Outcome::Receive { sink, .. } => sink,
        Outcome::Failed(code) => panic!("{line}: {code:?}"),
        _ => panic!("{line}: another outcome"),
    }
}

#[test]
fn a_connection_lost_in_the_middle_leaves_the_old_file() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.expect("putfile /good 420 8\nprecious", "0\n8\n");
    alice.expect("putfile /good 420 100\n7 bytes", "0\n");
    alice.expect("putfile /new 420 100\n7 bytes", "0\n");
    alice.expect("getfile /good\nstat /new\n", "8\nprecious-3\n");
    assert_eq!(tree.names(""), [".__acl", "good"]);
    assert_eq!(alice.stat("/good").links, 1);
}

#[test]
fn nothing_shows_before_the_last_byte_and_everything_after() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.expect("putfile /f 420 3\nold", "0\n3\n");
    let mut sink = begin(&mut alice, "putfile /f 420 6\n");
    sink.take(b"new").unwrap();
    alice.expect("getfile /f\n", "3\nold");
    assert_eq!(alice.list("/"), ["f"]);
    sink.take(b"er!").unwrap();
    alice.expect("getfile /f\n", "3\nold");
    assert_eq!(sink.finish(), Ok(6));
    alice.expect("getfile /f\n", "6\nnewer!");
    assert_eq!(tree.names(""), [".__acl", "f"]);
}

#[test]
fn of_two_uploads_each_is_whole_and_the_last_to_end_stays() {
    let tree = Tree::new();
    let (mut first, mut second) = (tree.alice(), tree.alice());
    let mut a = begin(&mut first, "putfile /f 420 4\n");
    let mut b = begin(&mut second, "putfile /f 420 4\n");
    a.take(b"aa").unwrap();
    b.take(b"bb").unwrap();
    b.take(b"bb").unwrap();
    assert_eq!(b.finish(), Ok(4));
    first.expect("getfile /f\n", "4\nbbbb");
    a.take(b"aa").unwrap();
    assert_eq!(a.finish(), Ok(4));
    first.expect("getfile /f\n", "4\naaaa");
}

#[test]
fn what_took_the_name_meanwhile_is_respected() {
    let tree = Tree::new();
    tree.alice()
        .expect("mkdir /v 448\nsetacl /v unix:bob pl\n", "0\n0\n");
    let mut bob = tree.bob();
    let upload = begin(&mut bob, "putfile /v/f 420 0\n");
    tree.alice().expect("putfile /v/f 420 6\nalices", "0\n6\n");
    assert_eq!(upload.finish(), Err(chirp_proto::Code::AlreadyExists));
    let mut alice = tree.alice();
    let upload = begin(&mut alice, "putfile /v/d 420 0\n");
    tree.alice().expect("mkdir /v/d 448\n", "0\n");
    assert_eq!(upload.finish(), Err(chirp_proto::Code::IsDirectory));
    alice.expect("getfile /v/f\n", "6\nalices");
    assert_eq!(tree.names("v"), [".__acl", "d", "f"]);
}

#[test]
fn an_upload_follows_its_directory() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    alice.send("mkdir /d 448\n");
    let upload = begin(&mut alice, "putfile /d/f 420 0\n");
    alice.expect("rename /d /e\n", "0\n");
    assert_eq!(upload.finish(), Ok(0));
    alice.expect("getfile /e/f\n", "0\n");
    // And if the directory goes, the upload fails and nothing is left.
    let upload = begin(&mut alice, "putfile /e/g 420 0\n");
    alice.expect("rmall /e\n", "0\n");
    assert_eq!(upload.finish(), Err(chirp_proto::Code::DoesntExist));
    assert_eq!(tree.names(""), [".__acl"]);
}

#[test]
fn special_and_read_only_files_are_not_replaced() {
    let tree = Tree::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.host("fifo"), rustix::fs::Mode::RWXU).unwrap();
    std::fs::write(tree.host("ro"), "x").unwrap();
    let mut permissions = tree.host("ro").metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(tree.host("ro"), permissions).unwrap();
    tree.alice()
        .expect("putfile /fifo 420 0\nputfile /ro 420 0\n", "-8\n-2\n");
    assert_eq!(tree.names(""), [".__acl", "fifo", "ro"]);
}

#[test]
fn other_names_of_a_replaced_file_keep_the_old_content() {
    let tree = Tree::new();
    tree.alice().expect(
        "putfile /a 420 3\noldlink /a /b\nputfile /a 420 3\nnewgetfile /a\ngetfile /b\n",
        "0\n3\n0\n0\n3\n3\nnew3\nold",
    );
}

/// The child of the next tests: begins uploads and directories, says so, and waits to be killed.
#[test]
fn child_that_is_killed() {
    let Some(dir) = std::env::var_os("CHIRP_TEST_KILLED_IN") else {
        return;
    };
    let dir = Path::new(&dir);
    let export =
        Export::open(&dir.join("root"), &dir.join("transient"), Policy::default()).unwrap();
    export.initialise_acl(b"unix:alice rwldax\n").unwrap();
    let subject = chirp_proto::Subject::new(chirp_proto::Method::Unix, b"alice");
    let session =
        chirp_server::session::Session::new(chirp_server::session::Principal::new(subject));
    let mut alice = Peer {
        export: &export,
        session,
    };
    alice.expect("putfile /good 420 8\nprecious", "0\n8\n");
    alice.expect(
        "mkdir /d 448\nmkdir /d/e 448\nmkdir /w 448\nsymlink /d/e /l\n",
        "0\n0\n0\n0\n",
    );
    let mut uploads = Vec::new();
    for path in ["/good", "/new", "/d/e/x", "/l/y", "/w/z"] {
        let mut sink = begin(&mut alice, &format!("putfile {path} 420 100\n"));
        sink.take(b"seven b").unwrap();
        uploads.push(sink);
    }
    // Directories move while uploads run in them.
    alice.expect("rename /d /moved\nrename /moved/e /w/e\n", "0\n0\n");
    println!("ready");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_server_leaves_the_old_content_and_no_debris_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["root", "transient"] {
        std::fs::create_dir(dir.path().join(part)).unwrap();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "uploads::child_that_is_killed", "--nocapture"])
        .env("CHIRP_TEST_KILLED_IN", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("ready") {
        let read = std::io::BufRead::read_line(&mut output, &mut seen).unwrap();
        assert!(read > 0, "the child ended: {seen}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let root = dir.path().join("root");
    let debris = |dir: &Path| {
        names(dir)
            .iter()
            .filter(|name| name.starts_with(".__put"))
            .count()
    };
    assert_eq!(
        debris(&root) + debris(&root.join("w")) + debris(&root.join("w/e")),
        5
    );

    let export = Export::open(&root, &dir.path().join("transient"), Policy::default()).unwrap();
    assert_eq!(names(&root), [".__acl", "good", "l", "moved", "w"]);
    assert_eq!(names(&root.join("w")), [".__acl", "e"]);
    assert_eq!(names(&root.join("w/e")), [".__acl"]);
    assert_eq!(std::fs::read(root.join("good")).unwrap(), b"precious");
    drop(export);
}

#[test]
fn a_torn_or_forged_journal_harms_nothing() {
    let tree = Tree::new();
    tree.alice()
        .expect("putfile /good 420 1\nxmkdir /d 448\n", "0\n1\n0\n");
    std::fs::write(tree.host(".__put.1"), "").unwrap();
    std::fs::write(tree.host("d/.__put.2"), "").unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join(".__put.4"), "").unwrap();
    std::os::unix::fs::symlink(outside.path(), tree.host("way")).unwrap();
    let journal = tree.transient.path().join("unfinished.journal");
    assert!(journal.is_file());
    // good: 676f6f64, way: 776179, d: 64, ..: 2e2e
    std::fs::write(
        &journal,
        "+1  .__put.1\n+2 64 .__put.2\n-2\n+3  good\n+4 776179 .__put.4\n+5 2e2e .__put.5\n\
         garbage\n+x  .__put.6\n+7 6 .__put.7\n+8  .__put./../good\n+9  .__put.1 more\n\n+10  .__acl\n+11  .__put.2",
    )
    .unwrap();
    let tree = tree.restart();
    assert_eq!(tree.names(""), [".__acl", "d", "good", "way"]);
    assert_eq!(
        tree.names("d"),
        [".__acl", ".__put.2"],
        "what ended is not looked at"
    );
    assert_eq!(
        names(outside.path()),
        [".__put.4"],
        "links are not followed"
    );
}

#[test]
fn the_journal_stays_small() {
    let tree = Tree::new();
    let mut alice = tree.alice();
    let kept = begin(&mut alice, "putfile /kept 420 0\n");
    for _ in 0..6000 {
        alice.send("putfile /f 420 0\n");
    }
    let length = tree
        .transient
        .path()
        .join("unfinished.journal")
        .metadata()
        .unwrap()
        .len();
    assert!(length < 400_000, "{length}");
    std::mem::forget(kept);
    let tree = tree.restart();
    assert_eq!(
        tree.names(""),
        [".__acl", "f"],
        "compaction kept what is unfinished"
    );
}

/// Needs root: it mounts a small file system in a mount namespace of its own.
#[test]
fn as_root_a_full_disk_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs {0} && mkdir {0}/root {0}/transient && \
         CHIRP_TEST_FULL_IN={0} exec {1} --exact uploads::child_on_a_small_disk --nocapture",
        dir.path().display(),
        std::env::current_exe().unwrap().display(),
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .output()
        .expect("unshare of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("survived"),
        "{text}{errors}"
    );
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// The child of the test above.
#[test]
fn child_on_a_small_disk() {
    let Some(dir) = std::env::var_os("CHIRP_TEST_FULL_IN") else {
        return;
    };
    let dir = Path::new(&dir);
    let export =
        Export::open(&dir.join("root"), &dir.join("transient"), Policy::default()).unwrap();
    export.initialise_acl(b"unix:alice rwldax\n").unwrap();
    let subject = chirp_proto::Subject::new(chirp_proto::Method::Unix, b"alice");
    let session =
        chirp_server::session::Session::new(chirp_server::session::Principal::new(subject));
    let mut alice = Peer {
        export: &export,
        session,
    };
    alice.expect("putfile /good 420 8\nprecious", "0\n8\n");
    let body = vec![b'x'; 2 << 20];
    for name in ["good", "new"] {
        let request = [
            format!("putfile /{name} 420 {}\n", body.len()).as_bytes(),
            &body,
        ]
        .concat();
        alice.expect(request, "0\n-6\n");
    }
    alice.expect("getfile /good\nstat /new\n", "8\nprecious-3\n");
    assert_eq!(names(&dir.join("root")), [".__acl", "good"]);
    // And the space is there again.
    let body = vec![b'y'; 100_000];
    alice.expect(
        [b"putfile /good 420 100000\n", body.as_slice()].concat(),
        "0\n100000\n",
    );
    println!("survived");
}

#[test]
fn no_change_of_rights_brings_back_the_list_that_an_upload_replaced() {
    let tree = Tree::new();
    let (mut alice, mut other) = (tree.alice(), tree.alice());
    for round in 0..200 {
        let list = format!("unix:alice rwlda\nunix:round{round} r\n");
        let mut sink = begin(&mut alice, &format!("putfile /.__acl 384 {}\n", list.len()));
        sink.take(list.as_bytes()).unwrap();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                other.expect("setacl / unix:bob r\n", "0\n");
            });
            start.wait();
            sink.finish().unwrap();
        });
        // Whichever came first, the upload is not lost.
        let now = std::fs::read_to_string(tree.root.path().join(".__acl")).unwrap();
        assert!(
            now.contains(&format!("unix:round{round} r\n")),
            "{round}: {now}"
        );
    }
}
