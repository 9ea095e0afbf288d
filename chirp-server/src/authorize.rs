//! The one door to the files: a path goes in, the rights that the verb needs are checked in the
//! directory that was really reached, and a [`Granted`] object comes out. Handlers can get at the
//! tree in no other way.
//!
//! | verbs | rights (`chirp-protocol.md`, parts 3 and 6) | last link | here |
//! |---|---|---|---|
//! | `getfile`, `getstream`, `md5`, `hash`, `sha256`, `getxattr`, `listxattr` | R | followed | [`Door::look`] |
//! | `readlink`, `lgetxattr`, `llistxattr` | R | itself | [`Door::look`] |
//! | `stat`, `statfs`, `localpath` | L | followed | [`Door::look`] |
//! | `lstat` | L | itself | [`Door::look`] |
//! | `lsalloc` | L; of a missing object, on its directory | followed | [`Door::allocation`] |
//! | `access` | R, W, X by its mode; X is L on a directory | followed | [`Door::access`] |
//! | `getdir`, `getlongdir` | L on the directory | followed | [`Door::directory`] |
//! | `thirdput` | R; L on a directory, and each in it | itself | [`Door::copy`] |
//! | `search` | L on each directory that is read | followed | `handlers::search` |
//! | `audit` | A on the directory | followed | [`Door::look`] |
//! | `setacl`, `resetacl` | A on the directory | followed | [`Door::administer`] |
//! | `getacl` | none | followed | [`Door::effective_acl`] |
//! | `chmod`, `chown`, `truncate`, `utime`, `setxattr`, `removexattr` | W | followed | [`Door::change`] |
//! | `lsetxattr`, `lremovexattr` | W | itself | [`Door::change`] |
//! | `link`, its source | R and W | itself | [`Door::change`] |
//! | `link`, its target; `symlink`; `rename`, its target | W | itself | [`Door::create`] |
//! | `open` | R to read, W to change; or P for a new file | followed | [`Door::open`] |
//! | `putfile`, `putstream` | W; or P for a new file | followed | [`Door::put`] |
//! | `mkdir`, `mkalloc` | V, else W | itself | [`Door::mkdir`] |
//! | `unlink`, `rmdir`, `rmall` | D, part 6.6 | itself | [`Door::delete`] |
//! | jobs, their inputs, outputs and programs | R, W and X | followed | [`Door::bind`] |
//! | `rename`, its source | R and D, part 6.6 | itself | [`Door::take`] |
//!
//! The same as data, with every other verb, is [`crate::rules::RULES`].
//!
//! Names beginning `.__` are the server's, wherever links lead to them. A directory's `.__acl` may
//! be looked at, and be put with A.

use std::ops::Deref;
use std::sync::Arc;

use rustix::io::Errno;

use chirp_proto::acl::{Acl, Entry, Rights};
use chirp_proto::request::{AccessMode, OpenFlags};
use chirp_proto::{Code, VirtualPath};

use crate::export::{Export, Undecided};
use crate::session::Principal;
use crate::vfs::located::Create;
use crate::vfs::temporary::Replace;
use crate::vfs::{Dir, Follow, Located, Miss, Object, Open};

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What the client is told.
    Code(Code),
    /// The object was replaced between the check and the use: check again.
    Stale,
    /// An access control list names this group, which is to be fetched first: then check again.
    Group(Arc<[u8]>),
}

impl From<Undecided> for Failure {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::System(errno) => unreadable(errno),
            Undecided::Group { group, .. } => Self::Group(group),
        }
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::STALE => Self::Stale,
            other => Self::Code(Code::from_errno(other.raw_os_error())),
        }
    }
}

/// An object that the subject may use as the verb wants to.
#[derive(Debug)]
pub struct Granted(Located);

impl Deref for Granted {
    type Target = Located;

    fn deref(&self) -> &Located {
        &self.0
    }
}

