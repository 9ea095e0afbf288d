//! From a JSON value to an [`ExecRequest`], refusing whatever the specification does not name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::json::one_line;
use super::{CmdId, ExecRequest, OnDisconnect, OutputTo, RequestError, StdinFrom, Terminal};
use crate::limits::INTEGER_MAX;
use crate::status::Limits;

type Result<T> = std::result::Result<T, RequestError>;

/// Reads every field of the request.
pub(super) fn request(sent: &Value) -> Result<ExecRequest> {
    let object = object("request", sent)?;
    let mut request = ExecRequest::new("");
    let mut stdin = None;
    for (name, value) in object {
        match name.as_str() {
            "cmd" => request.cmd = command(value)?,
            "args" => request.args = strings("args", value)?,
            "env" => request.env = environment(value)?,
            "path" => request.path = path("path", value)?,
            "cmd-id" => request.cmd_id = Some(cmd_id(value)?),
            "stdin" => stdin = Some(stdin_from(value)?),
            "stdout" => request.stdout = output("stdout", value)?,
            "stderr" => request.stderr = output("stderr", value)?,
            "tty" => request.tty = terminal(value)?,
            "limits" => request.limits = limits(value)?,
            "usage_ms" => request.usage_ms = integer("usage_ms", value)?,
            "on_disconnect" => request.on_disconnect = on_disconnect(value)?,
            "detach" => request.detach = boolean("detach", value)?,
            _ => return Err(unknown("", name)),
        }
    }
    if !object.contains_key("cmd") {
        return Err(RequestError::invalid("cmd: required"));
    }
    // A terminal is its program's standard input unless the caller says otherwise.
    request.stdin = stdin.unwrap_or(match request.tty {
        Some(_) => StdinFrom::Stream,
        None => StdinFrom::None,
    });
    Ok(request)
}

fn command(value: &Value) -> Result<OsString> {
    let cmd = string("cmd", value)?;
    let bytes = cmd.as_bytes();
    let well_formed = if bytes.contains(&b'/') {
        bytes.starts_with(b"/") || bytes.starts_with(b"./")
    } else {
        !bytes.is_empty()
    };
    if well_formed {
        Ok(cmd)
    } else {
        Err(RequestError::invalid(
            "cmd: must be an absolute path, a bare name, or ./name relative to path",
        ))
    }
}

fn environment(value: &Value) -> Result<BTreeMap<String, OsString>> {
    object("env", value)?
        .iter()
        .map(|(name, value)| {
            let field = format!("env.{}", one_line(name));
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(RequestError::invalid(format!(
                    "{field}: a name must not be empty nor hold '=' or NUL"
                )));
            }
            Ok((name.clone(), string(&field, value)?))
        })
        .collect()
}

fn cmd_id(value: &Value) -> Result<CmdId> {
    value.as_str().and_then(CmdId::new).ok_or_else(|| {
        RequestError::invalid("cmd-id: must be 1 to 128 characters of A-Z a-z 0-9 . _ -")
    })
}

fn stdin_from(value: &Value) -> Result<StdinFrom> {
    match value {
        Value::String(word) if word == "none" => Ok(StdinFrom::None),
        Value::String(word) if word == "stream" => Ok(StdinFrom::Stream),
        Value::Object(object) => {
            only(object, "stdin", &["file"])?;
            Ok(StdinFrom::File(file("stdin", object)?))
        }
        _ => Err(RequestError::invalid(
            "stdin: must be \"none\", \"stream\" or {\"file\": path}",
        )),
    }
}

fn output(field: &'static str, value: &Value) -> Result<OutputTo> {
    match value {
        Value::String(word) if word == "stream" => Ok(OutputTo::Stream),
        Value::String(word) if word == "capture" => Ok(OutputTo::Capture),
        Value::String(word) if word == "discard" => Ok(OutputTo::Discard),
        Value::String(word) if word == "stdout" && field == "stderr" => Ok(OutputTo::Stdout),
        Value::Object(object) => {
            only(object, field, &["file", "append"])?;
            let append = match object.get("append") {
                Some(value) => boolean(&format!("{field}.append"), value)?,
                None => false,
            };
            Ok(OutputTo::File {
                path: file(field, object)?,
                append,
            })
        }
        _ => Err(RequestError::invalid(format!(
            "{field}: must be \"stream\", \"capture\", \"discard\"{} or {{\"file\": path, \
             \"append\": bool}}",
            if field == "stderr" {
                ", \"stdout\""
            } else {
                ""
            }
        ))),
    }
}

