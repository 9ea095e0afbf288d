//! One connection's conversation: what each frame does, without sockets and timers.

use super::hub::Subscription;
use super::login;
use super::outbox::{Outbox, PresenceKey};
use super::{Role, Shared};
use crate::encode::encode;
use crate::frame::{Frame, Version};
use crate::mac::MacId;
use crate::message::{Beacon, Word};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A guest's message of more bytes is none that anybody needs.
const LARGE: usize = 8 * 1024;

/// The state of one connection's conversation.
#[derive(Debug)]
pub(super) struct Session<'a> {
    shared: &'a Shared,
    peer: SocketAddr,
    connection: u64,
    outbox: Arc<Outbox>,
    login: Option<(Version, Role)>,
    /// Destination and id of each subscription.
    subscriptions: Vec<(String, Option<String>)>,
    announced: Option<MacId>,
    /// Who was announced here, up to the limit.
    guests: Vec<MacId>,
}

/// What the connection has to do after a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Go on.
    Go,
    /// A version and heart-beats are agreed.
    Connected {
        /// The version of all frames to come.
        version: Version,
        /// How often the peer will send; none where it does not promise to.
        incoming: Option<Duration>,
        /// How often we have to send.
        outgoing: Option<Duration>,
    },
    /// Close once everything is sent.
    End,
}

