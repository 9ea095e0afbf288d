//! What users do with the reference's `chirp`, `chirp_get` and `chirp_put`.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::Journey;
use crate::stage::{Stage, pattern, same_tree};

pub(crate) const JOURNEYS: &[Journey] = &[
    ("whoami-by-each-method", whoami_by_each_method),
    ("put-cat-get", put_cat_get),
    ("sizes-around-buffers", sizes_around_buffers),
    ("names-with-blanks-and-percents", odd_names),
    ("ls", ls),
    ("stat", stat),
    ("directories", directories),
    ("move-and-remove", move_and_remove),
    ("digests", digests),
    ("acls", acls),
    ("acl-refuses", acl_refuses),
    ("links", links),
    ("df", df),
    ("script-on-stdin", script_on_stdin),
    ("whole-trees-with-chirp", trees_with_chirp),
    ("whole-trees-with-get-and-put", trees_with_get_and_put),
    ("get-and-put-exit-codes", get_and_put_exit_codes),
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
    // Without -a the client goes through its own list; the server has to say no to what it lacks.
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
    stage.write("a", b"hi\n")?;
    stage.client(&["put", "a", "/a"])?.succeeds()?;
    stage.client(&["cat", "/a"])?.succeeds()?.prints("hi\n")?;
    stage
        .client(&["get", "/none", "c"])?
        .exits(1)?
        .complains("No such file or directory")?;
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
    let names = [
        "sp ace",
        "100%",
        "a\\b",
        "q'uo\"te",
        "a+b=c;d",
        "tilde~{}|",
        "%41",
    ];
    for name in names {
        stage
            .client(&["put", "a", &format!("/{name}")])?
            .succeeds()?;
        ensure!(
            stage.root().join(name).is_file(),
            "{name} is not in the root"
        );
    }
    stage.client(&["ls", "/"])?.succeeds()?.lists(&names)?;
    Ok(())
}

fn ls(stage: &Stage) -> Result<()> {
    stage.plant_tree()?;
    stage.client(&["put", "tree", "/tree"])?.succeeds()?;
    stage
        .client(&["ls", "/tree"])?
        .succeeds()?
        .lists(&["one", "empty", "script", "sub"])?;
    stage
        .client(&["ls", "-a", "/tree/sub"])?
        .succeeds()?
        .lists(&[".", "..", "100% sp ace", "big", "empty dir", "link"])?;
    let outcome = stage.client(&["ls", "-l", "/tree"])?.succeeds()?;
    let text = String::from_utf8(outcome.stdout.clone())?;
    let words = |name: &str| -> Option<Vec<String>> {
        let line = text
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")))?;
        Some(line.split_whitespace().map(str::to_owned).collect())
    };
    let (one, script, sub) = (words("one"), words("script"), words("sub"));
    let field = |line: &Option<Vec<String>>, at: usize| line.as_ref()?.get(at).cloned();
    ensure!(field(&one, 0).as_deref() == Some("-rw-------"), "{outcome}");
    ensure!(field(&one, 2) == Some(stage.uid().to_string()), "{outcome}");
    ensure!(field(&one, 4).as_deref() == Some("2"), "{outcome}");
    ensure!(
        field(&script, 0).as_deref() == Some("-rwx------"),
        "{outcome}"
    );
    ensure!(field(&sub, 0).as_deref() == Some("drwx------"), "{outcome}");
    stage
        .client(&["ls", "/none"])?
        .exits(1)?
        .complains("No such file or directory")?;
    Ok(())
}

fn stat(stage: &Stage) -> Result<()> {
    stage.write("a", b"hello\n")?;
    stage.client(&["put", "a", "/a"])?.succeeds()?;
    stage
        .client(&["stat", "/a"])?
        .succeeds()?
        .has_line("mode: 33152")?
        .has_line("nlink: 1")?
        .has_line("size: 6")?
        .has_line(&format!("uid: {}", stage.uid()))?;
    stage.client(&["chmod", "755", "/a"])?.succeeds()?;
    stage.client(&["stat", "/a"])?.has_line("mode: 33261")?;
    stage.client(&["stat", "/"])?.succeeds()?;
    stage
        .client(&["stat", "/none"])?
        .exits(1)?
        .complains("couldn't stat: No such file or directory")?;
    Ok(())
}

