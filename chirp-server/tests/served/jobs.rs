//! Jobs, as clients and hostile ones meet them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::common::{PATIENCE, Peer, Place, Server, eventually};

/// Everybody at 127.0.0.1 may do everything.
const ALL: &str = "address:127.0.0.1 rwldax\naddress:127.0.0.2 rwldax\n";

fn place() -> Place {
    let place = Place::new();
    place.write(".__acl", ALL);
    place
}

fn serve<'a>(place: &'a Place, args: &[&str]) -> Server<'a> {
    let mut all = vec!["--jobs"];
    all.extend(args);
    place.serve(&all)
}

fn send(peer: &mut Peer, verb: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!("{verb} {}\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    peer.answer(request)
}

#[track_caller]
fn code(peer: &mut Peer, verb: &str, body: impl AsRef<[u8]>) -> i64 {
    let answer = send(peer, verb, body.as_ref());
    String::from_utf8(answer)
        .unwrap()
        .trim_end()
        .parse()
        .unwrap()
}

#[track_caller]
fn create(peer: &mut Peer, job: &Value) -> i64 {
    let id = code(peer, "job_create", job.to_string());
    assert!(id > 0, "{id} for {job}");
    id
}

/// Takes the count off an answer.
#[track_caller]
fn counted(answer: &[u8]) -> Value {
    let end = memchr::memchr(b'\n', answer).expect("a line");
    let (count, text) = (&answer[..end], &answer[end + 1..]);
    assert_eq!(count, text.len().to_string().as_bytes());
    serde_json::from_slice(text).expect("JSON")
}

#[track_caller]
fn status(peer: &mut Peer, id: i64) -> Value {
    counted(&send(peer, "job_status", format!("[{id}]").as_bytes()))[0].clone()
}

#[track_caller]
fn commit(peer: &mut Peer, id: i64) {
    assert_eq!(code(peer, "job_commit", format!("[{id}]")), 0);
}

#[track_caller]
fn wait(peer: &mut Peer, id: i64) -> Value {
    let all = counted(&peer.answer(format!("job_wait {id} 30\n")));
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    all[0].clone()
}

#[track_caller]
fn run(peer: &mut Peer, job: &Value) -> Value {
    let id = create(peer, job);
    commit(peer, id);
    wait(peer, id)
}

fn shell(command: &str, files: Value) -> Value {
    json!({"executable": "/bin/sh", "arguments": ["sh", "-c", command], "files": files})
}

fn input(serv_path: &str, task_path: &str, binding: &str) -> Value {
    json!({"type": "INPUT", "serv_path": serv_path, "task_path": task_path, "binding": binding})
}

fn output(task_path: &str, serv_path: &str, binding: &str) -> Value {
    json!({"type": "OUTPUT", "serv_path": serv_path, "task_path": task_path, "binding": binding})
}

/// Replaces the times, which are all that differs between two runs.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\"time_") {
        let colon = at + rest[at..].find(':').unwrap() + 1;
        out.push_str(&rest[..colon]);
        rest = &rest[colon..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
        out.push_str(if digits > 0 { "T" } else { "" });
        rest = &rest[digits..];
    }
    out + rest
}

/// Reports whether a process runs.
fn alive(pid: u32) -> bool {
    // A zombie that nobody has reaped is none.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").unwrap().1;
        !state.starts_with(['Z', 'X'])
    })
}

/// Reads numbers that a job writes, once they are all there.
#[track_caller]
fn pids(place: &Place, path: &str, count: usize) -> Vec<u32> {
    let mut found = Vec::new();
    eventually("the job has written its process ids", || {
        let text = fs::read_to_string(place.host(path)).unwrap_or_default();
        found = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        text.ends_with('\n') && found.len() == count
    });
    found
}

