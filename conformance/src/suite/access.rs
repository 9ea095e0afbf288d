//! What somebody else's server lets this suite do, found out before anything is compared.

use anyhow::{Context as _, Result, bail, ensure};

use crate::connection::{Connection, Stop};
use crate::target::Target;
use crate::vector::Login;

/// Under which subject a case's first subject works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The login that may make the place of the cases. The vectors were recorded with `unix`.
    pub owner: Login,
    /// Whether `unix` logs in at all.
    pub unix: bool,
}

impl Access {
    /// What a server that the suite starts itself allows.
    pub const WHOLE: Self = Self {
        owner: Login::Unix,
        unix: true,
    };

    /// Asks a server what it allows at `place`, where cases work, which begin with removing it. With
    /// `overwrite`, what lies there is removed, else it must be free.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be reached, has something there, or lets nobody work there.
    pub fn probe(server: &dyn Target, place: &str, overwrite: bool) -> Result<Self> {
        let mut refusals = Vec::new();
        let mut unix = false;
        for login in [Login::Unix, Login::Hostname, Login::Address] {
            let mut connection = Connection::open(server.address())?;
            if let Err(error) = log_in(&mut connection, server, login) {
                refusals.push(format!("{login:?}: {error:#}").to_lowercase());
                continue;
            }
            unix |= login == Login::Unix;
            let found = ask(&mut connection, &format!("lstat {place}\n"))?;
            let mut taken = found.starts_with('0');
            let mut made = String::new();
            if overwrite || !taken {
                if overwrite {
                    ask(&mut connection, &format!("rmall {place}\n"))?;
                }
                made = ask(&mut connection, &format!("mkdir {place} 448\n"))?;
                // There is something that this subject may not even look at.
                taken = made == "-4\n";
            }
            ensure!(
                overwrite || !taken,
                "{place} exists on the server at {}, and the cases begin with removing it; \
                 give a server whose content does not matter, or --overwrite",
                server.address()
            );
            if made == "0\n" {
                ask(&mut connection, &format!("rmall {place}\n"))?;
                return Ok(Self { owner: login, unix });
            }
            refusals.push(format!("{login:?}: mkdir {place} is answered {made:?}").to_lowercase());
        }
        bail!(
            "nobody may make {place} on the server at {}: {}; give one of these subjects the rights \
             rwldax in its root",
            server.address(),
            refusals.join("; ")
        )
    }
}

/// Removes a place where cases have worked.
///
/// # Errors
///
/// Fails if the server is gone.
pub fn clear(server: &dyn Target, place: &str, owner: Login) -> Result<()> {
    let mut connection = Connection::open(server.address())?;
    log_in(&mut connection, server, owner)?;
    ask(&mut connection, &format!("rmall {place}\n")).map(drop)
}

fn log_in(connection: &mut Connection, server: &dyn Target, login: Login) -> Result<()> {
    match login {
        Login::Unix => connection.log_in_by_unix(server.account()),
        Login::Hostname => connection.log_in_by_hostname(),
        Login::Address | Login::None => connection.log_in_by_address(),
    }
}

fn ask(connection: &mut Connection, request: &str) -> Result<String> {
    connection.send(request.as_bytes())?;
    let mut reply = Vec::new();
    let stop = connection.settle(&mut reply)?;
    ensure!(
        stop == Stop::Satisfied,
        "no answer to {:?} ({stop:?})",
        request.trim_end()
    );
    String::from_utf8(reply).context("the reply is not text")
}
