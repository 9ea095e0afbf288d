//! The agent's settings: defaults, then the file, then the environment, then the command line
//! (`host-agent.md` part 2).

mod hypervisor;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use beacon::Credentials;
use beacon::broker::User;
use beacon::settings::{BrokerSettings, Settings, SettingsError, Side, users};

pub(crate) use hypervisor::HypervisorSettings;

/// STOMP's port.
const STOMP_PORT: u16 = beacon::net::BROKER_PORT;

/// The agent's settings, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// The broker that the agent listens to, where the settings name one.
    pub(crate) broker: Option<BrokerAddress>,
    /// Login and passcode for the broker.
    pub(crate) credentials: Option<Credentials>,
    /// The `host` header of CONNECT; `None`: the beacon crate's rule.
    pub(crate) vhost: Option<String>,
    /// The topic of presence messages.
    pub(crate) destination: String,
    /// Where the embedded broker listens; `None`: there is none.
    pub(crate) embedded: Option<SocketAddr>,
    /// Who may connect to the embedded broker; nobody listed: everybody, by address.
    pub(crate) users: Vec<User>,
    /// `Host.vm_gc_grace`: how long a guest may be silent before it is late.
    pub(crate) grace: Duration,
    /// Whether a guest that no hypervisor knows is taken on.
    pub(crate) accept_unknown: bool,
    /// `Host.api_socket`, where it is set.
    pub(crate) api_socket: Option<PathBuf>,
    /// `Host.guests_file`: where the guests are written down.
    pub(crate) guests_file: GuestsFile,
    /// Hypervisor and watchdog.
    pub(crate) hypervisor: HypervisorSettings,
    /// What is odd about the settings without being wrong.
    pub(crate) warnings: Vec<String>,
}

/// Where the guests are written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuestsFile {
    /// Beside the API's socket.
    Beside,
    /// In this file.
    At(PathBuf),
    /// Nowhere.
    None,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerAddress {
    /// Name or address.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

impl Config {
    /// Reads the file, if one is named, and the process's environment.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no INI file, or a value is not of its kind.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        Self::read(&Settings::load(Side::Host, file)?)
    }

    /// Makes the agent's settings of the file's and the environment's values.
    fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let mut warnings = settings.warnings().to_vec();
        let hypervisor = HypervisorSettings::read(settings)?;
        let BrokerSettings {
            host,
            port,
            credentials,
            vhost,
            destination,
        } = BrokerSettings::read(settings)?;
        let broker = (host.is_some() || port.is_some()).then(|| BrokerAddress {
            host: host.unwrap_or_else(|| "localhost".to_owned()),
            port: port.unwrap_or(STOMP_PORT),
        });

        let section = embedded_section(settings);
        let embedded = if settings.flag(section, "enabled", true)? {
            let address = settings
                .parsed(section, "listen_addr", "an IP address of this machine")?
                .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let port = settings
                .number(section, "listen_port", 0, 65_535)?
                .unwrap_or(STOMP_PORT);
            Some(SocketAddr::new(address, port))
        } else {
            None
        };

        if hypervisor.is_none() && hypervisor.watchdog.is_some() {
            warnings.push(
                "Host.watchdog has no effect without a driver: set Hypervisor.hypervisor"
                    .to_owned(),
            );
        }
        Ok(Self {
            broker,
            credentials,
            vhost,
            destination,
            embedded,
            users: users(settings, section)?,
            grace: settings
                .seconds("Host", "vm_gc_grace")?
                .unwrap_or(Duration::from_secs(30)),
            // Without a hypervisor that names them, all guests are unknown ones.
            accept_unknown: settings.flag("Host", "accept_unknown_guests", hypervisor.is_none())?,
            api_socket: settings.text("Host", "api_socket")?.map(PathBuf::from),
            guests_file: match settings.text("Host", "guests_file")? {
                None => GuestsFile::Beside,
                Some(none) if none.eq_ignore_ascii_case("none") => GuestsFile::None,
                Some(path) if Path::new(&path).is_absolute() => GuestsFile::At(path.into()),
                Some(path) => {
                    return Err(SettingsError::value(
                        "Host.guests_file",
                        &path,
                        "neither an absolute path nor `none`",
                    ));
                }
            },
            hypervisor,
            warnings,
        })
    }

    /// Returns the broker that the agent listens to, as the settings alone tell it.
    ///
    /// `None`: the embedded one. Settings that name the embedded broker's own address (one file may serve
    /// both sides) mean the embedded one too.
    pub(crate) fn foreign_broker(&self) -> Option<BrokerAddress> {
        let Some(embedded) = self.embedded else {
            return Some(self.broker.clone().unwrap_or_else(|| BrokerAddress {
                host: "localhost".to_owned(),
                port: STOMP_PORT,
            }));
        };
        let broker = self.broker.as_ref()?;
        let address = match broker.host.as_str() {
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => host.parse().ok(),
        };
        let same = broker.port == embedded.port()
            && address.is_some_and(|a| {
                a == embedded.ip() || (embedded.ip().is_unspecified() && a.is_loopback())
            });
        (!same).then(|| broker.clone())
    }
}

