//! Long work, away from the runtime's threads, and the client that may leave meanwhile.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chirp_proto::Code;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Connection;
use crate::heavy::Slice;
use crate::outcome::{Outcome, Steps, Turn};

/// How long a connection is silent before the system asks the peer whether it is there, and how often
/// it asks.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// Questions without an answer after which a peer is gone.
const ASK_TIMES: u32 = 6;

impl Connection {
    /// Runs long work step by step. Returns its answer, if that is not written yet.
    pub(super) async fn steps(&mut self, mut steps: Box<dyn Steps>) -> io::Result<Option<Outcome>> {
        self.flush().await?;
        // Behind the beginning of an answer a code would be taken for a part of it.
        let mut begun = false;
        loop {
            let server = Arc::clone(&self.server);
            let mut output = std::mem::take(&mut self.output);
            let step = move |token: &CancellationToken| {
                let turn = steps.step(&server.export, &mut output, &Slice::new(token.clone()));
                (steps, output, turn)
            };
            let done = match self.run_aside(step).await? {
                Ok(done) => done,
                Err(code) if begun => return Err(broken_off(code)),
                Err(code) => return Ok(Some(Outcome::Failed(code))),
            };
            let turn;
            (steps, self.output, turn) = done;
            begun |= !self.output.is_empty();
            match turn {
                Turn::More => self.flush().await?,
                Turn::End => return Ok(None),
                Turn::Answer(Outcome::Failed(code)) if begun => return Err(broken_off(code)),
                Turn::Answer(answer) => return Ok(Some(answer)),
            }
        }
    }

    /// Runs long work that does not pause.
    pub(super) async fn aside(&mut self, work: crate::outcome::Work) -> io::Result<Outcome> {
        let done = self.run_aside(move |token| work(token)).await?;
        Ok(done.unwrap_or_else(Outcome::Failed))
    }

    async fn run_aside<T: Send + 'static>(
        &self,
        job: impl FnOnce(&CancellationToken) -> T + Send + 'static,
    ) -> io::Result<Result<T, Code>> {
        let token = CancellationToken::new();
        let _cancel = token.clone().drop_guard();
        let subject = self.session.subject().as_str();
        tokio::select! {
            done = self.server.heavy.run(subject, move || job(&token)) => Ok(done),
            error = self.gone() => Err(error),
        }
    }

    /// Waits until the peer is gone, and returns the reason.
    ///
    /// The end of what it sends is not its end: a client may send its requests, close that side and wait
    /// for the answers. A peer that closed both sides refuses to be asked whether it is there, at once or when
    /// its system has forgotten the connection, after a minute as a rule.
    pub(super) async fn gone(&self) -> io::Error {
        let watching = |stream: &TcpStream| {
            if let Err(error) = ask_for_life(stream) {
                tracing::debug!(target: "tcp", %error, "cannot watch whether the client is there");
            }
        };
        self.stream.gone(watching).await
    }
}

fn ask_for_life(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(stream, ASK_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, ASK_AFTER)?;
    sockopt::set_tcp_keepcnt(stream, ASK_TIMES)?;
    sockopt::set_socket_keepalive(stream, true)
}

fn broken_off(code: Code) -> io::Error {
    io::Error::other(format!("an answer was broken off: {code}"))
}
