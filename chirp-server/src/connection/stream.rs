//! Content whose end is the connection's: `getstream`, `putstream`.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::net::Shutdown;

use super::Connection;
use crate::outcome::Receiver;
use crate::transfer::{self, Progress};

/// How long a client may take to close its side after it was sent a stream.
const CLOSING: Duration = Duration::from_secs(5);

impl Connection {
    /// Sends a file to its end, and ends the connection.
    pub(super) async fn send_stream(&mut self, file: &File) -> io::Result<()> {
        self.ended = true;
        let mut progress = self.progress();
        transfer::flush(&self.stream, &mut self.output, true, &mut progress).await?;
        transfer::send_to_end(&self.stream, file, &mut progress).await?;
        rustix::net::shutdown(&self.stream, Shutdown::Write)?;
        transfer::drop_until_end(&self.stream, CLOSING).await;
        Ok(())
    }

    /// Receives a file until the client ends its side, and ends the connection.
    ///
    /// No answer is due, so the manner of the end is the answer: an orderly one when everything that came is
    /// in the file, a reset when something is not.
    pub(super) async fn receive_stream(&mut self, mut sink: Box<dyn Receiver>) -> io::Result<()> {
        self.ended = true;
        self.flush().await?;
        // Who follows a log may have little to say.
        let mut progress = Progress::any(self.server.stalled);
        let received =
            transfer::receive_to_end(&self.stream, &mut self.input, &mut sink, &mut progress).await;
        let kept =
            received.and_then(|()| sink.finish().map_err(|code| io::Error::other(code.text())));
        if kept.is_err() {
            self.stream.end_in_reset()?;
        }
        kept.map(drop)
    }
}
