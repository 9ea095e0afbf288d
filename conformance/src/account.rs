//! The unprivileged user under whom servers and clients run.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// An ordinary user of this machine.
///
/// Started as root, the conformance programs run everything under test as `nobody`; started by
/// anyone else, as that user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The numeric user.
    pub uid: u32,
    /// The user's main group.
    pub gid: u32,
    /// The login name: what the `unix` method makes of this user, `{USER}` in the vectors.
    pub login: String,
    /// Whether this process must change identity to become that user.
    switch: bool,
}

impl Account {
    /// Returns the user to run things as.
    ///
    /// # Errors
    ///
    /// Fails if the user database has no entry for that user.
    pub fn unprivileged() -> Result<Self> {
        let switch = rustix::process::geteuid().is_root();
        let user = if switch {
            uzers::get_user_by_name("nobody").context(
                "the user database has no `nobody`, needed to run servers without root; \
                 run this as an ordinary user instead",
            )?
        } else {
            own_entry()?
        };
        Self::of(&user, switch)
    }

    /// Returns the user of this process, whoever that is.
    ///
    /// # Errors
    ///
    /// Fails if the user database has no entry for that user.
    pub fn current() -> Result<Self> {
        Self::of(&own_entry()?, false)
    }

    fn of(user: &uzers::User, switch: bool) -> Result<Self> {
        let login = user
            .name()
            .to_str()
            .context("the login name is not UTF-8")?;
        Ok(Self {
            uid: user.uid(),
            gid: user.primary_group_id(),
            login: login.to_owned(),
            switch,
        })
    }

    /// Makes `command` run as this user, without supplementary groups if that is a change.
    pub fn apply(&self, command: &mut Command) {
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Makes this user the owner of `path`.
    ///
    /// # Errors
    ///
    /// Fails if the path cannot be changed.
    pub fn own(&self, path: &Path) -> Result<()> {
        if self.switch {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("cannot give {} to {}", path.display(), self.login))?;
        }
        Ok(())
    }
}

fn own_entry() -> Result<uzers::User> {
    let uid = rustix::process::geteuid().as_raw();
    uzers::get_user_by_uid(uid)
        .with_context(|| format!("the user database has no entry for user {uid}"))
}
