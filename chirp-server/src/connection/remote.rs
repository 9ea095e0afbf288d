//! This server as a client of others: `whoareyou`, `thirdput`.
//!
//! A call must come about within [`CONNECTING`], moves on or is given up as any transfer, and ends with the
//! client that asked for it. The reference tries for an hour (W20).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chirp_client::{Address, Client, ConnectOptions, Error};
use chirp_proto::acl::{Acl, Rights};
use chirp_proto::{Code, Method, VirtualPath};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::task::{JoinError, JoinSet};
use tokio_util::io::StreamReader;
use tokio_util::sync::CancellationToken;

use super::Connection;
use crate::handlers::third::{Content, Copying, Item};
use crate::heavy::Slice;
use crate::outcome::Outcome;
use crate::server::Server;

/// How long it may take to find, call and log in to a server.
const CONNECTING: Duration = Duration::from_secs(5);

/// Connections over which one copy goes at most.
const CONNECTIONS_MAX: usize = 4;

/// Files after which a copy is worth more than one connection.
const MANY: usize = 16;

/// Bytes of a large file that are read at once.
const CHUNK: usize = 256 * 1024;

/// What the client that asks for a copy may do in it, as far as the other server lets this one say so.
const FOR_THE_ASKER: &str = "rwldax";

impl Connection {
    /// Asks another server who this one is there.
    pub(super) async fn whoareyou(&mut self, address: Address, limit: u64) -> io::Result<Outcome> {
        self.flush().await?;
        let server = Arc::clone(&self.server);
        let asking = async {
            let client = call(&server, address).await?;
            let mut subject = client.subject().as_str().as_bytes().to_vec();
            subject.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Ok(subject)
        };
        let asked = self.unless_gone(asking).await?;
        Ok(asked.map_or_else(Outcome::Failed, Outcome::Counted))
    }

    /// Copies to another server. The answer is the content's length, or the first failure; what could be
    /// copied in spite of that was.
    pub(super) async fn thirdput(
        &mut self,
        address: Address,
        copying: Box<Copying>,
    ) -> io::Result<Outcome> {
        self.flush().await?;
        let server = Arc::clone(&self.server);
        let copied = self.unless_gone(copy(server, address, copying)).await?;
        Ok(copied.map_or_else(Outcome::Failed, Outcome::Number))
    }

    async fn unless_gone<T>(
        &self,
        work: impl Future<Output = Result<T, Code>>,
    ) -> io::Result<Result<T, Code>> {
        tracing::info!(subject = %self.session.subject(), "calls another server");
        tokio::select! {
            done = work => Ok(done),
            error = self.gone() => Err(error),
        }
    }
}

/// Connects and logs in as the reference's server does: by host name, then by address.
async fn call(server: &Server, address: Address) -> Result<Client, Code> {
    if !server.third_party.permits(&address) {
        tracing::info!(%address, "this server is not to be called (--third-party)");
        return Err(Code::NotAuthorized);
    }
    let mut options = ConnectOptions::new(address);
    options.methods = vec![Method::Hostname, Method::Address];
    options.connect_timeout = CONNECTING;
    options.timeout = server.stalled;
    Client::connect(options).await.map_err(|error| {
        tracing::info!(%error, "cannot call another server");
        match error {
            Error::Login { .. } => Code::NotAuthorized,
            _ => Code::Unreachable,
        }
    })
}

/// Carries out a copy.
async fn copy(
    server: Arc<Server>,
    address: Address,
    mut copying: Box<Copying>,
) -> Result<u64, Code> {
    let first = call(&server, address).await?;
    let mut there = There {
        asker: copying.who().subject().as_str().to_owned(),
        server: Arc::clone(&server),
        idle: vec![first.clone()],
        first,
        opened: 1,
        files: 0,
        flying: JoinSet::new(),
        opening: JoinSet::new(),
        bytes: 0,
        failed: None,
    };
    loop {
        let mut items = Vec::new();
        let shared = Arc::clone(&server);
        let read = move || {
            // Who gives up drops the whole copy between two steps.
            let slice = Slice::new(CancellationToken::new());
            let more = copying.read(&shared.export, &mut items, &slice);
            (copying, items, more)
        };
        let (back, items, more) = server.heavy.run(&there.asker, read).await?;
        copying = back;
        for item in items {
            if let Made::No = there.carry_out(item).await? {
                copying.leave();
            }
        }
        if !more {
            break;
        }
    }
    there.land_all().await?;
    there.failed.map_or(Ok(there.bytes), Err)
}

