//! A terminal, a real one, with somebody who reads it and types.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::LIMIT;

/// The person's side of a terminal.
pub(crate) struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    /// Opens a terminal of 24 lines with 120 columns, and returns with it the side of the programs.
    pub(crate) fn open() -> (Self, OwnedFd) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let (sender, shown) = channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // The end is an error: nobody holds the other side any more.
            while let Ok(count @ 1..) = screen.read(&mut chunk) {
                if sender.send(chunk.get(..count).unwrap().to_vec()).is_err() {
                    return;
                }
            }
        });
        let text = String::new();
        (Self { keys, shown, text }, slave.into())
    }

    /// Types. What was shown before is over.
    pub(crate) fn press(&mut self, keys: &str) {
        self.text.clear();
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Types something more.
    pub(crate) fn press_also(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Returns the person's side itself.
    pub(crate) fn keys(&self) -> &File {
        &self.keys
    }

    /// Returns what was read of what is shown.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Forgets what was shown.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
    }

    /// Reports whether the terminal shows something within this time.
    pub(crate) fn shows(&mut self, wanted: impl Fn(&str) -> bool, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while !wanted(&self.text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits until the terminal shows all these words.
    pub(crate) fn wait_for(&mut self, words: &[&str]) {
        let all = |text: &str| words.iter().all(|word| text.contains(word));
        let came = self.shows(all, LIMIT);
        assert!(came, "{words:?} are not all in {:?}", self.text);
    }
}
