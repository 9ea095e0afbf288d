//! What is said of KVM is what a machine that is started with it does.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host_agent::hypervisor::qemu::{Accel, Qemu, QemuConfig};
use host_agent::hypervisor::{Blueprint, Driver as _, Operation, State};
use tokio::runtime::Runtime;

use crate::common::{Process, processes_with};
use crate::harness::Image;

/// How long the driver gives a kernel.
const LIMIT: Duration = Duration::from_secs(10);

// As root where this is root: whether another user may open the device is another question.
#[test]
#[ignore = "starts QEMU: make test-vm"]
fn kvm_is_said_to_work_where_a_guest_boots_with_it_and_is_refused_elsewhere() {
    let (image, runtime) = (Image::copied(), Runtime::new().unwrap());
    let registry = tempfile::tempdir().unwrap();
    let driver = |accel| {
        let mut config = QemuConfig::new(registry.path().join("machines"), &image.host_agent);
        config.accel = accel;
        Qemu::new(config)
    };
    let blueprint = Blueprint {
        kernel: Some(image.kernel.clone()),
        initrd: Some(image.initramfs.clone()),
        memory_mib: Some(192),
        ..Blueprint::default()
    };
    let (usual, wanted) = (driver(Accel::Tcg), driver(Accel::Kvm));
    let create = usual.operate("m", Operation::Create(blueprint));
    runtime.block_on(create).unwrap();

    // Where it is not asked for, KVM that fails is nothing to mend, and not tried at every start of an agent.
    let findings = runtime.block_on(usual.check()).unwrap();
    assert!(
        !findings.iter().any(|finding| finding.what.contains("KVM")),
        "{findings:?}"
    );
    let findings = runtime.block_on(usual.try_out()).unwrap();
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}")
    };
    assert!(finding.ok, "{finding:?}");
    let said_to_boot = finding.what.contains("came up");
    let boots = boots_with_kvm(&image, registry.path());
    assert_eq!(said_to_boot, boots, "{finding:?}");

    let findings = runtime.block_on(wanted.check()).unwrap();
    let finding = findings
        .iter()
        .find(|finding| finding.what.contains("KVM"))
        .unwrap();
    assert_eq!(finding.ok, boots, "{finding:?}");
    let started = runtime.block_on(wanted.operate("m", Operation::Start));
    if boots {
        started.unwrap();
        let off = wanted.operate("m", Operation::PowerOff);
        runtime.block_on(off).unwrap();
    } else {
        assert!(finding.remedy.contains("accel = tcg"), "{finding:?}");
        let error = started.unwrap_err().to_string();
        assert!(
            error.contains("machine \"m\"")
                && error.contains("KVM")
                && error.contains("accel = tcg"),
            "{error}"
        );
    }
    let state = runtime.block_on(usual.machine("m")).unwrap().state;
    assert_eq!(state, State::PoweredOff);
    let left = processes_with(image.kernel.to_str().unwrap());
    assert!(left.is_empty(), "{left:?}");
}

/// Boots the guest with KVM, as the driver would, and returns whether it gets as far as its server in time.
fn boots_with_kvm(image: &Image, directory: &Path) -> bool {
    let console = directory.join("console");
    let mut command = Command::new(format!("qemu-system-{}", std::env::consts::ARCH));
    command
        .args([
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-m",
            "192M",
            "-nodefaults",
            "-no-user-config",
        ])
        .args(["-display", "none", "-no-reboot", "-kernel"])
        .arg(&image.kernel)
        .arg("-initrd")
        .arg(&image.initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1", "-serial"])
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut qemu = Process(command.spawn().unwrap());
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline && matches!(qemu.0.try_wait(), Ok(None)) {
        let said = std::fs::read(&console).unwrap_or_default();
        if String::from_utf8_lossy(&said).contains("chirp guest: starting the server") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