fn file(field: &str, object: &Map<String, Value>) -> Result<OsString> {
    match object.get("file") {
        Some(value) => path(&format!("{field}.file"), value),
        None => Err(RequestError::invalid(format!("{field}.file: required"))),
    }
}

fn terminal(value: &Value) -> Result<Option<Terminal>> {
    if value.is_null() {
        return Ok(None);
    }
    let object = object("tty", value)?;
    only(object, "tty", &["rows", "cols"])?;
    let size = |name: &str| {
        let field = format!("tty.{name}");
        let value = object.get(name).unwrap_or(&Value::Null);
        match u16::try_from(integer(&field, value)?) {
            Ok(size) if size > 0 => Ok(size),
            _ => Err(RequestError::invalid(format!(
                "{field}: must be 1 to 65535"
            ))),
        }
    };
    Ok(Some(Terminal {
        rows: size("rows")?,
        cols: size("cols")?,
    }))
}

fn limits(value: &Value) -> Result<Limits> {
    let mut limits = Limits::default();
    for (name, value) in object("limits", value)? {
        let field = format!("limits.{}", one_line(name));
        let (slot, least) = match name.as_str() {
            "wall_s" => (&mut limits.wall_s, 1),
            "cpu_s" => (&mut limits.cpu_s, 1),
            "memory_bytes" => (&mut limits.memory_bytes, 1),
            "file_bytes" => (&mut limits.file_bytes, 0),
            "processes" => (&mut limits.processes, 1),
            "open_files" => (&mut limits.open_files, 1),
            "orphan_s" => (&mut limits.orphan_s, 0),
            _ => return Err(unknown("limits.", name)),
        };
        let number = integer(&field, value)?;
        if number < least {
            return Err(RequestError::invalid(format!("{field}: must be positive")));
        }
        *slot = Some(number);
    }
    Ok(limits)
}

fn on_disconnect(value: &Value) -> Result<OnDisconnect> {
    match value.as_str() {
        Some("keep") => Ok(OnDisconnect::Keep),
        Some("kill") => Ok(OnDisconnect::Kill),
        _ => Err(RequestError::invalid(
            "on_disconnect: must be \"keep\" or \"kill\"",
        )),
    }
}

fn strings(field: &str, value: &Value) -> Result<Vec<OsString>> {
    let Value::Array(values) = value else {
        return Err(RequestError::invalid(format!("{field}: must be an array")));
    };
    values
        .iter()
        .enumerate()
        .map(|(index, value)| string(&format!("{field}[{index}]"), value))
        .collect()
}

/// A virtual path: any string but the empty one.
fn path(field: &str, value: &Value) -> Result<OsString> {
    let path = string(field, value)?;
    if path.is_empty() {
        return Err(RequestError::invalid(format!("{field}: must not be empty")));
    }
    Ok(path)
}

/// A string, or `{"base64": "…"}` for one that is not UTF-8; without NUL in both cases.
fn string(field: &str, value: &Value) -> Result<OsString> {
    let bytes = match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Object(object) => {
            only(object, field, &["base64"])?;
            let text = object.get("base64").and_then(Value::as_str);
            text.and_then(|text| STANDARD.decode(text).ok())
                .ok_or_else(|| RequestError::invalid(format!("{field}.base64: not base64")))?
        }
        _ => {
            return Err(RequestError::invalid(format!(
                "{field}: must be a string or {{\"base64\": string}}"
            )));
        }
    };
    if bytes.contains(&0) {
        return Err(RequestError::invalid(format!("{field}: holds NUL")));
    }
    Ok(OsString::from_vec(bytes))
}

fn integer(field: &str, value: &Value) -> Result<u64> {
    match value.as_u64() {
        Some(number) if number <= INTEGER_MAX => Ok(number),
        _ => Err(RequestError::invalid(format!(
            "{field}: must be a whole number from 0 to 2^53"
        ))),
    }
}

fn boolean(field: &str, value: &Value) -> Result<bool> {
    value
        .as_bool()
        .ok_or_else(|| RequestError::invalid(format!("{field}: must be true or false")))
}

fn object<'a>(field: &str, value: &'a Value) -> Result<&'a Map<String, Value>> {
    value
        .as_object()
        .ok_or_else(|| RequestError::invalid(format!("{field}: must be an object")))
}

/// Refuses an object that holds a field other than the `known` ones.
fn only(object: &Map<String, Value>, field: &str, known: &[&str]) -> Result<()> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(unknown(&format!("{field}."), key)),
        None => Ok(()),
    }
}

fn unknown(prefix: &str, name: &str) -> RequestError {
    RequestError::invalid(format!("unknown field \"{prefix}{}\"", one_line(name)))
}
