//! Space and its limits.

use anyhow::Result;

use crate::matrix::Scene;
use crate::matrix::cell::Mix;
use crate::matrix::play::Play;

pub(in crate::matrix) const SCENES: &[Scene] = &[Scene {
    name: "allocation-that-fills",
    options: "-Q 10MB",
    servers: 1,
    mix: Mix::Apart,
    tools: &[],
    act: fill,
}];

fn fill(play: &mut Play<'_>) -> Result<()> {
    play.prepare(|play| {
        play.shell("head -c 60000 /dev/zero | tr '\\0' x > big; head -c 5000 big > small")?;
        play.chirp("mkdir /d")?;
        play.chirp("mkalloc /d/a 100000").map(drop)
    })?;
    play.chirp("put big /d/a/one")?.succeeds()?;
    play.chirp("lsalloc /d/a")?.succeeds()?;
    play.chirp("put big /d/a/two")?.exits(1)?;
    // The reference leaves an empty file of what it refused (W26).
    play.shell("rm -f {ROOT}/d/a/two")?;
    play.chirp("put small /d/a/three")?.succeeds()?;
    play.chirp("rm /d/a/one")?.succeeds()?;
    play.chirp("put big /d/a/two")?.succeeds()?;
    play.chirp("get /d/a/two back")?.succeeds()?;
    play.shell("cmp big back")?.succeeds()?;
    play.chirp("df")?;
    play.chirp("mkalloc /d/b 20M")?.exits(1)?;
    play.chirp("lsalloc /d/b")?;
    Ok(())
}
