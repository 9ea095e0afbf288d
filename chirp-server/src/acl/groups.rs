//! The members of groups (`chirp-protocol.md`, part 6.3): `group:NAME` in a list stands for the
//! subjects in the file `URL/NAME`, one a line.
//!
//! A check of rights never waits: it answers that it needs a group (`Group::Unknown`), the connection
//! has it fetched while others go on, and asks again. The reference runs a shell for it (weakness W17);
//! here names are held against a list of characters, and nothing is run.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// Bytes of the largest group.
const SIZE_MAX: usize = 1024 * 1024;

/// How long a group server may take.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// How long at least a group that could not be fetched stays without members; it does three times as long
/// as the attempt took. Where not the group but its server failed this holds for all groups that would be
/// fetched, so that a request waits for a dead server once, whatever number of groups it takes.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// Groups kept at most; when there are more it starts over.
const GROUPS_MAX: usize = 1024;

/// Bytes of the longest name.
const NAME_MAX: usize = 128;

/// Where groups come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// `file://DIR`.
    Directory(PathBuf),
    /// `http://HOST[:PORT]/PATH`.
    Http(Uri),
}

/// Why a `-G` cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no file:// or http:// URL")]
pub struct BadUrl(String);

/// The groups that lists may name.
#[derive(Debug)]
pub struct Groups {
    /// `None` if there are none: then such a line grants nothing.
    source: Option<Source>,
    lifetime: Duration,
    kept_in: PathBuf,
    runtime: Option<Handle>,
    slots: Mutex<HashMap<Box<[u8]>, Arc<Slot>>>,
    /// Until when the server is left alone.
    down_until: Mutex<Option<Instant>>,
}

/// Why a group cannot be had.
#[derive(Debug)]
enum Failed {
    /// There is no such group, or it is none.
    Group(io::Error),
    /// Nor could another one be had.
    Source(io::Error),
}

#[derive(Debug, Default)]
struct Slot {
    /// Held by whoever fetches, so that one does for all.
    fetching: tokio::sync::Mutex<()>,
    state: Mutex<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    until: Instant,
    members: Arc<Members>,
}

/// The text of a group.
#[derive(Debug, Default)]
struct Members(Vec<u8>);

/// What can be said of a group without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The subject is in it.
    Member,
    /// The subject is not in it, or there is no such group.
    Stranger,
    /// It has to be fetched first, by `Groups::fetch`.
    Unknown,
}

impl Groups {
    /// No groups at all.
    #[must_use]
    pub fn none() -> Self {
        Self {
            source: None,
            lifetime: Duration::ZERO,
            kept_in: PathBuf::new(),
            runtime: None,
            slots: Mutex::default(),
            down_until: Mutex::default(),
        }
    }

    /// Groups below a URL, each believed for `lifetime` and kept in a directory below `transient`.
    ///
    /// # Errors
    ///
    /// [`BadUrl`].
    pub fn new(url: &str, lifetime: Duration, transient: &Path) -> Result<Self, BadUrl> {
        let bad = || BadUrl(url.to_owned());
        let source = if let Some(path) = url.strip_prefix("file://") {
            Source::Directory(path.into())
        } else {
            let uri: Uri = url.parse().map_err(|_| bad())?;
            if uri.scheme_str() != Some("http") || uri.host().is_none() || uri.query().is_some() {
                return Err(bad());
            }
            Source::Http(uri)
        };
        Ok(Self {
            source: Some(source),
            lifetime,
            kept_in: transient.join(".__groups"),
            runtime: Handle::try_current().ok(),
            slots: Mutex::default(),
            down_until: Mutex::default(),
        })
    }

    /// Looks whether a subject is in a group, as far as that is known.
    pub(crate) fn look(&self, name: &[u8], subject: &[u8]) -> Group {
        if self.source.is_none() || !is_name(name) {
            return Group::Stranger;
        }
        match self.slot(name).fresh() {
            None => Group::Unknown,
            Some(members) if members.contains(subject) => Group::Member,
            Some(_) => Group::Stranger,
        }
    }

