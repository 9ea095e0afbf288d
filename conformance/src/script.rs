//! Plays one vector on a server.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, mknodat};

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

/// How many vectors one connection serves at most: the reference leaks a descriptor in each listing
/// (W22).
const TURNS: usize = 50;

/// Sends a vector's setup and then its bytes under test to the server at `address`, which runs as
/// `account`, and returns what comes back: [`Player::play`] on new connections.
///
/// # Errors
///
/// As there.
pub fn play(
    vector: &Vector,
    address: SocketAddr,
    account: &Account,
    expected: &Expected,
) -> Result<Observed> {
    Player::new(address, account, None).play(vector, expected)
}

/// What a vector has made in the server's root by the host, as no request makes it: a word and a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made<'a> {
    /// `fifo PATH`: a named pipe.
    Fifo(&'a str),
    /// `socket PATH`: the name of a socket.
    Socket(&'a str),
    /// `file PATH`: a file with the text `hidden`.
    File(&'a str),
    /// `unlisted PATH`: that directory's list of rights is gone.
    Unlisted(&'a str),
}

impl<'a> Made<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        match text.split_once(' ') {
            Some(("fifo", path)) => Ok(Self::Fifo(path)),
            Some(("socket", path)) => Ok(Self::Socket(path)),
            Some(("file", path)) => Ok(Self::File(path)),
            Some(("unlisted", path)) => Ok(Self::Unlisted(path)),
            _ => bail!("{text:?} is nothing that the host can make"),
        }
    }

    fn make(self, root: &Path, account: &Account) -> Result<()> {
        let path = match self {
            Self::Fifo(path) => {
                let path = root.join(path);
                mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
                path
            }
            Self::Socket(path) => {
                let path = root.join(path);
                UnixListener::bind(&path)?;
                path
            }
            Self::File(path) => {
                let path = root.join(path);
                fs::write(&path, "hidden")?;
                path
            }
            Self::Unlisted(path) => return Ok(fs::remove_file(root.join(path).join(".__acl"))?),
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        account.own(&path)
    }
}

/// Plays vectors on one server, one after the other, and uses its connections again where nothing of
/// a vector can be left in them.
#[derive(Debug)]
pub struct Player<'a> {
    address: SocketAddr,
    account: &'a Account,
    /// The directory that the server serves, if it can be reached.
    root: Option<&'a Path>,
    idle: Idle,
}

/// Connections that can serve another vector, and how many each has served.
#[derive(Debug, Default)]
pub struct Idle(BTreeMap<Login, (Connection, usize)>);

impl<'a> Player<'a> {
    /// Returns a player on the server at `address`, which runs as `account` and serves `root`; without
    /// the latter, vectors with [`Vector::host`] cannot be played.
    #[must_use]
    pub fn new(address: SocketAddr, account: &'a Account, root: Option<&'a Path>) -> Self {
        Self {
            address,
            account,
            root,
            idle: Idle::default(),
        }
    }