fn directories(stage: &Stage) -> Result<()> {
    stage.client(&["mkdir", "/d"])?.succeeds()?;
    // The client forgives an existing directory.
    stage.client(&["mkdir", "/d"])?.succeeds()?;
    stage
        .client(&["mkdir", "/no/d"])?
        .exits(1)?
        .complains("couldn't mkdir: Permission denied")?;
    stage.client(&["mkdir", "-p", "/p/q/r"])?.succeeds()?;
    ensure!(stage.root().join("p/q/r").is_dir());
    stage
        .client(&["rmdir", "/p"])?
        .exits(1)?
        .complains("couldn't rmdir: Directory not empty")?;
    stage.client(&["rmdir", "/p/q/r"])?.succeeds()?;
    stage.client(&["ls", "/p/q"])?.succeeds()?.prints("")?;
    stage.client(&["cd", "/none"])?.exits(1)?;
    Ok(())
}

fn move_and_remove(stage: &Stage) -> Result<()> {
    stage.plant_tree()?;
    stage.client(&["put", "tree", "/tree"])?.succeeds()?;
    stage
        .client(&["mv", "/tree/one", "/tree/sub/two"])?
        .succeeds()?;
    stage.client(&["cat", "/tree/sub/two"])?.prints("1\n")?;
    stage.client(&["mv", "/tree/sub", "/moved"])?.succeeds()?;
    stage.client(&["cat", "/moved/two"])?.prints("1\n")?;
    stage
        .client(&["mv", "/tree/one", "/x"])?
        .exits(1)?
        .complains("No such file or directory")?;
    stage.client(&["rm", "/tree/empty"])?.succeeds()?;
    stage
        .client(&["rm", "/tree/empty"])?
        .exits(1)?
        .complains("couldn't rm: No such file or directory")?;
    stage.client(&["rm", "/moved"])?.succeeds()?;
    stage.client(&["ls", "/"])?.succeeds()?.lists(&["tree"])?;
    Ok(())
}

fn digests(stage: &Stage) -> Result<()> {
    stage.write("a", b"hello\n")?;
    stage.client(&["put", "a", "/a"])?.succeeds()?;
    stage
        .client(&["md5", "/a"])?
        .succeeds()?
        .prints("B1946AC92492D2347C6235B4D2611184\t/a\n")?;
    stage
        .client(&["hash", "sha1", "/a"])?
        .succeeds()?
        .prints("F572D396FAE9206628714FB2CE00F72E94F2258F\t/a\n")?;
    stage.client(&["md5", "/none"])?.exits(1)?;
    Ok(())
}

fn acls(stage: &Stage) -> Result<()> {
    let own = format!("unix:{} rwldpa\n", stage.login());
    stage.client(&["getacl", "/"])?.succeeds()?.prints(&own)?;
    stage.client(&["mkdir", "/d"])?.succeeds()?;
    stage
        .client(&["setacl", "/d", "unix:alice", "write"])?
        .succeeds()?;
    stage
        .client(&["getacl", "/d"])?
        .succeeds()?
        .prints(&format!("{own}unix:alice rwldp\n"))?;
    stage
        .client(&["setacl", "/d", "unix:alice", "none"])?
        .succeeds()?;
    stage.client(&["getacl", "/d"])?.prints(&own)?;
    stage
        .client(&["setacl", "/none", "unix:alice", "read"])?
        .exits(1)?;
    stage.client(&["getacl", "/none"])?.exits(1)?;
    Ok(())
}

fn acl_refuses(stage: &Stage) -> Result<()> {
    stage.write("a", b"hello\n")?;
    stage.client(&["put", "a", "/a"])?.succeeds()?;
    let host = stage.host();
    let stranger = |words: &[&str]| {
        let arguments = [&["-t", "5", "-a", "address", host.as_str()], words].concat();
        stage.client_raw(&arguments)
    };
    stranger(&["get", "/a", "b"])?
        .exits(1)?
        .complains("Permission denied")?;
    stranger(&["put", "a", "/b"])?
        .exits(1)?
        .complains("couldn't put: Permission denied")?;
    stranger(&["rm", "/a"])?.exits(1)?;
    stage
        .client(&["setacl", "/", "address:127.0.0.*", "read"])?
        .succeeds()?;
    stranger(&["cat", "/a"])?.succeeds()?.prints("hello\n")?;
    stranger(&["put", "a", "/b"])?.exits(1)?;
    Ok(())
}

