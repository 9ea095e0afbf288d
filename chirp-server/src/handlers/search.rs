//! `search` (part 11).
//!
//! Links to directories are entered, as in the reference, but not one that leads to a directory on
//! the way to it, none inside [`LINKS_NESTED_MAX`] others, and no more than [`LINKS_MAX`] in one search; so
//! every search ends (W9). A name with an LF is left out, and so is what lies below it (W12).

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};
use chirp_proto::acl::Rights;
use chirp_proto::{Stat, VirtualPath};
use rustix::fs::{Access, AtFlags, FileType};
use rustix::io::Errno;

use crate::authorize::Failure;
use crate::export::Export;
use crate::heavy::Slice;
use crate::outcome::{Outcome, Steps, Turn};
use crate::pattern::Patterns;
use crate::session::Principal;
use crate::vfs::listing::PIECE;
use crate::vfs::walk::{Event, Walk};
use crate::vfs::{Dir, Follow, Miss, wire};

/// Links to directories that one search enters.
const LINKS_MAX: usize = 1000;

/// Links that lead to the place where a further one is entered.
const LINKS_NESTED_MAX: usize = 8;

/// What failed, as the error lines name it.
#[derive(Clone, Copy)]
enum Source {
    Open = 1,
    Read = 2,
    Stat = 4,
}

/// Starts a search. It asks for L in each directory that it reads, where the reference asks for W in
/// the search's root.
pub(crate) fn search(
    who: &Principal,
    patterns: &[u8],
    roots: &[u8],
    flags: u64,
) -> Result<Outcome, Failure> {
    let roots: Result<VecDeque<VirtualPath>, _> = roots
        .split(|&byte| byte == b'|')
        .map(VirtualPath::from_wire)
        .collect();
    let mut access = Access::empty();
    access.set(Access::READ_OK, flags & 16 != 0);
    access.set(Access::WRITE_OK, flags & 32 != 0);
    access.set(Access::EXEC_OK, flags & 64 != 0);
    Ok(Outcome::Steps(Box::new(Search {
        who: who.clone(),
        patterns: Patterns::parse(patterns),
        roots: roots?,
        first_only: flags & 1 != 0,
        with_stat: flags & 2 != 0,
        from_root: flags & 4 != 0,
        access,
        begun: false,
        links_left: LINKS_MAX,
        walk: None,
    })))
}

struct Search {
    who: Principal,
    patterns: Patterns,
    roots: VecDeque<VirtualPath>,
    first_only: bool,
    with_stat: bool,
    from_root: bool,
    access: Access,
    begun: bool,
    links_left: usize,
    walk: Option<(Base, Walk<Entered>)>,
}

/// The virtual path of a search's root, without a slash at its end.
struct Base(Vec<u8>);

/// How a directory was come to.
struct Entered {
    by_link: bool,
    /// Where it really is: its link-free path below the root, by which a ticket's masks go.
    place: Vec<u8>,
}

impl Steps for Search {
    fn step(&mut self, export: &Export, out: &mut BytesMut, slice: &Slice) -> Turn {
        if !self.begun {
            self.begun = true;
            out.put_slice(b"0\n");
        }
        let enough = out.len() + PIECE;
        while out.len() < enough && !slice.is_over() {
            let Some((base, mut walk)) = self.walk.take() else {
                let Some(root) = self.roots.pop_front() else {
                    out.put_u8(b'\n');
                    return Turn::End;
                };
                self.begin(export, &root, out);
                continue;
            };
            match walk.advance() {
                None => continue,
                Some(Ok(Event::End)) => drop(walk.leave()),
                Some(Ok(Event::Entry)) => {
                    if self.entry(export, &base, &mut walk, out) && self.first_only {
                        self.roots.clear();
                        continue;
                    }
                }
                Some(Err(errno)) => put_error(out, errno, Source::Read, &[&base.0, walk.path()]),
            }
            self.walk = Some((base, walk));
        }
        Turn::More
    }
}

impl Search {
    fn begin(&mut self, export: &Export, root: &VirtualPath, out: &mut BytesMut) {
        let base = match root.relative() {
            b"" => Vec::new(),
            relative => [b"/", relative].concat(),
        };
        match self.open_root(export, root) {
            Ok(walk) => self.walk = Some((Base(base), walk)),
            Err(errno) if base.is_empty() => put_error(out, errno, Source::Open, &[b"/"]),
            Err(errno) => put_error(out, errno, Source::Open, &[&base]),
        }
    }

    fn open_root(&self, export: &Export, root: &VirtualPath) -> Result<Walk<Entered>, Errno> {
        let located = export
            .root
            .locate(root, Follow::Yes)
            .map_err(|miss| match miss {
                Miss::NoParent(_) => Errno::NOENT,
                Miss::Failed(errno) => errno,
            })?;
        self.require_list(export, located.governing(), located.governing_path())?;
        // Before it shows whether something has that name.
        if located.is_reserved() {
            return Err(Errno::PERM);
        }
        let dir = located.directory()?;
        let entered = Entered {
            by_link: false,
            place: located.path().to_vec(),
        };
        Walk::new(dir, entered)
    }

