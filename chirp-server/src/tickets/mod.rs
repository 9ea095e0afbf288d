//! Tickets (`chirp-protocol.md`, part 7): the files `.__ticket.DIGEST` in the exported directory, and
//! who may do what to them.
//!
//! A file is read again as soon as it changes, so a mask, a deletion or the end of a ticket's time
//! counts from the next request on. What is cut short, damaged or forged is worth nothing: a key's
//! text must have the digest that the file's name says. Where programs run the files are elsewhere: see
//! `vault`.

pub mod key;
mod vault;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use md5::{Digest as _, Md5};
use rustix::fs::Dir as Entries;
use rustix::io::Errno;
use rustix::time::ClockId;

use chirp_proto::acl::Rights;
use chirp_proto::request::TicketName;
use chirp_proto::ticket::{TICKET_MAX, Ticket, TicketError};
use chirp_proto::{Code, Subject};

use crate::acl::cache::Cache;
use crate::session::Principal;
use crate::vfs::temporary::{Replace, Temporary};
use crate::vfs::{Dir, Journal, Root, small};
use vault::Vault;

/// Bytes of the largest text that is registered; the largest key that is accepted takes 2,900.
pub const KEY_MAX: u64 = 16 * 1024;

/// Tickets that one subject may have.
const OWN_MAX: usize = 1000;

/// Tickets in all.
const ALL_MAX: usize = 20_000;

/// Tickets whose time is over that one request removes at most.
const FORGET_MAX: usize = 64;

/// How often tickets whose time is over are removed.
pub const SWEEP_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

const PREFIX: &[u8] = b".__ticket.";

/// What governs tickets besides their files.
#[derive(Clone, Copy, Debug, Default)]
pub struct TicketPolicy {
    /// `--max-ticket-duration`.
    pub max_duration: Option<Duration>,
    /// `-R`: none is made, changed or removed.
    pub read_only: bool,
    /// `--exec`: their files are not where programs can reach them.
    pub kept_from_programs: bool,
}

/// The tickets of the exported tree.
#[derive(Debug)]
pub struct Tickets {
    /// Where the files are.
    store: Dir,
    vault: Option<Vault>,
    journal: Arc<Journal>,
    policy: TicketPolicy,
    cache: Cache<Ticket>,
    /// Whose tickets there are and when they end; held while a ticket changes.
    known: Mutex<BTreeMap<TicketName, Known>>,
}

#[derive(Debug)]
struct Known {
    owner: Subject,
    expires: i64,
}

