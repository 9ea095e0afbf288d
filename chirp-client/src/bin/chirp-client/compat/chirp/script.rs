//! A session of lines from standard input that is no terminal.

use std::io::{self, BufRead as _};

use tokio::sync::mpsc;

use super::line;
use super::session::Session;
use super::table::{self, Outcome};
use crate::compat::trouble::{Ending, Trouble};

/// Lines that wait to be carried out.
const LINES_AHEAD: usize = 16;

/// Bytes of a line that are read; what is longer is no command.
const LINE_MAX: u64 = 1024 * 1024;

/// Carries out lines until one whose last command fails, or the end.
pub(super) async fn run(session: &mut Session) -> Ending {
    let mut lines = lines();
    // As in the reference, a script that did nothing has failed.
    let mut ending = Ending::Failure;
    while let Some(line) = lines.recv().await {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                Trouble::from(error).tell("couldn't read standard input");
                return Ending::Failure;
            }
        };
        if line::is_comment(&line) {
            continue;
        }
        for words in line::commands(&line) {
            ending = match table::run(session, &words).await {
                Outcome::Done => Ending::Success,
                Outcome::Failed => Ending::Failure,
                Outcome::Quit => return Ending::Success,
                Outcome::PipeClosed => return Ending::PipeClosed,
            };
        }
        if ending == Ending::Failure {
            break;
        }
    }
    ending
}

/// Reads lines on a thread that may wait for them.
fn lines() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let line = next(&mut stdin).transpose();
            let Some(line) = line else { return };
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Reads a line; `None` at the end.
fn next(input: &mut impl io::BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let count = io::Read::take(&mut *input, LINE_MAX).read_until(b'\n', &mut line)?;
    if count as u64 == LINE_MAX && !line.ends_with(b"\n") {
        return Err(io::Error::other(format!(
            "a line of more than {LINE_MAX} bytes"
        )));
    }
    Ok((count > 0).then_some(line))
}
