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
        }
    }

    /// Takes the local address of the connection to the broker: where the host can reach this machine.
    pub(super) fn connected_from(&mut self, local: Option<IpAddr>) {
        self.local = local;
    }

    /// Returns the next announcement; nothing where there is no address to announce.
    pub(super) async fn next(&mut self, reason: Option<&str>) -> Option<Announcement> {
        self.ask_free_space().await;
        let (ip, port) = self.address()?;
        let interfaces = interfaces();
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
        Some(announcement)
    }

    fn address(&self) -> Option<(IpAddr, u16)> {
        let template = &self.template;
        if let Some(named) = &template.announce_as
            && let Some(ip) = named.ip()
        {
            return Some((ip, named.port.unwrap_or(template.port)));
        }
        Some((template.ip.or(self.local)?, template.port))
    }

    /// Returns the MAC address of the interface that the host reaches.
    fn mac(&self, interfaces: &[Interface]) -> Option<MacId> {
        let ip = self.template.ip.or(self.local)?;
        interfaces
            .iter()
            .find(|interface| interface.addresses.contains(&ip))?
            .mac
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
