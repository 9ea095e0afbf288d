//! Socket settings that all connections of this crate have.

use std::time::Duration;
use tokio::net::TcpStream;

/// Sends small frames at once, and lets the kernel find a peer that vanished without a word.
///
/// A failure is only logged: the connection works without these.
pub(crate) fn set(stream: &TcpStream) {
    use rustix::net::sockopt;
    let result = stream.set_nodelay(true).and_then(|()| {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, IDLE)?;
        sockopt::set_tcp_keepintvl(stream, INTERVAL)?;
        sockopt::set_tcp_keepcnt(stream, COUNT)?;
        sockopt::set_tcp_user_timeout(stream, UNHEARD)?;
        Ok(())
    });
    if let Err(error) = result {
        tracing::debug!(%error, "cannot set up keep-alive");
    }
}

/// Silence before the first question.
const IDLE: Duration = Duration::from_secs(15);
/// Time between questions.
const INTERVAL: Duration = Duration::from_secs(5);
/// Milliseconds for which data may go unacknowledged: the kernel itself would send it again, ever more rarely,
/// for a quarter of an hour, and a new connection comes about sooner than that.
const UNHEARD: u32 = 30_000;
/// Unanswered questions before the connection is given up.
const COUNT: u32 = 3;
