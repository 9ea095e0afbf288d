//! The `ticket` method: showing that one holds a key, without showing the key (part 2.5).

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{LoginError, send};
use crate::connection::{Fault, Reader};
use crate::ticket::{CHALLENGE_MAX, TicketKey};

/// What ends the method.
const NO_MORE: &[u8] = b"==";

/// Offers tickets until one is taken; the inner error is why the next method's turn has come.
///
/// A server that refuses a ticket with `failure` waits for another one. The reference's client gives
/// up there; newer servers of the reference say so for a ticket that they do not know.
pub(super) async fn offer(
    reader: &mut Reader,
    writer: &mut (impl AsyncWrite + Unpin),
    keys: Vec<TicketKey>,
) -> Result<Result<(), String>, LoginError> {
    let count = keys.len();
    for key in keys {
        send(writer, key.name().digits().as_bytes()).await?;
        let Some(length) = answer(&reader.line().await?)? else {
            continue;
        };
        let challenge = reader.exact(length).await?;
        // Some milliseconds of work, seconds for the largest keys.
        let signed = tokio::task::spawn_blocking(move || key.sign(&challenge).ok()).await;
        // Without a signature the server is owed one nevertheless.
        let signature = signed.ok().flatten().unwrap_or_default();
        let message = [signature.len().to_string().as_bytes(), b"\n", &signature].concat();
        writer.write_all(&message).await?;
        writer.flush().await?;
        match &reader.line().await?[..] {
            b"success" => return Ok(Ok(())),
            b"failure" => {}
            other => return Err(unexpected(other)),
        }
    }
    send(writer, NO_MORE).await?;
    Ok(Err(match count {
        1 => "the server did not take the ticket".to_owned(),
        count => format!("the server took none of {count} tickets"),
    }))
}

/// Reads what a server says to a ticket's name: the length of its challenge, or none.
fn answer(line: &[u8]) -> Result<Option<usize>, LoginError> {
    if matches!(line, b"declined" | b"failure") {
        return Ok(None);
    }
    let length = std::str::from_utf8(line).ok();
    let length = length.and_then(|length| length.parse().ok());
    match length.filter(|length| (1..=CHALLENGE_MAX).contains(length)) {
        Some(length) => Ok(usize::try_from(length).ok()),
        None => Err(unexpected(line)),
    }
}

fn unexpected(line: &[u8]) -> LoginError {
    let line = line.get(..60).unwrap_or(line).escape_ascii().to_string();
    LoginError::Fault(Fault::Protocol(format!("{line:?} in a login by ticket")))
}
