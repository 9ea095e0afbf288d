//! Settings of the broker.

use crate::frame::Limits;
use crate::message::DESTINATION;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Settings of a broker.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Who may connect. With nobody listed everybody may: from loopback as agent, else as guest.
    pub users: Vec<User>,
    /// The only destination that guests may send to.
    pub presence_destination: String,
    /// Limits.
    pub limits: BrokerLimits,
}

impl Default for BrokerConfig {
    /// Returns a broker on a free port of the loopback address, without users.
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            users: Vec::new(),
            presence_destination: DESTINATION.to_owned(),
            limits: BrokerLimits::default(),
        }
    }
}

/// Limits of a broker (`stomp-presence.md` part 6).
#[derive(Debug, Clone, Copy)]
pub struct BrokerLimits {
    /// Limits of one frame.
    pub frame: Limits,
    /// Connections at once.
    pub connections: usize,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// The time to send CONNECT.
    pub connect: Duration,
    /// Unsent bytes for one connection, above which presence is conflated and anything else ends it.
    pub unsent: usize,
    /// Guests that one connection announces at most, each of whose newest message is kept when presence is
    /// conflated; of all further ones, and of messages of more than 8 KiB, only the newest is. Agents that have
    /// logged in as such may announce as many as they like.
    pub guests: usize,
    /// Unsent bytes for one connection, conflated presence included, above which it is ended: room for a
    /// beacon of each of 10,000 guests.
    pub unsent_conflated: usize,
    /// The shortest heart-beat interval, either way.
    pub heart_beat: Duration,
    /// How long one write may make no progress before the connection is given up.
    pub stuck: Duration,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self {
            frame: Limits::default(),
            connections: 12_000,
            subscriptions: 64,
            connect: Duration::from_secs(30),
            unsent: 256 * 1024,
            guests: 16,
            unsent_conflated: 8 * 1024 * 1024,
            heart_beat: Duration::from_secs(1),
            stuck: Duration::from_secs(120),
        }
    }
}

/// One who may connect.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The `login` header.
    pub name: String,
    /// The `passcode` header.
    pub passcode: String,
    /// What the user may do.
    pub role: Role,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// SEND to the presence destination, nothing else.
    Guest,
    /// Everything.
    Agent,
}
