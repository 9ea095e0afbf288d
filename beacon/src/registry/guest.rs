//! One guest as the registry knows it.

use crate::mac::MacId;
use crate::message::{Address, Announcement};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

/// The state of a guest (`host-agent.md` part 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestState {
    /// Announced, not yet proved usable.
    Joining,
    /// Proved usable in this run.
    Ready,
    /// Not heard of for longer than the late limit.
    Late,
    /// Not heard of for longer than the gone limit; a tombstone.
    Gone,
    /// Said good-bye; a tombstone.
    Left,
}

impl GuestState {
    /// Returns the state's name, as JSON and logs have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Ready => "ready",
            Self::Late => "late",
            Self::Gone => "gone",
            Self::Left => "left",
        }
    }

    /// Returns whether the guest is on the list of registered guests.
    #[must_use]
    pub fn is_registered(self) -> bool {
        matches!(self, Self::Joining | Self::Ready | Self::Late)
    }
}

impl fmt::Display for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One guest.
#[derive(Debug, Clone)]
pub struct Guest {
    pub(super) state: GuestState,
    pub(super) announcement: Announcement,
    /// What the hypervisor calls its machine.
    pub(super) known_as: Option<String>,
    /// Where its hypervisor forwards a port to its server, whatever it announces itself.
    pub(super) forwarded: Option<SocketAddr>,
    /// Since when its machine is paused or saved.
    pub(super) paused_at: Option<Instant>,
    pub(super) peer: Option<IpAddr>,
    pub(super) why: String,
    pub(super) first_seen: SystemTime,
    pub(super) last_beacon: SystemTime,
    pub(super) since: SystemTime,
    pub(super) restarts: u32,
    pub(super) reachable: bool,
    pub(super) suspect: bool,
    pub(super) dropped: u64,
    /// The last number heard in this run; none where any number is good.
    pub(super) last_seq: Option<u64>,
    /// When it last gave a sign of life, or was given a new grace.
    pub(super) alive_at: Instant,
    /// What `late` goes back to.
    pub(super) before_late: GuestState,
    /// The boot and run before this one, and when they changed.
    pub(super) previous: Option<(String, String, Instant)>,
    /// How often in a row announcements of this run came from another address, and when last.
    pub(super) peer_changes: (u32, Option<Instant>),
    /// Whether its announcements come from an address that it does not announce.
    pub(super) elsewhere: bool,
    /// When an id was last heard from two sides.
    pub(super) conflict_at: Option<Instant>,
    pub(super) checks_failed: u32,
    pub(super) check_at: Option<Instant>,
    pub(super) probes_failed: u32,
    pub(super) probe_at: Option<Instant>,
    /// Its connection to the broker ended without BYE, and nothing was heard since.
    pub(super) connection_lost: bool,
    /// Start of the present second of the announcement limit, and how many came in it.
    pub(super) window: (Instant, u32),
    /// Its entry among the tombstones, while it is one.
    pub(super) tombstone_at: Option<Instant>,
    /// Its one entry in the queue of deadlines.
    pub(super) queued_at: Instant,
}

impl Guest {
    /// Returns a guest that is joining and of which nothing else is known.
    pub(super) fn new(
        announcement: Announcement,
        peer: Option<IpAddr>,
        now: Instant,
        wall: SystemTime,
    ) -> Self {
        Self {
            state: GuestState::Joining,
            announcement,
            known_as: None,
            forwarded: None,
            paused_at: None,
            peer,
            why: String::new(),
            first_seen: wall,
            last_beacon: wall,
            since: wall,
            restarts: 0,
            reachable: false,
            suspect: false,
            dropped: 0,
            last_seq: None,
            alive_at: now,
            before_late: GuestState::Joining,
            previous: None,
            peer_changes: (0, None),
            elsewhere: false,
            conflict_at: None,
            checks_failed: 0,
            check_at: None,
            probes_failed: 0,
            probe_at: None,
            connection_lost: false,
            window: (now, 0),
            tombstone_at: None,
            queued_at: now,
        }
    }

    /// Returns the guest's id.
    #[must_use]
    pub fn id(&self) -> MacId {
        self.announcement.id
    }

    /// Returns the guest's name: its machine's, else the one it announces, else its id.
    #[must_use]
    pub fn name(&self) -> String {
        if let Some(name) = &self.known_as {
            name.clone()
        } else if self.announcement.name.is_empty() {
            self.announcement.id.to_string()
        } else {
            self.announcement.name.clone()
        }
    }

    /// Returns the guest's state.
    #[must_use]
    pub fn state(&self) -> GuestState {
        self.state
    }

