//! The user's own terminal while a program on the server has one: keys go there as they are typed.

use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use chirp_client::exec::{Control, Terminal};
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::Failure;
use crate::stdin;

/// The size where the terminal does not tell its own, or there is none.
const SIZE_UNKNOWN: Terminal = Terminal { rows: 24, cols: 80 };

/// Says whether standard input is a terminal.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// Returns the size of the user's terminal.
pub(super) fn size() -> Terminal {
    match tcgetwinsize(stdin()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => Terminal {
            rows: size.ws_row,
            cols: size.ws_col,
        },
        _ => SIZE_UNKNOWN,
    }
}

/// The user's terminal in raw mode. Dropped, it is as it was.
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Has every key handed over at once, without echo and without meaning here.
    pub(super) fn enter() -> Result<Self, Failure> {
        let failed = |error| Failure::Other(format!("failed to set up the terminal: {error}"));
        let before = tcgetattr(stdin()).map_err(failed)?;
        let raw = Self { before };
        raw.again().map_err(failed)?;
        Ok(raw)
    }

    /// Enters raw mode once more, after [`Raw::leave`] or after somebody else changed it.
    pub(super) fn again(&self) -> rustix::io::Result<()> {
        let mut modes = self.before.clone();
        modes.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &modes)
    }

    /// Makes the terminal what it was.
    pub(super) fn leave(&self) {
        // Only a terminal that is gone refuses.
        let _gone = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The keys that leave a program to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// What `--detach-keys` has without being given.
    pub(super) const DEFAULT: &str = "ctrl-p,ctrl-q";

    /// Reads `ctrl-p,ctrl-q`, `~,.` or nothing.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let key = |word: &str| match (word.strip_prefix("ctrl-"), word.as_bytes()) {
            (None, &[key @ b' '..=b'~']) => Ok(key),
            (Some(name), _) => match name.to_ascii_uppercase().as_bytes() {
                &[name @ b'@'..=b'_'] => Ok(name & 0x1f),
                _ => Err(word.to_owned()),
            },
            _ => Err(word.to_owned()),
        };
        let keys: Result<Vec<u8>, String> = text.split(',').map(key).collect();
        keys.map(Self).map_err(|word| {
            format!("{word:?} is no key: keys are single characters and ctrl-a to ctrl-z, with commas between")
        })
    }
}

/// What is typed, until the keys for that say that the program is to be left.
pub(super) struct Keys<R> {
    source: R,
    detach: DetachKeys,
    /// How many of the keys came last and were held back.
    held: usize,
    /// Bytes to be handed out before the next is read.
    waiting: Vec<u8>,
    control: mpsc::Sender<Control>,
    left: Arc<AtomicBool>,
}

/// Reads standard input. `left` is set when the keys to leave were typed, and `control` told.
pub(super) fn keys(
    detach: DetachKeys,
    control: mpsc::Sender<Control>,
    left: Arc<AtomicBool>,
) -> Keys<impl AsyncRead + Unpin> {
    Keys {
        source: stdin::reading(io::stdin()),
        detach,
        held: 0,
        waiting: Vec::new(),
        control,
        left,
    }
}

impl<R> Keys<R> {
    /// Takes what was typed in and hands what is no part of the sequence on.
    fn take(&mut self, typed: &[u8]) {
        let keys = &self.detach.0;
        for &byte in typed {
            if keys.get(self.held) == Some(&byte) {
                self.held += 1;
                if self.held == keys.len() {
                    self.left.store(true, Ordering::Relaxed);
                    // A full queue has a message that ends the stream as well.
                    let _ended = self.control.try_send(Control::Detach);
                    return;
                }
                continue;
            }
            // The held keys were meant; this one may begin the sequence anew.
            self.waiting
                .extend(keys.get(..self.held).unwrap_or_default());
            self.held = usize::from(keys.first() == Some(&byte));
            if self.held == 0 {
                self.waiting.push(byte);
            }
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Keys<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.waiting.is_empty() {
            if this.left.load(Ordering::Relaxed) {
                // Nothing that is typed now is for the program.
                return Poll::Pending;
            }
            let mut space = [0; 4096];
            let mut typed = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.source).poll_read(context, &mut typed))?;
            if typed.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.take(typed.filled());
        }
        let count = this.waiting.len().min(buffer.remaining());
        let rest = this.waiting.split_off(count);
        buffer.put_slice(&std::mem::replace(&mut this.waiting, rest));
        Poll::Ready(Ok(()))
    }
}

/// Input that never comes and never ends.
pub(super) struct Silence;

impl AsyncRead for Silence {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Types, and returns what arrives and whether the program was left.
    async fn typed(sequence: &str, typed: &[u8]) -> (Vec<u8>, bool) {
        let (control, mut told) = mpsc::channel(1);
        let left = Arc::new(AtomicBool::new(false));
        let mut keys = Keys {
            source: one_by_one(typed),
            detach: DetachKeys::parse(sequence).unwrap(),
            held: 0,
            waiting: Vec::new(),
            control,
            left: Arc::clone(&left),
        };
        let mut arrived = Vec::new();
        let reading = keys.read_to_end(&mut arrived);
        tokio::select! {
            biased;
            read = reading => drop(read.unwrap()),
            control = told.recv() => assert_eq!(control, Some(Control::Detach)),
        }
        (arrived, left.load(Ordering::Relaxed))
    }

    /// Brings one byte at a time, as a person does.
    fn one_by_one(bytes: &[u8]) -> impl AsyncRead + Unpin {
        let pieces = bytes
            .iter()
            .map(|byte| Ok::<_, io::Error>(bytes::Bytes::from(vec![*byte])));
        let pieces: Vec<_> = pieces.collect();
        tokio_util::io::StreamReader::new(futures_util::stream::iter(pieces))
    }

    #[tokio::test]
    async fn the_keys_to_leave_are_no_input_and_all_others_are() {
        for (sequence, keys, arrives, left) in [
            ("ctrl-p,ctrl-q", &b"ls\x10\x11more"[..], &b"ls"[..], true),
            ("ctrl-p,ctrl-q", b"a\x10b", b"a\x10b", false),
            ("ctrl-p,ctrl-q", b"\x10\x10\x11", b"\x10", true),
            ("ctrl-p,ctrl-q", b"\x11", b"\x11", false),
            ("~,.", b"~x~.", b"~x", true),
            ("", b"\x10\x11~.", b"\x10\x11~.", false),
        ] {
            let got = typed(sequence, keys).await;
            assert_eq!(
                got,
                (arrives.to_vec(), left),
                "{sequence} {}",
                keys.escape_ascii()
            );
        }
    }

    #[test]
    fn keys_are_named_as_docker_names_them() {
        assert_eq!(
            DetachKeys::parse(DetachKeys::DEFAULT),
            Ok(DetachKeys(vec![0x10, 0x11]))
        );
        assert_eq!(
            DetachKeys::parse("ctrl-],d"),
            Ok(DetachKeys(vec![0x1d, b'd']))
        );
        for wrong in ["ctrl-", "ctrl-pp", "pq", ",", "ö", "ctrl-p,"] {
            assert!(DetachKeys::parse(wrong).is_err(), "{wrong}");
        }
    }
}
