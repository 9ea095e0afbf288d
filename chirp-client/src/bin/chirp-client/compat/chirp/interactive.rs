//! A session of lines that a person types: edited, remembered and completed.
//!
//! The editor waits for keys on a thread of its own; between the lines it asks this side for remote
//! names when the person presses Tab.

use std::path::PathBuf;
use std::sync::mpsc::Sender;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use tokio::sync::mpsc;

use super::complete::{self, Completion, Names};
use super::line;
use super::session::Session;
use super::table::{self, Outcome};
use crate::compat::trouble::{Ending, say};
use crate::output;

/// Lines that are remembered from session to session.
const HISTORY_MAX: usize = 1000;

/// Where they are remembered, below the home directory.
const HISTORY: &str = ".chirp_history";

/// What the editor has for us.
pub(super) enum Event {
    /// A line, or why there is none.
    Line(Result<String, ReadlineError>),
    /// Somebody wants to know what begins like this.
    Names {
        /// Where to look.
        directory: Vec<u8>,
        /// Who waits for it.
        reply: Sender<Names>,
    },
}

/// Carries out the lines until `quit` or their end.
pub(super) async fn run(session: &mut Session) -> Ending {
    let _terminal = Terminal::now();
    greet(session);
    let (events, mut happening) = mpsc::channel(1);
    let prompts = edit(events);
    let mut ending = Ending::Failure;
    loop {
        // A prompt for an editor that has ended is answered by the end of its events.
        let _ended = prompts.send(prompt(session));
        let line = loop {
            match happening.recv().await {
                Some(Event::Line(line)) => break line,
                Some(Event::Names { directory, reply }) => {
                    let names = complete::remote(session, &directory).await;
                    // The editor does not wait for ever.
                    let _late = reply.send(names);
                }
                None => return ending,
            }
        };
        let line = match line {
            Ok(line) => line,
            // Ctrl-C throws the line away.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => {
                let _gone = output::write(b"\n");
                return ending;
            }
            Err(error) => {
                say(&format!("couldn't read the terminal: {error}"));
                return Ending::Failure;
            }
        };
        if line::is_comment(line.as_bytes()) {
            continue;
        }
        for words in line::commands(line.as_bytes()) {
            ending = match table::run(session, &words).await {
                Outcome::Done => Ending::Success,
                Outcome::Failed => Ending::Failure,
                Outcome::Quit => return Ending::Success,
                Outcome::PipeClosed => return Ending::PipeClosed,
            };
            let opened = words.first().is_some_and(|name| name == b"open");
            if opened && ending == Ending::Success {
                greet(session);
            }
        }
    }
}

/// The terminal as it was found. It is made so again where a signal ends the session while the editor
/// waits for keys, one by one and without an echo.
struct Terminal(Option<Termios>);

impl Terminal {
    fn now() -> Self {
        Self(tcgetattr(std::io::stdin()).ok())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // A terminal that is gone needs none.
            let _gone = tcsetattr(std::io::stdin(), OptionalActions::Now, settings);
        }
    }
}

/// Says who we are there.
fn greet(session: &Session) {
    if let Some(client) = session.client() {
        let (host, subject) = (session.host(), client.subject());
        say(&format!("connected to {host} as {subject}"));
    }
}

fn prompt(session: &Session) -> String {
    let host = session.host();
    let directory = match session.client() {
        Some(_) => output::name(session.directory().as_bytes()),
        None => Vec::new(),
    };
    format!(" chirp:{host}:{}> ", String::from_utf8_lossy(&directory))
}

/// Starts the editor. It reads a line for each prompt.
fn edit(events: mpsc::Sender<Event>) -> Sender<String> {
    let (prompts, wanted) = std::sync::mpsc::channel::<String>();
    tokio::task::spawn_blocking(move || {
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .auto_add_history(true)
            .max_history_size(HISTORY_MAX);
        let editor = config
            .and_then(|config| Editor::<Completion, FileHistory>::with_config(config.build()));
        let mut editor = match editor {
            Ok(editor) => editor,
            Err(error) => {
                let _ended = events.blocking_send(Event::Line(Err(error)));
                return;
            }
        };
        editor.set_helper(Some(Completion::new(events.clone())));
        let history = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(HISTORY));
        if let Some(history) = &history {
            // The first session has none.
            let _none = editor.load_history(history);
        }
        while let Ok(prompt) = wanted.recv() {
            let line = editor.readline(&prompt);
            if let (Ok(_), Some(history)) = (&line, &history) {
                // Where it cannot be kept it is kept as long as the session lasts.
                let _unkept = editor.append_history(history);
            }
            if events.blocking_send(Event::Line(line)).is_err() {
                return;
            }
        }
    });
    prompts
}
