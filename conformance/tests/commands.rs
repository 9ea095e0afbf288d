//! The commands of our own client on both servers: what they do, print and end with. Those that
//! `chirp-client/tests` tries against the reference alone are not tried again.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use conformance::account::Account;
use conformance::program::{Maker, Program};
use conformance::target::{Options, Server};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server and a directory for the client.
struct Stage {
    server: Server,
    client: PathBuf,
    account: Account,
    local: TempDir,
}

impl Stage {
    fn set(maker: Maker, options: &str) -> Result<Self> {
        let server = Server::start(&Program::server(maker)?, &Options::from_words(options))?;
        let account = Account::unprivileged()?;
        let local = tempfile::tempdir()?;
        account.own(local.path())?;
        let stage = Self {
            server,
            client: Program::our_client()?.path,
            account,
            local,
        };
        let subject = stage.subject();
        stage.done(&["setacl", "/", &subject, "rwldax"])?;
        Ok(stage)
    }

    fn subject(&self) -> String {
        format!("unix:{}", self.account.login)
    }

    fn command(&self, login: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command
            .args(login)
            .args(["-t", "20"])
            .arg(self.server.address().to_string())
            .args(arguments)
            .current_dir(self.local.path())
            .stdin(Stdio::null());
        self.account.apply(&mut command);
        command
    }

