//! Presence over STOMP: how guests say that they are there, and how the host keeps track of them.
//!
//! The crate holds both ends and the broker between them. It carries presence and addresses only; commands
//! and files go over Chirp. The format is that of `stomp-presence.md`, the life of a guest that of
//! `host-agent.md` part 3.
//!
//! # Layout
//!
//! Without I/O and without a clock:
//!
//! * [`frame`], [`parse`], [`encode`]: STOMP 1.0, 1.1 and 1.2 frames, an incremental decoder, the writer
//! * [`message`], [`mac`]: words, announcements and ids
//! * [`registry`]: the host's state machine of guests, driven by beacons, ticks and outcomes of checks
//!
//! With them:
//!
//! * [`net`]: what a guest can find out by itself: gateway, kernel's command line, ids, interfaces
//! * [`settings`]: the settings file and environment of both sides
//! * [`broker`]: the broker that the host embeds
//! * [`announcer`]: the guest's side of it
//! * [`subscriber`]: the host's side of it
//!
//! # Example
//!
//! ```
//! use beacon::frame::{Frame, Limits, Version};
//! use beacon::{encode, parse};
//!
//! let frame = Frame::new("SEND").with("destination", "/topic/a").with_body("x");
//! let mut bytes = encode::encode(&frame, Version::V1_2).as_ref().into();
//! let decoded = parse::Decoder::new(Limits::default()).decode(&mut bytes)?;
//! assert_eq!(decoded.unwrap().body, frame.body);
//! # Ok::<(), parse::Malformed>(())
//! ```

pub mod announcer;
pub mod broker;
pub mod encode;
pub mod frame;
mod keepalive;
mod link;
pub mod mac;
pub mod message;
pub mod net;
pub mod parse;
mod quiet;
pub mod registry;
pub mod settings;
pub mod subscriber;

pub use announcer::{Announcer, AnnouncerConfig, Template};
pub use broker::{Broker, BrokerConfig};
pub use link::{Credentials, LinkConfig};
pub use mac::MacId;
pub use message::{Announcement, Beacon, Word};
pub use net::HostPort;
pub use registry::{Registry, RegistryConfig};
