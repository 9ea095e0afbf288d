//! What is announced: the template, with what is found out at each beacon.

use super::FreeSpace;
use crate::mac::MacId;
use crate::message::{Address, Announcement};
use crate::net::{
    HostPort, Interface, boot_id, host_id, host_name, interfaces, kernel_keys, load_average,
    new_id, uptime,
};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tokio::task::JoinHandle;

/// What the server says of itself; the rest is found out.
#[derive(Debug, Clone)]
pub struct Template {
    /// The guest's name; the host name where there is none.
    pub name: Option<String>,
    /// The address that the server listens on, where it is one; else that of the connection to the broker.
    pub ip: Option<IpAddr>,
    /// The server's port.
    pub port: u16,
    /// What to announce instead, for servers behind address translation; else what the kernel's command
    /// line says.
    pub announce_as: Option<HostPort>,
    /// The interface whose MAC address and first address to announce, by name; the one of the connection to
    /// the broker where there is none.
    pub interface: Option<String>,
    /// The guest's id, where it is not to be the MAC address of the announced interface.
    pub id: Option<MacId>,
    /// Id of this start of the machine.
    pub boot: String,
    /// Id of this start of the server.
    pub run: String,
    /// Program and version.
    pub ver: String,
    /// The server's feature list.
    pub caps: BTreeMap<String, i64>,
}

impl Template {
    /// Returns a template for a server on that port, with the kernel's boot id and a new run id.
    #[must_use]
    pub fn new(port: u16, ver: impl Into<String>) -> Self {
        Self {
            name: None,
            ip: None,
            port,
            announce_as: None,
            interface: None,
            id: None,
            boot: boot_id().unwrap_or_else(new_id),
            run: new_id(),
            ver: ver.into(),
            caps: BTreeMap::new(),
        }
    }
}

/// Makes one announcement after another.
pub(super) struct Content {
    template: Template,
    interval: f64,
    free: Option<FreeSpace>,
    asked: Option<JoinHandle<Option<u64>>>,
    free_bytes: Option<u64>,
    local: Option<IpAddr>,
    seq: u64,
    /// What the last announcement said of those things that are worth a HELLO.
    said: Option<Identity>,
}

/// What a HELLO is said for when it changes.
#[derive(Debug, PartialEq)]
struct Identity {
    id: MacId,
    name: String,
    ip: IpAddr,
    port: u16,
    ver: String,
    caps: BTreeMap<String, i64>,
}

impl Identity {
    fn of(said: &Announcement) -> Self {
        Self {
            id: said.id,
            name: said.name.clone(),
            ip: said.ip,
            port: said.port,
            ver: said.ver.clone(),
            caps: said.caps.clone(),
        }
    }
}

/// Why there is nothing to announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NothingToSay {
    /// No address is known.
    NoAddress,
    /// The connection's own address is on no interface any more: another connection has another one.
    Moved(IpAddr),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

impl Content {
    pub(super) fn new(mut template: Template, interval: Duration, free: Option<FreeSpace>) -> Self {
        template.announce_as = template.announce_as.or_else(|| kernel_keys().announce);
        // A server that listens everywhere has no address of its own.
        template.ip = template.ip.filter(|ip| !ip.is_unspecified());
        Self {
            template,
            interval: interval.as_secs_f64(),
            free,
            asked: None,
            free_bytes: None,
            local: None,
            seq: 0,
            said: None,
        }
    }

    /// Takes the id of the present run; another one is counted from 0.
    pub(super) fn begin(&mut self, run: &str) {
        if self.template.run != run {
            run.clone_into(&mut self.template.run);
            self.seq = 0;
        }
    }

    /// Takes the local address of the connection to the broker: where the host can reach this machine.
    pub(super) fn connected_from(&mut self, local: Option<IpAddr>) {
        self.local = local;
    }

    /// Returns the next announcement, and whether it says what the one before did not.
    pub(super) async fn next(
        &mut self,
        reason: Option<&str>,
    ) -> Result<(Announcement, bool), NothingToSay> {
        self.ask_free_space().await;
        let interfaces = interfaces();
        if let Some(ip) = self.moved(&interfaces) {
            return Err(NothingToSay::Moved(ip));
        }
        let (ip, port) = self.address(&interfaces).ok_or(NothingToSay::NoAddress)?;
        let template = &self.template;
        let id = template.id.or_else(|| self.mac(&interfaces));
        let announcement = Announcement {
            v: 1,
            id: id.unwrap_or_else(|| MacId::derived(&host_id(), ip, port)),
            name: clean(template.name.clone().unwrap_or_else(host_name)),
            ip,
            port,
            addrs: self.further(&interfaces, ip),
            boot: template.boot.clone(),
            run: template.run.clone(),
            seq: self.seq,
            interval: self.interval,
            ver: template.ver.clone(),
            caps: template.caps.clone(),
            os: Some(std::env::consts::OS.to_owned()),
            arch: Some(std::env::consts::ARCH.to_owned()),
            kernel: Some(clean(
                rustix::system::uname()
                    .release()
                    .to_string_lossy()
                    .into_owned(),
            )),
            up: uptime(),
            load: load_average(),
            free: self.free_bytes,
            reason: reason.map(str::to_owned),
        };
        self.seq += 1;
        let identity = Some(Identity::of(&announcement));
        let changed = self.said != identity;
        self.said = identity;
        Ok((announcement, changed))
    }

