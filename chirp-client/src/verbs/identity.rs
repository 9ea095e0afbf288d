//! Who is who (part 3.2).

use bytes::Bytes;
use chirp_proto::Request;

use crate::client::word;
use crate::{Client, Error};

/// Bytes of an identity that are asked for; the wire's lines are shorter.
const IDENTITY_MAX: u64 = 4096;

impl Client {
    /// Returns `METHOD:SUBJECT`, the identity that the server uses for rights.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn whoami(&self) -> Result<Bytes, Error> {
        let request = Request::Whoami {
            limit: IDENTITY_MAX,
        };
        self.counted(&request, IDENTITY_MAX).await
    }

    /// Returns the identity that the server itself gets at another server, `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn whoareyou(&self, host: &str) -> Result<Bytes, Error> {
        let request = Request::Whoareyou {
            host: word(host.as_bytes())?,
            limit: IDENTITY_MAX,
        };
        self.counted(&request, IDENTITY_MAX).await
    }

    /// Turns a debug category of the server on; for its superuser.
    ///
    /// # Errors
    ///
    /// As every call: see [`Error`].
    pub async fn debug(&self, flag: &str) -> Result<(), Error> {
        let flag = word(flag.as_bytes())?;
        self.number(&Request::Debug { flag }).await.map(drop)
    }
}
