//! What waits to be sent on one connection, bounded.

use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The queue of one connection. Anybody may put into it; only the connection's task takes out.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<Queue>,
    ready: Notify,
    unsent: usize,
    unsent_conflated: usize,
}

/// What a frame is replaced by when the queue is over its limit: the newest of the same key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PresenceKey(pub(super) String);

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Number of the entry at the front since the start, so that positions stay good while it moves.
    front: u64,
    newest: HashMap<PresenceKey, u64>,
    ended: Option<Ending>,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    key: Option<PresenceKey>,
}

/// Why nothing more is put into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The subscriber is too slow.
    Slow,
    /// The connection closes once the queue is empty.
    Closing,
}

impl Outbox {
    pub(super) fn new(unsent: usize, unsent_conflated: usize) -> Self {
        Self {
            state: Mutex::default(),
            ready: Notify::new(),
            unsent,
            unsent_conflated,
        }
    }

    /// Puts a frame's bytes at the end; over the limit, in the place of the newest of the same key.
    pub(super) fn push(&self, bytes: Bytes, key: Option<PresenceKey>) {
        let mut queue = self.lock();
        if queue.ended.is_some() {
            return;
        }
        if queue.bytes + bytes.len() > self.unsent {
            let Some(key) = &key else {
                return self.give_up(queue);
            };
            // In place: what was sent before it stays before it, and the queue does not grow.
            if let Some(entry) = queue.newest_of(key) {
                let old = std::mem::replace(&mut entry.bytes, bytes);
                let new = entry.bytes.len();
                queue.bytes = queue.bytes + new - old.len();
                return;
            }
            if queue.bytes + bytes.len() > self.unsent_conflated {
                return self.give_up(queue);
            }
        }
        if let Some(key) = &key {
            let position = queue.front + queue.entries.len() as u64;
            queue.newest.insert(key.clone(), position);
        }
        queue.bytes += bytes.len();
        queue.entries.push_back(Entry { bytes, key });
        drop(queue);
        self.ready.notify_one();
    }

    /// Puts the last bytes of the connection at the end; nothing is taken after them.
    pub(super) fn close(&self, last: Option<Bytes>) {
        let mut queue = self.lock();
        if queue.ended != Some(Ending::Closing) {
            queue.ended = Some(Ending::Closing);
            if let Some(bytes) = last {
                queue.bytes += bytes.len();
                queue.entries.push_back(Entry { bytes, key: None });
            }
        }
        drop(queue);
        self.ready.notify_one();
    }

    /// Makes an ended queue take one last frame again, through [`Self::close`].
    pub(super) fn reopen(&self) {
        self.lock().ended = None;
    }

    /// Takes the next bytes, several frames together while they are small; waits where there are none.
    ///
    /// Cancel safe: bytes are taken only when they are returned.
    pub(super) async fn take(&self) -> Taken {
        loop {
            {
                let mut queue = self.lock();
                if queue.ended == Some(Ending::Slow) {
                    return Taken::Slow;
                }
                if let Some(bytes) = queue.take() {
                    return Taken::Bytes(bytes);
                }
                if queue.ended.is_some() {
                    return Taken::Closed;
                }
            }
            self.ready.notified().await;
        }
    }

    fn give_up(&self, mut queue: MutexGuard<'_, Queue>) {
        *queue = Queue {
            ended: Some(Ending::Slow),
            ..Queue::default()
        };
        drop(queue);
        self.ready.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics half-way through a change, so a poisoned queue is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Outbox::take`] finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Bytes to be written.
    Bytes(Bytes),
    /// The subscriber was too slow; its queue is dropped.
    Slow,
    /// Nothing more will come.
    Closed,
}

impl Queue {
    fn newest_of(&mut self, key: &PresenceKey) -> Option<&mut Entry> {
        let position = *self.newest.get(key)?;
        let index = usize::try_from(position.checked_sub(self.front)?).ok()?;
        self.entries.get_mut(index)
    }

    fn take(&mut self) -> Option<Bytes> {
        let first = self.pop()?;
        let Some(next) = self.entries.front() else {
            return Some(first);
        };
        if first.len() + next.bytes.len() > TOGETHER {
            return Some(first);
        }
        let mut together = BytesMut::from(first.as_ref());
        while let Some(next) = self.entries.front()
            && together.len() + next.bytes.len() <= TOGETHER
            && let Some(bytes) = self.pop()
        {
            together.extend_from_slice(&bytes);
        }
        Some(together.freeze())
    }

    fn pop(&mut self) -> Option<Bytes> {
        let entry = self.entries.pop_front()?;
        if let Some(key) = &entry.key
            && self.newest.get(key) == Some(&self.front)
        {
            self.newest.remove(key);
        }
        self.front += 1;
        self.bytes -= entry.bytes.len();
        if self.entries.is_empty() {
            // A burst's memory is not kept for ever.
            self.entries.shrink_to(64);
            self.newest.shrink_to(64);
        }
        Some(entry.bytes)
    }
}

/// Small frames are written together up to this many bytes.
const TOGETHER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<PresenceKey> {
        Some(PresenceKey(text.to_owned()))
    }

    async fn all(outbox: &Outbox) -> Vec<u8> {
        outbox.close(None);
        let mut out = Vec::new();
        loop {
            match outbox.take().await {
                Taken::Bytes(bytes) => out.extend_from_slice(&bytes),
                Taken::Closed => return out,
                Taken::Slow => panic!("too slow"),
            }
        }
    }

    #[tokio::test]
    async fn below_the_limit_everything_is_kept_in_order() {
        let outbox = Outbox::new(100, 200);
        for text in ["a1", "b1", "a2", "x"] {
            outbox.push(text.into(), key(&text[..1]));
        }
        assert_eq!(all(&outbox).await, b"a1b1a2x");
    }

    #[tokio::test]
    async fn above_it_only_the_newest_of_each_guest() {
        let outbox = Outbox::new(6, 10);
        for text in ["a1", "b1", "a2", "b2", "a3", "b3", "c1", "c2"] {
            outbox.push(text.into(), key(&text[..1]));
        }
        assert_eq!(all(&outbox).await, b"a1b3a3c2");
    }

    #[tokio::test]
    async fn anything_else_above_it_ends_the_subscriber() {
        let outbox = Outbox::new(4, 100);
        outbox.push("abcd".into(), key("a"));
        outbox.push("e".into(), None);
        assert_eq!(outbox.take().await, Taken::Slow);
    }

    #[tokio::test]
    async fn presence_of_too_many_guests_ends_it_too() {
        let outbox = Outbox::new(4, 8);
        for name in ["a", "b", "c"] {
            outbox.push(name.repeat(4).into(), key(name));
        }
        assert_eq!(outbox.take().await, Taken::Slow);
    }

    #[tokio::test]
    async fn taking_keeps_the_index_right() {
        let outbox = Outbox::new(40_000, 60_000);
        let big = |letter: u8| Bytes::from(vec![letter; 15_000]);
        outbox.push(big(b'a'), key("a"));
        outbox.push(big(b'b'), key("b"));
        assert_eq!(outbox.take().await, Taken::Bytes(big(b'a')));
        outbox.push(big(b'c'), key("c"));
        outbox.push(big(b'B'), key("b"));
        outbox.push(big(b'A'), key("a"));
        assert_eq!(outbox.take().await, Taken::Bytes(big(b'B')));
        assert_eq!(outbox.take().await, Taken::Bytes(big(b'c')));
        assert_eq!(outbox.take().await, Taken::Bytes(big(b'A')));
    }
}
