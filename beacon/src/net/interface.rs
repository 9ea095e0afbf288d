//! Network interfaces with their addresses, from netlink and sysfs.
//!
//! Netlink because nothing else says which interface an IPv4 address is on without unsafe code.

use crate::mac::MacId;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::net::IpAddr;
use std::path::Path;

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, for example `eth0`.
    pub name: String,
    /// Its MAC address; none on loopback and tunnels.
    pub mac: Option<MacId>,
    /// Its usable addresses: global ones first in the kernel's order; link-local ones are left out.
    pub addresses: Vec<IpAddr>,
}

/// Returns the machine's interfaces; an empty list where the kernel does not tell.
#[must_use]
pub fn interfaces() -> Vec<Interface> {
    let addresses = address_dump().unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot list network addresses");
        Vec::new()
    });
    let addresses = parse_address_dump(&addresses);
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else {
        return Vec::new();
    };
    let mut found: Vec<(u32, Interface)> = entries
        .flatten()
        .filter_map(|entry| {
            let index: u32 = word(&entry.path().join("ifindex"))?.parse().ok()?;
            let mac = word(&entry.path().join("address")).and_then(|text| text.parse().ok());
            let here = addresses.iter().filter(|&&(on, _)| on == index);
            let interface = Interface {
                name: entry.file_name().to_string_lossy().into_owned(),
                mac: mac.filter(|mac: &MacId| !mac.is_zero()),
                addresses: here.map(|&(_, address)| address).collect(),
            };
            Some((index, interface))
        })
        .collect();
    found.sort_by_key(|&(index, _)| index);
    found.into_iter().map(|(_, interface)| interface).collect()
}

fn word(path: &Path) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

/// Asks the kernel for all addresses and returns the bytes of its answer.
fn address_dump() -> rustix::io::Result<Vec<u8>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is protocol 0, as is no protocol.
        None,
    )?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(std::time::Duration::from_secs(2)),
    )?;
    // struct nlmsghdr and struct ifaddrmsg, all zero but length, type and flags.
    let mut request = [0_u8; 24];
    let head = [24_u32.to_ne_bytes(), pair(GET_ADDRESS, REQUEST | DUMP)];
    for (byte, value) in request.iter_mut().zip(head.concat()) {
        *byte = value;
    }
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let (count, _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty())?;
        let part = buffer.get(..count).unwrap_or_default();
        answer.extend_from_slice(part);
        let ended = messages(part).any(|(kind, _)| kind == DONE || kind == ERROR);
        if ended || count == 0 || answer.len() > ANSWER_MAX {
            return Ok(answer);
        }
    }
}

/// Returns the interface index and address of every address in a netlink dump (`RTM_NEWADDR` messages).
///
/// Left out are link-local and multicast addresses and what cannot be read.
#[must_use]
pub fn parse_address_dump(bytes: &[u8]) -> Vec<(u32, IpAddr)> {
    messages(bytes)
        .filter(|&(kind, _)| kind == NEW_ADDRESS)
        .filter_map(|(_, body)| {
            let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
            let attributes: Vec<(u16, &[u8])> = attributes(body.get(8..)?).collect();
            let find = |wanted| attributes.iter().find(|&&(kind, _)| kind == wanted);
            // On point-to-point links ADDRESS is the other end's.
            let (_, value) = find(LOCAL).or_else(|| find(ADDRESS))?;
            let address = match value.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(*value).ok()?),
                16 => IpAddr::from(<[u8; 16]>::try_from(*value).ok()?),
                _ => return None,
            };
            let useless = match address {
                IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified(),
                IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
            };
            (!useless && !address.is_multicast()).then_some((index, address))
        })
        .collect()
}

/// Iterates over netlink messages as type and body; ends at the first that is cut short.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?;
        let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
        let body = rest.get(16..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// Iterates over route attributes as type and value; ends at the first that is cut short.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn pair(low: u16, high: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (low.to_ne_bytes(), high.to_ne_bytes());
    [a, b, c, d]
}

// Numbers of linux/netlink.h and linux/rtnetlink.h.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// Bytes of a dump at most: some ten thousand addresses.
const ANSWER_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(index: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![2, 24, 0, 0];
        body.extend(index.to_ne_bytes());
        for (kind, value) in attributes {
            body.extend(pair(u16::try_from(value.len() + 4).unwrap(), *kind));
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut out = u32::try_from(body.len() + 16)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        out.extend(pair(NEW_ADDRESS, 0));
        out.extend([0; 8]);
        out.extend(body);
        out
    }

    #[test]
    fn addresses_are_read_and_the_local_end_is_preferred() {
        let mut dump = message(
            2,
            &[
                (ADDRESS, &[10, 0, 0, 1]),
                (3, b"eth0\0"),
                (LOCAL, &[10, 0, 0, 2]),
            ],
        );
        dump.extend(message(
            3,
            &[(
                ADDRESS,
                &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
            )],
        ));
        dump.extend(message(3, &[(ADDRESS, &[169, 254, 0, 1])]));
        let want = vec![
            (2, "10.0.0.2".parse().unwrap()),
            (3, "fd00::9".parse().unwrap()),
        ];
        assert_eq!(parse_address_dump(&dump), want);
        for length in 0..dump.len() {
            let cut = parse_address_dump(&dump[..length]);
            assert!(cut.len() <= 2, "cut at {length}: {cut:?}");
        }
    }

    #[test]
    fn garbage_is_no_address() {
        assert_eq!(parse_address_dump(&[0; 64]), vec![]);
        assert_eq!(parse_address_dump(&[0xff; 64]), vec![]);
    }

    #[test]
    fn this_machine_has_loopback_without_mac() {
        let all = interfaces();
        let loopback = all.iter().find(|interface| interface.name == "lo").unwrap();
        assert_eq!(loopback.mac, None);
        assert!(
            loopback.addresses.iter().any(IpAddr::is_loopback),
            "{all:?}"
        );
    }
}
