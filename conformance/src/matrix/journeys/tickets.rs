//! Tickets that one set of clients makes and another uses.

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
        mix: Mix::Clients,
        tools: &[],
        act,
    }
}

pub(in crate::matrix) const SCENES: &[Scene] = &[
    scene("ticket-of-another", ticket_of_another),
    scene("ticket-without-a-given-name", ticket_without_a_given_name),
    scene("ticket-changed-by-another", ticket_changed_by_another),
    scene("key-registered-by-another", key_registered_by_another),
];

/// Makes `/d` with a file, and `a` here.
fn plant(play: &mut Play<'_>) -> Result<()> {
    play.prepare(|play| {
        play.write("a", b"hello\n")?;
        play.script("mkdir /d\nput a /d/a\n")?;
        play.holds("d/a", b"hello\n")
    })
}

const TICKET: &[&str] = &["-a", "ticket", "-i", "t"];

fn ticket_of_another(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp(
        "ticket_create -output t -subject unix:{USER} -duration 86000 -bits 1024 / l /d rwl",
    )?
    .succeeds()?;
    play.hand_over();
    play.chirp_with(TICKET, "whoami")?.succeeds()?;
    play.chirp_with(TICKET, "cat /d/a")?
        .succeeds()?
        .prints("hello\n")?;
    play.chirp_with(TICKET, "put a /d/new")?.succeeds()?;
    play.holds("d/new", b"hello\n")?;
    play.chirp_with(TICKET, "put a /new")?.exits(1)?;
    play.chirp_with(TICKET, "setacl /d unix:alice rl")?
        .exits(1)?;
    play.tool("chirp_get -t 5 -a ticket -i t {HOST} /d/a copy")?
        .succeeds()?;
    play.tool("chirp_put -t 5 -a ticket -i t copy {HOST} /d/copy")?
        .succeeds()?;
    play.chirp("ticket_get t")?.succeeds()?;
    play.chirp("ticket_list self")?.succeeds()?;
    play.chirp("ticket_delete t")?.succeeds()?;
    play.shell("test -e t")?;
    play.chirp("ticket_list self")?.succeeds()?.prints("")?;
    Ok(())
}

/// The file is named after the ticket, and offered without being told.
fn ticket_without_a_given_name(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("ticket_create -b 1024 / rl")?.succeeds()?;
    play.hand_over();
    play.chirp_with(&["-a", "ticket"], "whoami")?.succeeds()?;
    play.chirp_with(&["-a", "ticket"], "cat /d/a")?.succeeds()?;
    play.chirp_with(&["-a", "ticket", "-a", "address"], "whoami")?
        .succeeds()?;
    play.shell("cp ticket.* elsewhere; rm ticket.*")?
        .succeeds()?;
    play.chirp_with(&["-a", "ticket"], "whoami")?.exits(1)?;
    play.chirp_with(&["-a", "ticket", "-i", "none,elsewhere"], "whoami")?
        .succeeds()?;
    play.set_variable("CHIRP_CLIENT_TICKETS", "none,elsewhere");
    play.chirp_with(&["-a", "ticket"], "whoami")?.succeeds()?;
    Ok(())
}

fn ticket_changed_by_another(play: &mut Play<'_>) -> Result<()> {
    plant(play)?;
    play.chirp("ticket_create -o t -d 86000 -b 1024 / l")?
        .succeeds()?;
    play.chirp_with(TICKET, "cat /d/a")?;
    play.hand_over();
    play.chirp("ticket_modify t /d rwl")?.succeeds()?;
    play.hand_over();
    play.chirp_with(TICKET, "cat /d/a")?
        .succeeds()?
        .prints("hello\n")?;
    play.chirp_with(TICKET, "put a /d/new")?.succeeds()?;
    play.chirp("ticket_get t")?.succeeds()?;
    play.hand_over();
    play.chirp("ticket_delete t")?.succeeds()?;
    play.hand_over();
    play.chirp_with(TICKET, "whoami")?;
    Ok(())
}

fn key_registered_by_another(play: &mut Play<'_>) -> Result<()> {
    play.prepare(|play| {
        play.shell("openssl genrsa -out key 1024 2>/dev/null")
            .map(drop)
    })?;
    play.chirp("ticket_register key self 3600")?.succeeds()?;
    play.hand_over();
    play.chirp("ticket_modify key / rl")?.succeeds()?;
    play.chirp_with(&["-a", "ticket", "-i", "key"], "ls /")?
        .succeeds()?;
    play.chirp("ticket_delete key")?.succeeds()?;
    Ok(())
}
