//! Lists of rights with every kind of subject.

use anyhow::Result;

use crate::matrix::Scene;
use crate::matrix::cell::Mix;
use crate::matrix::play::Play;

type Act = fn(&mut Play<'_>) -> Result<()>;

const fn scene(name: &'static str, act: Act) -> Scene {
    Scene {
        name,
        options: "",
        servers: 1,
        mix: Mix::Apart,
        tools: &[],
        act,
    }
}

pub(in crate::matrix) const SCENES: &[Scene] = &[
    scene("acl-unix", unix),
    scene("acl-hostname", hostname),
    scene("acl-address", address),
    scene("acl-ticket", ticket),
    scene("acl-wildcard", wildcard),
    scene("acl-group-that-nobody-serves", group),
    scene("acl-reserve", reserve),
    scene("acl-inherited", inherited),
];

const ADDRESS: &[&str] = &["-a", "address"];
const HOSTNAME: &[&str] = &["-a", "hostname"];

/// Makes `/d`, which only its maker may use, with a file.
fn plant(play: &mut Play<'_>) -> Result<()> {
    play.prepare(|play| {
        play.write("a", b"hello\n")?;
        play.script("mkdir /d\nput a /d/a\n")?;
        play.holds("d/a", b"hello\n")
    })
}

/// Tries what each right is for.
fn try_all(play: &mut Play<'_>, options: &[&str]) -> Result<()> {
    for line in [
        "ls /d",
        "cat /d/a",
        "stat /d/a",
        "put a /d/b",
        "mkdir /d/sub",
        "rm /d/b",
        "setacl /d unix:alice rl",
    ] {
        play.chirp_with(options, line)?;
        play.sort();
    }
    Ok(())
}

fn unix(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for rights in ["none", "l", "rl", "rwl", "rwlda"] {
        play.chirp("resetacl /d rwlda")?.succeeds()?;
        play.chirp(&format!("setacl /d unix:{{USER}} {rights}a"))?;
        try_all(play, &["-a", "unix"])?;
        play.chirp("getacl /d")?;
    }
    Ok(())
}

fn hostname(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp_with(HOSTNAME, "ls /d")?.exits(1)?;
    play.chirp("setacl /d hostname:localhost rl")?.succeeds()?;
    try_all(play, HOSTNAME)?;
    play.chirp("setacl /d hostname:local* rwld")?.succeeds()?;
    try_all(play, HOSTNAME)?;
    play.chirp("getacl /d")?.succeeds()?;
    Ok(())
}

fn address(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp_with(ADDRESS, "cat /d/a")?;
    play.chirp("setacl /d address:127.0.0.1 rl")?.succeeds()?;
    try_all(play, ADDRESS)?;
    play.chirp_with(ADDRESS, "cat /d/a")?
        .succeeds()?
        .prints("hello\n")?;
    play.chirp("setacl /d address:127.0.0.1 none")?.succeeds()?;
    play.chirp("setacl /d address:127.* rwl")?.succeeds()?;
    try_all(play, ADDRESS)?;
    play.chirp("setacl /d address:128.* rwlda")?.succeeds()?;
    play.chirp("getacl /d")?.succeeds()?;
    Ok(())
}

/// A ticket stands for whom it was made for, with no more rights than its own.
fn ticket(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    let ticket = ["-a", "ticket", "-i", "t"];
    play.chirp("ticket_create -o t -b 1024 / l /d rl")?
        .succeeds()?;
    try_all(play, &ticket)?;
    play.chirp("setacl /d unix:{USER} la")?.succeeds()?;
    try_all(play, &ticket)?;
    play.chirp("setacl /d unix:{USER} rwlda")?.succeeds()?;
    play.chirp("ticket_modify t /d rwld")?.succeeds()?;
    try_all(play, &ticket)?;
    Ok(())
}

fn wildcard(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    for subject in [
        "*",
        "address:*",
        "*:*",
        "address:1?7.0.0.1",
        "unix:*",
        // A star that stands for nothing.
        "address:127.0.0.1*",
        "*address:127.0.0.1",
    ] {
        play.chirp(&format!("setacl /d {subject} rwl"))?;
        play.chirp_with(ADDRESS, "cat /d/a")?;
        play.chirp_with(HOSTNAME, "put a /d/b")?;
        play.chirp("getacl /d")?.succeeds()?;
        play.chirp(&format!("setacl /d {subject} none"))?;
    }
    Ok(())
}

/// A group whose members nobody tells gives no rights.
fn group(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("setacl /d group:nobody.knows rwl")?;
    play.chirp("getacl /d")?.succeeds()?;
    play.chirp_with(ADDRESS, "cat /d/a")?;
    play.chirp_with(ADDRESS, "put a /d/b")?.exits(1)?;
    Ok(())
}

fn reserve(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("setacl /d address:127.0.0.1 lv(rwla)")?
        .succeeds()?;
    play.chirp("getacl /d")?.succeeds()?;
    play.chirp_with(ADDRESS, "put a /d/b")?.exits(1)?;
    play.chirp_with(ADDRESS, "mkdir /d/own")?.succeeds()?;
    play.chirp_with(ADDRESS, "put a /d/own/a")?.succeeds()?;
    play.chirp_with(ADDRESS, "getacl /d/own")?.succeeds()?;
    play.chirp("cat /d/own/a")?;
    play.chirp_with(ADDRESS, "setacl /d/own unix:{USER} rl")?
        .succeeds()?;
    play.chirp("cat /d/own/a")?;
    Ok(())
}

fn inherited(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("setacl /d unix:alice rl")?.succeeds()?;
    play.chirp("mkdir /d/sub")?.succeeds()?;
    play.chirp("getacl /d/sub")?.succeeds()?;
    play.chirp("setacl /d unix:alice none")?.succeeds()?;
    play.chirp("getacl /d/sub")?.succeeds()?;
    play.chirp("mv /d/sub /moved")?.succeeds()?;
    play.chirp("getacl /moved")?.succeeds()?;
    Ok(())
}