    fn runs(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(&["-a", "unix"], arguments).output()?)
    }

    /// Runs a command that must succeed in silence, and returns what it prints.
    fn done(&self, arguments: &[&str]) -> Result<String> {
        let output = self.runs(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        ensure!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs a command that must fail, and returns its exit status and its messages.
    fn fails(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let output = self.runs(arguments)?;
        ensure!(!output.status.success(), "{arguments:?}: {output:?}");
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.done(arguments)?;
        ensure!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
        serde_json::from_str(&text).with_context(|| format!("{arguments:?}: {text}"))
    }

    /// Makes a file on the server.
    fn plant(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.server.root().join(name);
        fs::write(&path, content)?;
        self.account.own(&path)
    }
}

fn on_both(act: fn(&Stage) -> Result<()>) -> Result<()> {
    for maker in Maker::ALL {
        act(&Stage::set(maker, "")?).with_context(|| format!("the server is {}", maker.name()))?;
    }
    Ok(())
}

#[test]
fn names_and_metadata_are_changed() -> Result<()> {
    on_both(|stage| {
        stage.done(&["touch", "-d", "@1000000000", "/f"])?;
        ensure!(stage.json(&["stat", "--json", "/f"])?["mtime"] == 1_000_000_000);
        ensure!(stage.done(&["touch", "-c", "/none"])?.is_empty());
        ensure!(!stage.server.root().join("none").exists());
        stage.done(&["truncate", "-s", "2K", "/f"])?;
        ensure!(fs::metadata(stage.server.root().join("f"))?.len() == 2048);
        stage.done(&["ln", "/f", "/g"])?;
        stage.done(&["ln", "-s", "f", "/l"])?;
        ensure!(stage.done(&["readlink", "/l"])? == "f\n");
        ensure!(stage.json(&["readlink", "--json", "/l"])? == json!({"path": "/l", "target": "f"}));
        ensure!(stage.json(&["stat", "--json", "/l"])?["kind"] == "file");
        ensure!(stage.json(&["stat", "-n", "--json", "/l"])?["kind"] == "link");
        stage.done(&["chmod", "700", "/f"])?;
        ensure!(stage.json(&["stat", "--json", "/g"])?["mode"] == "0700");
        ensure!(stage.done(&["localpath", "/../f"])? == "/f\n");
        stage.done(&["mkdir", "/d"])?;
        stage.done(&["cp", "/f", "/l", "/d"])?;
        ensure!(stage.done(&["ls", "/d"])? == "f\nl\n");
        let (code, message) = stage.fails(&["cp", "/f", "/g"])?;
        ensure!(
            code == Some(1) && message.contains("the same file"),
            "{message}"
        );
        let (code, message) = stage.fails(&["rmdir", "/d", "/none"])?;
        ensure!(code == Some(1) && message.contains("rmdir /d"), "{message}");
        ensure!(message.contains("rmdir /none"), "{message}");
        stage.done(&["rm", "-r", "/d/f", "/d/l"])?;
        stage.done(&["rmdir", "/d"])?;
        stage.done(&["rm", "-f", "/none"])?;
        let (code, message) = stage.fails(&["chown", "4711:4711", "/f"])?;
        ensure!(
            code == Some(1) && message.contains("left the file to"),
            "{message}"
        );
        Ok(())
    })
}

#[test]
fn parts_of_files_are_read() -> Result<()> {
    on_both(|stage| {
        let lines: String = (0..40_000)
            .map(|number| format!("line {number}\n"))
            .collect();
        stage.plant("log", &lines)?;
        stage.plant("short", "one\ntwo")?;
        stage.plant("empty", "")?;
        let part = stage.done(&["cat", "--offset", "5", "--length", "8", "/log"])?;
        ensure!(part == lines[5..13], "{part:?}");
        let large = stage.done(&["cat", "--offset", "3", "/log"])?;
        ensure!(large == lines[3..], "{} bytes", large.len());
        ensure!(stage.done(&["cat", "--offset", "1G", "/log"])?.is_empty());
        ensure!(stage.done(&["tail", "-n", "2", "/log"])? == "line 39998\nline 39999\n");
        // More than one block back.
        let many = stage.done(&["tail", "-n", "20000", "/log"])?;
        ensure!(many.starts_with("line 20000\n") && many.ends_with("line 39999\n"));
        ensure!(stage.done(&["tail", "-c", "6", "/log"])? == "39999\n");
        ensure!(stage.done(&["tail", "/short"])? == "one\ntwo");
        ensure!(stage.done(&["tail", "-n", "1", "/short"])? == "two");
        ensure!(stage.done(&["tail", "-n", "0", "/short"])?.is_empty());
        ensure!(stage.done(&["tail", "/empty"])?.is_empty());
        let (code, message) = stage.fails(&["cat", "--offset", "1", "/none", "/short"])?;
        ensure!(code == Some(1) && message.contains("/none"), "{message}");
        Ok(())
    })
}

#[test]
fn what_is_added_to_a_file_is_followed() -> Result<()> {
    use std::io::{BufRead as _, BufReader, Write as _};
    let stage = Stage::set(Maker::Ours, "")?;
    stage.plant("log", "old\n")?;
    let mut child = stage
        .command(&["-a", "unix"], &["tail", "-n", "1", "-f", "/log"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut shown = BufReader::new(child.stdout.take().context("stdout is a pipe")?);
    let mut line = || -> Result<String> {
        let mut line = String::new();
        shown.read_line(&mut line)?;
        Ok(line)
    };
    ensure!(line()? == "old\n");
    let path = stage.server.root().join("log");
    fs::OpenOptions::new()
        .append(true)
        .open(path)?
        .write_all(b"new\n")?;
    let came = line()?;
    child.kill()?;
    child.wait()?;
    ensure!(came == "new\n", "{came:?}");
    Ok(())
}

#[test]
fn trees_are_shown_and_added_up() -> Result<()> {
    on_both(|stage| {
        stage.done(&["mkdir", "-p", "/t/b/c"])?;
        stage.done(&["mkdir", "/t/empty"])?;
        stage.plant("t/a", "12345")?;
        stage.plant("t/.dot", "1")?;
        stage.plant("t/b/c/deep", "1234567")?;
        stage.done(&["ln", "-s", "../b", "/t/b/up"])?;
        let tree = stage.done(&["tree", "/t"])?;
        let expected = "/t\n├── a\n├── b\n│   ├── c\n│   │   └── deep\n│   └── up\n\
                        └── empty\n\n3 directories, 3 files\n";
        ensure!(tree == expected, "{tree}");
        let tree = stage.done(&["tree", "-d", "-L", "1", "/t"])?;
        ensure!(
            tree == "/t\n├── b\n└── empty\n\n2 directories, 0 files\n",
            "{tree}"
        );
        let paths = |value: &Value| -> Vec<String> {
            let entries = value.as_array().into_iter().flatten();
            let path = |entry: &Value| entry["path"].as_str().unwrap_or("?").to_owned();
            entries.map(path).collect()
        };
        let all = paths(&stage.json(&["tree", "-a", "--json", "/t"])?);
        let expected = [
            "/t",
            "/t/.dot",
            "/t/a",
            "/t/b",
            "/t/b/c",
            "/t/b/c/deep",
            "/t/b/up",
            "/t/empty",
        ];
        // The reference's server hides no file of its own in a listing of a client.
        let all: Vec<&str> = all
            .iter()
            .map(String::as_str)
            .filter(|path| !path.contains("/.__"))
            .collect();
        ensure!(all == expected, "{all:?}");
        let sums = stage.json(&["du", "--json", "/t"])?;
        ensure!(
            paths(&sums) == ["/t/b/c", "/t/b", "/t/empty", "/t"],
            "{sums}"
        );
        let bytes = stage.done(&["du", "-b", "-s", "/t/b/c", "/t/b/c/deep"])?;
        ensure!(bytes == "7\t/t/b/c\n7\t/t/b/c/deep\n", "{bytes}");
        let (code, message) = stage.fails(&["du", "-s", "/none", "/t"])?;
        ensure!(code == Some(1) && message.contains("/none"), "{message}");
        Ok(())
    })
}

#[test]
fn a_file_with_two_names_counts_once() -> Result<()> {
    let stage = Stage::set(Maker::Ours, "")?;
    stage.done(&["mkdir", "/t"])?;
    stage.plant("t/a", "12345")?;
    stage.done(&["ln", "/t/a", "/t/b"])?;
    ensure!(stage.done(&["du", "-b", "-s", "/t"])? == "5\t/t\n");
    ensure!(stage.json(&["du", "--json", "-s", "/t"])?[0]["files"] == 1);
    Ok(())
}

#[test]
fn names_that_are_no_text_survive_json() -> Result<()> {
    on_both(|stage| {
        let name = std::ffi::OsStr::from_bytes(b"a\xff b");
        fs::write(stage.server.root().join(name), "")?;
        stage.account.own(&stage.server.root().join(name))?;
        stage.plant("é\"", "")?;
        let entries = stage.json(&["ls", "--json", "/"])?;
        ensure!(
            entries[0]["name"] == json!({"base64": "Yf8gYg=="}),
            "{entries}"
        );
        ensure!(
            entries[0]["path"] == json!({"base64": "L2H/IGI="}),
            "{entries}"
        );
        ensure!(entries[1]["name"] == "é\"", "{entries}");
        Ok(())
    })
}

#[test]
fn names_that_look_like_options_are_names() -> Result<()> {
    on_both(|stage| {
        let local = stage.local.path().join("--force");
        fs::write(&local, "x")?;
        stage.account.own(&local)?;
        stage.done(&["put", "--", "--force", "/"])?;
        ensure!(stage.done(&["ls", "/"])? == "--force\n");
        ensure!(stage.done(&["cat", "--", "--force"])? == "x");
        stage.done(&["mv", "--", "--force", "-r"])?;
        stage.done(&["get", "--", "-r", "-copy"])?;
        ensure!(fs::read(stage.local.path().join("-copy"))? == b"x");
        stage.done(&["rm", "--", "-r"])?;
        ensure!(stage.done(&["ls", "/"])?.is_empty());
        let (code, _) = stage.fails(&["rm", "--no-such-option"])?;
        ensure!(code == Some(2));
        Ok(())
    })
}

#[test]
fn space_is_shown() -> Result<()> {
    for maker in Maker::ALL {
        let stage = Stage::set(maker, "-Q 100M")?;
        ensure!(stage.done(&["df"])?.starts_with("/\n100.0 MB TOTAL\n"));
        ensure!(stage.json(&["df", "--json"])?["total"] == 100 << 20);
        ensure!(
            stage
                .done(&["df", "-k"])?
                .starts_with("/\n102400.0 KB TOTAL\n")
        );
        stage.done(&["mkalloc", "/a", "1M"])?;
        ensure!(stage.done(&["lsalloc", "/a"])? == "/a\n1.0 MB TOTAL\n0.0B INUSE\n");
        let expected = json!({"path": "/a", "total": 1 << 20, "used": 0});
        ensure!(stage.json(&["lsalloc", "--json", "/a"])? == expected);
        ensure!(
            stage
                .done(&["audit"])?
                .starts_with("   FILES     DIRS      DATA OWNER\n")
        );
        let owners = stage.json(&["audit", "--json"])?;
        ensure!(owners[0]["directories"].as_u64() > Some(1), "{owners}");
    }
    Ok(())
}

#[test]
fn names_are_searched_by_the_server() -> Result<()> {
    on_both(|stage| {
        stage.done(&["mkdir", "/s"])?;
        stage.plant("s/one.csv", "12345")?;
        stage.plant("s/two.txt", "")?;
        ensure!(stage.done(&["search", "/s", "*.csv"])? == "/one.csv\n");
        ensure!(stage.done(&["search", "-i", "/s", "one*|none"])? == "/s/one.csv\n");
        let found = stage.json(&["search", "--json", "/s", "*.csv"])?;
        ensure!(
            found[0]["path"] == "/s/one.csv" && found[0]["size"] == 5,
            "{found}"
        );
        let (code, message) = stage.fails(&["search", "/s", "nothing"])?;
        ensure!(code == Some(1) && message.is_empty(), "{message}");
        let (code, message) = stage.fails(&["search", "/none", "x"])?;
        ensure!(
            code == Some(1) && message.contains("/none: no such file"),
            "{message}"
        );
        Ok(())
    })
}

#[test]
fn attributes_are_kept_under_their_names() -> Result<()> {
    let stage = Stage::set(Maker::Ours, "")?;
    stage.plant("f", "")?;
    stage.done(&["xattr", "set", "/f", "user.a", "one two"])?;
    stage.done(&["xattr_set", "/f", "user.b", "2"])?;
    ensure!(stage.done(&["xattr", "get", "/f", "user.a"])? == "one two\n");
    ensure!(stage.json(&["xattr", "list", "--json", "/f"])? == json!(["user.a", "user.b"]));
    let (code, message) = stage.fails(&["xattr", "set", "--create", "/f", "user.a", "x"])?;
    ensure!(code == Some(1) && message.contains("exists"), "{message}");
    stage.done(&["xattr", "rm", "/f", "user.a"])?;
    stage.done(&["xattr_set", "/f", "user.b"])?;
    ensure!(stage.done(&["xattr_list", "/f"])?.is_empty());
    Ok(())
}

#[test]
fn a_ticket_lets_its_holder_in_and_its_value_is_never_shown() -> Result<()> {
    on_both(|stage| {
        stage.done(&["mkdir", "/d"])?;
        stage.plant("d/f", "x")?;
        // A small key: making one takes long where nothing is optimised.
        let create = ["ticket", "create", "-b", "640", "-o", "t", "/d", "rl"];
        ensure!(stage.done(&create)? == "t\n");
        let listed = stage.json(&["ticket", "list", "--json"])?;
        let name = listed[0].as_str().context("a ticket")?;
        ensure!(name.starts_with("ticket:"), "{name}");
        let described = stage.json(&["ticket", "get", "--json", "t"])?;
        ensure!(described["ticket"] == name && described["owner"] == stage.subject());
        ensure!(
            described["seconds_left"].as_i64() > Some(80_000),
            "{described}"
        );
        let login = ["-a", "ticket", "-i", "t", "-d", "all"];
        let output = stage.command(&login, &["ls", "/d"]).output()?;
        ensure!(output.stdout == b"f\n", "{output:?}");
        let key = fs::read_to_string(stage.local.path().join("t"))?;
        let secret = key.lines().find(|line| line.len() == 64).context("a key")?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(!log.contains(secret), "{log}");
        let refused = stage.command(&login[..4], &["rm", "/d/f"]).output()?;
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        stage.done(&["ticket", "modify", "t", "/d", "none"])?;
        let refused = stage.command(&login[..4], &["ls", "/d"]).output()?;
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        stage.done(&["ticket", "delete", "t"])?;
        ensure!(!stage.local.path().join("t").exists());
        let gone = stage.command(&login[..4], &["ls", "/d"]).output()?;
        ensure!(gone.status.code() == Some(3), "{gone:?}");
        let (code, _) = stage.fails(&["ticket", "get", name])?;
        ensure!(code == Some(1));
        Ok(())
    })
}

#[test]
fn jobs_are_made_waited_for_and_reaped() -> Result<()> {
    for maker in Maker::ALL {
        let stage = Stage::set(maker, "--jobs")?;
        let description = json!({
            "executable": "/bin/sh",
            "arguments": ["sh", "-c", "exit 7"],
            "files": [],
        });
        let file = stage.local.path().join("job.json");
        fs::write(&file, description.to_string())?;
        stage.account.own(&file)?;
        let id = stage.done(&["job", "create", "@job.json"])?;
        let id = id.trim_end();
        ensure!(stage.json(&["job", "status", id])?[0]["status"] == "CREATED");
        let (code, _) = stage.fails(&["job", "wait", "--for", "0.01", id])?;
        ensure!(code == Some(1));
        stage.done(&["job", "commit", id])?;
        let ended = stage.json(&["job", "wait", id])?;
        ensure!(
            ended[0]["status"] == "FINISHED" && ended[0]["exit_code"] == 7,
            "{ended}"
        );
        stage.done(&["job", "reap", id])?;
        let second = stage.done(&["job_create", &description.to_string()])?;
        stage.done(&["job_kill", second.trim_end()])?;
        let (code, message) = stage.fails(&["job", "create", "@none.json"])?;
        ensure!(code == Some(1), "{message}");
        ensure!(
            message.contains("this machine: failed to open none.json"),
            "{message}"
        );
    }
    Ok(())
}

#[test]
fn a_program_goes_on_by_itself_and_is_waited_for() -> Result<()> {
    let stage = Stage::set(Maker::Ours, "--exec")?;
    let id = stage.done(&["exec", "--detach", "--cmd-id", "mine", "--", "sleep", "100"])?;
    let id = id.trim_end();
    ensure!(stage.json(&["ps", "--json"])?[0]["state"] == "running");
    let line = stage.done(&["ps"])?;
    ensure!(
        line.contains("running") && line.ends_with(" mine\n"),
        "{line}"
    );
    stage.done(&["kill", "mine"])?;
    let output = stage.runs(&["wait", id])?;
    ensure!(output.status.code() == Some(143), "{output:?}");
    let status: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(status["results"]["finished"] == false, "{status}");
    ensure!(stage.done(&["ps"])?.contains("sig 15"));
    let (code, message) = stage.fails(&["kill", "none"])?;
    ensure!(code == Some(1) && message.contains("@none"), "{message}");
    let features = stage.json(&["features"])?;
    ensure!(features["features"]["exec"] == 1, "{features}");
    Ok(())
}

#[test]
fn a_server_without_extension_is_told_apart() -> Result<()> {
    let stage = Stage::set(Maker::Reference, "")?;
    let output = stage.runs(&["features"])?;
    ensure!(
        output.stdout == b"null\n" && output.status.code() == Some(1),
        "{output:?}"
    );
    Ok(())
}
