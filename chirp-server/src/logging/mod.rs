//! The log: to standard error or to `-o FILE`, in as much detail as `-d` asks for.
//!
//! A process has one log, so what changes it while the server runs (the request `debug`, SIGHUP) finds
//! it here.

mod file;
mod flags;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use file::LogFile;
use flags::Meaning;

/// The process's log, once it has been started.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    filter: reload::Handle<Targets, Registry>,
    /// `RUST_LOG`.
    wished: String,
    /// The directives of the flags that are on.
    detail: Mutex<Vec<&'static str>>,
    file: Option<SharedFile>,
}

/// Starts the log. `RUST_LOG`, levels and `TARGET=LEVEL` with commas between, adds to what the flags ask for. A file that would become larger than
/// `rotate` bytes is renamed; 0 for never.
///
/// # Errors
///
/// The log file cannot be opened for appending.
pub fn start(flags: &[String], file: Option<&Path>, rotate: u64) -> anyhow::Result<()> {
    let (mut detail, mut unknown) = (Vec::new(), Vec::new());
    for flag in flags {
        if !turn_on(&mut detail, flag) {
            unknown.push(flag);
        }
    }
    let wished = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, handle) = reload::Layer::new(filter(&wished, &detail));
    let registry = tracing_subscriber::registry().with(filter);
    let plain = fmt::layer().with_ansi(false);
    let mut shared = None;
    match file.map(|path| (path, path.to_str())) {
        None | Some((_, Some(":stderr"))) => registry
            .with(
                fmt::layer()
                    .with_ansi(io::stderr().is_terminal() && colours_wanted())
                    .with_writer(io::stderr),
            )
            .init(),
        Some((_, Some(":stdout"))) => registry.with(plain.with_writer(io::stdout)).init(),
        Some((path, _)) => {
            let log = LogFile::open(path, rotate)
                .with_context(|| format!("log file {} (-o)", path.display()))?;
            let log = SharedFile(Arc::new(Mutex::new(log)));
            shared = Some(log.clone());
            registry.with(plain.with_writer(move || log.clone())).init();
        }
    }
    let log = Log {
        filter: handle,
        wished,
        detail: Mutex::new(detail),
        file: shared,
    };
    if LOG.set(log).is_err() {
        anyhow::bail!("the log was started twice");
    }
    for flag in unknown {
        warn_of(flag);
    }
    Ok(())
}

/// Turns on a flag of `-d` for all that is logged from now on; `clear` turns all off.
///
/// The reference says yes to flags that nobody knows; here the log says that nothing came of it.
pub fn enable(flag: &str) {
    let Some(log) = LOG.get() else { return };
    let mut detail = log.detail.lock().unwrap_or_else(PoisonError::into_inner);
    if !turn_on(&mut detail, flag) {
        drop(detail);
        return warn_of(flag);
    }
    if let Err(error) = log.filter.reload(filter(&log.wished, &detail)) {
        tracing::error!(%error, "cannot change what is logged");
    }
}

/// Opens the log file anew, so that whoever renamed it finds the new lines under the old name.
pub fn reopen() {
    let Some(file) = LOG.get().and_then(|log| log.file.as_ref()) else {
        return;
    };
    let reopened = file.lock().reopen();
    if let Err(error) = reopened {
        tracing::warn!(%error, "cannot open the log file anew; the old one is written on");
    }
}

/// Adds what a flag stands for; false if nobody knows the flag.
fn turn_on(detail: &mut Vec<&'static str>, flag: &str) -> bool {
    match flags::meaning(flag) {
        None => return false,
        Some(Meaning::Clear) => detail.clear(),
        // Each at most once, however often it is asked for.
        Some(Meaning::Detail(directive)) if !detail.contains(&directive) => detail.push(directive),
        Some(Meaning::Detail(_) | Meaning::Nothing) => {}
    }
    true
}

/// Returns what is logged. No `EnvFilter`: the regular expressions that it brings for the fields of spans are a
/// twentieth of the server in a guest.
fn filter(wished: &str, detail: &[&str]) -> Targets {
    let base = Targets::new().with_default(LevelFilter::INFO);
    let directives = wished.split(',').chain(detail.iter().copied());
    directives
        .map(str::trim)
        // It would be read as the level of errors.
        .filter(|directive| !directive.is_empty())
        .filter_map(|directive| directive.parse::<Targets>().ok())
        .fold(base, |mut all, more| {
            if let Some(level) = more.default_level() {
                all = all.with_default(level);
            }
            all.extend(more);
            all
        })
}

/// Returns whether nobody has set `NO_COLOR` to something.
fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn warn_of(flag: &str) {
    let known = flags::known();
    tracing::warn!(flag, %known, "no such debug flag; nothing is turned on by it");
}

/// A log file that several threads write, a line at a time.
#[derive(Clone)]
struct SharedFile(Arc<Mutex<LogFile>>);

impl SharedFile {
    fn lock(&self) -> std::sync::MutexGuard<'_, LogFile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for SharedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lock().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn more_is_logged_than_usual_where_flags_or_the_environment_ask_for_it() {
        let usual = filter("", &[]);
        assert!(usual.would_enable("chirp_server::vfs", &Level::INFO));
        assert!(!usual.would_enable("chirp_server::vfs", &Level::DEBUG));
        let more = filter("beacon=trace,=nonsense=, ", &["auth=debug"]);
        assert!(more.would_enable("beacon::announcer", &Level::TRACE));
        assert!(more.would_enable("auth", &Level::DEBUG));
        assert!(more.would_enable("chirp_server", &Level::INFO));
        assert!(!more.would_enable("chirp_server", &Level::DEBUG));
        assert!(filter("", &["debug"]).would_enable("any", &Level::DEBUG));
        assert!(!filter("warn", &[]).would_enable("any", &Level::INFO));
    }
}
