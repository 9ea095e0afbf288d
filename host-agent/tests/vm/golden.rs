//! A machine that was booted once and saved: tests start from copies of it, in a fraction of a boot's time.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use host_agent::hypervisor::{Operation, State};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::common::{NOBODY, is_root};
use crate::harness::{Machines, guest_image};

/// A copy of the saved machine, which the ordinary user may take and change.
pub(crate) struct Golden {
    /// The folder of the machine.
    pub(crate) machine: PathBuf,
    /// What the agent knew of its guest when it was saved.
    pub(crate) guest: Value,
}

impl Golden {
    /// Copies the saved machine into a directory; boots and saves one first where there is none of this guest, this
    /// QEMU and this driver. For who is root still: the build's directory may be closed to others.
    pub(crate) fn copied(directory: &Path) -> Self {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(kept).unwrap();
        let lock = File::create(kept.join("golden.lock")).unwrap();
        // One makes it, and the other tests wait.
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let kept = kept.join("golden");
        let made_of = made_of();
        if fs::read_to_string(kept.join("made-of")).ok().as_ref() != Some(&made_of) {
            make(&kept);
            fs::write(kept.join("made-of"), made_of).unwrap();
        }
        let machine = directory.join("golden");
        copy(&kept.join("machine"), &machine);
        let text = fs::read_to_string(kept.join("guest.json")).unwrap();
        Self {
            machine,
            guest: serde_json::from_str(&text).unwrap(),
        }
    }
}

/// Boots a machine, saves it and keeps it.
fn make(kept: &Path) {
    // As an ordinary user, which this thread is not to become yet.
    let booted = std::thread::spawn(|| {
        let machines = Machines::cold();
        let guest = machines.boot("worker");
        machines.operate("worker", Operation::Save);
        assert_eq!(machines.state("worker"), State::Saved);
        (machines, guest)
    });
    let (machines, guest) = booted.join().unwrap();
    match fs::remove_dir_all(kept) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
    fs::create_dir(kept).unwrap();
    copy(&machines.folder("worker"), &kept.join("machine"));
    fs::write(kept.join("guest.json"), guest.to_string()).unwrap();
}

/// Copies a machine that is off, for the ordinary user.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    let own = |path: &Path| {
        if is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    };
    own(to);
    // The rest is of the QEMU that ran it.
    for name in ["alive", "disk.qcow2", "lock", "machine.json", "saved"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
        own(&to.join(name));
    }
}

/// Returns what a saved machine depends on: another guest, QEMU or command line cannot go on from it.
fn made_of() -> String {
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let image = guest_image();
    let digests = said(
        Command::new("sha256sum")
            .arg(image.join("vmlinuz"))
            .arg(image.join("initramfs.cpio")),
    );
    let emulator = format!("qemu-system-{}", std::env::consts::ARCH);
    let version = said(Command::new(emulator).arg("--version"));
    // The driver is a part of this program.
    let program = fs::metadata(std::env::current_exe().unwrap()).unwrap();
    let program = (program.mtime(), program.mtime_nsec(), program.size());
    format!("{digests}{version}{program:?}\n")
}
