//! Machines on a host-only network: a bridge, a tap device for each, addresses by DHCP, and the broker at the
//! host's own address there.
//!
//! All of it is in a network namespace of each test's own. Root prepares it as the administrator of a host does;
//! the agent, its machines and every command are an ordinary user's.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use host_agent::hypervisor::qemu::{Qemu, QemuConfig};
use host_agent::hypervisor::{Driver as _, Operation};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::common::{Agent, Lines, NOBODY, Process, Ran, chirp_server, is_root};
use crate::harness::{Image, wait_for};

/// The host's own address on the bridge: the gateway, with the broker.
const HOST: &str = "192.168.56.1";

/// The cards of the tests' machines.
const FIRST: &str = "02:00:00:00:56:01";
const SECOND: &str = "02:00:00:00:56:02";

/// A bridge, and a node of the device that gives taps out which everybody may open, as on most hosts.
const BRIDGE: &str = r#"set -e
mkdir -p /dev/net
mount -t tmpfs -o mode=755 nodes /dev/net
mknod -m 666 /dev/net/tun c 10 200
ip link set lo up
ip link add br0 type bridge
ip address add 192.168.56.1/24 dev br0
ip link set br0 up
echo there
exec sleep infinity
"#;

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_machine_without_an_address_says_so_and_is_used_at_its_own_once_it_has_one() {
    let mut host = HostOnly::new();
    host.start_agent();
    host.tap(FIRST);
    host.create("worker", FIRST, "");
    // Nobody gives it an address: it keeps asking, and the wait names the step.
    let stuck = host
        .run(&["vm", "start", "worker", "--wait", "--timeout", "8"])
        .expect(5);
    assert!(
        stuck
            .err
            .contains("the machine runs, and no beacon of 02:00:00:00:56:01 was heard"),
        "{stuck:#?}"
    );
    host.start_dhcp(&[]);
    let ready = host.run(&["vm", "start", "worker", "--wait"]);
    assert_eq!(ready.code, Some(0), "{ready:#?}\n{}", host.told("worker"));

    // Found by its card, at the address that it was given, from which the broker hears it, too.
    let guest = host.agent().guest("worker").unwrap();
    let address = host.lease(FIRST);
    assert_eq!(guest["id"], FIRST);
    assert_eq!(
        (&guest["address"], &guest["peer"]),
        (
            &Value::from(address.as_str()),
            &Value::from(address.as_str())
        ),
        "{guest:#}"
    );
    assert_eq!(guest["port"], 9094);
    assert_eq!(guest["elsewhere"], false);

    let work = host.work();
    let (input, output) = (work.join("in"), work.join("out"));
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(&input, &bytes).unwrap();
    host.run(&[
        "push",
        "--to",
        &format!("ip:{address}"),
        input.to_str().unwrap(),
        "/in",
    ])
    .expect(0);
    let ran = host
        .exec("worker", "cat in >out; ip address show eth0; echo more >&2")
        .expect(0);
    assert!(
        ran.out.contains(&address) && ran.err.contains("more"),
        "{ran:#?}"
    );
    host.run(&["pull", "--from", "worker", "/out", output.to_str().unwrap()])
        .expect(0);
    assert!(
        std::fs::read(&output).unwrap() == bytes,
        "the bytes came back otherwise"
    );
    let told = host.run(&["vm", "info", "worker", "--json"]).expect(0);
    let told: Value = serde_json::from_str(&told.out).unwrap();
    for figure in ["net_rx_bytes", "net_tx_bytes"] {
        let bytes = told["performance"][figure].as_f64();
        assert!(bytes.is_some_and(|bytes| bytes > 3e6), "{figure}: {told:#}");
    }

    host.run(&["vm", "stop", "worker"]).expect(0);
    wait_for(&|| format!("BYE; {}", host.told("worker")), || {
        let log = host.agent().log();
        log.lines()
            .any(|line| line.contains("guest.left") && line.contains("BYE"))
            .then_some(())
    });
    wait_for(&|| format!("its end; {}", host.told("worker")), || {
        (host.state("worker") == "PoweredOff").then_some(())
    });
}