/// The other server, and what is on its way there.
struct There {
    server: Arc<Server>,
    /// Who asked for the copy, and whose turn it takes when this server reads.
    asker: String,
    /// The connection that the others are opened after; it may be closed by now.
    first: Client,
    /// Connections that nothing is under way on.
    idle: Vec<Client>,
    /// Connections that are there, on their way, or could not be had.
    opened: usize,
    files: usize,
    flying: JoinSet<Landed>,
    /// Further connections on their way; nothing waits for them.
    opening: JoinSet<Option<Client>>,
    bytes: u64,
    /// The first failure.
    failed: Option<Code>,
}

/// What became of one file, and the connection that is free again.
struct Landed {
    client: Client,
    result: Result<u64, Error>,
}

/// Whether a directory is there.
enum Made {
    Yes,
    No,
}

impl There {
    /// Sees to one item.
    ///
    /// # Errors
    ///
    /// What ends the copy; lesser failures are remembered.
    async fn carry_out(&mut self, item: Item) -> Result<Made, Code> {
        match item {
            Item::Directory(target) => return self.make(&target).await,
            Item::File {
                target,
                mode,
                content,
            } => {
                let client = self.free().await?;
                let (server, asker) = (Arc::clone(&self.server), self.asker.clone());
                self.files += 1;
                self.flying.spawn(async move {
                    let result = put(server, asker, &client, &target, mode, content).await;
                    Landed { client, result }
                });
            }
            Item::Link { target, text } => {
                let client = self.free().await?;
                self.flying.spawn(async move {
                    let result = link(&client, &text, &target).await;
                    Landed { client, result }
                });
            }
            Item::Rights { target, acl } => {
                // Who may change what is in the directory is said last.
                self.land_all().await?;
                self.give_rights(&target, &acl).await?;
            }
            Item::Refused(code) => self.fail(code),
        }
        Ok(Made::Yes)
    }

    async fn make(&mut self, target: &VirtualPath) -> Result<Made, Code> {
        let client = self.free().await?;
        let made = self.make_on(&client, target).await;
        self.give_back(client);
        made
    }

    async fn make_on(&mut self, client: &Client, target: &VirtualPath) -> Result<Made, Code> {
        match client.mkdir(target, 0o700).await {
            Ok(()) => {}
            Err(error) if error.code() == Some(Code::AlreadyExists) => {}
            Err(error) => {
                self.note(error)?;
                return Ok(Made::No);
            }
        }
        // Where this server may not give rights, those of the directory above hold.
        match client.setacl(target, &self.asker, FOR_THE_ASKER).await {
            Err(error) if error.code().is_none() => self.note(error)?,
            _ => {}
        }
        Ok(Made::Yes)
    }

    async fn give_rights(&mut self, target: &VirtualPath, acl: &Acl) -> Result<(), Code> {
        let own = self.first.subject().as_str().to_owned();
        let entries = acl.entries().iter().filter(|entry| {
            entry.subject != self.asker.as_bytes() && entry.subject != own.as_bytes()
        });
        let mut lines: Vec<(&str, Rights)> = Vec::new();
        let mut unreadable = false;
        for entry in entries {
            match std::str::from_utf8(&entry.subject) {
                Ok(subject) => lines.push((subject, entry.rights)),
                Err(_) => unreadable = true,
            }
        }
        if unreadable {
            self.fail(Code::InvalidRequest);
        }
        let client = self.free().await?;
        // All at once: they are answered in their order.
        let given = lines.iter().map(|(subject, rights)| {
            let rights = rights.to_string();
            let client = &client;
            async move { client.setacl(target, subject, &rights).await }
        });
        let mut given = futures_util::future::join_all(given).await;
        if own != self.asker {
            // What patterns give it is given already.
            let named = acl
                .entries()
                .iter()
                .filter(|entry| entry.subject == own.as_bytes());
            let rights = named
                .fold(Rights::NONE, |sum, entry| sum.union(entry.rights))
                .to_string();
            given.push(client.setacl(target, &own, &rights).await);
        }
        self.give_back(client);
        for error in given.into_iter().filter_map(Result::err) {
            self.note(error)?;
        }
        Ok(())
    }

