//! Directory listings, read entry by entry.

use bytes::Bytes;
use chirp_proto::{Request, Stat};

use crate::connection::ReaderLoan;
use crate::{Client, Error};

/// The names of a directory, as the server sends them: `.` and `..` are among them, and no name is
/// checked. Held, it holds back the answers to all later calls on the connection.
pub struct Listing {
    client: Client,
    request: Request,
    loan: ReaderLoan,
}

impl Listing {
    pub(crate) const fn new(client: Client, request: Request, loan: ReaderLoan) -> Self {
        Self {
            client,
            request,
            loan,
        }
    }

    /// Returns the next name; `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], [`Error::Lost`] or [`Error::Protocol`]; the connection is then of no
    /// more use.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let step = self.loan.name_line();
        self.client.step(&self.request, step).await
    }
}

/// The entries of a directory with what `lstat` says of each.
pub struct LongListing {
    names: Listing,
    /// A name whose stat line has not come yet.
    name: Option<Bytes>,
}

impl LongListing {
    pub(crate) const fn new(names: Listing) -> Self {
        Self { names, name: None }
    }

    /// Returns the next entry; `None` at the end. An entry that vanished meanwhile has a [`Stat`]
    /// of zeros.
    ///
    /// # Errors
    ///
    /// As [`Listing::next`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Result<Option<(Bytes, Stat)>, Error> {
        if self.name.is_none() {
            self.name = self.names.next().await?;
        }
        let Some(name) = &self.name else {
            return Ok(None);
        };
        let line = self.names.next().await?;
        let Some(stat) = line.as_deref().and_then(Stat::parse) else {
            let name = name.escape_ascii().to_string();
            return Err(self
                .names
                .client
                .violation(format!("the listing has no stat line for {name:?}")));
        };
        Ok(self.name.take().map(|name| (name, stat)))
    }
}
