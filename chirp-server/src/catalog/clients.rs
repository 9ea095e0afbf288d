//! What clients did, counted for the catalog: requests and bytes by address.
//!
//! Counting is a few relaxed additions on counters that only connections from one address share, and
//! only where a catalog is told; the table is touched when connections come and go.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Addresses that are counted apart at once. The rest is in the total only.
const ADDRESSES_MAX: usize = 4096;

/// Counts of requests and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Requests.
    pub(super) requests: u64,
    /// Bytes of files sent to clients.
    pub(super) read: u64,
    /// Bytes of files received from them.
    pub(super) written: u64,
}

impl Counts {
    const fn add(&mut self, other: Self) {
        self.requests = self.requests.wrapping_add(other.requests);
        self.read = self.read.wrapping_add(other.read);
        self.written = self.written.wrapping_add(other.written);
    }
}

/// The counters of one address.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
}

impl Counters {
    /// Returns what was counted since this was asked last.
    fn take(&self) -> Counts {
        Counts {
            requests: self.requests.swap(0, Ordering::Relaxed),
            read: self.read.swap(0, Ordering::Relaxed),
            written: self.written.swap(0, Ordering::Relaxed),
        }
    }
}

/// One connection's way to the counters of its address.
#[derive(Clone, Debug)]
pub struct Tally(Arc<Counters>);

impl Tally {
    /// Counts a request.
    pub fn request(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes sent to the client.
    pub fn read(&self, bytes: u64) {
        self.0.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes received from the client.
    pub fn written(&self, bytes: u64) {
        self.0.written.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The counters of all clients.
#[derive(Debug, Default)]
pub struct Clients(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    addresses: HashMap<IpAddr, Arc<Counters>>,
    /// Of clients that found the table full.
    others: Arc<Counters>,
    total: Counts,
}

/// What clients did since the last update, and all of them since the start.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) total: Counts,
    pub(super) clients: Vec<(IpAddr, Counts)>,
}

impl Clients {
    /// Returns the counters for a connection from this address.
    #[must_use]
    pub fn tally(&self, address: IpAddr) -> Tally {
        let mut table = self.lock();
        if let Some(counters) = table.addresses.get(&address) {
            return Tally(Arc::clone(counters));
        }
        if table.addresses.len() >= ADDRESSES_MAX {
            return Tally(Arc::clone(&table.others));
        }
        let counters = Arc::default();
        table.addresses.insert(address, Arc::clone(&counters));
        Tally(counters)
    }

    /// Returns what was counted since this was asked last, and forgets addresses that left.
    pub(super) fn take(&self) -> Activity {
        let mut table = self.lock();
        let mut sum = table.others.take();
        let mut clients = Vec::new();
        table.addresses.retain(|address, counters| {
            // Before the counts: who leaves in between is counted, and forgotten the next time.
            let here = Arc::strong_count(counters) > 1;
            let counts = counters.take();
            if counts != Counts::default() {
                sum.add(counts);
                clients.push((*address, counts));
            }
            here
        });
        table.total.add(sum);
        Activity {
            total: table.total,
            clients,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: u64, read: u64, written: u64) -> Counts {
        Counts {
            requests,
            read,
            written,
        }
    }

    #[test]
    fn clients_are_counted_by_address_since_the_last_update() {
        let clients = Clients::default();
        let here = IpAddr::from([127, 0, 0, 1]);
        let (first, second) = (clients.tally(here), clients.tally(here));
        first.request();
        second.request();
        second.read(10);
        first.written(5);
        let activity = clients.take();
        assert_eq!(activity.total, counts(2, 10, 5));
        assert_eq!(activity.clients, [(here, counts(2, 10, 5))]);
        drop(second);
        first.request();
        assert_eq!(clients.take().clients, [(here, counts(1, 0, 0))]);
        let quiet = clients.take();
        assert_eq!((quiet.total, quiet.clients), (counts(3, 10, 5), vec![]));
    }

    #[test]
    fn addresses_that_left_are_forgotten_after_they_were_told() {
        let clients = Clients::default();
        for number in 0..=255 {
            clients.tally(IpAddr::from([10, 0, 0, number])).request();
        }
        assert_eq!(clients.lock().addresses.len(), 256);
        assert_eq!(clients.take().clients.len(), 256);
        assert_eq!(clients.lock().addresses.len(), 0);
    }

    #[test]
    fn the_table_is_bounded_and_the_total_is_not_wrong() {
        let clients = Clients::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..10_000 {
            clients.tally(address(number)).request();
        }
        let activity = clients.take();
        assert_eq!(activity.clients.len(), ADDRESSES_MAX);
        assert_eq!(activity.total, counts(10_000, 0, 0));
    }
}
