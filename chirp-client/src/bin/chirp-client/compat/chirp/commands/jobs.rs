//! Jobs (part 9): JSON goes and comes as it is.

use bytes::Bytes;
use chirp_client::Client;

use super::foreign;
use crate::compat::chirp::session;
use crate::compat::trouble::Trouble;

/// What `job_wait` without a time asks for: as long as the server waits at all.
const AS_LONG_AS_IT_TAKES: i64 = -1;

pub(crate) async fn create(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let id = client.job_create_json(only(words)?).await?;
    foreign(id.to_string().as_bytes())
}

pub(crate) async fn commit(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    Ok(client.job_commit_json(ids(words)?).await?)
}

pub(crate) async fn kill(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    Ok(client.job_kill_json(ids(words)?).await?)
}

pub(crate) async fn reap(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    Ok(client.job_reap_json(ids(words)?).await?)
}

pub(crate) async fn status(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    foreign(&client.job_status_json(ids(words)?).await?)
}

pub(crate) async fn wait(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let (id, seconds) = match words {
        [id] => (number(id)?, AS_LONG_AS_IT_TAKES),
        [id, seconds] => (number(id)?, number(seconds)?),
        _ => return Err(Trouble::Usage),
    };
    foreign(&client.job_wait_json(id, seconds).await?)
}

fn number(word: &[u8]) -> Result<i64, Trouble> {
    session::text(word)?.parse().map_err(|_| Trouble::invalid())
}

fn only(words: &[&[u8]]) -> Result<Bytes, Trouble> {
    match words {
        [json] => Ok(Bytes::copy_from_slice(json)),
        _ => Err(Trouble::Usage),
    }
}

/// Returns the numbers of jobs as the wire has them. The reference's help speaks of an id and its
/// server wants an array: both are taken.
fn ids(words: &[&[u8]]) -> Result<Bytes, Trouble> {
    let json = only(words)?;
    if !json.is_empty() && json.iter().all(u8::is_ascii_digit) {
        return Ok([b"[", &json[..], b"]"].concat().into());
    }
    Ok(json)
}
