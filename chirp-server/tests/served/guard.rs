//! Programs against the access control lists and tickets of the tree they run in.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::json;

use crate::common::{Peer, Place, Server, eventually};
use crate::exec::{finish, run, start};
use crate::holder::Holder;

/// A program that has done its mischief and goes on running until it is told to end.
struct Running<'a> {
    peer: Peer,
    place: &'a Place,
    go: String,
}

impl<'a> Running<'a> {
    /// Starts a script in a directory, and waits until it is through.
    #[track_caller]
    fn start(server: &Server<'_>, place: &'a Place, path: &str, script: &str) -> Self {
        let mut peer = server.owner();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (ready, go) = (
            format!("{path}/ready{number}"),
            format!("{path}/go{number}"),
        );
        // For about a minute: one whose test was killed shall not wait for ever.
        let script = format!(
            "({script}\n) && : > ready{number}; i=0; until test -e go{number}; do i=$((i+1)); test $i -lt 2500 || exit 9; sleep 0.02; done; rm go{number} ready{number}"
        );
        let request = json!({"cmd": "sh", "args": ["-c", script], "path": path});
        start(&mut peer, &request);
        let ready = place.host(ready.trim_start_matches('/'));
        eventually("the program is through", || ready.exists());
        Self { peer, place, go }
    }

    /// Lets it end, and waits for that.
    #[track_caller]
    fn end(mut self) {
        self.place.write(self.go.trim_start_matches('/'), "");
        assert_eq!(finish(&mut self.peer).code(), 0);
    }
}

/// The list that a program would like to have.
const FORGED: &str = "address:* rwldax\n";

/// Grants itself everything, in the directory that it is in.
const FORGE: &str = "echo 'address:* rwldax' > .__acl";

/// A place where the server's account has all rights in `/` and in `/w`, where `address:127.0.0.3` may
/// list, and in directories in it with other lists.
fn place() -> Place {
    let place = Place::new();
    place.write(".__acl", own(&place));
    place.directory("w", &listed(&place));
    for name in ["a", "b", "c", "d", "e"] {
        place.directory(&format!("w/{name}"), &own(&place));
    }
    place
}

fn own(place: &Place) -> String {
    format!("unix:{} rwldpax\n", place.user)
}

fn listed(place: &Place) -> String {
    format!("unix:{} rwldpax\naddress:127.0.0.3 rl\n", place.user)
}

#[track_caller]
fn has(place: &Place, path: &str, list: &str) {
    let file = place.host(format!("{path}/.__acl"));
    let kind = file.symlink_metadata().unwrap().file_type();
    assert!(kind.is_file(), "{path}: {kind:?}");
    assert_eq!(fs::read_to_string(file).unwrap(), list, "{path}");
}

/// What the guest whom the programs would let in is told about directories.
#[track_caller]
fn is_kept_out(server: &Server<'_>, paths: &[&str]) {
    let mut guest = server.guest(2);
    for path in paths {
        guest.expect(
            format!(
                "getdir {path}\nsetacl {path} address:127.0.0.2 rwlda\nputfile {path}/f 420 1\n"
            ),
            "-2\n-2\n-2\n",
        );
    }
}

/// Everything that a program can do to lists.
const MISCHIEF: &str = r#"
    forge() { echo 'address:* rwldax' > "$1"; }
    forge .__acl
    rm a/.__acl
    forge list; ln -s ../list b/.__acl.new; mv -T b/.__acl.new b/.__acl
    rm c/.__acl; mkdir -p c/.__acl/deep; forge c/.__acl/deep/f
    rm d/.__acl; mkfifo d/.__acl
    chmod 666 e/.__acl; chmod 500 e
    mkdir -p made/deeper; forge made/.__acl; echo result > made/deeper/f
"#;

