//! HTCondor's Python client, `htchirp`, against our server: what its users do, and what they are told
//! when that fails. The journeys themselves are in `htchirp/journeys.py`.
//!
//! The reference's server takes no cookies, so there is nothing to compare with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails this way has failed as it should"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conformance::account::Account;
use conformance::program::Program;
use conformance::target::{Options, Server};

/// What every client here knows.
const COOKIE: &str = "4d1f3c0a9b7e5d2c8f6a1b3e9d7c5f20";

/// How long a journey may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How a fresh machine gets what these tests need.
const REMEDY: &str = "run scripts/install-missing, which puts it there";

#[test]
fn a_cookie_is_a_login_as_the_servers_account() {
    go("identity", Some(COOKIE));
}

#[test]
fn a_wrong_cookie_is_none() {
    go("login", Some(COOKIE));
}

#[test]
fn without_a_cookie_file_there_is_no_login_by_cookie() {
    go("no_cookie", None);
}

#[test]
fn the_file_of_a_client_serves_the_server_too() {
    go("configuration", Some(&format!("127.0.0.1 9094 {COOKIE}")));
}

#[test]
fn files_links_and_directories() {
    go("files", Some(COOKIE));
}

#[test]
fn open_files_have_a_position() {
    go("positions", Some(COOKIE));
}

#[test]
fn names_of_all_kinds() {
    go("names", Some(COOKIE));
}

#[test]
fn big_and_empty_files() {
    go("big", Some(COOKIE));
}

#[test]
fn whole_trees_and_large_directories() {
    go("trees", Some(COOKIE));
}

#[test]
fn errors_are_the_clients_own() {
    go("errors", Some(COOKIE));
}

#[test]
fn there_are_no_jobs() {
    go("jobs", Some(COOKIE));
}

/// Runs a journey against a server of its own, whose cookie file holds one line, or which has none.
#[track_caller]
fn go(journey: &str, cookie_line: Option<&str>) {
    let library = library();
    assert!(
        library.join("htchirp").is_dir(),
        "htchirp is not in {}; {REMEDY}",
        library.display()
    );
    let work = tempfile::tempdir().unwrap();
    let account = Account::unprivileged().unwrap();
    account.own(work.path()).unwrap();
    let mut options = Options::default();
    if let Some(line) = cookie_line {
        let file = work.path().join("cookie");
        fs::write(&file, format!("{line}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        account.own(&file).unwrap();
        let file = file.to_str().expect("a path in UTF-8").to_owned();
        options.arguments = vec!["--cookie-file".to_owned(), file];
    }
    let server = Server::start(&Program::our_server().unwrap(), &options).unwrap();

    let directory = work.path().join("client");
    fs::create_dir(&directory).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/htchirp/journeys.py");
    let said = fs::File::create(work.path().join("said")).unwrap();
    let mut client = Command::new("python3")
        .arg("-B")
        .arg(script)
        .arg(journey)
        .arg(server.address().ip().to_string())
        .arg(server.address().port().to_string())
        .arg(COOKIE)
        .arg(&directory)
        .env("PYTHONPATH", library)
        .env("PYTHONUTF8", "1")
        .env_remove("_CONDOR_CHIRP_CONFIG")
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run python3: {error}; {REMEDY}"));
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        match client.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if status.is_none() {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    let said = fs::read_to_string(work.path().join("said")).unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "{journey}: {status:?} (none: still running after {LIMIT:?})\n{said}"
    );
}

/// Where `scripts/install-missing` puts the client: cargo's target directory, which is two above the
/// one that holds this program.
fn library() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).expect("target/PROFILE/deps/PROGRAM");
    target.join("htchirp")
}
