//! The settings behind the command line: the file of `--config` and the environment (`host-agent.md` part 2).
//!
//! The command line overrides the environment, which overrides the file. What neither of them says, the kernel's
//! command line or the machine may: the broker, the announced address (`stomp-presence.md` part 3).

use std::path::PathBuf;
use std::time::Duration;

use beacon::settings::{BrokerSettings, Settings as Source, SettingsError, Side};
use beacon::{HostPort, LinkConfig};

use crate::config::{Args, parse_root};

/// The time between announcements where nobody says another.
const BEACON_INTERVAL: Duration = Duration::from_secs(10);

/// What command line, environment and file together say.
#[derive(Debug)]
pub struct Settings {
    /// The directory to serve.
    pub root: PathBuf,
    /// The name to announce and to have in the catalog; the host name where there is none.
    pub name: Option<String>,
    /// How the server is announced, if it is.
    pub presence: Option<Presence>,
    /// What is odd without being wrong, for the log.
    pub warnings: Vec<String>,
}

/// How a server is announced.
#[derive(Debug)]
pub struct Presence {
    /// The broker; where there is none, the kernel's command line or the default gateway.
    pub broker: Option<HostPort>,
    /// The broker's port where its place names none.
    pub broker_port: u16,
    /// How to introduce oneself to it.
    pub link: LinkConfig,
    /// The topic of presence messages.
    pub destination: String,
    /// The time between announcements.
    pub interval: Duration,
    /// What to announce instead of the detected address.
    pub announce_as: Option<HostPort>,
    /// The interface whose MAC address and first address to announce.
    pub interface: Option<String>,
}

impl Settings {
    /// Reads the file, if one is named, and the environment, and puts the command line over both.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a value in file or environment is not of its kind.
    pub fn of(args: &Args) -> Result<Self, SettingsError> {
        Self::over(args, &Source::load(Side::Guest, args.config.as_deref())?)
    }

    fn over(args: &Args, source: &Source) -> Result<Self, SettingsError> {
        let mut warnings = source.warnings().to_vec();
        let broker = BrokerSettings::read(source)?;
        let directory = directory(source)?;
        let presence = Presence {
            broker: match &args.announce {
                Some(Some(named)) => Some(named.clone()),
                _ => broker.host.map(|host| HostPort { host, port: None }),
            },
            broker_port: broker.port.unwrap_or(beacon::net::BROKER_PORT),
            link: LinkConfig {
                credentials: broker.credentials,
                vhost: broker.vhost,
                ..LinkConfig::default()
            },
            destination: broker.destination,
            interval: match args.beacon_interval {
                Some(interval) => interval,
                None => source
                    .seconds("VM", "beacon_interval")?
                    .unwrap_or(BEACON_INTERVAL),
            },
            announce_as: match &args.announce_as {
                Some(address) => Some(address.clone()),
                None => source.parsed("VM", "advertise", "ADDR or ADDR:PORT")?,
            },
            interface: source.text("VM", "network_interface")?,
        };
        if args.announce.is_none() && presence.broker.is_some() {
            warnings
                .push("Broker.host is set, and nothing is announced without --announce".to_owned());
        }
        Ok(Self {
            root: args
                .root
                .clone()
                .or(directory)
                .unwrap_or_else(|| ".".into()),
            name: match &args.name {
                Some(name) => Some(name.clone()),
                None => source.text("VM", "name")?,
            },
            presence: args.announce.is_some().then_some(presence),
            warnings,
        })
    }
}

fn directory(source: &Source) -> Result<Option<PathBuf>, SettingsError> {
    let (section, key) = ("VM", "dir_to_serve");
    source
        .text(section, key)?
        .map(|value| {
            parse_root(&value).map_err(|reason| {
                SettingsError::value(&format!("{section}.{key}"), &value, &reason)
            })
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const FILE: &str = "[Broker]\nhost = 10.0.0.1\nport = 61700\nusername = vm\npassword = p\nvhost = /x\n\
        destination = /topic/other\n[VM]\nnetwork_interface = eth1\nbeacon_interval = 2.5\n\
        dir_to_serve = file:///srv/jobs\nadvertise = 192.168.56.1:9100\nname = worker-7\n";

    fn settings(text: &str, args: &[&str]) -> Result<Settings, SettingsError> {
        let args = Args::try_parse_from([&["chirp-server"], args].concat()).unwrap();
        let source = Source::from_text(Side::Guest, None, text, |_| None)?;
        Settings::over(&args, &source)
    }

    #[test]
    fn the_file_says_all_that_the_command_line_does_not() {
        let settings = settings(FILE, &["--announce"]).unwrap();
        assert_eq!(settings.root, PathBuf::from("/srv/jobs"));
        assert_eq!(settings.name.as_deref(), Some("worker-7"));
        assert!(settings.warnings.is_empty(), "{settings:?}");
        let presence = settings.presence.unwrap();
        assert_eq!(presence.broker.unwrap().host, "10.0.0.1");
        assert_eq!(presence.broker_port, 61700);
        let credentials = presence.link.credentials.unwrap();
        assert_eq!((&*credentials.login, &*credentials.passcode), ("vm", "p"));
        assert_eq!(presence.link.vhost.as_deref(), Some("/x"));
        assert_eq!(presence.destination, "/topic/other");
        assert_eq!(presence.interval, Duration::from_millis(2500));
        assert_eq!(
            presence.announce_as,
            Some(HostPort::new("192.168.56.1", 9100))
        );
        assert_eq!(presence.interface.as_deref(), Some("eth1"));
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let args = [
            "--announce=10.0.0.2",
            "-r",
            "/other",
            "--name",
            "n",
            "--announce-as",
            "10.0.0.3",
            "--beacon-interval",
            "7",
        ];
        let settings = settings(FILE, &args).unwrap();
        assert_eq!(settings.root, PathBuf::from("/other"));
        assert_eq!(settings.name.as_deref(), Some("n"));
        let presence = settings.presence.unwrap();
        assert_eq!(presence.broker.unwrap().to_string(), "10.0.0.2");
        assert_eq!(presence.interval, Duration::from_secs(7));
        assert_eq!(presence.announce_as.unwrap().to_string(), "10.0.0.3");
    }

    #[test]
    fn without_either_all_is_as_it_always_was() {
        let settings = settings("", &["--announce"]).unwrap();
        assert_eq!(settings.root, PathBuf::from("."));
        let presence = settings.presence.unwrap();
        assert!(presence.broker.is_none() && presence.link.credentials.is_none());
        assert_eq!(
            (presence.broker_port, presence.interval),
            (61613, Duration::from_secs(10))
        );
    }

    #[test]
    fn a_broker_without_announce_and_wrong_values_are_told() {
        let quiet = settings(FILE, &[]).unwrap();
        assert!(quiet.presence.is_none());
        assert!(quiet.warnings[0].contains("--announce"), "{quiet:?}");
        for (text, key) in [
            ("[VM]\nbeacon_interval = 0\n", "VM.beacon_interval"),
            ("[VM]\nadvertise = a b\n", "VM.advertise"),
            ("[VM]\ndir_to_serve = hdfs://a\n", "VM.dir_to_serve"),
            ("[Broker]\ntls = yes\n", "Broker.tls"),
        ] {
            let error = settings(text, &[]).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
