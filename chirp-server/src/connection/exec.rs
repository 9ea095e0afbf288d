//! The requests of the exec extension on a connection. Only they may put words after an error
//! code, and only they take the connection into stream mode.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chirp_proto::request::ExecutionName;
use chirp_proto::{Code, Request, encode};
use exec_ext::limits::{DROPPED_BODY_MAX, OUTPUT_MAX, REQUEST_MAX};
use exec_ext::request::ExecRequest;
use exec_ext::runner::{AttachTicket, Execution, StartError};
use exec_ext::stream;
use serde::Serialize;

use super::Connection;
use crate::exec::{self, Exec};
use crate::transfer::Collect;

impl Connection {
    /// Answers a request of the extension.
    pub(super) async fn exec(&mut self, request: Request) -> io::Result<()> {
        let Some(exec) = self.server.exec.clone() else {
            self.drop_body(request.body_length()).await?;
            self.refuse(
                Code::NotSupported,
                "this server runs no programs; start it with --exec",
            );
            return self.end_after(request.body_length()).await;
        };
        match request {
            Request::Exec { length } => return self.start(&exec, length).await,
            Request::ExecStatus { execution } => {
                let found = self
                    .find(&exec, &execution)
                    .map(|execution| execution.status());
                self.json(found.as_ref());
            }
            Request::ExecWait { execution, seconds } => {
                let Some(found) = self.find(&exec, &execution) else {
                    self.json(None::<&()>);
                    return Ok(());
                };
                self.flush().await?;
                let status = found.wait(Duration::from_secs(seconds)).await;
                self.json(Some(&status));
            }
            Request::ExecSignal { execution, number } => {
                match (self.find(&exec, &execution), i32::try_from(number)) {
                    (None, _) => self.json(None::<&()>),
                    (Some(found), Ok(number @ 1..=64)) => {
                        found.signal(number);
                        encode::number(0, &mut self.output);
                    }
                    (Some(_), _) => self.refuse(Code::InvalidRequest, "signals are 1 to 64"),
                }
            }
            Request::ExecList => {
                let superuser = self.is_superuser();
                let subject = self.session.subject().as_str();
                let list = exec.executions.list(subject, superuser);
                self.json(Some(&list));
            }
            Request::ExecAttach {
                execution,
                out,
                err,
            } => match self.find(&exec, &execution) {
                Some(found) => return self.attach(&exec, &found, out, err).await,
                None => self.json(None::<&()>),
            },
            Request::ExecRemove { execution } => {
                let subject = self.session.subject().as_str();
                let superuser = self.is_superuser();
                match exec.executions.remove(subject, &execution, superuser) {
                    Ok(true) => encode::number(0, &mut self.output),
                    Ok(false) => self.json(None::<&()>),
                    Err(error) => self.refuse(error.code, &error.message),
                }
            }
            Request::ExecOutput {
                execution,
                stream,
                offset,
                length,
            } => {
                let Some(found) = self.find(&exec, &execution) else {
                    self.json(None::<&()>);
                    return Ok(());
                };
                let length = usize::try_from(length)
                    .unwrap_or(OUTPUT_MAX)
                    .min(OUTPUT_MAX);
                let read = move || found.captured(stream, offset, length);
                match tokio::task::spawn_blocking(read).await {
                    Ok(Ok(bytes)) => encode::counted(&bytes, &mut self.output),
                    Ok(Err(error)) => self.refuse(error.code, &error.message),
                    Err(_) => self.refuse(Code::TryAgain, "the server stops"),
                }
            }
            _ => self.refuse(Code::NotSupported, "this is no request of the extension"),
        }
        Ok(())
    }

    /// Comes back to an execution: answers its status, then streams from these offsets on.
    async fn attach(
        &mut self,
        exec: &Exec,
        found: &Arc<Execution>,
        out: u64,
        err: u64,
    ) -> io::Result<()> {
        match found.attach_at(out, err) {
            Ok(attach) => {
                self.json(Some(&found.status()));
                self.stream(exec, attach).await
            }
            Err(error) => {
                self.refuse(error.code, &error.message);
                Ok(())
            }
        }
    }

