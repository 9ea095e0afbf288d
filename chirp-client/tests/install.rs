//! What a shell and `man` are told, and what `make install` makes of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

const CLIENT: &str = env!("CARGO_BIN_EXE_chirp-client");

fn client(arguments: &[&str]) -> String {
    let output = Command::new(CLIENT).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Lets bash complete the last of `words`.
fn completed(words: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("completions");
    fs::write(&script, client(&["completions", "bash"])).unwrap();
    let asked = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        handler=$(complete -p chirp-client | sed 's/.*-F \([^ ]*\).*/\1/')
        "$handler" chirp-client "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["--norc", "-c", asked, "bash"])
        .arg(&script)
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let reply = String::from_utf8(output.stdout).unwrap();
    reply.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_behind_the_host_and_their_options() {
    assert_eq!(
        completed(&["chirp-client", "guest", "whoar"]),
        ["whoareyou"]
    );
    assert_eq!(completed(&["chirp-client", "compl"]), ["completions"]);
    assert_eq!(completed(&["chirp-client", "--col"]), ["--color"]);
    let options = completed(&["chirp-client", "guest", "tree", "--"]);
    assert!(options.contains(&"--json".to_owned()), "{options:?}");
    let nested = completed(&["chirp-client", "guest", "ticket", "re"]);
    assert_eq!(nested, ["register"]);
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            client(&["completions", shell]).contains("sha256"),
            "{shell}"
        );
    }
    // fish itself is not asked, as bash is: this is what makes it look behind the host.
    let fish = client(&["completions", "fish"]);
    let skips_the_host = "not contains -- $argv[1] completions man\n        set -e argv[1]";
    assert!(fish.contains(skips_the_host), "{fish}");
    let output = Command::new(CLIENT).args(["completions", "csh"]).output();
    assert_eq!(output.unwrap().status.code(), Some(2));
}

#[test]
fn every_command_has_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("new/man1");
    client(&["man", pages.to_str().unwrap()]);
    let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap();
    let main = page("chirp-client.1");
    assert_eq!(main, client(&["man"]));
    for words in [
        "Exit status",
        "NO_COLOR",
        "CHIRP_CLIENT_TICKETS",
        "completions",
    ] {
        assert!(main.contains(words), "{words}: {main}");
    }
    for name in ["ls", "exec", "ticket-create", "completions", "job-wait"] {
        let page = page(&format!("chirp-client-{name}.1"));
        assert!(page.contains("Example"), "{page}");
    }
    // What is only there under the reference's name is not described twice.
    assert!(!pages.join("chirp-client-ticket_create.1").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let output = Command::new(CLIENT).args(["man", "/dev/null/x"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("/dev/null/x"), "{message}");
}

/// Runs the script behind `make install` for programs of which only the client is real.
fn install(directory: &Path, links: bool) -> Output {
    let built = directory.join("built");
    if !built.exists() {
        fs::create_dir(&built).unwrap();
        symlink(CLIENT, built.join("chirp-client")).unwrap();
        for name in ["chirp-server", "host-agent"] {
            fs::write(built.join(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(built.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/install"))
        .arg(&built)
        .env("DESTDIR", directory.join("root"))
        .env("PREFIX", "/opt/chirp")
        .env("LINKS", if links { "1" } else { "" })
        .output()
        .unwrap()
}

#[test]
fn all_is_installed_and_links_only_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let top = directory.path().join("root/opt/chirp");
    let output = install(directory.path(), false);
    assert!(output.status.success(), "{output:?}");
    for name in [
        "bin/chirp-client",
        "bin/chirp-server",
        "bin/host-agent",
        "share/man/man1/chirp-client.1",
        "share/man/man1/chirp-client-sha256.1",
        "share/bash-completion/completions/chirp-client",
        "share/zsh/site-functions/_chirp-client",
        "share/fish/vendor_completions.d/chirp-client.fish",
    ] {
        let length = fs::metadata(top.join(name)).unwrap().len();
        assert!(length > 0, "{name}");
    }
    assert!(!top.join("bin/chirp").exists());

    // A second time, over the first, with the links.
    let output = install(directory.path(), true);
    assert!(output.status.success(), "{output:?}");
    for name in [
        "chirp",
        "chirp_get",
        "chirp_put",
        "chirp_status",
        "chirp_stream_files",
    ] {
        let target = fs::read_link(top.join("bin").join(name)).unwrap();
        assert_eq!(target, Path::new("chirp-client"), "{name}");
    }
}

#[test]
fn a_tool_of_somebody_else_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let bin = directory.path().join("root/opt/chirp/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("chirp_put"), "theirs").unwrap();
    let output = install(directory.path(), true);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("chirp_put is a program of its own"),
        "{message}"
    );
    assert_eq!(fs::read(bin.join("chirp_put")).unwrap(), b"theirs");
    assert!(!bin.join("chirp-client").exists());
}
