//! Who may do what.

use chirp_client::Client;

use super::foreign;
use crate::commands::setacl::ALIASES;
use crate::compat::chirp::session::{self, Session};
use crate::compat::trouble::Trouble;

pub(crate) async fn getacl(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let path = session.path_or_here(words.first().copied())?;
    for line in client.getacl(&path).await? {
        foreign(&line)?;
    }
    Ok(())
}

pub(crate) async fn setacl(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word, subject, rights] = session::exactly(words)?;
    let path = session.path(word)?;
    let (subject, rights) = (session::text(subject)?, letters(session::text(rights)?));
    Ok(client.setacl(&path, subject, rights).await?)
}

pub(crate) async fn resetacl(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word, rights] = session::exactly(words)?;
    let path = session.path(word)?;
    Ok(client
        .resetacl(&path, letters(session::text(rights)?))
        .await?)
}

/// Expands a name for a set of rights.
pub(super) fn letters(text: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == text)
        .map_or(text, |(_, letters)| letters)
}
