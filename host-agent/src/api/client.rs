//! The commands' side of the API: HTTP/1.1 over the agent's Unix socket.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use bytes::{Bytes, BytesMut};
use host_agent::hypervisor::{Finding, Operation};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::socket;
use super::types::{
    AgentInfo, ErrorBody, ExecCall, GuestList, MachineCall, MachineInfo, MachineList,
};
use crate::error::SocketError;

/// Bytes of an answer that is read whole: 10,000 guests of some 1 KiB each, and room.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Bytes of one line of a streamed answer: a snapshot of all guests is one.
const LINE_MAX: usize = ANSWER_MAX;

/// A client of the agent behind one socket. Each call makes its own connection.
#[derive(Debug, Clone)]
pub(crate) struct ApiClient {
    socket: PathBuf,
}

/// The agent's refusal of a call.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// The answer's status.
    pub(crate) status: StatusCode,
    /// The agent's words.
    pub(crate) message: String,
}

/// The agent went away while it was spoken to.
#[derive(Debug, thiserror::Error)]
#[error("lost the host-agent on {}; it has stopped, was killed, or is not yours", socket.display())]
pub(crate) struct Lost {
    socket: PathBuf,
}

impl ApiClient {
    /// Returns a client for the agent behind that socket.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks for the agent itself.
    pub(crate) async fn agent(&self) -> anyhow::Result<AgentInfo> {
        self.json("/agent").await
    }

    /// Asks for the registered guests, with `all` for those that are gone or left too, or with a pattern for
    /// those of them that it takes.
    pub(crate) async fn guests(
        &self,
        pattern: Option<&str>,
        all: bool,
    ) -> anyhow::Result<GuestList> {
        let mut path = format!("/guests?all={all}");
        if let Some(pattern) = pattern {
            path = format!("{path}&to={}", query_value(pattern));
        }
        self.json(&path).await
    }

    /// Asks for everything that happens from now on.
    pub(crate) async fn events(&self) -> anyhow::Result<Lines> {
        self.call(Method::GET, "/events", Bytes::new())
            .await
            .map(Lines::new)
    }

    /// Runs a program on guests. Dropping the answer before its end ends the program everywhere.
    pub(crate) async fn exec(&self, call: &ExecCall) -> anyhow::Result<Lines> {
        self.post("/exec", call).await.map(Lines::new)
    }

    /// Asks for the machines and their guests.
    pub(crate) async fn machines(&self) -> anyhow::Result<MachineList> {
        self.json("/machines").await
    }

    /// Asks whether the driver of machines can work.
    pub(crate) async fn machines_check(&self) -> anyhow::Result<Vec<Finding>> {
        self.json("/machines/check").await
    }

    /// Asks something of a machine: `machine`, `snapshots`, `performance` or `console`.
    pub(crate) async fn machine<T: DeserializeOwned>(
        &self,
        name: &str,
        what: &str,
    ) -> anyhow::Result<T> {
        self.json(&format!("/machine?name={}&what={what}", query_value(name)))
            .await
    }

    /// Does something to a machine.
    pub(crate) async fn operate(
        &self,
        machine: &str,
        operation: Operation,
    ) -> anyhow::Result<Option<MachineInfo>> {
        let call = MachineCall {
            machine: machine.to_owned(),
            operation,
        };
        let answer = self.post("/machine", &call).await?;
        serde_json::from_slice(&collect(answer).await?)
            .context("the agent's answer to /machine is not understood")
    }

    async fn json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.call(Method::GET, path, Bytes::new()).await?;
        let body = collect(answer).await?;
        serde_json::from_slice(&body)
            .with_context(|| format!("the agent's answer to {path} is not understood"))
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Response<Incoming>> {
        self.call(Method::POST, path, serde_json::to_vec(body)?.into())
            .await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let stream = socket::connect(&self.socket).await?;
        let lost = || Lost {
            socket: self.socket.clone(),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .with_context(lost)?;
        // Ends with the answer's body or with the sender, whichever is dropped last.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the agent ended");
            }
        });
        let request = Request::builder()
            .method(method)
            .uri(path.parse::<Uri>()?)
            .header("host", "host-agent")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await.with_context(lost)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = collect(answer).await?;
        let message = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => body.error,
            Err(_) => format!("the agent answered {status}"),
        };
        Err(Refusal { status, message }.into())
    }
}

async fn collect(answer: Response<Incoming>) -> anyhow::Result<Bytes> {
    match Limited::new(answer.into_body(), ANSWER_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            bail!("the agent's answer is longer than {ANSWER_MAX} bytes")
        }
        Err(error) => Err(anyhow!(
            "lost the host-agent in the middle of its answer: {error}"
        )),
    }
}

/// A streamed answer: one JSON value on each line.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line's end.
    searched: usize,
}

impl Lines {
    fn new(answer: Response<Incoming>) -> Self {
        Self {
            body: answer.into_body(),
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// Returns the next value; `None` at the end of the answer.
    ///
    /// # Errors
    ///
    /// The agent is gone, a line is too long, or it is not what was asked for.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        loop {
            if let Some(at) = self
                .buffer
                .iter()
                .skip(self.searched)
                .position(|&byte| byte == b'\n')
            {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                return serde_json::from_slice(&line)
                    .context("a line from the agent is not understood")
                    .map(Some);
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_MAX {
                bail!("a line from the agent is longer than {LINE_MAX} bytes");
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => {
                    bail!("lost the host-agent in the middle of its answer: {error}")
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => bail!("the agent's answer ends in the middle of a line"),
            }
        }
    }
}

/// Returns whether a call failed because no agent is there.
pub(crate) fn no_agent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SocketError::NoAgent { .. }))
}

/// Escapes a value for the query part of a URI.
fn query_value(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_survive_the_query() {
        assert_eq!(query_value("a*,!b c&d=é"), "a%2A%2C%21b%20c%26d%3D%C3%A9");
    }
}
