//! Executions of somebody else: to every verb they are as ones that never were.

use serde_json::{Value, json};

use super::exec::{alive, ask, printed_pid, run, shell, start, status};
use crate::common::{Peer, Place, Server};

/// Two subjects with every right, so that rights alone separate nobody.
fn place() -> Place {
    let place = Place::new();
    let list = format!(
        "unix:{} rwldax\naddress:127.0.0.2 rwldax\naddress:127.0.0.3 rwldax\n",
        place.user
    );
    place.write(".__acl", list);
    place
}

/// Every request that names an execution.
fn requests(name: &str) -> Vec<String> {
    let mut all: Vec<String> = [
        "exec_status {}",
        "exec_wait {} 0",
        "exec_wait {} 30",
        "exec_signal {} 9",
        "exec_signal {} 0",
        "exec_signal {} 65",
        "exec_attach {} 0 0",
        "exec_attach {} 1 0",
        "exec_attach {} 99999999 99999999",
        "exec_output {} out 0 10",
        "exec_output {} err 5 10",
        "exec_remove {}",
    ]
    .iter()
    .map(|verb| format!("{}\n", verb.replace("{}", name)))
    .collect();
    all.sort();
    all
}

/// What a peer is answered, as text.
#[track_caller]
fn answers(peer: &mut Peer, name: &str) -> Vec<String> {
    let ask = |request: String| String::from_utf8(peer.answer(request)).unwrap();
    requests(name).into_iter().map(ask).collect()
}

#[track_caller]
fn listed(peer: &mut Peer) -> Vec<Value> {
    peer.send("exec_list\n");
    serde_json::from_slice(&peer.counted().unwrap()).unwrap()
}

/// One that runs, one that has ended, and one with captured output; the first one's client is here.
struct Owned {
    peer: Peer,
    running: u64,
    pid: i64,
    ids: [u64; 3],
}

fn owned(server: &Server<'_>) -> Owned {
    let mut other = server.guest(2);
    let mut ended = shell("echo ended");
    ended["cmd-id"] = json!("ended");
    let ended = run(&mut other, &ended).status["id"].as_u64().unwrap();
    let mut captured = shell("echo captured; echo twice >&2");
    captured["cmd-id"] = json!("captured");
    captured["stdout"] = json!("capture");
    captured["stderr"] = json!("capture");
    let captured = run(&mut other, &captured).status["id"].as_u64().unwrap();
    let mut peer = server.guest(2);
    let mut request = shell("echo $$; exec sleep 1000");
    request["cmd-id"] = json!("running");
    let running = start(&mut peer, &request);
    printed_pid(&mut peer);
    let pid = status(&mut other, running)["pid"].as_i64().unwrap();
    Owned {
        peer,
        running,
        pid,
        ids: [ended, captured, running],
    }
}

#[test]
fn to_another_subject_no_verb_tells_that_an_execution_exists() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let owned = owned(&server);
    let mut stranger = server.guest(3);
    let never = answers(&mut stranger, "99999999");
    assert_eq!(answers(&mut stranger, "@never"), never);
    let missing = never.iter().filter(|answer| answer.starts_with("-21"));
    assert_eq!(missing.count(), never.len(), "{never:?}");
    for id in owned.ids {
        assert_eq!(answers(&mut stranger, &id.to_string()), never, "{id}");
    }
    for name in ["@ended", "@captured", "@running"] {
        assert_eq!(answers(&mut stranger, name), never, "{name}");
    }
    assert!(listed(&mut stranger).is_empty());
    // Nothing of it had an effect.
    assert!(alive(owned.pid));
    let mut second = server.guest(2);
    let now = status(&mut second, owned.running);
    assert_eq!(
        (&now["state"], &now["attached"]),
        (&json!("running"), &json!(true))
    );
    assert_eq!(listed(&mut second).len(), 3);
    // Names are each subject's own: the same one is free here, and means this one's afterwards.
    let mut request = shell("echo mine");
    request["cmd-id"] = json!("running");
    let mine = run(&mut stranger, &request);
    assert_eq!(mine.out, b"mine\n");
    let listed = listed(&mut stranger);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["id"], mine.status["id"]);
    second.expect("exec_signal @running 9\n", "0\n");
    let mut first = owned.peer;
    let ended = super::exec::finish(&mut first);
    assert_eq!(ended.code(), -9);
}

#[test]
fn the_superuser_sees_and_ends_everybodys() {
    let place = place();
    let server = place.serve(&["--exec", "-P", "address:127.0.0.4"]);
    let mut owned = owned(&server);
    let mut superuser = server.guest(4);
    let subjects: Vec<Value> = listed(&mut superuser)
        .into_iter()
        .map(|one| one["subject"].clone())
        .collect();
    assert_eq!(subjects, vec![json!("address:127.0.0.2"); 3]);
    for name in ["ended", "captured", "running"] {
        superuser.send(format!("exec_status @{name}\n"));
        let told: Value = serde_json::from_slice(&superuser.counted().unwrap()).unwrap();
        assert_eq!(told["cmd-id"], name);
    }
    superuser.expect("exec_output @captured out 0 99\n", "9\ncaptured\n");
    superuser.expect(format!("exec_signal {} 9\n", owned.running), "0\n");
    assert_eq!(super::exec::finish(&mut owned.peer).code(), -9);
    superuser.expect("exec_remove @ended\n", "0\n");
    // It is gone for its owner too.
    let said = server.guest(2).answer("exec_status @ended\n");
    assert!(said.starts_with(b"-21 "), "{}", said.escape_ascii());
}

#[test]
fn a_request_repeated_by_another_subject_is_another_execution() {
    let place = place();
    let server = place.serve(&["--exec"]);
    let request = json!({
        "cmd": "sh", "args": ["-c", "echo run >>log"], "cmd-id": "same", "detach": true,
    });
    let mut ids = Vec::new();
    for number in [2, 3] {
        let mut peer = server.guest(number);
        ask(&mut peer, &request);
        ids.push(peer.line());
        peer.send("exec_wait @same 30\n");
        assert!(peer.counted().is_ok());
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(server.guest(2).getfile("/log"), Ok(b"run\nrun\n".to_vec()));
}
