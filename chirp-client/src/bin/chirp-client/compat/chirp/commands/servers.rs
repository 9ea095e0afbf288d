//! Who is who, and servers that talk to each other.

use std::time::Instant;

use chirp_client::Client;

use super::foreign;
use crate::compat::chirp::session::{self, Session};
use crate::compat::trouble::{Trouble, say};

pub(crate) async fn whoami(client: &Client) -> Result<(), Trouble> {
    foreign(&client.whoami().await?)
}

pub(crate) async fn whoareyou(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let [host] = session::exactly(words)?;
    foreign(&client.whoareyou(session::text(host)?).await?)
}

pub(crate) async fn localpath(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let path = session.path_or_here(words.first().copied())?;
    foreign(&client.localpath(&path).await?)
}

pub(crate) async fn remote_debug(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let [flag] = session::exactly(words)?;
    Ok(client.debug(session::text(flag)?).await?)
}

pub(crate) async fn thirdput(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [from, host, to] = session::exactly(words)?;
    let from = session.path(from)?;
    // The other server has no current directory.
    let to = chirp_client::VirtualPath::from_decoded(to)?;
    let start = Instant::now();
    let bytes = client.thirdput(&from, session::text(host)?, &to).await?;
    // The reference says nothing of a copy without content, and counts whole seconds, at least one.
    if bytes == 0 {
        return Ok(());
    }
    let seconds = start.elapsed().as_secs().max(1);
    let rate = bytes as f64 / 1_048_576.0 / seconds as f64;
    say(&format!(
        "{bytes} bytes transferred in {seconds} seconds ({rate:.1}MB/s)"
    ));
    Ok(())
}
