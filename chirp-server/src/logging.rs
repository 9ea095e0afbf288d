//! The log: to standard error or to `-o FILE`, in as much detail as `-d` asks for.

use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

/// Starts the log. `RUST_LOG` adds to what the flags ask for.
///
/// # Errors
///
/// The log file cannot be opened for appending.
pub fn start(flags: &[String], file: Option<&Path>) -> anyhow::Result<()> {
    let mut filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    for flag in flags {
        let directive = match flag.as_str() {
            "all" => "debug".to_owned(),
            flag => format!("{flag}=debug"),
        };
        filter = filter.add_directive(
            directive
                .parse()
                .with_context(|| format!("-d {flag}: no such subsystem"))?,
        );
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match file {
        None => builder
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .init(),
        Some(path) => {
            let log = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("log file {} (-o)", path.display()))?;
            builder.with_ansi(false).with_writer(Mutex::new(log)).init();
        }
    }
    Ok(())
}
