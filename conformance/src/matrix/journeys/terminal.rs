//! A session of a person at a terminal.

use anyhow::Result;

use crate::matrix::Scene;
use crate::matrix::cell::Mix;
use crate::matrix::play::Play;

pub(in crate::matrix) const SCENES: &[Scene] = &[Scene {
    name: "chirp-at-a-terminal",
    options: "",
    servers: 2,
    mix: Mix::Apart,
    tools: &[],
    act: session,
}];

fn session(play: &mut Play<'_>) -> Result<()> {
    play.write("a", b"hello\n")?;
    play.terminal(&[
        "whoami",
        "mkdir /d",
        "cd /d",
        "put a",
        "ls -l",
        "cat a",
        "ls /none",
        "stat a",
        "no such command",
        "setacl . unix:alice read",
        "getacl",
        "mv a b; cat b",
        "open {HOST1}",
        "ls /",
        "close",
        "whoami",
        "quit",
    ])
}