/// The way to the files for one principal.
#[derive(Clone, Copy, Debug)]
pub struct Door<'a> {
    export: &'a Export,
    who: &'a Principal,
}

impl<'a> Door<'a> {
    pub(crate) const fn new(export: &'a Export, who: &'a Principal) -> Self {
        Self { export, who }
    }

    /// Gets a group that an access control list names, on a thread that may wait.
    pub(crate) fn fetch_waiting(&self, group: &[u8]) {
        self.export.groups().fetch_waiting(group);
    }

    /// An existing object to look at.
    ///
    /// # Errors
    ///
    /// -2, -3, and the system's.
    pub fn look(
        &self,
        path: &VirtualPath,
        follow: Follow,
        needed: Rights,
    ) -> Result<Granted, Failure> {
        let located = self.locate(path, follow, needed)?;
        self.require_governing(&located, needed)?;
        located.stat()?;
        if located.is_reserved() && !located.is_acl_file() {
            return Err(Code::NotAuthorized.into());
        }
        Ok(Granted(located))
    }

    /// An object whose allocation is asked for, or the absence of one: what counts then is its
    /// directory.
    ///
    /// # Errors
    ///
    /// -2, -3 without its directory.
    pub fn allocation(&self, path: &VirtualPath) -> Result<Granted, Failure> {
        let located = self.locate(path, Follow::Yes, Rights::LIST)?;
        self.require_governing(&located, Rights::LIST)?;
        refuse_reserved(&located)?;
        Ok(Granted(located))
    }

    /// An existing object to copy to another server; a link is copied itself.
    ///
    /// # Errors
    ///
    /// As [`Door::look`].
    pub fn copy(&self, path: &VirtualPath) -> Result<Granted, Failure> {
        let located = self.locate(path, Follow::No, Rights::READ)?;
        let needed = match located.object() {
            Object::Directory(..) => Rights::LIST,
            Object::Missing(_) | Object::Other(_) => Rights::READ,
        };
        self.require_governing(&located, needed)?;
        located.stat()?;
        refuse_reserved(&located)?;
        Ok(Granted(located))
    }

    /// An existing object, for what `access` asks about.
    ///
    /// # Errors
    ///
    /// As [`Door::look`].
    pub fn access(&self, path: &VirtualPath, mode: AccessMode) -> Result<Granted, Failure> {
        let located = self.locate(path, Follow::Yes, Rights::NONE)?;
        let execute = match located.object() {
            Object::Directory(..) => Rights::LIST,
            Object::Missing(_) | Object::Other(_) => Rights::EXECUTE,
        };
        let needed = [
            (mode.read(), Rights::READ),
            (mode.write(), Rights::WRITE),
            (mode.execute(), execute),
        ];
        let needed = needed
            .into_iter()
            .filter(|(asked, _)| *asked)
            .fold(Rights::NONE, |sum, (_, right)| sum.union(right));
        self.require_governing(&located, needed)?;
        located.stat()?;
        if located.is_reserved() {
            return Err(Code::NotAuthorized.into());
        }
        Ok(Granted(located))
    }

    /// An existing directory to look at; anything else does not exist.
    ///
    /// # Errors
    ///
    /// -2, -3, and the system's.
    pub fn directory(&self, path: &VirtualPath, needed: Rights) -> Result<Granted, Failure> {
        let located = self.locate(path, Follow::Yes, needed)?;
        match located.directory() {
            Ok(_) => {}
            Err(Errno::NOTDIR) => return Err(Code::DoesntExist.into()),
            Err(errno) => return Err(errno.into()),
        }
        self.require_governing(&located, needed)?;
        refuse_reserved(&located)?;
        Ok(Granted(located))
    }

