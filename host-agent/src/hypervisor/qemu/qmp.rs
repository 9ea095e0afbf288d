//! The words of QEMU's monitor protocol, without any input or output: JSON values, one a line.
//!
//! QEMU greets, answers each command once by its id, and says events in between at any time. A guest cannot
//! write here, but a broken or foreign program behind the socket can, so lines are bounded and nothing is
//! taken for granted.

use serde_json::{Value, json};

/// Bytes of one line at most: lists of block devices and their snapshots are the longest by far.
pub(super) const LINE_MAX: usize = 4 * 1024 * 1024;

/// What QEMU says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// The first line, before anything was asked.
    Greeting,
    /// What came of the command with that number.
    Answer {
        /// The command's number.
        id: u64,
        /// Its value, or why there is none.
        result: Result<Value, Refusal>,
    },
    /// Something happened.
    Event(Event),
}

/// QEMU would not or could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// QEMU's class of the error, such as `GenericError` or `CommandNotFound`.
    pub(super) class: String,
    /// Its words.
    pub(super) description: String,
}

/// Something that happened to the machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    /// Its name, such as `SHUTDOWN`.
    pub(super) name: String,
    /// What it says.
    pub(super) data: Value,
}

/// A line that is not of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not QEMU's monitor protocol: {0}")]
pub(super) struct Malformed(&'static str);

/// Makes messages of bytes, however they are cut.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bytes: Vec<u8>,
    /// Bytes at the front that hold no end of a line.
    searched: usize,
}

impl Decoder {
    /// Takes bytes that were read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next message; nothing until more bytes are there.
    ///
    /// # Errors
    ///
    /// The peer does not speak the protocol; nothing more can be made of what it says.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Malformed> {
        loop {
            let rest = self.bytes.get(self.searched..).unwrap_or_default();
            let Some(found) = rest.iter().position(|&byte| byte == b'\n') else {
                self.searched = self.bytes.len();
                if self.searched > LINE_MAX {
                    return Err(Malformed("a line without an end"));
                }
                return Ok(None);
            };
            let end = self.searched + found;
            self.searched = 0;
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = line.trim_ascii();
            if line.len() > LINE_MAX {
                return Err(Malformed("a line without an end"));
            }
            if !line.is_empty() {
                return message(line).map(Some);
            }
        }
    }
}

fn message(line: &[u8]) -> Result<Message, Malformed> {
    let mut value: Value = serde_json::from_slice(line).map_err(|_| Malformed("no JSON"))?;
    let object = value.as_object_mut().ok_or(Malformed("no JSON object"))?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    if let Some(name) = object.get("event") {
        let name = name.as_str().ok_or(Malformed("an event without a name"))?;
        return Ok(Message::Event(Event {
            name: name.to_owned(),
            data: object.get("data").cloned().unwrap_or_default(),
        }));
    }
    if object.contains_key("QMP") {
        return Ok(Message::Greeting);
    }
    let id = object.get("id").and_then(Value::as_u64);
    let id = id.ok_or(Malformed("an answer to nothing that was asked"))?;
    let result = if let Some(error) = object.get("error") {
        Err(Refusal {
            class: text(error.get("class")).unwrap_or_default(),
            description: text(error.get("desc")).unwrap_or_default(),
        })
    } else {
        Ok(object
            .remove("return")
            .ok_or(Malformed("an answer that says nothing"))?)
    };
    Ok(Message::Answer { id, result })
}

/// Returns the bytes of a command.
pub(super) fn command(name: &str, arguments: Value, id: u64) -> Vec<u8> {
    let mut value = json!({ "execute": name, "id": id });
    if !arguments.is_null()
        && let Some(object) = value.as_object_mut()
    {
        object.insert("arguments".to_owned(), arguments);
    }
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAID: &str = concat!(
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \"capabilities\": [\"oob\"]}}\r\n",
        "{\"return\": {}, \"id\": 1}\r\n",
        "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n",
        "{\"id\": 2, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\r\n",
    );

    fn all(decoder: &mut Decoder) -> Vec<Message> {
        std::iter::from_fn(|| decoder.next().unwrap()).collect()
    }

    fn expected() -> Vec<Message> {
        vec![
            Message::Greeting,
            Message::Answer {
                id: 1,
                result: Ok(json!({})),
            },
            Message::Event(Event {
                name: "SHUTDOWN".to_owned(),
                data: json!({ "guest": true }),
            }),
            Message::Answer {
                id: 2,
                result: Err(Refusal {
                    class: "GenericError".to_owned(),
                    description: "no".to_owned(),
                }),
            },
        ]
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        for bad in [
            "hello\n",
            "[]\n",
            "7\n",
            "{\"event\": 1}\n",
            "{\"return\": {}}\n",
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n",
            "{\"id\": -1, \"return\": {}}\n",
            "{\"id\": 1}\n",
            "\u{0}\n",
        ] {
            let mut decoder = Decoder::default();
            decoder.push(bad.as_bytes());
            assert!(decoder.next().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_given_up() {
        let mut decoder = Decoder::default();
        let piece = vec![b'x'; 64 * 1024];
        let mut pushed = 0;
        while decoder.next() == Ok(None) {
            assert!(pushed <= LINE_MAX + piece.len(), "{pushed} bytes are kept");
            decoder.push(&piece);
            pushed += piece.len();
        }
    }

    #[test]
    fn a_command_is_one_line() {
        let bytes = command("stop", Value::Null, 7);
        assert_eq!(bytes, b"{\"execute\":\"stop\",\"id\":7}\n");
        let bytes = command("a", json!({ "b": "c\nd" }), 8);
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_is_heard(cuts in proptest::collection::vec(1_usize..40, 1..40)) {
            let mut decoder = Decoder::default();
            let (mut heard, mut rest, mut cuts) = (Vec::new(), SAID.as_bytes(), cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = (*cuts.next().unwrap()).min(rest.len());
                let (now, later) = rest.split_at(cut);
                decoder.push(now);
                heard.extend(all(&mut decoder));
                rest = later;
            }
            prop_assert_eq!(heard, expected());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }
    }
}
