//! News of a new generation id, which hypervisors give to machines that they restore or copy.
//!
//! Linux tells it from 6.10 on, as an event of the device; earlier ones only make their random numbers new.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};
use tokio::io::unix::AsyncFd;

use super::watched;

/// The multicast group of events that come from the kernel itself.
const KERNEL: u32 = 1;

/// Bytes of an event at most; the kernel has the same figure.
const EVENT_MAX: usize = 2048;

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
