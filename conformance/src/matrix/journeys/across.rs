//! Two servers that work together: of one side in four cells, of both in the others.

use anyhow::{Result, ensure};

use crate::matrix::Scene;
use crate::matrix::cell::Mix;
use crate::matrix::play::Play;

pub(in crate::matrix) const SCENES: &[Scene] = &[Scene {
    name: "thirdput-across",
    options: "",
    servers: 2,
    mix: Mix::Servers,
    tools: &[],
    act: thirdput,
}];

fn thirdput(play: &mut Play<'_>) -> Result<()> {
    play.prepare(|play| {
        play.shell(
            "mkdir -p 't/sub/e m p t y'; echo 1 > t/one; : > t/nothing; echo 2 > 't/sub/t w o%'; \
             seq 1 100000 > t/sub/long; chmod 755 t/one; chmod 600 t/nothing",
        )?;
        play.chirp("put t /t")?;
        play.shell("ln t/one t/hard")?;
        play.chirp("ln /t/one /t/hard")?;
        play.chirp("setacl /t unix:alice rl")?;
        // The servers know each other by name only.
        play.tool("chirp -t 5 -a unix {HOST1} mkdir /in")?;
        play.tool("chirp -t 5 -a unix {HOST1} setacl /in hostname:* rwlda")?;
        play.tool("chirp -t 5 -a unix {HOST1} mkdir /in/blanks")?;
        play.holds("t/one", b"1\n")
    })?;
    play.chirp("thirdput /t/one {HOST1} /in/one")?.succeeds()?;
    play.chirp("thirdput /t/nothing {HOST1} /in/nothing")?
        .succeeds()?;
    play.chirp("thirdput /t/sub/long {HOST1} /in/long")?
        .succeeds()?;
    // What the reference makes of such a name is its own; it does not stay.
    play.chirp("thirdput '/t/sub/t w o%' {HOST1} '/in/blanks/t w o'")?
        .succeeds()?;
    play.tool("chirp -t 5 -a unix {HOST1} ls /in/blanks")?
        .succeeds()?;
    play.tool("chirp -t 5 -a unix {HOST1} rm /in/blanks")?
        .succeeds()?;
    play.chirp("thirdput /t {HOST1} /in/t")?.succeeds()?;
    // Over what is there.
    play.chirp("thirdput /t/one {HOST1} /in/long")?.succeeds()?;
    play.chirp("thirdput /t {HOST1} /in/t")?;
    // Where the servers may not write, and what is not there.
    play.chirp("thirdput /t/one {HOST1} /one")?.exits(1)?;
    play.chirp("thirdput /t/one {HOST1} /in/none/one")?
        .exits(1)?;
    play.chirp("thirdput /none {HOST1} /in/x")?.exits(1)?;
    play.tool("chirp -t 5 -a unix {HOST1} getacl /in/t")?
        .succeeds()?;
    play.tool("chirp_get -t 5 -a unix {HOST1} /in/t back")?
        .succeeds()?;
    play.shell("diff -r t back")?.succeeds()?;
    ensure!(
        play.root(1)?.join("in/t/sub/long").is_file(),
        "no tree was copied"
    );
    Ok(())
}
