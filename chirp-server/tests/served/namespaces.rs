//! Programs in namespaces of their own, as a server gives them. Where the system has none for the server's
//! account, `features` says so, and what needs them is refused.

use serde_json::{Value, json};

use crate::common::{Place, Server, eventually, refusal};
use crate::exec::{finish, printed_pid, refused, run, shell, start, status};

fn has_namespaces(server: &Server<'_>) -> bool {
    let mut owner = server.owner();
    owner.send("features\n");
    let features: Value = serde_json::from_slice(&owner.counted().unwrap()).unwrap();
    features["sandbox"]["namespaces"].as_bool().unwrap()
}

#[test]
fn the_option_says_whether_there_are_namespaces_and_the_log_tells() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let available = has_namespaces(&server);
    let own = "/proc/self/ns/pid";
    let outside = std::fs::read_link(own).unwrap();
    let see = json!({"cmd": "readlink", "args": [own]});
    let seen = run(&mut server.owner(), &see).out;
    let same = String::from_utf8(seen).unwrap().trim_end() == outside.to_str().unwrap();
    assert_eq!(same, !available);
    let words = if available {
        "each program has namespaces"
    } else {
        "no namespaces of their own"
    };
    assert!(server.log().contains(words), "{}", server.log());
    drop(server);
    let server = place.serve(&["--exec", "--sandbox-namespaces=off"]);
    assert!(!has_namespaces(&server));
    let limited = json!({"cmd": "true", "limits": {"processes": 5}});
    let words = refused(&mut server.owner(), &limited);
    assert!(words.starts_with("-23 limits.processes"), "{words}");
    assert_eq!(run(&mut server.owner(), &json!({"cmd": "true"})).code(), 0);
    drop(server);
    if available {
        assert!(has_namespaces(
            &place.serve(&["--exec", "--sandbox-namespaces=on"])
        ));
    } else {
        let mut command = Server::command(&place);
        command.args(["--exec", "--sandbox-namespaces=on"]);
        assert!(refusal(command).contains("--sandbox-namespaces=on"));
    }
    let mut command = Server::command(&place);
    command.args(["--exec", "--sandbox=off", "--exec-limit=processes=5"]);
    assert!(refusal(command).contains("processes"));
}

#[test]
fn the_processes_of_one_execution_are_limited_and_those_of_others_do_not_count() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    let mut owner = server.owner();
    let mut counting = shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & echo $i; done");
    counting["limits"] = json!({"processes": 5});
    if !has_namespaces(&server) {
        assert!(refused(&mut owner, &counting).starts_with("-23"));
        return;
    }
    // Many of the same user, that are nothing to it.
    let mut others = server.owner();
    let id = start(
        &mut others,
        &shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & done; echo $$; wait"),
    );
    printed_pid(&mut others);
    let ended = run(&mut owner, &counting);
    let started = ended.out.split(|&byte| byte == b'\n').count() - 1;
    // The shell itself is the first. One more may slip in while the program is being started.
    assert!((4..=5).contains(&started), "{started}");
    assert!(ended.err.ends_with(b"Cannot fork\n") || !ended.err.is_empty());
    assert_ne!(ended.code(), 0);
    assert_eq!(ended.status["results"]["limit"], Value::Null);
    assert_eq!(ended.status["results"]["survivors"], json!([]));
    owner.expect(format!("exec_signal {id} 9\n"), "0\n");
    assert_eq!(finish(&mut others).code(), -9);
}

#[test]
fn a_fork_bomb_hits_its_own_limit_and_nobody_else() {
    let place = Place::new();
    let server = place.serve(&["--exec", "--exec-grace=0.2s"]);
    let mut owner = server.owner();
    if !has_namespaces(&server) {
        return;
    }
    let mut bomb = shell("exec 2>/dev/null; b() { b | b & }; b; echo $$; sleep 2");
    bomb["limits"] = json!({"processes": 40});
    start(&mut owner, &bomb);
    printed_pid(&mut owner);
    let mut other = server.owner();
    for _ in 0..5 {
        let ended = run(&mut other, &shell("(sleep 0; echo a) | cat"));
        assert_eq!((ended.code(), ended.out), (0, b"a\n".to_vec()));
    }
    let ended = finish(&mut owner);
    assert_eq!(ended.status["results"]["survivors"], json!([]));
}

#[test]
fn programs_end_with_a_server_that_is_killed() {
    let place = Place::new();
    let server = place.serve(&["--exec"]);
    if !has_namespaces(&server) {
        return;
    }
    let mut owner = server.owner();
    let script = "setsid sh -c 'trap \"\" TERM HUP; sleep 600' & echo $$; sleep 600";
    let id = start(&mut owner, &shell(script));
    // In there it is another number.
    assert!(printed_pid(&mut owner) < 10);
    let pid = status(&mut server.owner(), id)["pid"].as_i64().unwrap();
    assert!(crate::exec::alive(pid));
    // The first process of the namespaces is killed with the server, and everything with that.
    server.signal(rustix::process::Signal::KILL);
    eventually("the program ends", || !crate::exec::alive(pid));
}