    /// An existing directory whose list will be changed.
    ///
    /// # Errors
    ///
    /// As [`Door::directory`].
    pub fn administer(&self, path: &VirtualPath) -> Result<Granted, Failure> {
        if self.export.is_read_only() {
            return Err(Code::NotAuthorized.into());
        }
        match self.directory(path, Rights::ADMIN) {
            // Where a default list governs, it decides first, and then nothing but a directory has a list.
            Err(Failure::Code(Code::DoesntExist)) if self.export.acls.has_default() => {
                let located = self.locate(path, Follow::Yes, Rights::ADMIN)?;
                let acl = self.export.acls.of_others_in(located.holder());
                let rights = acl.map_err(unreadable).and_then(|acl| {
                    let place = located.holder_path();
                    settled(self.export.rights_by(&acl, place, self.who), Rights::ADMIN)
                })?;
                demand(rights, Rights::ADMIN)?;
                Err(Code::NotDirectory.into())
            }
            other => other,
        }
    }

    /// The list that governs a directory, which everybody may read.
    ///
    /// # Errors
    ///
    /// -2 where no list governs, -3, -14.
    pub fn effective_acl(&self, path: &VirtualPath) -> Result<Arc<Acl>, Failure> {
        let acls = &self.export.acls;
        // With a default list it is shown for names that are no directories too, as in the reference.
        let located = match self.export.root.locate(path, Follow::Yes) {
            Err(Miss::NoParent(_)) if acls.has_default() => {
                return Ok(self.list_of_absent(path).map_err(unlisted)?.0);
            }
            other => other.map_err(|miss| self.missing(miss))?,
        };
        refuse_reserved(&located)?;
        match located.directory() {
            Ok(dir) => acls.effective(dir),
            Err(Errno::NOENT | Errno::NOTDIR) if acls.has_default() => {
                acls.of_others_in(located.holder())
            }
            Err(errno) => Err(errno),
        }
        .map_err(unlisted)
    }

    /// An existing object to change.
    ///
    /// # Errors
    ///
    /// -2, -3, and the system's.
    pub fn change(
        &self,
        path: &VirtualPath,
        follow: Follow,
        needed: Rights,
    ) -> Result<Granted, Failure> {
        let located = self.locate(path, follow, needed)?;
        self.require_governing(&located, needed)?;
        refuse_reserved(&located)?;
        located.stat()?;
        Ok(Granted(located))
    }

    /// What a job binds or runs, or `setrep` is about, whether or not it is there yet.
    ///
    /// # Errors
    ///
    /// -2, -3 without its directory, -8 for a name that listings could not show.
    pub fn bind(&self, path: &VirtualPath, needed: Rights) -> Result<Granted, Failure> {
        let located = self.locate(path, Follow::Yes, needed)?;
        self.require_governing(&located, needed)?;
        refuse_reserved(&located)?;
        refuse_unlistable(&located)?;
        Ok(Granted(located))
    }

    /// A name to make something under, whether or not something has it.
    ///
    /// # Errors
    ///
    /// -2, -3 without its directory, -8 for a name that listings could not show.
    pub fn create(&self, path: &VirtualPath) -> Result<Granted, Failure> {
        let located = self.locate(path, Follow::No, Rights::WRITE)?;
        self.require_governing(&located, Rights::WRITE)?;
        refuse_reserved(&located)?;
        refuse_unlistable(&located)?;
        Ok(Granted(located))
    }

