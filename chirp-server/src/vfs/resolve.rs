//! Virtual paths to objects (`chirp-protocol.md`, parts 3.1 and 5).
//!
//! The fast way asks the kernel for the directory of the path with links forbidden; then the text
//! of the path is also the place that was reached. Where the kernel meets a link (or has no
//! `openat2`), the slow way goes from the root component by component with a stack of handles:
//! `..` goes back on the stack and an absolute link empties it, so nothing leads above the root,
//! and every name on the way is known and can be held against the reserved ones.

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use chirp_proto::VirtualPath;

use super::{Dir, Located, Object, Root, is_reserved};

/// Links followed by one walk; more are a loop (part 5).
const LINKS_MAX: usize = 100;

/// Names looked at by one walk. A path has at most 512, and so may one that links lead to; the
/// reference, which has one limit of 100 for both, takes a deep path for a loop.
const STEPS_MAX: usize = 1100;

/// How often a path is looked up again because it changed while it was looked at.
const RACES_MAX: usize = 64;

/// Whether a link at the end of a path is followed. Links before the end always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The object is what the link leads to.
    Yes,
    /// The object is the link.
    No,
}

/// Why nothing can be said about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The directory that would hold the object is missing (`NOENT`), no directory (`NOTDIR`), or cannot be reached
    /// through links that lead in a circle (`LOOP`).
    NoParent(Errno),
    /// The system's error on the way there.
    Failed(Errno),
}

impl Miss {
    /// Returns the system's error, whichever it is.
    #[must_use]
    pub const fn errno(self) -> Errno {
        match self {
            Self::NoParent(errno) | Self::Failed(errno) => errno,
        }
    }

    /// Sorts an error met while a directory on the way was entered.
    const fn on_the_way(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Self::NoParent(errno),
            other => Self::Failed(other),
        }
    }
}

impl Root {
    /// Finds the object of a path. A missing object is a result, not an error, as long as the
    /// directory that would hold it exists.
    ///
    /// # Errors
    ///
    /// [`Miss`]; `LOOP` for too many links or steps, `AGAIN` if the tree keeps changing.
    pub fn locate(&self, path: &VirtualPath, follow: Follow) -> Result<Located, Miss> {
        for _ in 0..RACES_MAX {
            let found = match self.locate_without_links(path, follow) {
                Ok(Some(located)) => return Ok(located),
                Ok(None) => self.walk(path, follow),
                Err(miss) => Err(miss),
            };
            match found {
                Err(Miss::Failed(Errno::AGAIN | Errno::STALE | Errno::INTR)) => {}
                other => return other,
            }
        }
        Err(Miss::Failed(Errno::AGAIN))
    }

    /// Finds the object as [`Root::locate`] does, but always by walking, so that the result knows
    /// the directory above the one that holds the object.
    ///
    /// # Errors
    ///
    /// As [`Root::locate`].
    pub fn locate_with_above(&self, path: &VirtualPath, follow: Follow) -> Result<Located, Miss> {
        for _ in 0..RACES_MAX {
            match self.walk(path, follow) {
                Err(Miss::Failed(Errno::AGAIN | Errno::STALE | Errno::INTR)) => {}
                other => return other,
            }
        }
        Err(Miss::Failed(Errno::AGAIN))
    }

    /// The fast way; `None` where a link is on it.
    fn locate_without_links(
        &self,
        path: &VirtualPath,
        follow: Follow,
    ) -> Result<Option<Located>, Miss> {
        let Some((parent, name)) = path.split_last() else {
            let stat = rustix::fs::fstat(self.dir()).map_err(Miss::Failed)?;
            return Ok(Some(Located::root(self.dir().clone(), stat)));
        };
        let dir = if parent.is_empty() {
            self.dir().clone()
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve =
                ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(self.dir(), parent, flags, Mode::empty(), resolve) {
                Ok(fd) => Dir::new(fd),
                // A link; or a kernel or a system call filter without openat2.
                Err(Errno::LOOP | Errno::NOSYS | Errno::PERM) => return Ok(None),
                Err(errno) => return Err(Miss::on_the_way(errno)),
            }
        };
        let object = look(&dir, name).map_err(Miss::Failed)?;
        if object.is_symlink() && follow == Follow::Yes {
            return Ok(None);
        }
        let names = path.relative();
        let reserved = names.split(|&byte| byte == b'/').any(is_reserved);
        Ok(Some(Located::new(
            dir,
            None,
            names.to_vec(),
            object,
            reserved,
        )))
    }