    /// Reports an entry and enters it. Returns whether it was a match.
    fn entry(
        &mut self,
        export: &Export,
        base: &Base,
        walk: &mut Walk<Entered>,
        out: &mut BytesMut,
    ) -> bool {
        if memchr::memchr(b'\n', walk.name()).is_some() {
            return false;
        }
        let path = [walk.path(), b"/", walk.name()].concat();
        let Some(dir) = walk.dir() else {
            return false;
        };
        let mut stat = None;
        let mut kind = walk.file_type();
        let matched = self.patterns.matches(&path);
        if kind == FileType::Unknown || (matched && self.with_stat) {
            match dir.stat(walk.name()) {
                Ok(found) => {
                    kind = FileType::from_raw_mode(found.st_mode);
                    stat = Some(wire::stat(&found));
                }
                Err(Errno::NOENT) => return false,
                Err(errno) => {
                    put_error(out, errno, Source::Stat, &[&base.0, &path]);
                    return false;
                }
            }
        }
        let matched = matched && self.may_access(export, base, &path, kind, dir, walk.name());
        if matched {
            let shown: &[&[u8]] = if self.from_root {
                &[&base.0, &path]
            } else {
                &[&path]
            };
            put_match(out, shown, stat.filter(|_| self.with_stat).as_ref());
            if self.first_only {
                return true;
            }
        }
        if self.patterns.reaches_below(&path) {
            let entered = match kind {
                FileType::Directory => self.enter(export, walk),
                FileType::Symlink => self.enter_link(export, base, &path, walk),
                _ => Ok(()),
            };
            match entered {
                // Gone, or something else by now.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => put_error(out, errno, Source::Open, &[&base.0, &path]),
            }
        }
        matched
    }

    fn enter(&self, export: &Export, walk: &mut Walk<Entered>) -> Result<(), Errno> {
        let dir = walk.open()?;
        let above = walk.data().map_or(b"".as_slice(), |above| &above.place);
        let place = [above, b"/", walk.name()].concat();
        self.require_list(export, &dir, &place)?;
        walk.enter(
            dir,
            Entered {
                by_link: false,
                place,
            },
        )
    }

    /// Enters the directory that a link leads to, if it leads to one.
    fn enter_link(
        &mut self,
        export: &Export,
        base: &Base,
        path: &[u8],
        walk: &mut Walk<Entered>,
    ) -> Result<(), Errno> {
        let path =
            VirtualPath::from_decoded(&[&base.0, path].concat()).map_err(|_| Errno::NAMETOOLONG)?;
        let Ok(located) = export.root.locate(&path, Follow::Yes) else {
            return Ok(());
        };
        let Ok(target) = located.directory() else {
            return Ok(());
        };
        if located.is_reserved() || is_on_the_way(walk, target)? {
            return Ok(());
        }
        if self.links_left == 0
            || walk.all_data().filter(|way| way.by_link).count() >= LINKS_NESTED_MAX
        {
            return Err(Errno::LOOP);
        }
        self.links_left -= 1;
        self.require_list(export, target, located.path())?;
        let dir = walk.open_elsewhere(target)?;
        let entered = Entered {
            by_link: true,
            place: located.path().to_vec(),
        };
        walk.enter(dir, entered)
    }

    fn require_list(&self, export: &Export, dir: &Dir, place: &[u8]) -> Result<(), Errno> {
        let rights = export.rights_waiting(dir, place, &self.who, Rights::LIST)?;
        if rights.contains(Rights::LIST) {
            Ok(())
        } else {
            Err(Errno::PERM)
        }
    }

    /// Reports whether the server's account may do to the entry what the search asks for; to a link, if
    /// it may do so to what it leads to.
    fn may_access(
        &self,
        export: &Export,
        base: &Base,
        path: &[u8],
        kind: FileType,
        dir: &Dir,
        name: &[u8],
    ) -> bool {
        if self.access.is_empty() {
            return true;
        }
        if kind != FileType::Symlink {
            let flags = AtFlags::EACCESS | AtFlags::SYMLINK_NOFOLLOW;
            return rustix::fs::accessat(dir, name, self.access, flags).is_ok();
        }
        let target = VirtualPath::from_decoded(&[&base.0, path].concat())
            .ok()
            .and_then(|path| export.root.locate(&path, Follow::Yes).ok());
        target.is_some_and(|target| {
            let wants = |access| self.access.contains(access);
            target
                .access(
                    wants(Access::READ_OK),
                    wants(Access::WRITE_OK),
                    wants(Access::EXEC_OK),
                )
                .is_ok()
        })
    }
}

/// Reports whether a directory is one of those that lead to where the walk is.
fn is_on_the_way(walk: &Walk<Entered>, dir: &Dir) -> Result<bool, Errno> {
    let identity = |dir: &Dir| rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino));
    let wanted = identity(dir)?;
    for way in walk.dirs() {
        if identity(way)? == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

fn put_match(out: &mut BytesMut, path: &[&[u8]], stat: Option<&Stat>) {
    out.put_slice(b"0:");
    for part in path {
        out.put_slice(part);
    }
    out.put_u8(b':');
    if let Some(stat) = stat {
        stat.encode_into(out);
        // The line goes on.
        out.truncate(out.len().saturating_sub(1));
    }
    out.put_slice(b":\n");
}

fn put_error(out: &mut BytesMut, errno: Errno, source: Source, path: &[&[u8]]) {
    let head = format!("{}:{}:", errno.raw_os_error(), source as u8);
    out.put_slice(head.as_bytes());
    for part in path {
        out.put_slice(part);
    }
    out.put_slice(b":\n");
}
