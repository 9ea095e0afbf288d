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

/// Becomes `user` if started as root, and returns the account the process has from now on.
///
/// To be called before any thread is started: Linux keeps identities by thread.
///
/// # Errors
///
/// Started as root without `-i`, or `user` is unknown, root, or not to be had.
pub fn settle(user: Option<&str>) -> anyhow::Result<Account> {
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
        return Ok(account);
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
    let groups: Vec<Gid> = uzers::get_user_groups(name, user.primary_group_id())
        .unwrap_or_default()
        .iter()
        .map(|group| Gid::from_raw(group.gid()))
        .collect();
    let gid = Gid::from_raw(user.primary_group_id());
    let uid = Uid::from_raw(user.uid());
    let become_user = || -> rustix::io::Result<()> {
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    };
    become_user().with_context(|| format!("-i {name}: cannot become that user"))?;
    ensure!(
        rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_err(),
        "-i {name}: root could be had back"
    );
    Ok(account(uid))
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