/// Why a frame is answered with ERROR.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    message: String,
    versions: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(shared: &'a Shared, peer: SocketAddr, outbox: Arc<Outbox>) -> Self {
        Self {
            shared,
            peer,
            connection: shared.hub.connection(),
            outbox,
            login: None,
            subscriptions: Vec::new(),
            announced: None,
            guests: Vec::new(),
        }
    }

    /// Returns whether CONNECT was accepted.
    pub(super) fn is_connected(&self) -> bool {
        self.login.is_some()
    }

    /// Returns the id announced on this connection and not taken back with BYE.
    pub(super) fn announced(&self) -> Option<MacId> {
        self.announced
    }

    /// Takes one frame; replies go into the outbox.
    pub(super) fn handle(&mut self, frame: &Frame) -> Result<Step, Refusal> {
        let opening = matches!(frame.command.as_str(), "CONNECT" | "STOMP");
        let Some((version, role)) = self.login else {
            return if opening {
                self.connect(frame)
            } else {
                Err(refusal(format!(
                    "the first frame must be CONNECT, not {}",
                    frame.command
                )))
            };
        };
        if opening {
            return Err(refusal("already connected"));
        }
        if frame.header("transaction").is_some() {
            return Err(refusal("this broker has no transactions"));
        }
        let step = match (frame.command.as_str(), role) {
            ("SEND", _) => self.send(frame, role)?,
            ("DISCONNECT", _) => Step::End,
            ("SUBSCRIBE" | "UNSUBSCRIBE" | "ACK" | "NACK", Role::Guest) => {
                return Err(refusal("access_refused: guests may only send"));
            }
            ("SUBSCRIBE", Role::Agent) => self.subscribe(frame, version)?,
            ("UNSUBSCRIBE", Role::Agent) => self.unsubscribe(frame, version)?,
            ("ACK" | "NACK", Role::Agent) => self.acknowledge(frame, version)?,
            ("BEGIN" | "COMMIT" | "ABORT", _) => {
                return Err(refusal("this broker has no transactions"));
            }
            _ => return Err(refusal(format!("unknown command {}", frame.command))),
        };
        if let Some(receipt) = frame.header("receipt") {
            self.reply(&Frame::new("RECEIPT").with("receipt-id", receipt), version);
        }
        Ok(step)
    }

    /// Ends the conversation with an ERROR frame, about `frame` where it is known.
    pub(super) fn refuse(&self, refusal: &Refusal, frame: Option<&Frame>) {
        let mut error = Frame::new("ERROR").with("message", refusal.message.as_str());
        if refusal.versions {
            let all = Version::ALL.map(Version::as_str).join(",");
            error = error.with("version", all);
        }
        if let Some(receipt) = frame.and_then(|frame| frame.header("receipt")) {
            error = error.with("receipt-id", receipt);
        }
        let error = error
            .with("content-type", "text/plain")
            .with_body(format!("{}\n", refusal.message));
        // Before a version is agreed, the one that the peer asked for; who asks for none has no escapes.
        let asked = || Version::negotiate(frame.and_then(|frame| frame.header("accept-version")));
        let version = match self.login {
            Some((version, _)) => version,
            None => asked().unwrap_or(Version::V1_0),
        };
        self.outbox.close(Some(encode(&error, version)));
    }

    fn connect(&mut self, frame: &Frame) -> Result<Step, Refusal> {
        let Some(version) = Version::negotiate(frame.header("accept-version")) else {
            return Err(Refusal {
                message: "none of the versions in accept-version is known here".to_owned(),
                versions: true,
            });
        };
        let Some(role) = login::role(&self.shared.config.users, frame, self.peer.ip()) else {
            self.log_refused(frame);
            return Err(refusal("Bad CONNECT: wrong login or passcode"));
        };
        let minimum = self.shared.config.limits.heart_beat;
        let (incoming, outgoing) = match frame.header("heart-beat") {
            Some(value) if version > Version::V1_0 => {
                let (sends, wants) = heart_beat(value)
                    .ok_or_else(|| refusal("heart-beat is not two numbers with a comma"))?;
                let agree = |peer: Duration| (!peer.is_zero()).then_some(peer.max(minimum));
                (agree(sends), agree(wants))
            }
            _ => (None, None),
        };
        self.login = Some((version, role));
        let own = minimum.as_millis();
        self.reply(
            &Frame::new("CONNECTED")
                .with("version", version.as_str())
                .with("session", self.connection.to_string())
                .with("server", concat!("beacon/", env!("CARGO_PKG_VERSION")))
                .with("heart-beat", format!("{own},{own}")),
            version,
        );
        Ok(Step::Connected {
            version,
            incoming,
            outgoing,
        })
    }

    /// Says who was refused, once a minute for each address: whoever looks for a guest that does not come looks
    /// here, too.
    fn log_refused(&self, frame: &Frame) {
        let peer = self.peer.ip();
        // Nothing in there panics half-way through a change.
        let mut refused = self
            .shared
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if refused.may_speak(Some(peer), Instant::now()) {
            let login: String = frame
                .header("login")
                .unwrap_or_default()
                .chars()
                .take(64)
                .flat_map(char::escape_debug)
                .collect();
            tracing::warn!(event = "broker.refused", %peer, login, "wrong login or passcode");
        }
    }

    fn send(&mut self, frame: &Frame, role: Role) -> Result<Step, Refusal> {
        let destination = destination(frame)?;
        let presence = destination == self.shared.config.presence_destination;
        if role == Role::Guest && !presence {
            return Err(refusal(format!(
                "access_refused: guests may only send to {}",
                self.shared.config.presence_destination
            )));
        }
        let key = presence.then(|| self.presence(frame, role));
        let peer = self.peer.ip();
        self.shared
            .hub
            .publish(frame, destination, peer, key.as_ref());
        Ok(Step::Go)
    }

    /// Notes who announces on this connection, and returns what newer messages of the same kind replace.
    ///
    /// Who makes up ids, or sends large messages, takes no more of a slow subscriber's queue with them than
    /// [`super::BrokerLimits::guests`] allows.
    fn presence(&mut self, frame: &Frame, role: Role) -> PresenceKey {
        let of_connection = PresenceKey(format!("connection {}", self.connection));
        let beacon = Beacon::from_frame(frame).ok();
        let Some((word, id)) =
            beacon.and_then(|beacon| Some((beacon.word, beacon.announcement?.id)))
        else {
            return of_connection;
        };
        self.announced = (word != Word::Bye).then_some(id);
        let config = &self.shared.config;
        let logged_in_as_agent = role == Role::Agent && !config.users.is_empty();
        if !logged_in_as_agent && !self.guests.contains(&id) {
            if self.guests.len() >= config.limits.guests {
                return of_connection;
            }
            self.guests.push(id);
        }
        if size(frame) > LARGE {
            return of_connection;
        }
        PresenceKey(id.to_string())
    }

    fn subscribe(&mut self, frame: &Frame, version: Version) -> Result<Step, Refusal> {
        let destination = destination(frame)?;
        let id = frame.header("id").map(str::to_owned);
        if id.is_none() && version > Version::V1_0 {
            return Err(refusal("SUBSCRIBE needs an id header"));
        }
        let acknowledged = match frame.header("ack") {
            None | Some("auto") => false,
            Some("client" | "client-individual") => true,
            Some(_) => return Err(refusal("ack is auto, client or client-individual")),
        };
        let taken = |have: &(String, Option<String>)| match &id {
            Some(id) => have.1.as_ref() == Some(id),
            None => have.0 == destination && have.1.is_none(),
        };
        if self.subscriptions.iter().any(taken) {
            return Err(refusal("there is a subscription of this id already"));
        }
        let most = self.shared.config.limits.subscriptions;
        if self.subscriptions.len() >= most {
            return Err(refusal(format!("more than {most} subscriptions")));
        }
        self.subscriptions
            .push((destination.to_owned(), id.clone()));
        let subscription = Subscription {
            connection: self.connection,
            id,
            acknowledged,
            version,
            outbox: self.outbox.clone(),
        };
        self.shared.hub.subscribe(destination, subscription);
        Ok(Step::Go)
    }

    fn unsubscribe(&mut self, frame: &Frame, version: Version) -> Result<Step, Refusal> {
        let id = frame.header("id");
        let at = match id {
            Some(id) => self
                .subscriptions
                .iter()
                .position(|have| have.1.as_deref() == Some(id)),
            None if version > Version::V1_0 => {
                return Err(refusal("UNSUBSCRIBE needs an id header"));
            }
            None => {
                let destination = destination(frame)?;
                self.subscriptions
                    .iter()
                    .position(|have| have.0 == destination)
            }
        };
        let Some(at) = at else {
            return Err(refusal("there is no such subscription"));
        };
        let (destination, id) = self.subscriptions.swap_remove(at);
        self.shared
            .hub
            .unsubscribe(&destination, self.connection, id.as_deref());
        Ok(Step::Go)
    }

    /// Takes an ACK or NACK. Nothing is kept, so neither changes anything; a wrong one is still refused.
    fn acknowledge(&self, frame: &Frame, version: Version) -> Result<Step, Refusal> {
        let header = if version >= Version::V1_2 {
            "id"
        } else {
            "message-id"
        };
        if frame.command == "NACK" && version == Version::V1_0 {
            return Err(refusal("STOMP 1.0 has no NACK"));
        }
        if version == Version::V1_1 {
            let named = frame.header("subscription");
            if !self
                .subscriptions
                .iter()
                .any(|have| have.1.as_deref() == named)
            {
                return Err(refusal("there is no such subscription"));
            }
        }
        let number = frame.header(header).and_then(|number| number.parse().ok());
        if number.is_some_and(|number| self.shared.hub.has_sent(number)) {
            Ok(Step::Go)
        } else {
            Err(refusal(format!(
                "{} needs the {header} of a message",
                frame.command
            )))
        }
    }

    fn reply(&self, frame: &Frame, version: Version) {
        self.outbox.push(encode(frame, version), None);
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        for (destination, _) in &self.subscriptions {
            self.shared.hub.leave(destination, self.connection);
        }
    }
}

