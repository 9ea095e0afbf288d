//! The default gateway, from the kernel's route tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the gateway of the default route with the lowest metric; IPv4 before IPv6.
///
/// A link-local IPv6 gateway is left out: without the interface its address reaches nobody.
#[must_use]
pub fn default_gateway() -> Option<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    parse_ipv4_routes(&read("/proc/net/route"))
        .map(IpAddr::V4)
        .or_else(|| parse_ipv6_routes(&read("/proc/net/ipv6_route")).map(IpAddr::V6))
}

/// Returns the gateway of the default route with the lowest metric in the text of `/proc/net/route`.
#[must_use]
pub fn parse_ipv4_routes(text: &str) -> Option<Ipv4Addr> {
    let routes = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        // Iface Destination Gateway Flags RefCnt Use Metric Mask …
        let destination = hex(words.nth(1)?)?;
        let gateway = hex(words.next()?)?;
        let flags = hex(words.next()?)?;
        let metric: u32 = words.nth(2)?.parse().ok()?;
        let mask = hex(words.next()?)?;
        let wanted = UP | GATEWAY;
        (destination == 0 && mask == 0 && gateway != 0 && flags & (wanted | REJECT) == wanted)
            // The kernel prints the network's bytes as a number of the machine's order.
            .then(|| (metric, Ipv4Addr::from(gateway.to_ne_bytes())))
    });
    routes
        .min_by_key(|&(metric, _)| metric)
        .map(|(_, gateway)| gateway)
}

/// Returns the gateway of the default route with the lowest metric in the text of `/proc/net/ipv6_route`.
#[must_use]
pub fn parse_ipv6_routes(text: &str) -> Option<Ipv6Addr> {
    let routes = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        // destination length source length next-hop metric references uses flags interface
        let destination = u128::from_str_radix(words.next()?, 16).ok()?;
        let length = hex(words.next()?)?;
        let gateway = Ipv6Addr::from(u128::from_str_radix(words.nth(2)?, 16).ok()?);
        let metric = hex(words.next()?)?;
        let flags = hex(words.nth(2)?)?;
        let wanted = UP | GATEWAY;
        (destination == 0
            && length == 0
            && flags & (wanted | REJECT) == wanted
            && !gateway.is_unspecified()
            && !gateway.is_unicast_link_local())
        .then_some((metric, gateway))
    });
    routes
        .min_by_key(|&(metric, _)| metric)
        .map(|(_, gateway)| gateway)
}

fn hex(word: &str) -> Option<u32> {
    u32::from_str_radix(word, 16).ok()
}

/// `RTF_UP`: the route is usable.
const UP: u32 = 0x1;
/// `RTF_GATEWAY`: the route has a gateway.
const GATEWAY: u32 = 0x2;
/// `RTF_REJECT`: the route refuses.
const REJECT: u32 = 0x200;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_lowest_metric_wins() {
        let text = format!(
            "{HEADER}eth0\t00000000\t0202000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth1\t00000000\t0138A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n\
             eth1\t0038A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        );
        assert_eq!(
            parse_ipv4_routes(&text),
            Some(Ipv4Addr::new(192, 168, 56, 1))
        );
    }

    #[test]
    fn tables_without_default_gateway_have_none() {
        for text in [
            "",
            HEADER,
            &format!("{HEADER}tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n"),
            &format!("{HEADER}eth0\t00000000\t0202000A\t0002\t0\t0\t0\t00000000\t0\t0\t0\n"),
            &format!("{HEADER}eth0\tzz\n"),
        ] {
            assert_eq!(parse_ipv4_routes(text), None, "{text}");
        }
    }

    #[test]
    fn ipv6_gateways_are_read_and_link_local_ones_are_not() {
        let zero = "0".repeat(32);
        let line = |gateway: &str, metric: &str, flags: &str| {
            format!("{zero} 00 {zero} 00 {gateway} {metric} 00000001 00000000 {flags}     eth0\n")
        };
        let global = "fd000000000000000000000000000001";
        let text = line("fe800000000000000000000000000001", "00000001", "00000003")
            + &line(global, "00000400", "00000003")
            + &line(&zero, "ffffffff", "00200200");
        assert_eq!(parse_ipv6_routes(&text), Some("fd00::1".parse().unwrap()));
        assert_eq!(parse_ipv6_routes("garbage\n"), None);
    }
}
