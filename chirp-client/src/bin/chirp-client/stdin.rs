//! Local input for a program, read on a thread that may block.

use std::io::{self, Read};

use bytes::Bytes;
use futures_util::stream::poll_fn;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

/// Bytes that are read at a time; two pieces wait at most.
const PIECE: usize = 64 * 1024;

/// Returns what `input` brings.
pub(crate) fn reading(mut input: impl Read + Send + 'static) -> impl AsyncRead + Unpin {
    let (pieces, mut taken) = mpsc::channel::<io::Result<Bytes>>(2);
    tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or(&[]))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = piece.is_err();
            if pieces.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    StreamReader::new(poll_fn(move |context| taken.poll_recv(context)))
}
