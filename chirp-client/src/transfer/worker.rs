//! The work of a tree's transfer, and the connections that do it.

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Mutex, mpsc};

use crate::{Client, Error};

/// Files that wait for a connection.
pub(super) const QUEUE: usize = 128;

/// Work for several takers.
pub(super) struct Queue<T>(Mutex<mpsc::Receiver<T>>);

impl<T> Queue<T> {
    pub(super) fn new() -> (mpsc::Sender<T>, Self) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (sender, Self(Mutex::new(receiver)))
    }

    /// Returns the next piece of work; `None` when there will be no more. Cancel safe.
    pub(super) async fn next(&self) -> Option<T> {
        self.0.lock().await.recv().await
    }
}

/// A connection of a worker's own, opened when it is first needed.
pub(super) struct Worker {
    main: Client,
    own: Option<Client>,
}

impl Worker {
    pub(super) fn new(main: &Client) -> Self {
        Self {
            main: main.clone(),
            own: None,
        }
    }

    /// Returns the worker's connection. Where the server lets no further one in, the main one
    /// serves.
    pub(super) async fn client(&mut self) -> Result<Client, Error> {
        if let Some(own) = self.own.take_if(|own| !own.is_closed()) {
            return Ok(self.own.insert(own).clone());
        }
        let client = match self.main.connect_another().await {
            Some(Ok(client)) => client,
            Some(Err(error)) => {
                tracing::debug!(%error, "no further connection; the first one does the work");
                self.main.clone()
            }
            None => self.main.clone(),
        };
        Ok(self.own.insert(client).clone())
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
