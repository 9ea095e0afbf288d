//! The guest on a disk with a distribution: `make test-disk`, which makes the disk.

use host_agent::hypervisor::{Blueprint, Operation, State};

use crate::harness::{Machines, guest_image, shared_directory};

#[test]
#[ignore = "boots a disk: make test-disk"]
fn a_guest_on_a_disk_runs_a_distribution_s_programs_and_keeps_its_files() {
    // A copy, before this becomes a user who may not be able to read the original.
    let made = guest_image().join("disk.qcow2");
    let directory = shared_directory();
    let image = directory.path().join("disk.qcow2");
    std::fs::copy(&made, &image)
        .unwrap_or_else(|error| panic!("{}: {error}; `make test-disk` makes it", made.display()));
    let machines = Machines::cold();
    let blueprint = Blueprint {
        image: Some(image),
        memory_mib: Some(256),
        ..machines.blueprint()
    };
    machines.operate("worker", Operation::Create(blueprint));
    machines.operate("worker", Operation::Start);
    machines.wait_ready("worker");
    let ran = machines
        .agent
        .run(&["exec", "--to", "worker", "--", "bash", "-c", SCRIPT])
        .expect(0);
    assert!(
        ran.out.contains("two, by perl 42") && ran.out.contains("Debian"),
        "{ran:#?}"
    );

    // The power button is heard, and what was written is there again.
    machines.operate("worker", Operation::Shutdown);
    machines.wait_state("worker", State::PoweredOff);
    machines.operate("worker", Operation::Start);
    machines.wait_ready("worker");
    let kept = machines.exec("worker", "cat kept; id -un").expect(0);
    assert!(
        kept.out.contains("kept on the disk") && kept.out.contains("chirp"),
        "{kept:#?}"
    );
}

/// An array is bash's, and `/etc/debian_version` the distribution's.
const SCRIPT: &str = "numbers=(one two three); echo \"${numbers[1]}, by perl $(perl -e 'print 6*7')\"; \
     grep PRETTY_NAME /etc/os-release; echo kept on the disk > kept";
