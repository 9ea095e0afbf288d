//! The requests besides those for files, against the reference's server and scripted peers: what is
//! found and counted in trees, jobs, streams, tickets and the rest of exec.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::time::Duration;

use chirp_client::job::{JobDescription, JobExit, JobFile, JobState};
use chirp_client::{
    Client, Code, Error, ExecutionName, FailedStep, Found, OutputStream, SearchOptions, TicketName,
};
use support::{LIMIT, Peer, Reference, answered, pair, path};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Waits for a call, within the time that any test may take.
async fn soon<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, call).await.unwrap()
}

async fn all(
    client: &Client,
    patterns: &str,
    roots: &[&str],
    options: SearchOptions,
) -> Vec<Found> {
    let roots: Vec<_> = roots.iter().map(|root| path(root)).collect();
    let mut search = client
        .search(patterns.as_bytes(), &roots, options)
        .await
        .unwrap();
    let mut found = Vec::new();
    while let Some(line) = soon(search.next()).await.unwrap() {
        found.push(line);
    }
    found
}

fn paths(found: &[Found]) -> Vec<String> {
    let path = |found: &Found| match found {
        Found::Match { path, .. } => String::from_utf8_lossy(path).into_owned(),
        Found::Failed { .. } => format!("{found:?}"),
    };
    let mut paths: Vec<_> = found.iter().map(path).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn trees_are_searched_and_counted() {
    let server = Reference::start();
    let client = server.client().await;
    for directory in ["/v", "/v/a", "/v/a/b", "/w w"] {
        client.mkdir(&path(directory), 0o700).await.unwrap();
    }
    for file in ["/v/foo", "/v/a/foo", "/v/a/bar", "/v/a/b/foo", "/w w/foo"] {
        let mut content = &b"hello"[..];
        let file = path(file);
        client.putfile(&file, 0o600, 5, &mut content).await.unwrap();
    }
    let plain = SearchOptions::default();
    let found = all(&client, "foo", &["/v"], plain).await;
    assert_eq!(paths(&found), ["/a/b/foo", "/a/foo", "/foo"]);
    let options = SearchOptions {
        from_root: true,
        metadata: true,
        ..plain
    };
    let found = all(&client, "foo", &["/w w", "/v/a/b"], options).await;
    assert_eq!(paths(&found), ["/v/a/b/foo", "/w w/foo"]);
    for line in &found {
        let Found::Match { stat, .. } = line else {
            panic!("{line:?}");
        };
        assert_eq!(stat.as_ref().unwrap().size, 5);
    }
    let found = all(&client, "foo", &["/none"], plain).await;
    let [Found::Failed { step, errno, .. }] = found[..] else {
        panic!("{found:?}");
    };
    assert_eq!((step, errno), (FailedStep::Open, 2));
    assert_eq!(found[0].code(), Some(Code::DoesntExist));

    let usage = client.audit(&path("/v")).await.unwrap();
    let [owner] = &usage[..] else {
        panic!("{usage:?}");
    };
    assert_eq!(owner.owner, "address:127.0.0.1");
    assert_eq!((owner.files, owner.directories, owner.bytes), (4, 3, 20));
    let refused = client.lsalloc(&path("/")).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::InvalidRequest));
    let bad = client.search(b"a b", &[path("/")], plain).await;
    assert!(matches!(bad, Err(Error::Argument { .. })));
    // All of that left the connection in step.
    client.whoami().await.unwrap();
}

#[tokio::test]
async fn allocations_are_described() {
    let server = Reference::start_with(&["-Q", "1M"]);
    let client = server.client().await;
    client.mkalloc(&path("/m m"), 100_000, 0o700).await.unwrap();
    let allocation = client.lsalloc(&path("/m m")).await.unwrap();
    assert_eq!(allocation.path, "/m m");
    assert_eq!((allocation.total, allocation.in_use), (100_000, 0));
}