#[test]
#[ignore = "boots two machines: make test-vm"]
fn an_address_that_comes_back_with_another_card_is_the_new_machine_s_also_where_the_broker_comes_last()
 {
    let mut host = HostOnly::new();
    // One address for both cards: whoever asks last has it.
    host.start_dhcp(&[&format!("{FIRST},{SECOND},192.168.56.50")]);
    for (name, mac) in [("old", FIRST), ("new", SECOND)] {
        host.tap(mac);
        host.create(name, mac, "");
    }
    // The guest is there before anybody hears it, and asks until somebody does.
    host.start_alone("old");
    wait_for(
        &|| format!("a vain announcement; {}", host.told("old")),
        || {
            host.console("old")
                .contains("cannot announce this server")
                .then_some(())
        },
    );
    host.start_agent();
    host.wait_ready("old");
    assert_eq!(host.neighbour("192.168.56.50").as_deref(), Some(FIRST));

    // A program whose output is awaited keeps the connection to the dead machine, and with it the kernel's belief.
    let mut program = host
        .agent_command(&[
            "exec",
            "--to",
            "old",
            "--",
            "sh",
            "-c",
            "echo begun; sleep 1000",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .map(Process)
        .unwrap();
    Lines::of(program.0.stdout.take().unwrap()).find("the program", |line| line.contains("begun"));
    host.run(&["vm", "kill", "old"]).expect(0);
    host.run(&["vm", "start", "new"]).expect(0);
    let guest = host.wait_ready("new");
    assert_eq!(guest["address"], "192.168.56.50");
    assert_eq!(guest["id"], SECOND);
    assert_eq!(host.neighbour("192.168.56.50").as_deref(), Some(SECOND));
    let ran = host.exec("new", "hostname").expect(0);
    assert!(ran.out.contains("new"), "{ran:#?}");
    // The old one's program is not taken for the new one's.
    let code = program.code();
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(
        host.agent().guest("old").is_none(),
        "{}",
        host.agent().log()
    );
}

#[test]
#[ignore = "boots two machines: make test-vm"]
fn a_guest_that_announces_another_s_address_is_never_taken_for_it() {
    let mut host = HostOnly::new();
    host.start_dhcp(&[]);
    // The honest one is the host itself, at all of its addresses.
    let honest = host.server("honest");
    host.start_agent();
    host.wait_ready("honest");
    for (name, mac, announced) in [("liar", FIRST, HOST), ("looper", SECOND, "127.0.0.1")] {
        host.tap(mac);
        host.create(name, mac, &format!("chirp.announce={announced}:9094"));
        host.run(&["vm", "start", name]).expect(0);
    }
    for (name, announced) in [("liar", HOST), ("looper", "127.0.0.1")] {
        let guest = wait_for(
            &|| format!("{name} to be seen through; {}", host.told(name)),
            || {
                host.agent()
                    .guest(name)
                    .filter(|guest| guest["suspect"] == true)
            },
        );
        assert_eq!(guest["address"], announced);
        assert_eq!(guest["state"], "joining");
        let why = guest["why"].as_str().unwrap();
        assert!(why.contains("another server answers at"), "{why}");
        let refused = host.exec(name, "touch taken").expect(3);
        assert!(refused.err.contains(name), "{refused:#?}");
    }
    assert!(!honest.root.join("taken").exists());
    // Who was named in vain is none the worse for it.
    let guest = host.agent().guest("honest").unwrap();
    assert_eq!(
        (&guest["state"], &guest["suspect"]),
        (&Value::from("ready"), &Value::from(false))
    );
    host.exec("honest", "true").expect(0);
}

#[test]
#[ignore = "boots two machines: make test-vm"]
fn of_two_machines_with_one_card_s_address_neither_is_taken_for_the_other() {
    let mut host = HostOnly::new();
    host.start_dhcp(&[]);
    host.start_agent();
    host.tap(FIRST);
    host.create("worker", FIRST, "");
    let refused = host.create_command("copy", FIRST, "").expect(3);
    assert!(
        refused
            .err
            .contains("the MAC address 02:00:00:00:56:01 of machine \"worker\" exists already"),
        "{refused:#?}"
    );
    host.run(&["vm", "start", "worker", "--wait"]).expect(0);

    // Somebody else's machine, of which this agent's driver knows nothing.
    let _copy = host.stray(FIRST);
    let suspect = wait_for(
        &|| format!("the two to be told apart; {}", host.told("worker")),
        || {
            host.agent()
                .guest("worker")
                .filter(|guest| guest["suspect"] == true)
        },
    );
    assert_eq!(suspect["state"], "joining", "{suspect:#}");
    let log = host.agent().log();
    assert!(
        log.contains("guest.suspect") && log.contains("two guests claim this id"),
        "{log}"
    );
    // While both are heard again and again.
    wait_for(
        &|| format!("work to be refused; {}", host.told("worker")),
        || (host.exec("worker", "true").code == Some(3)).then_some(()),
    );
    wait_for(
        &|| format!("suspicion in the list; {}", host.told("worker")),
        || {
            let listed = host.run(&["vm", "list"]).expect(0);
            listed.out.contains("joining, suspect").then_some(())
        },
    );
}

/// A host with a bridge for its machines. Machines that still run are killed at the end.
struct HostOnly {
    network: Process,
    dhcp: Option<Process>,
    agent: Option<Agent>,
    image: Image,
    runtime: Runtime,
    driver: Qemu,
    directory: tempfile::TempDir,
}

impl HostOnly {
    fn new() -> Self {
        assert!(is_root(), "a bridge takes root");
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let part = |name: &str| {
            let part = directory.path().join(name);
            std::fs::create_dir(&part).unwrap();
            part
        };
        for name in ["machines", "work"] {
            chown(part(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let machines = directory.path().join("machines");
        std::fs::write(
            directory.path().join("agent.ini"),
            format!(
                "[EmbeddedBroker]\nlisten_addr = {HOST}\n[Host]\nvm_gc_grace = 60\naccept_unknown_guests = yes\n\
                 [Hypervisor]\nhypervisor = qemu\nnetwork = bridge:br0\nmachines_path = {}\n",
                machines.display()
            ),
        )
        .unwrap();
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", BRIDGE])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map(Process)
            .unwrap();
        // It says on this test's standard error what it cannot do.
        Lines::of(holder.0.stdout.take().unwrap()).find("the bridge", |line| line == "there");
        let image = Image::copied();
        Self {
            network: holder,
            dhcp: None,
            agent: None,
            driver: Qemu::new(QemuConfig::new(machines, &image.host_agent)),
            image,
            runtime: Runtime::new().unwrap(),
            directory,
        }
    }

    /// Returns a command that becomes its further arguments in the network.
    fn inside(&self, ordinary: bool) -> Command {
        let mut command = Command::new("nsenter");
        let of = |kind: &str| format!("--{kind}=/proc/{}/ns/{kind}", self.network.0.id());
        command.args([of("net").as_str(), &of("mnt").replace("--mnt", "--mount")]);
        if ordinary {
            command.args([format!("--setuid={NOBODY}"), format!("--setgid={NOBODY}")]);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOST_AGENT_") {
                command.env_remove(name);
            }
        }
        // Where the network's programs are, whoever calls them.
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .env_remove("XDG_RUNTIME_DIR")
            .arg("--")
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn ip(&self, line: &str) -> String {
        let output = self
            .inside(false)
            .arg("ip")
            .args(line.split(' '))
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {line}: {err}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Makes a machine's tap device, as the driver's errors and `docs/vm.md` say.
    fn tap(&self, mac: &str) {
        let tap = format!("vm-{}", mac[9..].replace(':', ""));
        self.ip(&format!("tuntap add dev {tap} mode tap user {NOBODY}"));
        self.ip(&format!("link set dev {tap} master br0 up"));
    }

    /// Starts the DHCP server, with these addresses bound to cards. It names no way out of the network.
    fn start_dhcp(&mut self, hosts: &[&str]) {
        let log = File::create(self.directory.path().join("dhcp.log")).unwrap();
        let mut command = self.inside(false);
        command
            .args([
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
            ])
            .args([
                "--interface=br0",
                "--bind-interfaces",
                "--except-interface=lo",
            ])
            .args(["--dhcp-range=192.168.56.100,192.168.56.200,255.255.255.0,1h"])
            .args([
                "--dhcp-authoritative",
                "--no-ping",
                "--dhcp-option=3",
                "--log-dhcp",
            ])
            .args(["--pid-file=", "--user=root", "--log-facility=-"])
            .arg(format!(
                "--dhcp-leasefile={}",
                self.directory.path().join("leases").display()
            ))
            .args(hosts.iter().map(|host| format!("--dhcp-host={host}")))
            .stderr(log);
        self.dhcp = Some(Process(command.spawn().unwrap()));
    }

    /// Returns the address that the DHCP server gave to a card.
    fn lease(&self, mac: &str) -> String {
        let leases = std::fs::read_to_string(self.directory.path().join("leases")).unwrap();
        let line = leases.lines().find(|line| line.contains(mac));
        let address = line.and_then(|line| line.split(' ').nth(2));
        address
            .unwrap_or_else(|| panic!("no lease of {mac}: {leases}"))
            .to_owned()
    }

    /// Returns the card that the host takes an address to be of.
    fn neighbour(&self, address: &str) -> Option<String> {
        let shown = self.ip(&format!("neighbour show {address} dev br0"));
        let mut words = shown.split_whitespace();
        words.find(|word| *word == "lladdr")?;
        words.next().map(str::to_owned)
    }

    fn start_agent(&mut self) {
        let directory = tempfile::tempdir().unwrap();
        chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command = self.inside(true);
        command
            .arg(&self.image.host_agent)
            .args(["serve", "--config"])
            .arg(self.directory.path().join("agent.ini"))
            .arg("--socket")
            .arg(directory.path().join("agent.sock"))
            .stderr(File::create(directory.path().join("agent.log")).unwrap());
        let mut agent = Agent {
            process: Process(command.spawn().unwrap()),
            directory,
            broker: String::new(),
        };
        agent.wait_until_up();
        self.agent = Some(agent);
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }

    /// Returns a command of the ordinary user's, who talks to the agent.
    fn agent_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside(true);
        command
            .arg(&self.image.host_agent)
            .arg(arguments[0])
            .arg("--socket")
            .arg(self.agent().socket())
            .args(&arguments[1..]);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.agent_command(arguments).output().unwrap())
    }

    fn exec(&self, name: &str, script: &str) -> Ran {
        self.run(&["exec", "--to", name, "--", "sh", "-c", script])
    }

    /// Makes a machine of the project's guest, by a command that needs no agent.
    fn create_command(&self, name: &str, mac: &str, more: &str) -> Ran {
        let mut command = self.inside(true);
        command
            .arg(&self.image.host_agent)
            .args([
                "vm", "--driver", "qemu", "create", name, "--memory", "192", "--mac", mac,
            ])
            .arg("--config")
            .arg(self.directory.path().join("agent.ini"))
            .arg("--kernel")
            .arg(&self.image.kernel)
            .arg("--initrd")
            .arg(&self.image.initramfs)
            .arg(format!("--append=chirp.interval=1 {more}"));
        Ran::of(command.output().unwrap())
    }

    #[track_caller]
    fn create(&self, name: &str, mac: &str, more: &str) {
        self.create_command(name, mac, more).expect(0);
    }

    /// Starts a machine without an agent.
    #[track_caller]
    fn start_alone(&self, name: &str) {
        let mut command = self.inside(true);
        command
            .arg(&self.image.host_agent)
            .args(["vm", "--driver", "qemu", "start", name, "--config"])
            .arg(self.directory.path().join("agent.ini"));
        Ran::of(command.output().unwrap()).expect(0);
    }

    fn state(&self, name: &str) -> String {
        let machine = self.runtime.block_on(self.driver.machine(name)).unwrap();
        machine.state.to_string()
    }

    #[track_caller]
    fn wait_ready(&self, name: &str) -> Value {
        wait_for(
            &|| format!("{name} to be ready; {}", self.told(name)),
            || {
                let guest = self.agent().guest(name)?;
                (guest["state"] == "ready" && guest["suspect"] == false).then_some(guest)
            },
        )
    }

    /// Starts a machine that no registry has, with that card.
    fn stray(&self, mac: &str) -> Process {
        self.ip(&format!("tuntap add dev stray mode tap user {NOBODY}"));
        self.ip("link set dev stray master br0 up");
        let console = self.directory.path().join("stray.log");
        let mut command = self.inside(true);
        command
            .arg(format!("qemu-system-{}", std::env::consts::ARCH))
            .args(["-accel", "tcg", "-cpu", "max", "-m", "192M", "-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-serial", "stdio", "-kernel"])
            .arg(&self.image.kernel)
            .arg("-initrd")
            .arg(&self.image.initramfs)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 quiet edd=off no_timer_check random.trust_cpu=on mitigations=off nokaslr \
                 cryptomgr.notests chirp.name=stray chirp.interval=1 chirp.broker={HOST}"
            ))
            .args(["-netdev", "tap,id=net0,ifname=stray,script=no,downscript=no", "-device"])
            .arg(format!("virtio-net-pci,netdev=net0,romfile=,mac={mac}"))
            .stdout(File::create(console).unwrap());
        Process(command.spawn().unwrap())
    }

    /// Starts a server on the host itself, at all of its addresses, which announces itself.
    fn server(&self, name: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let part = |name: &str| {
            let part = directory.path().join(name);
            std::fs::create_dir(&part).unwrap();
            chown(&part, Some(NOBODY), Some(NOBODY)).unwrap();
            part
        };
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = self.inside(false);
        command
            .arg(chirp_server())
            .arg("-r")
            .arg(part("root"))
            .arg("-y")
            .arg(part("transient"))
            .args([
                "-i",
                "nobody",
                "--exec",
                "--name",
                name,
                "--beacon-interval",
                "1",
            ])
            .arg(format!("--announce={HOST}"))
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        Server {
            _process: Process(command.spawn().unwrap()),
            root: directory.path().join("root"),
            _directory: directory,
        }
    }

    /// Returns a directory of the ordinary user's.
    fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    fn console(&self, name: &str) -> String {
        let path = self
            .directory
            .path()
            .join("machines")
            .join(name)
            .join("console.log");
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    fn told(&self, name: &str) -> String {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        format!(
            "the machine's QEMU said: {}\nits console: {}\nDHCP: {}\nthe agent: {}",
            read(
                self.directory
                    .path()
                    .join("machines")
                    .join(name)
                    .join("qemu.log")
            ),
            self.console(name),
            read(self.directory.path().join("dhcp.log")),
            self.agent.as_ref().map(Agent::log).unwrap_or_default()
        )
    }
}

impl Drop for HostOnly {
    fn drop(&mut self) {
        let machines = self.runtime.block_on(self.driver.machines());
        for machine in machines.unwrap_or_default() {
            let off = self.driver.operate(&machine.name, Operation::PowerOff);
            let _ = self.runtime.block_on(off);
        }
    }
}

/// A server that is no machine's.
struct Server {
    _process: Process,
    root: PathBuf,
    _directory: tempfile::TempDir,
}