    /// A file to open, with how to open it.
    ///
    /// # Errors
    ///
    /// As part 3.3 has them.
    pub fn open(
        &self,
        path: &VirtualPath,
        flags: OpenFlags,
        mode: u32,
    ) -> Result<(Granted, Open), Failure> {
        let located = self.locate(path, Follow::Yes, Rights::NONE)?;
        let changes = flags.write || flags.create || flags.truncate || flags.append;
        if changes || flags.exclusive {
            refuse_directory(&located)?;
        }
        let wanted = if located.directory().is_ok() {
            Rights::LIST
        } else {
            [(flags.read, Rights::READ), (changes, Rights::WRITE)]
                .into_iter()
                .filter(|(asked, _)| *asked)
                .fold(Rights::NONE, |sum, (_, right)| sum.union(right))
        };
        let rights = self.governing_rights(&located, wanted)?;
        let mut how = Open {
            read: flags.read,
            write: flags.write,
            truncate: flags.truncate,
            append: flags.append,
            sync: flags.sync,
            create: flags.create.then_some(Create {
                mode,
                exclusive: flags.exclusive,
            }),
        };
        if located.directory().is_ok() {
            demand(rights, Rights::LIST)?;
            refuse_reserved(&located)?;
            return Ok((Granted(located), how));
        }
        // A descriptor that can read needs R whatever else it can do (W36).
        if flags.read {
            demand(rights, Rights::READ)?;
        }
        if changes && !rights.contains(Rights::WRITE) {
            demand(rights, Rights::PUT)?;
            let Some(create) = how.create.as_mut() else {
                return Err(Code::NotAuthorized.into());
            };
            if located.exists() {
                return Err(Code::AlreadyExists.into());
            }
            // Whoever takes the name in the meantime keeps it.
            create.exclusive = true;
        }
        if changes {
            refuse_reserved(&located)?;
            refuse_unlistable(&located)?;
        } else {
            located.stat()?;
            if located.is_reserved() && !located.is_acl_file() {
                return Err(Code::NotAuthorized.into());
            }
        }
        Ok((Granted(located), how))
    }

    /// A name to put a whole file under, and whether it may replace one.
    ///
    /// # Errors
    ///
    /// As part 3.4 has them.
    pub fn put(&self, path: &VirtualPath) -> Result<(Granted, Replace), Failure> {
        let located = self.locate(path, Follow::Yes, Rights::PUT)?;
        refuse_directory(&located)?;
        let to_replace = if located.is_acl_file() {
            Rights::ADMIN
        } else {
            Rights::WRITE
        };
        let rights = self.governing_rights(&located, to_replace)?;
        let replace = if rights.contains(to_replace) && !self.export.is_read_only() {
            Replace::Yes
        } else {
            demand(rights, Rights::PUT)?;
            if located.exists() {
                return Err(Code::AlreadyExists.into());
            }
            // P makes files, not lists.
            refuse_reserved(&located)?;
            Replace::No
        };
        if located.is_reserved() && !located.is_acl_file() {
            return Err(Code::NotAuthorized.into());
        }
        refuse_unlistable(&located)?;
        Ok((Granted(located), replace))
    }

    /// A name for a new directory, and the list that it will have (part 6.5).
    ///
    /// # Errors
    ///
    /// As part 3.6 has them.
    pub fn mkdir(&self, path: &VirtualPath) -> Result<(Granted, Acl), Failure> {
        let located = match self.export.root.locate(path, Follow::No) {
            Ok(located) => located,
            // There is no list where there is no directory.
            Err(Miss::NoParent(_)) if !self.export.acls.has_default() => {
                return Err(Code::NotAuthorized.into());
            }
            Err(miss @ Miss::NoParent(_)) => {
                let (acl, place) = self.list_of_absent(path).map_err(unreadable)?;
                let rights = self.export.rights_by(&acl, &place, self.who);
                let rights = settled(rights, Rights::WRITE)?;
                if !rights.contains(Rights::RESERVE) {
                    demand(rights, Rights::WRITE)?;
                }
                return Err(self.missing(miss));
            }
            Err(miss) => return Err(self.missing(miss)),
        };
        if located.directory().is_ok() {
            return Err(Code::AlreadyExists.into());
        }
        let holder = located.holder();
        // A reserved directory's list takes all of them.
        let rights = self
            .export
            .rights(holder, located.holder_path(), self.who)?;
        let acl = if rights.contains(Rights::RESERVE) {
            Acl::new(vec![Entry {
                subject: self.who.subject().as_str().as_bytes().to_vec(),
                rights: rights.for_reserved_directory(),
            }])
        } else {
            demand(rights, Rights::WRITE)?;
            Acl::clone(&*self.export.acls.effective(holder).map_err(unreadable)?)
        };
        refuse_reserved(&located)?;
        refuse_unlistable(&located)?;
        Ok((Granted(located), acl))
    }

