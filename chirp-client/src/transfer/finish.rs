//! What is done on the server when all contents are there: further names, removals, and the modes
//! and times of directories, which every change in them moves.

use chirp_proto::{Code, VirtualPath};

use super::facts::Facts;
use super::job::Job;
use super::send::{beside, temporary_name};
use super::tally::Count;
use super::worker::many;
use super::{Action, space};
use crate::Error;
use crate::error::printable;

/// A directory of the server that shall have the mode and time of its original.
pub(super) struct Dated {
    pub(super) path: VirtualPath,
    pub(super) from: Facts,
    /// What it had before, if it was there and looked at.
    pub(super) there: Option<Facts>,
}

/// Gives directories their modes and times.
pub(super) async fn directories(job: &Job<'_>, dated: Vec<Dated>) -> Result<(), Error> {
    if !job.options.preserve {
        return Ok(());
    }
    let done = job.tally.summary();
    let nothing_new = done.files + done.links + done.deleted == 0;
    many(dated, |Dated { path, from, there }| async move {
        let same = |there: Facts| there.mtime == from.mtime && there.mode == from.mode_there();
        if nothing_new && there.is_some_and(same) {
            return Ok(());
        }
        let named = || space::named(job, &path);
        let result = attributes(job, job.client, &path, &from).await;
        job.tally.note(named, result)
    })
    .await
}

/// Gives a file or directory its mode and time.
pub(super) async fn attributes(
    job: &Job<'_>,
    client: &crate::Client,
    path: &VirtualPath,
    from: &Facts,
) -> Result<(), Error> {
    if !job.options.preserve {
        return Ok(());
    }
    let (mode, time) = futures_util::future::join(
        client.chmod(path, from.mode),
        client.utime(path, from.mtime, from.mtime),
    )
    .await;
    job.attribute(mode)?;
    job.attribute(time)
}

/// A further name of a file that was sent.
pub(super) struct Linked {
    pub(super) first: VirtualPath,
    pub(super) path: VirtualPath,
}

/// Gives a file that was sent a further name; `false` if the server makes no hard links there.
pub(super) async fn link(job: &Job<'_>, Linked { first, path }: &Linked) -> Result<bool, Error> {
    let mut made = job.client.link(first, path).await;
    if made
        .as_ref()
        .is_err_and(|error| error.code() == Some(Code::AlreadyExists))
    {
        // The old name is not given up before the new one is there.
        let temporary = beside(path, &temporary_name()?)?;
        job.unfinished(&temporary);
        made = match job.client.link(first, &temporary).await {
            Ok(()) => job.client.rename(&temporary, path).await,
            refused => refused,
        };
        // Where both are the same file already, renaming does nothing.
        let _gone = job.client.unlink(&temporary).await;
        job.finished(&temporary);
    }
    match made {
        Ok(()) => {
            job.tally.one(Count::Links);
            Ok(true)
        }
        // With a quota, or from a directory where we may not write.
        Err(Error::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what the source does not have.
pub(super) async fn removals(job: &Job<'_>, paths: Vec<VirtualPath>) -> Result<(), Error> {
    many(paths, |path| async move {
        job.tally
            .event(Action::Delete, 0, || printable(path.as_bytes()));
        if job.options.dry_run {
            job.tally.one(Count::Deleted);
            return Ok(());
        }
        let result = job.client.rmall(&path).await;
        if result.is_ok() {
            job.tally.one(Count::Deleted);
        }
        job.tally.note(|| space::named(job, &path), result)
    })
    .await
}
