//! News of a new generation id, which hypervisors give to machines that they restore or copy.
//!
//! Linux tells it from 6.10 on, as an event of the device, where the id is another one; earlier ones only make their
//! random numbers new. QEMU's notification that it may be is counted by every kernel with ACPI, as every event of
//! the machine's is: when QEMU loads a machine's memory, in the same process or another.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use tokio::io::unix::AsyncFd;

use super::watched;

/// The multicast group of events that come from the kernel itself.
const KERNEL: u32 = 1;

/// Bytes of an event at most; the kernel has the same figure.
const EVENT_MAX: usize = 2048;

/// QEMU's device that has the id.
const DEVICE: &str = "/sys/bus/acpi/devices/QEMUVGID:00";

/// How often the kernel has seen the event that QEMU notifies by: number 5 on each of its machines of this kind.
const COUNT: &str = "/sys/firmware/acpi/interrupts/gpe05";

/// How often the count is looked at, which nobody tells of.
const EVERY: Duration = Duration::from_secs(1);

/// QEMU's notifications.
#[derive(Debug)]
pub(super) struct Notifications {
    file: PathBuf,
    seen: u64,
    /// How often it is looked.
    every: Duration,
}

impl Notifications {
    /// Begins to count; none where the machine has no such device.
    pub(super) fn open() -> Option<Self> {
        if !Path::new(DEVICE).exists() {
            return None;
        }
        let file = PathBuf::from(COUNT);
        let seen = count(&file)?;
        Some(Self {
            file,
            seen,
            every: EVERY,
        })
    }

    /// Waits for another one.
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) {
        loop {
            tokio::time::sleep(self.every).await;
            let Some(now) = count(&self.file) else {
                continue;
            };
            if std::mem::replace(&mut self.seen, now) != now {
                return;
            }
        }
    }
}

/// Returns the number at the beginning of a file of the kernel's, if there is one.
fn count(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// The kernel's events.
#[derive(Debug)]
pub(super) struct Generations(AsyncFd<OwnedFd>);

impl Generations {
    /// Begins to listen; none where the system does not let this process.
    pub(super) fn open() -> Option<Self> {
        let open = || -> std::io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (family, kind) = (AddressFamily::NETLINK, SocketType::DGRAM);
            let socket = socket_with(family, kind, flags, Some(KOBJECT_UEVENT))?;
            bind(&socket, &SocketAddrNetlink::new(0, KERNEL))?;
            Ok(Self(watched(socket)?))
        };
        open()
            .inspect_err(|error| {
                tracing::debug!(%error, "no news of generation ids from the kernel");
            })
            .ok()
    }

    /// Waits for a new generation id.
    ///
    /// Cancel safe.
    pub(super) async fn next(&self) {
        loop {
            let Ok(mut ready) = self.0.readable().await else {
                return std::future::pending().await;
            };
            let mut event = [0; EVENT_MAX];
            match recvfrom(&self.0, &mut event, RecvFlags::empty()) {
                Ok((length, _, from)) => {
                    let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                    // Other processes may send here, too.
                    let kernels = from.is_some_and(|from| from.pid() == 0);
                    if kernels && is_new(event.get(..length).unwrap_or_default()) {
                        return;
                    }
                }
                // More events than there was room for: one of them may have been it, and most likely none.
                Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => {
                    tracing::debug!(%error, "no news of generation ids any more");
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// Returns whether an event says that there is a new id.
fn is_new(event: &[u8]) -> bool {
    event
        .split(|&byte| byte == 0)
        .any(|word| word == b"NEW_VMGENID=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_change_of_the_count_is_a_notification() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gpe05");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("       0  EN     enabled      unmasked\n");
        let mut notifications = Notifications {
            file: file.clone(),
            seen: count(&file).unwrap(),
            every: Duration::from_millis(1),
        };
        let quiet = async |notifications: &mut Notifications| {
            let next = tokio::time::timeout(Duration::from_millis(50), notifications.next());
            assert!(next.await.is_err(), "nothing changed");
        };
        quiet(&mut notifications).await;
        write("       2  EN     enabled      unmasked\n");
        notifications.next().await;
        quiet(&mut notifications).await;
        // A snapshot has an earlier count.
        write("       1  EN     enabled      unmasked\n");
        notifications.next().await;
        write("nonsense");
        quiet(&mut notifications).await;
    }

    #[test]
    fn only_the_event_of_a_new_id_is_one() {
        let event =
            b"change@/devices/LNXSYSTM:00/QEMUVGID:00\0ACTION=change\0NEW_VMGENID=1\0SEQNUM=9\0";
        assert!(is_new(event));
        for other in [&b""[..], b"change@/devices/x\0NEW_VMGENID=10\0", b"\0\0"] {
            assert!(!is_new(other));
        }
    }
}
