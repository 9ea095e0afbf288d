//! `chirp` as a person uses it: at a terminal, line by line.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Types `lines` at a terminal, each when the prompt is there, and returns what the terminal shows
/// and the exit code.
pub(super) fn converse(mut command: Command, lines: &[String]) -> Result<(String, Option<i32>)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    // So wide that no line is broken, whatever the length of a port.
    let size = Winsize {
        ws_row: 50,
        ws_col: 1000,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size)?;
    let name = ptsname(&master, Vec::new())?;
    let slave: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().context("the terminal's name is not UTF-8")?)?
        .into();
    command
        .stdin(Stdio::from(slave.try_clone()?))
        .stdout(Stdio::from(slave.try_clone()?))
        .stderr(Stdio::from(slave));
    let mut child = Killed(command.spawn().context("cannot run chirp")?);
    // The command holds the other end as long as it lives.
    drop(command);
    let mut terminal = File::from(master);
    let shown = read_along(terminal.try_clone()?);
    let mut text = String::new();
    for line in lines {
        wait_for_prompt(&shown, &mut text)?;
        terminal.write_all(format!("{line}\n").as_bytes())?;
    }
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        ensure!(
            Instant::now() < deadline,
            "chirp does not end; it showed {text:?}"
        );
        thread::sleep(Duration::from_millis(5));
    };
    // All ends are closed now, so the reader ends too.
    while let Ok(bytes) = shown.recv_timeout(LIMIT) {
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    Ok((text.replace('\r', ""), status.code()))
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_along(mut terminal: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        loop {
            match terminal.read(&mut chunk) {
                Ok(count) if count > 0 => {
                    let bytes = chunk.iter().take(count).copied().collect();
                    if sender.send(bytes).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The last process has closed it.
                _ => return,
            }
        }
    });
    receiver
}

fn wait_for_prompt(shown: &Receiver<Vec<u8>>, text: &mut String) -> Result<()> {
    let start = text.len();
    loop {
        let new = text.get(start..).unwrap_or_default();
        if new.ends_with("> ") && new.contains(" chirp:") {
            return Ok(());
        }
        match shown.recv_timeout(LIMIT) {
            Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Err(_) => bail!("no prompt came; the terminal shows {text:?}"),
        }
    }
}
