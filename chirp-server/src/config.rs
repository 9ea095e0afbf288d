//! The command line, named and behaving as the reference's where it has the option
//! (`chirp-protocol.md`, part 12.2).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use beacon::HostPort;
use clap::Parser;

use crate::exec::ExecOptions;
use crate::listener::SocketMode;
use crate::third_party::ThirdParty;

/// Serves one directory over the Chirp protocol, to the subjects that its ACLs name, and with
/// `--exec` runs programs there.
#[derive(Debug, Parser)]
#[command(
    name = "chirp-server",
    version,
    disable_version_flag = true,
    after_help = EXAMPLES,
    max_term_width = 100,
    // As getopt_long has it: the last of an option counts, and a long one may be cut short.
    args_override_self = true,
    infer_long_args = true
)]
pub struct Args {
    /// The directory to serve: DIR, file://DIR or local://DIR. A missing last component is created
    /// [default: VM.dir_to_serve of --config, else the working directory].
    #[arg(short = 'r', long = "root", value_name = "DIR", value_parser = parse_root)]
    pub root: Option<PathBuf>,

    /// Listen on this port; 0 for any free one from TCP_LOW_PORT to TCP_HIGH_PORT in the environment.
    #[arg(short, long, value_name = "PORT", default_value_t = chirp_proto::limits::DEFAULT_PORT)]
    pub port: u16,

    /// Listen on this address only [default: all, IPv6 and IPv4].
    #[arg(short = 'I', long, value_name = "ADDR")]
    pub interface: Option<IpAddr>,

    /// Listen on this Unix socket as well. Its clients have no address: they log in by unix or ticket.
    #[arg(long, value_name = "PATH")]
    pub listen_unix: Option<PathBuf>,

