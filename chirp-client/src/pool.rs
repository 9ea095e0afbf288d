//! Several connections to one server, for programs with much to do at once.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Client, ConnectOptions, Error};

/// Up to a number of connections to one server, opened as they are needed.
///
/// One connection answers in order, so a large body holds everything behind it back: a pool gives
/// each user the connection with the fewest users, and opens another one while all are in use and
/// there may be more. A connection that was lost is not given out again.
///
/// ```no_run
/// use chirp_client::{ConnectOptions, VirtualPath, pool::Pool};
///
/// # async fn example(paths: Vec<VirtualPath>) -> Result<(), chirp_client::Error> {
/// let pool = Pool::new(ConnectOptions::new("guest:9094".parse()?), 4);
/// let mut tasks = tokio::task::JoinSet::new();
/// for path in paths {
///     let pool = pool.clone();
///     tasks.spawn(async move {
///         let client = pool.client().await?;
///         client.sha256(&path).await
///     });
/// }
/// while let Some(Ok(digest)) = tasks.join_next().await {
///     println!("{:x?}", digest?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    options: ConnectOptions,
    limit: usize,
    slots: Mutex<Slots>,
    /// Held while a connection is opened, so that a crowd does not open more than are needed.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Slots {
    open: Vec<Slot>,
}

#[derive(Clone)]
struct Slot {
    client: Client,
    users: Arc<AtomicUsize>,
}

impl Slot {
    fn users(&self) -> usize {
        self.users.load(Ordering::Relaxed)
    }

    fn taken(&self) -> Pooled {
        self.users.fetch_add(1, Ordering::Relaxed);
        Pooled { slot: self.clone() }
    }
}

impl Pool {
    /// Makes a pool of at most `limit` connections, at least one; none is opened yet.
    #[must_use]
    pub fn new(options: ConnectOptions, limit: usize) -> Self {
        let shared = Shared {
            options,
            limit: limit.max(1),
            slots: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns a connection: a new one if all are in use and there may be more, else the one with
    /// the fewest users.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`], if there is no connection to fall back on.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn client(&self) -> Result<Pooled, Error> {
        if let Some(idle) = self.slots().pick(|slot| slot.users() == 0) {
            return Ok(idle);
        }
        let _turn = self.shared.opening.lock().await;
        {
            let slots = self.slots();
            let full = slots.open.len() >= self.shared.limit;
            if let Some(found) = slots.pick(|slot| full || slot.users() == 0) {
                return Ok(found);
            }
        }
        match Client::connect(self.shared.options.clone()).await {
            Ok(client) => {
                let users = Arc::default();
                let slot = Slot { client, users };
                let taken = slot.taken();
                self.slots().open.push(slot);
                Ok(taken)
            }
            // A server that lets no more in serves those that are in.
            Err(error) => self.slots().pick(|_| true).ok_or(error),
        }
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots().open.len()
    }

    /// Returns the connections, without those that were lost.
    fn slots(&self) -> MutexGuard<'_, Slots> {
        let slots = self.shared.slots.lock();
        // A list of connections is whole after every step.
        let mut slots = slots.unwrap_or_else(PoisonError::into_inner);
        let repairs = self.shared.options.reconnect.is_some();
        slots
            .open
            .retain(|slot| repairs || !slot.client.is_closed());
        slots
    }
}

impl Slots {
    /// Takes the connection with the fewest users among those that will do.
    fn pick(&self, will_do: impl Fn(&Slot) -> bool) -> Option<Pooled> {
        let candidates = self.open.iter().filter(|slot| will_do(slot));
        candidates.min_by_key(|slot| slot.users()).map(Slot::taken)
    }
}

/// A connection of a pool, in use until this is dropped. Bodies and streams count as use: keep this
/// as long as them.
pub struct Pooled {
    slot: Slot,
}

impl Deref for Pooled {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.slot.client
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.slot.users.fetch_sub(1, Ordering::Relaxed);
    }
}
