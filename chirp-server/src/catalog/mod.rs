//! Status records for cctools' catalog, so that `chirp_status` lists this server
//! (`chirp-protocol.md`, part 10). Off unless `-u` names a catalog.

mod clients;
mod record;
mod send;
mod uuid;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

pub use clients::{Clients, Tally};
pub use record::Description;
pub use send::Transport;
pub use uuid::tree_id;

use record::record;
use send::Catalog;

/// Updates to one catalog that may be under way at once. One that answers no name lookup holds up its
/// own updates only, and these many of them.
const UNDER_WAY_MAX: usize = 1;

/// Sends records to catalogs, until dropped.
#[derive(Debug)]
pub struct Advertiser {
    /// Catalogs, `HOST` or `HOST:PORT`.
    pub catalogs: Vec<String>,
    /// How records travel.
    pub transport: Transport,
    /// How often.
    pub interval: Duration,
    /// What does not change.
    pub description: Description,
    /// What the clients did.
    pub clients: Arc<Clients>,
}

impl Advertiser {
    /// Sends a record to each catalog now and then at each interval, until dropped.
    pub async fn run(self) {
        let mut catalogs: Vec<(Catalog, JoinSet<()>)> = self
            .catalogs
            .iter()
            .map(|name| (Catalog::named(name), JoinSet::new()))
            .collect();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let record = record(&self.description, &self.clients.take());
            let record: Arc<[u8]> = record.to_string().into_bytes().into();
            for (catalog, under_way) in &mut catalogs {
                while under_way.try_join_next().is_some() {}
                if under_way.len() >= UNDER_WAY_MAX {
                    tracing::warn!(target: "catalog", %catalog, "the update before this one still waits; left out");
                    continue;
                }
                let (catalog, record) = (catalog.clone(), Arc::clone(&record));
                under_way.spawn(async move {
                    match catalog.send(self.transport, &record).await {
                        Ok(to) => tracing::debug!(target: "catalog", %catalog, %to, bytes = record.len(), "update sent"),
                        Err(error) => tracing::warn!(target: "catalog", %catalog, %error, "cannot reach the catalog"),
                    }
                });
            }
        }
    }
}
