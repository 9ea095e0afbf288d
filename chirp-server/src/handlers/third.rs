//! `whoareyou`, `thirdput` (parts 3.2 and 3.9): what is asked and what is read here. The connection
//! calls the other server.

use std::fs::File;
use std::sync::Arc;

use chirp_client::Address;
use chirp_proto::acl::{Acl, Rights};
use chirp_proto::{Code, VirtualPath};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::authorize::{Door, Failure};
use crate::export::Export;
use crate::heavy::Slice;
use crate::outcome::Outcome;
use crate::session::Principal;
use crate::vfs::walk::{Event, Walk};
use crate::vfs::{Dir, Located, Open};

/// Bytes of the largest file that is read before it is sent; larger ones are read while they are sent.
const SMALL: usize = 64 * 1024;

/// Entries that are read at once.
const BATCH: usize = 64;

/// Bytes of small files after which no more entries are read at once.
const BATCH_BYTES: usize = 256 * 1024;

/// What it takes to copy a directory with its files.
const TO_COPY: Rights = Rights::READ.union(Rights::LIST);

/// Asks another server who this one is there.
pub(crate) fn whoareyou(host: &[u8], limit: u64) -> Result<Outcome, Failure> {
    Ok(Outcome::Whoareyou {
        address: address(host)?,
        limit,
    })
}

/// Copies something to another server.
pub(crate) fn thirdput(
    door: Door<'_>,
    who: &Principal,
    path: &VirtualPath,
    host: &[u8],
    target: &VirtualPath,
) -> Result<Outcome, Failure> {
    let address = address(host)?;
    let source = door.copy(path)?;
    let copying = Copying {
        who: who.clone(),
        place: source.path().to_vec(),
        target: target.clone(),
        walk: None,
        start: Some(Located::clone(&source)),
    };
    Ok(Outcome::Thirdput {
        address,
        copying: Box::new(copying),
    })
}

fn address(host: &[u8]) -> Result<Address, Failure> {
    let text = std::str::from_utf8(host).ok();
    let address = text.and_then(|text| text.parse::<Address>().ok());
    // A socket of this machine is nothing that a client may reach through the server.
    let address = address.filter(|address| address.unix_path().is_none());
    address.ok_or(Failure::Code(Code::InvalidRequest))
}

/// What is to be copied, read step by step with the rights of the one who asked for it.
pub struct Copying {
    who: Principal,
    /// The link-free path of what is copied, below the root.
    place: Vec<u8>,
    target: VirtualPath,
    start: Option<Located>,
    /// Remembers of each directory what its reader may do there.
    walk: Option<Walk<Rights>>,
}

/// The next thing to be done at the other server.
pub(crate) enum Item {
    /// Make a directory; what is in it comes next. If that fails it has to be left: [`Copying::leave`].
    Directory(VirtualPath),
    /// Put a file.
    File {
        target: VirtualPath,
        mode: u32,
        content: Content,
    },
    /// Make a link.
    Link { target: VirtualPath, text: Vec<u8> },
    /// All that is in a directory was named: give it its rights.
    Rights { target: VirtualPath, acl: Arc<Acl> },
    /// Something here that cannot be copied.
    Refused(Code),
}

impl Item {
    /// Returns how many bytes of content it keeps in memory.
    const fn held(&self) -> usize {
        match self {
            Self::File {
                content: Content::Small(content),
                ..
            } => content.len(),
            _ => 0,
        }
    }
}

/// What a file holds.
pub(crate) enum Content {
    Small(Vec<u8>),
    Large { file: File, length: u64 },
}

impl Copying {
    /// Returns who copies.
    pub(crate) const fn who(&self) -> &Principal {
        &self.who
    }

    /// Appends the next items. They end with a directory to be made, if there is one. Returns whether
    /// there is more.
    pub(crate) fn read(&mut self, export: &Export, items: &mut Vec<Item>, slice: &Slice) -> bool {
        if let Some(start) = self.start.take() {
            return match self.begin(export, &start) {
                Ok((item, more)) => {
                    items.extend(item);
                    more
                }
                Err(errno) => {
                    items.push(refused(errno));
                    false
                }
            };
        }
        let Some(mut walk) = self.walk.take() else {
            return false;
        };
        let mut bytes = 0;
        loop {
            if items.len() >= BATCH || bytes >= BATCH_BYTES || slice.is_over() {
                break;
            }
            match walk.advance() {
                None => return false,
                Some(Err(errno)) => items.push(refused(errno)),
                Some(Ok(Event::End)) => {
                    items.push(self.rights(export, &walk));
                    walk.leave();
                }
                Some(Ok(Event::Entry)) => match self.entry(export, &mut walk) {
                    Ok(None) | Err(Errno::NOENT) => {}
                    Ok(Some(item @ Item::Directory(_))) => {
                        items.push(item);
                        break;
                    }
                    Ok(Some(item)) => {
                        bytes += item.held();
                        items.push(item);
                    }
                    Err(errno) => items.push(refused(errno)),
                },
            }
        }
        self.walk = Some(walk);
        true
    }

