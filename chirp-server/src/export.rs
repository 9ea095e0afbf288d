//! The exported tree together with what governs it: rights files, the superuser, `-R`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use chirp_proto::acl::{Acl, Rights};

use crate::acl::groups::{BadUrl, Groups};
use crate::acl::{self, Acls, Locks};
use crate::authorize::Door;
use crate::guard::Guard;
use crate::session::Principal;
use crate::space::Space;
use crate::spool::Spool;
use crate::tickets::{TicketPolicy, Tickets};
use crate::vfs::journal::JournalError;
use crate::vfs::{Dir, Journal, Root};

/// Groups in one list that are waited for, one after another.
const GROUPS_MAX: usize = 16;

/// How long a check on a thread that may wait goes on getting groups.
const GROUPS_WAIT: Duration = Duration::from_secs(30);

/// The exported tree, shared by all connections. Files are reached through [`Export::door`] only.
#[derive(Debug)]
pub struct Export {
    pub(crate) root: Root,
    pub(crate) acls: Acls,
    pub(crate) journal: Arc<Journal>,
    pub(crate) spool: Spool,
    pub(crate) space: Space,
    pub(crate) tickets: Arc<Tickets>,
    superuser: Option<String>,
    read_only: bool,
}

/// What governs the tree besides its rights files.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// `-A`: the list of directories that have none.
    pub default_acl: Option<PathBuf>,
    /// `--inherit-default-acl`: directories without a list have that of the nearest one above them.
    pub inherit_acl: bool,
    /// `-G` and `-T`: where groups are, and how long they are believed.
    pub groups: Option<(String, Duration)>,
    /// `-P`: the subject that may always list and administer.
    pub superuser: Option<String>,
    /// `-R`: nobody changes anything.
    pub read_only: bool,
    /// `-F`: bytes of the file system that stay free.
    pub keep_free: u64,
    /// `-Q`: bytes that the whole tree may take.
    pub quota: Option<u64>,
    /// `--exec`: tickets are kept from programs.
    pub runs_programs: bool,
    /// `--max-ticket-duration`: no ticket lives longer.
    pub max_ticket_duration: Option<Duration>,
}

/// Why nothing can be said about the rights in a directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undecided {
    /// No list governs, or the system's error.
    #[error("no access control list: {0}")]
    System(#[from] Errno),
    /// A line names a group that is not known at present.
    #[error("a group is not known yet")]
    Group {
        /// The group.
        group: Arc<[u8]>,
        /// The rights that are certain, whoever is in the group.
        known: Rights,
    },
}

