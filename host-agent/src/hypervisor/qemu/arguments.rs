//! QEMU's command line for a machine. Nothing here is read by a shell; what QEMU takes apart itself is quoted
//! as it wants it.

use std::ffi::OsString;
use std::path::Path;

use super::Begin;
use super::config::{Accel, QemuConfig, is_plain};
use super::folder::{CONSOLE, DISK, Definition, Link};
use super::monitor::SOCKET;
use crate::hypervisor::Error;

/// The port that guests' servers listen at.
const GUEST_PORT: u16 = 9094;

/// Where a guest on QEMU's own network finds the broker.
const BROKER: &str = "10.0.2.100:61613";

/// Where such a guest sees the host's connections come from.
const HOST: &str = "10.0.2.2";

/// What every kernel is told: the console that is logged, and not to ask for what an emulated machine has not.
const APPEND: &str = "console=ttyS0 quiet edd=off no_timer_check random.trust_cpu=on";

/// What makes a kernel boot sooner where no processor of silicon runs it: there is nothing to mitigate.
const APPEND_TCG: &str = "mitigations=off nokaslr cryptomgr.notests";

/// Returns the arguments, for QEMU started in the machine's folder. `load` is the snapshot to go on from.
///
/// # Errors
///
/// [`Error::BadArgument`]: the carrier's path is not one that QEMU can be told.
pub(super) fn arguments(
    name: &str,
    machine: &Definition,
    config: &QemuConfig,
    load: Option<&str>,
    begin: Begin,
) -> Result<Vec<OsString>, Error> {
    let mut line = Line::default();
    line.option("-name", format!("guest={}", quoted(name)))
        .option("-uuid", &machine.uuid)
        .option("-accel", config.accel.as_str())
        .option("-machine", "pc")
        .option(
            "-cpu",
            if config.accel == Accel::Kvm {
                "host"
            } else {
                "max"
            },
        )
        .option("-m", format!("{}M", machine.memory_mib))
        .option("-smp", machine.cpus.to_string())
        .flag("-nodefaults")
        .flag("-no-user-config")
        .option("-display", "none")
        .option("-sandbox", sandbox(machine, config))
        .option("-rtc", "base=utc,clock=host")
        .option("-qmp", format!("unix:{SOCKET},server=on,wait=off"))
        .option(
            "-chardev",
            format!("file,id=console,path={CONSOLE},append=on"),
        )
        .option("-serial", "chardev:console")
        // A machine that is off, or whose kernel panicked, stays to be asked about it.
        .option("-action", "shutdown=pause,panic=pause")
        .option("-device", "pvpanic")
        .option("-device", "virtio-rng-pci")
        // By which a guest knows that its memory was loaded from somewhere.
        .option("-device", "vmgenid,guid=auto")
        .option(
            "-blockdev",
            format!("driver=qcow2,node-name=disk0,file.driver=file,file.filename={DISK}"),
        );
    if machine.boots_disk {
        line.option("-device", "virtio-blk-pci,drive=disk0");
    }
    line.option("-netdev", network(machine, config)?).option(
        "-device",
        format!(
            "virtio-net-pci,netdev=net0,romfile=,mac={}",
            machine.mac.canonical()
        ),
    );
    if let Some(kernel) = &machine.kernel {
        line.option("-kernel", kernel);
        if let Some(initrd) = &machine.initrd {
            line.option("-initrd", initrd);
        }
        line.option("-append", append(name, machine, config));
    }
    if let Some(load) = load {
        line.option("-loadvm", load);
    }
    if begin == Begin::Paused {
        line.flag("-S");
    }
    Ok(line.0)
}

/// Returns the kernel's command line.
fn append(name: &str, machine: &Definition, config: &QemuConfig) -> String {
    let mut words = vec![APPEND.to_owned()];
    if config.accel == Accel::Tcg {
        words.push(APPEND_TCG.to_owned());
    }
    if is_plain(name) {
        words.push(format!("chirp.name={name}"));
    }
    if let Link::User { port } = machine.link {
        // The guest cannot know where its own port comes out, nor the broker's address.
        words.push(format!("chirp.announce=127.0.0.1:{port} chirp.host={HOST}"));
        if config.broker.is_some() {
            words.push(format!("chirp.broker={BROKER}"));
        }
    } else if let Some(broker) = config.bridge_broker {
        // Networks that lead nowhere else tell no gateway to ask for it at.
        words.push(format!("chirp.broker={broker}"));
    }
    words.extend(machine.append.clone());
    words.join(" ")
}

