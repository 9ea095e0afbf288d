//! The `[Broker]` section, which both sides have.

use super::{Settings, SettingsError};
use crate::link::Credentials;
use crate::message::DESTINATION;

/// Where the broker is and how to introduce oneself to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSettings {
    /// `Broker.host`: name or address, where one is set.
    pub host: Option<String>,
    /// `Broker.port`, where it is set.
    pub port: Option<u16>,
    /// `Broker.username` and `Broker.password`, where a user name is set.
    pub credentials: Option<Credentials>,
    /// `Broker.vhost`: the `host` header.
    pub vhost: Option<String>,
    /// `Broker.destination`: the topic of presence messages.
    pub destination: String,
}

impl BrokerSettings {
    /// Reads the section.
    ///
    /// # Errors
    ///
    /// A value is not of its kind, or TLS is asked for.
    pub fn read(settings: &Settings) -> Result<Self, SettingsError> {
        if settings.flag("Broker", "tls", false)? {
            return Err(SettingsError::value(
                "Broker.tls",
                "yes",
                "TLS to the broker is not in this version; use a broker on loopback or a host-only network",
            ));
        }
        let credentials = match settings.text("Broker", "username")? {
            None => None,
            Some(login) => Some(Credentials {
                login,
                passcode: settings.text("Broker", "password")?.unwrap_or_default(),
            }),
        };
        Ok(Self {
            host: settings.text("Broker", "host")?,
            port: settings.number("Broker", "port", 1, 65_535)?,
            credentials,
            vhost: settings.text("Broker", "vhost")?,
            destination: settings
                .text("Broker", "destination")?
                .unwrap_or_else(|| DESTINATION.to_owned()),
        })
    }
}
