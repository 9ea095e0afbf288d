//! The socket file of `--listen-unix`.
//!
//! A lock beside it belongs to the server for as long as it lives, so that a file that a killed server
//! left can be told from one that is served, and of two servers that start at the same time one wins.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Gid, Uid};

use super::BACKLOG;

/// A listening socket and the lock on its place.
#[derive(Debug)]
pub struct UnixSocket {
    path: PathBuf,
    /// Taken by the listener.
    socket: Option<OwnedFd>,
    /// Held for as long as the server lives.
    _lock: OwnedFd,
}

impl UnixSocket {
    /// Makes the file and listens. Only those may connect whom `mode` lets write to it; it belongs to
    /// `owner` if that is given. To be called before there are threads: the umask is changed meanwhile.
    ///
    /// # Errors
    ///
    /// The message names the file: another server listens there, something else has the name, or the
    /// system refuses it.
    pub fn bind(path: &Path, mode: Mode, owner: Option<(Uid, Gid)>) -> anyhow::Result<Self> {
        let named = || format!("cannot listen on {} (--listen-unix)", path.display());
        let address = SocketAddrUnix::new(path).map_err(|error| match error {
            Errno::NAMETOOLONG => anyhow::anyhow!("the path has more than 107 bytes"),
            error => error.into(),
        });
        let address = address.with_context(named)?;
        let lock = lock(path).with_context(named)?;
        clear(path).with_context(named)?;
        let listen = || -> rustix::io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
            let socket = rustix::net::socket_with(family, kind, flags, None)?;
            // There is no moment at which others may connect.
            let before = rustix::process::umask(Mode::from_raw_mode(0o777) - mode);
            let bound = rustix::net::bind(&socket, &address);
            rustix::process::umask(before);
            bound?;
            if let Some((uid, gid)) = owner {
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(CWD, path, Some(uid), Some(gid), flags)?;
                // The next server may be started by that account itself.
                rustix::fs::fchown(&lock, Some(uid), Some(gid))?;
            }
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket)
        };
        Ok(Self {
            socket: Some(listen().with_context(named)?),
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Returns the listening socket, once.
    pub(super) fn take(&mut self) -> Option<OwnedFd> {
        self.socket.take()
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Ours, by the lock. An account that may not remove it leaves it to the next server.
        let _stays = std::fs::remove_file(&self.path);
    }
}

/// Takes the lock beside a socket.
fn lock(path: &Path) -> anyhow::Result<OwnedFd> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = Path::new(&beside);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, beside, flags, Mode::RUSR | Mode::WUSR);
    let lock = opened.with_context(|| format!("cannot open the lock {}", beside.display()))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => bail!("another server listens there"),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", beside.display())),
    }
}

/// Removes a socket that nobody listens on any more.
fn clear(path: &Path) -> anyhow::Result<()> {
    let there = match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => there,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let kind = FileType::from_raw_mode(there.st_mode);
    ensure!(
        kind == FileType::Socket,
        "something that is no socket has that name; remove it or choose another"
    );
    match UnixStream::connect(path) {
        Ok(_) => bail!("another program listens there"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).context("cannot remove the socket of a server that has gone")
        }
        Err(error) => Err(error).context("cannot tell whether another program listens there"),
    }
}

/// The permissions of a socket file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub Mode);

impl std::str::FromStr for SocketMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match u32::from_str_radix(text, 8) {
            Ok(bits) if bits <= 0o777 => Ok(Self(Mode::from_raw_mode(bits))),
            _ => Err("an octal number from 0 to 777"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_have_is_left_and_what_the_dead_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mode = Mode::from_raw_mode(0o600);
        let bind = || UnixSocket::bind(&path, mode, None);
        let first = bind().unwrap();
        let permissions = std::fs::metadata(&path).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
        let refused = format!("{:#}", bind().unwrap_err());
        assert!(
            refused.contains("another server listens there"),
            "{refused}"
        );
        assert!(
            UnixStream::connect(&path).is_ok(),
            "the first is still there"
        );
        drop(first);
        assert!(!path.exists());
        // As after a kill: the file is there, and nobody listens or holds the lock.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let second = bind().unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
        // Another program, which knows of no lock.
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(bind().is_err());
        drop(other);
        std::fs::remove_file(&path).unwrap();
        for place in ["file", "link"] {
            match place {
                "file" => drop(std::fs::File::create(&path).unwrap()),
                _ => std::os::unix::fs::symlink(directory.path().join("other"), &path).unwrap(),
            }
            let refused = format!("{:#}", bind().unwrap_err());
            assert!(refused.contains("no socket"), "{refused}");
            std::fs::remove_file(&path).unwrap();
        }
        let long = directory.path().join("x".repeat(120));
        let refused = format!("{:#}", UnixSocket::bind(&long, mode, None).unwrap_err());
        assert!(refused.contains("107 bytes"), "{refused}");
    }
}
