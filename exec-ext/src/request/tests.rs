use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use chirp_proto::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CmdId, ExecRequest, OnDisconnect, OutputTo, StdinFrom, Terminal};

fn refusal(body: &str) -> String {
    let error = ExecRequest::parse(body.as_bytes()).expect_err(body);
    assert_eq!(error.code, Code::InvalidRequest);
    assert!(!error.message.contains('\n'));
    error.message
}

#[test]
fn a_request_has_the_defaults_of_the_specification() {
    let request = ExecRequest::parse(br#"{"cmd":"true"}"#).unwrap();
    assert_eq!(*request, ExecRequest::new("true"));
    let request = ExecRequest::parse(br#"{"cmd":"sh","tty":{"rows":24,"cols":80}}"#).unwrap();
    assert_eq!(request.tty, Some(Terminal { rows: 24, cols: 80 }));
    assert_eq!(request.stdin, StdinFrom::Stream);
    assert_eq!(request.stderr_in_force(), &OutputTo::Stdout);
}

#[test]
fn every_field_is_read() {
    let request = ExecRequest::parse(
        br#"{"cmd":"./x","args":["a",{"base64":"/w=="}],"env":{"K":"v"},"path":"/d",
            "cmd-id":"wu_42-0","stdin":{"file":"/in"},"stdout":{"file":"/o","append":true},
            "stderr":"stdout","tty":null,"limits":{"wall_s":5,"orphan_s":0},"usage_ms":0,
            "on_disconnect":"kill","detach":true}"#,
    )
    .unwrap();
    assert_eq!(
        request.args,
        [OsString::from("a"), OsString::from_vec(vec![0xff])]
    );
    assert_eq!(request.env["K"], "v");
    assert_eq!(request.cmd_id, CmdId::new("wu_42-0"));
    assert_eq!(request.stdin, StdinFrom::File("/in".into()));
    let file = OutputTo::File {
        path: "/o".into(),
        append: true,
    };
    assert_eq!(request.stdout, file);
    assert_eq!(request.stderr, OutputTo::Stdout);
    assert_eq!(request.limits.wall_s, Some(5));
    assert_eq!(request.limits.orphan_s, Some(0));
    assert_eq!(request.on_disconnect, OnDisconnect::Kill);
    assert!(request.detach);
    assert_eq!(request.shown()["env"], json!({ "K": null }));
    assert_eq!(request.shown()["cmd"], "./x");
}

#[test]
fn what_is_not_in_the_specification_is_refused_by_name() {
    for (body, named) in [
        (r#"{"cmd":"a","cmdd":"b"}"#, "unknown field \"cmdd\""),
        (r#"{"cmd":"a","cmd":"b"}"#, "duplicate field \"cmd\""),
        (
            r#"{"cmd":"a","env":{"A":"1","A":"2"}}"#,
            "duplicate field \"A\"",
        ),
        (
            r#"{"cmd":"a","limits":{"wall":1}}"#,
            "unknown field \"limits.wall\"",
        ),
        (r#"{"cmd":"a","stdin":{"file":"/a","x":1}}"#, "stdin.x"),
        (r#"{"cmd":"a","stdin":{}}"#, "stdin.file: required"),
        (r#"{"cmd":"a","stdout":"stdout"}"#, "stdout: must"),
        (
            r#"{"cmd":"a","stdout":{"file":"/a","append":1}}"#,
            "stdout.append",
        ),
        (r#"{"cmd":"a","tty":{"rows":0,"cols":1}}"#, "tty.rows"),
        (r#"{"cmd":"a","tty":{"rows":1}}"#, "tty.cols"),
        (r#"{"cmd":7}"#, "cmd: must be a string"),
        (r#"{"cmd":""}"#, "cmd: "),
        (r#"{"cmd":"../a"}"#, "cmd: "),
        (r#"{"cmd":"a/b"}"#, "cmd: "),
        (r#"{}"#, "cmd: required"),
        (r#"{"cmd":"a\u0000"}"#, "cmd: holds NUL"),
        (r#"{"cmd":{"base64":"YQA="}}"#, "cmd: holds NUL"),
        (r#"{"cmd":{"base64":"!"}}"#, "cmd.base64"),
        (r#"{"cmd":{"base64":"YQ==","x":1}}"#, "cmd.x"),
        (r#"{"cmd":"a","args":"b"}"#, "args: must be an array"),
        (r#"{"cmd":"a","args":["b",null]}"#, "args[1]"),
        (r#"{"cmd":"a","env":{"A=B":"1"}}"#, "env.A=B"),
        (r#"{"cmd":"a","env":{"":"1"}}"#, "env."),
        (r#"{"cmd":"a","cmd-id":"a b"}"#, "cmd-id"),
        (r#"{"cmd":"a","cmd-id":""}"#, "cmd-id"),
        (r#"{"cmd":"a","usage_ms":9007199254740993}"#, "usage_ms"),
        (r#"{"cmd":"a","usage_ms":-1}"#, "usage_ms"),
        (r#"{"cmd":"a","usage_ms":1.5}"#, "usage_ms"),
        (r#"{"cmd":"a","usage_ms":"1"}"#, "usage_ms"),
        (r#"{"cmd":"a","limits":{"wall_s":0}}"#, "limits.wall_s"),
        (r#"{"cmd":"a","detach":1}"#, "detach"),
        (r#"{"cmd":"a","on_disconnect":"stay"}"#, "on_disconnect"),
        (r#"{"cmd":"a","path":""}"#, "path"),
        (r#"[]"#, "request: must be an object"),
        (r#"{"cmd":"a"} x"#, "trailing"),
        (r#"{"cmd":"a""#, "EOF"),
        ("{\"cmd\":\"a\",\"x\\ny\":1}", "unknown field \"x\\ny\""),
    ] {
        let message = refusal(body);
        assert!(message.contains(named), "{body} gave {message:?}");
    }
    assert!(refusal(&"[".repeat(5000)).contains("recursion"));
}

#[test]
fn a_body_above_the_limit_is_too_big() {
    let body = format!(r#"{{"cmd":"a","args":["{}"]}}"#, "x".repeat(1024 * 1024));
    let error = ExecRequest::parse(body.as_bytes()).unwrap_err();
    assert_eq!(error.code, Code::TooBig);
}

#[test]
fn the_digest_is_that_of_the_canonical_form() {
    use sha2::{Digest as _, Sha256};
    let canonical =
        "{\"args\":[\"\\n\u{e9}\"],\"cmd\":\"a\",\"env\":{\"\u{1F600}\":\"2\",\"\u{fb33}\":\"1\"}}";
    let sent = "{ \"env\": {\"\u{fb33}\":\"1\", \"\u{1F600}\":\"2\"},\n\"cmd\":\"\\u0061\",\
                \"args\":[\"\\u000a\\u00e9\"] }";
    let digest: [u8; 32] = Sha256::digest(canonical.as_bytes()).into();
    assert_eq!(
        ExecRequest::parse(sent.as_bytes()).unwrap().digest(),
        digest
    );
    let explicit = ExecRequest::parse(br#"{"cmd":"a","detach":false}"#).unwrap();
    assert_ne!(explicit.digest(), ExecRequest::new("a").digest());
}

fn any_string() -> impl Strategy<Value = OsString> {
    proptest::collection::vec(1_u8..=255, 1..20).prop_map(OsString::from_vec)
}

fn any_output() -> impl Strategy<Value = OutputTo> {
    prop_oneof![
        Just(OutputTo::Stream),
        Just(OutputTo::Capture),
        Just(OutputTo::Discard),
        (any_string(), any::<bool>()).prop_map(|(path, append)| OutputTo::File { path, append }),
    ]
}

prop_compose! {
    fn any_request()(
        cmd in any_string(),
        args in proptest::collection::vec(any_string(), 0..4),
        env in proptest::collection::btree_map("[A-Z\u{e9}]{1,5}", any_string(), 0..4),
        path in any_string(),
        id in proptest::option::of("[A-Za-z0-9._-]{1,128}"),
        stdin in prop_oneof![
            Just(StdinFrom::None), Just(StdinFrom::Stream), any_string().prop_map(StdinFrom::File)
        ],
        stdout in any_output(),
        stderr in prop_oneof![any_output(), Just(OutputTo::Stdout)],
        tty in proptest::option::of((1_u16.., 1_u16..)),
        wall_s in proptest::option::of(1_u64..=1 << 53),
        orphan_s in proptest::option::of(0_u64..100),
        usage_ms in 0_u64..=1 << 53,
        kill in any::<bool>(),
        detach in any::<bool>(),
    ) -> ExecRequest {
        let mut full = OsString::from("/");
        full.push(cmd);
        let mut request = ExecRequest::new(full);
        (request.args, request.env, request.path) = (args, env, path);
        (request.stdin, request.stdout, request.stderr) = (stdin, stdout, stderr);
        request.cmd_id = id.as_deref().and_then(CmdId::new);
        request.tty = tty.map(|(rows, cols)| Terminal { rows, cols });
        (request.limits.wall_s, request.limits.orphan_s) = (wall_s, orphan_s);
        request.usage_ms = usage_ms;
        request.on_disconnect = if kill { OnDisconnect::Kill } else { OnDisconnect::Keep };
        request.detach = detach;
        request
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same_with_the_same_digest(request in any_request()) {
        let received = ExecRequest::parse(&request.to_json()).unwrap();
        prop_assert_eq!(received.digest(), request.digest());
        prop_assert_eq!(&*received, &request);
    }

    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ExecRequest::parse(&body);
    }

    #[test]
    fn no_json_panics(value in any_json()) {
        let _ = ExecRequest::parse(value.to_string().as_bytes());
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,8}".prop_map(Value::String),
    ];
    let key = prop_oneof![
        ".{0,5}",
        Just("cmd".to_owned()),
        Just("args".to_owned()),
        Just("env".to_owned()),
        Just("stdin".to_owned()),
        Just("limits".to_owned()),
        Just("base64".to_owned()),
        Just("file".to_owned()),
    ];
    leaf.prop_recursive(3, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}
