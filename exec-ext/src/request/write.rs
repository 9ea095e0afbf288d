//! From an [`ExecRequest`] to the JSON that asks for it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{ExecRequest, OnDisconnect, OutputTo, StdinFrom};

/// Returns the request as a JSON value, fields at their defaults left out.
pub(super) fn value(request: &ExecRequest) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    put("cmd", string(&request.cmd));
    if !request.args.is_empty() {
        put("args", request.args.iter().map(|s| string(s)).collect());
    }
    if !request.env.is_empty() {
        let variables = request.env.iter();
        let variables: Map<_, _> = variables.map(|(k, v)| (k.clone(), string(v))).collect();
        put("env", Value::Object(variables));
    }
    if request.path != "/" {
        put("path", string(&request.path));
    }
    if let Some(id) = &request.cmd_id {
        put("cmd-id", json!(id.as_str()));
    }
    match &request.stdin {
        StdinFrom::None if request.tty.is_some() => put("stdin", json!("none")),
        StdinFrom::Stream if request.tty.is_none() => put("stdin", json!("stream")),
        StdinFrom::File(path) => put("stdin", json!({ "file": string(path) })),
        StdinFrom::None | StdinFrom::Stream => {}
    }
    for (name, to) in [("stdout", &request.stdout), ("stderr", &request.stderr)] {
        match to {
            OutputTo::Stream => {}
            OutputTo::Capture => put(name, json!("capture")),
            OutputTo::Discard => put(name, json!("discard")),
            OutputTo::Stdout => put(name, json!("stdout")),
            OutputTo::File { path, append } => {
                put(name, json!({ "file": string(path), "append": append }))
            }
        }
    }
    if let Some(terminal) = request.tty {
        put(
            "tty",
            json!({ "rows": terminal.rows, "cols": terminal.cols }),
        );
    }
    let limits = request.limits.fields();
    let limits: Map<_, _> = limits
        .into_iter()
        .filter_map(|(name, limit)| limit.map(|limit| (name.to_owned(), json!(limit))))
        .collect();
    if !limits.is_empty() {
        put("limits", Value::Object(limits));
    }
    if request.usage_ms > 0 {
        put("usage_ms", json!(request.usage_ms));
    }
    if request.on_disconnect == OnDisconnect::Kill {
        put("on_disconnect", json!("kill"));
    }
    if request.detach {
        put("detach", json!(true));
    }
    Value::Object(object)
}

/// A byte string: as text where it is UTF-8, else as base64.
fn string(bytes: &OsStr) -> Value {
    match bytes.to_str() {
        Some(text) => json!(text),
        None => json!({ "base64": STANDARD.encode(bytes.as_bytes()) }),
    }
}