    /// Gets a group, unless it is known by now. One that cannot be had has no members for a moment.
    pub(crate) async fn fetch(&self, name: &[u8]) {
        let Some(source) = &self.source else { return };
        let slot = self.slot(name);
        let _fetching = slot.fetching.lock().await;
        if slot.fresh().is_some() {
            return;
        }
        let shown = String::from_utf8_lossy(name).into_owned();
        let kept = self.kept_in.join(&shown);
        let known = match self.read_kept(kept.clone()).await {
            Some((members, age)) => Known {
                until: Instant::now() + self.lifetime.saturating_sub(age),
                members: Arc::new(Members(members)),
            },
            None => match self.down_until() {
                Some(until) => Known::nobody(until),
                None => self.fetch_from(source, &shown, kept).await,
            },
        };
        slot.set(known);
    }

    async fn fetch_from(&self, source: &Source, name: &str, kept: PathBuf) -> Known {
        let begun = Instant::now();
        let failed = match tokio::time::timeout(FETCH_MAX, get(source, name)).await {
            Ok(Ok(members)) => {
                keep(kept, members.clone()).await;
                return Known {
                    until: Instant::now() + self.lifetime,
                    members: Arc::new(Members(members)),
                };
            }
            Ok(Err(failed)) => failed,
            Err(_) => Failed::Source(io::ErrorKind::TimedOut.into()),
        };
        let until = Instant::now() + FAILED_FOR.max(begun.elapsed() * 3);
        match failed {
            Failed::Group(error) => {
                tracing::warn!(group = name, %error, "cannot get a group; it has no members until it can be had");
            }
            Failed::Source(error) => {
                tracing::warn!(group = name, %error, "cannot get groups; those that are not kept have no members until they can be had");
                let mut down = lock(&self.down_until);
                *down = (*down).max(Some(until));
            }
        }
        Known::nobody(until)
    }

    /// Returns until when the server is left alone, if it is.
    fn down_until(&self) -> Option<Instant> {
        lock(&self.down_until).filter(|until| Instant::now() < *until)
    }

    /// Gets a group from a thread that may wait, which is none of the runtime's.
    pub(crate) fn fetch_waiting(self: &Arc<Self>, name: &[u8]) {
        let Some(runtime) = &self.runtime else { return };
        let (sender, receiver) = mpsc::channel();
        let (groups, name) = (Arc::clone(self), name.to_vec());
        runtime.spawn(async move {
            groups.fetch(&name).await;
            // Nobody listens any more if that took too long.
            let _ = sender.send(());
        });
        let _ = receiver.recv_timeout(FETCH_MAX * 2);
    }

    fn slot(&self, name: &[u8]) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(name) {
            return Arc::clone(slot);
        }
        if slots.len() >= GROUPS_MAX {
            slots.clear();
        }
        Arc::clone(slots.entry(name.into()).or_default())
    }

    /// Reads what this server or one before it has kept of a group, with its age.
    async fn read_kept(&self, path: PathBuf) -> Option<(Vec<u8>, Duration)> {
        let lifetime = self.lifetime;
        let read = move || {
            let modified = path.symlink_metadata().ok()?.modified().ok()?;
            // One from the future, after a step of the clock, is not believed.
            let age = SystemTime::now().duration_since(modified).ok()?;
            let fresh = age < lifetime;
            fresh
                .then(|| read_file(&path).ok().map(|text| (text, age)))
                .flatten()
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }
}

impl Known {
    fn nobody(until: Instant) -> Self {
        Self {
            until,
            members: Arc::default(),
        }
    }
}

impl Slot {
    fn fresh(&self) -> Option<Arc<Members>> {
        let known = lock(&self.state);
        let known = known
            .as_ref()
            .filter(|known| Instant::now() < known.until)?;
        Some(Arc::clone(&known.members))
    }

    fn set(&self, known: Known) {
        *lock(&self.state) = Some(known);
    }
}

impl Members {
    /// Reports whether a whole line is the subject, or for `unix:LOGIN` a line without a colon the
    /// login.
    fn contains(&self, subject: &[u8]) -> bool {
        is_member(&self.0, subject)
    }
}

/// Reports whether a group with this text has a member: as in [`Groups`], by whole lines.
#[must_use]
pub fn is_member(text: &[u8], subject: &[u8]) -> bool {
    let login = subject.strip_prefix(b"unix:");
    text.split(|&byte| byte == b'\n')
        .any(|line| line == subject || (Some(line) == login && !line.contains(&b':')))
}

