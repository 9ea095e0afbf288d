//! Presence messages: words, announcements and beacons (`stomp-presence.md` part 4).

use crate::frame::Frame;
use crate::mac::MacId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Bytes of a presence body at most.
pub const BODY_MAX: usize = 4096;
/// The topic of presence messages unless both sides are told another.
pub const DESTINATION: &str = "/topic/connections";
/// The port of a Chirp server that announces none.
pub const CHIRP_PORT: u16 = 9094;

/// The first word of a presence message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A guest's server takes requests, or what it announces has changed.
    Hello,
    /// A guest's regular beacon.
    StillAlive,
    /// A guest's orderly end.
    Bye,
    /// An agent's test of its own path through the broker.
    Agent,
    /// Any other word: the original system's "no word". At most 32 characters of it are kept.
    Aint(String),
}

impl Word {
    /// Returns the word as it stands on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Hello => "HELLO",
            Self::StillAlive => "STILL_ALIVE",
            Self::Bye => "BYE",
            Self::Agent => "AGENT",
            Self::Aint(word) => word,
        }
    }

    fn from_wire(word: &str) -> Self {
        match word {
            "HELLO" => Self::Hello,
            "STILL_ALIVE" => Self::StillAlive,
            "BYE" => Self::Bye,
            "AGENT" => Self::Agent,
            // It ends in logs, so it is made safe for a terminal here.
            other => Self::Aint(
                other
                    .chars()
                    .take(32)
                    .flat_map(char::escape_default)
                    .collect(),
            ),
        }
    }
}

/// What a guest says of itself: the object of a presence message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// Version of the format: 1. Larger ones are accepted.
    #[serde(default = "one")]
    pub v: u32,
    /// The guest's id: the MAC address of the announced interface, or a made-up one.
    pub id: MacId,
    /// The guest's own idea of its name; may be empty.
    #[serde(default)]
    pub name: String,
    /// Where the Chirp server can be reached.
    pub ip: IpAddr,
    /// The Chirp server's TCP port.
    pub port: u16,
    /// Every other useful address, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addrs: Vec<Address>,
    /// Id of this start of the machine; empty where the sender has none.
    pub boot: String,
    /// Id of this start of the guest's server; empty where the sender has none.
    pub run: String,
    /// Number of this message in its run, from 0.
    pub seq: u64,
    /// Seconds until the next beacon.
    pub interval: f64,
    /// Program and version of the server.
    #[serde(default)]
    pub ver: String,
    /// The server's feature list.
    #[serde(default)]
    pub caps: BTreeMap<String, i64>,
    /// Operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Machine architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Kernel release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Seconds since the machine started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<f64>,
    /// Load of the last minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Free bytes below the server's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// Why the guest leaves; in BYE only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One further address of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address, IPv6 without brackets or zone.
    pub ip: IpAddr,
    /// The Chirp server's port there.
    pub port: u16,
    /// Name of the interface.
    #[serde(rename = "if", default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// MAC address of the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacId>,
}