    /// Returns the reason of the state, in words.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Returns whether the guest can be given commands: ready, not under suspicion, and not paused.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == GuestState::Ready && !self.suspect && self.paused_at.is_none()
    }

    /// Returns where its Chirp server can be reached: where its hypervisor forwards a port to it, else where it
    /// says.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.forwarded
            .unwrap_or_else(|| self.announcement.address())
    }

    /// Returns whether its hypervisor forwards a port to it.
    #[must_use]
    pub fn is_forwarded(&self) -> bool {
        self.forwarded.is_some()
    }

    /// Returns the newest announcement.
    #[must_use]
    pub fn announcement(&self) -> &Announcement {
        &self.announcement
    }

    /// Returns the address that the broker saw the announcements come from.
    #[must_use]
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Returns the guest as it is shown to people and programs.
    #[must_use]
    pub fn record(&self) -> GuestRecord {
        let said = &self.announcement;
        GuestRecord {
            name: self.name(),
            id: said.id,
            state: self.state,
            why: self.why.clone(),
            address: self.address().ip(),
            port: self.address().port(),
            addresses: said.addrs.clone(),
            peer: self.peer,
            boot: said.boot.clone(),
            run: said.run.clone(),
            seq: said.seq,
            interval: said.interval,
            version: said.ver.clone(),
            features: said.caps.clone(),
            os: said.os.clone(),
            arch: said.arch.clone(),
            kernel: said.kernel.clone(),
            up: said.up,
            load: said.load,
            free: said.free,
            first_seen: unix(self.first_seen),
            last_beacon: unix(self.last_beacon),
            since: unix(self.since),
            restarts: self.restarts,
            reachable: self.reachable,
            suspect: self.suspect,
            elsewhere: self.elsewhere,
            paused: self.paused_at.is_some(),
            dropped: self.dropped,
        }
    }

    /// Returns the address that its announcements come from where it is none of those that they name.
    pub(super) fn foreign_peer(&self) -> Option<IpAddr> {
        let said = &self.announcement;
        let named = |peer: &IpAddr| {
            said.ip.to_canonical() == *peer
                || self.address().ip().to_canonical() == *peer
                || said
                    .addrs
                    .iter()
                    .any(|address| address.ip.to_canonical() == *peer)
        };
        self.peer
            .map(|peer| peer.to_canonical())
            .filter(|peer| !named(peer))
    }

    /// Returns when it is late: the larger of the grace and two and a half announced intervals.
    pub(super) fn late_after(&self, grace: Duration) -> Duration {
        grace.max(self.announcement.interval().mul_f64(2.5))
    }

    /// Returns when it is gone: one and a half times the late limit.
    pub(super) fn gone_after(&self, grace: Duration) -> Duration {
        self.late_after(grace).mul_f64(1.5)
    }
}

impl Serialize for Guest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.record().serialize(serializer)
    }
}

/// A guest as JSON shows it. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuestRecord {
    /// Its machine's name; without a hypervisor the one it announces, or its id where it announces none.
    pub name: String,
    /// Its id.
    pub id: MacId,
    /// Its state.
    pub state: GuestState,
    /// The reason of the state.
    pub why: String,
    /// Where its Chirp server can be reached.
    pub address: IpAddr,
    /// Its Chirp server's port.
    pub port: u16,
    /// Further addresses.
    pub addresses: Vec<Address>,
    /// The address that the broker saw its announcements come from.
    pub peer: Option<IpAddr>,
    /// Id of this start of the machine.
    pub boot: String,
    /// Id of this start of the server.
    pub run: String,
    /// Number of the last beacon.
    pub seq: u64,
    /// Announced interval in seconds.
    pub interval: f64,
    /// Program and version of the server.
    pub version: String,
    /// Its feature list.
    pub features: BTreeMap<String, i64>,
    /// Operating system.
    pub os: Option<String>,
    /// Architecture.
    pub arch: Option<String>,
    /// Kernel release.
    pub kernel: Option<String>,
    /// Seconds since the machine started, when last heard.
    pub up: Option<f64>,
    /// Load of a minute, when last heard.
    pub load: Option<f64>,
    /// Free bytes below the server's root, when last heard.
    pub free: Option<u64>,
    /// When it was first heard.
    pub first_seen: f64,
    /// When it was last heard.
    pub last_beacon: f64,
    /// When it came into this state.
    pub since: f64,
    /// How often its server or machine has been seen to start again.
    pub restarts: u32,
    /// Whether a connection to it has proved the announcement.
    pub reachable: bool,
    /// Whether somebody else may be claiming its id.
    pub suspect: bool,
    /// Whether its announcements come from an address that it does not announce, as behind address translation.
    #[serde(default)]
    pub elsewhere: bool,
    /// Whether its machine is paused or saved.
    #[serde(default)]
    pub paused: bool,
    /// Beacons of it that were dropped: duplicates, stale ones, more than the limit.
    pub dropped: u64,
}

pub(super) fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
