//! The driver `VirtualBox` against a replay of `VBoxManage` 7.2.22: real answers to the exact calls that are
//! expected, and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use host_agent::hypervisor::virtualbox::{VirtualBox, VirtualBoxSettings};
use host_agent::hypervisor::{Blueprint, Console, Driver as _, Error, Operation, State};

const DEMO: &str = "27e5adc6-44e1-4c5c-9964-fb1c6cabfaa0";
const QUOTED: &str = "ec32a5ed-1dba-4198-9d7d-202931891919";

/// A `VBoxManage` that answers as the scenario says.
struct Replay(tempfile::TempDir);

impl Replay {
    fn new(steps: &[(&[&str], &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vboxmanage/replay.py");
        std::os::unix::fs::symlink(program, directory.path().join("VBoxManage")).unwrap();
        let scenario: String = steps
            .iter()
            .map(|(argv, record)| {
                format!("{}\n", serde_json::json!({"argv": argv, "record": record}))
            })
            .collect();
        std::fs::write(directory.path().join("scenario.jsonl"), scenario).unwrap();
        Self(directory)
    }

    fn driver(&self) -> VirtualBox {
        VirtualBox::new(VirtualBoxSettings {
            helpers: Some(self.0.path().to_owned()),
            interface: None,
        })
    }

    /// Looks that every step was taken, and nothing else was called.
    fn finish(self, steps: usize) {
        let unexpected = std::fs::read_to_string(self.0.path().join("unexpected"));
        assert!(unexpected.is_err(), "unexpected calls: {unexpected:?}");
        let used = std::fs::read_to_string(self.0.path().join("used")).unwrap();
        assert_eq!(used.lines().count(), steps, "steps taken: {used}");
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

const LIST: &[&str] = &["list", "vms"];
const INFO: &[&str] = &["showvminfo", DEMO, "--machinereadable"];

/// Does something to `demo`, and expects these calls after the list of machines.
fn operate(operation: Operation, steps: &[(&[&str], &str)]) -> Result<(), Error> {
    let mut all = vec![(LIST, "017-list-vms")];
    all.extend(steps);
    let replay = Replay::new(&all);
    let result = block(replay.driver().operate("demo", operation));
    replay.finish(all.len());
    result
}

#[test]
fn machines_come_with_states_and_macs_whatever_their_names() {
    let replay = Replay::new(&[
        (LIST, "017-list-vms"),
        (INFO, "046-showvminfo-paused"),
        (
            &["showvminfo", QUOTED, "--machinereadable"],
            "200-showvminfo-before",
        ),
    ]);
    let machines = block(replay.driver().machines()).unwrap();
    replay.finish(3);
    assert_eq!(machines.len(), 2);
    assert_eq!(machines[0].state, State::Paused);
    assert_eq!(machines[0].macs[1].to_string(), "08:00:27:66:2B:56");
    assert_eq!(machines[1].name, "my vm (2) \"q\"");
    assert_eq!(machines[1].uuid.as_deref(), Some(QUOTED));
    assert_eq!(machines[1].state, State::PoweredOff);
}

#[test]
fn each_operation_is_one_call_by_uuid() {
    let control = |verb| ["controlvm", DEMO, verb];
    for (operation, argv, record) in [
        (
            Operation::Shutdown,
            control("acpipowerbutton"),
            "051-controlvm-acpipowerbutton",
        ),
        (
            Operation::PowerOff,
            control("poweroff"),
            "080-controlvm-poweroff",
        ),
        (Operation::Reset, control("reset"), "067-controlvm-reset"),
        (Operation::Pause, control("pause"), "045-controlvm-pause"),
        (Operation::Resume, control("resume"), "049-controlvm-resume"),
        (
            Operation::Save,
            control("savestate"),
            "058-controlvm-savestate",
        ),
    ] {
        operate(operation, &[(&argv, record)]).unwrap();
    }
    operate(
        Operation::Discard,
        &[(&["discardstate", DEMO], "099-discardstate")],
    )
    .unwrap();
    operate(
        Operation::Start,
        &[(&["startvm", DEMO, "--type", "headless"], "039-startvm")],
    )
    .unwrap();
}

#[test]
fn what_a_state_forbids_is_told_with_the_state() {
    let error = operate(
        Operation::Pause,
        &[
            (&["controlvm", DEMO, "pause"], "047-controlvm-pause-paused"),
            (INFO, "046-showvminfo-paused"),
        ],
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot pause machine \"demo\" while it is Paused"
    );
    for (operation, verb, record, info, state) in [
        (
            Operation::Resume,
            "resume",
            "050-controlvm-resume-running",
            "042-showvminfo-running",
            State::Running,
        ),
        // Without a code: only the words tell.
        (
            Operation::PowerOff,
            "poweroff",
            "038-controlvm-poweroff-off",
            "032-showvminfo-poweroff",
            State::PoweredOff,
        ),
        (
            Operation::Save,
            "savestate",
            "061-controlvm-savestate-saved",
            "059-showvminfo-saved",
            State::Saved,
        ),
    ] {
        let error = operate(
            operation,
            &[(&["controlvm", DEMO, verb], record), (INFO, info)],
        )
        .unwrap_err();
        assert!(
            matches!(&error, Error::WrongState { state: seen, .. } if *seen == state),
            "{error:?}"
        );
    }
    let error = operate(
        Operation::Start,
        &[
            (
                &["startvm", DEMO, "--type", "headless"],
                "040-startvm-again",
            ),
            (INFO, "042-showvminfo-running"),
        ],
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot start machine \"demo\" while it is Running"
    );
}

#[test]
fn unknown_machines_are_not_called_for() {
    let replay = Replay::new(&[(LIST, "017-list-vms")]);
    let error = block(replay.driver().operate("nosuchvm", Operation::Start)).unwrap_err();
    replay.finish(1);
    assert!(matches!(error, Error::NoSuchMachine { .. }), "{error:?}");
    // Nothing is run at all for a name that would be read as an option.
    let replay = Replay::new(&[]);
    let error = block(replay.driver().operate("--help", Operation::Start)).unwrap_err();
    assert!(matches!(error, Error::BadName { .. }), "{error:?}");
    assert!(!replay.0.path().join("used").exists());
}

const TREE: &[&str] = &["snapshot", DEMO, "list", "--machinereadable"];

#[test]
fn snapshots_are_meant_by_uuid_and_shared_names_are_refused() {
    let take = Operation::TakeSnapshot {
        snapshot: "snap1".to_owned(),
        description: "first one".to_owned(),
    };
    operate(
        take,
        &[(
            &[
                "snapshot",
                DEMO,
                "take",
                "snap1",
                "--description",
                "first one",
            ],
            "052-snapshot-take-running",
        )],
    )
    .unwrap();
    let delete = |name: &str| Operation::DeleteSnapshot {
        snapshot: name.to_owned(),
    };
    let error = operate(delete("snap1"), &[(TREE, "098-snapshot-list-after-delete")]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("6eb91be8-7a02-447a-bc99-7d5d873be46c"),
        "{error}"
    );
    let third = "d7818bd1-f298-4b44-b9c7-d62bdd59b75e";
    operate(
        delete("third snap"),
        &[
            (TREE, "098-snapshot-list-after-delete"),
            (&["snapshot", DEMO, "delete", third], "097-snapshot-delete"),
        ],
    )
    .unwrap();
    let error = operate(delete("any"), &[(TREE, "035-snapshot-list-none")]).unwrap_err();
    assert!(matches!(error, Error::NoSuchSnapshot { .. }), "{error:?}");

    let replay = Replay::new(&[(LIST, "017-list-vms"), (TREE, "089-snapshot-list-tree-mr")]);
    let tree = block(replay.driver().snapshots(DEMO)).unwrap();
    replay.finish(2);
    assert_eq!(tree[3].description, "multi\nline");
}

#[test]
fn a_running_machine_goes_back_to_a_snapshot_and_runs_again() {
    let restore = |name: Option<&str>| Operation::RestoreSnapshot {
        snapshot: name.map(str::to_owned),
    };
    let snap1 = "fdc72c66-ccd3-4645-8e9e-98b493e31947";
    operate(
        restore(Some("snap1")),
        &[
            (TREE, "054-snapshot-list-mr"),
            (INFO, "042-showvminfo-running"),
            (&["controlvm", DEMO, "poweroff"], "080-controlvm-poweroff"),
            // Still locked by the process that is about to end: tried again.
            (
                &["snapshot", DEMO, "restore", snap1],
                "043-modifyvm-while-running",
            ),
            (
                &["snapshot", DEMO, "restore", snap1],
                "063-snapshot-restore-saved",
            ),
            (
                &["startvm", DEMO, "--type", "headless"],
                "065-startvm-from-saved",
            ),
        ],
    )
    .unwrap();
    // Without a name the current one, and one that was off stays off.
    let current = "7264292b-d41b-4f7e-83ab-c6c0fbb1db39";
    operate(
        restore(None),
        &[
            (TREE, "054-snapshot-list-mr"),
            (INFO, "032-showvminfo-poweroff"),
            (
                &["snapshot", DEMO, "restore", current],
                "087-snapshot-restore-name",
            ),
        ],
    )
    .unwrap();
}

#[test]
fn a_new_machine_has_a_disk_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("base.vdi");
    let disk = "/home/user/VirtualBox VMs/demo/demo.vdi";
    let steps: &[(&[&str], &str)] = &[
        (LIST, "001-list-vms-empty"),
        (
            &[
                "createvm",
                "--name",
                "demo",
                "--groups",
                "/host-agent",
                "--ostype",
                "Linux_64",
                "--register",
            ],
            "013-createvm",
        ),
        (
            &[
                "modifyvm",
                DEMO,
                "--memory",
                "512",
                "--cpus",
                "1",
                "--nic1",
                "nat",
                "--nic2",
                "hostonly",
                "--hostonlyadapter2",
                "vboxnet0",
                "--macaddress2",
                "0200000000AB",
            ],
            "020-modifyvm-basic",
        ),
        (
            &[
                "clonemedium",
                "disk",
                image.to_str().unwrap(),
                disk,
                "--format",
                "VDI",
            ],
            "027-createmedium",
        ),
        (
            &[
                "storagectl",
                DEMO,
                "--name",
                "SATA",
                "--add",
                "sata",
                "--controller",
                "IntelAhci",
                "--portcount",
                "2",
            ],
            "029-storagectl",
        ),
        (
            &[
                "storageattach",
                DEMO,
                "--storagectl",
                "SATA",
                "--port",
                "0",
                "--device",
                "0",
                "--type",
                "hdd",
                "--medium",
                disk,
            ],
            "030-storageattach",
        ),
    ];
    let blueprint = Blueprint {
        image: Some(image.clone()),
        memory_mib: Some(512),
        mac: Some("02:00:00:00:00:ab".parse().unwrap()),
        ..Blueprint::default()
    };
    let replay = Replay::new(steps);
    block(
        replay
            .driver()
            .operate("demo", Operation::Create(blueprint.clone())),
    )
    .unwrap();
    replay.finish(6);

    // One that cannot be furnished is taken away again.
    let mut failing = steps[..3].to_vec();
    failing[2].1 = "024-modifyvm-mac-bad";
    failing.push((&["unregistervm", DEMO, "--delete"], "110-unregistervm"));
    let replay = Replay::new(&failing);
    let error = block(
        replay
            .driver()
            .operate("demo", Operation::Create(blueprint)),
    )
    .unwrap_err();
    replay.finish(4);
    assert!(
        error.to_string().contains("Invalid MAC address format"),
        "{error}"
    );

    // One of that name that is there already is left alone.
    let replay = Replay::new(&[(LIST, "017-list-vms")]);
    let error = block(
        replay
            .driver()
            .operate("demo", Operation::Create(Blueprint::default())),
    )
    .unwrap_err();
    replay.finish(1);
    assert!(matches!(error, Error::Exists { .. }), "{error:?}");
}

#[test]
fn removing_leaves_disks_that_the_driver_did_not_make() {
    operate(
        Operation::Remove,
        &[
            (INFO, "032-showvminfo-poweroff"),
            (&["unregistervm", DEMO], "110-unregistervm"),
        ],
    )
    .unwrap();
}

#[test]
fn the_console_is_where_the_serial_port_goes() {
    let list: &[(&[&str], &str)] = &[(LIST, "017-list-vms")];
    let console = |machine, uuid: &'static str, record| {
        let info = ["showvminfo", uuid, "--machinereadable"];
        let steps = [list[0], (&info, record)];
        let replay = Replay::new(&steps);
        let console = block(replay.driver().console(machine));
        replay.finish(2);
        console
    };
    assert_eq!(
        console(QUOTED, QUOTED, "208-showvminfo-running-ga").unwrap(),
        Console::Log("/tmp/serial.log".into())
    );
    let error = console("demo", DEMO, "042-showvminfo-running").unwrap_err();
    assert!(error.to_string().contains("--uartmode1"), "{error}");
}

#[test]
fn a_missing_tool_is_a_finding_with_the_remedy() {
    let driver = VirtualBox::new(VirtualBoxSettings {
        helpers: Some("/nonexistent".into()),
        interface: None,
    });
    let findings = block(driver.check()).unwrap();
    assert_eq!(findings.len(), 1);
    assert!(!findings[0].ok);
    assert!(
        findings[0].remedy.contains("hypervisor_helpers_path"),
        "{findings:?}"
    );

    let replay = Replay::new(&[
        (&["--version"], "000-version"),
        (LIST, "017-list-vms"),
        (&["list", "hostonlyifs"], "005-list-hostonlyifs-1"),
    ]);
    let findings = block(replay.driver().check()).unwrap();
    replay.finish(3);
    let told: Vec<_> = findings
        .iter()
        .map(|finding| finding.what.as_str())
        .collect();
    assert_eq!(told[0], "VBoxManage 7.2.22_Debianr175245");
    assert!(told.contains(&"host-only interface vboxnet0"), "{told:?}");
}
