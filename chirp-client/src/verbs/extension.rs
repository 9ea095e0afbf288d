//! Our extension without the running of programs (`exec-extension.md`).

use bytes::Bytes;
use chirp_proto::{Request, VirtualPath};
use exec_ext::status::Features;

use crate::{Client, Error};

/// Bytes of the description of a server's features.
const FEATURES_MAX: u64 = 1024 * 1024;

impl Client {
    /// Returns what the server offers beyond the protocol; `None` from a server that knows no
    /// extension, as the reference's. It is asked once a connection.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if the description cannot be read.
    pub async fn features(&self) -> Result<Option<&Features>, Error> {
        let features = self.known_features().get_or_try_init(|| async {
            let json = match self.counted(&Request::Features, FEATURES_MAX).await {
                Ok(json) => json,
                Err(Error::Refused { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            serde_json::from_slice(&json)
                .map(Some)
                .map_err(|error| self.violation(format!("features: {error}")))
        });
        Ok(features.await?.as_ref())
    }

    /// Returns the SHA-256 of a file, computed by the server.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -8 from a server without this verb.
    pub async fn sha256(&self, path: &VirtualPath) -> Result<Bytes, Error> {
        let path = path.clone();
        let digest = self.counted(&Request::Sha256 { path }, 32).await?;
        self.whole_digest(digest, 32)
    }

    /// Sends a whole file, which appears under its name, in place of what had it, when all of it is
    /// there; `mode` is set as by `chmod`, and `mtime`, in seconds since 1970, as by `utime`. Unlike
    /// for `putfile` nothing is waited for: many can be on their way at once.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -8 from a server whose [`Client::features`] do not have `store`.
    /// Do not try: such a server takes the content for requests.
    pub async fn store(
        &self,
        path: &VirtualPath,
        mode: u32,
        mtime: i64,
        content: Bytes,
    ) -> Result<(), Error> {
        let length = content.len() as u64;
        let request = Request::Store {
            path: path.clone(),
            mode,
            mtime,
            length,
        };
        let stored = self.number_with(&request, content).await?;
        if stored == length {
            return Ok(());
        }
        Err(self.violation(format!(
            "store {path}: {length} bytes were sent, {stored} confirmed"
        )))
    }
}
