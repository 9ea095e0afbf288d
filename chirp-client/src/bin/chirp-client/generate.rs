//! `chirp-client completions SHELL` and `chirp-client man [DIR]`: made from the same definition as
//! the help. They need no server, so they stand where its name stands otherwise.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory, Parser, Subcommand};

use crate::cli::Cli;
use crate::commands::Failure;
use crate::output;

/// The words that take the server's place.
pub(crate) const WORDS: [&str; 2] = ["completions", "man"];

/// Prints what a shell or `man` needs to know about chirp-client.
#[derive(Parser)]
#[command(name = "chirp-client", bin_name = "chirp-client")]
pub(crate) struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Completions(Completions),
    Man(Man),
}

/// Prints the completions for a shell.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client completions bash > ~/.local/share/bash-completion/completions/chirp-client
  chirp-client completions zsh > ~/.zfunc/_chirp-client
  chirp-client completions fish > ~/.config/fish/completions/chirp-client.fish")]
struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Writes the man pages, one for each command, into a directory; without one prints the main page.
#[derive(Args)]
#[command(after_help = "Examples:
  chirp-client man | man -l -
  chirp-client man ~/.local/share/man/man1")]
struct Man {
    /// The directory; made if it is missing.
    directory: Option<PathBuf>,
}

/// Reports whether the command line asks for one of these.
pub(crate) fn is_asked(arguments: &[OsString]) -> bool {
    arguments
        .get(1)
        .is_some_and(|word| WORDS.iter().any(|known| word == known))
}

/// Does what is asked.
pub(crate) fn run(arguments: &[OsString]) -> Result<(), Failure> {
    match Generate::parse_from(arguments).what {
        What::Completions(completions) => {
            let mut script = Vec::new();
            let mut command = described();
            clap_complete::generate(completions.shell, &mut command, "chirp-client", &mut script);
            output::write(&mended(&script))
        }
        What::Man(Man { directory: None }) => {
            let mut page = Vec::new();
            let command = described().disable_help_subcommand(true);
            rendered(clap_mangen::Man::new(command).render(&mut page))?;
            output::write(&page)
        }
        What::Man(Man {
            directory: Some(directory),
        }) => pages(&directory),
    }
}

/// Returns the definition with the words that need no server among its commands, so that they are
/// completed and described.
fn described() -> Command {
    let mut command = Cli::command();
    for own in Generate::command().get_subcommands() {
        command = command.subcommand(own.clone());
    }
    command
}

/// Mends the scripts of clap_complete 4.6.11. That for bash looks a command up by another name than the one
/// it files it under where the program's own name has a hyphen. That for fish takes the first word for the
/// command, which here is the server.
fn mended(script: &[u8]) -> Vec<u8> {
    let script = String::from_utf8_lossy(script);
    let [one, two] = WORDS;
    let behind_the_host = format!(
        "    or return
    # The server stands before its command.
    if set -q argv[1]; and not contains -- $argv[1] {one} {two}
        set -e argv[1]
    end
    if set -q argv[1]"
    );
    script
        .replace("chirp__subcmd__client", "chirp__client")
        .replace("    or return\n    if set -q argv[1]", &behind_the_host)
        .into_bytes()
}

fn rendered(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::Other(format!("failed to make a page: {error}")))
}

fn pages(directory: &Path) -> Result<(), Failure> {
    let failed = |error| {
        let directory = directory.display();
        Failure::Other(format!("failed to write to {directory}: {error}"))
    };
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(described(), directory).map_err(failed)
}
