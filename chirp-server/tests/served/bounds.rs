//! The bounds of clients and programs, as the command line sets them.

use serde_json::json;

use crate::common::{Place, eventually};
use crate::exec::{finish, frame, refused, run, shell, start, status};

#[test]
fn a_subject_has_so_many_connections_and_leaves_the_others_alone() {
    let place = Place::new();
    let server = place.serve(&["--clients-per-subject=2"]);
    let mut first = server.owner();
    // Whoever got an answer has a place.
    first.answer("");
    let mut second = server.owner();
    second.answer("");
    let mut third = server.owner();
    // A client reads it as the answer to its first request.
    third.try_send("whoami 100\n");
    assert_eq!(third.rest(), b"-9\n");
    assert_eq!(second.number("access / 4\n"), 0);
    // The marker that this ends with is an answer.
    server.guest(7).answer("");
    assert!(server.log().contains("all the connections"));
    drop(first);
    eventually("a place is free again", || {
        let mut again = server.owner();
        again.try_send("access / 4\n");
        again.try_line().as_deref() == Some("0")
    });
}

#[test]
fn half_of_the_programs_at_once_are_for_one_subject() {
    let place = Place::new();
    let server = place.serve(&["--exec", "--executions=3"]);
    let mut owner = server.owner();
    owner.expect("setacl / address:127.0.0.7 rwlx\n", "0\n");
    let sleeping = json!({"cmd": "sleep", "args": ["600"], "detach": true});
    let first = start(&mut owner, &sleeping);
    start(&mut owner, &sleeping);
    let words = refused(&mut owner, &sleeping);
    assert!(words.starts_with("-9 2 executions of yours"), "{words}");
    let mut guest = server.guest(7);
    start(&mut guest, &sleeping);
    let words = refused(&mut guest, &sleeping);
    assert!(words.starts_with("-9 3 executions run"), "{words}");
    owner.expect(format!("exec_signal {first} 9\n"), "0\n");
    owner.send(format!("exec_wait {first} 30\n"));
    owner.counted().unwrap();
    start(&mut owner, &sleeping);
}

#[test]
fn limits_hold_for_requests_that_set_none_and_are_not_exceeded() {
    let place = Place::new();
    let server = place.serve(&[
        "--exec",
        "--exec-limit=files=50",
        "--exec-limit-max=wall=1s,files=60,file=1K",
        "--exec-kill-after=0.1s",
    ]);
    let mut owner = server.owner();
    assert_eq!(run(&mut owner, &shell("ulimit -n")).out, b"50\n");
    let mut asking = shell("ulimit -n; head -c 2000 /dev/zero >big; wc -c <big");
    asking["limits"] = json!({"open_files": 1000});
    assert_eq!(run(&mut owner, &asking).out, b"60\n1024\n");
    let mut deaf = shell("trap '' TERM; while :; do sleep 0.1; done");
    deaf["limits"] = json!({"wall_s": 600});
    let ended = run(&mut owner, &deaf);
    assert_eq!(ended.code(), -9);
    assert_eq!(ended.status["results"]["limit"], "wall_s");
}

#[test]
fn windows_and_captures_have_the_size_they_are_given_and_features_tell_it() {
    let place = Place::new();
    let server = place.serve(&["--exec", "--exec-window=64K", "--exec-capture=10"]);
    let mut owner = server.owner();
    owner.send("features\n");
    let features: serde_json::Value = serde_json::from_slice(&owner.counted().unwrap()).unwrap();
    assert_eq!(features["limits"]["window_bytes"], 65_536);
    let mut capturing = shell("echo 0123456789abcdef");
    capturing["stdout"] = json!("capture");
    let ended = run(&mut owner, &capturing);
    assert_eq!(
        ended.status["results"]["out"],
        "01234cdef
"
    );
    assert_eq!(ended.status["results"]["out_dropped"], 7);
    let flood = start(&mut owner, &shell("head -c 1000000 /dev/zero"));
    let mut other = server.owner();
    eventually("the window is full", || {
        status(&mut other, flood)["out_to"] == 65_536
    });
    assert_eq!(finish(&mut owner).out.len(), 1_000_000);
}

#[test]
fn a_silent_stream_is_lost_after_the_time_for_that() {
    let place = Place::new();
    let server = place.serve(&["--exec", "--exec-lost-after=1s"]);
    let mut owner = server.owner();
    let mut sleeping = shell("sleep 600");
    sleeping["on_disconnect"] = json!("kill");
    let id = start(&mut owner, &sleeping);
    let (word, _) = frame(&mut owner);
    assert!(word.starts_with("at "), "{word}");
    // Nothing more is sent. The server says that it is alive, gives up, and ends the program.
    let rest = String::from_utf8(owner.rest()).unwrap();
    assert!(rest.starts_with("alive\n"), "{rest}");
    let mut other = server.owner();
    eventually("the end", || status(&mut other, id)["state"] == "ended");
}
