//! What a session has: a connection, and a directory at its other end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use chirp_client::{Client, VirtualPath};

use crate::compat::access::Access;
use crate::compat::connect;
use crate::compat::trouble::Trouble;

/// A connection to a server, or none, and where relative paths begin there.
pub(super) struct Session {
    access: Access,
    client: Option<Client>,
    /// A connection besides, for what may be given up.
    helper: Option<Client>,
    host: String,
    directory: VirtualPath,
}

impl Session {
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            client: None,
            helper: None,
            host: String::new(),
            directory: VirtualPath::root(),
        }
    }

    /// Connects, in place of the connection that was there.
    pub(super) async fn open(&mut self, host: &str) -> Result<(), Trouble> {
        self.close();
        let client = connect::open(&self.access, host).await?;
        self.take(host, client);
        Ok(())
    }

    /// Begins to use a connection.
    pub(super) fn take(&mut self, host: &str, client: Client) {
        self.client = Some(client);
        host.clone_into(&mut self.host);
        self.directory = VirtualPath::root();
    }

    /// Ends the connection.
    pub(super) fn close(&mut self) {
        self.client = None;
        self.helper = None;
        self.host.clear();
    }

    /// Returns a connection besides, to the same server as the same subject.
    pub(super) async fn helper(&mut self) -> Option<Client> {
        if self.helper.is_none() {
            let another = self.client.as_ref()?.connect_another().await;
            self.helper = another.and_then(Result::ok);
        }
        self.helper.clone()
    }

    /// Closes the connection besides.
    pub(super) fn forget_helper(&mut self) {
        self.helper = None;
    }

    /// Returns the server as it was named; nothing without a connection.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns how servers are logged in to.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the connection, if there is one.
    pub(super) fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// Returns the directory where relative paths begin.
    pub(super) fn directory(&self) -> &VirtualPath {
        &self.directory
    }

    /// Lets relative paths begin elsewhere.
    pub(super) fn enter(&mut self, directory: VirtualPath) {
        self.directory = directory;
    }

    /// Sets how long an answer is waited for.
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.access.timeout = Some(timeout);
        if let Some(client) = &mut self.client {
            *client = client.with_timeout(timeout);
        }
    }

    /// Returns the path that a word means.
    pub(super) fn path(&self, word: &[u8]) -> Result<VirtualPath, Trouble> {
        if word.starts_with(b"/") {
            return Ok(VirtualPath::from_decoded(word)?);
        }
        Ok(self.directory.join(word)?)
    }

    /// Returns the path of an optional word; the directory itself without one.
    pub(super) fn path_or_here(&self, word: Option<&[u8]>) -> Result<VirtualPath, Trouble> {
        word.map_or_else(|| Ok(self.directory.clone()), |word| self.path(word))
    }
}

/// Returns the words of a command that takes just so many.
pub(super) fn exactly<'a, const N: usize>(words: &[&'a [u8]]) -> Result<[&'a [u8]; N], Trouble> {
    words.try_into().map_err(|_| Trouble::Usage)
}

/// Returns a word as a local path.
pub(super) fn local(word: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(word))
}

/// Returns a word as text; what is none has no meaning to a server.
pub(super) fn text(word: &[u8]) -> Result<&str, Trouble> {
    std::str::from_utf8(word).map_err(|_| Trouble::invalid())
}