impl Announcement {
    /// Returns the announced address and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// Returns the announced interval.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(self.interval).unwrap_or(Duration::from_secs(10))
    }

    /// Returns the frame that publishes this announcement with that word.
    ///
    /// Where the object would be longer than [`BODY_MAX`], its optional parts are left out, further
    /// addresses first, then what describes the machine, then features.
    #[must_use]
    pub fn frame(&self, word: &Word, destination: &str) -> Frame {
        Frame::new("SEND")
            .with("destination", destination)
            .with("content-type", "text/plain;charset=utf-8")
            .with("id", self.id.to_string())
            .with("ip", self.ip.to_string())
            .with("port", self.port.to_string())
            .with("name", self.name.as_str())
            .with("boot", self.boot.as_str())
            .with("seq", self.seq.to_string())
            .with("interval", self.interval.to_string())
            .with_body(self.body(word))
    }

    fn body(&self, word: &Word) -> Bytes {
        let mut object = self.clone();
        loop {
            let json = serde_json::to_string(&object).unwrap_or_default();
            let body = format!("{} {json}", word.as_str());
            let smaller = object.addrs.pop().is_some()
                || [&mut object.os, &mut object.arch, &mut object.kernel]
                    .into_iter()
                    .any(|text| text.take().is_some())
                || object.caps.pop_last().is_some();
            if body.len() <= BODY_MAX || !smaller {
                return body.into();
            }
        }
    }

    /// Says which field holds what no field may hold, if one does.
    pub(crate) fn check(&self) -> Result<(), Unusable> {
        let texts = [
            ("name", Some(&self.name)),
            ("boot", Some(&self.boot)),
            ("run", Some(&self.run)),
            ("ver", Some(&self.ver)),
            ("os", self.os.as_ref()),
            ("arch", self.arch.as_ref()),
            ("kernel", self.kernel.as_ref()),
            ("reason", self.reason.as_ref()),
        ];
        for (field, text) in texts {
            if text.is_some_and(|text| text.len() > TEXT_MAX || text.chars().any(char::is_control))
            {
                return Err(Unusable::Field { field });
            }
        }
        let odd_number = |number: Option<f64>| number.is_some_and(|n| !n.is_finite() || n < 0.0);
        let odd_name = |name: &String| name.len() > TEXT_MAX || name.chars().any(char::is_control);
        let bad = if !usable(self.ip) {
            "ip"
        } else if self.port == 0 {
            "port"
        } else if !(self.interval > 0.0 && self.interval <= INTERVAL_MAX) {
            "interval"
        } else if self.addrs.len() > ADDRS_MAX
            || self
                .addrs
                .iter()
                .any(|a| !usable(a.ip) || a.port == 0 || odd_name(&a.interface))
        {
            "addrs"
        } else if self.caps.len() > CAPS_MAX || self.caps.keys().any(odd_name) {
            "caps"
        } else if odd_number(self.up) {
            "up"
        } else if odd_number(self.load) {
            "load"
        } else {
            return Ok(());
        };
        Err(Unusable::Field { field: bad })
    }
}

/// Returns whether a server can have this address: the host will connect to it.
fn usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// One presence message as received.
#[derive(Debug, Clone, PartialEq)]
pub struct Beacon {
    /// Its first word.
    pub word: Word,
    /// What it announces: always there with HELLO, STILL_ALIVE and BYE, never with other words.
    pub announcement: Option<Announcement>,
    /// Whether the announcement was made up from headers, as the sender sent no object.
    pub from_headers: bool,
}

/// Why a presence message is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// The body is longer than [`BODY_MAX`].
    #[error("presence message of {length} bytes, more than {BODY_MAX}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The body is not UTF-8.
    #[error("presence message is not UTF-8")]
    NotUtf8,
    /// The object is not JSON, or not of the right types.
    #[error("presence message has a bad object: {reason}")]
    Object {
        /// What the JSON reader says.
        reason: String,
    },
    /// A field is too long, out of range or holds control characters.
    #[error("presence message has a bad field {field:?}")]
    Field {
        /// Name of the field.
        field: &'static str,
    },
    /// There is no object and the headers do not stand in for it.
    #[error("presence message has no object, and no usable header {header:?} instead")]
    Headers {
        /// Name of the missing or bad header.
        header: &'static str,
    },
}