#[test]
fn a_program_changes_no_rights_whatever_it_does_to_lists() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let running = Running::start(&server, &place, "/w", MISCHIEF);
    let all = [
        "/w",
        "/w/a",
        "/w/b",
        "/w/c",
        "/w/d",
        "/w/e",
        "/w/made",
        "/w/made/deeper",
    ];
    is_kept_out(&server, &all);
    let mut owner = server.owner();
    let mut reader = server.guest(3);
    // The old rights hold, also where the list is gone or cannot be read.
    for path in all {
        // This one the program took all rights to write from.
        if path == "/w/e" {
            continue;
        }
        assert_eq!(owner.putfile(&format!("{path}/f"), "x"), 1);
        let may_list = path == "/w" || path.contains("made");
        let answer = reader.answer(format!("getdir {path}\n"));
        assert_eq!(answer.starts_with(b"0\n"), may_list, "{path}");
    }
    let told = owner.answer("getacl /w/b\n");
    assert!(told.ends_with(format!("{}\n", own(&place)).as_bytes()));
    // The results can be fetched by whoever may read where they were made.
    assert_eq!(reader.getfile("/w/made/deeper/f").unwrap(), b"x");
    running.end();
    is_kept_out(&server, &all);
    for name in ["a", "b", "c", "d", "e"] {
        has(&place, &format!("w/{name}"), &own(&place));
    }
    for name in ["w", "w/made", "w/made/deeper"] {
        has(&place, name, &listed(&place));
    }
    let mode = fs::metadata(place.host("w/e/.__acl")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o644 & mode, "not for others to write");
    assert_eq!(reader.getfile("/w/made/deeper/f").unwrap(), b"x");
    assert!(place.debris().is_empty(), "{:?}", place.debris());
    let log = server.log();
    for (path, found) in [
        ("/w ", "address:* rwldax"),
        ("/w/a ", "nothing"),
        ("/w/b ", "a link"),
        ("/w/c ", "a directory"),
        ("/w/d ", "a pipe"),
        ("/w/e ", "mode 666"),
        ("/w/made ", "address:* rwldax"),
    ] {
        let told = log.lines().any(|line| {
            line.contains("it was put right")
                && line.contains(&format!("directory={path}"))
                && line.contains(found)
        });
        assert!(told, "{path}: {found} in\n{log}");
    }
}

#[test]
fn rights_follow_directories_that_a_program_moves_and_none_come_from_what_it_makes() {
    let place = place();
    place.directory("w/public", "address:127.0.0.2 rl\n");
    place.write("w/a/secret", "secret");
    let server = place.serve(&["--exec"]);
    let script = "mv a x && mv public a && mv x public && mkdir a/in && mv b a/in/b && mv c public/c && mkdir d/n && mv d/n n && rm -r e && mkdir e";
    let running = Running::start(&server, &place, "/w", script);
    let check = || {
        let mut guest = server.guest(2);
        // The directory with the secret is where the public one was.
        guest.expect("getdir /w/public\n", "-2\n");
        assert_eq!(guest.getfile("/w/public/secret"), Err(-2));
        assert!(guest.answer("getdir /w/a\n").starts_with(b"0\n"));
        // What the program made there has its rights; what it moved there has its own.
        assert!(guest.answer("getdir /w/a/in\n").starts_with(b"0\n"));
        guest.expect("getdir /w/a/in/b\ngetdir /w/public/c\n", "-2\n-2\n");
        // One made in the place of another one, and one moved away, have those of where they are.
        let mut reader = server.guest(3);
        for path in ["/w/n", "/w/e"] {
            assert!(
                reader
                    .answer(format!("getdir {path}\n"))
                    .starts_with(b"0\n"),
                "{path}"
            );
        }
    };
    check();
    running.end();
    check();
    has(&place, "w/public", &own(&place));
    has(&place, "w/a", "address:127.0.0.2 rl\n");
    has(&place, "w/a/in", "address:127.0.0.2 rl\n");
    has(&place, "w/a/in/b", &own(&place));
    has(&place, "w/n", &listed(&place));
    has(&place, "w/e", &listed(&place));
}

