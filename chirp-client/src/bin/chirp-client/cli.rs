//! The command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use chirp_client::{Address, Method, VirtualPath};
use clap::Parser;

use crate::commands::Command;

/// Copies files to and from a Chirp server, looks after them, and runs programs there.
///
/// Options before HOST are the client's; options after the command are the command's. Remote paths
/// begin at the root of the exported tree.
///
/// Without a command it reads those of the reference's `chirp` from standard input: at a terminal with
/// history and with completion of commands, remote and local names (Tab); `help` lists them.
#[derive(Parser)]
#[command(
    name = "chirp-client",
    version,
    max_term_width = 100,
    after_help = "Examples:
  chirp-client guest put input/ /jobs/17
  chirp-client guest:9095 exec --cwd /jobs/17 -- make -j4
  chirp-client -a address [fe80::2]:9094 get /jobs/17/result .
  chirp-client guest put --help
  chirp-client guest                     a session

Exit status:
  0    all went well
  1    the server refused something, or some of it was not done: each is named on stderr
  2    the command line makes no sense
  3    no connection: the server cannot be reached, lets nobody in, or was lost
  130, 141, ...  128 plus the number of the signal that ended the client; 141 if nobody reads its output
  exec ends as its program does, with 125 in place of 1 and 3: see its help.

Without a server: `chirp-client completions SHELL` and `chirp-client man [DIR]`.

Environment: NO_COLOR, CLICOLOR and CLICOLOR_FORCE decide about colours where --color does not;
CHIRP_CLIENT_LOG=debug does what -d all does; CHIRP_CLIENT_TICKETS what -i does; _CONDOR_CHIRP_CONFIG
what --cookie-file does where a cookie is asked for."
)]
pub(crate) struct Cli {
    /// Log in by this method (unix, ticket, hostname, address, cookie); may be repeated, and is tried in
    /// the order given. Default: unix if the server is on this machine, then ticket if there is one,
    /// then hostname, then address; cookie alone with --cookie-file.
    #[arg(short = 'a', long = "auth", value_name = "METHOD")]
    pub(crate) methods: Vec<Method>,

    /// Offer the tickets in these files, with commas between them. Otherwise those that
    /// CHIRP_CLIENT_TICKETS names, or the files ticket.* in the current directory.
    #[arg(short = 'i', long, value_name = "FILE,...")]
    pub(crate) tickets: Option<OsString>,

    /// Log in as HTCondor's clients do, with the cookie in this file: its only line, or the last word of
    /// HOST PORT COOKIE, which then is the server if HOST is CONDOR. Otherwise, for -a cookie, the file
    /// that _CONDOR_CHIRP_CONFIG names, or .chirp.config, chirp.config or .chirp_config. Only files
    /// and directories can be worked on so.
    #[arg(long, value_name = "FILE")]
    pub(crate) cookie_file: Option<PathBuf>,

    /// Show on stderr what happens: `all`, or a filter such as chirp_client=trace.
    #[arg(short, long, value_name = "WHAT")]
    pub(crate) debug: Option<String>,

    /// Give up after this time without progress: seconds, or with a unit (s, m, h, d).
    #[arg(short = 't', long, value_name = "SECONDS", value_parser = duration, default_value = "60")]
    pub(crate) timeout: Duration,

    /// When to use colours; auto: at a terminal, if NO_COLOR is not set.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: clap::ColorChoice,

    /// The server: HOST, HOST:PORT, [V6]:PORT or unix:/PATH; the port is 9094 unless named. CONDOR is
    /// the server that the cookie's file names.
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) host: Address,

    /// What to do; without it commands are read from standard input.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// A path on the server, any bytes but NUL, and whether it was written as the content of a
/// directory (`x/.`), which the normalised path does not show.
#[derive(Clone, Debug)]
pub(crate) struct RemotePath(pub(crate) VirtualPath, pub(crate) bool);

impl RemotePath {
    /// Returns a parser for clap that takes what is not UTF-8, too.
    pub(crate) fn parser() -> impl clap::builder::TypedValueParser<Value = Self> {
        use clap::builder::TypedValueParser;
        clap::builder::OsStringValueParser::new().try_map(|text: OsString| {
            let bytes = text.as_bytes();
            let content =
                matches!(bytes, b"." | b"..") || bytes.ends_with(b"/.") || bytes.ends_with(b"/..");
            VirtualPath::from_decoded(bytes)
                .map(|path| Self(path, content))
                .map_err(|code| code.text())
        })
    }
}

/// Reads `90`, `1.5`, `2m`, `1h`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "a time is a positive number of seconds, or one with s, m, h or d".to_owned();
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 's')) => (text.get(..at), 1.0),
        Some((at, 'm')) => (text.get(..at), 60.0),
        Some((at, 'h')) => (text.get(..at), 3600.0),
        Some((at, 'd')) => (text.get(..at), 86_400.0),
        _ => (Some(text), 1.0),
    };
    let number: f64 = digits.unwrap_or_default().parse().map_err(|_| bad())?;
    let duration = Duration::try_from_secs_f64(number * unit).map_err(|_| bad())?;
    if duration.is_zero() {
        return Err(bad());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["chirp-client"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_belong_to_the_client_before_the_host_and_to_the_command_after_it() {
        let cli = parse("-a address -a unix -t 5 guest:99 ls -la /x").unwrap();
        assert_eq!(cli.methods, [Method::Address, Method::Unix]);
        assert_eq!(cli.timeout, Duration::from_secs(5));
        assert_eq!(cli.host.to_string(), "guest:99");
        let Some(Command::Ls(ls)) = cli.command else {
            panic!("ls was asked for");
        };
        assert!(ls.long && ls.all);
        assert!(parse("guest ls -t 5").is_err());
    }

    #[test]
    fn a_program_keeps_its_own_options() {
        let cli = parse("guest exec --cwd /w --env A=1 --env B= -- sh -c -- -x").unwrap();
        let Some(Command::Exec(exec)) = cli.command else {
            panic!("exec was asked for");
        };
        assert_eq!(exec.program, "sh");
        assert_eq!(exec.arguments, ["-c", "--", "-x"]);
        assert_eq!(exec.env.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "guest frob",
            "guest:0 ls",
            "-a kerberos guest ls",
            "-t 0 guest ls",
            "-t -1 guest ls",
            "guest put",
            "guest exec",
            "guest exec --env =x -- true",
            "guest exec --cmd-id a/b -- true",
            "guest setacl / me",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn times_have_the_references_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "s", "0", "x", "-1", "inf", "nan", "1e300", "5é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_command_has_a_help_with_examples() {
        fn check(command: &mut clap::Command) {
            let own = |command: &&mut clap::Command| command.get_name() != "help";
            for command in command.get_subcommands_mut().filter(own) {
                let help = command.render_long_help().to_string();
                assert!(help.contains("Example"), "{help}");
                check(command);
            }
        }
        check(&mut Cli::command());
    }
}
