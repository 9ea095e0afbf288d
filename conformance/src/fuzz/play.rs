//! Plays steps on one server.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chirp_proto::request::TicketName;
use chirp_proto::{Request, VirtualPath};

use super::generate::{OWN_ADDRESS, PLACE, TICKETS};
use super::kind::Kind;
use super::shape::Shape;
use super::{By, Step, ticket};
use crate::connection::{Connection, Stop};
use crate::target::Target;

/// How long a server may say nothing in the middle of a reply. A copy of a directory into itself takes tens of
/// seconds on a machine that is busy.
const SILENCE: Duration = Duration::from_secs(60);

/// What stands behind a reply with which the server ended the connection.
pub const END: &[u8] = b"<end>";
/// What stands behind a reply that did not go on.
pub const SILENT: &[u8] = b"<silence>";
/// What stands for the reply to a subject that is not let in.
pub const REFUSED: &[u8] = b"<no login>";

/// Seconds for which a script's tickets are good: [`super::normalise`] knows them.
const TICKET_SECONDS: i64 = 36_000;
/// What the ticket of the last subject leaves of its owner's rights in [`PLACE`].
const TICKET_RIGHTS: &[u8] = b"rwlda";

/// Replies to the removal of the place after which it is not there.
const GONE: [&[u8]; 2] = [b"0\n", b"-3\n"];
/// What its account may do in the root of a new server.
const ROOT_RIGHTS: &[u8] = b"rwlda";
/// What stands in the options of a server with a default list (see [`crate::target::Options`]), which then
/// is that of the root.
const DEFAULT_ACL: &str = "{DEFAULT_ACL}";

/// The connections of a script to one server.
pub struct Player<'a> {
    server: &'a dyn Target,
    connections: [Option<Connection>; By::ALL.len()],
}

impl<'a> Player<'a> {
    /// Makes an empty place on the server, for a new script, and the ticket of its last subject. The list of
    /// the root, which the place gets, is made what it was when a server with these `options` began, except
    /// where somebody else started it: that one's is not ours to change.
    ///
    /// # Errors
    ///
    /// Fails if the place could not be made: what follows would compare nothing.
    pub fn prepare(server: &'a dyn Target, options: &str) -> Result<Self> {
        let mut this = Self {
            server,
            connections: [const { None }; By::ALL.len()],
        };
        let path = VirtualPath::from_decoded(PLACE.as_bytes()).context("the place is no path")?;
        let mut ask = |by, request, body: &[u8]| {
            this.play(&Step {
                by,
                request,
                body: body.to_vec(),
            })
        };
        for by in [By::Unix, By::Address, By::Hostname] {
            for ticket in TICKETS.iter().filter_map(|word| TicketName::parse(word)) {
                ask(by, Request::TicketDelete { ticket }, b"")?;
            }
        }
        // A script may have left a link in its stead.
        ask(By::Unix, Request::Unlink { path: path.clone() }, b"")?;
        let removed = ask(By::Unix, Request::Rmall { path: path.clone() }, b"")?;
        if let (Some(root), false) = (server.served(), GONE.contains(&&removed[..])) {
            // The reference does not get all allocations (`-Q`) away again.
            fs::remove_dir_all(root.join(PLACE.trim_start_matches('/')))?;
        }
        let mut list = Vec::new();
        if server.served().is_some() {
            list.push(Request::Resetacl {
                path: VirtualPath::root(),
                rights: ROOT_RIGHTS.to_vec(),
            });
            if options.contains(DEFAULT_ACL) {
                list.push(Request::Setacl {
                    path: VirtualPath::root(),
                    subject: b"address:127.0.0.1".to_vec(),
                    rights: b"rl".to_vec(),
                });
            }
        }
        let place = Request::Mkdir {
            path: path.clone(),
            mode: 0o700,
        };
        let register = Request::TicketRegister {
            subject: b"self".to_vec(),
            seconds: TICKET_SECONDS,
            length: ticket::KEY.len() as u64,
        };
        let name = format!("ticket:{}", ticket::DIGEST);
        let modify = Request::TicketModify {
            ticket: TicketName::parse(name.as_bytes()).context("the ticket has no name")?,
            path,
            rights: TICKET_RIGHTS.to_vec(),
        };
        let list = list.into_iter().map(|request| (request, &b""[..]));
        let made = [(place, &b""[..]), (register, ticket::KEY), (modify, b"")];
        for (request, body) in list.chain(made) {
            let shown = format!("{request:?}");
            let reply = ask(By::Unix, request, body)?;
            ensure!(
                reply == b"0\n",
                "cannot prepare the server for a script: {shown}: {}; rmall before it: {}",
                reply.escape_ascii(),
                removed.escape_ascii()
            );
        }
        Ok(this)
    }

    /// Sends a step and returns the whole reply. A connection that was closed is opened anew for the
    /// next step.
    ///
    /// # Errors
    ///
    /// Fails if the server cannot be reached or refuses a login.
    pub fn play(&mut self, step: &Step) -> Result<Vec<u8>> {
        let slot = self
            .connections
            .get_mut(step.by as usize)
            .context("each subject has a connection")?;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => match open(self.server, step.by)? {
                Some(connection) => connection,
                None => return Ok(REFUSED.to_vec()),
            },
        };
        let shape = Shape::of(Kind::of(&step.request));
        let mut message = self.own_address(step.line());
        let waits = matches!(shape, Shape::GoAhead | Shape::GoAheadUntilEnd);
        if !waits {
            message.extend_from_slice(&step.body);
        }
        let mut reply = Vec::new();
        // A server that has closed meanwhile shows in reading.
        let _ = connection.send(&message);
        let mut stop =
            connection.read_until(&mut reply, SILENCE, |reply| shape.is_complete(reply))?;
        if waits && stop == Stop::Satisfied && reply.starts_with(b"0") {
            let _ = connection.send(&step.body);
            if shape == Shape::GoAheadUntilEnd {
                connection.finish()?;
                stop = connection.read_until(&mut reply, SILENCE, |_| false)?;
            } else {
                // An empty body's verdict may have come with the go-ahead.
                let verdict =
                    |reply: &[u8]| reply.iter().filter(|&&byte| byte == b'\n').count() > 1;
                stop = connection.read_until(&mut reply, SILENCE, verdict)?;
            }
        }
        match stop {
            Stop::Satisfied => {
                if let Some(slot) = self.connections.get_mut(step.by as usize) {
                    *slot = Some(connection);
                }
            }
            Stop::Closed => reply.extend_from_slice(END),
            Stop::Silence => reply.extend_from_slice(SILENT),
        }
        Ok(reply)
    }

    fn own_address(&self, line: Vec<u8>) -> Vec<u8> {
        let Some(at) = line
            .windows(OWN_ADDRESS.len())
            .position(|window| window == OWN_ADDRESS)
        else {
            return line;
        };
        let mut out = line.get(..at).unwrap_or_default().to_vec();
        out.extend_from_slice(self.server.address().to_string().as_bytes());
        out.extend_from_slice(line.get(at + OWN_ADDRESS.len()..).unwrap_or_default());
        out
    }
}

/// Opens a subject's connection; none if the server knows the ticket no more.
fn open(server: &dyn Target, by: By) -> Result<Option<Connection>> {
    let mut opened = Connection::open(server.address())?;
    match by {
        By::Unix => opened.log_in_by_unix(server.account())?,
        By::Address => opened.log_in_by_address()?,
        By::Hostname => opened.log_in_by_hostname()?,
        By::Ticket => {
            if !ticket::log_in(&mut opened)? {
                return Ok(None);
            }
        }
    }
    Ok(Some(opened))
}