/// Why a file is no ticket that counts.
#[derive(Debug, thiserror::Error)]
enum Worthless {
    #[error("the system says {0}")]
    System(#[from] Errno),
    #[error(transparent)]
    Text(#[from] TicketError),
    #[error("its key has another digest than its name says")]
    Forged,
    #[error("its time is over")]
    Expired,
}

impl Tickets {
    /// Opens the store and removes what counts no more. Where programs may run the files are kept from
    /// them, in the transient directory, until [`Tickets::close`].
    ///
    /// # Errors
    ///
    /// The files cannot be moved there, or back to where a server before this one did not put them.
    pub fn open(
        root: &Root,
        transient: &Path,
        journal: &Arc<Journal>,
        policy: TicketPolicy,
    ) -> io::Result<Self> {
        // With -R nothing is moved, and no program runs.
        let kept = policy.kept_from_programs && !policy.read_only;
        let mut vault = Vault::open(root, transient, kept)?;
        if let Some(there) = &vault {
            if kept {
                there.fill()?;
            } else if !policy.read_only {
                there.empty(journal)?;
            }
        }
        vault = vault.filter(Vault::is_marked);
        let tickets = Self {
            store: vault
                .as_ref()
                .map_or_else(|| root.dir(), Vault::dir)
                .clone(),
            vault,
            journal: Arc::clone(journal),
            policy,
            cache: Cache::default(),
            known: Mutex::default(),
        };
        tickets.sweep();
        Ok(tickets)
    }

    /// Puts the files back into the exported directory, for the next server. No program may run any more.
    pub fn close(&self) {
        let Some(vault) = self.vault.as_ref().filter(|_| !self.policy.read_only) else {
            return;
        };
        let _held = self.known();
        if let Err(error) = vault.empty(&self.journal) {
            tracing::warn!(%error, "tickets stay in the transient directory, for the next server with that one");
        }
    }

    /// Looks at all ticket files, and removes those that are worth nothing: their time is over, or they
    /// are damaged. With `-R` they are left where they are.
    pub fn sweep(&self) {
        let result = self.store.readable().and_then(|fd| self.sweep_entries(fd));
        if let Err(error) = result {
            tracing::warn!(%error, "cannot look through the tickets of the exported directory");
        }
    }

    fn sweep_entries(&self, directory: OwnedFd) -> Result<(), Errno> {
        for entry in Entries::new(directory)? {
            let entry = entry?;
            let Some(digits) = entry.file_name().to_bytes().strip_prefix(PREFIX) else {
                continue;
            };
            // Anything else with this prefix, as the reference's temporary names, is no ticket.
            let Some(name) = TicketName::from_digits(digits) else {
                continue;
            };
            // Held for one file at a time: what is registered or deleted meanwhile stays so.
            self.review(&mut self.known(), name);
        }
        Ok(())
    }

    /// Reads a ticket's file, notes what it says, and removes it if it is worth nothing.
    fn review(&self, known: &mut BTreeMap<TicketName, Known>, name: TicketName) {
        match self.read(name) {
            Ok(ticket) => {
                known.insert(name, Known::of(&ticket));
            }
            Err(Worthless::System(Errno::NOENT)) => {
                known.remove(&name);
            }
            Err(Worthless::System(errno)) if errno != Errno::INVAL && errno != Errno::FBIG => {
                tracing::warn!(ticket = name.digits(), error = %errno, "cannot read a ticket; it is kept");
            }
            Err(reason) => {
                known.remove(&name);
                self.drop_worthless(name, &reason);
            }
        }
    }

    fn drop_worthless(&self, name: TicketName, reason: &Worthless) {
        let file = String::from_utf8_lossy(&file_name(name)).into_owned();
        if self.policy.read_only {
            tracing::warn!(file, %reason, "a ticket is ignored");
            return;
        }
        match reason {
            Worthless::Expired => tracing::info!(file, "removing a ticket whose time is over"),
            _ => tracing::warn!(file, %reason, "removing a file that is no ticket"),
        }
        if let Err(error) = self.store.unlink_if_there(&file_name(name)) {
            tracing::warn!(file, %error, "cannot remove it");
        }
    }

    /// Returns a ticket whose time is not over.
    ///
    /// # Errors
    ///
    /// `NOENT` if there is none that counts, or the system's.
    pub fn find(&self, name: TicketName) -> Result<Arc<Ticket>, Errno> {
        match self.read(name) {
            Ok(ticket) => Ok(ticket),
            Err(Worthless::System(errno)) => Err(errno),
            Err(Worthless::Expired) => Err(Errno::NOENT),
            Err(reason) => {
                tracing::warn!(ticket = name.digits(), %reason, "a ticket is ignored");
                Err(Errno::NOENT)
            }
        }
    }

    /// Returns the ticket by which somebody acts, if it is by one. It is still the one of the login:
    /// after its end anybody may have registered the same key as his own.
    ///
    /// # Errors
    ///
    /// `NOENT` if it counts no more or is another owner's by now, or the system's.
    pub(crate) fn acting(&self, who: &Principal) -> Result<Option<Arc<Ticket>>, Errno> {
        let Some(name) = who.ticket() else {
            return Ok(None);
        };
        let ticket = self.find(name)?;
        if ticket.owner() == who.subject() {
            Ok(Some(ticket))
        } else {
            Err(Errno::NOENT)
        }
    }

    fn read(&self, name: TicketName) -> Result<Arc<Ticket>, Worthless> {
        let file_name = file_name(name);
        let stat = self.store.stat(&file_name)?;
        let ticket = match self.cache.find(&stat) {
            Some(ticket) => ticket,
            None => {
                let file = small::open(&self.store, &file_name)?;
                // The cache keeps what this descriptor says, which may be newer than the status above.
                let stat = rustix::fs::fstat(&file)?;
                let ticket = Ticket::parse(&small::read(file, TICKET_MAX as u64)?)?;
                if TicketName::from_digest(digest(ticket.key().as_bytes())) != name {
                    return Err(Worthless::Forged);
                }
                let ticket = Arc::new(ticket);
                self.cache.keep(&stat, &ticket);
                ticket
            }
        };
        if ticket.expires() <= now() {
            return Err(Worthless::Expired);
        }
        Ok(ticket)
    }

    /// Makes a ticket, or renews the caller's of the same key; its masks are lost then.
    ///
    /// # Errors
    ///
    /// -2 with `-R`, or if the key is another subject's ticket; -6 for too many tickets; -8 for a text
    /// that cannot be kept; and the system's.
    pub(crate) fn register(
        &self,
        who: &Principal,
        is_superuser: bool,
        owner: Subject,
        seconds: i64,
        key: Vec<u8>,
    ) -> Result<(), Code> {
        self.changeable()?;
        let name = TicketName::from_digest(digest(&key));
        let seconds = match self.policy.max_duration {
            Some(most) => seconds.min(i64::try_from(most.as_secs()).unwrap_or(i64::MAX)),
            None => seconds,
        };
        // An end beyond all times is none: such a ticket has ended, as the reference's has.
        let mut expires = now().checked_add(seconds).unwrap_or(0);
        if let Some(acting) = self.acting(who).map_err(code)? {
            // A ticket makes none that outlives it (part 7.3).
            expires = expires.min(acting.expires());
        }
        let ticket = Ticket::new(owner, key, expires).map_err(|_| Code::InvalidRequest)?;
        let mut known = self.known();
        if let Ok(old) = self.find(name)
            && old.owner() != who.subject()
            && !is_superuser
        {
            return Err(Code::NotAuthorized);
        }
        if !known.contains_key(&name) {
            self.forget_ended(&mut known);
            let now = now();
            let counts = known.values().filter(|known| known.expires > now);
            let own = counts
                .clone()
                .filter(|known| known.owner == *ticket.owner());
            if counts.count() >= ALL_MAX || own.count() >= OWN_MAX {
                return Err(Code::NoSpace);
            }
        }
        self.write(name, &ticket).map_err(code)?;
        known.insert(name, Known::of(&ticket));
        Ok(())
    }

    /// Removes tickets whose time is over, so that the files of such as end at once do not pile up
    /// until the next sweep. As one request adds one file and this removes several, few are enough.
    fn forget_ended(&self, known: &mut BTreeMap<TicketName, Known>) {
        let now = now();
        let ended = known.iter().filter(|(_, ticket)| ticket.expires <= now);
        let ended: Vec<_> = ended.map(|(name, _)| *name).take(FORGET_MAX).collect();
        for name in ended {
            // By what the file says now: another server on the same directory may have renewed it.
            self.review(known, name);
            // One that cannot be read is left to the sweeps, and does not stand in others' way here.
            if known.get(&name).is_some_and(|ticket| ticket.expires <= now) {
                known.remove(&name);
            }
        }
    }

    /// Sets the mask of one directory, whose link-free path below the root this is.
    ///
    /// # Errors
    ///
    /// As [`Tickets::for_owner`]; -2 with `-R`, or from who acts by a ticket for more than that leaves
    /// in the directory or somewhere below it; -5 if the file would become too large; -8 for a path
    /// that cannot be kept; and the system's.
    pub(crate) fn modify(
        &self,
        who: &Principal,
        is_superuser: bool,
        name: TicketName,
        dir: &[u8],
        rights: Rights,
    ) -> Result<(), Code> {
        self.changeable()?;
        let _held = self.known();
        let mut ticket = Ticket::clone(&*self.for_owner(who, is_superuser, name)?);
        let acting = self.acting(who).map_err(code)?;
        if acting.is_some_and(|acting| !acting.leaves(dir, rights)) {
            return Err(Code::NotAuthorized);
        }
        ticket.set_mask(dir, rights).map_err(|error| match error {
            TicketError::TooLong => Code::TooBig,
            _ => Code::InvalidRequest,
        })?;
        self.write(name, &ticket).map_err(code)
    }

    /// Removes a ticket. Nobody acts by it from then on.
    ///
    /// # Errors
    ///
    /// As [`Tickets::for_owner`]; -2 with `-R`; and the system's.
    pub(crate) fn delete(
        &self,
        who: &Principal,
        is_superuser: bool,
        name: TicketName,
    ) -> Result<(), Code> {
        self.changeable()?;
        let mut known = self.known();
        self.for_owner(who, is_superuser, name)?;
        self.store.unlink_if_there(&file_name(name)).map_err(code)?;
        known.remove(&name);
        Ok(())
    }

    /// Returns a ticket that the caller owns, or any for the superuser.
    ///
    /// # Errors
    ///
    /// -3 for one that does not count, -2 for another's.
    pub(crate) fn for_owner(
        &self,
        who: &Principal,
        is_superuser: bool,
        name: TicketName,
    ) -> Result<Arc<Ticket>, Code> {
        let ticket = self.find(name).map_err(code)?;
        if ticket.owner() == who.subject() || is_superuser {
            Ok(ticket)
        } else {
            Err(Code::NotAuthorized)
        }
    }

    /// Returns the names of a subject's tickets, or of all.
    pub(crate) fn list(&self, owner: Option<&Subject>) -> Vec<TicketName> {
        let now = now();
        let of_owner = |known: &Known| owner.is_none_or(|owner| known.owner == *owner);
        self.known()
            .iter()
            .filter(|(_, known)| known.expires > now && of_owner(known))
            .map(|(name, _)| *name)
            .collect()
    }

    fn write(&self, name: TicketName, ticket: &Ticket) -> Result<(), Errno> {
        if let Some(vault) = &self.vault {
            return vault.write(name, &ticket.to_text());
        }
        let temporary = Temporary::new(&self.journal, &self.store, b"")?;
        small::write_new(&self.store, temporary.name(), &ticket.to_text())?;
        temporary.install(&file_name(name), Replace::Yes)
    }

    const fn changeable(&self) -> Result<(), Code> {
        if self.policy.read_only {
            return Err(Code::NotAuthorized);
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<TicketName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn of(ticket: &Ticket) -> Self {
        Self {
            owner: ticket.owner().clone(),
            expires: ticket.expires(),
        }
    }
}

/// Returns the time in seconds since 1970.
pub(crate) fn now() -> i64 {
    rustix::time::clock_gettime(ClockId::RealtimeCoarse).tv_sec
}

fn code(errno: Errno) -> Code {
    Code::from_errno(errno.raw_os_error())
}

fn digest(key: &[u8]) -> [u8; 16] {
    Md5::digest(key).into()
}

fn file_name(name: TicketName) -> Vec<u8> {
    [PREFIX, name.digits().as_bytes()].concat()
}
