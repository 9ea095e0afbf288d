//! Directory listings, read entry by entry.

use bytes::Bytes;
use chirp_proto::limits::NAME_MAX;
use chirp_proto::{Request, Stat};

use crate::connection::ReaderLoan;
use crate::error::printable;
use crate::{Client, Error};

/// The names of a directory, as the server sends them: `.` and `..` are among them, and no name is
/// checked. Held before its end, it holds back the answers to all later calls on the connection.
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

    /// Returns all entries but `.` and `..`. Their names are what names can be: no `/` and no NUL.
    ///
    /// # Errors
    ///
    /// As [`Listing::next`]; [`Error::Protocol`] also for a name that is none, and for more than
    /// 256 MiB of entries.
    ///
    /// # Cancel safety
    ///
    /// The listing is lost if the future is dropped.
    pub async fn collect(self) -> Result<Vec<(Bytes, Stat)>, Error> {
        let mut entries = self.collect_with_dots().await?;
        entries.retain(|(name, _)| !is_dots(name));
        Ok(entries)
    }

    /// Returns all entries, `.` and `..` among them.
    ///
    /// # Errors
    ///
    /// As [`LongListing::collect`].
    ///
    /// # Cancel safety
    ///
    /// The listing is lost if the future is dropped.
    pub async fn collect_with_dots(mut self) -> Result<Vec<(Bytes, Stat)>, Error> {
        let mut entries = Vec::new();
        let mut size = 0;
        while let Some((name, stat)) = self.next().await? {
            let client = &self.names.client;
            check_name(&name).map_err(|what| client.violation(what))?;
            size += name.len() + size_of::<(Bytes, Stat)>();
            if size > COLLECTED_MAX {
                let what = format!("a listing of more than {COLLECTED_MAX} bytes");
                return Err(client.violation(what));
            }
            // A copy, lest a few bytes keep the whole receive buffer.
            entries.push((Bytes::copy_from_slice(&name), stat));
        }
        Ok(entries)
    }
}

/// Bytes that the collected entries of one directory may take.
const COLLECTED_MAX: usize = 256 * 1024 * 1024;

fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

/// Checks a name that a server sent; the error says why it is none.
fn check_name(name: &[u8]) -> Result<(), String> {
    if name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(format!(
            "the listing has {:?}, which is no name",
            printable(name)
        ));
    }
    if name.len() > NAME_MAX {
        return Err(format!("the listing has a name of {} bytes", name.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_server_stay_in_their_directory() {
        for good in [&b"."[..], b"..", b"...", b"a b\xff\n"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in [&b"../x"[..], b"/etc/passwd", b"a/b", b"a\0", &[b'a'; 256]] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        assert!(is_dots(b"..") && !is_dots(b"..."));
    }
}
