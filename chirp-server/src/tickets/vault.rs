//! Tickets where programs cannot reach them: with `--exec` their files are in the transient directory
//! while the server runs, and in the exported directory, for any server, when it does not.
//!
//! A mark says that they are here. What a server that was killed has left here counts then, and what lies in
//! the exported directory does not: a program may have made it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use chirp_proto::request::TicketName;
use chirp_proto::ticket::TICKET_MAX;
use rustix::fs::Dir as Entries;
use rustix::io::Errno;

use super::{PREFIX, file_name};
use crate::vfs::temporary::{Replace, Temporary};
use crate::vfs::{Dir, Journal, Root, small};

/// The directory in the transient one.
const NAME: &str = "tickets";

/// The file in it that says that the tickets are here.
const MARK: &[u8] = b".here";

/// The name under which a file is made before it has its own.
const UNFINISHED: &[u8] = b".__put.ticket";

/// The two places of tickets.
#[derive(Debug)]
pub(super) struct Vault {
    here: Dir,
    root: Dir,
}

impl Vault {
    /// Opens the place in the transient directory; `None` if there is none and none is `wanted`.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn open(root: &Root, transient: &Path, wanted: bool) -> io::Result<Option<Self>> {
        let path = transient.join(NAME);
        if wanted {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        let here = match Root::open(&path) {
            Ok(here) => here.dir().clone(),
            Err(Errno::NOENT) if !wanted => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let root = root.dir().clone();
        Ok(Some(Self { here, root }))
    }

    /// Returns the place that programs do not reach.
    pub(super) const fn dir(&self) -> &Dir {
        &self.here
    }

    /// Reports whether the tickets are there.
    pub(super) fn is_marked(&self) -> bool {
        self.here.stat(MARK).is_ok()
    }

    /// Takes the tickets out of the exported directory.
    ///
    /// # Errors
    ///
    /// The system's; then none is missing in the exported directory.
    pub(super) fn fill(&self) -> io::Result<()> {
        let marked = self.is_marked();
        let outside = tickets_in(&self.root)?;
        if !marked {
            for name in tickets_in(&self.here)? {
                self.here.unlink_if_there(&file_name(name))?;
            }
            for &name in &outside {
                if let Some(text) = read(&self.root, name)? {
                    put(&self.here, name, &text)?;
                }
            }
            small::write_new(&self.here, MARK, b"")?;
        }
        for name in outside {
            let kept = read(&self.here, name)?;
            if marked && kept.is_none_or(|kept| read(&self.root, name) != Ok(Some(kept))) {
                tracing::warn!(
                    ticket = name.digits(),
                    "removing a ticket's file from the exported directory that this server did not put there"
                );
            }
            self.root.unlink_if_there(&file_name(name))?;
        }
        Ok(())
    }

    /// Puts the tickets back into the exported directory. Nothing but them is a ticket there then.
    ///
    /// # Errors
    ///
    /// The system's; then they stay here.
    pub(super) fn empty(&self, journal: &Arc<Journal>) -> Result<(), Errno> {
        if !self.is_marked() {
            return Ok(());
        }
        let names = tickets_in(&self.here)?;
        for name in tickets_in(&self.root)? {
            if !names.contains(&name) {
                tracing::warn!(
                    ticket = name.digits(),
                    "removing a ticket's file from the exported directory that this server did not put there"
                );
                crate::vfs::tree::remove(
                    &self.root,
                    &file_name(name),
                    &crate::space::Space::default(),
                )?;
            }
        }
        for name in names {
            let Some(text) = read(&self.here, name)? else {
                continue;
            };
            let temporary = Temporary::new(journal, &self.root, b"")?;
            small::write_new(&self.root, temporary.name(), &text)?;
            temporary.install(&file_name(name), Replace::Yes)?;
        }
        self.here.unlink_if_there(MARK)
    }

    /// Writes a ticket.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn write(&self, name: TicketName, text: &[u8]) -> Result<(), Errno> {
        put(&self.here, name, text)
    }
}

/// Writes a ticket whole or not at all. Nobody else writes there meanwhile.
fn put(dir: &Dir, name: TicketName, text: &[u8]) -> Result<(), Errno> {
    dir.unlink_if_there(UNFINISHED)?;
    small::write_new(dir, UNFINISHED, text)?;
    rustix::fs::renameat(dir, UNFINISHED, dir, file_name(name))
}

/// Reads a ticket's file; `None` for what is none, which the log is told.
fn read(dir: &Dir, name: TicketName) -> Result<Option<Vec<u8>>, Errno> {
    let read = small::open(dir, &file_name(name));
    match read.and_then(|file| small::read(file, TICKET_MAX as u64)) {
        Ok(text) => Ok(Some(text)),
        Err(Errno::NOENT) => Ok(None),
        Err(error @ (Errno::INVAL | Errno::FBIG | Errno::ACCESS | Errno::NXIO)) => {
            tracing::warn!(ticket = name.digits(), %error, "what has the name of a ticket's file is none");
            Ok(None)
        }
        Err(errno) => Err(errno),
    }
}

/// Returns the names of all tickets in a directory.
fn tickets_in(dir: &Dir) -> Result<Vec<TicketName>, Errno> {
    let mut names = Vec::new();
    for entry in Entries::new(dir.readable()?)? {
        let entry = entry?;
        let digits = entry.file_name().to_bytes().strip_prefix(PREFIX);
        names.extend(digits.and_then(TicketName::from_digits));
    }
    Ok(names)
}