    /// Leaves the directory that was named last.
    pub(crate) fn leave(&mut self) {
        if let Some(walk) = &mut self.walk {
            walk.leave();
        }
    }

    fn begin(&mut self, export: &Export, start: &Located) -> Result<(Option<Item>, bool), Errno> {
        let target = self.target.clone();
        let stat = start.stat()?;
        let item = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let dir = start.directory()?;
                let rights = export.rights_waiting(dir, &self.place, &self.who, TO_COPY)?;
                self.walk = Some(Walk::new(dir, rights)?);
                return Ok((Some(Item::Directory(target)), true));
            }
            FileType::RegularFile => {
                let how = Open {
                    read: true,
                    ..Open::default()
                };
                Some(file(target, start.open(how)?)?)
            }
            FileType::Symlink => Some(Item::Link {
                target,
                text: start.readlink()?,
            }),
            _ => None,
        };
        Ok((item, false))
    }

    fn entry(&self, export: &Export, walk: &mut Walk<Rights>) -> Result<Option<Item>, Errno> {
        let (Some(dir), Some(rights)) = (walk.dir(), walk.data()) else {
            return Ok(None);
        };
        let name = walk.name();
        let kind = match walk.file_type() {
            FileType::Unknown => FileType::from_raw_mode(dir.stat(name)?.st_mode),
            kind => kind,
        };
        let below = [self.target.as_bytes(), walk.path(), b"/", name].concat();
        let target = VirtualPath::from_decoded(&below).map_err(|_| Errno::NAMETOOLONG)?;
        match kind {
            FileType::Directory => {
                let child = walk.open()?;
                let place = [&self.place, walk.path(), b"/", name].concat();
                let place = place.strip_prefix(b"/").unwrap_or(&place);
                let rights = export.rights_waiting(&child, place, &self.who, TO_COPY)?;
                if !rights.contains(Rights::LIST) {
                    return Err(Errno::ACCESS);
                }
                walk.enter(child, rights)?;
                Ok(Some(Item::Directory(target)))
            }
            FileType::RegularFile | FileType::Symlink if !rights.contains(Rights::READ) => {
                Err(Errno::ACCESS)
            }
            FileType::RegularFile => file(target, open(dir, name)?).map(Some),
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes();
                Ok(Some(Item::Link { target, text }))
            }
            _ => Ok(None),
        }
    }

    /// The rights of the current directory.
    fn rights(&self, export: &Export, walk: &Walk<Rights>) -> Item {
        let below = [self.target.as_bytes(), walk.path()].concat();
        let (Ok(target), Some(dir)) = (VirtualPath::from_decoded(&below), walk.dir()) else {
            return Item::Refused(Code::NameTooLong);
        };
        match export.acls.effective(dir) {
            Ok(acl) => Item::Rights { target, acl },
            Err(errno) => refused(errno),
        }
    }
}

fn refused(errno: Errno) -> Item {
    Item::Refused(Code::from_errno(errno.raw_os_error()))
}

/// Opens a regular file; what took its place meanwhile is missing.
fn open(dir: &Dir, name: &[u8]) -> Result<File, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => Err(Errno::NOENT),
        Err(errno) => Err(errno),
    }
}

fn file(target: VirtualPath, file: File) -> Result<Item, Errno> {
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::NOENT);
    }
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    let content = match usize::try_from(length) {
        Ok(length) if length <= SMALL => Content::Small(read(&file, length)?),
        _ => Content::Large { file, length },
    };
    Ok(Item::File {
        target,
        mode: stat.st_mode,
        content,
    })
}

/// Reads this many bytes, or as many as there are by now.
fn read(file: &File, length: usize) -> Result<Vec<u8>, Errno> {
    let mut content = Vec::with_capacity(length);
    while content.len() < length {
        match rustix::io::read(file, rustix::buffer::spare_capacity(&mut content)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(content)
}
