//! Subscriptions, and messages to them.

use super::outbox::{Outbox, PresenceKey};
use crate::encode::encode;
use crate::frame::{Frame, Version};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The subscriptions of all connections, by destination.
#[derive(Debug, Default)]
pub(super) struct Hub {
    topics: Mutex<HashMap<String, Vec<Subscription>>>,
    messages: AtomicU64,
    connections: AtomicU64,
}

/// One subscription of one connection.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    /// Number of the connection.
    pub(super) connection: u64,
    /// The client's id of it; none in 1.0 where the client gave none.
    pub(super) id: Option<String>,
    /// Whether the client acknowledges.
    pub(super) acknowledged: bool,
    /// The connection's version.
    pub(super) version: Version,
    /// The connection's queue.
    pub(super) outbox: Arc<Outbox>,
}

impl Hub {
    /// Returns a number for a new connection.
    pub(super) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns whether a message of that number was ever sent.
    pub(super) fn has_sent(&self, message: u64) -> bool {
        message < self.messages.load(Ordering::Relaxed)
    }

    pub(super) fn subscribe(&self, destination: &str, subscription: Subscription) {
        let mut topics = self.lock();
        topics
            .entry(destination.to_owned())
            .or_default()
            .push(subscription);
    }

    /// Removes one subscription of a connection.
    pub(super) fn unsubscribe(&self, destination: &str, connection: u64, id: Option<&str>) {
        self.remove(destination, |have| {
            have.connection == connection && have.id.as_deref() == id
        });
    }

    /// Removes all subscriptions of a connection to a destination.
    pub(super) fn leave(&self, destination: &str, connection: u64) {
        self.remove(destination, |have| have.connection == connection);
    }

    /// Gives a SEND frame to every subscriber of its destination.
    pub(super) fn publish(
        &self,
        frame: &Frame,
        destination: &str,
        peer: IpAddr,
        key: Option<&PresenceKey>,
    ) {
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        let base = message(frame, number, peer);
        let topics = self.lock();
        for to in topics.get(destination).into_iter().flatten() {
            let mut copy = base.clone();
            if let Some(id) = &to.id {
                copy = copy.with("subscription", id.as_str());
            }
            if to.acknowledged && to.version >= Version::V1_2 {
                copy = copy.with("ack", number.to_string());
            }
            to.outbox.push(encode(&copy, to.version), key.cloned());
        }
    }

    fn remove(&self, destination: &str, which: impl Fn(&Subscription) -> bool) {
        let mut topics = self.lock();
        if let Some(subscriptions) = topics.get_mut(destination) {
            subscriptions.retain(|have| !which(have));
            if subscriptions.is_empty() {
                topics.remove(destination);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Subscription>>> {
        // Nothing in here panics half-way through a change.
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the MESSAGE of a SEND: the first of each of its headers but the reserved ones, and ours.
fn message(frame: &Frame, number: u64, peer: IpAddr) -> Frame {
    let mut out = Frame::new("MESSAGE")
        .with("message-id", number.to_string())
        .with("x-peer", peer.to_canonical().to_string());
    for (name, value) in &frame.headers {
        if !RESERVED.contains(&name.as_str()) && out.header(name).is_none() {
            out.headers.push((name.clone(), value.clone()));
        }
    }
    out.with_body(frame.body.clone())
}

/// Headers of a SEND that are its sender's or the broker's own affair.
const RESERVED: [&str; 9] = [
    "receipt",
    "login",
    "passcode",
    "content-length",
    "transaction",
    "message-id",
    "subscription",
    "ack",
    "x-peer",
];
