//! Canonical JSON (RFC 8785) and its digest, which decides whether two requests are the same.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Digest;

/// Returns the SHA-256 of the canonical form of `value`.
pub(super) fn digest(value: &Value) -> Digest {
    let mut text = String::new();
    write(value, &mut text);
    Sha256::digest(text.as_bytes()).into()
}

/// Appends the canonical form: no blanks, keys in order of their UTF-16 code units, only the
/// escapes that JSON demands. Numbers of a valid request are integers below 2^53, for which
/// decimal digits are the canonical form; strings are escaped by serde_json exactly as the RFC
/// wants them (short forms where they exist, else lower-case `\u00xx`).
pub(super) fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(value, text);
            }
            text.push(']');
        }
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::String(key.clone()).to_string());
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}
