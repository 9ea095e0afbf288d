//! What a new user does with a machine, from nothing to the end.

use host_agent::hypervisor::{Operation, State};

use crate::harness::{Machines, wait_for};

#[test]
#[ignore = "boots a machine: make test-vm"]
fn a_machine_boots_is_heard_and_used_and_turns_itself_off() {
    let machines = Machines::cold();
    let guest = machines.boot("worker");
    // The card's address links the machine and its guest.
    let text = std::fs::read_to_string(machines.folder("worker").join("machine.json")).unwrap();
    let definition: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(guest["id"], definition["mac"]);

    // Programs are enclosed as on any other system.
    let client = machines.client("worker");
    let features = machines
        .runtime
        .block_on(client.features())
        .unwrap()
        .unwrap();
    let sandbox = features.sandbox;
    assert!(
        sandbox.namespaces && sandbox.seccomp && sandbox.landlock > 0,
        "{sandbox:?}; {}",
        machines.told("worker")
    );

    // In, through a program, and out.
    let work = tempfile::tempdir().unwrap();
    let (input, output) = (work.path().join("in"), work.path().join("out"));
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .flat_map(u32::to_le_bytes)
        .take(3_000_000)
        .collect();
    std::fs::write(&input, &bytes).unwrap();
    let (from, to) = (input.to_str().unwrap(), output.to_str().unwrap());
    machines
        .agent
        .run(&["push", "--to", "worker", from, "/in"])
        .expect(0);
    let ran = machines.exec(
        "worker",
        "cat in > out; id -u; uname -r; echo more >&2; exit 7",
    );
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(
        ran.out.contains("1000\n") && ran.out.contains("cloud"),
        "{ran:#?}"
    );
    assert!(ran.err.contains("more"), "{ran:#?}");
    machines
        .agent
        .run(&["pull", "--from", "worker", "/out", to])
        .expect(0);
    assert!(
        std::fs::read(&output).unwrap() == bytes,
        "the bytes came back otherwise"
    );

    // The power button: the guest says BYE, and QEMU ends.
    machines.operate("worker", Operation::Shutdown);
    wait_for(&|| format!("BYE; {}", machines.told("worker")), || {
        machines.agent.log().contains("guest.left").then_some(())
    });
    machines.wait_state("worker", State::PoweredOff);
    machines.operate("worker", Operation::Remove);
    assert!(!machines.folder("worker").exists());
}