#[test]
fn a_job_goes_from_created_to_finished_and_is_told_of_byte_by_byte() {
    let place = place();
    let server = serve(&place, &[]);
    let mut peer = server.guest(1);
    let job = "{\"executable\":\"/bin/true\",\"arguments\":[\"true\",\"a/b\\u0001\\n\\\"\\\\\\t\\b\\f\\r\\u00e9\"],\
               \"environment\":{\"b\":\"1\",\"B\":\"2\"},\"files\":[{\"type\":\"OUTPUT\",\"serv_path\":\"/o\",\"task_path\":\"o\"},\
               {\"type\":\"INPUT\",\"serv_path\":\"/.__acl/../i\",\"task_path\":\"i\",\"binding\":\"copy\",\"tag\":\"t\"}]}";
    place.write("i", "in");
    assert_eq!(code(&mut peer, "job_create", job), 1);
    peer.expect("job_wait 1 0\n", "2\n[]");
    let created = send(&mut peer, "job_status", b"[1]");
    let created = String::from_utf8(created).unwrap();
    let (_, created) = created.split_once('\n').unwrap();
    let expected = "[{\"id\":1,\"error\":null,\"executable\":\"\\/bin\\/true\",\"exit_code\":null,\"exit_status\":null,\
        \"exit_signal\":null,\"priority\":1,\"status\":\"CREATED\",\"subject\":\"address:127.0.0.1\",\"tag\":\"(unknown)\",\
        \"time_commit\":null,\"time_create\":T,\"time_error\":null,\"time_finish\":null,\"time_kill\":null,\
        \"time_start\":null,\"time_reap\":null,\
        \"arguments\":[\"true\",\"a\\/b\\u0001\\n\\\"\\\\\\t\\b\\f\\ré\"],\"environment\":{\"B\":\"2\",\"b\":\"1\"},\
        \"files\":[{\"binding\":\"COPY\",\"serv_path\":\"\\/.__acl\\/..\\/i\",\"size\":null,\"tag\":\"t\",\"task_path\":\"i\",\"type\":\"INPUT\"},\
        {\"binding\":\"LINK\",\"serv_path\":\"\\/o\",\"size\":null,\"tag\":null,\"task_path\":\"o\",\"type\":\"OUTPUT\"}]}]";
    assert_eq!(without_times(created), expected);

    commit(&mut peer, 1);
    let done = wait(&mut peer, 1);
    assert_eq!(done["status"], "FINISHED");
    assert_eq!(done["exit_status"], "EXITED");
    assert_eq!(done["exit_code"], 0);
    assert!(done["time_start"].is_i64() && done["time_finish"].is_i64());
    // What comes after the end.
    commit(&mut peer, 1);
    assert_eq!(code(&mut peer, "job_kill", "[1]"), -2);
    peer.expect("job_wait 2 0\n", "2\n[]");
    assert_eq!(code(&mut peer, "job_reap", "[1]"), 0);
    peer.expect("job_wait 1 0\n", "-21\n");
    assert!(status(&mut peer, 1)["time_reap"].is_i64());
}

#[test]
fn bodies_that_are_no_jobs_are_refused() {
    let place = place();
    let server = serve(&place, &[]);
    let mut peer = server.guest(1);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let within = |value: &str| {
        format!("{{\"executable\":\"/bin/true\",\"arguments\":[],\"files\":[],\"x\":{value}}}")
    };
    let file = |file: &str| {
        format!("{{\"executable\":\"/bin/true\",\"arguments\":[],\"files\":[{file}]}}")
    };
    let task = |path: &str| {
        file(&format!(
            "{{\"type\":\"INPUT\",\"serv_path\":\"/f\",\"task_path\":\"{path}\"}}"
        ))
    };
    let refused: &[(i64, String)] = &[
        (-8, String::new()),
        (-8, "abc".to_owned()),
        (-8, "{}".to_owned()),
        (-8, "[]".to_owned()),
        (-8, deep.clone()),
        (-8, format!("{}x", within("1"))),
        (
            -8,
            "{\"executable\":1,\"arguments\":[],\"files\":[]}".to_owned(),
        ),
        (
            -8,
            "{\"executable\":[1],\"arguments\":[],\"files\":[]}".to_owned(),
        ),
        (
            -8,
            "{\"executable\":\"/a\",\"arguments\":[1],\"files\":[]}".to_owned(),
        ),
        (
            -8,
            "{\"executable\":\"/a\",\"arguments\":{},\"files\":[]}".to_owned(),
        ),
        (
            -8,
            "{\"executable\":\"/a\",\"arguments\":[],\"files\":[],\"environment\":{\"A\":1}}"
                .to_owned(),
        ),
        (
            -8,
            "{\"executable\":\"/a\\u0000b\",\"arguments\":[],\"files\":[]}".to_owned(),
        ),
        (
            -8,
            format!(
                "{{\"executable\":\"/{}\",\"arguments\":[],\"files\":[]}}",
                "a".repeat(1023)
            ),
        ),
        (
            -8,
            file("{\"type\":\"input\",\"serv_path\":\"/f\",\"task_path\":\"f\"}"),
        ),
        (-8, file("{\"type\":\"INPUT\",\"serv_path\":\"/f\"}")),
        (
            -8,
            file("{\"type\":\"INPUT\",\"serv_path\":\"/f\",\"task_path\":\"f\",\"binding\":\"x\"}"),
        ),
        (-24, task(&"a".repeat(1024))),
        (-8, task("../escaped")),
        (-8, task("a/../../escaped")),
        (-8, task("/etc/escaped")),
        (-8, task(".__acl")),
        (-8, task("a/.__x/b")),
        (-8, task("")),
    ];
    for (expected, body) in refused {
        let got = code(&mut peer, "job_create", body);
        assert_eq!(got, *expected, "{body:.200}");
    }
    // Unknown keys are ignored whatever they hold, and the first of several counts.
    for body in [
        within(&deep),
        within("1e999999"),
        within("99999999999999999999999999999"),
        "{\"executable\":\"/bin/true\",\"executable\":1,\"arguments\":[],\"files\":[]}".to_owned(),
    ] {
        let got = code(&mut peer, "job_create", &body);
        assert!(got > 0, "{got} for {body:.200}");
    }
    for verb in ["job_commit", "job_kill", "job_reap", "job_status"] {
        for body in [
            "",
            "1",
            "{}",
            "null",
            "[1.0]",
            "[\"1\"]",
            "[1] x",
            "[[1]]",
            "[1e3]",
            "[true]",
            "[99999999999999999999]",
            &deep,
        ] {
            assert_eq!(code(&mut peer, verb, body), -8, "{verb} {body:.40}");
        }
        let unknown = if verb == "job_status" { -2 } else { -21 };
        for body in ["[999]", "[0]", "[-1]", "[1,999]"] {
            assert_eq!(code(&mut peer, verb, body), unknown, "{verb} {body}");
        }
    }
    peer.expect(
        "job_create -1\njob_create\njob_create x\njob_wait 1\n",
        "-8\n-8\n-8\n-8\n",
    );
    // The longest body that is taken, and one above it, both of nothing.
    let longest = vec![b' '; 16 * 1024 * 1024];
    assert_eq!(code(&mut peer, "job_create", &longest), -8);
    let above = [longest.as_slice(), b" "].concat();
    assert_eq!(code(&mut peer, "job_create", &above), -7);
    // A small body that would take much more memory than its text.
    let many = format!(
        "{{\"executable\":\"/a\",\"arguments\":[{}\"\"],\"files\":[]}}",
        "\"\",".repeat(4_000_000)
    );
    assert_eq!(code(&mut peer, "job_create", &many), -8);
    assert!(server.memory_kib("VmHWM") < 300 * 1024);
}