/// Returns about how many bytes a frame takes in a queue.
fn size(frame: &Frame) -> usize {
    let headers = frame.headers.iter();
    headers
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>()
        + frame.body.len()
}

pub(super) fn refusal(message: impl Into<String>) -> Refusal {
    Refusal {
        message: message.into(),
        versions: false,
    }
}

fn destination(frame: &Frame) -> Result<&str, Refusal> {
    frame
        .header("destination")
        .filter(|destination| !destination.is_empty())
        .ok_or_else(|| refusal(format!("{} needs a destination header", frame.command)))
}

/// Reads `cx,cy`: what the peer can send, what it wants, in milliseconds. Longer than a day counts as one.
pub(crate) fn heart_beat(value: &str) -> Option<(Duration, Duration)> {
    let (sends, wants) = value.split_once(',')?;
    let read = |text: &str| {
        let text = text.trim();
        let digits =
            !text.is_empty() && text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
        let milliseconds: u64 = digits.then(|| text.parse().ok()).flatten()?;
        Some(Duration::from_millis(milliseconds.min(86_400_000)))
    };
    Some((read(sends)?, read(wants)?))
}

#[cfg(test)]
mod tests {
    use super::super::outbox::Taken;
    use super::super::{BrokerConfig, BrokerLimits, User};
    use super::*;
    use crate::broker::hub::Hub;
    use std::sync::Mutex;

