//! Which job runs when: the one that was committed first, as long as fewer run than may.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::job::State;
use super::run::{self, Ground};
use super::{Shared, lock, now};
use crate::server::Server;

/// How often old jobs are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Starts committed jobs until the server stops.
pub(super) async fn run(shared: Arc<Shared>, server: Arc<Server>, port: u16) {
    let ground = Arc::new(Ground { server, port });
    let mut forget = tokio::time::interval(FORGET_EVERY);
    loop {
        let work = shared.work.notified();
        start_all(&shared, &ground);
        tokio::select! {
            () = work => {}
            _ = forget.tick() => forget_outdated(&shared).await,
            () = shared.stopping.cancelled() => return,
        }
    }
}

fn start_all(shared: &Arc<Shared>, ground: &Arc<Ground>) {
    loop {
        // One lock after the other: what is claimed is nobody else's.
        if shared.stopping.is_cancelled()
            || lock(&shared.working).len() >= shared.settings.concurrency
        {
            return;
        }
        let Some(job) = lock(&shared.table).claim_next() else {
            return;
        };
        let token = CancellationToken::new();
        lock(&shared.working).insert(job.id, token.clone());
        if shared.stopping.is_cancelled() {
            // It slipped in while all were being ended.
            token.cancel();
        }
        let (shared, ground) = (Arc::clone(shared), Arc::clone(ground));
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let id = job.id;
            run::run(&shared, &ground, job, token).await;
            lock(&shared.working).remove(&id);
            lock(&shared.table).update(id, |job| {
                // One that the server's stop has left COMMITTED is not begun again.
                job.claimed = job.state == State::Committed;
            });
            shared.work.notify_one();
        });
    }
}

async fn forget_outdated(shared: &Arc<Shared>) {
    let outdated = lock(&shared.table).outdated(now());
    if outdated.is_empty() {
        return;
    }
    // Where the disk is full they are forgotten the next time.
    let _ = shared
        .exclusively(move |shared, store| shared.forget(store, outdated))
        .await;
}
