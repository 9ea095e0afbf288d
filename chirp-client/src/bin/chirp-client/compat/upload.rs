//! Sending local files: whole ones by the library's transfers, and what has no end yet as it comes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chirp_client::transfer::{self, Placement, TransferOptions};
use chirp_client::{Client, OpenFlags, VirtualPath};
use futures_util::future::try_join;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::trouble::Trouble;

/// The mode of a remote file whose local side has none that counts.
const STREAM_MODE: u32 = 0o600;

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// How often a file that is followed is looked at for more.
const LOOK: Duration = Duration::from_millis(200);

/// Whatever the name of the target is, the source becomes just that.
pub(super) fn exactly() -> TransferOptions {
    TransferOptions {
        placement: Placement::Exact,
        preserve: false,
        // The reference copies until it fails.
        ignore_space: true,
        ..TransferOptions::default()
    }
}

/// Sends a file, a directory, or what a pipe or device brings; returns the bytes of content.
pub(super) async fn path(
    client: &Client,
    local: &Path,
    remote: &VirtualPath,
) -> Result<u64, Trouble> {
    let metadata = std::fs::metadata(local)?;
    if metadata.is_file() || metadata.is_dir() {
        let done = transfer::put(client, local, remote, &exactly()).await?;
        return Ok(done.bytes);
    }
    let file = open(local.to_owned()).await?;
    stream(client, crate::stdin::reading(file), remote).await
}

/// Opens a file on a thread that may wait, as for the writer of a pipe.
async fn open(path: PathBuf) -> io::Result<File> {
    tokio::task::spawn_blocking(move || File::open(path))
        .await
        .map_err(io::Error::other)?
}

/// Sends what comes, as it comes: the remote file is there at once, and grows.
pub(super) async fn stream(
    client: &Client,
    mut source: impl AsyncRead + Unpin,
    remote: &VirtualPath,
) -> Result<u64, Trouble> {
    let flags = OpenFlags {
        write: true,
        create: true,
        truncate: true,
        ..OpenFlags::default()
    };
    let (descriptor, _) = client.open(remote, flags, STREAM_MODE).await?;
    let mut offset = 0;
    let mut piece = next(&mut source).await?;
    while !piece.is_empty() {
        let length = piece.len() as u64;
        let writing = async { Ok(client.pwrite_all(descriptor, piece, offset).await?) };
        ((), piece) = try_join(writing, next(&mut source)).await?;
        offset += length;
    }
    client.close(descriptor).await?;
    Ok(offset)
}

/// Returns the next bytes; none at the end.
async fn next(source: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, Trouble> {
    let mut piece = BytesMut::with_capacity(PIECE);
    source.read_buf(&mut piece).await?;
    Ok(piece.freeze())
}

/// Sends a file, and what is added to it later, for ever; what is no file is sent to its end.
pub(super) async fn follow(
    client: &Client,
    local: &Path,
    remote: &VirtualPath,
) -> Result<(), Trouble> {
    let file = match local == Path::new("-") {
        true => File::from(stdin()?),
        false => open(local.to_owned()).await?,
    };
    let endless = file.metadata()?.is_file();
    let mut target = client.putstream(remote).await?;
    loop {
        // The end of a file is where it ends now: the same descriptor is read on from there.
        let rest = file.try_clone()?;
        let mut source = crate::stdin::reading(rest);
        tokio::io::copy(&mut source, &mut target).await?;
        if !endless {
            return Ok(target.finish().await?);
        }
        target.flush().await?;
        tokio::time::sleep(LOOK).await;
    }
}

/// Returns standard input as a descriptor of its own.
pub(super) fn stdin() -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::AsFd as _;
    io::stdin().as_fd().try_clone_to_owned()
}
