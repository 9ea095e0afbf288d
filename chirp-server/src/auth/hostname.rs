//! The `hostname` method: the name that the peer's address resolves to (part 2.3).

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Proof;

/// How long a name server may take; longer is a failed login, and only this client waits.
const LOOKUP_MAX: Duration = Duration::from_secs(20);

/// Lookups at once. Where no name server answers they take their threads for a long time, even when
/// their clients have gone; the threads that remain are for others' work, such as digests.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

/// Returns the name of an address; without one the method fails.
pub(super) async fn lookup(peer: IpAddr) -> Proof {
    // The system's resolver blocks, so it gets a thread of its own.
    let answer = async {
        let turn = LOOKUPS.acquire().await.ok();
        tokio::task::spawn_blocking(move || {
            let name = dns_lookup::lookup_addr(&peer);
            drop(turn);
            name
        })
        .await
    };
    let name = match tokio::time::timeout(LOOKUP_MAX, answer).await {
        Ok(Ok(Ok(name))) => name,
        Ok(Ok(Err(error))) => {
            tracing::debug!(target: "dns", %peer, %error, "no name for the peer's address");
            return Proof::Failed;
        }
        Ok(Err(_)) | Err(_) => {
            tracing::debug!(target: "dns", %peer, "looking up the peer's name took too long");
            return Proof::Failed;
        }
    };
    // Without a name the resolver returns the address itself.
    if name.parse::<IpAddr>().is_ok() {
        return Proof::Failed;
    }
    Proof::Given(name.into_bytes())
}
