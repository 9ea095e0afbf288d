//! Both servers in one catalog of the reference.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use conformance::account::Account;
use conformance::matrix::clients::Clients;
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};
use conformance::tool::{self, Outcome};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

/// How long the catalog may take to start, and an update to arrive.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// How often the catalog is started anew because its port was taken.
const TRIES: u32 = 10;

/// What is asked for by both clients.
const QUERIES: &[&[&str]] = &[
    &[],
    &["-l"],
    &["-s"],
    &["-T"],
    &["-a"],
    &["--server-project=a-project"],
    &["--server-project=another"],
    &["owner", "an-owner"],
    &["owner", "somebody"],
    &["no-such-name"],
    &["--where=port>0"],
    &["--where=owner==\"an-owner\"", "-s"],
    &["-A", "1K"],
];

/// A running `catalog_server`, killed with its children when dropped.
struct Catalog {
    child: Child,
    address: SocketAddr,
}

impl Catalog {
    fn start(directory: &Path, account: &Account) -> Result<Self> {
        let mut tries = 1;
        loop {
            match Self::start_once(directory, account, tries) {
                // It finds a port that is free for TCP, then needs it for UDP too; what starts at the
                // same time can be faster.
                Err(error) if tries < TRIES && format!("{error:#}").contains("in use") => {
                    tries += 1
                }
                outcome => return outcome,
            }
        }
    }

    fn start_once(directory: &Path, account: &Account, tries: u32) -> Result<Self> {
        let log = directory.join("catalog-log");
        let output = File::create(&log)?;
        let port = directory.join("catalog-port");
        let _ = fs::remove_file(&port);
        let mut command = Command::new(Program::reference("catalog_server")?.path);
        command
            .args(["-I", "127.0.0.1", "-u", "-", "-Z"])
            .arg(&port)
            .arg("-H")
            .arg(directory.join("history"))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        // Not where servers look for a port at the same time, and elsewhere at each try.
        let low = 20_000 + (std::process::id() + tries * 997) % 10_000;
        command.env("TCP_LOW_PORT", low.to_string());
        account.apply(&mut command);
        let mut catalog = Self {
            child: command.spawn().context("cannot run catalog_server")?,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = catalog.child.try_wait()? {
                bail!("the catalog ended ({status}): {}", said());
            }
            let text = fs::read_to_string(&port).unwrap_or_default();
            if let Some(number) = text.strip_suffix('\n') {
                catalog.address.set_port(number.parse()?);
                return Ok(catalog);
            }
            ensure!(
                Instant::now() < deadline,
                "the catalog does not start: {}",
                said()
            );
            thread::sleep(POLL);
        }
    }
}

impl Drop for Catalog {
    fn drop(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Lets both servers tell one catalog about themselves, and holds what the reference's tools show of
/// the one against what they show of the other, and what our tools show against that.
pub(crate) fn both_are_shown_alike() -> Result<()> {
    let account = Account::unprivileged()?;
    let work = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    account.own(work.path())?;
    let catalog = Catalog::start(work.path(), &account)?;
    let mut options = Options::from_words("-n a-name -w an-owner --project-name a-project");
    options.catalog = Some(catalog.address);
    let reference = Server::start(&Program::server(Maker::Reference)?, &options)?;
    let ours = Server::start(&Program::server(Maker::Ours)?, &options)?;
    let ports = [reference.address().port(), ours.address().port()];
    let ask = |program: &Path, words: &[&str]| -> Result<Outcome> {
        let catalog = catalog.address.to_string();
        let arguments = [&["-t", "20", "-c", catalog.as_str()], words].concat();
        tool::run(program, &arguments, work.path(), &account, b"")
    };
    let run = |program: &str, words: &[&str]| -> Result<Outcome> {
        ask(&Program::reference(program)?.path, words)?.succeeds()
    };

    let deadline = Instant::now() + LIMIT;
    let records = loop {
        let records: Vec<Value> = serde_json::from_slice(&run("chirp_status", &["-l"])?.stdout)?;
        if records.len() == 2 {
            break records;
        }
        ensure!(Instant::now() < deadline, "not both are in: {records:?}");
        thread::sleep(POLL);
    };
    let [theirs, own] = ports.map(|port| {
        records
            .iter()
            .find(|record| record.get("port").and_then(Value::as_u64) == Some(u64::from(port)))
    });
    compare_records(
        theirs.context("the reference's server is missing")?,
        own.context("our server is missing")?,
    )?;

    // One line each, which differ by port, version and how full the disk was then.
    for words in [
        &[][..],
        &["--server-project=a-project"],
        &["owner", "an-owner"],
        &["--where=port>0"],
        &["-a"],
    ] {
        let outcome = run("chirp_status", words)?;
        let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .filter(|line| line.starts_with("chirp "))
            .map(|line| line.split_whitespace().collect())
            .collect();
        ensure!(lines.len() == 2, "two servers expected: {outcome}");
        for (line, other) in lines.iter().zip(lines.iter().rev()) {
            ensure!(line.len() == other.len() && line.len() > 6, "{outcome}");
            for at in [0, 1, 3, 5, 6] {
                ensure!(line.get(at) == other.get(at), "{outcome}");
            }
        }
    }
    let shown = run("chirp_status", &["--server-project=another"])?;
    ensure!(
        shown.stdout.split(|byte| *byte == b'\n').count() == 2,
        "{shown}"
    );
    let brief = run("chirp_status", &["-s"])?;
    let name = theirs
        .and_then(|record| record.get("name"))
        .and_then(Value::as_str);
    let name = name.context("no name")?;
    let [first, second] = ports.map(|port| format!("{name}:{port}"));
    brief.lists(&[&first, &second])?;
    run("chirp_status", &["-T"])?.has_line("NODES: 2")?;

    let clients = Clients::ours()?;
    let status = clients.tool("chirp_status");
    for words in QUERIES {
        let theirs = ask(&Program::reference("chirp_status")?.path, words)?;
        let own = ask(&status, words)?;
        ensure!(
            theirs.code == own.code && theirs.stdout == own.stdout && theirs.stderr == own.stderr,
            "the reference's client: {theirs}\nours: {own}"
        );
    }

    let found = run("catalog_query", &["-w", &format!("port=={}", ports[1])])?;
    let found: Vec<Value> = serde_json::from_slice(&found.stdout)?;
    ensure!(found.len() == 1, "{found:?}");
    Ok(())
}

/// Checks that both say the same things, in values of the same kinds, and the same where both mean
/// the same.
fn compare_records(theirs: &Value, own: &Value) -> Result<()> {
    let (theirs, own) = (
        theirs.as_object().context("no object")?,
        own.as_object().context("no object")?,
    );
    let keys: BTreeSet<&String> = theirs.keys().collect();
    ensure!(
        keys == own.keys().collect(),
        "different keys: {theirs:?} {own:?}"
    );
    for (key, value) in theirs {
        let other = own.get(key).context("no value")?;
        ensure!(
            std::mem::discriminant(value) == std::mem::discriminant(other),
            "{key}: {value} and {other} are of different kinds"
        );
        let differs = [
            "port",
            "url",
            "uuid",
            "version",
            "backend",
            "starttime",
            "lastheardfrom",
            "avail",
            "memory_avail",
            "load1",
            "load5",
            "load15",
            "clients",
            "total_ops",
            "bytes_read",
            "bytes_written",
        ];
        ensure!(
            differs.contains(&key.as_str()) || value == other,
            "{key} is {value} there and {other} here"
        );
    }
    Ok(())
}
