//! What concerns this side and the session itself.

use std::time::Duration;

use super::line;
use crate::compat::access::set_logging;
use crate::compat::chirp::session::{self, Session};
use crate::compat::chirp::table::TABLE;
use crate::compat::connect::ANSWER_MAX;
use crate::compat::trouble::{Trouble, say};
use crate::output;

/// The flags that `debug` takes. The log knows no finer ones than on and off; `clear` turns it off.
const FLAGS: [&str; 15] = [
    "clear", "all", "auth", "chirp", "debug", "dns", "error", "fatal", "http", "libcall", "local",
    "notice", "resolve", "syscall", "tcp",
];

pub(crate) fn close(session: &mut Session) {
    session.close();
}

pub(crate) async fn open(session: &mut Session, words: &[&[u8]]) -> Result<(), Trouble> {
    let [host] = session::exactly(words)?;
    let host = session::text(host)?;
    session.open(host).await
}

pub(crate) fn lcd(words: &[&[u8]]) -> Result<(), Trouble> {
    let [directory] = session::exactly(words)?;
    Ok(std::env::set_current_dir(session::local(directory))?)
}

pub(crate) fn lpwd() -> Result<(), Trouble> {
    line(std::env::current_dir()?.as_os_str().as_encoded_bytes())
}

pub(crate) fn timeout(session: &mut Session, words: &[&[u8]]) -> Result<(), Trouble> {
    let [seconds] = session::exactly(words)?;
    // The reference takes the digits at the start, and none for 0, which would fail every call.
    let seconds: u64 = session::text(seconds)?
        .parse()
        .map_err(|_| Trouble::invalid())?;
    let timeout = match seconds {
        0 => ANSWER_MAX,
        seconds => Duration::from_secs(seconds),
    };
    session.set_timeout(timeout);
    say(&format!("Timeout is {} seconds.", timeout.as_secs()));
    Ok(())
}

pub(crate) fn debug(words: &[&[u8]]) -> Result<(), Trouble> {
    let [flag] = words else {
        return Ok(());
    };
    if !FLAGS.iter().any(|known| known.as_bytes() == *flag) {
        let known = FLAGS.join(", ");
        line(format!("Valid debugging flags are: {known}").as_bytes())?;
        return Err(Trouble::invalid());
    }
    set_logging(*flag != b"clear");
    Ok(())
}

pub(crate) fn help() -> Result<(), Trouble> {
    let mut text = "Commands:\n".to_owned();
    for entry in TABLE {
        text.push_str(&format!("{:<12} {}\n", entry.name, entry.usage));
    }
    let flags = FLAGS.join(", ");
    text.push_str(&format!("\nDebugging subsystems are:\n{flags}\n"));
    Ok(output::write(text.as_bytes())?)
}
