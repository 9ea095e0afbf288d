//! The work of a tree's transfer, and the connections that do it.

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, future};
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::{Client, Error};

/// Files that wait for a connection.
const QUEUE: usize = 512;

/// Work for several takers.
pub(super) struct Queue<T>(Mutex<mpsc::Receiver<T>>);

impl<T> Queue<T> {
    pub(super) fn new() -> (mpsc::Sender<T>, Self) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (sender, Self(Mutex::new(receiver)))
    }

    /// Returns the next pieces of work: up to `limit` small ones, or fewer and one that is not small
    /// as the last. Empty when there will be no more. Cancel safe.
    pub(super) async fn batch(&self, limit: usize, small: impl Fn(&T) -> bool) -> Vec<T> {
        let mut receiver = self.0.lock().await;
        let mut next = receiver.recv().await;
        let mut batch = Vec::new();
        while let Some(item) = next.take() {
            let go_on = small(&item) && batch.len() + 1 < limit;
            batch.push(item);
            if go_on {
                next = receiver.try_recv().ok();
            }
        }
        batch
    }
}

/// A connection of a worker's own. Until it is there, small work is done on the main one.
pub(super) struct Worker<'a> {
    main: Client,
    own: Own<'a>,
}

enum Own<'a> {
    /// Not asked for yet.
    Unasked,
    Coming(BoxFuture<'a, Client>),
    There(Client),
}

impl Worker<'_> {
    pub(super) fn new(main: &Client) -> Self {
        Self {
            main: main.clone(),
            own: Own::Unasked,
        }
    }

    /// Returns the connection for a small piece of work.
    pub(super) fn now(&mut self) -> Client {
        self.renew();
        if let Own::Coming(coming) = &mut self.own
            && let Some(client) = coming.now_or_never()
        {
            self.own = Own::There(client);
        }
        match &self.own {
            Own::There(client) => client.clone(),
            _ => self.main.clone(),
        }
    }

    /// Returns the connection for a large piece of work, which would keep everybody else on the main
    /// one waiting.
    pub(super) async fn own(&mut self) -> Client {
        self.renew();
        if let Own::Coming(coming) = &mut self.own {
            let client = coming.await;
            self.own = Own::There(client);
        }
        match &self.own {
            Own::There(client) => client.clone(),
            _ => self.main.clone(),
        }
    }

    /// Reports whether a request that was lost with its connection can be sent again.
    pub(super) fn can_go_on(&self) -> bool {
        !self.main.is_closed()
    }

    fn renew(&mut self) {
        let lost = |client: &Client| client.is_closed() && !self.main.is_closed();
        let renew = match &self.own {
            Own::Unasked => true,
            Own::Coming(_) => false,
            Own::There(client) => lost(client),
        };
        if renew {
            let main = self.main.clone();
            let task = AbortOnDropHandle::new(tokio::spawn(another(main)));
            let main = self.main.clone();
            let coming = task.map(move |made| made.unwrap_or(main));
            self.own = Own::Coming(coming.boxed());
        }
    }
}

/// Opens a further connection. Where the server lets none in, the main one serves.
async fn another(main: Client) -> Client {
    match main.connect_another().await {
        Some(Ok(client)) => client,
        Some(Err(error)) => {
            tracing::debug!(%error, "no further connection; the first one does the work");
            main
        }
        None => main,
    }
}

/// Visits the directories of a tree, `at_once` of them at a time but each after the one it lies in.
/// A visit returns the directories below.
pub(super) async fn for_each_directory<T, F>(
    at_once: usize,
    top: T,
    visit: impl Fn(T) -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<Vec<T>, Error>>,
{
    let mut waiting = vec![top];
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < at_once
            && let Some(next) = waiting.pop()
        {
            running.push(visit(next));
        }
        match running.next().await {
            Some(below) => waiting.extend(below?),
            None => return Ok(()),
        }
    }
}

/// Does small pieces of work, many at a time, and stops at the first error.
pub(super) async fn many<T, F>(
    work: impl IntoIterator<Item = T>,
    step: impl Fn(T) -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    const AT_ONCE: usize = 128;
    let mut results = std::pin::pin!(
        futures_util::stream::iter(work)
            .map(step)
            .buffer_unordered(AT_ONCE)
            .filter(|result| future::ready(result.is_err()))
    );
    results.next().await.unwrap_or(Ok(()))
}
