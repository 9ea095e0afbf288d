//! What can be done to a machine.

use std::path::PathBuf;
use std::time::Duration;

use beacon::MacId;
use serde::{Deserialize, Serialize};

use super::{Error, State};

/// Bytes of a name at most (`host-agent.md` part 13).
pub const NAME_MAX: usize = 255;

/// Something that is done to a machine (`host-agent.md` part 7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operation {
    /// Starts it: from its saved state where it is saved, else from the beginning.
    Start,
    /// Presses the power button: the guest shuts itself down, if it listens.
    Shutdown,
    /// Cuts the power.
    PowerOff,
    /// Presses the reset button.
    Reset,
    /// Stops its processors; its memory stays.
    Pause,
    /// Lets its processors go on.
    Resume,
    /// Keeps its memory on disk and turns it off.
    Save,
    /// Throws the saved state away; the machine is then off.
    Discard,
    /// Takes a snapshot, of a machine that runs with its memory.
    TakeSnapshot {
        /// The snapshot's name.
        snapshot: String,
        /// A word about it, or nothing.
        #[serde(default)]
        description: String,
    },
    /// Goes back to a snapshot. The machine may be off or saved after it.
    RestoreSnapshot {
        /// Its name or id; the latest where there is none.
        snapshot: Option<String>,
    },
    /// Deletes a snapshot; what was made from it stays.
    DeleteSnapshot {
        /// Its name or id.
        snapshot: String,
    },
    /// Makes the machine.
    Create(Blueprint),
    /// Removes the machine with the disks that [`Operation::Create`] made for it.
    Remove,
}

/// What a new machine is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blueprint {
    /// A disk image on this host. The machine gets a disk of its own from it; the image stays as it is.
    pub image: Option<PathBuf>,
    /// A kernel on this host, for hypervisors that boot one without a boot loader.
    #[serde(default)]
    pub kernel: Option<PathBuf>,
    /// The kernel's initial file system.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[serde(default)]
    pub append: Option<String>,
    /// Memory in MiB; the driver's default where there is none.
    #[serde(default)]
    pub memory_mib: Option<u32>,
    /// Processors; the driver's default where there is none.
    #[serde(default)]
    pub cpus: Option<u32>,
    /// The MAC address of the card that the guest announces; the driver chooses where there is none.
    #[serde(default)]
    pub mac: Option<MacId>,
}

impl Operation {
    /// Returns the operation's name, as logs, errors and `host-agent vm` have it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Shutdown => "stop",
            Self::PowerOff => "kill",
            Self::Reset => "reset",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Save => "save",
            Self::Discard => "discard",
            Self::TakeSnapshot { .. } => "snapshot",
            Self::RestoreSnapshot { .. } => "restore",
            Self::DeleteSnapshot { .. } => "delete-snapshot",
            Self::Create(_) => "create",
            Self::Remove => "remove",
        }
    }

    /// Returns the state to show while the operation goes on, where it is one of its own.
    #[must_use]
    pub fn meanwhile(&self) -> Option<State> {
        match self {
            Self::Start => Some(State::Starting),
            Self::PowerOff => Some(State::Stopping),
            Self::Save | Self::TakeSnapshot { .. } => Some(State::Saving),
            Self::RestoreSnapshot { .. } => Some(State::Restoring),
            Self::Discard | Self::DeleteSnapshot { .. } | Self::Remove => Some(State::Discarding),
            Self::Shutdown | Self::Reset | Self::Pause | Self::Resume | Self::Create(_) => None,
        }
    }

    /// Returns how long the hypervisor may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        match self {
            // A disk may be copied.
            Self::Create(_) => Duration::from_secs(1800),
            _ => Duration::from_secs(120),
        }
    }

    /// Looks at the names in it and at the machine's, which become arguments of programs and names of files.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`].
    pub fn check(&self, machine: &str) -> Result<(), Error> {
        check_name("machine", machine)?;
        match self {
            Self::TakeSnapshot { snapshot, .. } | Self::DeleteSnapshot { snapshot } => {
                check_name("snapshot", snapshot)
            }
            Self::RestoreSnapshot {
                snapshot: Some(snapshot),
            } => check_name("snapshot", snapshot),
            Self::Create(_) if machine.contains('/') => Err(Error::BadName {
                what: "machine",
                name: machine.to_owned(),
                why: "holds a slash, and a folder is named after it",
            }),
            _ => Ok(()),
        }
    }
}

/// Looks at a name that somebody gave.
///
/// # Errors
///
/// [`Error::BadName`]: it is empty, longer than [`NAME_MAX`], has control characters, or starts with a hyphen
/// as options do.
pub fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_MAX {
        "is longer than 255 bytes"
    } else if name.chars().any(char::is_control) {
        "has control characters"
    } else if name.starts_with('-') {
        "starts with a hyphen, as options do"
    } else if matches!(name, "." | "..") {
        "is no name of a folder"
    } else {
        return Ok(());
    };
    Err(Error::BadName {
        what,
        name: name.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_this_shape() {
        for (operation, json) in [
            (Operation::PowerOff, r#"{"do":"power-off"}"#),
            (
                Operation::RestoreSnapshot { snapshot: None },
                r#"{"do":"restore-snapshot","snapshot":null}"#,
            ),
            (
                Operation::TakeSnapshot {
                    snapshot: "a".to_owned(),
                    description: String::new(),
                },
                r#"{"do":"take-snapshot","snapshot":"a","description":""}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&operation).unwrap(), json);
            assert_eq!(serde_json::from_str::<Operation>(json).unwrap(), operation);
        }
        assert!(serde_json::from_str::<Operation>(r#"{"do":"explode"}"#).is_err());
    }

    #[test]
    fn names_that_would_be_options_or_paths_are_refused() {
        for bad in ["", "-x", "a\nb", "a\0", "..", &"x".repeat(256)] {
            assert!(check_name("machine", bad).is_err(), "{bad:?}");
        }
        for good in ["a", "my vm (2) \"q\"", "é", "a-b", &"x".repeat(255)] {
            assert!(check_name("machine", good).is_ok(), "{good:?}");
        }
        let create = Operation::Create(Blueprint::default());
        assert!(create.check("a/b").is_err());
        assert!(Operation::Start.check("a/b").is_ok());
    }
}
