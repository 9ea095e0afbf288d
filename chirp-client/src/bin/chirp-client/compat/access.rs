//! The options that the tools share: how to log in, how long to wait, what to log.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chirp_client::Method;
use chirp_client::ticket::Offered;
use clap::Args;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::duration;

/// How to log in to servers, and how long to wait for them.
#[derive(Args, Clone)]
pub(super) struct Access {
    /// Log in by this method: unix, ticket, hostname, address or cookie. May be repeated; they are
    /// tried in the order given.
    #[arg(short, long = "auth", value_name = "METHOD")]
    auth: Vec<String>,

    /// Files with the keys of tickets, separated by commas [default: those that CHIRP_CLIENT_TICKETS
    /// names, else all files `ticket.DIGEST` here].
    #[arg(short = 'i', long, value_name = "FILES")]
    tickets: Option<OsString>,

    /// Give up after this time: seconds, or with a unit (s, m, h, d) [default: 1h without an answer; 1m
    /// without a connection].
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
}

impl Access {
    /// Returns the options of a session that `chirp-client` begins.
    pub(super) fn new(methods: &[Method], tickets: Option<OsString>, timeout: Duration) -> Self {
        Self {
            auth: methods.iter().map(Method::to_string).collect(),
            tickets,
            timeout: Some(timeout),
        }
    }

    /// Returns the methods in the order in which they are tried; the error is a method nobody knows.
    pub(super) fn methods(&self) -> Result<Vec<Method>, String> {
        let mut methods = Vec::new();
        for name in &self.auth {
            match name.parse() {
                Ok(method) => methods.push(method),
                // The reference registers them and they never pass: no server here offers them.
                Err(_) if matches!(name.as_str(), "kerberos" | "globus") => {}
                Err(_) => {
                    return Err(format!(
                        "could not register authentication method `{name}': Invalid argument"
                    ));
                }
            }
        }
        Ok(methods)
    }

    /// Returns the tickets that are offered.
    pub(super) fn tickets(&self) -> Offered {
        self.tickets
            .as_deref()
            .map_or(Offered::Found, Offered::from_list)
    }

    /// Reports whether methods were named, though none of them may be usable.
    pub(super) fn names_methods(&self) -> bool {
        !self.auth.is_empty()
    }
}

/// What is logged where.
#[derive(Args, Clone)]
pub(super) struct Log {
    /// Log what happens; all flags mean the same.
    #[arg(short, long, value_name = "FLAG")]
    debug: Vec<String>,

    /// Write the log to this file instead of standard error; `:stderr` and `:stdout` name those.
    #[arg(short = 'o', long, value_name = "FILE")]
    debug_file: Option<PathBuf>,
}

/// Whether the log is written; the command `debug` changes it.
static LOGGING: AtomicBool = AtomicBool::new(false);

/// Turns the log on or off.
pub(super) fn set_logging(on: bool) {
    LOGGING.store(on, Ordering::Relaxed);
}

impl Log {
    /// Begins the log; the error is why its file cannot be written.
    pub(super) fn start(&self) -> Result<(), String> {
        set_logging(self.debug.last().is_some_and(|flag| flag != "clear"));
        let writer: Box<dyn io::Write + Send> = match self.debug_file.as_deref() {
            None => Box::new(io::stderr()),
            Some(path) if path.as_os_str() == ":stderr" => Box::new(io::stderr()),
            Some(path) if path.as_os_str() == ":stdout" => Box::new(io::stdout()),
            Some(path) => {
                let file = File::options().append(true).create(true).open(path);
                Box::new(file.map_err(|error| {
                    let reason = super::text::reason(&error);
                    format!("could not open the log {}: {reason}", path.display())
                })?)
            }
        };
        let shown = dynamic_filter_fn(|metadata, _| {
            LOGGING.load(Ordering::Relaxed) && metadata.target().starts_with("chirp_")
        });
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(Mutex::new(writer));
        tracing_subscriber::registry()
            .with(layer.with_filter(shown))
            .init();
        Ok(())
    }
}

/// A tool's command line.
pub(super) trait Logged {
    /// The exit status after the help.
    const AFTER_HELP: u8 = 0;

    /// Returns what is logged where.
    fn log(&self) -> &Log;
}
