//! The tap device that joins a machine to a bridge of the host: prepared by root for the user whose machine it
//! is, or made by QEMU itself where the agent may change the network.

use std::fs::{self, OpenOptions};
use std::io;
use std::time::Duration;

use rustix::thread::CapabilitySet;
use serde::Deserialize;

use crate::hypervisor::tool::Tool;
use crate::hypervisor::{Error, Finding};

/// Where the kernel gives tap devices out.
const TUN: &str = "/dev/net/tun";

/// How long one of the kernel's answers may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A device as `ip -json link` describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Device {
    /// The bridge that it is on.
    master: Option<String>,
    flags: Vec<String>,
}

/// Looks, before QEMU starts, whether the machine can have its tap device. Returns whether it is there and on
/// its bridge; otherwise QEMU will make it, and [`attach`] is to be called then.
///
/// # Errors
///
/// There is no such bridge, or this user can neither use nor make the device; with the commands that prepare it.
pub(super) async fn prepare(tap: &str, bridge: &str) -> Result<bool, Error> {
    if device(bridge).await?.is_none() {
        return Err(Error::Failed {
            what: format!("using the bridge {bridge}"),
            said: format!("there is none on this host; {}", bridge_remedy(bridge)),
        });
    }
    openable().map_err(|(what, remedy)| Error::Rights { what, remedy })?;
    match device(tap).await? {
        Some(device) if is_joined(&device, bridge) => Ok(true),
        Some(_) => attach(tap, bridge).await.map(|()| true),
        None if may_administer() => Ok(false),
        None => Err(Error::Rights {
            what: format!("making the tap device {tap}"),
            remedy: remedy(tap, bridge),
        }),
    }
}

/// Puts a tap device onto its bridge and turns it on.
///
/// # Errors
///
/// The kernel refuses that; with the commands that prepare the device.
pub(super) async fn attach(tap: &str, bridge: &str) -> Result<(), Error> {
    let arguments = ["link", "set", "dev", tap, "master", bridge, "up"];
    let output = ip().run(arguments, LIMIT).await?;
    if output.code == 0 {
        return Ok(());
    }
    Err(Error::Failed {
        what: format!("putting {tap} onto the bridge {bridge}"),
        said: format!("{}; {}", output.said(), remedy(tap, bridge)),
    })
}

/// Returns what is to be said of a bridge that machines are made on.
pub(super) async fn findings(bridge: &str) -> Vec<Finding> {
    let found = match device(bridge).await {
        Ok(Some(_)) => Finding::good(format!("the bridge {bridge}")),
        Ok(None) => Finding::bad(
            format!("there is no bridge {bridge} on this host"),
            bridge_remedy(bridge),
        ),
        Err(error) => Finding::bad(error.to_string(), "install iproute2"),
    };
    let device = match openable() {
        Ok(()) if may_administer() => Finding::good(format!("{TUN}: tap devices can be made")),
        Ok(()) => Finding::good(format!(
            "{TUN}: this user can use tap devices; root prepares one for each machine"
        )),
        Err((what, remedy)) => Finding::bad(format!("{what}: not permitted"), remedy),
    };
    vec![found, device]
}

/// Returns the bytes that the guest received and sent by its tap device.
pub(super) fn traffic(tap: &str) -> Option<(f64, f64)> {
    // Of the network that this thread is in, whatever network /sys was mounted in.
    received_and_sent(&fs::read_to_string("/proc/thread-self/net/dev").ok()?, tap)
}

/// Reads the table `net/dev`. What the host sends is what the guest receives.
fn received_and_sent(table: &str, tap: &str) -> Option<(f64, f64)> {
    let figures = table.lines().find_map(|line| {
        let (name, figures) = line.split_once(':')?;
        (name.trim() == tap).then_some(figures)
    })?;
    let mut figures = figures.split_whitespace();
    let sent = figures.next()?.parse().ok()?;
    let received = figures.nth(7)?.parse().ok()?;
    Some((received, sent))
}

/// Returns a network device of this host; nothing where there is none of that name.
async fn device(name: &str) -> Result<Option<Device>, Error> {
    let output = ip()
        .run(["-json", "link", "show", "dev", name], LIMIT)
        .await?;
    if output.code != 0 {
        return Ok(None);
    }
    let devices: Vec<Device> =
        serde_json::from_str(&output.out).map_err(|error| Error::BadAnswer {
            what: format!("ip -json link show dev {name}"),
            reason: error.to_string(),
        })?;
    Ok(devices.into_iter().next())
}

fn is_joined(device: &Device, bridge: &str) -> bool {
    device.master.as_deref() == Some(bridge) && device.flags.iter().any(|flag| flag == "UP")
}

/// Looks whether this user gets tap devices at all; else what was tried, and the remedy.
fn openable() -> Result<(), (String, String)> {
    let opened = OpenOptions::new().read(true).write(true).open(TUN);
    let remedy = match opened {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => format!(
            "let this user have it, as root: chmod 666 {TUN} (a device is still only its own user's)"
        ),
        Err(error) => format!("{error}; load the kernel's module, as root: modprobe tun"),
    };
    Err((format!("opening {TUN}"), remedy))
}

/// Returns whether this process may change the network.
fn may_administer() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

fn remedy(tap: &str, bridge: &str) -> String {
    let user = rustix::process::geteuid();
    format!(
        "prepare it as root: ip tuntap add dev {tap} mode tap user {user} && ip link set dev {tap} master {bridge} up"
    )
}

fn bridge_remedy(bridge: &str) -> String {
    format!(
        "make it as root: ip link add name {bridge} type bridge && ip address add 192.168.56.1/24 dev {bridge} && ip \
         link set {bridge} up"
    )
}

fn ip() -> Tool {
    Tool::new("ip", None, "install iproute2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_joined_that_is_up_and_on_that_bridge() {
        let text = r#"[{"ifindex":3,"ifname":"vm-000001","flags":["NO-CARRIER","UP"],"master":"br0","mtu":1500}]"#;
        let devices: Vec<Device> = serde_json::from_str(text).unwrap();
        assert!(is_joined(&devices[0], "br0"));
        assert!(!is_joined(&devices[0], "br"));
        let down = text.replace(",\"UP\"", "");
        let devices: Vec<Device> = serde_json::from_str(&down).unwrap();
        assert!(!is_joined(&devices[0], "br0"));
        let alone = text.replace("master", "link");
        let devices: Vec<Device> = serde_json::from_str(&alone).unwrap();
        assert!(!is_joined(&devices[0], "br0"));
    }

    #[test]
    fn traffic_is_the_guest_s_and_of_no_other_device() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n\
             vm-0000011: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n  \
             vm-000001: 700 7 0 0 0 0 0 0 900 9 0 0 0 0 0 0\n";
        assert_eq!(received_and_sent(table, "vm-000001"), Some((900.0, 700.0)));
        assert_eq!(received_and_sent(table, "vm-000002"), None);
        assert_eq!(received_and_sent("vm-000001: 1 2", "vm-000001"), None);
        assert_eq!(received_and_sent("vm-000001: x", "vm-000001"), None);
    }
}
