//! The cookie from the command line: where it is found, and that it is never shown.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::ours::Ours;
use crate::support::{as_nobody, give_away};

const COOKIE: &str = "0123456789abcdef";

/// Runs the client under a name, in a directory with the configuration of a job, if any.
fn run(name: &str, directory: &Path, variable: Option<&Path>, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp-client"));
    command
        .arg0(name)
        .args(["-t", "20", "-d", "all"])
        .args(words)
        .current_dir(directory)
        .env_remove("_CONDOR_CHIRP_CONFIG")
        .stdin(Stdio::null());
    if let Some(path) = variable {
        command.env("_CONDOR_CHIRP_CONFIG", path);
    }
    as_nobody(&mut command);
    let output = command.output().unwrap();
    for shown in [&output.stdout, &output.stderr] {
        let shown = String::from_utf8_lossy(shown);
        assert!(!shown.contains(COOKIE), "{shown}");
    }
    output
}

fn succeed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file of nobody's, as jobs have it.
fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).unwrap();
    give_away(&directory.join(name));
}

#[test]
fn a_cookie_is_taken_from_the_file_that_is_named_or_where_htcondor_leaves_it() {
    let server = Ours::start_by_cookie(COOKIE);
    fs::write(server.root().join("f"), "hello").unwrap();
    give_away(&server.root().join("f"));
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    give_away(here);
    let address = server.address();
    let (host, port) = address.split_once(':').unwrap();

    let file = server.cookie_file();
    let file = file.to_str().unwrap();
    let named = run(
        "chirp-client",
        here,
        None,
        &["--cookie-file", file, &address, "cat", "/f"],
    );
    assert_eq!(succeed(&named), "hello");

    write(here, "job", &format!("{host} {port} {COOKIE}\n"));
    let job = here.join("job");
    for tool in ["chirp-client", "chirp"] {
        let by_variable = run(tool, here, Some(&job), &["CONDOR", "cat", "/f"]);
        assert_eq!(succeed(&by_variable), "hello", "{tool}");
        let asked = run(
            tool,
            here,
            Some(&job),
            &["-a", "cookie", &address, "cat", "/f"],
        );
        assert_eq!(succeed(&asked), "hello", "{tool}");
    }
    for name in [".chirp.config", "chirp.config", ".chirp_config"] {
        fs::rename(&job, here.join(name)).unwrap();
        let found = run("chirp_get", here, None, &["CONDOR", "/f", "-"]);
        assert_eq!(succeed(&found), "hello", "{name}");
        fs::rename(here.join(name), &job).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_cookie_is_said_without_it() {
    let server = Ours::start_by_cookie("another-one-altogether");
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    give_away(here);
    let address = server.address();
    write(here, "wrong", COOKIE);
    write(here, "garbage", &format!("{COOKIE} or so"));
    for (file, host, status, words) in [
        ("wrong", &address[..], 3, "the server has another cookie"),
        ("wrong", "CONDOR", 1, "it has no HOST and PORT"),
        ("garbage", &address[..], 1, "it is not one line"),
        ("none", &address[..], 1, "No such file"),
    ] {
        let options = ["--cookie-file", file, host, "ls"];
        let output = run("chirp-client", here, None, &options);
        let shown = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{shown}");
        assert!(shown.contains(words), "{shown}");
    }
}
