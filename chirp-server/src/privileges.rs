//! Who the server works as. It never works as root (`-i USER`, as the reference's).

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use rustix::process::{Gid, Uid};
use uzers::os::unix::UserExt;

/// The account that the server works as.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its login name, or the uid's digits where it has none.
    pub name: String,
    /// Its home directory, if the account is known.
    pub home: Option<PathBuf>,
}

/// Who the server will work as, once it has become that.
#[derive(Debug)]
pub struct Settling(Option<Ordinary>);

/// An ordinary user that root is to become.
#[derive(Debug)]
struct Ordinary {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Decides who to work as. What only root may do is to be done between this and [`Settling::settle`].
///
/// # Errors
///
/// Started as root without `-i`, or `user` is unknown, root, or not to be had.
pub fn choose(user: Option<&str>) -> anyhow::Result<Settling> {
    let uid = rustix::process::geteuid();
    if !uid.is_root() {
        let account = account(uid);
        if let Some(wanted) = user {
            ensure!(
                wanted == account.name,
                "-i {wanted}: only root can become another user, and this is {}",
                account.name
            );
        }
        return Ok(Settling(None));
    }
    let Some(name) = user else {
        bail!(
            "started as root: name an ordinary user with -i USER, and the server works as that user"
        );
    };
    let user = uzers::get_user_by_name(name).with_context(|| format!("-i {name}: no such user"))?;
    ensure!(
        user.uid() != 0,
        "-i {name}: that is root; name an ordinary user"
    );
    let groups = uzers::get_user_groups(name, user.primary_group_id()).unwrap_or_default();
    Ok(Settling(Some(Ordinary {
        name: name.to_owned(),
        uid: Uid::from_raw(user.uid()),
        gid: Gid::from_raw(user.primary_group_id()),
        groups: groups
            .iter()
            .map(|group| Gid::from_raw(group.gid()))
            .collect(),
    })))
}

impl Settling {
    /// Returns the user and the group that root is to become, if it is.
    #[must_use]
    pub fn owner(&self) -> Option<(Uid, Gid)> {
        self.0.as_ref().map(|user| (user.uid, user.gid))
    }

    /// Becomes the user and returns the account that the process has from now on.
    ///
    /// To be called before any thread is started: Linux keeps identities by thread.
    ///
    /// # Errors
    ///
    /// The system does not let it.
    pub fn settle(self) -> anyhow::Result<Account> {
        let Some(user) = self.0 else {
            return Ok(account(rustix::process::geteuid()));
        };
        let become_user = || -> rustix::io::Result<()> {
            rustix::thread::set_thread_groups(&user.groups)?;
            rustix::thread::set_thread_res_gid(user.gid, user.gid, user.gid)?;
            rustix::thread::set_thread_res_uid(user.uid, user.uid, user.uid)
        };
        let name = &user.name;
        become_user().with_context(|| format!("-i {name}: cannot become that user"))?;
        ensure!(
            rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_err(),
            "-i {name}: root could be had back"
        );
        Ok(account(user.uid))
    }
}

fn account(uid: Uid) -> Account {
    let user = uzers::get_user_by_uid(uid.as_raw());
    Account {
        name: user.as_ref().map_or_else(
            || uid.as_raw().to_string(),
            |user| user.name().to_string_lossy().into_owned(),
        ),
        home: user.map(|user| user.home_dir().to_owned()),
    }
}