    /// Returns this player with the connections that another one has left to the same server.
    #[must_use]
    pub fn with(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// Returns the connections for the next player on the same server.
    #[must_use]
    pub fn into_idle(self) -> Idle {
        self.idle
    }

    /// Sends a vector's setup and then its bytes under test, and returns what comes back.
    ///
    /// Nothing in the protocol marks the end of a reply. So that not every vector pays for its `quiet`
    /// time, reading stops when the reply is what `expected` says; then a request without consequences
    /// follows, and what comes before *its* answer is surplus and part of the reply. Where that is
    /// impossible (no login, or the vector ends in half a line), `quiet` is waited for.
    ///
    /// # Errors
    ///
    /// Fails if the server cannot be reached, refuses the login or a part of the setup, or does not
    /// answer another request after the expected reply.
    pub fn play(&mut self, vector: &Vector, expected: &Expected) -> Result<Observed> {
        let (mut connection, turns) = self.begin(vector)?;
        let mut reply = Vec::new();
        if is_putstream(vector) && expected.may_close() {
            // One that is refused is no stream, and the connection goes on.
            connection.read_until(&mut reply, SILENCE, |bytes| bytes.contains(&b'\n'))?;
            if !reply.starts_with(b"-") {
                connection.finish()?;
            }
        }
        let observed = read_reply(&mut connection, reply, vector, expected)?;
        if !observed.eof && expected.matches(&observed) {
            self.keep(vector, connection, turns);
        }
        Ok(observed)
    }

    /// Sends a vector's setup and then its bytes under test, and returns what comes back, whatever that
    /// is.
    ///
    /// # Errors
    ///
    /// As [`Player::play`], and if the server neither answers another request nor closes.
    pub fn observe(&mut self, vector: &Vector) -> Result<Observed> {
        let (mut connection, turns) = self.begin(vector)?;
        let mut reply = Vec::new();
        let stop = if is_putstream(vector) || vector.send.starts_with("getstream ") {
            // Both end the connection, except where they are refused.
            let mut stop =
                connection.read_until(&mut reply, PATIENCE, |bytes| bytes.contains(&b'\n'))?;
            if reply.starts_with(b"-") {
                stop = connection.settle(&mut reply)?;
            } else if stop == Stop::Satisfied {
                if is_putstream(vector) {
                    connection.finish()?;
                }
                stop = connection.read_until(&mut reply, PATIENCE, |_| false)?;
            }
            stop
        } else {
            connection.settle(&mut reply)?
        };
        ensure!(
            stop != Stop::Silence,
            "no answer to the request after it; came \"{}\"",
            reply.escape_ascii()
        );
        let eof = stop == Stop::Closed;
        if !eof {
            self.keep(vector, connection, turns);
        }
        Ok(Observed { reply, eof })
    }

    /// Returns the login name of the user under whom the server runs.
    #[must_use]
    pub fn login(&self) -> &str {
        &self.account.login
    }

    fn begin(&mut self, vector: &Vector) -> Result<(Connection, usize)> {
        let separate = vector.setup_auth != vector.auth;
        if separate && !vector.setup.is_empty() {
            let (mut helper, turns) = self.connection(vector.setup_auth)?;
            set_up(&mut helper, &vector.setup)?;
            self.keep_as(vector.setup_auth, helper, turns);
        }
        let (mut connection, turns) = self.connection(vector.auth)?;
        if !separate {
            set_up(&mut connection, &vector.setup)?;
        }
        for text in &vector.host {
            let root = self
                .root
                .context("the directory that it serves is not known")?;
            Made::parse(text)?
                .make(root, self.account)
                .with_context(|| format!("cannot make {text:?} in {}", root.display()))?;
        }
        connection.send(&latin1(&fill(&vector.send, self.address, self.account))?)?;
        Ok((connection, turns))
    }

    fn connection(&mut self, login: Login) -> Result<(Connection, usize)> {
        match self.idle.0.remove(&login) {
            Some(idle) => Ok(idle),
            None => Ok((open(self.address, login, self.account)?, 0)),
        }
    }

    /// Keeps the connection of a vector that has opened nothing and leaves nothing half said.
    fn keep(&mut self, vector: &Vector, connection: Connection, turns: usize) {
        let opens = |text: &String| text.lines().any(|line| line.starts_with("open"));
        let half = ENDS_IN_HALF_A_LINE.contains(&vector.name.as_str());
        if !half && !vector.setup.iter().any(opens) && !opens(&vector.send) {
            self.keep_as(vector.auth, connection, turns);
        }
    }

    fn keep_as(&mut self, login: Login, connection: Connection, turns: usize) {
        if connection.logged_in() && turns < TURNS {
            self.idle.0.insert(login, (connection, turns + 1));
        }
    }
}

fn is_putstream(vector: &Vector) -> bool {
    vector.send.starts_with("putstream ")
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

fn fill(text: &str, address: SocketAddr, account: &Account) -> String {
    text.replace("{HOSTPORT}", &address.to_string())
        .replace("{USER}", &account.login)
}

/// Makes what a setup asks for: what a server may keep to itself last.
fn set_up(connection: &mut Connection, requests: &[String]) -> Result<()> {
    let (reserved, plain): (Vec<&String>, Vec<&String>) = requests
        .iter()
        .partition(|request| request.starts_with("putfile ") && request.contains("/.__"));
    make(connection, &plain)?;
    reserved
        .into_iter()
        .try_for_each(|request| offer(connection, request))
}

/// Asks for a file of the kind whose names only the server makes: one that refuses it has nothing to hide,
/// which is what the vectors with such a file look at.
fn offer(connection: &mut Connection, request: &str) -> Result<()> {
    let (line, body) = request.split_once('\n').context("no line")?;
    let mut answer = Vec::new();
    connection.send(&latin1(&format!("{line}\n"))?)?;
    connection.read_until(&mut answer, PATIENCE, |bytes| bytes.ends_with(b"\n"))?;
    let refused = answer == b"-2\n";
    if answer == b"0\n" {
        connection.send(&latin1(body)?)?;
        connection.read_until(&mut answer, PATIENCE, |bytes| {
            bytes.iter().filter(|byte| **byte == b'\n').count() == 2
        })?;
    }
    ensure!(
        refused || answer == format!("0\n{}\n", body.len()).into_bytes(),
        "the setup did not take: {line:?} was neither done nor refused; came \"{}\"",
        answer.escape_ascii()
    );
    Ok(())
}

/// Sends requests, all at once, and reads their answers.
///
/// A body is sent without waiting for the go-ahead: where that is refused, the vector fails anyway.
fn make(connection: &mut Connection, requests: &[&String]) -> Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for request in requests {
        bytes.extend(latin1(request)?);
    }
    connection.send(&bytes)?;
    let mut answers = Vec::new();
    let mut outcome = Err(0);
    let stop = connection.read_until(&mut answers, PATIENCE, |bytes| {
        outcome = done(requests, bytes);
        match outcome {
            Ok(done) => done == requests.len(),
            Err(_) => true,
        }
    })?;
    let at = match outcome {
        Ok(_) if stop == Stop::Satisfied => return Ok(()),
        Ok(at) | Err(at) => at,
    };
    bail!(
        "the setup did not take: {:?} was not done ({stop:?}); came \"{}\"",
        requests.get(at).map_or("", |request| request.as_str()),
        answers.escape_ascii()
    )
}

/// Returns how many requests of a setup are answered by `bytes`, or the first that was refused: each has
/// a status line, `open` a second line, and `putfile` a second status line behind its body.
fn done(requests: &[&String], bytes: &[u8]) -> Result<usize, usize> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    for (at, request) in requests.iter().enumerate() {
        let two = request.starts_with("open ") || request.starts_with("putfile ");
        for count in 0..if two { 2 } else { 1 } {
            let Some(line) = lines.next().filter(|line| line.ends_with(b"\n")) else {
                return Ok(at);
            };
            // What is not there need not be taken away.
            let cleans = request.starts_with("rmall ") || request.starts_with("ticket_delete ");
            if line.starts_with(b"-") && !(cleans && count == 0 && line == b"-3\n") {
                return Err(at);
            }
        }
    }
    Ok(requests.len())
}