fn links(stage: &Stage) -> Result<()> {
    stage.write("a", b"hello\n")?;
    stage.client(&["put", "a", "/a"])?.succeeds()?;
    stage.client(&["ln", "/a", "/hard"])?.succeeds()?;
    stage.client(&["ln", "-s", "a", "/soft"])?.succeeds()?;
    stage.client(&["stat", "/hard"])?.has_line("nlink: 2")?;
    stage.client(&["cat", "/soft"])?.prints("hello\n")?;
    stage
        .client(&["ln", "-s", "/etc/passwd", "/out"])?
        .succeeds()?;
    // cat reports a missing file and yet exits with 0.
    stage
        .client(&["cat", "/out"])?
        .prints("")?
        .complains("No such file")?;
    // chirp_get asks for the link's text and makes the same link here.
    stage.chirp_get("/soft", "copy")?.succeeds()?;
    let target = fs::read_link(stage.local("copy")).context("no link was made")?;
    ensure!(target.as_os_str() == "a", "the link leads to {target:?}");
    Ok(())
}

fn df(stage: &Stage) -> Result<()> {
    let outcome = stage.client(&["df"])?.succeeds()?;
    let text = String::from_utf8_lossy(&outcome.stdout);
    let mut lines = text.lines();
    ensure!(lines.next() == Some("/"), "{outcome}");
    for ending in ["TOTAL", "INUSE"] {
        let line = lines.next().with_context(|| outcome.to_string())?;
        let number = line.split_whitespace().next().unwrap_or_default();
        ensure!(
            line.ends_with(ending) && number.parse::<f64>().is_ok(),
            "{outcome}"
        );
    }
    Ok(())
}

fn script_on_stdin(stage: &Stage) -> Result<()> {
    let script = b"mkdir /d\ncd /d\nput a b\nls\ncat b\n";
    stage.write("a", b"hello\n")?;
    let outcome = stage.client_fed(&[], script)?.succeeds()?;
    // The Debian build repeats its input lines.
    ensure!(outcome.stdout.ends_with(b"hello\n"), "{outcome}");
    stage.client_fed(&[], b"ls /none\nwhoami\n")?.exits(1)?;
    Ok(())
}

fn trees_with_chirp(stage: &Stage) -> Result<()> {
    stage.plant_tree()?;
    stage.client(&["put", "tree", "/tree"])?.succeeds()?;
    same_tree(&stage.local("tree"), &stage.root().join("tree"))?;
    stage.client(&["get", "/tree", "back"])?.succeeds()?;
    same_tree(&stage.local("tree"), &stage.local("back"))
}

fn trees_with_get_and_put(stage: &Stage) -> Result<()> {
    stage.plant_tree()?;
    stage.chirp_put("tree", "/tree")?.succeeds()?;
    same_tree(&stage.local("tree"), &stage.root().join("tree"))?;
    stage.chirp_get("/tree", "back")?.succeeds()?;
    same_tree(&stage.local("tree"), &stage.local("back"))?;
    // Over what is there already.
    stage.write("tree/one", b"changed")?;
    stage.chirp_put("tree", "/tree")?.succeeds()?;
    same_tree(&stage.local("tree"), &stage.root().join("tree"))
}

fn get_and_put_exit_codes(stage: &Stage) -> Result<()> {
    stage.write("a", b"hello\n")?;
    stage.chirp_put("a", "/a")?.succeeds()?;
    stage.chirp_get("/a", "-")?.succeeds()?.prints("hello\n")?;
    stage.chirp_get("/a", "b")?.succeeds()?;
    ensure!(fs::read(stage.local("b"))? == b"hello\n");
    stage
        .chirp_get("/none", "c")?
        .exits(1)?
        .complains(&format!(
            "couldn't get {}:/none: No such file or directory",
            stage.host()
        ))?;
    stage
        .chirp_put("none", "/c")?
        .exits(1)?
        .complains("couldn't open none: No such file or directory")?;
    stage
        .chirp_put("a", "/no/where")?
        .exits(1)?
        .complains("No such file or directory")?;
    stage.chirp_get("/", "-")?.exits(1)?;
    Ok(())
}

fn host_that_does_not_listen(stage: &Stage) -> Result<()> {
    // Nobody listens on port 1, and only root could.
    let arguments = ["-t", "1", "-a", "unix", "127.0.0.1:1", "whoami"];
    stage
        .client_raw(&arguments)?
        .exits(1)?
        .complains("couldn't open 127.0.0.1:1")?;
    Ok(())
}