fn network(machine: &Definition, config: &QemuConfig) -> Result<String, Error> {
    let port = match &machine.link {
        Link::User { port } => port,
        Link::Tap { tap, .. } => {
            return Ok(format!("tap,id=net0,ifname={tap},script=no,downscript=no"));
        }
    };
    let mut text = format!("user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:{GUEST_PORT}");
    if let Some(broker) = config.broker {
        // With an address instead of a command QEMU would serve one connection only, for ever.
        let command = format!("{} carry {broker}", word(&config.carrier)?);
        text.push_str(&format!(",guestfwd=tcp:{BROKER}-cmd:{}", quoted(&command)));
    }
    Ok(text)
}

/// Returns what QEMU may not ask of the kernel. It starts programs only to reach the broker, each in a session
/// of its own: setsid is among the calls that `elevateprivileges` denies. A filter takes no new rights anyway.
fn sandbox(machine: &Definition, config: &QemuConfig) -> String {
    let carries = matches!(machine.link, Link::User { .. }) && config.broker.is_some();
    let rule = if carries { "allow" } else { "deny" };
    format!("on,obsolete=deny,resourcecontrol=deny,elevateprivileges={rule},spawn={rule}")
}

/// Quotes a value for QEMU's lists of options.
fn quoted(text: &str) -> String {
    text.replace(',', ",,")
}

/// Quotes a path as one word of the command that QEMU takes apart by a shell's rules.
fn word(path: &Path) -> Result<String, Error> {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => {
            Ok(format!("'{}'", text.replace('\'', "'\\''")))
        }
        _ => Err(Error::BadArgument {
            what: format!("the path {}", path.display()),
            reason: "QEMU cannot be told a path with control characters or other than UTF-8"
                .to_owned(),
        }),
    }
}

/// A command line as it grows.
#[derive(Debug, Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::qemu::folder::tests::definition;

    fn machine() -> Definition {
        Definition {
            kernel: Some("/k".into()),
            initrd: Some("/i".into()),
            append: Some("chirp.interval=1".to_owned()),
            link: Link::User { port: 4711 },
            ..definition()
        }
    }

    fn shown(machine: &Definition, config: &QemuConfig) -> String {
        let line = arguments("a, b", machine, config, None, Begin::Running).unwrap();
        let words: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
        words.join("\n")
    }

    #[test]
    fn a_guest_on_the_user_s_network_reaches_the_broker_alone() {
        let mut config = QemuConfig::new("/m", "/opt/it's here/host-agent");
        config.broker = Some("127.0.0.1:700".parse().unwrap());
        let line = shown(&machine(), &config);
        assert!(
            line.contains("user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:4711-:9094,guestfwd=tcp:10.0.2.100:61613-cmd:'/opt/it'\\''s here/host-agent' carry 127.0.0.1:700\n"),
            "{line}"
        );
        assert!(line.contains("chirp.announce=127.0.0.1:4711 chirp.host=10.0.2.2 chirp.broker=10.0.2.100:61613 chirp.interval=1"), "{line}");
        assert!(line.contains("guest=a,, b\n"), "{line}");
        // A name that would be several words there is not given to the kernel.
        assert!(!line.contains("chirp.name"), "{line}");
        config.broker = None;
        let line = shown(&machine(), &config);
        assert!(
            !line.contains("guestfwd") && line.contains("spawn=deny"),
            "{line}"
        );
    }

    #[test]
    fn a_guest_on_a_bridge_starts_no_programs_on_the_host() {
        let mut config = QemuConfig::new("/m", "/h");
        config.broker = Some("192.168.56.1:61613".parse().unwrap());
        let tap = Definition {
            link: Link::Tap {
                tap: "vm-000001".to_owned(),
                bridge: "br0".to_owned(),
            },
            boots_disk: true,
            kernel: None,
            ..machine()
        };
        let line = shown(&tap, &config);
        assert!(
            line.contains("tap,id=net0,ifname=vm-000001,script=no"),
            "{line}"
        );
        assert!(
            line.contains("spawn=deny") && line.contains("drive=disk0"),
            "{line}"
        );
        assert!(
            !line.contains("-append") && !line.contains("-initrd"),
            "{line}"
        );
        // The broker's own address, where it is one that a guest can reach; else its gateway.
        let booted = Definition {
            kernel: Some("/k".into()),
            ..tap
        };
        assert!(!shown(&booted, &config).contains("chirp.broker"));
        config.bridge_broker = config.broker;
        let line = shown(&booted, &config);
        assert!(line.contains("chirp.broker=192.168.56.1:61613"), "{line}");
    }
}