    /// A name for a new allocation, as for a new directory; but where there is no directory to make it
    /// in, that is missing.
    ///
    /// # Errors
    ///
    /// As [`Door::mkdir`], and -3.
    pub fn mkalloc(&self, path: &VirtualPath) -> Result<(Granted, Acl), Failure> {
        self.locate(path, Follow::No, Rights::WRITE)?;
        self.mkdir(path)
    }

    /// An object to remove, or the absence of one.
    ///
    /// # Errors
    ///
    /// -2, -3 without its directory.
    pub fn delete(&self, path: &VirtualPath) -> Result<Granted, Failure> {
        let located = self.locate(path, Follow::No, Rights::DELETE)?;
        let located = match self.require(located.holder(), located.holder_path(), Rights::DELETE) {
            Ok(()) => located,
            Err(failure) if located.directory().is_ok() => return Err(failure),
            // D on the directory above the holder is enough for files, as in the reference: it
            // could remove the holder with all that is in it anyway.
            Err(failure @ Failure::Group(_)) => return Err(failure),
            Err(failure) => self.with_above(path, Rights::DELETE)?.ok_or(failure)?,
        };
        refuse_reserved(&located)?;
        Ok(Granted(located))
    }

    /// An object to rename away, or the absence of one.
    ///
    /// # Errors
    ///
    /// -2, -3, -10 for the root.
    pub fn take(&self, path: &VirtualPath) -> Result<Granted, Failure> {
        let located = self.locate(path, Follow::No, Rights::READ.union(Rights::DELETE))?;
        if located.is_root() {
            return Err(Code::Busy.into());
        }
        let rights = self.governing_rights(&located, Rights::READ.union(Rights::DELETE))?;
        demand(rights, Rights::READ)?;
        let located = if rights.contains(Rights::DELETE) {
            located
        } else if located.directory().is_ok() {
            self.require(located.holder(), located.holder_path(), Rights::DELETE)?;
            located
        } else {
            let again = self
                .with_above(path, Rights::DELETE)?
                .ok_or(Failure::Code(Code::NotAuthorized))?;
            self.require_governing(&again, Rights::READ)?;
            again
        };
        refuse_reserved(&located)?;
        Ok(Granted(located))
    }

    /// Locates a non-directory once more, and grants it if the subject has the right in the
    /// directory above the one that holds it.
    fn with_above(&self, path: &VirtualPath, needed: Rights) -> Result<Option<Located>, Failure> {
        let Ok(located) = self.export.root.locate_with_above(path, Follow::No) else {
            return Ok(None);
        };
        let Some(above) = located.above() else {
            return Ok(None);
        };
        match self.require(above, located.above_path(), needed) {
            Ok(()) if located.directory().is_err() => Ok(Some(located)),
            Err(failure @ Failure::Group(_)) => Err(failure),
            Ok(()) | Err(_) => Ok(None),
        }
    }

    /// Finds an object. Where not even its directory is there, `needed` is held against the default
    /// list, if one governs.
    fn locate(
        &self,
        path: &VirtualPath,
        follow: Follow,
        needed: Rights,
    ) -> Result<Located, Failure> {
        match self.export.root.locate(path, follow) {
            Ok(located) => Ok(located),
            Err(miss @ Miss::NoParent(_)) if self.export.acls.has_default() => {
                let (acl, place) = self.list_of_absent(path).map_err(unreadable)?;
                let rights = self.export.rights_by(&acl, &place, self.who);
                demand(settled(rights, needed)?, needed)?;
                Err(self.missing(miss))
            }
            Err(miss) => Err(self.missing(miss)),
        }
    }