    /// Who may connect to the socket of --listen-unix, as for chmod: 600 lets only the server's own
    /// account, 666 everybody who can reach it and log in.
    #[arg(
        long,
        value_name = "MODE",
        default_value = "600",
        requires = "listen_unix"
    )]
    pub listen_unix_mode: SocketMode,

    /// Choose a free port, as with -p 0, and write it to this file.
    #[arg(short = 'Z', long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,

    /// Enable this authentication method: unix, ticket, hostname or address. May be repeated; without it
    /// all are enabled. `kerberos` and `globus` are accepted here and answered "no".
    #[arg(short = 'a', long = "auth", value_name = "METHOD", value_parser = ["unix", "hostname", "address", "ticket", "kerberos", "globus"])]
    pub auth: Vec<String>,

    /// Directory in which unix logins prove themselves by making a file. Server and client must both
    /// see it.
    #[arg(short = 'c', long, value_name = "DIR", default_value = "/tmp")]
    pub challenge_dir: PathBuf,

    /// How long to wait for the file of a unix login.
    #[arg(short = 'z', long, value_name = "TIME", default_value = "5s", value_parser = parse_time)]
    pub unix_timeout: Duration,

    /// Look login names up in this file, in the format of passwd(5), instead of the system's database.
    #[arg(short = 'W', long, value_name = "FILE")]
    pub passwd: Option<PathBuf>,

    /// Let HTCondor's clients (htchirp) log in with the cookie in this file: one line, the cookie or
    /// `HOST PORT COOKIE`. They act as the server's own user, who alone (or root) may own the file and
    /// read it.
    #[arg(long, value_name = "FILE")]
    pub cookie_file: Option<PathBuf>,

    /// No ticket lives longer than this, whatever its owner asks for.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub max_ticket_duration: Option<Duration>,

    /// The ACL of directories that have none of their own. Without it nobody gets into those.
    #[arg(short = 'A', long = "default-acl", value_name = "FILE")]
    pub default_acl: Option<PathBuf>,

    /// A directory without an ACL has that of the nearest directory above it; only where there is none up
    /// to the root has it the one of -A.
    #[arg(long)]
    pub inherit_default_acl: bool,

    /// Where the members of groups in ACLs are: `group:NAME` is the file URL/NAME, one subject a line.
    /// file:// and http:// are understood.
    #[arg(short = 'G', long, value_name = "URL")]
    pub group_url: Option<String>,

    /// How long the members of a group are believed.
    #[arg(short = 'T', long, value_name = "TIME", default_value = "900s", value_parser = parse_time)]
    pub group_cache_exp: Duration,

    /// Leave this much space free in the file system: a number of bytes, or with K, M, G, T or P.
    #[arg(short = 'F', long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    pub free_space: u64,

    /// The space that the whole tree may take, and from which mkalloc gives out parts.
    #[arg(short = 'Q', long, value_name = "SIZE", value_parser = parse_size)]
    pub root_quota: Option<u64>,

    /// Run jobs (job_create and its like) for subjects that hold the x right.
    #[arg(long)]
    pub jobs: bool,

    /// Run at most this many jobs at once; 0 for no limit.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub job_concurrency: usize,

    /// End a job that runs longer than this.
    #[arg(long, value_name = "TIME", default_value = "3600s", value_parser = parse_time)]
    pub job_time_limit: Duration,

    /// Nobody may change anything, whatever the ACLs say.
    #[arg(short = 'R', long)]
    pub read_only: bool,

    /// This subject, for example unix:alice, may list every directory and change its ACL.
    #[arg(short = 'P', long, value_name = "SUBJECT")]
    pub superuser: Option<String>,

    /// Close a connection that made no request for this long.
    #[arg(short = 't', long = "idle-clients", value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    pub idle: Duration,

    /// Give up a transfer that moved less than 1 KiB a second over this long.
    #[arg(short = 's', long, value_name = "TIME", default_value = "120s", value_parser = parse_time)]
    pub stalled: Duration,

    /// Serve at most this many clients at once; further ones wait to be accepted. 0 for no limit but
    /// that of open files.
    #[arg(short = 'M', long, value_name = "MAX", default_value_t = 0)]
    pub max_clients: usize,

    /// Serve at most this many connections of one subject at once; further ones are told -9 after their
    /// login. 0 for no limit [default: with --exec half of --max-clients or of the open files that the
    /// system allows, else no limit].
    #[arg(long, value_name = "MAX")]
    pub clients_per_subject: Option<usize>,

    /// On SIGTERM, let running requests finish for this long.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub drain: Duration,

    /// Log in detail: `all`, or one of auth, catalog, chirp, dns, exec, local, tcp and beacon; `clear`
    /// undoes those before it. May be repeated. The reference's other flags are accepted and mean
    /// nothing here.
    #[arg(short, long, value_name = "FLAG")]
    pub debug: Vec<String>,

    /// Write the log to this file instead of standard error; `:stderr` and `:stdout` name those. SIGHUP
    /// opens the file anew.
    #[arg(short = 'o', long = "debug-file", value_name = "LOG")]
    pub log: Option<PathBuf>,

    /// Rename the log to LOG.old and begin a new one when it would become larger than this; 0 for never.
    #[arg(short = 'O', long, value_name = "SIZE", default_value = "10M", value_parser = parse_size)]
    pub debug_rotate_max: u64,

    /// Work in the background: the command ends when the server listens, or with its error.
    #[arg(short, long)]
    pub background: bool,

    /// With -b, write the server's process id to this file once it listens. It stays there.
    #[arg(short = 'B', long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Leave no core dump, whatever happens.
    #[arg(short = 'C', long)]
    pub no_core_dump: bool,

    /// Stop when the process that started this one ends.
    #[arg(short = 'E', long, conflicts_with = "background")]
    pub parent_death: bool,

    /// Accepted for old scripts: -E is told of the parent's end at once.
    #[arg(short = 'e', long, value_name = "TIME", hide = true)]
    pub parent_check: Option<String>,

    /// Wait this many microseconds before each request, to see what a slow network does to a client.
    #[arg(
        short = 'l',
        value_name = "USEC",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub latency: u64,

    /// Where the server keeps its own state, created if missing. With --exec it must lie outside DIR.
    /// [default: a directory of this tree's own below $XDG_STATE_HOME or ~/.local/state]
    #[arg(short = 'y', long = "transient", value_name = "DIR")]
    pub transient: Option<PathBuf>,

    /// Send status records to the catalog at `HOST[:PORT]`, by UDP, or by TCP to the next port with
    /// CATALOG_UPDATE_PROTOCOL=tcp in the environment. May be repeated or be a list with commas; `-` for
    /// none, which is the default.
    #[arg(short = 'u', long, value_name = "HOST", value_delimiter = ',')]
    pub advertise: Vec<String>,

    /// How often to send them.
    #[arg(short = 'U', long, value_name = "TIME", default_value = "5m", value_parser = parse_time)]
    pub catalog_update: Duration,

    /// The name to appear under in the catalog [default: that of --name, or the host name].
    #[arg(short = 'n', long, value_name = "NAME")]
    pub catalog_name: Option<String>,

    /// The owner to show in the catalog [default: the user that the server works as].
    #[arg(short = 'w', long, value_name = "NAME")]
    pub owner: Option<String>,

    /// The project to show in the catalog.
    #[arg(long, value_name = "NAME")]
    pub project_name: Option<String>,

    /// Work as this user. Required when started as root, which serves nothing itself.
    #[arg(short = 'i', long, value_name = "USER")]
    pub user: Option<String>,

    /// Run programs for subjects that hold the x right.
    #[arg(long)]
    pub exec: bool,

    /// Call other servers for clients (whoareyou, thirdput): `allow`, at ports from 1024 on; `deny`; or only the
    /// servers `HOST[:PORT],...`.
    #[arg(long, value_name = "allow|deny|LIST", default_value = "allow")]
    pub third_party: ThirdParty,

    /// Read settings from this INI file: VM.dir_to_serve, name, beacon_interval, advertise and network_interface,
    /// Broker.host, port, username, password, vhost and destination. Each can also be given as
    /// CHIRP_SERVER_SECTION_KEY in the environment, which overrides the file; options override both.
    #[arg(long, value_name = "FILE", env = "CHIRP_SERVER_CONFIG")]
    pub config: Option<PathBuf>,

    /// Announce this server to the host by STOMP. BROKER is `HOST[:PORT]`; without it the broker is
    /// Broker.host, else `chirp.broker=` of the kernel's command line, else looked for at the default
    /// gateway, port 61613.
    #[arg(long, value_name = "BROKER", num_args = 0..=1, require_equals = true)]
    pub announce: Option<Option<HostPort>>,

    /// The name to announce [default: VM.name of --config, else the host name].
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// The address to announce where the detected one cannot be reached, as behind port forwarding
    /// [default: VM.advertise of --config, else `chirp.announce=` of the kernel's command line].
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub announce_as: Option<HostPort>,

    /// Seconds between two announcements [default: VM.beacon_interval of --config, else 10].
    #[arg(long, value_name = "SECONDS", value_parser = parse_time)]
    pub beacon_interval: Option<Duration>,

    /// What the broker's host may do in a tree that has no ACL yet, when --announce is given.
    #[arg(long, value_name = "RIGHTS|none", default_value = "rwldax")]
    pub host_rights: String,

    /// How the programs of exec are confined: they read the system and the exported tree, and write
    /// below the request's path and in a temporary directory of their own. `best-effort` says in the
    /// log and in `features` what this kernel cannot enforce, `require` runs nothing then.
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Sandbox::BestEffort)]
    pub sandbox: Sandbox,

    /// Whether each program of exec gets user, pid and mount namespaces of its own, with which nothing can
    /// outlive it and its processes can be limited: `auto` where the system has them for this account, `on`
    /// starts no server without. --sandbox=off has none.
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Namespaces::Auto, requires = "exec")]
    pub sandbox_namespaces: Namespaces,

    /// What the sandbox lets programs reach instead of the default: a TOML file with `read` and `write`,
    /// lists of paths, and `network`, true or false.
    #[arg(long, value_name = "FILE", requires = "exec")]
    pub sandbox_policy: Option<PathBuf>,

    /// Who may run which programs: a TOML file with lines `"SUBJECT" = ["/path/of/program", ...]`, where
    /// SUBJECT may have wildcards as in an ACL. A subject in no line may run all.
    #[arg(long, value_name = "FILE", requires = "exec")]
    pub exec_allow: Option<PathBuf>,

    /// What bounds programs.
    #[command(flatten)]
    pub bounds: ExecOptions,

    /// Show the version.
    #[arg(short = 'v', short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,

    /// This is the process that -b started.
    #[arg(long, hide = true)]
    pub detached: bool,

    /// The reference overlooks what is no option; so that scripts go on working it is only warned of.
    #[arg(hide = true)]
    pub overlooked: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  chirp-server -r /srv/jobs                       serve a directory on port 9094
  chirp-server -r /srv/jobs --exec --announce     in a guest: tell the host, take files, run programs
  chirp-server -r /srv/jobs -I 127.0.0.1 -Z port  any free port on loopback, written to a file
  chirp-server -r /srv/jobs -i daemon             started as root, works as daemon

