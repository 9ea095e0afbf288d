//! Parts of files.

use std::collections::VecDeque;

use bytes::Bytes;
use chirp_client::{Client, Descriptor, Error};
use tokio::task::JoinHandle;

use super::Failure;
use crate::output;

/// Bytes that are asked for at a time.
const PIECE: u64 = 1024 * 1024;

/// Pieces on their way at once: with these a link with delay is kept busy, and memory is 4 MiB.
const AHEAD: usize = 4;

/// Writes the bytes of an open file from `offset`, at most `length`, to standard output, and returns
/// where they ended.
pub(super) async fn to_stdout(
    client: &Client,
    file: Descriptor,
    mut offset: u64,
    mut length: u64,
) -> Result<u64, Failure> {
    let mut coming: VecDeque<(u64, Coming)> = VecDeque::new();
    let mut asked = offset;
    let mut left = length;
    loop {
        while coming.len() < AHEAD && left > 0 {
            let count = left.min(PIECE);
            coming.push_back((count, Coming::ask(client, file, count, asked)));
            asked = asked.saturating_add(count);
            left -= count;
        }
        let Some((count, piece)) = coming.pop_front() else {
            return Ok(offset);
        };
        let piece = piece.arrives().await?;
        output::write(&piece)?;
        let got = piece.len() as u64;
        offset += got;
        length = length.saturating_sub(got);
        if got == 0 {
            return Ok(offset);
        }
        if got < count {
            // The end, or a server that sends less than it was asked for: ask from here.
            coming.clear();
            (asked, left) = (offset, length);
        }
    }
}

/// A piece that was asked for; forgotten if it is dropped.
struct Coming(JoinHandle<Result<Bytes, Error>>);

impl Coming {
    fn ask(client: &Client, file: Descriptor, count: u64, offset: u64) -> Self {
        let client = client.clone();
        Self(tokio::spawn(async move {
            client.pread(file, count, offset).await
        }))
    }

    async fn arrives(mut self) -> Result<Bytes, Failure> {
        match (&mut self.0).await {
            Ok(piece) => Ok(piece?),
            Err(error) => Err(Failure::Other(format!("a part failed: {error}"))),
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.abort();
    }
}
