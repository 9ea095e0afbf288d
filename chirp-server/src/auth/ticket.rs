//! The `ticket` method: whoever can sign with the key of a ticket acts for its owner (part 2.5).
//!
//! The reference sends every connection the same challenge, so that a signature seen once is good for
//! ever (weakness W16); here each attempt gets 64 random bytes of its own.

use chirp_proto::Subject;
use chirp_proto::request::TicketName;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{AuthError, Proof, Talk};
use crate::tickets::Tickets;
use crate::tickets::key::{CHALLENGE, Key};

/// Bytes of the longest signature that is looked at.
const SIGNATURE_MAX: u64 = 4096;

/// Runs the exchange up to the verdict.
pub(super) async fn prove<S>(tickets: &Tickets, talk: &mut Talk<'_, S>) -> Result<Proof, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    talk.say("yes\n").await?;
    loop {
        let digest = match talk.answer().await {
            // As the reference, to which the rest of the line is the next method's name.
            Err(AuthError::TooLong(_)) => {
                talk.skip_line().await?;
                talk.say("no\n").await?;
                return Ok(Proof::Declined);
            }
            line => line?,
        };
        // Whatever has not the length of a digest ends the method, as `==` does.
        if digest.len() != 32 {
            return Ok(Proof::Declined);
        }
        let Some((name, owner, key)) = find(tickets, &digest) else {
            tracing::debug!(target: "auth", digest = %digest.escape_ascii(), "no such ticket");
            talk.say("declined\n").await?;
            continue;
        };
        let mut challenge = [0; CHALLENGE];
        getrandom::fill(&mut challenge).map_err(std::io::Error::other)?;
        talk.say_bytes(&[b"64\n", challenge.as_slice()].concat())
            .await?;
        let length = signature_length(&talk.answer().await?);
        if !(0..=SIGNATURE_MAX.cast_signed()).contains(&length) {
            // As much as it announces, until the time for logins is over.
            talk.skip(length.max(0).unsigned_abs()).await?;
            talk.say("failure\n").await?;
            return Ok(Proof::Declined);
        }
        let signature = talk.take(usize::try_from(length).unwrap_or(0)).await?;
        if verify(key, challenge, signature).await {
            return Ok(Proof::Ticket { name, owner });
        }
        tracing::debug!(target: "auth", ticket = name.digits(), "the signature is not the key's");
        talk.say("failure\n").await?;
    }
}

/// Returns a ticket's name, owner and key. A text that was registered and is no key is no ticket to log
/// in with.
fn find(tickets: &Tickets, digest: &[u8]) -> Option<(TicketName, Subject, Key)> {
    let name = TicketName::from_digits(digest)?;
    let ticket = tickets.find(name).ok()?;
    Some((name, ticket.owner().clone(), Key::from_pem(ticket.key())?))
}

/// Reads the length as the reference does: the number at the word's begin, else 0.
fn signature_length(line: &[u8]) -> i64 {
    let text = line.trim_ascii_start();
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let length = length.fold(0i64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    if text.starts_with(b"-") {
        -length
    } else {
        length
    }
}

/// Verifies where it holds up nobody: with a large key it takes milliseconds.
async fn verify(key: Key, challenge: [u8; CHALLENGE], signature: Vec<u8>) -> bool {
    if key.is_quick() {
        return key.verify(&challenge, &signature);
    }
    tokio::task::spawn_blocking(move || key.verify(&challenge, &signature))
        .await
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_the_number_at_the_words_begin() {
        for (line, length) in [
            ("128", 128),
            (" 4", 4),
            ("5x", 5),
            ("", 0),
            ("x", 0),
            ("-5", -5),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(signature_length(line.as_bytes()), length, "{line:?}");
        }
    }
}