#[test]
fn what_clients_do_to_lists_and_directories_while_programs_run_survives() {
    let place = place();
    place.directory("o", &own(&place));
    let moved = format!("{}address:127.0.0.4 rl\n", own(&place));
    place.directory("o/in", &moved);
    place.directory("w/out", &own(&place));
    place.directory(
        "w/mine",
        &format!("unix:{} rwlda\naddress:127.0.0.5 v(rl)l\n", place.user),
    );
    let server = place.serve(&["--exec"]);
    let script = "for d in a b c d out; do echo 'address:* rwldax' > $d/.__acl; done; mkdir made";
    let running = Running::start(&server, &place, "/w", script);
    let mut owner = server.owner();
    let list = "address:127.0.0.6 rwl\n";
    owner.expect(
        "setacl /w/a address:127.0.0.7 rl\nsetacl /w/made address:127.0.0.7 rl\n",
        "0\n0\n",
    );
    owner.expect("resetacl /w/b rl\n", "0\n");
    assert_eq!(owner.putfile("/w/c/.__acl", list), list.len() as i64);
    owner.expect("mkdir /w/d/new 448\n", "0\n");
    server
        .guest(5)
        .expect("mkdir /w/mine/reserved 448\n", "0\n");
    owner.expect("rename /o/in /w/in\nrename /w/out /o/out\n", "0\n0\n");
    let check = || {
        is_kept_out(
            &server,
            &[
                "/w/a", "/w/b", "/w/c", "/w/d", "/o/out", "/w/d/new", "/w/made",
            ],
        );
        let lists = |number, path: &str| {
            server
                .guest(number)
                .answer(format!("getdir {path}\n"))
                .starts_with(b"0\n")
        };
        assert!(lists(7, "/w/a") && lists(7, "/w/made") && lists(6, "/w/c"));
        assert!(lists(4, "/w/in") && lists(5, "/w/mine/reserved") && !lists(3, "/w/mine/reserved"));
    };
    check();
    // Once more by the program, after all that.
    for path in ["a", "b", "c", "in", "d/new", "mine/reserved", "../o/out"] {
        place.write(format!("w/{path}/.__acl"), FORGED);
    }
    check();
    running.end();
    check();
    has(
        &place,
        "w/a",
        &format!("{}address:127.0.0.7 rl\n", own(&place)),
    );
    has(&place, "w/b", &format!("unix:{} rla\n", place.user));
    has(&place, "w/c", list);
    has(&place, "w/d/new", &own(&place));
    has(&place, "w/in", &moved);
    has(&place, "o/out", &own(&place));
    has(&place, "w/mine/reserved", "address:127.0.0.5 rl\n");
}

#[test]
fn a_killed_server_leaves_no_rights_to_what_its_programs_did() {
    let place = place();
    place.directory("o", &own(&place));
    place.directory("w/out", &own(&place));
    let mut server = place.serve(&["--exec"]);
    let running = Running::start(&server, &place, "/w", MISCHIEF);
    let mut owner = server.owner();
    owner.expect("setacl /w/c address:127.0.0.7 rl\n", "0\n");
    owner.expect("mkdir /w/new 448\nrename /w/out /o/out\n", "0\n0\n");
    for path in ["w/new", "o/out"] {
        place.write(format!("{path}/.__acl"), FORGED);
    }
    server.signal(Signal::KILL);
    server.wait();
    drop((running, server));
    let server = place.serve(&["--exec"]);
    is_kept_out(
        &server,
        &[
            "/w", "/w/a", "/w/b", "/w/c", "/w/d", "/w/e", "/w/made", "/w/new", "/o/out",
        ],
    );
    for name in ["w/a", "w/b", "w/d", "w/e", "o/out"] {
        has(&place, name, &own(&place));
    }
    has(
        &place,
        "w/c",
        &format!("{}address:127.0.0.7 rl\n", own(&place)),
    );
    for name in ["w", "w/made", "w/made/deeper", "w/new"] {
        has(&place, name, &listed(&place));
    }
    assert!(server.log().contains("it was put right"));
    // From then on an edit by hand counts, and the next server leaves it as it is.
    let list = format!("{}address:127.0.0.2 rl\n", own(&place));
    place.write("w/a/.__acl", &list);
    drop(server);
    let mut server = place.serve(&["--exec"]);
    let lists = |server: &Server<'_>| {
        let mut guest = server.guest(2);
        guest.answer("getdir /w/a\n").starts_with(b"0\n")
    };
    assert!(lists(&server));
    // Once more, and the next server runs no programs: it ends those that are left all the same.
    let running = Running::start(
        &server,
        &place,
        "/w",
        "rm -f [a-e]/.__acl; (i=0; while test $i -lt 5000; do echo 'address:* rwldax' > .__acl; sleep 0.01; i=$((i+1)); done) &",
    );
    server.signal(Signal::KILL);
    server.wait();
    drop((running, server));
    let server = place.serve(&[]);
    for _ in 0..20 {
        is_kept_out(&server, &["/w", "/w/b", "/w/c", "/w/d", "/w/e"]);
        has(&place, "w", &listed(&place));
    }
    has(&place, "w/a", &list);
    assert!(lists(&server));
}

