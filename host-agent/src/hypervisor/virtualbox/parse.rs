//! What `VBoxManage` prints, as values.
//!
//! It escapes nothing: names hold quotes, descriptions hold line breaks and whatever looks like another key.
//! So names are found from the right, and of a key that comes twice the first counts: the machine's own keys
//! come before every text that somebody wrote.

use std::collections::HashMap;

use beacon::MacId;

use super::super::machine::{Console, Performance, Snapshot, State};

/// A line of `list vms`: name and uuid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) uuid: String,
}

/// Reads `list vms` or `list runningvms`. Lines that are no machine are left out: warnings come before them.
pub(super) fn machines(text: &str) -> Vec<Listed> {
    text.lines().filter_map(listed).collect()
}

/// Reads `"NAME" {UUID}`, from the right.
fn listed(line: &str) -> Option<Listed> {
    let rest = line.trim_end().strip_suffix('}')?;
    let (rest, uuid) = rest.split_at_checked(rest.len().checked_sub(UUID_LENGTH)?)?;
    let name = rest.strip_suffix("\" {")?.strip_prefix('"')?;
    is_uuid(uuid).then(|| Listed {
        name: name.to_owned(),
        uuid: uuid.to_owned(),
    })
}

const UUID_LENGTH: usize = 36;

fn is_uuid(text: &str) -> bool {
    text.len() == UUID_LENGTH
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// What `showvminfo --machinereadable` says of a machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Info {
    pub(super) state: State,
    pub(super) macs: Vec<MacId>,
    /// Whether this driver made it: it then owns its disks.
    pub(super) ours: bool,
    pub(super) console: Option<Console>,
    pub(super) performance: Performance,
}

/// The group that machines of this driver are in.
pub(super) const GROUP: &str = "/host-agent";

/// Reads `showvminfo --machinereadable`. What is missing or odd is unknown, not an error: a machine whose
/// files cannot be read has next to no keys.
pub(super) fn info(text: &str) -> Info {
    let mut values: HashMap<&str, &str> = HashMap::new();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            values.entry(key).or_insert_with(|| unquoted(value));
        }
    }
    let value = |key: &str| values.get(key).copied();
    let number = |key: &str| value(key).and_then(|text| text.parse::<f64>().ok());
    let mut performance = Performance::new();
    if let Some(cpus) = number("cpus") {
        performance.insert("cpus".to_owned(), cpus);
    }
    if let Some(mib) = number("memory") {
        performance.insert("memory_max_bytes".to_owned(), mib * 1024.0 * 1024.0);
    }
    Info {
        state: value("VMState").map_or(State::Unknown, state),
        macs: (1..=CARDS_MAX)
            // A card that is not plugged in has no MAC, but a description may claim one.
            .filter(|card| value(&format!("nic{card}")).is_some_and(|kind| kind != "none"))
            .filter_map(|card| value(&format!("macaddress{card}"))?.parse().ok())
            .collect(),
        ours: value("groups").is_some_and(|groups| groups.split(',').any(|group| group == GROUP)),
        console: (1..=4).find_map(|port| console(value(&format!("uartmode{port}"))?)),
        performance,
    }
}

/// Network cards of a machine at most.
const CARDS_MAX: u32 = 36;

fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .map_or(value, |inner| inner.strip_suffix('"').unwrap_or(inner))
}

/// Reads where a serial port goes: `file,PATH` or `server,PATH`.
fn console(mode: &str) -> Option<Console> {
    match mode.split_once(',')? {
        ("file", path) => Some(Console::Log(path.into())),
        ("server", path) => Some(Console::Socket(path.into())),
        _ => None,
    }
}

/// Returns the state that `VBoxManage` calls by that word.
fn state(word: &str) -> State {
    match word {
        "poweroff" | "teleported" => State::PoweredOff,
        // Its saved state is still there; only the last try to take it up went wrong.
        "saved" | "aborted-saved" => State::Saved,
        "aborted" => State::Aborted,
        "running" | "teleporting" | "deletingsnapshotlive" => State::Running,
        "paused" | "teleportingpausedvm" | "deletingsnapshotlivepaused" => State::Paused,
        "gurumeditation" => State::Stuck,
        "starting" | "settingup" | "teleportingin" | "faulttolerantsyncing" => State::Starting,
        "stopping" => State::Stopping,
        "saving" | "snapshotting" | "livesnapshotting" | "onlinesnapshotting" => State::Saving,
        "restoring" | "restoringsnapshot" => State::Restoring,
        "deletingsnapshot" => State::Discarding,
        _ => State::Unknown,
    }
}