    /// The slow way.
    fn walk(&self, path: &VirtualPath, follow: Follow) -> Result<Located, Miss> {
        let mut walk = Walk {
            root: self.dir().clone(),
            entered: Vec::new(),
            pending: Vec::new(),
            steps: 0,
            links: 0,
        };
        walk.push(path.relative());
        walk.run(follow)
    }
}

/// One walk from the root.
struct Walk {
    root: Dir,
    /// The directories entered below the root, with their names.
    entered: Vec<(Vec<u8>, Dir)>,
    /// The components still to go, last one first.
    pending: Vec<Vec<u8>>,
    steps: usize,
    links: usize,
}

impl Walk {
    fn run(&mut self, follow: Follow) -> Result<Located, Miss> {
        while let Some(name) = self.pending.pop() {
            self.steps += 1;
            // What is queued will be a step each: counting it now bounds the memory too.
            if self.steps + self.pending.len() > STEPS_MAX {
                return Err(Miss::Failed(Errno::LOOP));
            }
            if name == b".." {
                self.entered.pop();
            } else if self.pending.is_empty() {
                let object = look(self.here(), &name).map_err(Miss::Failed)?;
                if !(object.is_symlink() && follow == Follow::Yes) {
                    return Ok(self.found(&name, object));
                }
                let target = read_link(self.here(), &name).map_err(Miss::Failed)?;
                self.follow(&target).map_err(Miss::Failed)?;
            } else {
                self.enter(name).map_err(Miss::on_the_way)?;
            }
        }
        self.found_here()
    }

    fn here(&self) -> &Dir {
        self.entered.last().map_or(&self.root, |(_, dir)| dir)
    }

    /// Goes into a directory, or queues the target of a link to one.
    fn enter(&mut self, name: Vec<u8>) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.here(), name.as_slice(), flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.entered.push((name, Dir::new(fd))),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
                self.follow(target.as_bytes())?;
            }
            _ => return Err(Errno::NOTDIR),
        }
        Ok(())
    }

    /// Queues a link's target in front of what is still to go.
    fn follow(&mut self, target: &[u8]) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        if target.starts_with(b"/") {
            self.entered.clear();
        }
        self.push(target);
        Ok(())
    }

    /// Queues the components of a path in front of what is still to go.
    fn push(&mut self, path: &[u8]) {
        let components = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".");
        self.pending.extend(components.rev().map(<[u8]>::to_vec));
    }

    /// The walk ended at a name in the current directory.
    fn found(&self, name: &[u8], object: Object) -> Located {
        let mut names = Vec::new();
        let mut reserved = is_reserved(name);
        for (entered, _) in &self.entered {
            reserved |= is_reserved(entered);
            names.extend_from_slice(entered);
            names.push(b'/');
        }
        names.extend_from_slice(name);
        let above = match self.entered.as_slice() {
            [] => None,
            [_] => Some(self.root.clone()),
            [.., (_, above), _] => Some(above.clone()),
        };
        Located::new(self.here().clone(), above, names, object, reserved)
    }

    /// The walk ended at a directory it has entered, as with a link to `..`.
    fn found_here(&mut self) -> Result<Located, Miss> {
        let stat = rustix::fs::fstat(self.here()).map_err(Miss::Failed)?;
        Ok(match self.entered.pop() {
            None => Located::root(self.root.clone(), stat),
            Some((name, dir)) => self.found(&name, Object::Directory(dir, stat)),
        })
    }
}

/// Looks at one name in a directory without following it.
///
/// `STALE` says that it changed in between.
fn look(dir: &Dir, name: &[u8]) -> Result<Object, Errno> {
    let stat = match dir.stat(name) {
        Ok(stat) => stat,
        // Too long a name is missing as far as rights are concerned; the operation reports it.
        Err(errno @ (Errno::NOENT | Errno::NAMETOOLONG)) => return Ok(Object::Missing(errno)),
        Err(errno) => return Err(errno),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(Object::Other(stat));
    }
    match dir.child(name) {
        Ok(child) => {
            let stat = rustix::fs::fstat(&child)?;
            Ok(Object::Directory(child, stat))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Err(Errno::STALE),
        Err(errno) => Err(errno),
    }
}

/// Reads a link that was there a moment ago.
fn read_link(dir: &Dir, name: &[u8]) -> Result<Vec<u8>, Errno> {
    match rustix::fs::readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(target.into_bytes()),
        Err(Errno::INVAL | Errno::NOENT) => Err(Errno::STALE),
        Err(errno) => Err(errno),
    }
}

impl Object {
    /// Reports whether a link is there.
    fn is_symlink(&self) -> bool {
        matches!(self, Self::Other(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }
}