#[test]
fn a_server_that_put_right_what_another_left_is_killed_too() {
    let place = place();
    let all = ["/w", "/w/a", "/w/b", "/w/c", "/w/d", "/w/e"];
    // In each round all is on record anew: the record of the one before was dropped.
    for round in 0..3 {
        let mut server = place.serve(&["--exec"]);
        is_kept_out(&server, &all);
        for name in ["w/a", "w/b", "w/c", "w/d", "w/e"] {
            has(&place, name, &own(&place));
        }
        has(&place, "w", &listed(&place));
        if round > 0 {
            assert!(server.log().contains("it was put right"));
        }
        let running = Running::start(&server, &place, "/w", MISCHIEF);
        server.signal(Signal::KILL);
        server.wait();
        drop((running, server));
    }
    // Without programs in between nothing is on record any more either.
    let server = place.serve(&["--exec"]);
    is_kept_out(&server, &all);
    drop(server);
    let list = format!("{}address:127.0.0.2 rl\n", own(&place));
    place.write("w/a/.__acl", &list);
    let server = place.serve(&["--exec"]);
    assert!(server.guest(2).answer("getdir /w/a\n").starts_with(b"0\n"));
}

#[test]
fn after_a_killed_server_subtrees_are_found_wherever_they_are_and_no_list_stays_none() {
    let place = place();
    place.directory("o", &own(&place));
    place.directory("o/b", "");
    fs::remove_file(place.host("o/b/.__acl")).unwrap();
    let mut server = place.serve(&["--exec"]);
    let script = format!("{FORGE}; mkdir n; cd n; {FORGE}");
    let moved = Running::start(&server, &place, "/w/a", &script);
    let bare = Running::start(&server, &place, "/o", &format!("cd b; {script}"));
    server.owner().expect("rename /w/a /w/x\n", "0\n");
    server.signal(Signal::KILL);
    server.wait();
    drop((moved, bare, server));
    // Somebody may have moved it by hand since.
    fs::rename(place.host("w/x"), place.host("w/c/y")).unwrap();
    let server = place.serve(&["--exec"]);
    is_kept_out(&server, &["/w/c/y", "/w/c/y/n", "/o", "/o/b", "/o/b/n"]);
    has(&place, "w/c/y", &own(&place));
    has(&place, "w/c/y/n", &own(&place));
    assert!(!place.host("o/b/.__acl").exists() && !place.host("o/b/n/.__acl").exists());
}

#[test]
fn the_lists_count_until_the_last_of_several_programs_has_ended() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let outer = Running::start(&server, &place, "/w", &format!("{FORGE}; cd a; {FORGE}"));
    let inner = Running::start(
        &server,
        &place,
        "/w/a",
        &format!("{FORGE}; mkdir n; cd n; {FORGE}"),
    );
    let beside = Running::start(&server, &place, "/w/b", FORGE);
    let twin = Running::start(&server, &place, "/w/b", "true");
    let all = ["/w", "/w/a", "/w/a/n", "/w/b"];
    is_kept_out(&server, &all);
    outer.end();
    has(&place, "w", &listed(&place));
    place.write("w/a/.__acl", FORGED);
    beside.end();
    // The other one there runs on.
    place.write("w/b/.__acl", FORGED);
    is_kept_out(&server, &all);
    // Nothing runs in `/w` itself.
    place.write("w/.__acl", "address:127.0.0.2 l\n");
    assert!(server.guest(2).answer("getdir /w\n").starts_with(b"0\n"));
    is_kept_out(&server, &["/w/a", "/w/a/n", "/w/b"]);
    inner.end();
    has(&place, "w/a", &own(&place));
    has(&place, "w/a/n", &own(&place));
    is_kept_out(&server, &["/w/a", "/w/a/n", "/w/b"]);
    twin.end();
    has(&place, "w/b", &own(&place));
    has(&place, "w", "address:127.0.0.2 l\n");
}