    /// Returns a connection that nothing is under way on; a copy of many files gets some more of them. One
    /// that was closed is replaced.
    ///
    /// # Errors
    ///
    /// -19 if there is none and none can be had.
    async fn free(&mut self) -> Result<Client, Code> {
        loop {
            while let Some(client) = self.idle.pop() {
                if !client.is_closed() {
                    return Ok(client);
                }
                self.opened = self.opened.saturating_sub(1);
            }
            let most = if self.files >= MANY {
                CONNECTIONS_MAX
            } else {
                1
            };
            while self.opened < most {
                self.opened += 1;
                let first = self.first.clone();
                self.opening
                    .spawn(async move { first.connect_another().await?.ok() });
            }
            tokio::select! {
                // If it is closed already the next piece of work fails, and not this loop for ever.
                Some(opened) = self.opening.join_next() => if let Ok(Some(client)) = opened {
                    return Ok(client);
                },
                Some(landed) = self.flying.join_next() => self.landed(landed)?,
                else => return Err(self.failed.unwrap_or(Code::Disconnected)),
            }
        }
    }

    fn give_back(&mut self, client: Client) {
        if client.is_closed() {
            self.opened = self.opened.saturating_sub(1);
        } else {
            self.idle.push(client);
        }
    }

    async fn land_all(&mut self) -> Result<(), Code> {
        while let Some(landed) = self.flying.join_next().await {
            self.landed(landed)?;
        }
        Ok(())
    }

    /// Takes note of something that arrived.
    fn landed(&mut self, landed: Result<Landed, JoinError>) -> Result<(), Code> {
        let Landed { client, result } = landed.map_err(|_| Code::Unknown)?;
        // A content that ended early ends its connection too, if not at once.
        if let Err(Error::Local { .. }) = result {
            self.opened = self.opened.saturating_sub(1);
        } else {
            self.give_back(client);
        }
        match result {
            Ok(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            Err(error) => self.note(error)?,
        }
        Ok(())
    }

    /// Remembers a failure.
    ///
    /// # Errors
    ///
    /// Its code, if the other server does not answer, and the copy is given up.
    fn note(&mut self, error: Error) -> Result<(), Code> {
        tracing::debug!(%error, "part of a copy to another server failed");
        let code = match &error {
            Error::Refused { code, .. } => *code,
            Error::Timeout { .. } => Code::TimedOut,
            Error::Argument { .. } => Code::NameTooLong,
            _ => Code::Disconnected,
        };
        if matches!(error, Error::Timeout { .. }) {
            // It may be there, and answer nothing else either.
            return Err(self.failed.unwrap_or(code));
        }
        self.fail(code);
        Ok(())
    }

    fn fail(&mut self, code: Code) {
        self.failed.get_or_insert(code);
    }
}

/// Puts a file, which is there whole or not at all.
async fn put(
    server: Arc<Server>,
    asker: String,
    client: &Client,
    target: &VirtualPath,
    mode: u32,
    content: Content,
) -> Result<u64, Error> {
    let (file, length) = match content {
        Content::Small(content) => {
            let length = content.len() as u64;
            client
                .putfile(target, mode, length, &mut content.as_slice())
                .await?;
            return Ok(length);
        }
        Content::Large { file, length } => (Arc::new(file), length),
    };
    let chunks = stream::try_unfold(0u64, move |position| {
        let (server, asker, file) = (Arc::clone(&server), asker.clone(), Arc::clone(&file));
        async move {
            let read = move || {
                let mut chunk = Vec::with_capacity(CHUNK);
                let room = rustix::buffer::spare_capacity(&mut chunk);
                rustix::io::pread(&*file, room, position)?;
                Ok::<_, io::Error>(chunk)
            };
            let read = server.heavy.run(&asker, read).await;
            let chunk = read.map_err(|code| io::Error::other(code.text()))??;
            let next = position.saturating_add(chunk.len() as u64);
            Ok::<_, io::Error>((!chunk.is_empty()).then(|| (Bytes::from(chunk), next)))
        }
    });
    let mut content = StreamReader::new(chunks.boxed());
    client.putfile(target, mode, length, &mut content).await?;
    Ok(length)
}

/// Makes a link, if it is not there already.
async fn link(client: &Client, text: &[u8], target: &VirtualPath) -> Result<u64, Error> {
    match client.symlink(text, target).await {
        Err(error) if error.code() == Some(Code::AlreadyExists) => {
            match client.readlink(target).await {
                Ok(there) if there == text => Ok(0),
                _ => Err(error),
            }
        }
        made => made.map(|()| 0),
    }
}