/// Reports whether this can be a group: a word of safe characters, no way to another directory.
fn is_name(name: &[u8]) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && !name.starts_with(b".")
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-@+".contains(byte))
}

async fn get(source: &Source, name: &str) -> Result<Vec<u8>, Failed> {
    match source {
        Source::Directory(dir) => {
            let path = dir.join(name);
            let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
            read.map_err(io::Error::from)
                .flatten()
                .map_err(Failed::Group)
        }
        Source::Http(base) => {
            let stream = connect(base).await.map_err(Failed::Source)?;
            get_http(stream, base, name).await.map_err(Failed::Group)
        }
    }
}

async fn connect(base: &Uri) -> io::Result<TcpStream> {
    let host = base.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((host, base.port_u16().unwrap_or(80))).await
}

async fn get_http(stream: TcpStream, base: &Uri, name: &str) -> io::Result<Vec<u8>> {
    let authority = base.authority().ok_or(io::ErrorKind::InvalidInput)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let request = Request::get(format!("{}/{name}", base.path().trim_end_matches('/')))
        .header(header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        if answer.status() != StatusCode::OK {
            return Err(io::Error::other(format!(
                "the server answers {}",
                answer.status()
            )));
        }
        let body = Limited::new(answer.into_body(), SIZE_MAX).collect().await;
        Ok(body.map_err(io::Error::other)?.to_bytes().to_vec())
    };
    tokio::pin!(connection);
    tokio::pin!(answer);
    // The connection is driven here, so that nothing is left of it when this ends.
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(io::Error::other(error)),
        },
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = Vec::new();
    file.take(SIZE_MAX as u64 + 1).read_to_end(&mut text)?;
    if text.len() > SIZE_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// Keeps a group for the next server. Without it that one fetches it again.
async fn keep(path: PathBuf, members: Vec<u8>) {
    let keep = move || {
        let dir = path.parent()?;
        std::fs::create_dir_all(dir).ok()?;
        let unfinished = dir.join(format!(".{}", crate::random::hex::<16>().ok()?));
        let written = File::create_new(&unfinished)
            .and_then(|mut file| file.write_all(&members))
            .and_then(|()| std::fs::rename(&unfinished, &path));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot keep a group");
            let _ = std::fs::remove_file(&unfinished);
        }
        Some(())
    };
    // A failure costs nothing but another fetch.
    let _ = tokio::task::spawn_blocking(keep).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["staff", "a.b-c_d@e+1", "x"] {
            assert!(is_name(name.as_bytes()), "{name}");
        }
        let long = "x".repeat(NAME_MAX + 1);
        // The second is W17.
        for name in [
            "",
            "x;touch${IFS}/tmp/pwned;",
            "..",
            ".",
            "a/b",
            "../x",
            "a b",
            "a%2f",
            "a?b",
            "a#b",
            ".__acl",
            "\u{e9}",
            &long,
        ] {
            assert!(!is_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn members_are_whole_lines() {
        let members =
            Members(b"unix:alice\nbob\nhostname:h.example\n carol\ndave\r\nx:eve".to_vec());
        for (subject, is_member) in [
            ("unix:alice", true),
            ("unix:alic", false),
            ("nix:alice", false),
            ("unix:bob", true),
            ("hostname:bob", false),
            ("hostname:h.example", true),
            ("unix:carol", false),
            ("unix:", false),
            ("unix:x:eve", false),
            ("x:eve", true),
        ] {
            assert_eq!(members.contains(subject.as_bytes()), is_member, "{subject}");
        }
    }

    #[test]
    fn only_file_and_http_are_understood() {
        let dir = Path::new("/t");
        let new = |url| Groups::new(url, Duration::ZERO, dir);
        for url in [
            "file:///g",
            "http://h/g",
            "http://h:8080",
            "http://[::1]:80/g/",
        ] {
            assert!(new(url).is_ok(), "{url}");
        }
        for url in [
            "https://h/g",
            "/g",
            "ftp://h/g",
            "http:///g",
            "http://h/g?x=y",
            "",
        ] {
            assert!(new(url).is_err(), "{url}");
        }
    }
}
