//! The program `conformance` on servers by address: what it says of them, and how it ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use conformance::account::Account;
use conformance::program::Program;
use conformance::target::{Options, Server};
use conformance::tool::{self, Outcome};
use serde_json::Value;

fn conformance(arguments: &[&str]) -> Result<Outcome> {
    tool::run(
        Path::new(env!("CARGO_BIN_EXE_conformance")),
        arguments,
        &std::env::temp_dir(),
        &Account::unprivileged()?,
        b"",
    )
}

fn vectors(address: SocketAddr, only: &str, more: &[&str]) -> Result<Outcome> {
    let server = format!("--server=some={address}");
    let mut arguments = vec!["vectors", "--only", only, server.as_str()];
    arguments.extend(more);
    conformance(&arguments)
}

#[test]
fn a_server_by_address_is_compared_with_what_was_recorded() -> Result<()> {
    let server = Server::start(&Program::our_server()?, &Options::default())?;
    let outcome = vectors(server.address(), "getdir-", &["--json"])?.succeeds()?;
    let seen: Value = serde_json::from_slice(&outcome.stdout)?;
    let cases = seen.pointer("/vectors/0/cases").and_then(Value::as_array);
    let cases = cases.context("no cases")?;
    ensure!(cases.len() > 1, "{outcome}");
    for case in cases {
        ensure!(
            case.get("verdict") == Some(&Value::from("recorded")),
            "{case}"
        );
    }
    Ok(())
}

#[test]
fn what_needs_other_options_is_no_pass() -> Result<()> {
    let server = Server::start(&Program::our_server()?, &Options::default())?;
    let outcome = vectors(server.address(), "job-lifecycle", &[])?.succeeds()?;
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    ensure!(text.contains("vectors on some: 0 the same"), "{outcome}");
    ensure!(text.contains("needs a server with --jobs"), "{outcome}");
    Ok(())
}

#[test]
fn nothing_of_somebody_elses_tree_is_touched() -> Result<()> {
    let server = Server::start(&Program::our_server()?, &Options::default())?;
    let own = server.root().join("v");
    std::fs::create_dir(&own)?;
    std::fs::write(own.join("dear"), "to somebody")?;
    vectors(server.address(), "mkdir", &[])?
        .exits(2)?
        .complains("--overwrite")?;
    ensure!(own.join("dear").is_file());
    Ok(())
}

#[test]
fn somebody_elses_root_is_as_it_was() -> Result<()> {
    let server = Server::start(&Program::our_server()?, &Options::default())?;
    let mode = || Ok::<_, anyhow::Error>(std::fs::metadata(server.root())?.permissions().mode());
    let before = mode()?;
    let outcome = vectors(server.address(), "chmod.object", &[])?.succeeds()?;
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    ensure!(text.contains("is about the root"), "{outcome}");
    ensure!(mode()? == before);
    Ok(())
}

#[test]
fn what_the_cases_made_is_gone_afterwards() -> Result<()> {
    let server = Server::start(&Program::our_server()?, &Options::default())?;
    vectors(server.address(), "mkdir", &[])?.succeeds()?;
    ensure!(!server.root().join("v").exists());
    Ok(())
}

/// Starts a server that lets anybody in, and says that everything worked.
fn yes_man() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || agree(stream));
        }
    });
    Ok(address)
}

fn agree(mut stream: TcpStream) -> Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    for line in lines {
        let answer = match line?.as_str() {
            "unix" => "no\n",
            "hostname" => "no\n",
            "address" => "yes\nyes\nyes\naddress\n127.0.0.1\n",
            "whoami 256" => "17\naddress:127.0.0.1",
            "whoami 5" => "5\naddre",
            // Nothing is there yet where the cases work.
            "lstat /v" => "-3\n",
            _ => "0\n",
        };
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

#[test]
fn a_server_that_answers_otherwise_is_told() -> Result<()> {
    let outcome = vectors(yes_man()?, "getfile-missing", &[])?.exits(1)?;
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    ensure!(text.contains("getfile-missing (Must)"), "{outcome}");
    ensure!(text.contains("recorded  \"-3\\n\""), "{outcome}");
    ensure!(text.contains("came      \"0\\n\""), "{outcome}");
    Ok(())
}

#[test]
fn who_may_not_log_in_by_unix_works_under_another_subject() -> Result<()> {
    // The yes-man lets in by address only, so what is about two subjects is left out.
    let outcome = vectors(yes_man()?, "right-", &[])?;
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    ensure!(text.contains("needs the login unix"), "{outcome}");
    Ok(())
}

#[test]
fn a_server_that_is_not_there_is_an_error_and_no_difference() -> Result<()> {
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    vectors(nobody, "whoami", &[])?
        .exits(2)?
        .complains("cannot connect")?;
    Ok(())
}

#[test]
fn a_program_that_is_no_server_is_an_error() -> Result<()> {
    conformance(&["vectors", "--only", "whoami", "--server", "/bin/cat"])?
        .exits(2)?
        .complains("cannot start the server")?;
    Ok(())
}

#[test]
fn random_scripts_compare_servers_by_address_too() -> Result<()> {
    let start = || Server::start(&Program::our_server()?, &Options::default());
    let (left, right) = (start()?, start()?);
    let servers = [left, right].map(|server| (format!("--server={}", server.address()), server));
    let [(left, _first), (right, _second)] = &servers;
    let outcome = conformance(&["fuzz", "--minutes", "0.02", left, right])?.succeeds()?;
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    ensure!(text.contains(", 0 differences"), "{outcome}");
    Ok(())
}
