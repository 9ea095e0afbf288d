//! Opening a connection, and waiting for a server that is not there yet.

use std::time::{Duration, Instant};

use chirp_client::cookie::CookieFile;
use chirp_client::{Address, Client, ConnectOptions, DEFAULT_CONNECT_TIMEOUT, Method};

use super::access::Access;
use super::trouble::{Trouble, say};

/// How long a server is waited for that cannot be reached. The reference waits for an hour, in
/// silence: a wrong port then looks like a hanging script.
const UNREACHABLE_MAX: Duration = Duration::from_secs(60);

/// How long an answer may take, as in the reference: a digest of a large file takes long.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(3600);

/// The first pause between two attempts, which doubles up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(2);

/// Connects to `HOST[:PORT]` and logs in. Where nothing answers it tries again until the time is
/// over, and says so once.
pub(super) async fn open(access: &Access, host: &str) -> Result<Client, Trouble> {
    let address: Address = host.parse()?;
    let mut options = ConnectOptions::new(address);
    options.methods = access.methods().map_err(Trouble::Words)?;
    options.tickets = access.tickets();
    if options.methods.is_empty() && access.names_methods() {
        return Err(chirp_client::Code::NotAuthorized.into());
    }
    if options.methods.contains(&Method::Cookie) || CookieFile::is_meant_by(&options.address) {
        CookieFile::apply(None, &mut options)?;
    }
    options.timeout = access.timeout.unwrap_or(ANSWER_MAX);
    let patience = access.timeout.unwrap_or(UNREACHABLE_MAX);
    // A session outlives the idle limit of its server, 60 s in the reference.
    options.reconnect = Some(patience);
    let started = Instant::now();
    let mut pause = PAUSE_FIRST;
    let mut said = false;
    loop {
        let left = patience.saturating_sub(started.elapsed());
        options.connect_timeout = left.min(DEFAULT_CONNECT_TIMEOUT);
        let error = match Client::connect(options.clone()).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let left = patience.saturating_sub(started.elapsed());
        if !error.is_passing() || left.is_zero() {
            return Err(error.into());
        }
        if !said {
            let reason = Trouble::from(error).reason();
            say(&format!(
                "couldn't connect to {host}: {reason}; still trying for {}s",
                left.as_secs_f64().round()
            ));
            said = true;
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}
