//! The pseudo-terminal of a program that asked for one, and where its output goes.
//!
//! The server holds the master side. To the pumps of [`window`](super::window) and
//! [`capture`](super::capture) it is a pipe with two differences: its end is the error EIO, and some of
//! what it holds cannot be counted from outside.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, Winsize, tcgetattr,
    tcsetattr, tcsetwinsize,
};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::window::{Closing, PipeEnd, Quota, next_bytes, waiting_in};
use crate::request::Terminal;

/// Bytes read from a terminal at once where they go to a file or nowhere.
const READ_MAX: usize = 16 * 1024;

/// Makes a terminal of this size. Returns the server's side, which never blocks, and the program's.
pub(super) fn open(size: Terminal) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    resize(&master, size)?;
    // By the handle and not by a name, which may mean something else in another mount namespace.
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let mut modes = tcgetattr(&slave)?;
    // Programs run with a UTF-8 locale: erasing takes away characters.
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(&slave, OptionalActions::Now, &modes)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, slave))
}

/// Gives the terminal another size; the kernel tells the program in the foreground.
pub(super) fn resize(master: impl AsFd, size: Terminal) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(master, size)?)
}

/// Says whether this is the server's side of a terminal, and not a pipe.
pub(super) fn is_terminal(end: impl AsFd) -> bool {
    rustix::termios::isatty(end)
}

/// Returns what to type for the end of the input, after `last`, the last byte typed, if any.
///
/// Where the terminal collects lines, its end-of-file character means the end of the input only at the
/// beginning of a line; elsewhere it hands over what was typed of the line. There it is typed twice.
pub(super) fn end_of_file(master: impl AsFd, last: Option<u8>) -> Vec<u8> {
    let Ok(modes) = tcgetattr(master) else {
        // The terminal is gone, and what is typed goes nowhere.
        return Vec::new();
    };
    let Some(eof) = special(&modes, SpecialCodeIndex::VEOF) else {
        return Vec::new();
    };
    let lines = modes.local_modes.contains(LocalModes::ICANON);
    if lines && last.is_some_and(|byte| !begins_line(&modes, byte)) {
        vec![eof, eof]
    } else {
        vec![eof]
    }
}

/// Says whether a line that `byte` was typed into is handed over. One that was taken back, by an interrupt
/// say, counts as begun: an end too many is for nobody, because nothing follows.
fn begins_line(modes: &Termios, byte: u8) -> bool {
    const CODES: [SpecialCodeIndex; 3] = [
        SpecialCodeIndex::VEOF,
        SpecialCodeIndex::VEOL,
        SpecialCodeIndex::VEOL2,
    ];
    let returns = modes.input_modes.contains(InputModes::ICRNL);
    byte == b'\n'
        || (byte == b'\r' && returns)
        || CODES.iter().any(|&code| special(modes, code) == Some(byte))
}

/// Returns the character with this meaning; None where none has it.
fn special(modes: &Termios, code: SpecialCodeIndex) -> Option<u8> {
    Some(modes.special_codes[code]).filter(|&byte| byte != 0)
}

/// Where a terminal's output goes if neither into a window nor into a capture.
#[derive(Debug)]
pub(super) enum Sink {
    /// Nowhere.
    Nowhere,
    /// Into a file of at most so many bytes, if there is a limit.
    File(File, Option<u64>),
}

/// Reads a terminal into `sink` until it is closed, or until `closing` says otherwise. Returns also how
/// many bytes could not be written.
pub(super) async fn pour(
    pipe: pipe::Receiver,
    sink: Sink,
    mut closing: watch::Receiver<Closing>,
) -> (PipeEnd, u64) {
    let mut lost = 0;
    let mut sink = Some(sink);
    let mut quota = Quota::default();
    let end = loop {
        match next_bytes(&pipe, &mut closing, &mut quota, READ_MAX).await {
            Ok(bytes) => lost += keep(&mut sink, bytes).await,
            Err(end) => break end,
        }
    };
    (end, lost + waiting_in(&pipe) as u64)
}

/// Writes bytes, on a thread that may wait for the disk, and returns how many could not be. After the
/// first of these all are lost, so that what is kept has no gap.
async fn keep(sink: &mut Option<Sink>, bytes: Vec<u8>) -> u64 {
    let count = bytes.len() as u64;
    match sink.take() {
        Some(Sink::Nowhere) => {
            *sink = Some(Sink::Nowhere);
            0
        }
        Some(Sink::File(mut file, limit)) => {
            let write = move || {
                let written = write_within(&mut file, limit, &bytes);
                (file, written)
            };
            match tokio::task::spawn_blocking(write).await {
                Ok((file, Ok(()))) => {
                    *sink = Some(Sink::File(file, limit));
                    0
                }
                Ok((_, Err(error))) => {
                    tracing::warn!(%error, "the output of a terminal cannot be written to its file");
                    count
                }
                // The runtime ends, and took the bytes with it.
                Err(_) => count,
            }
        }
        None => count,
    }
}

fn write_within(file: &mut File, limit: Option<u64>, bytes: &[u8]) -> io::Result<()> {
    if let Some(limit) = limit {
        let after = file.metadata()?.len().saturating_add(bytes.len() as u64);
        if after > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
    file.write_all(bytes)
}