fn read_reply(
    connection: &mut Connection,
    mut reply: Vec<u8>,
    vector: &Vector,
    expected: &Expected,
) -> Result<Observed> {
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
                    "whoami 5" => Some("5\naddre"),
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
    fn a_setup_is_done_when_all_of_it_is_answered() {
        let requests = ["rmall /v\n", "open /v/f rw 0\n", "putfile /v/g 420 1\nx"];
        let requests = requests.map(str::to_owned);
        let requests = requests.each_ref();
        let done = |bytes: &[u8]| done(&requests, bytes);
        assert_eq!(done(b""), Ok(0));
        assert_eq!(done(b"0\n0\n1 2"), Ok(1));
        assert_eq!(done(b"0\n0\n1 2 3\n0\n"), Ok(2));
        assert_eq!(done(b"-3\n0\n1 2 3\n0\n1\n"), Ok(3));
    }

    #[test]
    fn a_setup_of_which_something_is_refused_did_not_take() {
        let requests = ["rmall /v\n", "mkdir /v 448\n", "putfile /v/g 420 1\nx"];
        let requests = requests.map(str::to_owned);
        let requests = requests.each_ref();
        for (bytes, refused) in [
            (&b"-2\n"[..], 0),
            (b"-3\n-4\n", 1),
            (b"0\n-3\n", 1),
            (b"0\n0\n-2\n", 2),
            (b"0\n0\n0\n-6\n", 2),
        ] {
            assert_eq!(done(&requests, bytes), Err(refused));
        }
    }

    #[test]
    fn an_answer_where_the_connection_should_be_closed_fails() {
        let (observed, matches) = play_on("frame-eot", |_| Some(""));
        assert!(!observed.eof);
        assert!(!matches);
    }
}
