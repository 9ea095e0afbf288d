//! What somebody else's server lets this suite do, found out before anything is compared.

use anyhow::{Context as _, Result, bail, ensure};

use crate::connection::{Connection, Stop};
use crate::target::Target;
use crate::vector::Login;

/// Where the vectors work; they begin with removing it.
const PLACE: &str = "/v";

/// Under which subject the vectors' first subject works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The login that may make the place of the vectors. They were recorded with `unix`.
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

    /// Asks a server what it allows. With `overwrite`, what lies at [`PLACE`] is removed.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be reached, has something where the vectors work, or lets nobody work
    /// there.
    pub fn probe(server: &dyn Target, overwrite: bool) -> Result<Self> {
        let mut refusals = Vec::new();
        let mut unix = false;
        for login in [Login::Unix, Login::Hostname, Login::Address] {
            let mut connection = Connection::open(server.address())?;
            let outcome = match login {
                Login::Unix => connection.log_in_by_unix(server.account()),
                Login::Hostname => connection.log_in_by_hostname(),
                Login::Address | Login::None => connection.log_in_by_address(),
            };
            if let Err(error) = outcome {
                refusals.push(format!("{login:?}: {error:#}").to_lowercase());
                continue;
            }
            unix |= login == Login::Unix;
            let found = ask(&mut connection, &format!("lstat {PLACE}\n"))?;
            ensure!(
                overwrite || !found.starts_with('0'),
                "{PLACE} exists on the server at {}, and the vectors begin with removing it; \
                 give a server whose content does not matter, or --overwrite",
                server.address()
            );
            ask(&mut connection, &format!("rmall {PLACE}\n"))?;
            let made = ask(&mut connection, &format!("mkdir {PLACE} 448\n"))?;
            if made == "0\n" {
                ask(&mut connection, &format!("rmall {PLACE}\n"))?;
                return Ok(Self { owner: login, unix });
            }
            refusals.push(format!("{login:?}: mkdir {PLACE} is answered {made:?}").to_lowercase());
        }
        bail!(
            "nobody may make {PLACE} on the server at {}: {}; give one of these subjects the rights \
             rwldax in its root",
            server.address(),
            refusals.join("; ")
        )
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
