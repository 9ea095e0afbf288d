//! What users do with our `chirp-client`.

use std::fs;

use anyhow::{Result, ensure};

use crate::Journey;
use crate::stage::{Stage, pattern, same_tree};

pub(crate) const JOURNEYS: &[Journey] = &[
    ("whoami-by-each-method", whoami_by_each_method),
    ("put-cat-get", put_cat_get),
    ("sizes-around-buffers", sizes_around_buffers),
    ("names-with-every-kind-of-byte", odd_names),
    ("ls-and-stat", ls_and_stat),
    ("directories-and-moves", directories_and_moves),
    ("md5", md5),
    ("acls", acls),
    ("whole-trees", whole_trees),
    ("host-that-does-not-listen", host_that_does_not_listen),
];

fn whoami_by_each_method(stage: &Stage) -> Result<()> {
    let unix = format!("unix:{}\n", stage.login());
    stage.client(&["whoami"])?.succeeds()?.prints(&unix)?;
    let host = stage.host();
    for (method, start) in [
        ("address", "address:127.0.0.1\n"),
        ("hostname", "hostname:"),
    ] {
        let outcome = stage.client_raw(&["-t", "5", "-a", method, &host, "whoami"])?;
        let outcome = outcome.succeeds()?;
        ensure!(outcome.stdout.starts_with(start.as_bytes()), "{outcome}");
    }
    let outcome = stage.client_raw(&["-t", "5", &host, "whoami"])?;
    outcome.succeeds()?.prints(&unix)?;
    Ok(())
}

fn put_cat_get(stage: &Stage) -> Result<()> {
    stage.write("a", b"hello\n")?;
    stage.client(&["put", "a", "/a"])?.succeeds()?;
    stage
        .client(&["cat", "/a"])?
        .succeeds()?
        .prints("hello\n")?;
    stage.client(&["get", "/a", "b"])?.succeeds()?;
    ensure!(fs::read(stage.local("b"))? == b"hello\n");
    ensure!(fs::read(stage.root().join("a"))? == b"hello\n");
    stage
        .client(&["get", "/none", "c"])?
        .exits(1)?
        .complains("/none")?
        .complains(&stage.host())?;
    ensure!(!stage.local("c").exists(), "a failed get left a file");
    stage.client(&["cat", "/none"])?.exits(1)?;
    Ok(())
}

fn sizes_around_buffers(stage: &Stage) -> Result<()> {
    for size in [0, 1, 4095, 4096, 65535, 65536, 65537, 1 << 20, 3_000_001] {
        let content = pattern(size);
        stage.write("a", &content)?;
        stage.client(&["put", "a", "/a"])?.succeeds()?;
        ensure!(fs::read(stage.root().join("a"))? == content, "put {size}");
        stage.client(&["get", "/a", "b"])?.succeeds()?;
        ensure!(fs::read(stage.local("b"))? == content, "get {size}");
    }
    Ok(())
}

fn odd_names(stage: &Stage) -> Result<()> {
    stage.write("a", b"x")?;
    // The reference's own client can name neither the accented letter nor control characters.
    let names = [
        "sp ace",
        "100%",
        "a\\b",
        "q'uo\"te",
        "%41",
        "caf\u{e9}",
        "tab\there",
        "\u{1}",
        "del\u{7f}",
    ];
    for name in names {
        stage
            .client(&["put", "a", &format!("/{name}")])?
            .succeeds()?;
        ensure!(
            stage.root().join(name).is_file(),
            "{name:?} is not in the root"
        );
        stage
            .client(&["cat", &format!("/{name}")])?
            .succeeds()?
            .prints("x")?;
    }
    Ok(())
}

fn ls_and_stat(stage: &Stage) -> Result<()> {
    stage.plant_tree()?;
    stage.client(&["put", "tree", "/tree"])?.succeeds()?;
    stage
        .client(&["ls", "/tree"])?
        .succeeds()?
        .lists(&["one", "empty", "script", "sub"])?;
    let outcome = stage.client(&["ls", "-la", "/tree/sub"])?.succeeds()?;
    let text = String::from_utf8_lossy(&outcome.stdout);
    for name in ["100% sp ace", "big", "empty dir"] {
        let there = text.lines().any(|line| line.ends_with(name));
        ensure!(there, "no {name:?} in {outcome}");
    }
    ensure!(text.contains("300000"), "no size in {outcome}");
    stage
        .client(&["ls", "/none"])?
        .exits(1)?
        .complains("/none")?;
    let outcome = stage.client(&["stat", "/tree/sub/big"])?.succeeds()?;
    ensure!(
        String::from_utf8_lossy(&outcome.stdout).contains("300000"),
        "{outcome}"
    );
    stage
        .client(&["stat", "/none"])?
        .exits(1)?
        .complains("/none")?;
    Ok(())
}

fn directories_and_moves(stage: &Stage) -> Result<()> {
    stage.client(&["mkdir", "/d"])?.succeeds()?;
    // As the reference's client, it forgives an existing directory.
    stage.client(&["mkdir", "/d"])?.succeeds()?;
    stage.client(&["mkdir", "-p", "/d/e/f"])?.succeeds()?;
    stage.client(&["mkdir", "-p", "/d/e/f"])?.succeeds()?;
    stage.client(&["mv", "/d/e", "/moved"])?.succeeds()?;
    ensure!(stage.root().join("moved/f").is_dir());
    stage.client(&["rm", "/moved"])?.succeeds()?;
    ensure!(!stage.root().join("moved").exists());
    stage
        .client(&["rm", "/moved"])?
        .exits(1)?
        .complains("/moved")?;
    Ok(())
}

fn md5(stage: &Stage) -> Result<()> {
    stage.write("a", b"hello\n")?;
    stage.client(&["put", "a", "/a"])?.succeeds()?;
    // The same line as the reference's client.
    stage
        .client(&["md5", "/a"])?
        .succeeds()?
        .prints("B1946AC92492D2347C6235B4D2611184\t/a\n")?;
    stage
        .client(&["md5", "/none"])?
        .exits(1)?
        .complains("/none")?;
    Ok(())
}

fn acls(stage: &Stage) -> Result<()> {
    let own = format!("unix:{} rwldpa\n", stage.login());
    stage.client(&["getacl", "/"])?.succeeds()?.prints(&own)?;
    stage.client(&["mkdir", "/d"])?.succeeds()?;
    stage
        .client(&["setacl", "/d", "unix:alice", "rl"])?
        .succeeds()?;
    stage
        .client(&["getacl", "/d"])?
        .succeeds()?
        .prints(&format!("{own}unix:alice rl\n"))?;
    let host = stage.host();
    let arguments = ["-t", "5", "-a", "address", &host, "ls", "/d"];
    stage.client_raw(&arguments)?.exits(1)?.complains("/d")?;
    Ok(())
}

fn whole_trees(stage: &Stage) -> Result<()> {
    stage.plant_tree()?;
    stage.client(&["put", "tree", "/tree"])?.succeeds()?;
    same_tree(&stage.local("tree"), &stage.root().join("tree"))?;
    stage.client(&["get", "/tree", "back"])?.succeeds()?;
    same_tree(&stage.local("tree"), &stage.local("back"))
}

fn host_that_does_not_listen(stage: &Stage) -> Result<()> {
    // Nobody listens on port 1, and only root could.
    let arguments = ["-t", "1", "-a", "unix", "127.0.0.1:1", "whoami"];
    stage
        .client_raw(&arguments)?
        .exits(3)?
        .complains("127.0.0.1:1")?;
    Ok(())
}