/// Reads `snapshot list --machinereadable`, each snapshot after its parent.
///
/// Only the first snapshot has a bare key; those below it carry their path, `SnapshotName-1-2`. The keys of
/// the current one stand in the middle. A line that is none of the known keys goes on with a description.
pub(super) fn snapshots(text: &str) -> Vec<Snapshot> {
    let mut found: Vec<(String, Snapshot)> = Vec::new();
    let mut current = None;
    let mut describing = false;
    for line in text.lines() {
        let known = line
            .split_once("=\"")
            .and_then(|(key, value)| Some((SnapshotKey::read(key)?, value)));
        let Some((key, value)) = known else {
            if describing && let Some((_, snapshot)) = found.last_mut() {
                snapshot.description.push('\n');
                snapshot.description.push_str(line);
            }
            continue;
        };
        describing = false;
        let whole = || value.strip_suffix('"').unwrap_or(value).to_owned();
        match key {
            SnapshotKey::Name(path) => found.push((
                path.to_owned(),
                Snapshot {
                    name: whole(),
                    id: String::new(),
                    description: String::new(),
                    time: None,
                    parent: None,
                    current: false,
                },
            )),
            SnapshotKey::Uuid(path) => {
                if let Some((_, snapshot)) = found.last_mut().filter(|(own, _)| own == path) {
                    snapshot.id = whole();
                }
            }
            SnapshotKey::Description(path) => {
                if let Some((_, snapshot)) = found.last_mut().filter(|(own, _)| own == path) {
                    value.clone_into(&mut snapshot.description);
                    describing = true;
                }
            }
            SnapshotKey::Current => current = Some(whole()),
            SnapshotKey::Other => {}
        }
    }
    let ids: HashMap<String, String> = found
        .iter()
        .map(|(path, snapshot)| (path.clone(), snapshot.id.clone()))
        .collect();
    found
        .into_iter()
        .filter(|(_, snapshot)| is_uuid(&snapshot.id))
        .map(|(path, mut snapshot)| {
            if snapshot.description.ends_with('"') {
                snapshot.description.pop();
            }
            snapshot.parent = path
                .rsplit_once('-')
                .and_then(|(parent, _)| ids.get(parent).cloned());
            snapshot.current = current.as_ref() == Some(&snapshot.id);
            snapshot
        })
        .collect()
}

/// A key of the list of snapshots, with the path in the tree: empty for the first, `-1-2` below it.
enum SnapshotKey<'a> {
    Name(&'a str),
    Uuid(&'a str),
    Description(&'a str),
    Current,
    Other,
}

impl<'a> SnapshotKey<'a> {
    fn read(key: &'a str) -> Option<Self> {
        match key {
            "CurrentSnapshotUUID" => return Some(Self::Current),
            "CurrentSnapshotName" | "CurrentSnapshotNode" => return Some(Self::Other),
            _ => {}
        }
        let path = |prefix| key.strip_prefix(prefix).filter(|path| is_path(path));
        path("SnapshotName")
            .map(Self::Name)
            .or_else(|| path("SnapshotUUID").map(Self::Uuid))
            .or_else(|| path("SnapshotDescription").map(Self::Description))
    }
}

fn is_path(path: &str) -> bool {
    path.is_empty()
        || path.strip_prefix('-').is_some_and(|path| {
            path.split('-')
                .all(|step| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()))
        })
}

/// What `VBoxManage` complains of: its own words without progress, context and the program's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The symbol after `Details: code`, such as `VBOX_E_INVALID_VM_STATE`.
    pub(super) code: Option<String>,
    /// The message.
    pub(super) said: String,
}