    fn shared() -> Shared {
        let limits = BrokerLimits {
            guests: 4,
            ..BrokerLimits::default()
        };
        let user = |name: &str, role| User {
            name: name.to_owned(),
            passcode: "p".to_owned(),
            role,
        };
        Shared {
            config: BrokerConfig {
                users: vec![user("host", Role::Agent), user("vm", Role::Guest)],
                limits,
                ..BrokerConfig::default()
            },
            hub: Hub::default(),
            refused: Mutex::default(),
            lost: tokio::sync::mpsc::channel(1).0,
        }
    }

    fn session<'a>(shared: &'a Shared, login: &str, outbox: &Arc<Outbox>) -> Session<'a> {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut session = Session::new(shared, peer, Arc::clone(outbox));
        let connect = Frame::new("CONNECT")
            .with("accept-version", "1.2")
            .with("login", login)
            .with("passcode", "p");
        session.handle(&connect).unwrap();
        session
    }

    fn hello(number: u32, padding: usize) -> Frame {
        let [a, b, c, d] = number.to_be_bytes();
        Frame::new("SEND")
            .with("destination", crate::message::DESTINATION)
            .with("padding", "x".repeat(padding))
            .with_body(format!(
                "HELLO {{\"id\":\"02:00:{a:02X}:{b:02X}:{c:02X}:{d:02X}\",\"name\":\"g{number}\",\"ip\":\"127.0.0.9\",\
                 \"port\":9,\"boot\":\"b\",\"run\":\"r\",\"seq\":0,\"interval\":1}}"
            ))
    }

    /// Lets a guest say so many things to a subscriber that reads nothing, and another guest one, and returns
    /// what waits for the subscriber.
    async fn waiting(login: &str, frames: impl Iterator<Item = Frame>) -> Option<String> {
        let shared = shared();
        let slow = Arc::new(Outbox::new(4_000, 40_000));
        let mut subscriber = session(&shared, "host", &slow);
        let subscribe = Frame::new("SUBSCRIBE")
            .with("id", "1")
            .with("destination", crate::message::DESTINATION);
        subscriber.handle(&subscribe).unwrap();
        let nothing = || Arc::new(Outbox::new(4_000, 4_000));
        let mut liar = session(&shared, login, &nothing());
        for frame in frames {
            liar.handle(&frame).unwrap();
        }
        let mut honest = session(&shared, "vm", &nothing());
        honest.handle(&hello(u32::MAX, 0)).unwrap();
        slow.close(None);
        let mut text = Vec::new();
        loop {
            match slow.take().await {
                Taken::Bytes(bytes) => text.extend_from_slice(&bytes),
                Taken::Closed => return Some(String::from_utf8(text).unwrap()),
                Taken::Slow => return None,
            }
        }
    }

    #[tokio::test]
    async fn made_up_ids_leave_room_for_others() {
        let heard = waiting("vm", (0..5000).map(|number| hello(number, 0))).await;
        let heard = heard.expect("the subscriber is not ended");
        // As many as one connection may announce, the newest of all others, and the other guest.
        for name in ["g0", "g3", "g4999", &format!("g{}", u32::MAX)] {
            assert!(heard.contains(&format!("\"{name}\"")), "{name}");
        }
        assert!(!heard.contains("\"g2500\""));
    }

    #[tokio::test]
    async fn large_messages_leave_room_for_others() {
        let large = (0..4)
            .cycle()
            .take(100)
            .map(|number| hello(number, 2 * LARGE));
        let heard = waiting("vm", large).await.expect("not ended");
        assert!(heard.contains(&format!("\"g{}\"", u32::MAX)));
    }

    /// One that was given an agent's passcode may speak for all guests of another host.
    #[tokio::test]
    async fn agents_may_announce_as_many_guests_as_there_is_room_for() {
        let heard = waiting("host", (0..50).map(|number| hello(number, 0))).await;
        let heard = heard.expect("not ended");
        for number in 0..50 {
            assert!(heard.contains(&format!("\"g{number}\"")), "{number}");
        }
    }
}
