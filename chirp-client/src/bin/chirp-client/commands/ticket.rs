use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chirp_client::ticket::{self, TicketFile, TicketKey};
use chirp_client::{Client, TicketName};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, setacl};
use crate::cli::{RemotePath, duration};
use crate::json::{self, Array, Json, Text};
use crate::output;

/// Tickets: files that let their holder in with some of your rights, for a while.
///
/// A ticket is a private key in a file; the server knows the public half of it. Who has the file can
/// do in each DIR what RIGHTS say, as far as you may do it yourself, until the time is over. Hand it to
/// nobody else: `-i FILE` logs in with it. The files are the same as the reference's.
#[derive(Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Examples:
  chirp-client guest ticket create -o job.ticket -d 12h /jobs/17 rwl
  chirp-client -a ticket -i job.ticket guest ls /jobs/17
  chirp-client guest ticket list
  chirp-client guest ticket delete job.ticket"
)]
pub(crate) struct Ticket {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Create(Create),
    Register(Register),
    List(List),
    Get(Get),
    Modify(Modify),
    Delete(Delete),
}

/// Makes a ticket, registers it with the server and prints the name of its file.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest ticket create /jobs/17 rwl /data rl
  chirp-client guest ticket create -o job.ticket -d 12h / read")]
pub(crate) struct Create {
    /// The file; otherwise ticket.DIGEST in the current directory. It must not exist.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Whose rights it has: your own, unless you are the server's superuser.
    #[arg(short, long, default_value = "self")]
    subject: String,
    /// How long it is good: seconds, or with a unit (s, m, h, d).
    #[arg(short, long, value_parser = duration, default_value = "1d")]
    duration: Duration,
    /// Bits of the key.
    #[arg(short, long, value_parser = bits, default_value = "2048")]
    bits: usize,
    /// Directories, and what may be done in each: letters, or a name for some, as for setacl.
    #[arg(value_name = "DIR RIGHTS")]
    masks: Vec<OsString>,
}

/// Registers the ticket of a file with a server, another one than it was made for.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client other ticket register -d 12h job.ticket")]
pub(crate) struct Register {
    /// Whose rights it has: your own, unless you are the server's superuser.
    #[arg(short, long, default_value = "self")]
    subject: String,
    /// How long it is good: seconds, or with a unit (s, m, h, d).
    #[arg(short, long, value_parser = duration, default_value = "1d")]
    duration: Duration,
    /// The ticket's file.
    file: PathBuf,
}

/// Registers a ticket, in the reference's form.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client other ticket_register job.ticket 3600")]
pub(crate) struct ReferenceRegister {
    /// The ticket's file.
    file: PathBuf,
    /// Whose rights it has, and for how many seconds; the first may be left out.
    #[arg(value_name = "[SUBJECT] SECONDS", num_args = 1..=2, required = true)]
    whose: Vec<String>,
}

/// Lists the tickets that the server knows: yours.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest ticket list")]
pub(crate) struct List {
    #[command(flatten)]
    json: Json,
    /// Whose.
    #[arg(default_value = "self")]
    subject: String,
}

/// Describes a ticket: whose it is, its public key, how many seconds it is good for, and lines of
/// directory and rights.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest ticket get job.ticket
  chirp-client guest ticket get --json job.ticket | jq .seconds_left")]
pub(crate) struct Get {
    #[command(flatten)]
    json: Json,
    /// The ticket's file, or ticket:DIGEST.
    #[arg(value_name = "FILE|ticket:DIGEST")]
    ticket: String,
}

/// Sets what a ticket is good for in a directory.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client guest ticket modify job.ticket /jobs/17 rl
  chirp-client guest ticket modify job.ticket / none")]
pub(crate) struct Modify {
    /// The ticket's file, or ticket:DIGEST.
    #[arg(value_name = "FILE|ticket:DIGEST")]
    ticket: String,
    /// The directory.
    #[arg(value_parser = RemotePath::parser())]
    directory: RemotePath,
    /// Letters, or a name for some, as for setacl.
    #[arg(value_parser = mask)]
    rights: String,
}

/// Makes the server forget a ticket, and removes its file if it was named by that.
#[derive(Args)]
#[command(after_help = "Example:
  chirp-client guest ticket delete job.ticket")]
pub(crate) struct Delete {
    /// The ticket's file, or ticket:DIGEST.
    #[arg(value_name = "FILE|ticket:DIGEST")]
    ticket: String,
}

#[derive(Serialize)]
struct Described<'a> {
    /// `ticket:DIGEST`.
    ticket: String,
    owner: Text<'a>,
    public_key: Text<'a>,
    seconds_left: i64,
    rights: Vec<Mask<'a>>,
}

#[derive(Serialize)]
struct Mask<'a> {
    path: Text<'a>,
    rights: Text<'a>,
}

impl Ticket {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        match self.action {
            Action::Create(create) => create.run(client).await,
            Action::Register(register) => register.run(client).await,
            Action::List(list) => list.run(client).await,
            Action::Get(get) => get.run(client).await,
            Action::Modify(modify) => modify.run(client).await,
            Action::Delete(delete) => delete.run(client).await,
        }
    }
}