impl Beacon {
    /// Reads the presence message in a MESSAGE or SEND frame.
    ///
    /// # Errors
    ///
    /// [`Unusable`] for what is to be counted and dropped. Unknown words are no error.
    pub fn from_frame(frame: &Frame) -> Result<Self, Unusable> {
        if frame.body.len() > BODY_MAX {
            let length = frame.body.len();
            return Err(Unusable::TooLong { length });
        }
        let body = std::str::from_utf8(&frame.body).map_err(|_| Unusable::NotUtf8)?;
        let (word, object) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
        let word = Word::from_wire(word);
        let object = object.trim();
        let (announcement, from_headers) = match &word {
            Word::Agent | Word::Aint(_) => (None, false),
            _ if object.is_empty() => (Some(from_headers(frame)?), true),
            _ => (Some(from_object(object)?), false),
        };
        if let Some(announcement) = &announcement {
            announcement.check()?;
        }
        Ok(Self {
            word,
            announcement,
            from_headers,
        })
    }
}

fn from_object(object: &str) -> Result<Announcement, Unusable> {
    serde_json::from_str(object).map_err(|error| {
        // The reason may quote the sender's bytes and ends in logs.
        let reason = error
            .to_string()
            .chars()
            .take(200)
            .flat_map(char::escape_default)
            .collect();
        Unusable::Object { reason }
    })
}

/// Makes an announcement from headers, for senders of the original kind.
fn from_headers(frame: &Frame) -> Result<Announcement, Unusable> {
    fn optional<T: std::str::FromStr>(
        frame: &Frame,
        header: &'static str,
        default: T,
    ) -> Result<T, Unusable> {
        match frame.header(header) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| Unusable::Headers { header }),
        }
    }
    fn required<T: std::str::FromStr>(frame: &Frame, header: &'static str) -> Result<T, Unusable> {
        let value = frame.header(header).ok_or(Unusable::Headers { header })?;
        value.parse().map_err(|_| Unusable::Headers { header })
    }
    Ok(Announcement {
        v: 1,
        id: required(frame, "id")?,
        name: optional(frame, "name", String::new())?,
        ip: required(frame, "ip")?,
        port: optional(frame, "port", CHIRP_PORT)?,
        addrs: Vec::new(),
        boot: optional(frame, "boot", String::new())?,
        // No header carries the run, so the order rule cannot hold for such a sender.
        run: String::new(),
        seq: optional(frame, "seq", 0)?,
        interval: optional(frame, "interval", 10.0)?,
        ver: String::new(),
        caps: BTreeMap::new(),
        os: None,
        arch: None,
        kernel: None,
        up: None,
        load: None,
        free: None,
        reason: None,
    })
}

fn one() -> u32 {
    1
}

