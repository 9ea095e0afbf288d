//! Plays steps on one server.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use chirp_proto::request::TicketName;
use chirp_proto::{Request, VirtualPath};

use super::generate::{OWN_ADDRESS, PLACE, TICKETS};
use super::kind::Kind;
use super::shape::Shape;
use super::{CONNECTIONS, Step};
use crate::connection::{Connection, Stop};
use crate::target::Target;
use crate::vector::Login;

/// How long a server may say nothing in the middle of a reply.
const SILENCE: Duration = Duration::from_secs(20);

/// What stands behind a reply with which the server ended the connection.
pub const END: &[u8] = b"<end>";
/// What stands behind a reply that did not go on.
pub const SILENT: &[u8] = b"<silence>";

/// The connections of a script to one server.
pub struct Player<'a> {
    server: &'a dyn Target,
    connections: [Option<Connection>; CONNECTIONS.len()],
}

impl<'a> Player<'a> {
    /// Makes an empty place on the server, for a new script.
    ///
    /// # Errors
    ///
    /// Fails if the place could not be made: what follows would compare nothing.
    pub fn prepare(server: &'a dyn Target) -> Result<Self> {
        let mut this = Self {
            server,
            connections: [const { None }; CONNECTIONS.len()],
        };
        let path = VirtualPath::from_decoded(PLACE.as_bytes()).context("the place is no path")?;
        let mut ask = |connection, request| {
            this.play(&Step {
                connection,
                request,
                body: Vec::new(),
            })
        };
        for connection in 0..CONNECTIONS.len() {
            for ticket in TICKETS.iter().filter_map(|word| TicketName::parse(word)) {
                ask(connection, Request::TicketDelete { ticket })?;
            }
        }
        ask(0, Request::Rmall { path: path.clone() })?;
        let made = ask(0, Request::Mkdir { path, mode: 0o700 })?;
        ensure!(
            made == b"0\n",
            "cannot make {PLACE} on the server: {}",
            made.escape_ascii()
        );
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
            .get_mut(step.connection)
            .context("a script has three connections")?;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => open(self.server, step.connection)?,
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
                if let Some(slot) = self.connections.get_mut(step.connection) {
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

fn open(server: &dyn Target, connection: usize) -> Result<Connection> {
    let mut opened = Connection::open(server.address())?;
    match CONNECTIONS.get(connection) {
        Some(Login::Unix) => opened.log_in_by_unix(server.account())?,
        Some(Login::Hostname) => opened.log_in_by_hostname()?,
        Some(Login::Address | Login::None) | None => opened.log_in_by_address()?,
    }
    Ok(opened)
}
