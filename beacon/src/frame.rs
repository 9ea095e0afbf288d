//! STOMP frames as values: what crosses the wire, without the wire.

use bytes::Bytes;

/// One STOMP frame, of either direction.
///
/// Header names and values are held unescaped; [`crate::encode`] escapes them as the version asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The command word, for example `SEND`: one to sixteen letters `A` to `Z`.
    pub command: String,
    /// Headers in wire order, without `content-length`, which is the codec's own. Of a repeated name the
    /// first one counts.
    pub headers: Vec<(String, String)>,
    /// The body, which may hold NUL bytes.
    pub body: Bytes,
}

impl Frame {
    /// Returns a frame with that command, no headers and an empty body.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Returns the frame with one header more, after those it has.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Returns the frame with this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Returns the value of the first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A version of the STOMP standard, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// STOMP 1.0: no escapes, no heart-beats, optional subscription ids.
    V1_0,
    /// STOMP 1.1: escapes for line feed, colon and backslash.
    V1_1,
    /// STOMP 1.2: escapes for carriage return too; `ack` headers.
    V1_2,
}

impl Version {
    /// All versions, newest first, as a broker lists what it accepts.
    pub const ALL: [Self; 3] = [Self::V1_2, Self::V1_1, Self::V1_0];

    /// Returns the version's text on the wire, for example `1.2`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }

    /// Returns the version of that wire text, or nothing for one unknown here.
    #[must_use]
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text.trim())
    }

    /// Returns the newest version named in an `accept-version` header that is known here.
    ///
    /// A missing header means 1.0, as the standard says.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Option<Self> {
        match accept {
            None => Some(Self::V1_0),
            Some(list) => list.split(',').filter_map(Self::from_wire).max(),
        }
    }
}

/// What a decoder accepts at most; beyond it a frame is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Header lines of one frame.
    pub headers: usize,
    /// Bytes of one line, its line end not counted.
    pub line: usize,
    /// Bytes of all the header lines of one frame together.
    pub head: usize,
    /// Bytes of one body.
    pub body: usize,
}

impl Default for Limits {
    /// Returns the limits of `stomp-presence.md` part 6, and 64 KiB for all header lines together,
    /// so that a connection's memory stays near that of its largest body.
    fn default() -> Self {
        Self {
            headers: 64,
            line: 8 * 1024,
            head: 64 * 1024,
            body: 64 * 1024,
        }
    }
}

/// Returns whether header escapes are in use for this command in this version.
///
/// CONNECT and CONNECTED never have them: they are sent before a version is agreed.
pub(crate) fn has_escapes(command: &str, version: Version) -> bool {
    match command {
        "CONNECT" | "CONNECTED" => false,
        // A STOMP frame comes before the version is agreed too, but only from clients of 1.1 and 1.2,
        // and they escape it.
        "STOMP" => true,
        _ => version >= Version::V1_1,
    }
}
