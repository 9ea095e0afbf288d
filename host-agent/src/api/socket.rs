//! The API's Unix socket: where it is, how it is taken, who may speak to it.
//!
//! The socket has mode 0600 from its first moment, an agent that lives is never pushed aside (a lock file
//! beside the socket tells, and a try to connect), and both ends look at the other's user: only the same
//! one, and root, get through.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::serve::Listener;
use rustix::fs::{FlockOperation, Mode};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

use crate::error::SocketError;

/// The socket's name in the user's runtime directory.
const FILE_NAME: &str = "host-agent.sock";

/// Bytes of a path in a Unix socket address, the NUL at its end not counted (unix(7)).
const PATH_MAX: usize = 107;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Returns the socket's path: the one that is set, else the default one of this user.
///
/// The default lies in `$XDG_RUNTIME_DIR`, else in `/run/user/UID`, else in `/tmp/host-agent-UID`. The
/// directory must be the user's own and closed to others; the one below `/tmp` is made when missing.
///
/// # Errors
///
/// The directory is somebody else's or open to others, or cannot be made.
pub(crate) fn path(set: Option<PathBuf>) -> Result<PathBuf, SocketError> {
    let path = match set {
        Some(path) => {
            std::path::absolute(&path).map_err(|source| SocketError::Io { path, source })?
        }
        None => runtime_directory(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from))?
            .join(FILE_NAME),
    };
    if path.as_os_str().len() > PATH_MAX {
        return Err(SocketError::TooLong {
            path,
            limit: PATH_MAX,
        });
    }
    Ok(path)
}

fn runtime_directory(xdg: Option<PathBuf>) -> Result<PathBuf, SocketError> {
    let uid = rustix::process::geteuid().as_raw();
    if let Some(directory) = xdg.filter(|directory| directory.is_absolute()) {
        check_private(&directory, uid)?;
        return Ok(directory);
    }
    let directory = PathBuf::from(format!("/run/user/{uid}"));
    if check_private(&directory, uid).is_ok() {
        return Ok(directory);
    }
    let directory = Path::new("/tmp").join(format!("host-agent-{uid}"));
    private_directory(&directory, uid)?;
    Ok(directory)
}

/// Makes a directory that only this user can enter, or checks the one that is there.
fn private_directory(directory: &Path, uid: u32) -> Result<(), SocketError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => {
            return Err(SocketError::Io {
                path: directory.to_owned(),
                source,
            });
        }
    }
    check_private(directory, uid)
}

fn check_private(directory: &Path, uid: u32) -> Result<(), SocketError> {
    let wrong = |reason: String| {
        Err(SocketError::Directory {
            path: directory.to_owned(),
            reason,
        })
    };
    // Not following links: below /tmp anybody could have put one there.
    match std::fs::symlink_metadata(directory) {
        Err(error) => wrong(format!("cannot be looked at ({error})")),
        Ok(found) if !found.is_dir() => wrong("is no directory".to_owned()),
        Ok(found) if found.uid() != uid => wrong(format!("belongs to user {}", found.uid())),
        Ok(found) if found.mode() & 0o077 != 0 => wrong("is open to other users".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// The API's socket, taken. Dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct ApiListener {
    listener: UnixListener,
    path: PathBuf,
    uid: u32,
    /// Locked as long as this agent lives; the kernel unlocks it whatever ends the process.
    _lock: File,
}

impl ApiListener {
    /// Takes the socket. One that nobody listens on any more is replaced.
    ///
    /// # Errors
    ///
    /// Another agent is running there, something else stands there, or a system call fails.
    pub(crate) fn bind(path: PathBuf) -> Result<Self, SocketError> {
        let lock = lock_beside(&path)?;
        clear_stale(&path)?;
        let listener = bind_private(&path).map_err(|source| SocketError::Io {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            listener,
            path,
            uid: rustix::process::geteuid().as_raw(),
            _lock: lock,
        })
    }
}

impl Drop for ApiListener {
    fn drop(&mut self) {
        // Still under the lock, so this is our own socket. Failing only leaves a stale one.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listener for ApiListener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == self.uid || peer.uid() == 0 => {
                        return (stream, address);
                    }
                    Ok(peer) => {
                        tracing::warn!(uid = peer.uid(), "refused another user on the API socket")
                    }
                    Err(error) => {
                        tracing::warn!(%error, "refused a peer without credentials on the API socket")
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the API socket");
                    // Out of descriptors, most likely: trying again at once would only spin.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Locks the file that says whose socket this is.
fn lock_beside(path: &Path) -> Result<File, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |source: io::Error| SocketError::Io {
        path: PathBuf::from(&name),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&name)
        .map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(SocketError::InUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(failed(error.into())),
    }
}

/// Removes a socket that nobody listens on.
fn clear_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => Err(SocketError::NotASocket {
            path: path.to_owned(),
        }),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)
            }
            Ok(_) => Err(SocketError::InUse {
                path: path.to_owned(),
            }),
            Err(error) => Err(failed(error)),
        },
    }
}

/// Binds with mode 0600 from the start: the mode of the unbound socket becomes the file's.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Connects to the agent's socket, for the commands.
///
/// # Errors
///
/// Nobody listens there, or somebody who is neither this user nor root.
pub(crate) async fn connect(path: &Path) -> Result<UnixStream, SocketError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => SocketError::NoAgent {
                path: path.to_owned(),
                source,
            },
            _ => SocketError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
    let peer = stream.peer_cred().map_err(|source| SocketError::Io {
        path: path.to_owned(),
        source,
    })?;
    if peer.uid() != rustix::process::geteuid().as_raw() && peer.uid() != 0 {
        return Err(SocketError::Foreign {
            path: path.to_owned(),
            uid: peer.uid(),
        });
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        (directory, path)
    }

    #[tokio::test]
    async fn the_socket_is_private_and_goes_with_its_owner() {
        let (_directory, path) = temporary();
        let listener = ApiListener::bind(path.clone()).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_live_agent_is_not_pushed_aside() {
        let (_directory, path) = temporary();
        let _first = ApiListener::bind(path.clone()).unwrap();
        let error = ApiListener::bind(path.clone()).unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_live_listener_without_a_lock_counts_too() {
        let (_directory, path) = temporary();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(
            ApiListener::bind(path).unwrap_err(),
            SocketError::InUse { .. }
        ));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let (_directory, path) = temporary();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let mut listener = ApiListener::bind(path.clone()).unwrap();
        let (accepted, connected) = tokio::join!(listener.accept(), connect(&path));
        connected.unwrap();
        drop(accepted);
    }

    #[tokio::test]
    async fn other_files_are_left_alone() {
        let (_directory, path) = temporary();
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(
            ApiListener::bind(path.clone()).unwrap_err(),
            SocketError::NotASocket { .. }
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_remedy() {
        let (_directory, path) = temporary();
        let message = connect(&path).await.unwrap_err().to_string();
        assert!(message.contains("host-agent serve"), "{message}");
    }

    #[test]
    fn open_foreign_and_linked_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let private = directory.path().join("private");
        private_directory(&private, uid).unwrap();
        private_directory(&private, uid).unwrap();
        assert!(check_private(&private, uid + 1).is_err());

        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&private, &link).unwrap();
        assert!(private_directory(&link, uid).is_err());

        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(private_directory(&private, uid).is_err());
        assert!(runtime_directory(Some(private)).is_err());
    }

    #[test]
    fn long_paths_are_refused_by_their_length() {
        let error = path(Some(PathBuf::from(format!("/{}", "x".repeat(PATH_MAX))))).unwrap_err();
        assert!(error.to_string().contains("107"), "{error}");
    }
}