/// Reads standard error of a call that failed.
pub(super) fn complaint(text: &str) -> Complaint {
    let mut code = None;
    let mut said: Vec<&str> = Vec::new();
    for line in text.lines() {
        let Some(words) = line.trim().strip_prefix("VBoxManage: error: ") else {
            continue;
        };
        if let Some(details) = words.strip_prefix("Details: code ") {
            let symbol = details.split([' ', ',']).next();
            code = code.or_else(|| symbol.map(str::to_owned));
        } else if !words.starts_with("Context: ") {
            said.push(words);
        }
    }
    let said = if said.is_empty() {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("0%..."))
            .take(3)
            .collect::<Vec<_>>()
            .join("; ")
    } else {
        said.join("; ")
    };
    Complaint { code, said }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const HOST: &str = include_str!("../../../tests/data/vboxmanage/recorded-7.2.22-host.jsonl");
    const GUEST: &str = include_str!("../../../tests/data/vboxmanage/recorded-7.2.22-guest.jsonl");
    const CONTROL: &str =
        include_str!("../../../tests/data/vboxmanage/recorded-7.2.22-guestcontrol.jsonl");
    const OLDER: &str = include_str!("../../../tests/data/vboxmanage/public-samples.txt");

    fn records() -> Vec<Value> {
        [HOST, GUEST, CONTROL]
            .iter()
            .flat_map(|text| text.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn record(name: &str) -> Value {
        records()
            .into_iter()
            .find(|record| record["name"] == name)
            .unwrap()
    }

    fn out(name: &str) -> String {
        record(name)["stdout"].as_str().unwrap().to_owned()
    }

    /// A sample of an older version: its heading and the text below it.
    fn older() -> Vec<(String, String)> {
        OLDER
            .split("\n=== ")
            .map(|sample| {
                let (head, body) = sample.split_once("\n---\n").unwrap();
                let title = head.lines().next().unwrap().trim_start_matches("=== ");
                (title.to_owned(), body.to_owned())
            })
            .collect()
    }

    #[test]
    fn every_recorded_answer_can_be_read() {
        let all = records();
        assert_eq!(all.len(), 173);
        let (mut infos, mut lists, mut trees, mut refusals) = (0, 0, 0, 0);
        for record in &all {
            let name = record["name"].as_str().unwrap();
            let cmd = record["cmd"].as_str().unwrap();
            let (out, err) = (
                record["stdout"].as_str().unwrap(),
                record["stderr"].as_str().unwrap(),
            );
            if cmd.contains("showvminfo")
                && cmd.contains("--machinereadable")
                && record["exit"] == 0
            {
                infos += 1;
                let info = info(out);
                assert_ne!(info.state, State::Unknown, "{name}");
                assert!(info.performance["memory_max_bytes"] > 0.0, "{name}");
            }
            let list = machines(out);
            if matches!(record["argv"][0].as_str(), Some("list"))
                && matches!(
                    record["argv"].as_array().unwrap().last().unwrap().as_str(),
                    Some("vms" | "runningvms")
                )
                && record["argv"][1] != "--long"
            {
                lists += 1;
                assert_eq!(list.len(), out.lines().count(), "{name}");
            } else {
                assert_eq!(list, [], "{name}");
            }
            if cmd.contains("snapshot") && cmd.contains("list") && cmd.contains("--machinereadable")
            {
                trees += 1;
                let tree = snapshots(out);
                assert_eq!(
                    tree.iter().filter(|s| s.current).count(),
                    usize::from(!tree.is_empty()),
                    "{name}"
                );
            }
            if record["exit"] != 0 && !err.is_empty() {
                refusals += 1;
                let complaint = complaint(err);
                assert!(!complaint.said.is_empty(), "{name}");
                assert!(
                    !complaint.said.contains("Context:"),
                    "{name}: {complaint:?}"
                );
                assert_eq!(
                    complaint.code.is_some(),
                    err.contains("Details: code"),
                    "{name}: {complaint:?}"
                );
            }
            // Whatever it is, no reader minds it.
            let _ = (info(out), snapshots(out), complaint(out));
        }
        assert_eq!((infos, lists, trees), (13, 9, 4));
        assert_eq!(refusals, 39);
    }

    #[test]
    fn quotes_in_names_are_part_of_them() {
        let names: Vec<String> = machines(&out("017-list-vms"))
            .into_iter()
            .map(|machine| machine.name)
            .collect();
        assert_eq!(names, ["demo", "my vm (2) \"q\""]);
        let nasty =
            "\"a\" {27e5adc6-44e1-4c5c-9964-fb1c6cabfaa0}\" {ec32a5ed-1dba-4198-9d7d-202931891919}";
        assert_eq!(
            machines(nasty),
            [Listed {
                name: "a\" {27e5adc6-44e1-4c5c-9964-fb1c6cabfaa0}".to_owned(),
                uuid: "ec32a5ed-1dba-4198-9d7d-202931891919".to_owned(),
            }]
        );
        for odd in [
            "",
            "}",
            "\"a\" {}",
            "é}",
            "WARNING: The character device /dev/vboxdrv",
            "\" {27e5adc6-44e1-4c5c-9964-fb1c6cabfaa0}",
        ] {
            assert_eq!(machines(odd), [], "{odd:?}");
        }
    }

    #[test]
    fn states_are_those_of_the_recordings() {
        for (name, state) in [
            ("032-showvminfo-poweroff", State::PoweredOff),
            ("042-showvminfo-running", State::Running),
            ("046-showvminfo-paused", State::Paused),
            ("059-showvminfo-saved", State::Saved),
            ("064-showvminfo-restored", State::Saved),
            ("083-showvminfo-aborted", State::Aborted),
        ] {
            assert_eq!(info(&out(name)).state, state, "{name}");
        }
        assert_eq!(state("gurumeditation"), State::Stuck);
        assert_eq!(state("of-a-later-version"), State::Unknown);
    }

    #[test]
    fn macs_are_those_of_the_cards_that_are_plugged_in() {
        let macs = info(&out("042-showvminfo-running")).macs;
        let expected: Vec<MacId> = ["08:00:27:aa:bb:01", "08:00:27:66:2b:56"]
            .iter()
            .map(|mac| mac.parse().unwrap())
            .collect();
        assert_eq!(macs, expected);
        assert_eq!(
            info(&out("208-showvminfo-running-ga")).console,
            Some(Console::Log("/tmp/serial.log".into()))
        );
    }

    #[test]
    fn a_description_cannot_pass_for_the_machines_own_keys() {
        let mut text = out("042-showvminfo-running");
        text.push_str("description=\"first\nVMState=\"poweroff\"\nnic1=\"none\"\nnic9=\"none\"\nmacaddress3=\"020000000001\"\ngroups=\"/host-agent\"\n\"\n");
        let info = info(&text);
        assert_eq!(info.state, State::Running);
        assert_eq!(info.macs.len(), 2);
        assert!(!info.ours);
    }

    #[test]
    fn the_tree_of_snapshots_has_parents_and_whole_descriptions() {
        let tree = snapshots(&out("089-snapshot-list-tree-mr"));
        let told: Vec<_> = tree
            .iter()
            .map(|s| (s.name.as_str(), s.description.as_str(), s.current))
            .collect();
        assert_eq!(
            told,
            [
                ("snap1", "first one", false),
                ("snap2", "", false),
                ("branch", "", true),
                ("third snap", "multi\nline", false),
            ]
        );
        let parents: Vec<_> = tree.iter().map(|s| s.parent.as_deref()).collect();
        let id = |n: usize| Some(tree[n].id.as_str());
        assert_eq!(parents, [None, id(0), id(1), id(0)]);
        assert_eq!(snapshots(&out("035-snapshot-list-none")), []);
        // Two of one name, told apart by their ids.
        let after = snapshots(&out("098-snapshot-list-after-delete"));
        assert_eq!(after.iter().filter(|s| s.name == "snap1").count(), 2);
    }

    #[test]
    fn older_versions_are_understood() {
        let mut seen = [0; 3];
        for (title, body) in older() {
            if title.contains("list vms") || title.contains("list_vms") {
                seen[0] += 1;
                assert!(!machines(&body).is_empty(), "{title}");
            } else if title.contains("showvminfo") || title.contains("vminfo_stdout") {
                seen[1] += 1;
                let info = info(&body);
                assert_ne!(info.state, State::Unknown, "{title}");
                assert_eq!(info.macs.len(), 1, "{title}");
            } else if title.contains("snapshot list") {
                seen[2] += 1;
                let tree = snapshots(&body);
                assert_eq!(tree.len(), 11, "{title}");
                assert_eq!(tree[5].name, "Snapshot-Export");
                assert_eq!(tree[5].parent.as_ref(), Some(&tree[1].id));
                assert!(tree[5].current);
            }
        }
        assert_eq!(seen, [2, 2, 1]);
    }

    #[test]
    fn complaints_are_told_by_their_code() {
        let read = |name: &str| complaint(record(name)["stderr"].as_str().unwrap());
        assert_eq!(
            read("047-controlvm-pause-paused"),
            Complaint {
                code: Some("VBOX_E_INVALID_VM_STATE".to_owned()),
                said: "Already paused".to_owned(),
            }
        );
        assert_eq!(
            read("037-controlvm-pause-off"),
            Complaint {
                code: None,
                said: "Machine 'demo' is not currently running.".to_owned(),
            }
        );
        // The progress is no part of it.
        assert!(
            read("028-createmedium-exists")
                .said
                .starts_with("Failed to create medium")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "(?s)[\"{}=\\n\\-Snapshotname0-9é ]{0,200}") {
            let _ = (machines(&text), info(&text), snapshots(&text), complaint(&text));
        }

        #[test]
        fn any_name_is_found_again(name in "[^\\r\\n]{0,60}") {
            let line = format!("\"{name}\" {{ec32a5ed-1dba-4198-9d7d-202931891919}}\n");
            let found = machines(&line);
            proptest::prop_assert_eq!(found.len(), 1);
            proptest::prop_assert_eq!(&found[0].name, &name);
        }
    }
}