#[test]
fn an_answer_is_never_longer_than_any_may_be() {
    let place = place();
    let server = serve(&place, &[]);
    let mut peer = server.guest(1);
    let large = "a".repeat(1024 * 1024);
    let id = create(
        &mut peer,
        &json!({"executable": "/bin/true", "arguments": [large], "files": []}),
    );
    let twice = format!("[{id},{id}]");
    let both = counted(&send(&mut peer, "job_status", twice.as_bytes()));
    assert_eq!(both.as_array().unwrap().len(), 2);
    let many = format!("[{id}{}]", format!(",{id}").repeat(16));
    assert_eq!(code(&mut peer, "job_status", many), -5);
    // Nobody could be told of this one.
    let huge = "/".repeat(5 * 1024 * 1024);
    let huge = json!({"executable": "/bin/true", "arguments": [huge], "files": []});
    assert_eq!(code(&mut peer, "job_create", huge.to_string()), -7);
}

#[test]
fn nobody_runs_a_job_without_the_execute_right() {
    let place = place();
    place.write(
        ".__acl",
        "address:127.0.0.1 rwldax\naddress:127.0.0.2 rwlda\naddress:127.0.0.3 x\n",
    );
    place.directory("tools", "address:127.0.0.2 rwlx\n");
    place.directory("secret", "address:127.0.0.1 rwldax\n");
    place.write("tools/run", "#!/bin/sh\necho ran >out\n");
    place.write("secret/data", "data");
    let server = serve(&place, &[]);
    let (mut all, mut most, mut only) = (server.guest(1), server.guest(2), server.guest(3));
    let plain = json!({"executable": "/bin/true", "arguments": ["true"], "files": []});
    let refused = |peer: &mut Peer, job: &Value| code(peer, "job_create", job.to_string());
    assert_eq!(refused(&mut most, &plain), -2);
    assert_eq!(run(&mut only, &plain)["exit_code"], 0);
    // A program of a directory in which it is held is another matter.
    let own = json!({"executable": "run", "arguments": ["run"], "files":
        [input("/tools/run", "run", "LINK"), output("out", "/tools/out", "LINK")]});
    assert_eq!(run(&mut most, &own)["exit_code"], 0);
    assert_eq!(most.getfile("/tools/out"), Ok(b"ran\n".to_vec()));
    let host = place.host("tools/run");
    let named = json!({"executable": host.to_str().unwrap(), "arguments": ["x"], "files": []});
    assert!(refused(&mut most, &named) > 0);
    assert_eq!(refused(&mut only, &named), -2);
    // Reading and writing need their rights too.
    for (file, expected) in [
        (input("/secret/data", "d", "LINK"), -2),
        (input("/secret/data", "d", "COPY"), -2),
        (output("d", "/secret/new", "LINK"), -2),
        (output("d", "/none/new", "LINK"), -3),
        (input("/.__acl", "d", "LINK"), -2),
        (output("d", "/.__acl", "LINK"), -2),
        (output("d", "/.__job.1.0123456789", "COPY"), -2),
    ] {
        let job = json!({"executable": "run", "arguments": ["run"], "files":
            [input("/tools/run", "run", "LINK"), file.clone()]});
        assert_eq!(refused(&mut most, &job), expected, "{file}");
    }
    // And again when the job is run: they may be gone by then.
    let reading = shell(
        "cp d o",
        json!([
            input("/secret/data", "d", "COPY"),
            output("o", "/o", "LINK")
        ]),
    );
    let (first, second) = (create(&mut all, &reading), create(&mut all, &plain));
    place.write("secret/.__acl", "address:127.0.0.9 rwldax\n");
    commit(&mut all, first);
    let first = wait(&mut all, first);
    assert_eq!(
        (&first["status"], &first["error"]),
        (&json!("ERRORED"), &json!("Permission denied"))
    );
    place.write(".__acl", "address:127.0.0.1 rwlda\n");
    commit(&mut all, second);
    assert_eq!(wait(&mut all, second)["error"], "Permission denied");
    assert_eq!(place.debris(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn files_are_bound_both_ways_and_originals_stay_as_they_are() {
    let place = place();
    place.write("data", "hello");
    place.write("tool", "#!/bin/sh\ncat \"$@\"\n");
    fs::set_permissions(place.host("tool"), fs::Permissions::from_mode(0o700)).unwrap();
    let (data, tool) = (
        fs::metadata(place.host("data")).unwrap(),
        fs::metadata(place.host("tool")).unwrap(),
    );
    let server = serve(&place, &[]);
    let mut peer = server.guest(1);
    let files = json!([
        input("/data", "in/linked", "LINK"),
        input("/data", "in/copied", "COPY"),
        input("/tool", "tool", "LINK"),
        output("out/one", "/one.%j", "LINK"),
        output("two", "/two.%h.%s.%%.%x", "COPY"),
        output("three", "/three.%g", "LINK"),
        output("never", "/never", "LINK"),
        output(".chirp.debug", "/log", "COPY"),
    ]);
    let job = shell(
        "./tool in/linked in/copied >out/one; echo new >in/linked; echo new >in/copied; \
         printf abc >two; env >three; stat -c %a:%h in/linked in/copied tool >>three; chmod 4755 out/one",
        files,
    );
    let done = run(&mut peer, &job);
    assert_eq!(done["exit_code"], 0, "{done}");
    let id = done["id"].as_i64().unwrap();
    let bound = |task: &str| {
        let files = done["files"].as_array().unwrap();
        files
            .iter()
            .find(|file| file["task_path"] == task)
            .unwrap()
            .clone()
    };
    assert_eq!(bound("out/one")["serv_path"], format!("/one.{id}"));
    assert_eq!(bound("out/one")["size"], 10);
    assert_eq!(bound("never")["size"], Value::Null);
    let digest = "A9993E364706816ABA3E25717850C26C9CD0D89D";
    assert_eq!(
        bound("two")["serv_path"],
        format!("/two.{digest}.{digest}.%%.%x")
    );
    assert_eq!(
        peer.getfile(&format!("/one.{id}")),
        Ok(b"hellohello".to_vec())
    );
    // The set-id bit stays behind.
    let mode = fs::metadata(place.host(format!("one.{id}")))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
    let three = bound("three")["serv_path"].as_str().unwrap().to_owned();
    let random = three.strip_prefix("/three.").unwrap();
    assert!(random.len() == 40 && random.bytes().all(|b| b.is_ascii_hexdigit()));
    let words = String::from_utf8(peer.getfile(&three).unwrap()).unwrap();
    // A file that could not be run is copied, so that neither it nor its mode is changed; one that can
    // be is shared with a subject who may write it.
    assert!(words.ends_with("700:1\n700:1\n700:2\n"), "{words}");
    let sandbox = words
        .lines()
        .find_map(|line| line.strip_prefix("PWD="))
        .unwrap();
    let sandbox = std::path::Path::new(sandbox);
    eventually("the sandbox is gone", || !sandbox.exists());
    for variable in [
        &format!("HOME={}", sandbox.display()),
        &format!("TMPDIR={}", sandbox.display()),
        &format!("CHIRP_HOST=:{}", server.port),
        "CHIRP_SUBJECT=address:127.0.0.1",
        "LANG=C",
        "LC_ALL=C",
        "PATH=/bin:/usr/bin:/usr/local/bin",
        "USER=chirp",
    ] {
        assert!(
            words.lines().any(|line| line == variable),
            "{variable}: {words}"
        );
    }
    assert!(peer.getfile("/log").is_ok());
    assert_eq!(fs::read(place.host("data")).unwrap(), b"hello");
    for (name, before) in [("data", data), ("tool", tool)] {
        let after = fs::metadata(place.host(name)).unwrap();
        assert_eq!(
            (after.ino(), after.mode(), after.nlink()),
            (before.ino(), before.mode(), 1)
        );
    }
    assert_eq!(place.debris(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_program_leads_the_server_nowhere_by_what_it_leaves() {
    let place = place();
    fs::write(place.base("outside"), "outside").unwrap();
    place.give(&place.base("outside"));
    place.write("kept", "kept");
    let server = serve(&place, &[]);
    let mut peer = server.guest(1);
    let outside = place.base("outside");
    let outside = outside.to_str().unwrap();
    let up = place.base("");
    let up = up.to_str().unwrap();
    for (command, task, error) in [
        (
            format!("ln -s {outside} o"),
            "o",
            "Too many levels of symbolic links",
        ),
        (
            format!("rmdir d; ln -s {up} d"),
            "d/outside",
            "Not a directory",
        ),
        ("mkfifo o".to_owned(), "o", "Invalid argument"),
        ("mkdir o".to_owned(), "o", "Is a directory"),
    ] {
        let job = shell(&command, json!([output(task, "/kept", "COPY")]));
        let done = run(&mut peer, &job);
        assert_eq!(
            (&done["status"], &done["error"]),
            (&json!("ERRORED"), &json!(error)),
            "{command}"
        );
    }
    assert_eq!(peer.getfile("/kept"), Ok(b"kept".to_vec()));
    // Nor does it keep its directory from being removed.
    let job = shell(
        "mkdir -p a/b/c; touch a/b/c/d; chmod 0 a/b/c a/b a .",
        json!([]),
    );
    assert_eq!(run(&mut peer, &job)["exit_code"], 0);
    eventually("the sandbox is gone", || place.debris().is_empty());
    assert_eq!(fs::read(place.base("outside")).unwrap(), b"outside");
}

#[test]
fn what_cannot_be_run_says_why() {
    let place = place();
    let server = serve(&place, &[]);
    let mut peer = server.guest(1);
    for program in ["/no/such/program", "true", "", "./missing"] {
        let done = run(
            &mut peer,
            &json!({"executable": program, "arguments": ["x"], "files": []}),
        );
        assert_eq!(done["status"], "FINISHED");
        assert_eq!(
            (&done["exit_status"], &done["exit_signal"]),
            (&json!("SIGNALED"), &json!("SIGUSR1"))
        );
    }
    let signaled = run(&mut peer, &shell("kill -SEGV $$", json!([])));
    assert_eq!(signaled["exit_signal"], "SIGSEGV");
    let missing = run(
        &mut peer,
        &shell("true", json!([input("/nope", "x", "LINK")])),
    );
    assert_eq!(missing["error"], "No such file or directory");
    assert_eq!(missing["time_start"], Value::Null);
    let begun = Instant::now();
    for file in [
        input("http://127.0.0.1:1/x", "x", "URL"),
        input("chirp://127.0.0.1:1/x", "x", "url"),
        output("x", "http://127.0.0.1:1/x", "URL"),
    ] {
        let refused = run(&mut peer, &shell("true", json!([file])));
        assert_eq!(refused["status"], "ERRORED");
        assert!(
            refused["error"].as_str().unwrap().contains("URL"),
            "{refused}"
        );
    }
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn with_sandbox_require_nothing_runs() {
    let place = place();
    let server = serve(&place, &["--sandbox=require"]);
    let mut peer = server.guest(1);
    let refused = run(&mut peer, &shell("true", json!([])));
    assert_eq!(refused["status"], "ERRORED");
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("--sandbox=require")
    );
}

#[test]
fn each_subject_waits_for_its_own_jobs_and_the_superuser_for_all() {
    let place = place();
    let server = serve(&place, &["--job-concurrency=0", "-P", "address:127.0.0.3"]);
    let (mut one, mut two, mut superuser) = (server.guest(1), server.guest(2), server.guest(3));
    one.expect("job_wait 0 30\n", "-21\n");
    let plain = shell("true", json!([]));
    let mine = run(&mut one, &plain)["id"].as_i64().unwrap();
    let theirs = run(&mut two, &plain)["id"].as_i64().unwrap();
    let ids = |peer: &mut Peer, wanted: i64| -> Vec<i64> {
        let all = counted(&peer.answer(format!("job_wait {wanted} 0\n")));
        all.as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(ids(&mut one, 0), [mine]);
    assert_eq!(ids(&mut two, 0), [theirs]);
    assert_eq!(ids(&mut two, -mine), [theirs]);
    assert_eq!(ids(&mut superuser, 0), [mine, theirs]);
    assert_eq!(ids(&mut superuser, -theirs), [theirs]);
    two.expect(format!("job_wait {mine} 0\n"), "-2\n");
    for verb in ["job_commit", "job_kill", "job_reap", "job_status"] {
        assert_eq!(
            code(&mut two, verb, format!("[{theirs},{mine}]")),
            -2,
            "{verb}"
        );
    }
    // All or none: the own one was not reaped with the other's.
    assert_eq!(ids(&mut two, 0), [theirs]);
    assert_eq!(
        code(&mut superuser, "job_reap", format!("[{mine},{theirs}]")),
        0
    );
    two.expect("job_wait 0 30\n", "-21\n");

    // Woken up by the end of a job, on another connection.
    let id = create(
        &mut one,
        &shell("read x <go", json!([input("/go", "go", "LINK")])),
    );
    place.write("go", "x\n");
    let mut waiting = server.guest(1);
    waiting.send(format!("job_wait {id} 30\n"));
    commit(&mut one, id);
    assert_eq!(waiting.counted().map(|text| text.is_empty()), Ok(false));
}

#[test]
fn a_kill_takes_what_the_program_started() {
    let place = place();
    place.directory("d", ALL);
    let server = serve(&place, &["--job-concurrency=2"]);
    let mut peer = server.guest(1);
    let pidfile = place.host("d/pids");
    let command = format!(
        "trap '' TERM; sleep 1000 & a=$!; setsid sleep 1000 & echo $$ $a $! >{}; wait; wait",
        pidfile.display()
    );
    let id = create(
        &mut peer,
        &shell(&command, json!([output("x", "/x", "LINK")])),
    );
    let queued = create(&mut peer, &shell("true", json!([])));
    commit(&mut peer, id);
    let found = pids(&place, "d/pids", 3);
    assert_eq!(status(&mut peer, id)["status"], "STARTED");
    assert_eq!(code(&mut peer, "job_reap", format!("[{id}]")), 0);
    assert_eq!(status(&mut peer, id)["time_reap"], Value::Null);
    assert_eq!(code(&mut peer, "job_kill", format!("[{id},{queued}]")), 0);
    let killed = wait(&mut peer, id);
    assert_eq!(
        (&killed["status"], &killed["exit_status"]),
        (&json!("KILLED"), &Value::Null)
    );
    assert_eq!(wait(&mut peer, queued)["status"], "KILLED");
    eventually("no process is left", || {
        found.iter().all(|&pid| !alive(pid))
    });
    eventually("the sandbox is gone", || place.debris().is_empty());
    assert_eq!(code(&mut peer, "job_kill", format!("[{id}]")), -2);
    // Killed twice in one request: the second time it has ended, so nothing is done.
    let third = create(&mut peer, &shell("true", json!([])));
    assert_eq!(
        code(&mut peer, "job_kill", format!("[{third},{third}]")),
        -2
    );
    assert_eq!(status(&mut peer, third)["status"], "CREATED");
}

#[test]
fn the_time_limit_is_enforced() {
    let place = place();
    let server = serve(&place, &["--job-time-limit=1"]);
    let mut peer = server.guest(1);
    let ended = run(&mut peer, &shell("sleep 1000", json!([])));
    assert_eq!(ended["status"], "ERRORED");
    assert_eq!(
        ended["error"],
        "ended after 1 s, the longest that a job may run here"
    );
    assert!(ended["time_start"].is_i64());
}

#[test]
fn as_many_jobs_run_as_may_and_the_oldest_first() {
    let place = place();
    place.directory("d", ALL);
    let server = serve(&place, &["--job-concurrency=1"]);
    let mut peer = server.guest(1);
    let log = place.host("d/log");
    let ids: Vec<i64> = (0..5)
        .map(|number| {
            let command = format!(
                "echo begin {number} >>{0}; echo end {number} >>{0}",
                log.display()
            );
            create(&mut peer, &shell(&command, json!([])))
        })
        .collect();
    let all = serde_json::to_string(&ids).unwrap();
    assert_eq!(code(&mut peer, "job_commit", &all), 0);
    for &id in &ids {
        assert_eq!(wait(&mut peer, id)["exit_code"], 0);
    }
    let expected: String = (0..5).map(|n| format!("begin {n}\nend {n}\n")).collect();
    assert_eq!(fs::read_to_string(log).unwrap(), expected);

    // Those that wait for one another need no limit.
    drop(peer);
    drop(server);
    let server = serve(&place, &["--job-concurrency=0"]);
    let mut peer = server.guest(1);
    let fifo = place.host("d/fifo");
    let status = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    assert!(status.success());
    place.give(&fifo);
    let reader = create(
        &mut peer,
        &shell(&format!("read x <{}", fifo.display()), json!([])),
    );
    let writer = create(
        &mut peer,
        &shell(&format!("echo x >{}", fifo.display()), json!([])),
    );
    commit(&mut peer, reader);
    commit(&mut peer, writer);
    assert_eq!(wait(&mut peer, reader)["exit_code"], 0);
    assert_eq!(wait(&mut peer, writer)["exit_code"], 0);
}

#[test]
fn a_stop_ends_running_jobs_and_keeps_the_others() {
    let place = place();
    place.directory("d", ALL);
    let mut server = serve(&place, &[]);
    let mut peer = server.guest(1);
    let pidfile = place.host("d/pids");
    let command = format!("sleep 1000 & echo $$ $! >{}; wait", pidfile.display());
    let running = create(&mut peer, &shell(&command, json!([])));
    let queued = create(&mut peer, &shell("true", json!([])));
    let created = create(&mut peer, &shell("true", json!([])));
    assert_eq!(
        code(&mut peer, "job_commit", format!("[{running},{queued}]")),
        0
    );
    let found = pids(&place, "d/pids", 2);
    // Somebody who waits does not hold it up.
    let mut waiting = server.guest(1);
    waiting.send(format!("job_wait {created} 30\n"));
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(begun.elapsed().as_secs() < 9, "{:?}", begun.elapsed());
    assert!(found.iter().all(|&pid| !alive(pid)));
    assert_eq!(place.debris(), Vec::<std::path::PathBuf>::new());

    let server = serve(&place, &[]);
    let mut peer = server.guest(1);
    let ended = status(&mut peer, running);
    assert_eq!(ended["status"], "ERRORED");
    assert_eq!(
        ended["error"],
        "the server stopped while the job was running"
    );
    assert_eq!(wait(&mut peer, queued)["exit_code"], 0);
    assert_eq!(status(&mut peer, created)["status"], "CREATED");
    assert!(create(&mut peer, &shell("true", json!([]))) > created);
}

#[test]
fn a_killed_server_leaves_no_program_and_forgets_no_job() {
    let place = place();
    place.directory("d", ALL);
    let mut server = serve(&place, &["--job-concurrency=0"]);
    let mut peer = server.guest(1);
    let pidfile = place.host("d/pids");
    // One that is in the program's session, one that has left it, and one that has forgotten where
    // it came from.
    let command = format!(
        "sleep 1000 & a=$!; setsid sleep 1000 & b=$!; (cd /; exec env -i sleep 1000) & echo $$ $a $b $! >{}; wait",
        pidfile.display()
    );
    let finished = run(&mut peer, &shell("exit 3", json!([])))["id"]
        .as_i64()
        .unwrap();
    let running = create(&mut peer, &shell(&command, json!([])));
    commit(&mut peer, running);
    let created = create(&mut peer, &shell("true", json!([])));
    let found = pids(&place, "d/pids", 4);
    server.signal(Signal::KILL);
    server.wait();
    // The kernel takes the program with it, and the next server what that had started.
    eventually("the program is gone", || !alive(found[0]));
    assert!(!place.debris().is_empty());

    let server = serve(&place, &["--job-concurrency=0"]);
    let left: Vec<u32> = found.into_iter().filter(|&pid| alive(pid)).collect();
    kill_all(&left);
    assert_eq!(left, [0; 0]);
    assert_eq!(place.debris(), Vec::<std::path::PathBuf>::new());
    let mut peer = server.guest(1);
    let ended = status(&mut peer, running);
    assert_eq!(ended["status"], "ERRORED");
    assert_eq!(ended["error"], "the server ended while the job was running");
    assert_eq!(status(&mut peer, finished)["exit_code"], 3);
    assert_eq!(create(&mut peer, &shell("true", json!([]))), created + 1);
}

#[test]
fn a_job_that_was_being_killed_with_its_server_leaves_no_program() {
    let place = place();
    place.directory("d", ALL);
    let mut server = serve(&place, &[]);
    let mut peer = server.guest(1);
    let pidfile = place.host("d/pids");
    let command = format!(
        "trap '' TERM; setsid sleep 1000 & echo $$ $! >{}; wait",
        pidfile.display()
    );
    let id = create(&mut peer, &shell(&command, json!([])));
    commit(&mut peer, id);
    let found = pids(&place, "d/pids", 2);
    assert_eq!(code(&mut peer, "job_kill", format!("[{id}]")), 0);
    // They have been asked to end, which they ignore, and are given time.
    server.signal(Signal::KILL);
    server.wait();
    assert!(alive(found[1]) && !place.debris().is_empty());

    let server = serve(&place, &[]);
    let left: Vec<u32> = found.into_iter().filter(|&pid| alive(pid)).collect();
    kill_all(&left);
    assert_eq!(left, [0; 0]);
    assert_eq!(status(&mut server.guest(1), id)["status"], "KILLED");
}

#[test]
fn what_left_the_program_before_its_end_does_not_outlive_the_job() {
    let place = place();
    place.directory("d", ALL);
    let server = serve(&place, &[]);
    let mut peer = server.guest(1);
    // The second has neither its directory nor its environment from the job, but a session from one
    // that has. Both have no parent left.
    let command = format!(
        "setsid sh -c 'sleep 1000 & a=$!; (cd /; exec env -i sleep 1000) & echo $a $! >{}'",
        place.host("d/pids").display()
    );
    let ended = run(&mut peer, &shell(&command, json!([])));
    assert_eq!(ended["exit_code"], 0, "{ended}");
    let found = pids(&place, "d/pids", 2);
    let left: Vec<u32> = found.into_iter().filter(|&pid| alive(pid)).collect();
    kill_all(&left);
    assert_eq!(left, [0; 0]);
}

#[test]
fn an_output_path_that_becomes_too_long_is_an_error_that_survives() {
    let place = place();
    let mut server = serve(&place, &[]);
    let mut peer = server.guest(1);
    let path = format!("/{}o", "%h/../".repeat(30));
    let id = create(
        &mut peer,
        &shell("echo x >o", json!([output("o", &path, "COPY")])),
    );
    commit(&mut peer, id);
    let ended = wait(&mut peer, id);
    assert_eq!(ended["error"], "File name too long", "{ended}");
    server.signal(Signal::KILL);
    server.wait();
    let server = serve(&place, &[]);
    assert_eq!(status(&mut server.guest(1), id), ended);
}

#[test]
fn clients_that_send_slowly_keep_nobody_else_waiting_for_ever() {
    let place = place();
    let server = serve(&place, &[]);
    let length = 2 * 1024 * 1024;
    let announced = format!("job_create {length}\n{{");
    let mut slow: Vec<Peer> = (1..=4).map(|_| server.guest(1)).collect();
    for peer in &mut slow {
        peer.send(&announced);
    }
    let mut peer = server.guest(1);
    let body = vec![b' '; length];
    eventually("there is no room", || {
        code(&mut peer, "job_create", &body) == -11
    });
    // The body was taken, and small ones need no room.
    create(&mut peer, &shell("true", json!([])));
    drop(slow);
    eventually("there is room again", || {
        code(&mut peer, "job_create", &body) == -8
    });
}

/// Ends test processes that were not found, should a test fail.
fn kill_all(pids: &[u32]) {
    for &pid in pids {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

#[test]
fn without_jobs_the_bodies_are_taken_and_refused() {
    let place = place();
    let server = place.serve(&[]);
    let mut peer = server.guest(1);
    assert_eq!(code(&mut peer, "job_create", "{}"), -8);
    assert_eq!(code(&mut peer, "job_status", "[]"), -8);
    peer.expect("job_wait 0 30\n", "-8\n");
}

#[test]
fn clients_cannot_reach_the_state_of_jobs() {
    let place = place();
    let mut command = Server::command(&place);
    command.args(["--jobs", "-y"]).arg(place.host("state"));
    let words = crate::common::refusal(command);
    assert!(words.contains("inside the exported tree"), "{words}");
}

#[test]
fn a_job_changes_no_access_control_lists() {
    let place = place();
    let list = "address:127.0.0.1 rwldax\naddress:127.0.0.9 rl\n";
    place.directory("d", list);
    let server = serve(&place, &[]);
    let (mut peer, mut stranger) = (server.guest(1), server.guest(3));
    let root = place.host(".");
    let command = format!(
        "cd {} && echo 'address:* rwldax' >.__acl && cp .__acl d/.__acl && mkdir made && cp .__acl made && : >ready; i=0; until test -e go; do i=$((i+1)); test $i -lt 2500 || exit 9; sleep 0.02; done",
        root.display()
    );
    let id = create(&mut peer, &shell(&command, json!([])));
    assert_eq!(code(&mut peer, "job_commit", format!("[{id}]")), 0);
    eventually("the job is through", || place.host("ready").exists());
    let refused = "getdir /\ngetdir /d\ngetdir /made\nsetacl /made address:127.0.0.3 rwlda\n";
    stranger.expect(refused, "-2\n-2\n-2\n-2\n");
    place.write("go", "");
    assert_eq!(wait(&mut peer, id)["status"], "FINISHED");
    stranger.expect(refused, "-2\n-2\n-2\n-2\n");
    for (name, expected) in [(".", ALL), ("d", list), ("made", ALL)] {
        let now = fs::read_to_string(place.host(format!("{name}/.__acl"))).unwrap();
        assert_eq!(now, expected, "{name}");
    }
}

/// With `exec` jobs are held as its programs are: they write in their sandbox and nowhere else.
#[test]
fn with_exec_jobs_are_confined_and_limited_as_programs_are() {
    let place = place();
    place.write("mine", "as it was");
    let server = serve(&place, &["--exec", "--exec-limit=files=77"]);
    let mut peer = server.guest(1);
    let outside = place.host("mine");
    let script = format!(
        "cat {0} >here; echo changed >{0}; echo $? >>here; echo x >$TMPDIR/x; echo $? >>here; ulimit -n >>here; \
         grep NoNewPrivs /proc/self/status | tr -d '\\t' >>here",
        outside.display()
    );
    let files = json!([output("here", "/result", "LINK")]);
    let ended = run(&mut peer, &shell(&script, files));
    assert_eq!(ended["status"], "FINISHED", "{ended}");
    let told = fs::read_to_string(place.host("result")).unwrap();
    assert_eq!(told, "as it was2\n0\n77\nNoNewPrivs:1\n");
    assert_eq!(fs::read(outside).unwrap(), b"as it was");
}
