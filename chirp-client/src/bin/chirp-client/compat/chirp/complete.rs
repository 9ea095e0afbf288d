//! What a word could become when Tab is pressed: a command, a name on the server, a name here.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use tokio::sync::mpsc;

use super::interactive::Event;
use super::line::{self, Unfinished};
use super::session::Session;
use super::table::{Does, TABLE};

/// Names of a directory, each with whether it is a directory itself.
pub(super) type Names = Vec<(String, bool)>;

/// How long a person who pressed Tab waits for a server.
const PATIENCE: Duration = Duration::from_secs(5);

/// The editor's helper.
pub(super) struct Completion {
    events: mpsc::Sender<Event>,
}

impl Completion {
    pub(super) const fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events }
    }

    /// Asks for the names of a remote directory.
    fn remote(&self, directory: Vec<u8>) -> Names {
        let (reply, answer) = channel();
        let asked = self.events.blocking_send(Event::Names { directory, reply });
        match asked {
            Ok(()) => answer.recv_timeout(PATIENCE).unwrap_or_default(),
            Err(_) => Names::new(),
        }
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = line.get(..position).unwrap_or(line);
        let unfinished = line::unfinished(before);
        let start = unfinished.start;
        Ok((start, self.candidates(&unfinished)))
    }
}

impl Helper for Completion {}
impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}

impl Completion {
    fn candidates(&self, unfinished: &Unfinished) -> Vec<Pair> {
        let word = unfinished.word.as_str();
        let Some((command, words)) = unfinished.before.split_first() else {
            let names = TABLE.iter().map(|entry| entry.name);
            return names
                .filter(|name| name.starts_with(word))
                .map(|name| pair(name, format!("{name} ")))
                .collect();
        };
        // Options are not among the places.
        let place = words.iter().filter(|word| !word.starts_with('-')).count();
        let (directory, start) = match word.rfind('/') {
            Some(slash) => word.split_at(slash + 1),
            None => ("", word),
        };
        let names = match kind(command, place) {
            Kind::Remote => self.remote(directory.as_bytes().to_vec()),
            Kind::Local => local(Path::new(directory)),
            Kind::Other => return Vec::new(),
        };
        let mut found: Vec<Pair> = names
            .into_iter()
            .filter(|(name, _)| name.starts_with(start))
            // As shells do, hidden names only to who asks for them.
            .filter(|(name, _)| !name.starts_with('.') || start.starts_with('.'))
            .map(|(name, is_directory)| {
                let end = if is_directory { "/" } else { " " };
                let path = line::quoted(&format!("{directory}{name}"));
                pair(&name, format!("{path}{end}"))
            })
            .collect();
        found.sort_by(|one, other| one.display.cmp(&other.display));
        found
    }
}

fn pair(display: &str, replacement: String) -> Pair {
    Pair {
        display: display.to_owned(),
        replacement,
    }
}

/// What a word names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Remote,
    Local,
    Other,
}

/// Returns what the word at a place after a command names.
fn kind(command: &str, place: usize) -> Kind {
    let Some(entry) = TABLE.iter().find(|entry| entry.name == command) else {
        return Kind::Other;
    };
    use Does::*;
    match (entry.does, place) {
        (Lcd | TicketDelete | TicketGet | TicketModify | TicketRegister, 0)
        | (Put, 0)
        | (Get, 1) => Kind::Local,
        (Cat, _) => Kind::Remote,
        (Ln | Mv, 0 | 1) | (Put | Hash | TicketModify, 1) | (Chmod, 1) => Kind::Remote,
        (TicketCreate, place) if place % 2 == 0 => Kind::Remote,
        (
            MatrixCreate | MatrixDelete | MatrixList | Cd | Get | Getacl | Localpath | Ls | Lsalloc
            | Md5 | Mkalloc | Mkdir | Resetacl | Rm | Rmdir | Search | Setacl | Setrep | Stat
            | Thirdput | XattrGet | XattrList | XattrSet,
            0,
        ) => Kind::Remote,
        _ => Kind::Other,
    }
}

/// Returns the names of a local directory; what is no text cannot be typed.
fn local(directory: &Path) -> Names {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Names::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            Some((name, entry.path().is_dir()))
        })
        .collect()
}

/// Returns the names of a remote directory. They come over a connection of their own, which may be
/// given up without harm.
pub(super) async fn remote(session: &mut Session, directory: &[u8]) -> Names {
    let Ok(path) = session.path(directory) else {
        return Names::new();
    };
    let asked = async {
        let client = session.helper().await?;
        let listing = client.getlongdir(&path).await.ok()?;
        listing.collect().await.ok()
    };
    let Ok(Some(entries)) = tokio::time::timeout(PATIENCE, asked).await else {
        session.forget_helper();
        return Names::new();
    };
    entries
        .into_iter()
        .filter_map(|(name, stat)| {
            let name = String::from_utf8(name.to_vec()).ok()?;
            // A control character could only be typed by accident.
            let typed = !name.chars().any(char::is_control);
            typed.then(|| (name, stat.is_directory()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_what_their_command_says() {
        for (command, place, expected) in [
            ("put", 0, Kind::Local),
            ("put", 1, Kind::Remote),
            ("get", 0, Kind::Remote),
            ("get", 1, Kind::Local),
            ("cat", 7, Kind::Remote),
            ("chmod", 0, Kind::Other),
            ("chmod", 1, Kind::Remote),
            ("whoami", 0, Kind::Other),
            ("nonsense", 0, Kind::Other),
        ] {
            assert_eq!(kind(command, place), expected, "{command} {place}");
        }
    }

    #[test]
    fn commands_and_local_names_are_completed() {
        let here = tempfile::tempdir().unwrap();
        std::fs::create_dir(here.path().join("a b")).unwrap();
        std::fs::write(here.path().join("a;c"), "").unwrap();
        std::fs::write(here.path().join(".hidden"), "").unwrap();
        let (events, _nobody) = mpsc::channel(1);
        let completion = Completion::new(events);
        let complete = |line: &str| {
            let unfinished = line::unfinished(line);
            let pairs = completion.candidates(&unfinished);
            let texts = pairs.into_iter().map(|pair| pair.replacement);
            (unfinished.start, texts.collect::<Vec<_>>())
        };
        assert_eq!(complete("whoa").1, ["whoami ", "whoareyou "]);
        assert_eq!(complete("ls; md").1, ["md5 "]);
        let here = here.path().to_str().unwrap();
        let (start, found) = complete(&format!("put '{here}/a"));
        assert_eq!(start, 4);
        assert_eq!(found, [format!("{here}/a\\ b/"), format!("{here}/a\\;c ")]);
        assert_eq!(complete(&format!("lcd {here}/.")).1.len(), 1);
    }
}
