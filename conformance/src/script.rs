//! Plays one vector on a server.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::account::Account;
use crate::compare::{Expected, Observed};
use crate::connection::{Connection, PATIENCE, Stop};
use crate::vector::{Login, Vector, latin1};

/// How long a connection may say nothing before an unexpected reply counts as complete. Longer than
/// any vector's `quiet`, for the sake of loaded machines; only mismatches wait for it.
const SILENCE: Duration = Duration::from_secs(5);
/// Vectors whose last bytes are, to the server, the beginning of a request line: one more request
/// would become the rest of that line.
const ENDS_IN_HALF_A_LINE: &[&str] = &["decode-client-tab-bug"];

/// Sends a vector's setup and then its bytes under test to the server at `address`, which runs as
/// `account`, and returns what comes back.
///
/// Nothing in the protocol marks the end of a reply. So that not every vector pays for its `quiet`
/// time, reading stops when the reply is what `expected` says; then a request without consequences
/// follows, and what comes before *its* answer is surplus and part of the reply. Where that is
/// impossible (no login, or the vector ends in half a line), `quiet` is waited for.
///
/// # Errors
///
/// Fails if the server cannot be reached, refuses the login, does not finish its setup, or does not
/// answer another request after the expected reply.
pub fn play(
    vector: &Vector,
    address: SocketAddr,
    account: &Account,
    expected: &Expected,
) -> Result<Observed> {
    let mut connection = if vector.setup.is_empty() || vector.setup_auth != vector.auth {
        if !vector.setup.is_empty() {
            let mut helper = open(address, vector.setup_auth, account)?;
            set_up(&mut helper, &vector.setup)?;
        }
        open(address, vector.auth, account)?
    } else {
        let mut connection = open(address, vector.auth, account)?;
        set_up(&mut connection, &vector.setup)?;
        connection
    };
    connection.send(&latin1(&fill(&vector.send, address))?)?;
    read_reply(&mut connection, vector, expected)
}

fn open(address: SocketAddr, login: Login, account: &Account) -> Result<Connection> {
    let mut connection = Connection::open(address)?;
    match login {
        Login::Unix => connection.log_in_by_unix(account)?,
        Login::Address => connection.log_in_by_address()?,
        Login::Hostname => connection.log_in_by_hostname()?,
        Login::None => {}
    }
    Ok(connection)
}

fn fill(text: &str, address: SocketAddr) -> String {
    text.replace("{HOSTPORT}", &address.to_string())
}

fn set_up(connection: &mut Connection, requests: &[String]) -> Result<()> {
    for request in requests {
        step(connection, &latin1(request)?)
            .with_context(|| format!("setup request {:?}", request.escape_debug()))?;
    }
    Ok(())
}

/// Sends one setup request and reads its answer, whatever that is.
///
/// A client sends the body of a `putfile` only after the go-ahead; sent regardless, a refused body
/// would be taken for requests.
fn step(connection: &mut Connection, request: &[u8]) -> Result<()> {
    let line_end = request
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(request.len(), |at| at + 1);
    let (line, body) = request.split_at_checked(line_end).context("no line")?;
    let mut answer = Vec::new();
    connection.send(line)?;
    if line.starts_with(b"putfile ") {
        connection.read_until(&mut answer, PATIENCE, |bytes| bytes.ends_with(b"\n"))?;
    }
    if !answer.starts_with(b"-") {
        connection.send(body)?;
    }
    let stop = connection.settle(&mut answer)?;
    ensure!(
        stop == Stop::Satisfied,
        "no answer to the request after it ({stop:?}); came \"{}\"",
        answer.escape_ascii()
    );
    Ok(())
}

fn read_reply(
    connection: &mut Connection,
    vector: &Vector,
    expected: &Expected,
) -> Result<Observed> {
    let mut reply = Vec::new();
    let mut stop = if expected.eof() {
        connection.read_until(&mut reply, SILENCE, |_| false)?
    } else {
        connection.read_until(&mut reply, SILENCE, |bytes| expected.complete(bytes))?
    };
    if stop == Stop::Satisfied {
        let answers =
            connection.logged_in() && !ENDS_IN_HALF_A_LINE.contains(&vector.name.as_str());
        stop = if answers {
            connection.settle(&mut reply)?
        } else {
            let quiet = Duration::try_from_secs_f64(vector.quiet)?;
            connection.read_until(&mut reply, quiet, |_| false)?
        };
        ensure!(
            stop != Stop::Silence || !answers,
            "the reply is right, but the connection answers no further request; came \"{}\"",
            reply.escape_ascii()
        );
    }
    Ok(Observed {
        reply,
        eof: stop == Stop::Closed,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::vector::recorded;

    /// Plays the vector `name` on a fake server that answers each line as `answer` says, and closes
    /// where that is nothing.
    fn play_on(name: &str, answer: fn(&str) -> Option<&'static str>) -> (Observed, bool) {
        let vectors = recorded().unwrap();
        let vector = vectors.iter().find(|vector| vector.name == name).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let Some(text) = line.ok().and_then(|line| match line.as_str() {
                    "address" => Some("yes\nyes\nyes\naddress\n127.0.0.1\n"),
                    "whoami 256" => Some("17\naddress:127.0.0.1"),
                    other => answer(other),
                }) else {
                    return;
                };
                stream.write_all(text.as_bytes()).unwrap();
            }
        });
        let expected = Expected::new(&vector.expect, "nobody").unwrap();
        let account = Account::unprivileged().unwrap();
        let mut vector = vector.clone();
        vector.auth = Login::Address;
        vector.setup.clear();
        let observed = play(&vector, address, &account, &expected).unwrap();
        let matches = expected.matches(&observed);
        (observed, matches)
    }

    #[test]
    fn the_expected_reply_passes() {
        assert!(play_on("getfile-missing", |_| Some("-3\n")).1);
    }

    #[test]
    fn another_reply_fails_and_is_read_to_its_end() {
        let (observed, matches) = play_on("getfile-missing", |_| Some("4\nbody"));
        assert_eq!(observed.reply, b"4\nbody");
        assert!(!matches);
    }

    #[test]
    fn bytes_after_the_expected_reply_fail() {
        let (observed, matches) = play_on("getfile-missing", |_| Some("-3\n\n"));
        assert_eq!(observed.reply, b"-3\n\n");
        assert!(!matches);
    }

    #[test]
    fn closing_after_the_expected_reply_fails() {
        let (observed, matches) = play_on("frame-pipelined", |line| match line {
            "whoami 4" => Some("4\nunix3\nuni-3\n2\nun"),
            _ => None,
        });
        assert!(observed.eof);
        assert!(!matches);
    }

    #[test]
    fn an_answer_where_the_connection_should_be_closed_fails() {
        let (observed, matches) = play_on("frame-eot", |_| Some(""));
        assert!(!observed.eof);
        assert!(!matches);
    }
}