/// Returns the section of the embedded broker: the original system called it `coilmq`.
fn embedded_section(settings: &Settings) -> &'static str {
    if !settings.has_section("embeddedbroker") && settings.has_section("coilmq") {
        "coilmq"
    } else {
        "EmbeddedBroker"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, SettingsError> {
        Config::read(&Settings::from_text(Side::Host, None, text, |_| None)?)
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = config("").unwrap();
        assert_eq!(config.broker, None);
        assert_eq!(config.foreign_broker(), None);
        assert_eq!(config.embedded, Some("127.0.0.1:61613".parse().unwrap()));
        assert_eq!(config.grace, Duration::from_secs(30));
        assert_eq!(config.destination, "/topic/connections");
        assert!(config.accept_unknown);
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn both_names_of_the_embedded_broker_count() {
        for name in ["EmbeddedBroker", "embeddedbroker", "coilmq", "CoilMQ"] {
            let config =
                config(&format!("[{name}]\nlisten_addr=127.0.0.9\nlisten_port=0\n")).unwrap();
            assert_eq!(
                config.embedded,
                Some("127.0.0.9:0".parse().unwrap()),
                "{name}"
            );
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        }
        assert_eq!(config("[coilmq]\nenabled = no\n").unwrap().embedded, None);
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let text = "[Host]\nvm_gc_grace = 5\n[Broker]\nhost = a\n";
        let environment =
            |name: &str| (name == "HOST_AGENT_HOST_VM_GC_GRACE").then(|| "2.5".to_owned());
        let settings = Settings::from_text(Side::Host, None, text, environment).unwrap();
        let config = Config::read(&settings).unwrap();
        assert_eq!(config.grace, Duration::from_millis(2500));
        assert_eq!(config.broker.unwrap().host, "a");
    }

    #[test]
    fn unknown_keys_are_warned_about_and_never_fatal() {
        let config =
            config("[Brokr]\nhost=x\n[Broker]\nhosst=x\n[VM]\nname=a\n[Host]\nxmlrpc_port=1\n")
                .unwrap();
        assert_eq!(config.warnings.len(), 3, "{:?}", config.warnings);
        for (warning, word) in config.warnings.iter().zip(["hosst", "host", "xmlrpc_port"]) {
            assert!(warning.contains(word), "{warning}");
        }
    }

    #[test]
    fn wrong_values_name_the_key_and_what_is_wanted() {
        for (text, key) in [
            ("[Broker]\nport = 0\n", "Broker.port"),
            ("[Broker]\nport = 65536\n", "Broker.port"),
            ("[Broker]\ntls = yes\n", "Broker.tls"),
            (
                "[EmbeddedBroker]\nlisten_addr = nowhere\n",
                "EmbeddedBroker.listen_addr",
            ),
            (
                "[EmbeddedBroker]\nenabled = perhaps\n",
                "EmbeddedBroker.enabled",
            ),
            ("[Host]\nvm_gc_grace = -1\n", "Host.vm_gc_grace"),
            ("[Host]\nvm_gc_grace = NaN\n", "Host.vm_gc_grace"),
            ("[Host]\nvm_gc_grace = 1e300\n", "Host.vm_gc_grace"),
            ("[Broker]\nhost = %(nothing)s\n", "Broker.host"),
        ] {
            let message = config(text).unwrap_err().to_string();
            assert!(message.contains(key), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_shared_file_that_names_the_embedded_broker_means_it() {
        let shared = "[Broker]\nhost=192.168.56.1\n[EmbeddedBroker]\nlisten_addr=192.168.56.1\n";
        assert_eq!(config(shared).unwrap().foreign_broker(), None);
        assert_eq!(
            config("[Broker]\nhost=localhost\n")
                .unwrap()
                .foreign_broker(),
            None
        );
        assert_eq!(
            config("[Broker]\nhost=rabbit\n")
                .unwrap()
                .foreign_broker()
                .unwrap()
                .host,
            "rabbit"
        );
        let other_port = config("[Broker]\nport=5\n")
            .unwrap()
            .foreign_broker()
            .unwrap();
        assert_eq!(
            (other_port.host.as_str(), other_port.port),
            ("localhost", 5)
        );
        let none = config("[EmbeddedBroker]\nenabled=no\n")
            .unwrap()
            .foreign_broker()
            .unwrap();
        assert_eq!((none.host.as_str(), none.port), ("localhost", 61613));
    }

    #[test]
    fn a_passcode_is_not_printed() {
        let config = config("[Broker]\nusername=u\npassword=secret\n").unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}