Exit status: 0 after SIGTERM, SIGINT or SIGQUIT, 1 when it could not start. SIGHUP changes nothing but
that the log is opened anew; after SIGUSR1 the server does what it does when its machine was restored from a
snapshot. Under the name chirp_server the exit status is that of cctools' server: 1
after help and version, 143 when it could not start.";

/// How programs are confined (`exec-extension.md`, \"What the server guarantees\").
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sandbox {
    /// Not at all.
    Off,
    /// As far as the kernel and this version can, and say what is missing.
    BestEffort,
    /// Fully, or run nothing.
    Require,
}

/// Whether programs get namespaces of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Namespaces {
    /// Where there are any.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

pub(crate) fn parse_root(text: &str) -> Result<PathBuf, String> {
    for prefix in ["file://", "local://"] {
        if let Some(path) = text.strip_prefix(prefix) {
            return Ok(path.into());
        }
    }
    match text.split_once("://") {
        Some((scheme, _)) => Err(format!(
            "storage of the kind {scheme}:// is not supported; give a local directory"
        )),
        None => Ok(text.into()),
    }
}

/// Reads a size as the reference does: an integer with an optional K, M, G, T or P, powers of 1024; a
/// trailing B changes nothing.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let shift = match number.chars().last().map(|unit| unit.to_ascii_uppercase()) {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some('P') => 50,
        _ => 0,
    };
    let number = match shift {
        0 => Some(number),
        _ => number.get(..number.len() - 1),
    };
    number
        .and_then(|number| number.parse::<u64>().ok())
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "give a number of bytes, with an optional K, M, G, T or P".to_owned())
}