/// Why a tree cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The directory cannot be opened.
    #[error("cannot open the directory to export, {}", .0.display())]
    Root(PathBuf, #[source] Errno),
    /// The file of `-A` cannot be read.
    #[error("cannot use the default access control list {} (-A)", .0.display())]
    DefaultAcl(PathBuf, #[source] Errno),
    /// The server's own directory cannot be used.
    #[error("cannot open the transient directory {} (-y)", .0.display())]
    Transient(PathBuf, #[source] Errno),
    /// What the tree takes cannot be counted.
    #[error("cannot count what {} takes (-Q); without -Q nothing is counted", .0.display())]
    Space(PathBuf, #[source] Errno),
    /// The tickets cannot be kept from programs.
    #[error("cannot keep tickets in {}", .0.display())]
    Tickets(PathBuf, #[source] std::io::Error),
    /// The access control lists cannot be kept from programs.
    #[error("cannot use the record of access control lists in {}", .0.display())]
    Guard(PathBuf, #[source] std::io::Error),
    /// The groups cannot be where `-G` says.
    #[error("cannot use the groups' place (-G)")]
    Groups(#[from] BadUrl),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Export {
    /// Opens the tree at `root`. What the server before left unfinished, by the journal in the
    /// directory `transient` that belongs to this server alone, is removed.
    ///
    /// # Errors
    ///
    /// [`ExportError`].
    pub fn open(root: &Path, transient: &Path, policy: Policy) -> Result<Self, ExportError> {
        if let Some(path) = &policy.default_acl {
            acl::check_default(path)
                .map_err(|errno| ExportError::DefaultAcl(path.clone(), errno))?;
        }
        let handle = Root::open(root).map_err(|errno| ExportError::Root(root.to_owned(), errno))?;
        let spool = Spool::open(transient)
            .map_err(|errno| ExportError::Transient(transient.to_owned(), errno))?;
        let (journal, unfinished) = Journal::open(transient, &handle)?;
        if unfinished > 0 {
            tracing::info!(
                unfinished,
                "removed what a server before this one left unfinished"
            );
        }
        // What was left unfinished is gone by now, so it is not counted.
        let space = Space::open(&handle, policy.keep_free, policy.quota, policy.read_only)
            .map_err(|errno| ExportError::Space(root.to_owned(), errno))?;
        let journal = Arc::new(journal);
        let groups = match &policy.groups {
            None => Groups::none(),
            Some((url, lifetime)) => Groups::new(url, *lifetime, transient)?,
        };
        let ticket_policy = TicketPolicy {
            max_duration: policy.max_ticket_duration,
            read_only: policy.read_only,
            kept_from_programs: policy.runs_programs,
        };
        let tickets = Tickets::open(&handle, transient, &journal, ticket_policy);
        let tickets = tickets.map_err(|error| ExportError::Tickets(transient.to_owned(), error))?;
        let locks = Arc::new(Locks::default());
        // Before anybody is answered: what programs of a killed server did must not count.
        let guard = Guard::open(&handle, transient, Arc::clone(&locks), Arc::clone(&journal));
        let guard = guard.map_err(|error| ExportError::Guard(transient.to_owned(), error))?;
        Ok(Self {
            tickets: Arc::new(tickets),
            acls: Acls::new(
                handle.dir().clone(),
                policy.default_acl,
                policy.inherit_acl,
                Arc::new(groups),
                guard,
                locks,
            ),
            root: handle,
            journal,
            spool,
            space,
            superuser: policy.superuser,
            read_only: policy.read_only,
        })
    }

    /// Writes the first access control list of a tree that has none and no default, one
    /// `SUBJECT RIGHTS` a line. Returns whether it did; a list that is there is never touched.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn initialise_acl(&self, text: &[u8]) -> Result<bool, Errno> {
        self.acls.initialise(self.root.dir(), text)
    }

    /// Returns the limits on space.
    #[must_use]
    pub const fn space(&self) -> &Space {
        &self.space
    }

    /// Returns the way to the files for one principal.
    #[must_use]
    pub const fn door<'a>(&'a self, who: &'a Principal) -> Door<'a> {
        Door::new(self, who)
    }

    /// Reports whether this is the superuser.
    #[must_use]
    pub fn is_superuser(&self, who: &Principal) -> bool {
        self.superuser.as_deref() == Some(who.login().as_str())
    }

    /// Reports whether nobody may change anything.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Returns what keeps the access control lists from programs.
    pub(crate) const fn guard(&self) -> &Arc<Guard> {
        self.acls.guard()
    }

    /// Returns the groups.
    #[must_use]
    pub const fn groups(&self) -> &Arc<Groups> {
        self.acls.groups()
    }

    /// Returns the tickets.
    #[must_use]
    pub const fn tickets(&self) -> &Arc<Tickets> {
        &self.tickets
    }

    /// Returns what a principal may do in a directory, whose link-free path below the root this is.
    ///
    /// # Errors
    ///
    /// [`Undecided::System`]: `NOENT` where no list governs or the ticket counts no more, or the
    /// system's. [`Undecided::Group`]: it is to be fetched first.
    pub(crate) fn rights(
        &self,
        dir: &Dir,
        path: &[u8],
        who: &Principal,
    ) -> Result<Rights, Undecided> {
        self.rights_by(&*self.acls.effective(dir)?, path, who)
    }

    /// Returns what [`Export::rights`] does, after waiting for the groups that it takes to know whether
    /// `wanted` is among it: for threads that may wait. Groups that cannot be had in time give nothing.
    ///
    /// # Errors
    ///
    /// `MFILE`, `NFILE` or `NOMEM`, where more cannot be said; else `PERM`: such a list grants nothing.
    pub(crate) fn rights_waiting(
        &self,
        dir: &Dir,
        path: &[u8],
        who: &Principal,
        wanted: Rights,
    ) -> Result<Rights, Errno> {
        let deadline = Instant::now() + GROUPS_WAIT;
        let mut fetched = 0;
        loop {
            match self.rights(dir, path, who) {
                Ok(rights) => return Ok(rights),
                Err(Undecided::Group { group, known }) => {
                    let enough = known.contains(wanted);
                    if enough || fetched == GROUPS_MAX || Instant::now() >= deadline {
                        return Ok(known);
                    }
                    self.groups().fetch_waiting(&group);
                    fetched += 1;
                }
                Err(Undecided::System(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM))) => {
                    return Err(errno);
                }
                Err(Undecided::System(_)) => return Err(Errno::PERM),
            }
        }
    }

    /// Returns what a list gives a principal in a directory, whose link-free path below the root this is.
    ///
    /// # Errors
    ///
    /// As [`Export::rights`].
    pub(crate) fn rights_by(
        &self,
        acl: &Acl,
        path: &[u8],
        who: &Principal,
    ) -> Result<Rights, Undecided> {
        let (mut rights, unknown) = self.acls.rights(acl, who.subject().as_str());
        if let Some(ticket) = self.tickets.acting(who)? {
            rights = rights.masked_by(ticket.mask(path));
        }
        if self.read_only {
            rights = rights.intersection(Rights::READ.union(Rights::LIST));
        }
        // Implied even with -R, where requests that change a list are refused for everybody.
        if self.is_superuser(who) {
            rights = rights.union(Rights::LIST).union(Rights::ADMIN);
        }
        match unknown {
            None => Ok(rights),
            Some(group) => Err(Undecided::Group {
                group,
                known: rights,
            }),
        }
    }
}