/// Bytes of any text field at most.
const TEXT_MAX: usize = 255;
/// Further addresses at most.
const ADDRS_MAX: usize = 16;
/// Features at most.
const CAPS_MAX: usize = 32;
/// Seconds between beacons at most: a day. More would make a loss go unseen for ever.
const INTERVAL_MAX: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"HELLO {"v":1,"id":"08:00:27:E0:AD:B2","name":"worker-7","ip":"192.168.56.101","port":9094,"boot":"2b1c","run":"9f0e","seq":0,"interval":10,"ver":"chirp-server 0.1.0","caps":{"exec":1,"sha256":1}}"#;

    fn read(body: &str) -> Result<Beacon, Unusable> {
        Beacon::from_frame(&Frame::new("MESSAGE").with_body(body.to_owned()))
    }

    fn example() -> Announcement {
        read(EXAMPLE).unwrap().announcement.unwrap()
    }

    #[test]
    fn the_specifications_example_is_read_and_written() {
        let beacon = read(EXAMPLE).unwrap();
        assert_eq!(beacon.word, Word::Hello);
        let announcement = beacon.announcement.unwrap();
        assert_eq!(announcement.address().to_string(), "192.168.56.101:9094");
        assert_eq!(announcement.caps.get("sha256"), Some(&1));
        let frame = announcement.frame(&Word::Hello, DESTINATION);
        assert_eq!(frame.header("id"), Some("08:00:27:E0:AD:B2"));
        assert_eq!(
            Beacon::from_frame(&frame).unwrap().announcement.unwrap(),
            announcement
        );
    }

    #[test]
    fn unknown_fields_larger_versions_and_any_white_space_are_accepted() {
        let body = EXAMPLE
            .replace("\"v\":1", "\"v\":7,\"new\":[{}]")
            .replacen(' ', "\n\t ", 1);
        assert_eq!(read(&body).unwrap().announcement.unwrap().v, 7);
    }

    #[test]
    fn headers_stand_in_for_a_missing_object() {
        let frame = Frame::new("MESSAGE")
            .with("id", "08:00:27:E0:AD:B2")
            .with("ip", "192.168.56.101")
            .with_body("HELLO");
        let beacon = Beacon::from_frame(&frame).unwrap();
        assert!(beacon.from_headers);
        assert_eq!(beacon.announcement.unwrap().port, CHIRP_PORT);
        assert_eq!(read("HELLO"), Err(Unusable::Headers { header: "id" }));
    }

    #[test]
    fn other_words_need_no_object() {
        assert_eq!(read("AGENT x").unwrap().word, Word::Agent);
        assert_eq!(read("").unwrap().word, Word::Aint(String::new()));
        let Word::Aint(word) = read("\u{1b}[2Jhello there").unwrap().word else {
            panic!("a word of nobody");
        };
        assert!(word.is_ascii() && !word.contains('\u{1b}'), "{word}");
    }

    #[test]
    fn bad_messages_are_errors_that_name_the_field() {
        for (from, to) in [
            ("192.168.56.101", "0.0.0.0"),
            ("192.168.56.101", "224.0.0.1"),
            ("192.168.56.101", "fe80::1%eth0"),
            ("\"port\":9094", "\"port\":0"),
            ("\"port\":9094", "\"port\":65536"),
            ("\"port\":9094", "\"port\":\"9094\""),
            ("\"interval\":10", "\"interval\":0"),
            ("\"interval\":10", "\"interval\":-1"),
            ("\"interval\":10", "\"interval\":1e300"),
            ("\"seq\":0", "\"seq\":-1"),
            ("\"seq\":0", "\"seq\":0,\"seq\":1"),
            ("\"seq\":0", "\"seq\":0,\"load\":-1"),
            ("worker-7", "\\u001b[2J"),
            ("08:00:27:E0:AD:B2", "08:00"),
            ("{\"v\"", "[\"v\""),
        ] {
            let body = EXAMPLE.replacen(from, to, 1);
            assert_ne!(body, EXAMPLE);
            assert!(read(&body).is_err(), "{body}");
        }
        let long = EXAMPLE.replace("worker-7", &"x".repeat(256));
        assert_eq!(read(&long), Err(Unusable::Field { field: "name" }));
        let huge = format!("{EXAMPLE}{}", " ".repeat(BODY_MAX));
        assert!(matches!(read(&huge), Err(Unusable::TooLong { .. })));
        let deep = format!("HELLO {}", "[".repeat(4000));
        assert!(matches!(read(&deep), Err(Unusable::Object { .. })));
        let not_text = Frame::new("MESSAGE").with_body(&b"HELLO \xff"[..]);
        assert_eq!(Beacon::from_frame(&not_text), Err(Unusable::NotUtf8));
    }

    #[test]
    fn a_large_announcement_is_cut_to_the_limit() {
        let mut announcement = example();
        let address = Address {
            ip: announcement.ip,
            port: 9094,
            interface: "i".repeat(250),
            mac: Some(announcement.id),
        };
        announcement.addrs = vec![address; 16];
        announcement.caps = (0..32)
            .map(|n| (format!("{n}{}", "c".repeat(200)), n))
            .collect();
        let frame = announcement.frame(&Word::StillAlive, DESTINATION);
        assert!(frame.body.len() <= BODY_MAX);
        let read = Beacon::from_frame(&frame).unwrap().announcement.unwrap();
        assert_eq!(read.id, announcement.id);
        assert!(read.caps.len() > 10);
    }
}
