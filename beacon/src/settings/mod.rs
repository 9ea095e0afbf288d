//! Settings of both sides: an INI file, which both may share, and the environment over it
//! (`host-agent.md` part 2).

mod broker;
mod ini;
mod keys;
mod users;

pub use broker::BrokerSettings;
pub use users::users;

use ini::IniFile;
use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Bytes of a settings file at most.
const FILE_MAX: u64 = 1024 * 1024;

/// Whose settings are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The agent's: `HOST_AGENT_SECTION_KEY` in the environment.
    Host,
    /// The guest's server's: `CHIRP_SERVER_SECTION_KEY`.
    Guest,
}

impl Side {
    fn prefix(self) -> &'static str {
        match self {
            Self::Host => "HOST_AGENT",
            Self::Guest => "CHIRP_SERVER",
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no INI file.
    #[error("the settings file {} is not usable: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The parser's complaint.
        reason: String,
    },
    /// A value is not of its kind.
    #[error("setting {key} = {value:?}: {reason}")]
    Value {
        /// Section and key.
        key: String,
        /// What it says.
        value: String,
        /// What is wrong.
        reason: String,
    },
}

impl SettingsError {
    /// Returns the error of one value, which must not be a secret.
    #[must_use]
    pub fn value(key: &str, value: &str, reason: &str) -> Self {
        Self::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// Looks a variable of the environment up.
type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The values of one file and the environment.
pub struct Settings {
    ini: IniFile,
    side: Side,
    environment: Environment,
    warnings: Vec<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the values: there may be passcodes among them.
        f.debug_struct("Settings")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the file, if one is named, with the process's environment over it.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is no INI file.
    pub fn load(side: Side, file: Option<&Path>) -> Result<Self, SettingsError> {
        let (text, open) = match file {
            Some(path) => read_bounded(path)?,
            None => (String::new(), false),
        };
        let environment = |name: &str| std::env::var(name).ok();
        let mut settings = Self::from_text(side, file, &text, environment)?;
        if let Some(path) = file
            && open
            && settings.ini.keys().any(is_secret)
        {
            settings.warnings.push(format!(
                "the settings file {} holds a passcode and others may read it; close it: chmod 600",
                path.display()
            ));
        }
        Ok(settings)
    }

    /// Makes the settings from a file's text and the environment that `environment` looks up.
    ///
    /// # Errors
    ///
    /// The text is no INI file.
    pub fn from_text(
        side: Side,
        file: Option<&Path>,
        text: &str,
        environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, SettingsError> {
        let ini = IniFile::parse(text).map_err(|reason| SettingsError::Syntax {
            file: file.map(Path::to_owned).unwrap_or_default(),
            reason,
        })?;
        Ok(Self {
            warnings: keys::odd(&ini, side),
            ini,
            side,
            environment: Box::new(environment),
        })
    }

    /// Returns what is odd about the file without being wrong: keys that nobody knows, and secrets that others
    /// may read.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns whether the file has that section; its name in lower case.
    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
        self.ini.has_section(section)
    }

    /// Returns a value that is there and not blank: the environment's, else the file's.
    ///
    /// # Errors
    ///
    /// A `%(name)s` in the file leads nowhere.
    pub fn text(&self, section: &str, key: &str) -> Result<Option<String>, SettingsError> {
        let variable = format!("{}_{section}_{key}", self.side.prefix()).to_uppercase();
        let value = match (self.environment)(&variable) {
            Some(value) => Some(value),
            None => self
                .ini
                .get(&section.to_lowercase(), key)
                .map_err(|reason| SettingsError::value(&format!("{section}.{key}"), "", &reason))?,
        };
        Ok(value
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty()))
    }

    /// Returns a value of a kind, which `want` names for the error.
    ///
    /// # Errors
    ///
    /// It is not of that kind.
    pub fn parsed<T: FromStr>(
        &self,
        section: &str,
        key: &str,
        want: &str,
    ) -> Result<Option<T>, SettingsError> {
        self.text(section, key)?
            .map(|value| {
                value.parse().map_err(|_| {
                    let reason = format!("not {want}");
                    SettingsError::value(&format!("{section}.{key}"), &value, &reason)
                })
            })
            .transpose()
    }

    /// Returns a whole number between two others.
    ///
    /// # Errors
    ///
    /// It is none, or outside them.
    pub fn number(
        &self,
        section: &str,
        key: &str,
        from: u16,
        to: u16,
    ) -> Result<Option<u16>, SettingsError> {
        let want = format!("a number from {from} to {to}");
        match self.parsed::<u16>(section, key, &want)? {
            Some(number) if !(from..=to).contains(&number) => Err(SettingsError::value(
                &format!("{section}.{key}"),
                &number.to_string(),
                &format!("not {want}"),
            )),
            number => Ok(number),
        }
    }

    /// Returns a number of seconds from 0.1 to a day.
    ///
    /// # Errors
    ///
    /// It is none, or outside them.
    pub fn seconds(&self, section: &str, key: &str) -> Result<Option<Duration>, SettingsError> {
        let want = "a number of seconds from 0.1 to 86400";
        match self.parsed::<f64>(section, key, want)? {
            Some(seconds) if !(0.1..=86_400.0).contains(&seconds) => Err(SettingsError::value(
                &format!("{section}.{key}"),
                &seconds.to_string(),
                &format!("not {want}"),
            )),
            seconds => Ok(seconds.map(Duration::from_secs_f64)),
        }
    }

    /// Returns a yes or no.
    ///
    /// # Errors
    ///
    /// It is none of the words for these.
    pub fn flag(&self, section: &str, key: &str, default: bool) -> Result<bool, SettingsError> {
        let Some(value) = self.text(section, key)? else {
            return Ok(default);
        };
        match value.to_ascii_lowercase().as_str() {
            "1" | "yes" | "true" | "on" => Ok(true),
            "0" | "no" | "false" | "off" => Ok(false),
            _ => Err(SettingsError::value(
                &format!("{section}.{key}"),
                &value,
                "not one of yes, no, true, false, on, off, 1, 0",
            )),
        }
    }
}

/// Returns whether a key's value is nobody else's affair.
fn is_secret((section, key): (&str, &str)) -> bool {
    matches!(
        (section, key),
        ("broker", "password") | ("embeddedbroker" | "coilmq", "users")
    )
}

/// Reads a settings file of a sane size, and whether others than its owner may read it.
fn read_bounded(path: &Path) -> Result<(String, bool), SettingsError> {
    let unreadable = |source| SettingsError::Unreadable {
        file: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let open = file.metadata().map_err(unreadable)?.mode() & 0o077 != 0;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let syntax = |reason: String| SettingsError::Syntax {
        file: path.to_owned(),
        reason,
    };
    if bytes.len() as u64 > FILE_MAX {
        return Err(syntax(format!("longer than {FILE_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| syntax("not UTF-8".to_owned()))?;
    Ok((text, open))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(text: &str) -> Settings {
        Settings::from_text(Side::Guest, None, text, |name| {
            (name == "CHIRP_SERVER_VM_NAME").then(|| "from the environment".to_owned())
        })
        .unwrap()
    }

    #[test]
    fn the_environment_of_each_side_overrides_the_file() {
        let text = "[VM]\nname = from the file\n";
        let name = |settings: Settings| settings.text("VM", "name").unwrap().unwrap();
        assert_eq!(name(guest(text)), "from the environment");
        let host = Settings::from_text(Side::Host, None, text, |_| None).unwrap();
        assert_eq!(name(host), "from the file");
    }

    #[test]
    fn keys_of_the_other_side_are_known_and_misspelt_ones_are_not() {
        let text = "[Host]\nvm_gc_grace=1\nfile_roots=x\n[VM]\nnmae=a\n[Borker]\nhost=a\n\
                    [DEFAULT]\nnet=1\nhost=b\n";
        let warnings = guest(text).warnings().join("\n");
        for word in ["[vm] nmae", "[borker] host", "[DEFAULT] net"] {
            assert!(warnings.contains(word), "{word}: {warnings}");
        }
        assert_eq!(warnings.lines().count(), 3, "{warnings}");
        // Only who would read it is told that it does nothing yet.
        let host = Settings::from_text(Side::Host, None, text, |_| None).unwrap();
        assert_eq!(host.warnings().len(), 4, "{:?}", host.warnings());
    }

    #[test]
    fn a_passcode_that_others_may_read_is_warned_of_and_never_shown() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.ini");
        std::fs::write(&path, "[Broker]\nusername=u\npassword=top%%secret\n").unwrap();
        let load = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            Settings::load(Side::Guest, Some(&path)).unwrap()
        };
        let open = load(0o640);
        assert!(open.warnings()[0].contains("chmod 600"), "{open:?}");
        let closed = load(0o600);
        assert!(closed.warnings().is_empty());
        let broker = BrokerSettings::read(&closed).unwrap();
        assert_eq!(broker.credentials.as_ref().unwrap().passcode, "top%secret");
        assert!(!format!("{broker:?} {closed:?}").contains("secret"));
        let wrong = guest("[Broker]\nusername=u\npassword=top%secret\n");
        let error = BrokerSettings::read(&wrong).unwrap_err().to_string();
        assert!(
            error.contains("Broker.password") && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_cannot_be_had_is_named() {
        let error = Settings::load(Side::Guest, Some(Path::new("/nowhere/x.ini"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere/x.ini"), "{error}");
    }
}
