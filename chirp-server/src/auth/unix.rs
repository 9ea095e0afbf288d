//! The `unix` method: whoever can make a file on a file system that both sides see is the owner of
//! that file (part 2.2).
//!
//! The reference looks at the file through links and sends names that can be guessed (weakness W2).
//! Here the name holds 128 random bits, and only a regular, empty file with one link counts, looked
//! at without following a link.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{AuthConfig, AuthError, Proof, Talk, passwd};

/// How often the file is looked for. The reference's clients make it before they say `yes`.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the system may take to find a login name; longer is a failed login, and only this client waits.
const LOOKUP_MAX: Duration = Duration::from_secs(20);

/// Lookups at once. They wait for a directory service or a disk, and that on threads which are for others'
/// work too, even when their clients have gone.
static LOOKUPS: Semaphore = Semaphore::const_new(64);

/// Runs the exchange up to the verdict.
pub(super) async fn prove<S>(
    config: &AuthConfig,
    talk: &mut Talk<'_, S>,
) -> Result<Proof, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let path = config.challenge_dir.join(challenge_name()?);
    let shown = path.display();
    talk.say(&format!("yes\n{shown}\n")).await?;
    if talk.answer().await? != b"yes" {
        return Ok(Proof::Declined);
    }
    let owner = owner(&path, config.unix_timeout).await;
    // The client removes its file after the verdict. In a sticky directory only it can.
    let _ = rustix::fs::unlink(&path);
    let Some(owner) = owner else {
        tracing::debug!(target: "auth", %shown, "unix login: no acceptable file");
        return Ok(Proof::Failed);
    };
    let Some(login) = lookup(config.passwd.clone(), owner).await else {
        tracing::debug!(target: "auth", owner, "unix login: the file's owner has no login name");
        return Ok(Proof::Failed);
    };
    Ok(Proof::Given(login))
}

/// Returns the login name of an account, and holds up nobody else meanwhile.
async fn lookup(passwd: Option<PathBuf>, uid: u32) -> Option<Vec<u8>> {
    let answer = async {
        let turn = LOOKUPS.acquire().await.ok();
        tokio::task::spawn_blocking(move || {
            let name = login(passwd.as_deref(), uid);
            drop(turn);
            name
        })
        .await
    };
    match tokio::time::timeout(LOOKUP_MAX, answer).await {
        Ok(name) => name.ok().flatten(),
        Err(_) => {
            tracing::warn!(target: "auth", uid, "looking up a login name took too long");
            None
        }
    }
}

/// Returns the login name of an account: by the file of `-W`, or by the system.
fn login(passwd: Option<&Path>, uid: u32) -> Option<Vec<u8>> {
    let Some(path) = passwd else {
        let user = uzers::get_user_by_uid(uid)?;
        return Some(user.name().as_encoded_bytes().to_vec());
    };
    passwd::login(path, uid).unwrap_or_else(|error| {
        tracing::warn!(target: "auth", path = %path.display(), %error, "cannot read the password file (-W)");
        None
    })
}

/// Waits for the file and returns its owner's uid, if it is what the method asks for.
async fn owner(path: &Path, timeout: Duration) -> Option<u32> {
    let deadline = Instant::now() + timeout;
    loop {
        // The handle is of the object itself; what it is and whose is read from the handle.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            let stat = rustix::fs::statat(&file, "", AtFlags::EMPTY_PATH).ok()?;
            let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            return (regular && stat.st_size == 0 && stat.st_nlink == 1).then_some(stat.st_uid);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn challenge_name() -> Result<String, AuthError> {
    let random = crate::random::hex::<16>().map_err(std::io::Error::other)?;
    Ok(format!("challenge.{random}"))
}