#[tokio::test]
async fn jobs_run_to_their_end() {
    let server = Reference::start_with(&["--jobs"]);
    let client = server.client().await;
    let mut content = &b"b\na\n"[..];
    client
        .putfile(&path("/list"), 0o600, 4, &mut content)
        .await
        .unwrap();
    let mut job = JobDescription::new("/bin/sh", ["sh", "-c", "sort < in > out; exit 3"]);
    job.files = vec![
        JobFile::input("/list", "in"),
        JobFile::output("/sorted", "out"),
    ];
    job.tag = Some("sorting".to_owned());
    let id = client.job_create(&job).await.unwrap();
    let [created] = &client.job_status(&[id]).await.unwrap()[..] else {
        panic!("one job was asked for");
    };
    assert_eq!((created.id, created.status), (id, JobState::Created));
    client.job_commit(&[id]).await.unwrap();
    let number = i64::try_from(id).unwrap();
    let ended = soon(client.job_wait(number, -1)).await.unwrap();
    let [ended] = &ended[..] else {
        panic!("{ended:?}");
    };
    assert_eq!(ended.status, JobState::Finished, "{ended:?}");
    assert_eq!(ended.exit_status, Some(JobExit::Exited));
    assert_eq!(ended.exit_code, Some(3));
    assert_eq!(ended.tag.as_deref(), Some("sorting"));
    let mut sorted = String::new();
    let mut body = client.getfile(&path("/sorted")).await.unwrap();
    body.read_to_string(&mut sorted).await.unwrap();
    assert_eq!(sorted, "a\nb\n");
    client.job_reap(&[id]).await.unwrap();
    let refused = client.job_kill(&[id]).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::NotAuthorized));
    let refused = client.job_commit(&[id + 999]).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::NoSuchJob));
    // The text forms are the same requests.
    let same = client.job_status_json(format!("[{id}]").into()).await;
    assert!(
        same.unwrap()
            .starts_with(format!("[{{\"id\":{id},").as_bytes())
    );
}

#[tokio::test]
async fn streams_take_a_connection_of_their_own() {
    let server = Reference::start();
    let client = server.client().await;
    let target = path("/a b");
    let another = client.connect_another().await.unwrap().unwrap();
    let mut stream = another.putstream(&target).await.unwrap();
    let content = vec![7; 300_000];
    stream.write_all(&content).await.unwrap();
    soon(stream.finish()).await.unwrap();
    assert!(matches!(another.whoami().await, Err(Error::Lost { .. })));
    assert_eq!(std::fs::read(server.root().join("a b")).unwrap(), content);

    let another = client.connect_another().await.unwrap().unwrap();
    let refused = another.getstream(&path("/none")).await.err().unwrap();
    assert_eq!(refused.code(), Some(Code::DoesntExist));
    let mut stream = another.getstream(&target).await.unwrap();
    let mut received = Vec::new();
    soon(stream.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received, content);
    drop(stream);
    let error = another.whoami().await.unwrap_err().to_string();
    assert!(error.contains("connection of their own"), "{error}");
    client.whoami().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_stalls_ends_the_connection() {
    let (client, mut peer) = pair().await;
    let client = client.with_timeout(Duration::from_millis(100));
    let file = path("/f");
    let get = client.getstream(&file);
    let mut stream = answered(get, &mut peer, "getstream /f\n", "0\nabc")
        .await
        .unwrap();
    let mut received = Vec::new();
    let error = soon(stream.read_to_end(&mut received)).await.unwrap_err();
    let error = error.downcast::<Error>().unwrap();
    assert!(
        matches!(error, Error::Timeout { usable: false, .. }),
        "{error}"
    );
    assert_eq!(received, b"abc");
    drop(stream);
    peer.expect_end().await;
}

#[tokio::test]
async fn a_server_that_goes_on_behind_a_putstream_is_left() {
    let (client, mut peer) = pair().await;
    let file = path("/f");
    let put = client.putstream(&file);
    let stream = answered(put, &mut peer, "putstream /f\n", "0\n")
        .await
        .unwrap();
    let (finished, ()) = tokio::join!(soon(stream.finish()), flood(&mut peer));
    assert!(
        matches!(finished, Err(Error::Protocol { .. })),
        "{finished:?}"
    );
}

/// Sends until the connection ends.
async fn flood(peer: &mut Peer) {
    while peer.try_send(&[b'x'; 4096]).await.is_ok() {}
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_no_file() {
    let (client, mut peer) = pair().await;
    let file = path("/f");
    let get = client.getfile(&file);
    let mut body = answered(get, &mut peer, "getfile /f\n", "10\nabc")
        .await
        .unwrap();
    drop(peer);
    let mut received = Vec::new();
    let error = soon(body.read_to_end(&mut received)).await.unwrap_err();
    let error = error.downcast::<Error>().unwrap();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert_eq!(received, b"abc");
}

#[tokio::test]
async fn tickets_are_described_as_the_protocol_has_them() {
    let (client, mut peer) = pair().await;
    let digits = "3da0328bd4de63a5be5be07df50d2ada";
    let ticket = TicketName::from_digits(digits.as_bytes()).unwrap();
    let list = client.ticket_list("self");
    let answer = format!("0\n39\nticket:{digits}39\nticket:{digits}0\n");
    let names = answered(list, &mut peer, "ticket_list self\n", answer).await;
    assert_eq!(names.unwrap(), [ticket, ticket]);
    let get = client.ticket_get(&ticket);
    let answer = "0\n10\nunix:alice4\nPEM\n86399\n/ n\n/a b rl\n0\n";
    let info = answered(
        get,
        &mut peer,
        format!("ticket_get ticket:{digits}\n"),
        answer,
    )
    .await;
    let info = info.unwrap();
    assert_eq!(
        (&info.owner[..], &info.public_key[..]),
        (&b"unix:alice"[..], &b"PEM\n"[..])
    );
    assert_eq!(info.seconds_left, 86399);
    assert_eq!(info.masks[1], ("/a b".into(), "rl".into()));
    let key = "-----BEGIN PUBLIC KEY-----\n";
    let register = client.ticket_register("self", key, Duration::from_secs(60));
    let request = format!("ticket_register self 60 {}\n{key}", key.len());
    answered(register, &mut peer, request, "0\n").await.unwrap();
    let directory = path("/a b");
    let modify = client.ticket_modify(&ticket, &directory, "rl");
    let request = format!("ticket_modify ticket:{digits} /a%20b rl\n");
    answered(modify, &mut peer, request, "0\n").await.unwrap();
    let delete = client.ticket_delete(&ticket);
    let request = format!("ticket_delete ticket:{digits}\n");
    let refused = answered(delete, &mut peer, request, "-3\n").await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::DoesntExist));
}

