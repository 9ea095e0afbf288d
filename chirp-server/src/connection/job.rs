//! The job verbs on a connection (`chirp-protocol.md`, part 9.1): a body of JSON in, a number or JSON
//! out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chirp_proto::limits::IO_MAX;
use chirp_proto::{Code, Request, encode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::Connection;
use crate::jobs::{self, Jobs, LARGE_BODY};
use crate::transfer::Collect;

/// How long a client may take to send a large body.
const LARGE_BODY_TIME: Duration = Duration::from_secs(60);

/// How long a large body waits for room.
const PERMIT_TIME: Duration = Duration::from_secs(10);

impl Connection {
    /// Answers a job verb.
    pub(super) async fn job(&mut self, request: Request) -> io::Result<()> {
        let Some(jobs) = self.server.jobs.clone() else {
            self.discard(request.body_length()).await?;
            encode::failure(Code::InvalidRequest, &mut self.output);
            return Ok(());
        };
        let who = self.session.who().clone();
        let asker = jobs::asker(&self.server.export, &who);
        if let Request::JobWait { id, seconds } = request {
            // What was answered before does not wait for a job's end.
            self.flush().await?;
            let answer = jobs.wait(&asker, id, seconds, &self.draining).await;
            self.counted(answer);
            return Ok(());
        }
        let length = request.body_length();
        if length > IO_MAX {
            self.discard(length).await?;
            encode::failure(Code::NoMemory, &mut self.output);
            return Ok(());
        }
        let Ok(permit) = self.permit(&jobs, length).await? else {
            self.discard(length).await?;
            encode::failure(Code::TryAgain, &mut self.output);
            return Ok(());
        };
        let mut body = Collect::default();
        let taking = self.take_body(length, &mut body);
        // Nobody keeps others waiting by sending slowly; the rest of the body cannot be told from
        // requests, so that ends the connection.
        let taken = match &permit {
            Some(_) => timeout(LARGE_BODY_TIME, taking).await.map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, "a large body came too slowly")
            })??,
            None => taking.await?,
        };
        if let Err(code) = taken {
            encode::failure(code, &mut self.output);
            return Ok(());
        }
        let Collect(body) = body;
        self.flush().await?;
        let number = match request {
            Request::JobCreate { .. } => {
                let server = Arc::clone(&self.server);
                jobs.create(&server, &who, body).await
            }
            Request::JobCommit { .. } => jobs.commit(asker, body).await,
            Request::JobKill { .. } => jobs.kill(asker, body).await,
            Request::JobReap { .. } => jobs.reap(asker, body).await,
            Request::JobStatus { .. } => {
                let answer = jobs.status(asker, body).await;
                self.counted(answer);
                return Ok(());
            }
            _ => Err(Code::InvalidRequest),
        };
        match number {
            Ok(number) => encode::number(number, &mut self.output),
            Err(code) => encode::failure(code, &mut self.output),
        }
        Ok(())
    }

    fn counted(&mut self, answer: Result<Vec<u8>, Code>) {
        match answer {
            Ok(answer) => encode::counted(&answer, &mut self.output),
            Err(code) => encode::failure(code, &mut self.output),
        }
    }

    /// Waits until there is room for a large body, but not for long; small ones need no permit.
    async fn permit(
        &mut self,
        jobs: &Jobs,
        length: u64,
    ) -> io::Result<Result<Option<OwnedSemaphorePermit>, Elapsed>> {
        if length <= LARGE_BODY {
            return Ok(Ok(None));
        }
        self.flush().await?;
        let permits = Arc::clone(jobs.large_bodies());
        tokio::select! {
            permit = timeout(PERMIT_TIME, permits.acquire_owned()) => {
                Ok(permit.map(Result::ok))
            }
            error = self.gone() => Err(error),
        }
    }
}
