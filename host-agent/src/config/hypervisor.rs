//! The sections of the settings that are about virtual machines: drivers and the watchdog.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use beacon::settings::{Settings, SettingsError};
use host_agent::hypervisor::Driver;
use host_agent::hypervisor::command::{Commands, NAMES, Template};
use host_agent::hypervisor::libvirt::{Libvirt, LibvirtSettings};
use host_agent::hypervisor::none::NoHypervisor;
use host_agent::hypervisor::qemu::{Accel, Network, Qemu, QemuConfig};
use host_agent::hypervisor::virtualbox::{VirtualBox, VirtualBoxSettings};
use host_agent::watchdog::WatchdogConfig;

/// The drivers, as `Hypervisor.hypervisor` and `--driver` name them.
const DRIVERS: &str = "none, qemu, libvirt, VirtualBox, command";

/// What the settings say of hypervisors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HypervisorSettings {
    /// `Hypervisor.hypervisor`.
    pub(crate) driver: String,
    helpers: Option<PathBuf>,
    interface: Option<String>,
    accel: Accel,
    network: Network,
    machines: Option<PathBuf>,
    libvirt_uri: String,
    templates: BTreeMap<String, Template>,
    /// The watchdog, where `Host.watchdog` turns it on.
    pub(crate) watchdog: Option<WatchdogConfig>,
}

impl HypervisorSettings {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// A value is not of its kind.
    pub(crate) fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let text = |key| settings.text("Hypervisor", key);
        let mut templates = BTreeMap::new();
        for name in NAMES {
            let key = format!("command_{name}");
            if let Some(value) = settings.text("Hypervisor", &key)? {
                let template = Template::parse(&value).map_err(|reason| {
                    SettingsError::value(&format!("Hypervisor.{key}"), &value, &reason)
                })?;
                templates.insert(name.to_owned(), template);
            }
        }
        let accel = settings
            .parsed("Hypervisor", "accel", "tcg or kvm")?
            .unwrap_or_default();
        let network = settings
            .parsed("Hypervisor", "network", "user or bridge:NAME")?
            .unwrap_or_default();
        let watchdog = if settings.flag("Host", "watchdog", false)? {
            let default = WatchdogConfig::default();
            let seconds = |key, default: Duration| {
                Ok::<_, SettingsError>(settings.seconds("Host", key)?.unwrap_or(default))
            };
            Some(WatchdogConfig {
                boot_timeout: seconds("boot_timeout", default.boot_timeout)?,
                reboot_after: seconds("reboot_after", default.reboot_after)?,
                max_restarts: settings
                    .number("Host", "max_restarts", 0, 1000)?
                    .map_or(default.max_restarts, u32::from),
                ..default
            })
        } else {
            None
        };
        let driver = text("hypervisor")?.unwrap_or_else(|| "none".to_owned());
        let read = Self {
            helpers: text("hypervisor_helpers_path")?.map(PathBuf::from),
            interface: settings.text("Host", "network_interface")?,
            accel,
            network,
            machines: text("machines_path")?.map(PathBuf::from),
            libvirt_uri: text("libvirt_uri")?.unwrap_or_else(|| "qemu:///session".to_owned()),
            templates,
            watchdog,
            driver,
        };
        read.driver(None, &[])?;
        Ok(read)
    }

    /// Returns whether there is a hypervisor.
    pub(crate) fn is_none(&self) -> bool {
        self.driver.eq_ignore_ascii_case("none")
    }

    /// Returns the driver of that name, or the one that is set. `brokers` is where the broker listens: what others
    /// reach first, this host's own way to it last.
    ///
    /// # Errors
    ///
    /// There is no such driver.
    pub(crate) fn driver(
        &self,
        name: Option<&str>,
        brokers: &[SocketAddr],
    ) -> Result<Arc<dyn Driver>, SettingsError> {
        let is_elsewhere = |broker: &&SocketAddr| {
            !broker.ip().is_loopback() && !broker.ip().is_unspecified() && broker.port() != 0
        };
        let name = name.unwrap_or(&self.driver);
        Ok(match name.to_ascii_lowercase().as_str() {
            "none" => Arc::new(NoHypervisor),
            "qemu" => Arc::new(Qemu::new(QemuConfig {
                helpers: self.helpers.clone(),
                accel: self.accel,
                network: self.network.clone(),
                broker: brokers.last().copied(),
                bridge_broker: brokers.iter().find(is_elsewhere).copied(),
                ..QemuConfig::new(self.folder()?, carrier()?)
            })),
            "libvirt" => Arc::new(Libvirt::new(LibvirtSettings {
                helpers: self.helpers.clone(),
                uri: self.libvirt_uri.clone(),
                kind: match self.accel {
                    Accel::Kvm => "kvm",
                    Accel::Tcg => "qemu",
                }
                .to_owned(),
                bridge: self.interface.clone(),
                folder: self.folder()?,
            })),
            "virtualbox" => Arc::new(VirtualBox::new(VirtualBoxSettings {
                helpers: self.helpers.clone(),
                interface: self.interface.clone(),
            })),
            "command" => Arc::new(Commands::new(self.templates.clone(), self.helpers.clone())),
            _ => {
                return Err(SettingsError::value(
                    "Hypervisor.hypervisor",
                    name,
                    &format!("no driver; there are {DRIVERS}"),
                ));
            }
        })
    }

    /// Returns the folder for what belongs to machines that are made here.
    fn folder(&self) -> Result<PathBuf, SettingsError> {
        self.machines
            .clone()
            .or_else(QemuConfig::default_folder)
            .ok_or_else(|| {
                SettingsError::value(
                    "Hypervisor.machines_path",
                    "",
                    "not set, and there is no HOME to put machines below",
                )
            })
    }
}

/// Returns this program, which carries guests' connections to the broker.
fn carrier() -> Result<PathBuf, SettingsError> {
    std::env::current_exe().map_err(|source| SettingsError::Unreadable {
        file: PathBuf::from("/proc/self/exe"),
        source,
    })
}