/// Answers in texts that a hostile server could send, each with what shows that it was seen through.
#[tokio::test]
async fn answers_that_lie_about_their_length_end_the_connection() {
    for (answer, words) in [
        ("0\n99999999999\n", "more than"),
        ("0\n-3\n", "length of a text"),
        ("0\n4\nabcd0\n", "no ticket"),
        ("0\nyes\n", "number"),
    ] {
        let (client, mut peer) = pair().await;
        let list = client.ticket_list("self");
        let result = answered(list, &mut peer, "ticket_list self\n", answer).await;
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        peer.expect_end().await;
    }
    let (client, mut peer) = pair().await;
    let root = path("/");
    let (result, ()) = tokio::join!(soon(client.audit(&root)), async {
        peer.expect("audit /\n").await;
        peer.send("18446744073709551615\n").await;
        // Empty lines cost memory, too.
        while peer.try_send(&[b'\n'; 4096]).await.is_ok() {}
    });
    let error = result.unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
}

#[tokio::test]
async fn a_program_is_attached_to_and_its_record_read() {
    let (client, mut peer) = pair().await;
    let features = r#"{"server":"s","boot":"b","run":"r","features":{"exec":1}}"#;
    let status = r#"{"id":7,"cmd-id":"c","subject":"unix:a","state":"running","started":1.0,
        "request":{"cmd":"x","stdout":"stream","stderr":"capture"}}"#;
    let end = r#"{"id":7,"cmd-id":"c","subject":"unix:a","state":"ended","started":1.0,
        "results":{"cmd-id":"c","finished":true,"exitCodeOrSignal":0,"resources":{},
        "wall_s":0.1,"ended_by":"exit","out_bytes":9,"err_bytes":4}}"#;
    let name = ExecutionName::Id(7);
    let script = async {
        peer.expect("features\n").await;
        peer.send(format!("{}\n{features}", features.len())).await;
        peer.expect("exec_attach 7 5 0\n").await;
        peer.send(format!("{}\n{status}at 5 0 0 1\nout 4\nrest", status.len()))
            .await;
        peer.send(format!("end {}\n{end}", end.len())).await;
    };
    let attach = async {
        let (status, execution) = client.exec_attach(&name, 5, 0).await.unwrap();
        assert_eq!((status.id, execution.id()), (7, 7));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (_keep, mut control) = tokio::sync::mpsc::channel(1);
        let stdin = None::<tokio::io::Empty>;
        let run = execution.run(stdin, &mut out, &mut err, &mut control);
        // Captured stderr is not missing from the stream.
        run.await.unwrap();
        assert_eq!(out, b"rest");
    };
    soon(async { tokio::join!(attach, script) }).await;
}

#[tokio::test]
async fn records_of_programs_are_listed_read_and_removed() {
    let (client, mut peer) = pair().await;
    let list = r#"[{"id":7,"cmd-id":"c","subject":"unix:a","state":"running","started":1.0}]"#;
    let answer = format!("{}\n{list}", list.len());
    let listed = answered(client.exec_list(), &mut peer, "exec_list\n", answer).await;
    assert_eq!(listed.unwrap()[0].id, 7);
    let name = ExecutionName::CmdId("c".to_owned());
    let output = client.exec_output(&name, OutputStream::Err, 3, 10);
    let output = answered(output, &mut peer, "exec_output @c err 3 10\n", "2\nab").await;
    assert_eq!(output.unwrap(), "ab");
    let remove = client.exec_remove(&name);
    let removed = answered(remove, &mut peer, "exec_remove @c\n", "-10 still runs\n").await;
    let error = removed.unwrap_err();
    assert_eq!(error.code(), Some(Code::Busy));
    assert!(error.to_string().contains("still runs"), "{error}");
}