impl Create {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        // All is read before anything is made.
        let masks = masks(&self.masks)?;
        let bits = self.bits;
        let key = tokio::task::spawn_blocking(move || TicketKey::generate(bits)).await;
        let key =
            key.map_err(|error| Failure::Other(format!("failed to make a key: {error}")))??;
        let path = self.output.unwrap_or_else(|| key.file_name().into());
        let file = TicketFile::create(path, key)?;
        let made = async {
            register(client, &file, &self.subject, self.duration).await?;
            for (directory, rights) in &masks {
                set_mask(client, &file.key().name(), Some(&file), directory, rights).await?;
            }
            Ok(())
        };
        if let Err(failure) = made.await {
            let path = file.path().display();
            output::message(&format!(
                "this machine: the ticket {path} is there all the same, and not good for all that was asked"
            ));
            return Err(failure);
        }
        let mut line = output::name(file.path().as_os_str().as_bytes());
        line.push(b'\n');
        output::write(&line)
    }
}

impl Register {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let file = TicketFile::read(self.file)?;
        register(client, &file, &self.subject, self.duration).await
    }
}

impl ReferenceRegister {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let (subject, seconds) = match &self.whose[..] {
            [subject, seconds] => (subject.as_str(), seconds),
            [seconds] => ("self", seconds),
            _ => return Err(Failure::Other("say how long the ticket is good".to_owned())),
        };
        let duration = duration(seconds).map_err(Failure::Other)?;
        let file = TicketFile::read(self.file)?;
        register(client, &file, subject, duration).await
    }
}

impl List {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let tickets = client.ticket_list(&self.subject).await?;
        if self.json.wanted {
            let mut array = Array::default();
            for ticket in &tickets {
                array.push(&ticket_name(ticket))?;
            }
            return array.finish();
        }
        let lines: String = tickets
            .iter()
            .map(|ticket| ticket_name(ticket) + "\n")
            .collect();
        output::write(lines.as_bytes())
    }
}

impl Get {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let name = ticket::name_of(&self.ticket)?;
        let info = client.ticket_get(&name).await?;
        if self.json.wanted {
            let masks = info.masks.iter();
            return json::print(&Described {
                ticket: ticket_name(&name),
                owner: info.owner[..].into(),
                public_key: info.public_key[..].into(),
                seconds_left: info.seconds_left,
                rights: masks
                    .map(|(path, rights)| Mask {
                        path: path[..].into(),
                        rights: rights[..].into(),
                    })
                    .collect(),
            });
        }
        let mut text = output::name(&info.owner);
        text.push(b'\n');
        let lines = info.public_key.split(|&byte| byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            text.append(&mut output::name(line));
            text.push(b'\n');
        }
        text.extend_from_slice(format!("{}\n", info.seconds_left).as_bytes());
        for (path, rights) in &info.masks {
            text.append(&mut output::name(path));
            text.push(b' ');
            text.append(&mut output::name(rights));
            text.push(b'\n');
        }
        output::write(&text)
    }
}

impl Modify {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let name = ticket::name_of(&self.ticket)?;
        let file = match TicketName::parse(self.ticket.as_bytes()) {
            Some(_) => None,
            None => Some(TicketFile::read(&self.ticket)?),
        };
        set_mask(client, &name, file.as_ref(), &self.directory, &self.rights).await
    }
}

impl Delete {
    pub(crate) async fn run(self, client: &Client) -> Result<(), Failure> {
        let name = ticket::name_of(&self.ticket)?;
        client.ticket_delete(&name).await?;
        if TicketName::parse(self.ticket.as_bytes()).is_some() {
            return Ok(());
        }
        let path = Path::new(&self.ticket);
        std::fs::remove_file(path).map_err(|error| {
            let path = path.display();
            Failure::Other(format!("this machine: failed to remove {path}: {error}"))
        })
    }
}

async fn register(
    client: &Client,
    file: &TicketFile,
    subject: &str,
    duration: Duration,
) -> Result<(), Failure> {
    let key = file.key().public_pem();
    client.ticket_register(subject, key, duration).await?;
    Ok(file.note_registered(client.host(), subject, duration)?)
}

async fn set_mask(
    client: &Client,
    name: &TicketName,
    file: Option<&TicketFile>,
    directory: &RemotePath,
    rights: &str,
) -> Result<(), Failure> {
    let directory = &directory.0;
    client.ticket_modify(name, directory, rights).await?;
    if let Some(file) = file {
        file.note_mask(client.host(), &directory.to_string(), rights)?;
    }
    Ok(())
}

fn masks(words: &[OsString]) -> Result<Vec<(RemotePath, String)>, Failure> {
    let pairs = words.chunks(2).map(|pair| {
        let (directory, rights) = match pair {
            [directory, rights] => (directory, rights),
            [directory, ..] => {
                let directory = directory.display();
                let reason = format!("say what the ticket is good for in {directory}, as in rl");
                return Err(Failure::Other(reason));
            }
            [] => return Err(Failure::Other("no directory".to_owned())),
        };
        let rights = mask(&rights.to_string_lossy()).map_err(Failure::Other)?;
        let path = super::remote(directory.as_bytes())?;
        Ok((RemotePath(path, false), rights))
    });
    pairs.collect()
}

/// Expands a name. A mask of no rights is `n` on the wire.
fn mask(text: &str) -> Result<String, String> {
    match setacl::rights(text)?.as_str() {
        "." | "-" => Ok("n".to_owned()),
        rights => Ok(rights.to_owned()),
    }
}

fn bits(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bits) if (ticket::BITS_MIN..=ticket::BITS_MAX).contains(&bits) => Ok(bits),
        _ => Err(format!(
            "a key has {} to {} bits",
            ticket::BITS_MIN,
            ticket::BITS_MAX
        )),
    }
}

fn ticket_name(name: &TicketName) -> String {
    format!("ticket:{}", name.digits())
}
