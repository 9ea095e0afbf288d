//! Files that are sent in pieces: with their holes, and so that an interrupted copy can be continued.

use std::path::Path;

use chirp_proto::VirtualPath;
use chirp_proto::request::OpenFlags;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::facts::{Facts, Kind};
use super::finish;
use super::job::Job;
use super::local::local;
use super::send::{beside, put_away, temporary_name};
use super::source::Source;
use super::threads::blocking;
use crate::verbs::body::CHUNK;
use crate::{Client, Error};

/// Pieces that wait for their answers.
const AT_ONCE: usize = 16;

/// Sends a file beside its place, in pieces, and renames it. A part that is there already is
/// continued where `resumed` says so, and checked by the digest of the whole before it gets the name.
pub(super) async fn upload(
    job: &Job<'_>,
    client: &Client,
    path: &Path,
    source: &Source,
    target: &VirtualPath,
    from: &Facts,
    resumed: bool,
) -> Result<(), Error> {
    let name = target
        .split_last()
        .map(|(_, name)| name)
        .unwrap_or_default();
    let part = if resumed {
        beside(target, &Job::part_name(name, from))?
    } else {
        beside(target, &temporary_name()?)?
    };
    let mut offset = 0;
    if resumed {
        offset = match client.lstat(&part).await {
            Ok(found) => {
                let found = Facts::remote(&found);
                let usable = found.kind == Kind::File && found.size <= source.length;
                if usable { found.size } else { 0 }
            }
            Err(Error::Refused { .. }) => 0,
            Err(error) => return Err(error),
        };
    } else {
        job.unfinished(&part);
    }
    let sent = async {
        send(job, client, path, source, &part, offset).await?;
        if offset > 0 && !same(job, client, path, source, &part).await? {
            // What was there was something else.
            send(job, client, path, source, &part, 0).await?;
        }
        finish::attributes(job, client, &part, from).await?;
        client.rename(&part, target).await
    };
    let result = sent.await;
    if resumed {
        return result;
    }
    put_away(job, client, &part, result).await
}

/// Sends what the file has from `offset` on.
async fn send(
    job: &Job<'_>,
    client: &Client,
    path: &Path,
    source: &Source,
    part: &VirtualPath,
    mut offset: u64,
) -> Result<(), Error> {
    let flags: &[u8] = if offset > 0 { b"w" } else { b"wct" };
    let (opened, found) = client
        .open(part, OpenFlags::parse(flags), source.mode)
        .await?;
    let mut end = u64::try_from(found.size).unwrap_or(0);
    let mut running = FuturesUnordered::new();
    loop {
        let piece = source.piece(offset, CHUNK).await;
        let Some((at, piece)) = piece.map_err(|error| local("read", path, error))? else {
            break;
        };
        offset = at + piece.len() as u64;
        end = end.max(offset);
        while running.len() >= AT_ONCE
            && let Some(written) = running.next().await
        {
            job.tally.bytes(written?);
        }
        running.push(async move {
            let length = piece.len();
            client.pwrite_all(opened, piece, at).await.map(|()| length)
        });
    }
    while let Some(written) = running.next().await {
        job.tally.bytes(written?);
    }
    if end != source.length {
        // It ends in a hole, or the part was too long.
        client.ftruncate(opened, source.length).await?;
    }
    client.close(opened).await
}

/// Compares the digests of the file and of what has arrived.
async fn same(
    job: &Job<'_>,
    client: &Client,
    path: &Path,
    source: &Source,
    part: &VirtualPath,
) -> Result<bool, Error> {
    let algorithm = job.algorithm().await?;
    let file = source.again().map_err(|error| local("read", path, error))?;
    let path = path.to_owned();
    let here = blocking(move || {
        algorithm
            .local(&file)
            .map_err(|error| local("read", &path, error))
    });
    let there = algorithm.remote(client, part, source.length);
    let (here, there) = futures_util::future::try_join(here, there).await?;
    Ok(here == there)
}