    /// Returns the default or inherited list of a name whose directory is not there, and the place that
    /// it is from.
    fn list_of_absent(&self, path: &VirtualPath) -> Result<(Arc<Acl>, Vec<u8>), Errno> {
        let mut path = path.clone();
        while let Some((parent, _)) = path.split_last() {
            path = VirtualPath::from_decoded(parent).map_err(|_| Errno::INVAL)?;
            if let Ok(located) = self.export.root.locate(&path, Follow::Yes) {
                let acl = self.export.acls.of_others_in(located.governing())?;
                return Ok((acl, located.governing_path().to_vec()));
            }
        }
        Err(Errno::NOENT)
    }

    /// Without its directory a file "does not exist", unless a default list governs: then the
    /// system's own error is told (part 3.1).
    fn missing(&self, miss: Miss) -> Failure {
        match miss {
            Miss::NoParent(_) if !self.export.acls.has_default() => Code::DoesntExist.into(),
            // The tree changed faster than it could be looked at; nothing was done.
            Miss::Failed(Errno::AGAIN) => Code::TryAgain.into(),
            miss => miss.errno().into(),
        }
    }

    fn require(&self, dir: &Dir, path: &[u8], needed: Rights) -> Result<(), Failure> {
        demand(self.rights(dir, path, needed)?, needed)
    }

    fn require_governing(&self, located: &Located, needed: Rights) -> Result<(), Failure> {
        demand(self.governing_rights(located, needed)?, needed)
    }

    fn governing_rights(&self, located: &Located, wanted: Rights) -> Result<Rights, Failure> {
        self.rights(located.governing(), located.governing_path(), wanted)
    }

    fn rights(&self, dir: &Dir, path: &[u8], wanted: Rights) -> Result<Rights, Failure> {
        settled(self.export.rights(dir, path, self.who), wanted)
    }
}

/// Returns rights of which `wanted` can be said to be among them or not. What is certain without a group
/// does not wait for it.
fn settled(rights: Result<Rights, Undecided>, wanted: Rights) -> Result<Rights, Failure> {
    match rights {
        Err(Undecided::Group { known, .. }) if known.contains(wanted) => Ok(known),
        other => Ok(other?),
    }
}

/// A list that cannot be read grants nothing (part 3.1); but a lack of descriptors or memory is
/// told as such (W31).
fn unreadable(errno: Errno) -> Failure {
    match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => errno.into(),
        _ => Code::NotAuthorized.into(),
    }
}

/// Where no list governs there is none to show.
fn unlisted(errno: Errno) -> Failure {
    match errno {
        Errno::NOENT => Code::DoesntExist.into(),
        errno => errno.into(),
    }
}

fn demand(rights: Rights, needed: Rights) -> Result<(), Failure> {
    if rights.contains(needed) {
        Ok(())
    } else {
        Err(Code::NotAuthorized.into())
    }
}

/// The server's own names are not for clients (part 5; W1, W3, W5, W7).
fn refuse_reserved(located: &Located) -> Result<(), Failure> {
    if located.is_reserved() {
        Err(Code::NotAuthorized.into())
    } else {
        Ok(())
    }
}

/// Content cannot be put in a directory's place, whoever asks: the reference says so before it looks at
/// rights.
fn refuse_directory(located: &Located) -> Result<(), Failure> {
    if located.directory().is_err() {
        return Ok(());
    }
    refuse_reserved(located)?;
    Err(Code::IsDirectory.into())
}

/// A name with an LF would break the listings it stands in (W12).
fn refuse_unlistable(located: &Located) -> Result<(), Failure> {
    if memchr::memchr(b'\n', located.name()).is_some() {
        Err(Code::InvalidRequest.into())
    } else {
        Ok(())
    }
}