    async fn start(&mut self, exec: &Arc<Exec>, length: u64) -> io::Result<()> {
        if length > REQUEST_MAX as u64 {
            self.drop_body(length).await?;
            let words = format!("the request may have {REQUEST_MAX} bytes");
            self.refuse(Code::TooBig, &words);
            return self.end_after(length).await;
        }
        let mut body = Collect::default();
        if let Err(code) = self.take_body(length, &mut body).await? {
            encode::failure(code, &mut self.output);
            return Ok(());
        }
        self.flush().await?;
        match self.started(exec, &body.0).await {
            Ok((id, attach)) => {
                tracing::info!(target: "exec", id, subject = %self.session.subject(), "execution");
                encode::number(id, &mut self.output);
                match attach {
                    Some(attach) => self.stream(exec, attach).await,
                    None => Ok(()),
                }
            }
            Err(error) => {
                tracing::debug!(target: "exec", subject = %self.session.subject(), %error, "refused");
                self.refuse(error.code, &error.message);
                Ok(())
            }
        }
    }

    async fn started(
        &self,
        exec: &Arc<Exec>,
        body: &[u8],
    ) -> Result<(u64, Option<AttachTicket>), StartError> {
        let request =
            ExecRequest::parse(body).map_err(|error| StartError::new(error.code, error.message))?;
        let request = Arc::new(request);
        let (server, who) = (Arc::clone(&self.server), self.session.who().clone());
        let (runner, asked) = (Arc::clone(exec), Arc::clone(&request));
        let prepare = move || exec::prepare(&runner, &server.export, &who, &asked);
        let subject = self.session.subject().as_str();
        let started = exec.executions.start(subject, request, prepare).await?;
        // Whatever it writes is nothing that this server charges to anybody.
        self.server.export.space().changed_outside();
        Ok((started.execution.id(), started.attach))
    }

    /// Hands the connection to an execution's stream until `done`, with what has not been sent yet.
    async fn stream(&mut self, exec: &Exec, attach: AttachTicket) -> io::Result<()> {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let settings = exec.stream_settings();
        let (input, reply) = (&mut self.input, &mut self.reply);
        reply.bytes = self.output.split();
        stream::serve(attach, &mut reader, input, reply, &mut writer, settings)
            .await
            .map(drop)
            .map_err(io::Error::other)
    }

    fn find(&self, exec: &Exec, name: &ExecutionName) -> Option<Arc<Execution>> {
        let subject = self.session.subject().as_str();
        exec.executions.find(subject, name, self.is_superuser())
    }

    fn is_superuser(&self) -> bool {
        self.server.export.is_superuser(self.session.who())
    }

    /// Answers a value as JSON with its length; what does not exist, or not for this subject, is
    /// no such execution.
    fn json(&mut self, value: Option<&impl Serialize>) {
        match value.map(serde_json::to_vec) {
            None => self.refuse(Code::NoSuchJob, "no such execution"),
            Some(Ok(text)) => encode::counted(&text, &mut self.output),
            Some(Err(error)) => self.refuse(Code::Unknown, &error.to_string()),
        }
    }

    fn refuse(&mut self, code: Code, words: &str) {
        encode::failure_with_words(code, words, &mut self.output);
    }

    /// Drops a refused request's body, up to the limit for that.
    async fn drop_body(&mut self, length: u64) -> io::Result<()> {
        if length <= DROPPED_BODY_MAX {
            self.discard(length).await?;
        }
        Ok(())
    }

    /// Ends the connection after its error line where the body was too long to be dropped.
    async fn end_after(&mut self, length: u64) -> io::Result<()> {
        if length <= DROPPED_BODY_MAX {
            return Ok(());
        }
        self.flush().await?;
        Err(io::Error::other(
            "a refused body was too long to be dropped",
        ))
    }
}
