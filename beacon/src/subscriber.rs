//! The host's connection to a broker: beacons out of it, and whether it works.

use crate::frame::Frame;
use crate::link::{Backoff, Link, LinkConfig, LinkError};
use crate::message::{Beacon, DESTINATION, Word};
use crate::net::{BROKER_PORT, HostPort, new_id, resolve_broker};
use crate::quiet::Quiet;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Settings of a subscriber.
#[derive(Debug, Clone)]
pub struct SubscriberConfig {
    /// The broker.
    pub broker: HostPort,
    /// The destination of presence messages.
    pub destination: String,
    /// How to introduce oneself.
    pub link: LinkConfig,
    /// How often the path through the broker is tested; the test must come back in the same time.
    pub self_test: Duration,
}

impl SubscriberConfig {
    /// Returns the settings for that broker, all else as the specification has it.
    #[must_use]
    pub fn new(broker: HostPort) -> Self {
        Self {
            broker,
            destination: DESTINATION.to_owned(),
            link: LinkConfig::default(),
            self_test: Duration::from_secs(10),
        }
    }
}

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all that is heard are beacons"
)]
pub enum Heard {
    /// Connected and subscribed: every beacon from now on will be heard.
    Up,
    /// Not connected (any more), for this reason. Said once for each loss and first failure.
    Down(String),
    /// A presence message. AGENT messages are left out.
    Beacon {
        /// The message.
        beacon: Beacon,
        /// The address that the broker saw it come from, where the broker says so.
        peer: Option<IpAddr>,
    },
    /// A message that could not be read; logged at most once a minute for each sender.
    Unusable(String),
}

/// Subscribes and sends what it hears, connecting anew whenever the connection is lost, until the token is
/// cancelled or nobody listens.
///
/// A listener that does not keep up slows the reading; the embedded broker then conflates.
///
/// # Cancel safety
///
/// Dropping the future closes the connection; nothing else is lost.
pub async fn subscribe(
    config: SubscriberConfig,
    heard: mpsc::Sender<Heard>,
    token: CancellationToken,
) {
    let mut backoff = Backoff::new(&config.link);
    let mut quiet = Quiet::default();
    let mut said_down = false;
    while !token.is_cancelled() && !heard.is_closed() {
        let mut was_up = false;
        let ended = tokio::select! {
            () = token.cancelled() => return,
            () = heard.closed() => return,
            ended = session(&config, &heard, &mut was_up, &mut quiet) => ended,
        };
        let Err(error) = ended else {
            return;
        };
        if was_up {
            backoff.reset();
        }
        let wait = backoff.after(&error);
        if was_up || !said_down {
            said_down = true;
            tracing::warn!(event = "broker.down", broker = %config.broker, %error, "no connection to the broker");
            if heard.send(Heard::Down(error.to_string())).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

/// One connection, until it is lost; without error when nobody listens any more.
async fn session(
    config: &SubscriberConfig,
    heard: &mpsc::Sender<Heard>,
    was_up: &mut bool,
    quiet: &mut Quiet,
) -> Result<(), LinkError> {
    let broker = resolve_broker(Some(&config.broker), BROKER_PORT).await?;
    let mut link = Link::open(broker, &config.link).await?;
    let subscribe = Frame::new("SUBSCRIBE")
        .with("id", "presence")
        .with("destination", config.destination.as_str())
        .with("ack", "auto")
        .with("receipt", "subscribed");
    link.send(&subscribe).await?;
    // Messages that come before the receipt are lost with it; their senders repeat themselves.
    link.receipt("subscribed", RECEIPT_WITHIN).await?;
    *was_up = true;
    tracing::info!(event = "broker.up", %broker, "subscribed to presence");
    if heard.send(Heard::Up).await.is_err() {
        return Ok(());
    }
    let own = new_id();
    let mut test = SelfTest {
        next: Instant::now(),
        waiting: None,
    };
    loop {
        let due = test.waiting.unwrap_or(test.next);
        tokio::select! {
            // Input first: a test that has come back already is not late, however late it is read.
            biased;
            frame = link.next() => {
                let frame = frame?;
                if frame.command == "MESSAGE"
                    && let Some(news) = understand(&frame, &own, &mut test, config, quiet)
                    && heard.send(news).await.is_err()
                {
                    return Ok(());
                }
            }
            () = sleep_until(due) => {
                if test.waiting.is_some() {
                    return Err(LinkError::Silent("message of our own", config.self_test.as_secs()));
                }
                link.send(&agent(&own, &config.destination)).await?;
                test.waiting = Some(Instant::now() + config.self_test);
            }
        }
    }
}

/// The test of the path through the broker: when the next one is due, and until when the present one.
struct SelfTest {
    next: Instant,
    waiting: Option<Instant>,
}

fn understand(
    frame: &Frame,
    own: &str,
    test: &mut SelfTest,
    config: &SubscriberConfig,
    quiet: &mut Quiet,
) -> Option<Heard> {
    let peer = frame.header("x-peer").and_then(|peer| peer.parse().ok());
    match Beacon::from_frame(frame) {
        Ok(beacon) if beacon.word == Word::Agent => {
            // Those of other agents say nothing to us.
            if frame.body == agent_body(own).as_bytes() {
                test.waiting = None;
                test.next = Instant::now() + config.self_test;
            }
            None
        }
        Ok(beacon) => {
            if let Word::Aint(word) = &beacon.word
                && quiet.may_speak(peer, Instant::now())
            {
                tracing::info!(
                    event = "word.unknown",
                    ?peer,
                    word,
                    "unknown word on the presence topic"
                );
            }
            Some(Heard::Beacon { beacon, peer })
        }
        Err(error) => {
            if quiet.may_speak(peer, Instant::now()) {
                tracing::warn!(?peer, %error, "presence message dropped");
            }
            Some(Heard::Unusable(error.to_string()))
        }
    }
}

fn agent(own: &str, destination: &str) -> Frame {
    Frame::new("SEND")
        .with("destination", destination)
        .with("content-type", "text/plain;charset=utf-8")
        .with_body(agent_body(own))
}

fn agent_body(own: &str) -> String {
    format!("AGENT {{\"v\":1,\"agent\":\"{own}\"}}")
}

/// How long the receipt of SUBSCRIBE may take.
const RECEIPT_WITHIN: Duration = Duration::from_secs(10);