#[test]
fn an_edit_by_hand_counts_while_nothing_runs_there() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let mut guest = server.guest(2);
    for round in 0..5 {
        let request = json!({"cmd": "true", "path": "/w"});
        assert_eq!(run(&mut owner, &request).code(), 0);
        let list = format!(
            "address:127.0.0.2 rl\nunix:{} rwldax\nunix:{round} l\n",
            place.user
        );
        place.write("w/.__acl", &list);
        assert!(guest.answer("getdir /w\n").starts_with(b"0\n"));
        assert_eq!(run(&mut owner, &request).code(), 0);
        has(&place, "w", &list);
        assert!(guest.answer("getdir /w\n").starts_with(b"0\n"));
        place.write("w/.__acl", own(&place));
        guest.expect("getdir /w\n", "-2\n");
        assert_eq!(run(&mut owner, &request).code(), 0);
        guest.expect("getdir /w\n", "-2\n");
        has(&place, "w", &own(&place));
    }
    // What was so for long enough is remembered, and looked at all the same.
    eventually("the list is old", || {
        let changed = fs::metadata(place.host("w/.__acl")).unwrap().ctime();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        changed + 3 < now.tv_sec
    });
    assert_eq!(
        run(&mut owner, &json!({"cmd": "true", "path": "/w"})).code(),
        0
    );
    let list = format!("{}address:127.0.0.2 rl\n", own(&place));
    place.write("w/.__acl", &list);
    assert_eq!(
        run(&mut owner, &json!({"cmd": "true", "path": "/w"})).code(),
        0
    );
    has(&place, "w", &list);
    place.write("w/.__acl", own(&place));
    // A directory without a list stays one, and so does what is made in it.
    fs::remove_file(place.host("w/a/.__acl")).unwrap();
    let script = json!({"cmd": "sh", "args": ["-c", "mkdir a/n; echo 'address:* rwldax' > a/.__acl"], "path": "/w"});
    assert_eq!(run(&mut owner, &script).code(), 0);
    guest.expect("getdir /w/a\ngetdir /w/a/n\n", "-2\n-2\n");
    assert!(!place.host("w/a/.__acl").exists() && !place.host("w/a/n/.__acl").exists());
}

#[test]
fn nobody_keeps_a_hand_in_a_list() {
    let place = place();
    let server = place.serve(&["--exec"]);
    // By a descriptor, which a program may have given to somebody: here it is opened from outside.
    let running = Running::start(&server, &place, "/w", "ln a/.__acl b/other");
    let mut kept = OpenOptions::new()
        .append(true)
        .open(place.host("w/.__acl"))
        .unwrap();
    running.end();
    kept.write_all(FORGED.as_bytes()).unwrap();
    has(&place, "w", &listed(&place));
    // By another name of the file, in a directory that another program may write to.
    let mut owner = server.owner();
    let script =
        json!({"cmd": "sh", "args": ["-c", "echo 'address:* rwldax' > other"], "path": "/w/b"});
    assert_eq!(run(&mut owner, &script).code(), 0);
    assert_eq!(fs::read_to_string(place.host("w/b/other")).unwrap(), FORGED);
    has(&place, "w/a", &own(&place));
    is_kept_out(&server, &["/w", "/w/a", "/w/b"]);
}

#[test]
fn programs_that_nothing_confines_change_no_lists_anywhere() {
    let place = place();
    place.directory("o", &own(&place));
    let server = place.serve(&["--exec", "--sandbox=off"]);
    let running = Running::start(
        &server,
        &place,
        "/w",
        &format!("cd ../o; {FORGE}; cd ..; {FORGE}"),
    );
    assert_eq!(fs::read_to_string(place.host("o/.__acl")).unwrap(), FORGED);
    is_kept_out(&server, &["/", "/o", "/w"]);
    running.end();
    has(&place, "o", &own(&place));
    has(&place, ".", &own(&place));
    is_kept_out(&server, &["/", "/o", "/w"]);
}

#[test]
fn where_the_policy_lets_all_programs_write_they_change_no_lists_either() {
    let place = place();
    place.directory("o", &own(&place));
    let policy = place.base("policy");
    let shared = place.host("o");
    fs::write(&policy, format!("write = [\"/dev/null\", {:?}]\n", shared)).unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
    let server = place.serve(&["--exec", "--sandbox-policy", policy.to_str().unwrap()]);
    let running = Running::start(&server, &place, "/w", &format!("cd ../o; {FORGE}"));
    assert_eq!(fs::read_to_string(place.host("o/.__acl")).unwrap(), FORGED);
    is_kept_out(&server, &["/o"]);
    running.end();
    has(&place, "o", &own(&place));
}

