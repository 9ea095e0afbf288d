//! The `cookie` method: a secret that both sides know (part 2.9).

use bytes::BytesMut;
use chirp_proto::dialect::Dialect;
use chirp_proto::parse::reply::Status;
use chirp_proto::{Method, Request, Subject, encode};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::LoginError;
use crate::connection::{Fault, Reader};
use crate::cookie::Cookie;

/// Bytes of an identity that are asked for.
const IDENTITY_MAX: u64 = 1024;

/// What we are to a server that does not say: HTCondor's proxy has one client only, the job.
const NAMELESS: &[u8] = b"holder";

/// Shows the cookie and asks who its holder is; the inner error is why the next method's turn has come.
pub(super) async fn offer(
    reader: &mut Reader,
    writer: &mut (impl AsyncWrite + Unpin),
    cookie: &Cookie,
) -> Result<Result<Subject, String>, LoginError> {
    writer.write_all(&cookie.line()).await?;
    writer.flush().await?;
    match &reader.line().await?[..] {
        b"0" => {}
        b"-1" => return Ok(Err("the server has another cookie".to_owned())),
        b"no" => return Ok(Err("the server does not offer it".to_owned())),
        // What came is not shown: it may be an echo of what was sent.
        _ => {
            return Err(LoginError::Fault(Fault::Protocol(
                "no answer to a cookie; is this HTCondor's proxy or a Chirp server?".to_owned(),
            )));
        }
    }
    let mut line = BytesMut::new();
    let limit = IDENTITY_MAX;
    encode::request_in(Dialect::Condor, &Request::Whoami { limit }, &mut line);
    writer.write_all(&line).await?;
    writer.flush().await?;
    let name = match reader.status().await? {
        Status::Success(length @ 1..=IDENTITY_MAX) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            reader.exact(length).await?
        }
        Status::Success(0) | Status::Failure { .. } => NAMELESS.into(),
        Status::Success(length) => {
            return Err(LoginError::Fault(Fault::Protocol(format!(
                "the server announced an identity of {length} bytes where at most {limit} were asked for"
            ))));
        }
    };
    let subject = Subject::parse(&name);
    Ok(Ok(
        subject.unwrap_or_else(|| Subject::new(Method::Cookie, &name))
    ))
}
