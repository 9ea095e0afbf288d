//! What is known of a name.

use bytes::Bytes;
use chirp_client::{Client, XattrFlags, XattrTarget};

use super::foreign;
use crate::commands::stat as lines;
use crate::compat::chirp::session::{self, Session};
use crate::compat::trouble::Trouble;
use crate::output;

pub(crate) async fn stat(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    let stat = client.stat(&session.path(word)?).await?;
    Ok(output::write(lines::describe(&stat).as_bytes())?)
}

pub(crate) async fn chmod(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [mode, word] = session::exactly(words)?;
    // What is no octal number is 0 to the reference: a slip would take all rights away.
    let mode = u32::from_str_radix(session::text(mode)?, 8).map_err(|_| Trouble::invalid())?;
    Ok(client.chmod(&session.path(word)?, mode).await?)
}

pub(crate) async fn setrep(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word, count] = session::exactly(words)?;
    let count = session::text(count)?
        .parse()
        .map_err(|_| Trouble::invalid())?;
    Ok(client.setrep(&session.path(word)?, count).await?)
}

pub(crate) async fn xattr_get(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word, name] = session::exactly(words)?;
    let of = XattrTarget::Path(session.path(word)?);
    foreign(&client.getxattr(&of, session::text(name)?).await?)
}

pub(crate) async fn xattr_list(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    let of = XattrTarget::Path(session.path(word)?);
    for name in client.listxattr(&of).await? {
        foreign(&name)?;
    }
    Ok(())
}

pub(crate) async fn xattr_set(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    match words {
        [word, name] => {
            let of = XattrTarget::Path(session.path(word)?);
            Ok(client.removexattr(&of, session::text(name)?).await?)
        }
        [word, name, value] => {
            let of = XattrTarget::Path(session.path(word)?);
            let (name, value) = (session::text(name)?, Bytes::copy_from_slice(value));
            Ok(client
                .setxattr(&of, name, value, XattrFlags::Either)
                .await?)
        }
        _ => Err(Trouble::Usage),
    }
}