#[test]
fn inherited_and_default_lists_hold_while_programs_run() {
    let place = place();
    fs::remove_file(place.host("w/a/.__acl")).unwrap();
    let server = place.serve(&["--exec", "--inherit-default-acl"]);
    let running = Running::start(
        &server,
        &place,
        "/w",
        "cd a; echo 'address:* rwldax' > .__acl; mkdir n",
    );
    is_kept_out(&server, &["/w/a", "/w/a/n"]);
    let mut reader = server.guest(3);
    assert!(reader.answer("getdir /w/a/n\n").starts_with(b"0\n"));
    running.end();
    is_kept_out(&server, &["/w/a", "/w/a/n"]);
    assert!(reader.answer("getdir /w/a/n\n").starts_with(b"0\n"));
    assert!(!place.host("w/a/.__acl").exists());
}

#[test]
fn a_list_that_was_none_lets_nobody_in() {
    let place = place();
    fs::remove_file(place.host("w/a/.__acl")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        place.host("w/a/.__acl"),
        rustix::fs::Mode::RWXU,
    )
    .unwrap();
    place.give(&place.host("w/a/.__acl"));
    // Where it had none it would have that of the directory above.
    let server = place.serve(&["--exec", "--inherit-default-acl"]);
    let mut owner = server.owner();
    let request = json!({"cmd": "true", "path": "/w"});
    assert_eq!(run(&mut owner, &request).code(), 0);
    let kind = fs::symlink_metadata(place.host("w/a/.__acl")).unwrap();
    assert!(kind.file_type().is_fifo(), "what nobody touched stays");
    let running = Running::start(
        &server,
        &place,
        "/w",
        "cd a; rm .__acl; echo 'address:* rwldax' > .__acl; mkdir n",
    );
    is_kept_out(&server, &["/w/a", "/w/a/n"]);
    owner.expect("getdir /w/a\n", "-2\n");
    running.end();
    is_kept_out(&server, &["/w/a", "/w/a/n"]);
    has(&place, "w/a", "");
}

#[test]
fn programs_reach_no_tickets() {
    let place = place();
    place.write("w/f", "content");
    let (holder, evil) = (Holder::new(1024), Holder::new(1024));
    let named = |holder: &Holder| format!(".__ticket.{}", holder.digest);
    let subject = format!("unix:{}", place.user);
    {
        // Made before programs may run.
        let mut server = place.serve(&[]);
        let mut owner = server.owner();
        holder.register(&mut owner, 600);
        holder.allow(&mut owner, &[("/w", "r")]);
        server.signal(Signal::TERM);
        server.wait();
    }
    let text = fs::read_to_string(place.host(named(&holder))).unwrap();
    let wider = text.replace("\"r\"", "\"rwldax\"");
    assert_ne!(wider, text, "{text}");
    let other = text.replace(&holder.public, &evil.public);
    place.write("wider", &wider);
    place.write("other", &other);
    let script = format!(
        "cat .__ticket.* {}/tickets/*; cat wider > {}; cat other > {}; :",
        place.base("transient").display(),
        named(&holder),
        named(&evil)
    );
    let request = json!({"cmd": "sh", "args": ["-c", script], "path": "/"});
    let check = |server: &Server<'_>| {
        holder
            .login(server, &subject)
            .expect("getfile /w/f\nputfile /w/f 384 1\n", "7\ncontent-2\n");
        let mut peer = server.connect();
        assert_eq!(evil.challenge(&mut peer), None, "a program made it");
    };
    let mut server = place.serve(&["--exec"]);
    let ended = run(&mut server.owner(), &request);
    assert_eq!((ended.code(), ended.out.as_slice()), (0, b"".as_slice()));
    assert!(place.host(named(&evil)).exists());
    check(&server);
    server.signal(Signal::KILL);
    server.wait();
    drop(server);
    // The same server again, and then one that runs no programs.
    for args in [["--exec"].as_slice(), &[]] {
        let mut server = place.serve(args);
        check(&server);
        assert!(!place.host(named(&evil)).exists());
        server.signal(Signal::TERM);
        server.wait();
        let now = fs::read_to_string(place.host(named(&holder))).unwrap();
        assert_eq!(now, text);
    }
}