/// Reads a time as the reference does: a number with an optional `s`, `m`, `h` or `d`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (text.get(..at), 1.0),
        Some((at, 'm')) => (text.get(..at), 60.0),
        Some((at, 'h')) => (text.get(..at), 3600.0),
        Some((at, 'd')) => (text.get(..at), 86_400.0),
        _ => (Some(text), 1.0),
    };
    number
        .and_then(|number| number.parse::<f64>().ok())
        .map(|number| number * unit)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(10 * 365 * 86_400))
        .ok_or_else(|| "give a positive number with an optional s, m, h or d".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_are_those_of_the_reference() {
        assert_eq!(parse_time("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_time("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "s", "-1", "x", "nan", "inf", "0", "1e300"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_reference() {
        assert_eq!(parse_size("90"), Ok(90));
        assert_eq!(parse_size("1MB"), Ok(1 << 20));
        assert_eq!(parse_size("2g"), Ok(2 << 30));
        for bad in ["", "B", "K", "-1", "1.5M", "99999P", "é"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_issue_s_command_line_is_accepted() {
        let args = Args::try_parse_from([
            "chirp-server",
            "-r",
            "file:///srv",
            "-p",
            "0",
            "-I",
            "127.0.0.1",
            "-Z",
            "p",
            "-a",
            "unix",
            "-a",
            "address",
            "-A",
            "acl",
            "-R",
            "-t",
            "30s",
            "-M",
            "5",
            "-d",
            "all",
            "-o",
            "log",
            "-P",
            "unix:root",
            "-y",
            "/var/tmp/t",
            "-u",
            "-",
            "--exec",
            "--announce=10.0.2.2:61613",
            "--name",
            "g1",
            "--announce-as",
            "1.2.3.4:5",
            "--beacon-interval",
            "2",
            "--sandbox=off",
            "-i",
            "nobody",
        ])
        .unwrap();
        assert_eq!(args.root, Some(PathBuf::from("/srv")));
        assert_eq!(args.announce, Some(Some(HostPort::new("10.0.2.2", 61613))));
        let plain = Args::try_parse_from(["chirp-server", "--announce"]).unwrap();
        assert_eq!(plain.announce, Some(None));
        assert!(Args::try_parse_from(["chirp-server", "-a", "telepathy"]).is_err());
        assert!(Args::try_parse_from(["chirp-server", "-r", "hdfs://x/y"]).is_err());
    }
}
