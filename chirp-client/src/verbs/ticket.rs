//! Tickets (part 7.2). The keys and the files they are kept in stand in [`crate::ticket`].

use std::time::Duration;

use bytes::Bytes;
use chirp_proto::request::TicketName;
use chirp_proto::{Request, VirtualPath};

use crate::client::word;
use crate::connection::Layout;
use crate::error::printable;
use crate::{Client, Error};

/// What a server says of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketInfo {
    /// Whom it acts for.
    pub owner: Bytes,
    /// The public key, as it was registered.
    pub public_key: Bytes,
    /// Seconds until it ends.
    pub seconds_left: i64,
    /// What it leaves of its owner's rights: directories and letters.
    pub masks: Vec<(Bytes, Bytes)>,
}

impl TicketInfo {
    fn parse(texts: Vec<Bytes>) -> Option<Self> {
        let mut texts = texts.into_iter();
        let (owner, public_key, left) = (texts.next()?, texts.next()?, texts.next()?);
        let mask = |line: Bytes| {
            let blank = line.iter().rposition(|&byte| byte == b' ')?;
            Some((line.slice(..blank), line.slice(blank + 1..)))
        };
        Some(Self {
            owner,
            public_key,
            seconds_left: std::str::from_utf8(&left).ok()?.trim().parse().ok()?,
            masks: texts.map(mask).collect::<Option<_>>()?,
        })
    }
}

impl Client {
    /// Registers a public key (its PEM text) as a ticket of `subject`: `self`, one's own, or from
    /// the superuser anybody's. It gives no right until [`Client::ticket_modify`] says so.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -2 for somebody else's subject.
    pub async fn ticket_register(
        &self,
        subject: &str,
        public_key: &str,
        valid_for: Duration,
    ) -> Result<(), Error> {
        let key = Bytes::copy_from_slice(public_key.as_bytes());
        let request = Request::TicketRegister {
            subject: word(subject.as_bytes())?,
            seconds: i64::try_from(valid_for.as_secs()).unwrap_or(i64::MAX),
            length: key.len() as u64,
        };
        self.number_with(&request, key).await.map(drop)
    }

    /// Sets what a ticket leaves of its owner's rights in a directory and below it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -3 for an unknown ticket or directory, -2 for rights that the
    /// caller lacks and for another's ticket.
    pub async fn ticket_modify(
        &self,
        ticket: &TicketName,
        path: &VirtualPath,
        rights: &str,
    ) -> Result<(), Error> {
        let request = Request::TicketModify {
            ticket: *ticket,
            path: path.clone(),
            rights: word(rights.as_bytes())?,
        };
        self.number(&request).await.map(drop)
    }

    /// Removes a ticket from the server.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -3 for an unknown ticket, -2 for another's.
    pub async fn ticket_delete(&self, ticket: &TicketName) -> Result<(), Error> {
        let ticket = *ticket;
        self.number(&Request::TicketDelete { ticket })
            .await
            .map(drop)
    }

    /// Describes a ticket of one's own. A login by ticket sees none.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -8 for an unknown ticket, -2 for another's.
    pub async fn ticket_get(&self, ticket: &TicketName) -> Result<TicketInfo, Error> {
        let ticket = *ticket;
        let request = Request::TicketGet { ticket };
        let texts = self.texts(&request, Layout::Ticket).await?;
        TicketInfo::parse(texts)
            .ok_or_else(|| self.violation("ticket_get described no ticket".to_owned()))
    }

    /// Lists the tickets of a subject: `self`, one's own, or from the superuser anybody's, and
    /// `all` (our server; the reference's always lists the caller's).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with code -2 for somebody else's subject.
    pub async fn ticket_list(&self, subject: &str) -> Result<Vec<TicketName>, Error> {
        let subject = word(subject.as_bytes())?;
        let request = Request::TicketList { subject };
        let texts = self.texts(&request, Layout::Counted).await?;
        let names = texts.iter().map(|text| {
            TicketName::parse(text).ok_or_else(|| {
                let text = printable(text.get(..80).unwrap_or(text));
                self.violation(format!("ticket_list answered {text:?}, which is no ticket"))
            })
        });
        names.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_reads() {
        let texts = |texts: &[&'static str]| texts.iter().map(|&text| text.into()).collect();
        let info = TicketInfo::parse(texts(&["unix:a", "KEY\n", "99", "/ n", "/a b rl"])).unwrap();
        assert_eq!((&info.owner[..], info.seconds_left), (&b"unix:a"[..], 99));
        let masks = [("/".into(), "n".into()), ("/a b".into(), "rl".into())];
        assert_eq!(info.masks, masks);
        for bad in [
            &["unix:a", "KEY"][..],
            &["a", "k", "x"],
            &["a", "k", "1", "/"],
        ] {
            assert_eq!(TicketInfo::parse(texts(bad)), None);
        }
    }
}
