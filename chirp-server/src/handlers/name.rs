//! `mkdir`, `rmdir`, `rmall`, `unlink`, `rename`, `link`, `symlink`, `readlink`, `localpath`
//! (part 3.6).

use std::sync::Arc;

use rustix::fs::Mode;
use rustix::io::Errno;

use chirp_proto::acl::Acl;
use chirp_proto::{Code, VirtualPath};

use crate::acl;
use crate::authorize::{Failure, Granted};
use crate::export::Export;
use crate::outcome::Outcome;
use crate::vfs::temporary::{Replace, Temporary};
use crate::vfs::tree;

/// Makes a directory that has its access control list from the moment it can be seen.
pub(crate) fn mkdir(export: &Export, target: &Granted, acl: &Acl) -> Result<Outcome, Failure> {
    let _changing = export.guard().changing();
    build_directory(export, target, acl)?.install(target.name(), Replace::No)?;
    Ok(Outcome::Number(0))
}

/// Makes a directory with its access control list under a temporary name. Programs are kept from changing
/// that from here on, if the caller holds off further ones until the directory has its name.
pub(crate) fn build_directory(
    export: &Export,
    target: &Granted,
    acl: &Acl,
) -> Result<Temporary, Failure> {
    if target.exists() {
        target.stat()?;
        return Err(Code::AlreadyExists.into());
    }
    let temporary = Temporary::new(&export.journal, target.holder(), target.holder_path())?;
    rustix::fs::mkdirat(target.holder(), temporary.name(), Mode::RWXU)?;
    let dir = temporary.open_directory()?;
    let text = acl.to_text();
    export.guard().note(&dir, &text)?;
    acl::write_first(&dir, &text)?;
    Ok(temporary)
}

/// Removes a directory in which clients see nothing.
pub(crate) fn rmdir(export: &Export, target: &Granted) -> Result<Outcome, Failure> {
    let dir = target.directory()?;
    let gone = export.guard().to_remove(dir, false);
    // No change of the list may come between its removal and that of the directory.
    export.acls.locked(dir, || {
        let (holder, name) = (target.holder(), target.name());
        export.space.removing_directory(holder, name, || {
            tree::remove_visibly_empty(target, &export.journal)
        })
    })?;
    export.guard().removed(gone);
    Ok(Outcome::Number(0))
}

/// Removes a file, a link, or a directory with all that is in it.
pub(crate) fn rmall(export: &Export, target: &Granted) -> Result<Outcome, Failure> {
    let Ok(dir) = target.directory() else {
        target.stat()?;
        export.space.unlink(target)?;
        return Ok(Outcome::Number(0));
    };
    if target.is_root() {
        return Err(Code::Busy.into());
    }
    let (holder, name) = (target.holder().clone(), target.name().to_vec());
    let (space, dir) = (export.space.clone(), dir.clone());
    let guard = Arc::clone(export.guard());
    Ok(Outcome::blocking(true, move |_| {
        let gone = guard.to_remove(&dir, true);
        tree::remove(&holder, &name, &space)?;
        guard.removed(gone);
        Ok(Outcome::Number(0))
    }))
}

/// Removes a file or a link.
pub(crate) fn unlink(export: &Export, target: &Granted) -> Result<Outcome, Failure> {
    target.stat()?;
    export.space.unlink(target)?;
    Ok(Outcome::Number(0))
}

/// Moves an object. Uploads below a moved directory stay on record.
pub(crate) fn rename(export: &Export, from: &Granted, to: &Granted) -> Result<Outcome, Failure> {
    if to.is_root() {
        return Err(Code::Busy.into());
    }
    // Only after both names' rights were found good: the reference looks at them first.
    from.stat()?;
    if from.directory().is_ok() {
        let (from, to) = ((**from).clone(), (**to).clone());
        let (space, journal) = (export.space.clone(), Arc::clone(&export.journal));
        let guard = Arc::clone(export.guard());
        let work = move || {
            let _changing = guard.changing();
            let dir = from.directory()?;
            guard.moving(dir, from.holder(), to.holder(), to.path())?;
            journal.moving(from.path(), to.path())?;
            space.rename(&from, &to)?;
            Ok(Outcome::Number(0))
        };
        // It is counted first if it changes its allocation.
        return match export.space.has_allocations() {
            true => Ok(Outcome::blocking(false, move |_| work())),
            false => Ok(work()?),
        };
    }
    export.space.rename(from, to)?;
    Ok(Outcome::Number(0))
}

/// Gives a file a second name; not where there are allocations, as its space could be that of one
/// only.
pub(crate) fn link(export: &Export, from: &Granted, to: &Granted) -> Result<Outcome, Failure> {
    if export.space.has_allocations() {
        return Err(Code::NotAuthorized.into());
    }
    from.link(to)?;
    Ok(Outcome::Number(0))
}

/// Makes a link; its text is stored as it came.
pub(crate) fn symlink(target: &Granted, text: &[u8]) -> Result<Outcome, Failure> {
    target.symlink(text)?;
    Ok(Outcome::Number(0))
}

/// The text of a link, as much of it as the client wants.
pub(crate) fn readlink(link: &Granted, limit: u64) -> Result<Outcome, Failure> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // As readlink(2) has it for a buffer of no bytes.
    if limit == 0 {
        return Err(Errno::INVAL.into());
    }
    let mut text = link.readlink()?;
    text.truncate(limit);
    Ok(Outcome::Counted(text))
}

/// The normalised virtual path. No host path is told to anybody.
pub(crate) fn localpath(_existing: &Granted, path: &VirtualPath) -> Outcome {
    Outcome::Counted(path.as_bytes().to_vec())
}