    /// Returns the address of the connection to the broker where this machine has it no more.
    fn moved(&self, interfaces: &[Interface]) -> Option<IpAddr> {
        let local = self.local.map(|ip| ip.to_canonical())?;
        let listed = match local {
            // Those that the interfaces' lists leave out.
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        };
        let mut addresses = interfaces.iter().flat_map(|on| &on.addresses).peekable();
        // All of 127.0.0.0/8 is this machine's, and where the kernel lists nothing it says nothing.
        let known = listed && !local.is_loopback() && addresses.peek().is_some();
        (known && !addresses.any(|&ip| ip == local)).then_some(local)
    }

    fn address(&self, interfaces: &[Interface]) -> Option<(IpAddr, u16)> {
        let template = &self.template;
        if let Some(named) = &template.announce_as
            && let Some(ip) = named.ip()
        {
            return Some((ip, named.port.unwrap_or(template.port)));
        }
        let named = template.interface.as_ref().and_then(|name| {
            let found = interfaces.iter().find(|interface| interface.name == *name);
            found?.addresses.first().copied()
        });
        Some((named.or(template.ip).or(self.local)?, template.port))
    }

    /// Returns the MAC address of the interface that the host reaches.
    fn mac(&self, interfaces: &[Interface]) -> Option<MacId> {
        let ip = self.template.ip.or(self.local);
        let announced = |interface: &&Interface| match &self.template.interface {
            Some(name) => interface.name == *name,
            None => ip.is_some_and(|ip| interface.addresses.contains(&ip.to_canonical())),
        };
        interfaces.iter().find(announced)?.mac
    }

    /// Returns every other address that the server answers on: none where it listens on one only.
    fn further(&self, interfaces: &[Interface], announced: IpAddr) -> Vec<Address> {
        if self.template.ip.is_some() {
            return Vec::new();
        }
        let all = interfaces.iter().flat_map(|interface| {
            interface.addresses.iter().map(move |&ip| Address {
                ip,
                port: self.template.port,
                interface: interface.name.clone(),
                mac: interface.mac,
            })
        });
        all.filter(|address| address.ip != announced && !address.ip.is_loopback())
            .take(16)
            .collect()
    }

    /// Asks for the free space aside and waits a moment: a file system that hangs costs only its number.
    async fn ask_free_space(&mut self) {
        let Some(free) = &self.free else {
            return;
        };
        let asked = self.asked.get_or_insert_with(|| {
            let free = free.clone();
            tokio::task::spawn_blocking(move || free())
        });
        match tokio::time::timeout(Duration::from_millis(500), asked).await {
            Ok(answer) => {
                self.free_bytes = answer.ok().flatten();
                self.asked = None;
            }
            Err(_) => self.free_bytes = None,
        }
    }
}

/// Makes a text fit for a field: no control characters, at most 255 bytes.
fn clean(text: String) -> String {
    let mut text = text.replace(char::is_control, "?");
    text.truncate(text.floor_char_boundary(255));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        let mut template = Template::new(9094, "test 1");
        template.name = Some("a".to_owned());
        let mut content = Content::new(template, Duration::from_secs(10), None);
        content.connected_from("127.0.0.1".parse().ok());
        content
    }

    #[tokio::test]
    async fn what_is_worth_a_hello_is_noticed() {
        let mut content = content();
        let mut changed = async |change: fn(&mut Content)| {
            change(&mut content);
            content.next(None).await.unwrap().1
        };
        assert!(changed(|_| {}).await, "the first says something new");
        assert!(!changed(|_| {}).await);
        assert!(changed(|content| content.template.name = Some("b".to_owned())).await);
        assert!(changed(|content| content.template.ver = "test 2".to_owned()).await);
        assert!(changed(|content| content.template.caps.extend([("x".to_owned(), 1)])).await);
        assert!(changed(|content| content.connected_from("127.0.0.2".parse().ok())).await);
        assert!(!changed(|content| content.free_bytes = Some(1)).await);
    }

    #[tokio::test]
    async fn a_connection_from_an_address_that_is_gone_says_nothing() {
        let mut content = content();
        // Of the documentation's network: no machine has it.
        let gone = "192.0.2.7".parse().unwrap();
        content.connected_from(Some(gone));
        assert_eq!(
            content.next(None).await.unwrap_err(),
            NothingToSay::Moved(gone)
        );
        content.connected_from(None);
        assert_eq!(
            content.next(None).await.unwrap_err(),
            NothingToSay::NoAddress
        );
    }

    #[tokio::test]
    async fn the_named_interface_is_announced() {
        let mut content = content();
        content.template.ip = "127.0.0.9".parse().ok();
        content.template.interface = Some("lo".to_owned());
        let (said, _) = content.next(None).await.unwrap();
        assert_eq!(said.ip.to_string(), "127.0.0.1");
        // One that is not there (yet) is as if none were named.
        content.template.interface = Some("none0".to_owned());
        let (said, _) = content.next(None).await.unwrap();
        assert_eq!(said.ip.to_string(), "127.0.0.9");
    }
}
