//! The agent's settings: defaults, then the file, then the environment, then the command line
//! (`host-agent.md` part 2).

mod ini;
mod keys;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ini::{DEFAULT_SECTION, IniFile};
use keys::Known;

use crate::error::ConfigError;

/// STOMP's port.
const STOMP_PORT: u16 = 61613;

/// Bytes of a settings file at most.
const FILE_MAX: u64 = 1024 * 1024;

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
    /// `Host.vm_gc_grace`: how long a guest may be silent before it is late.
    pub(crate) grace: Duration,
    /// Whether a guest that no hypervisor knows is taken on.
    pub(crate) accept_unknown: bool,
    /// `Host.api_socket`, where it is set.
    pub(crate) api_socket: Option<PathBuf>,
    /// `Host.guests_file`: where the guests are written down.
    pub(crate) guests_file: GuestsFile,
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

/// Login and passcode of a broker's user. Not printed by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Login.
    pub(crate) username: String,
    /// Passcode.
    pub(crate) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the file, if one is named, and the process's environment.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no INI file, or a value is not of its kind.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => read_bounded(path)?,
            None => String::new(),
        };
        Self::from_text(file, &text, |name| std::env::var(name).ok())
    }

    /// Makes the settings from a file's text and the environment that `environment` looks up.
    ///
    /// # Errors
    ///
    /// The text is no INI file, or a value is not of its kind.
    pub(crate) fn from_text(
        file: Option<&Path>,
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let ini = IniFile::parse(text).map_err(|reason| ConfigError::Syntax {
            file: file.map(Path::to_owned).unwrap_or_default(),
            reason,
        })?;
        let settings = Settings {
            ini: &ini,
            environment: &environment,
        };
        let mut warnings = odd_keys(&ini);

        let broker_host = settings.text("Broker", "host")?;
        let broker_port = settings.number("Broker", "port", 1, 65_535)?;
        let broker = match (broker_host, broker_port) {
            (None, None) => None,
            (host, port) => Some(BrokerAddress {
                host: host.unwrap_or_else(|| "localhost".to_owned()),
                port: port.unwrap_or(STOMP_PORT),
            }),
        };
        if settings.flag("Broker", "tls", false)? {
            return Err(ConfigError::value(
                "Broker.tls",
                "yes",
                "TLS to the broker is not in this version; use a broker on loopback or a host-only network",
            ));
        }
        let credentials = settings.text("Broker", "username")?.map(|username| {
            Ok::<_, ConfigError>(Credentials {
                username,
                password: settings.text("Broker", "password")?.unwrap_or_default(),
            })
        });

        let section = settings.embedded_section();
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

        let hypervisor = settings
            .text("Hypervisor", "hypervisor")?
            .unwrap_or_else(|| "none".to_owned());
        if !hypervisor.eq_ignore_ascii_case("none") {
            warnings.push(format!(
                "Hypervisor.hypervisor = {hypervisor} has no effect in this version"
            ));
        }
        Ok(Self {
            broker,
            credentials: credentials.transpose()?,
            vhost: settings.text("Broker", "vhost")?,
            destination: settings
                .text("Broker", "destination")?
                .unwrap_or_else(|| beacon::message::DESTINATION.to_owned()),
            embedded,
            grace: settings.seconds("Host", "vm_gc_grace", 30.0)?,
            // Without a hypervisor that names them, all guests are unknown ones.
            accept_unknown: settings.flag("Host", "accept_unknown_guests", true)?,
            api_socket: settings.text("Host", "api_socket")?.map(PathBuf::from),
            guests_file: match settings.text("Host", "guests_file")? {
                None => GuestsFile::Beside,
                Some(none) if none.eq_ignore_ascii_case("none") => GuestsFile::None,
                Some(path) if Path::new(&path).is_absolute() => GuestsFile::At(path.into()),
                Some(path) => {
                    return Err(ConfigError::value(
                        "Host.guests_file",
                        &path,
                        "neither an absolute path nor `none`",
                    ));
                }
            },
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

/// Reads a settings file of a sane size.
fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;

    let unreadable = |source| ConfigError::Unreadable {
        file: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let syntax = |reason: String| ConfigError::Syntax {
        file: path.to_owned(),
        reason,
    };
    if bytes.len() as u64 > FILE_MAX {
        return Err(syntax(format!("longer than {FILE_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| syntax("not UTF-8".to_owned()))
}

/// Names the keys of the file that are unknown or without effect, for the log.
fn odd_keys(ini: &IniFile) -> Vec<String> {
    ini.keys()
        .filter_map(|(section, key)| {
            if section == DEFAULT_SECTION {
                // A key of [DEFAULT] may also be there only to be named by %(key)s.
                return (!keys::anywhere(key))
                    .then(|| format!("[DEFAULT] {key} is no setting by itself"));
            }
            let name = if section == "coilmq" {
                "embeddedbroker"
            } else {
                section
            };
            match keys::lookup(name, key) {
                Some(Known::Used | Known::Guest) => None,
                Some(Known::Later) => {
                    Some(format!("[{section}] {key} has no effect in this version"))
                }
                None => Some(format!(
                    "[{section}] {key} is unknown and ignored; is it misspelt?"
                )),
            }
        })
        .collect()
}

/// The values of one file and environment, by kind.
struct Settings<'a, E> {
    ini: &'a IniFile,
    environment: &'a E,
}

impl<E: Fn(&str) -> Option<String>> Settings<'_, E> {
    /// Returns the section of the embedded broker: the original system called it `coilmq`.
    fn embedded_section(&self) -> &'static str {
        if !self.ini.has_section("embeddedbroker") && self.ini.has_section("coilmq") {
            "coilmq"
        } else {
            "EmbeddedBroker"
        }
    }

    /// Returns a value that is there and not blank: the environment's, else the file's.
    fn text(&self, section: &str, key: &str) -> Result<Option<String>, ConfigError> {
        let variable = format!("HOST_AGENT_{section}_{key}").to_uppercase();
        let value = match (self.environment)(&variable) {
            Some(value) => Some(value),
            None => self
                .ini
                .get(&section.to_lowercase(), key)
                .map_err(|reason| ConfigError::Value {
                    key: format!("{section}.{key}"),
                    value: String::new(),
                    reason,
                })?,
        };
        Ok(value
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty()))
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        section: &str,
        key: &str,
        want: &str,
    ) -> Result<Option<T>, ConfigError> {
        self.text(section, key)?
            .map(|value| {
                value.parse().map_err(|_| {
                    ConfigError::value(&format!("{section}.{key}"), &value, &format!("not {want}"))
                })
            })
            .transpose()
    }

    fn number(
        &self,
        section: &str,
        key: &str,
        from: u16,
        to: u16,
    ) -> Result<Option<u16>, ConfigError> {
        let want = format!("a number from {from} to {to}");
        match self.parsed::<u16>(section, key, &want)? {
            Some(number) if !(from..=to).contains(&number) => Err(ConfigError::value(
                &format!("{section}.{key}"),
                &number.to_string(),
                &format!("not {want}"),
            )),
            number => Ok(number),
        }
    }

    fn seconds(&self, section: &str, key: &str, default: f64) -> Result<Duration, ConfigError> {
        let want = "a number of seconds from 0.1 to 86400";
        let seconds = self.parsed::<f64>(section, key, want)?.unwrap_or(default);
        if !(0.1..=86_400.0).contains(&seconds) {
            return Err(ConfigError::value(
                &format!("{section}.{key}"),
                &seconds.to_string(),
                &format!("not {want}"),
            ));
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    fn flag(&self, section: &str, key: &str, default: bool) -> Result<bool, ConfigError> {
        let Some(value) = self.text(section, key)? else {
            return Ok(default);
        };
        match value.to_ascii_lowercase().as_str() {
            "1" | "yes" | "true" | "on" => Ok(true),
            "0" | "no" | "false" | "off" => Ok(false),
            _ => Err(ConfigError::value(
                &format!("{section}.{key}"),
                &value,
                "not one of yes, no, true, false, on, off, 1, 0",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, ConfigError> {
        Config::from_text(None, text, |_| None)
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
        let config = Config::from_text(
            None,
            "[Host]\nvm_gc_grace = 5\n[Broker]\nhost = a\n",
            |name| (name == "HOST_AGENT_HOST_VM_GC_GRACE").then(|| "2.5".to_owned()),
        )
        .unwrap();
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
