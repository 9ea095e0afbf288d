//! Tickets (part 7), with the messages and the files of the reference.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chirp_client::Client;
use chirp_client::ticket::{self, TicketFile, TicketKey};

use super::rights::letters;
use super::{foreign, line};
use crate::compat::chirp::session::{self, Session};
use crate::compat::trouble::{Trouble, say};
use crate::output;

/// How long a ticket lasts whose maker does not say.
const DURATION: Duration = Duration::from_secs(86_400);

/// The bits of a key whose maker does not say.
const BITS: usize = 1024;

/// The subject that means the caller.
const CALLER: &str = "self";

/// What `ticket_create` is told.
struct Wanted<'a> {
    file: Option<PathBuf>,
    subject: &'a str,
    duration: Duration,
    bits: usize,
    /// Directories and rights in turn.
    masks: &'a [&'a [u8]],
}

impl<'a> Wanted<'a> {
    fn parse(words: &'a [&'a [u8]]) -> Result<Self, Trouble> {
        let mut wanted = Self {
            file: None,
            subject: CALLER,
            duration: DURATION,
            bits: BITS,
            masks: words,
        };
        while let [option, rest @ ..] = wanted.masks
            && option.starts_with(b"-")
        {
            let [value, rest @ ..] = rest else {
                return Err(Trouble::Usage);
            };
            match *option {
                b"-o" | b"-output" => wanted.file = Some(session::local(value).to_owned()),
                b"-s" | b"-subject" => wanted.subject = session::text(value)?,
                b"-d" | b"-duration" => wanted.duration = seconds(value)?,
                b"-b" | b"-bits" => {
                    let bits = session::text(value)?.parse();
                    wanted.bits = bits.map_err(|_| Trouble::invalid())?;
                }
                other => {
                    let other = String::from_utf8_lossy(other);
                    say(&format!("invalid option to create: {other}"));
                    return Err(Trouble::invalid());
                }
            }
            wanted.masks = rest;
        }
        Ok(wanted)
    }
}

fn seconds(word: &[u8]) -> Result<Duration, Trouble> {
    let seconds = session::text(word)?.parse();
    seconds
        .map(Duration::from_secs)
        .map_err(|_| Trouble::invalid())
}

pub(crate) async fn create(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let wanted = Wanted::parse(words)?;
    let bits = wanted.bits;
    let key = tokio::task::spawn_blocking(move || TicketKey::generate(bits))
        .await
        .map_err(std::io::Error::other)??;
    let path = wanted.file.unwrap_or_else(|| key.file_name().into());
    let file = TicketFile::create(path, key)?;
    let name = file.path().display().to_string();
    say(&format!(
        "ticket '{name}': successfully created with {bits} bits."
    ));
    register_file(client, &file, wanted.subject, wanted.duration).await?;
    say(&format!("ticket '{name}': successfully registered."));
    for mask in wanted.masks.chunks(2) {
        let [directory, rights] = mask else {
            let directory = mask.first().copied().unwrap_or_default();
            let directory = String::from_utf8_lossy(directory);
            say(&format!(
                "ticket '{name}': directory '{directory}' requires an aclmask."
            ));
            return Err(Trouble::invalid());
        };
        let rights = letters(session::text(rights)?);
        let path = session.path(directory)?;
        say(&format!(
            "ticket '{name}': directory '{path}' aclmask = '{rights}'."
        ));
        if let Err(error) = client
            .ticket_modify(&file.key().name(), &path, rights)
            .await
        {
            say(&format!(
                "ticket '{name}': could not set acl mask '{rights}' for directory '{path}'"
            ));
            return Err(error.into());
        }
        file.note_mask(client.host(), &path.to_string(), rights)?;
    }
    Ok(())
}

async fn register_file(
    client: &Client,
    file: &TicketFile,
    subject: &str,
    duration: Duration,
) -> Result<(), Trouble> {
    let key = file.key().public_pem();
    client.ticket_register(subject, key, duration).await?;
    Ok(file.note_registered(client.host(), subject, duration)?)
}

pub(crate) async fn register(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let (file, subject, duration) = match words {
        [file, duration] => (file, CALLER, duration),
        [file, subject, duration] => (file, session::text(subject)?, duration),
        _ => return Err(Trouble::Usage),
    };
    let file = TicketFile::read(session::local(file))?;
    register_file(client, &file, subject, seconds(duration)?).await
}

pub(crate) async fn modify(
    session: &Session,
    client: &Client,
    words: &[&[u8]],
) -> Result<(), Trouble> {
    let [word, directory, rights] = session::exactly(words)?;
    let (word, path) = (session::text(word)?, session.path(directory)?);
    let rights = letters(session::text(rights)?);
    let name = ticket::name_of(word)?;
    client.ticket_modify(&name, &path, rights).await?;
    if !is_name(word) {
        TicketFile::read(word)?.note_mask(client.host(), &path.to_string(), rights)?;
    }
    Ok(())
}

pub(crate) async fn delete(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    let word = session::text(word)?;
    client.ticket_delete(&ticket::name_of(word)?).await?;
    if !is_name(word) {
        std::fs::remove_file(word)?;
    }
    Ok(())
}

/// Reports whether a ticket is named by its digest, not by a file.
fn is_name(word: &str) -> bool {
    word.starts_with("ticket:")
}

pub(crate) async fn get(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let [word] = session::exactly(words)?;
    let name = ticket::name_of(session::text(word)?)?;
    let ticket = client.ticket_get(&name).await?;
    foreign(&ticket.owner)?;
    line(STANDARD.encode(&ticket.public_key).as_bytes())?;
    line(ticket.seconds_left.to_string().as_bytes())?;
    let mut masks = Vec::new();
    for (directory, rights) in &ticket.masks {
        masks.extend_from_slice(&output::name(directory));
        masks.push(b' ');
        masks.extend_from_slice(&output::name(rights));
        masks.push(b'\n');
    }
    Ok(output::write(&masks)?)
}

pub(crate) async fn list(client: &Client, words: &[&[u8]]) -> Result<(), Trouble> {
    let subject = words.first().copied().map_or(Ok(CALLER), session::text)?;
    for name in client.ticket_list(subject).await? {
        line(format!("ticket:{}", name.digits()).as_bytes())?;
    }
    Ok(())
}
