//! What `virsh` prints, as values: tables and words of some commands, XML of others.

use std::path::PathBuf;

use beacon::MacId;
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::{BytesStart, Event};

use super::super::machine::{Console, Performance, Snapshot, State};

const UUID_LENGTH: usize = 36;

/// Reads `list --all --uuid --name`: a uuid and a name on each line. Names may hold blanks.
pub(super) fn machines(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.trim_end().split_at_checked(UUID_LENGTH))
        .filter_map(|(uuid, name)| Some((uuid.to_owned(), name.strip_prefix(' ')?.to_owned())))
        .filter(|(uuid, _)| uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'))
        .collect()
}

/// What is put between the answers to the questions about one machine.
pub(super) const MARK: &str = "@@";

/// Reads `domstate --reason`, `dominfo` and `domiflist`, with [`MARK`] between them.
pub(super) fn about(text: &str) -> Option<(State, Vec<MacId>)> {
    // The mark has no line's end of its own.
    let mut parts = text.splitn(3, MARK);
    let (state, info, cards) = (parts.next()?, parts.next()?, parts.next()?);
    let saved = info.lines().any(|line| {
        line.split_once(':')
            .is_some_and(|(key, value)| key.trim() == "Managed save" && value.trim() == "yes")
    });
    let macs = cards
        .lines()
        .filter_map(|line| line.split_whitespace().last()?.parse().ok())
        .collect();
    let state = match self::state(state.trim()) {
        // The reason is forgotten when the daemon starts again, and stays when the saved memory is removed.
        State::PoweredOff | State::Aborted | State::Saved if saved => State::Saved,
        State::Saved => State::PoweredOff,
        state => state,
    };
    Some((state, macs))
}

/// Returns the state that `domstate --reason` calls by these words.
fn state(words: &str) -> State {
    let (word, reason) = words.split_once(" (").map_or((words, ""), |(word, rest)| {
        (word, rest.trim_end_matches(')'))
    });
    match (word, reason) {
        ("running" | "idle", _) => State::Running,
        ("paused", "I/O error" | "watchdog" | "crashed" | "post-copy failed") => State::Stuck,
        ("paused", "saving" | "dumping" | "creating snapshot") => State::Saving,
        ("paused", "starting up") => State::Starting,
        ("paused", "shutting down") => State::Stopping,
        ("paused" | "pmsuspended", _) => State::Paused,
        ("in shutdown", _) => State::Stopping,
        ("shut off", "saved") => State::Saved,
        ("shut off", "crashed" | "failed") => State::Aborted,
        ("shut off", _) => State::PoweredOff,
        ("crashed", _) => State::Stuck,
        _ => State::Unknown,
    }
}

/// Reads `domstats --raw` of one machine.
pub(super) fn performance(text: &str) -> Performance {
    let mut found = Performance::new();
    for line in text.lines() {
        let Some((key, Ok(value))) = line
            .trim()
            .split_once('=')
            .map(|(key, value)| (key, value.parse::<f64>()))
        else {
            continue;
        };
        let parts: Vec<&str> = key.split('.').collect();
        let (name, factor) = match parts.as_slice() {
            ["cpu", "time"] => ("cpu_s", 1e-9),
            ["vcpu", "current"] => ("cpus", 1.0),
            ["balloon", "maximum"] => ("memory_max_bytes", 1024.0),
            ["balloon", "rss"] => ("memory_bytes", 1024.0),
            ["block", _, "rd", "bytes"] => ("disk_read_bytes", 1.0),
            ["block", _, "wr", "bytes"] => ("disk_write_bytes", 1.0),
            ["net", _, "rx", "bytes"] => ("net_rx_bytes", 1.0),
            ["net", _, "tx", "bytes"] => ("net_tx_bytes", 1.0),
            _ => continue,
        };
        *found.entry(name.to_owned()).or_default() += value * factor;
    }
    found
}

/// An element of a document: its path from the root, its attributes and its own text.
#[derive(Debug, Default)]
struct Element {
    path: String,
    attributes: Vec<(String, String)>,
    text: String,
}

impl Element {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Reads a document as a list of its elements in order; no further than it is well formed.
fn elements(xml: &str) -> Vec<Element> {
    let mut reader = Reader::from_str(xml);
    let mut found: Vec<Element> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                open.push(found.len());
                found.push(element(&start, &found, open.iter().rev().nth(1).copied()));
            }
            Ok(Event::Empty(start)) => {
                found.push(element(&start, &found, open.last().copied()));
            }
            Ok(Event::End(_)) => drop(open.pop()),
            Ok(Event::Text(text)) => say(&mut found, &open, &text),
            Ok(Event::CData(text)) => say(&mut found, &open, &text),
            Ok(Event::GeneralRef(name)) => {
                let text = format!("&{};", &*name);
                if let Ok(text) = unescape(&text) {
                    say(&mut found, &open, &text);
                }
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

fn element(start: &BytesStart<'_>, found: &[Element], parent: Option<usize>) -> Element {
    let above = parent.and_then(|at| found.get(at)).map_or("", |e| &e.path);
    Element {
        path: format!("{above}/{}", start.name().as_ref()),
        attributes: start
            .attributes()
            .flatten()
            .filter_map(|attribute| {
                let value = unescape(&attribute.value).ok()?.into_owned();
                Some((attribute.key.as_ref().to_owned(), value))
            })
            .collect(),
        text: String::new(),
    }
}

fn say(found: &mut [Element], open: &[usize], text: &str) {
    if let Some(element) = open.last().and_then(|&at| found.get_mut(at)) {
        element.text.push_str(text);
    }
}

/// Reads `snapshot-dumpxml`.
pub(super) fn snapshot(xml: &str) -> Option<Snapshot> {
    let all = elements(xml);
    let text = |path: &str| {
        all.iter()
            .find(|element| element.path == path)
            .map(|element| element.text.clone())
    };
    let name = text("/domainsnapshot/name")?;
    Some(Snapshot {
        id: name.clone(),
        name,
        description: text("/domainsnapshot/description").unwrap_or_default(),
        time: text("/domainsnapshot/creationTime").and_then(|text| text.parse().ok()),
        parent: text("/domainsnapshot/parent/name"),
        current: false,
    })
}

/// Puts each snapshot after its parent, as far as they have one in the list.
pub(super) fn parents_first(mut left: Vec<Snapshot>) -> Vec<Snapshot> {
    let mut sorted: Vec<Snapshot> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let ready = left.iter().position(|snapshot| {
            !left
                .iter()
                .any(|other| snapshot.parent.as_ref() == Some(&other.id))
        });
        // Parents that go round in a circle are not libvirt's.
        sorted.push(left.remove(ready.unwrap_or(0)));
    }
    sorted
}

/// Reads from `dumpxml` where the first serial port goes, where that is a file or socket of this host.
pub(super) fn console(xml: &str) -> Option<Console> {
    let all = elements(xml);
    let at = all
        .iter()
        .position(|element| element.path == "/domain/devices/serial")?;
    let path = || {
        all.get(at + 1..)?
            .iter()
            .find(|element| element.path == "/domain/devices/serial/source")?
            .attribute("path")
            .map(PathBuf::from)
    };
    match all.get(at)?.attribute("type")? {
        "file" => path().map(Console::Log),
        "unix" => path().map(Console::Socket),
        _ => None,
    }
}

/// Reads from `dumpxml` which files are the machine's disks.
pub(super) fn disks(xml: &str) -> Vec<PathBuf> {
    elements(xml)
        .iter()
        .filter(|element| element.path == "/domain/devices/disk/source")
        .filter_map(|element| element.attribute("file").map(PathBuf::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_are_whole() {
        let text = "6695eb01-f6a4-8304-79aa-97f2502e193f test\n\
                    e9606851-05b4-4599-9157-f5f8aaf32214 t 1 \"q\"\n\n";
        let names: Vec<_> = machines(text).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["test", "t 1 \"q\""]);
    }

    #[test]
    fn words_and_reasons_are_states() {
        for (words, expected) in [
            ("running (booted)", State::Running),
            ("paused (user)", State::Paused),
            ("paused (I/O error)", State::Stuck),
            ("shut off (destroyed)", State::PoweredOff),
            ("shut off (saved)", State::Saved),
            ("shut off (crashed)", State::Aborted),
            ("in shutdown", State::Stopping),
            ("a word of later", State::Unknown),
        ] {
            assert_eq!(state(words), expected, "{words}");
        }
        let told = |state: &str, saved: &str| {
            about(&format!(
                "{state}\n@@Id:  1\nManaged save:   {saved}\n@@ testnet0   network   default   -   aa:bb:cc:dd:ee:ff\n -   user   -   virtio   02:00:00:00:00:07\n"
            ))
            .unwrap()
        };
        // The daemon was started again since.
        assert_eq!(told("shut off (unknown)", "yes").0, State::Saved);
        assert_eq!(told("shut off (unknown)", "no").0, State::PoweredOff);
        assert_eq!(told("shut off (saved)", "no").0, State::PoweredOff);
        assert_eq!(told("running (booted)", "no").1.len(), 2);
    }

    #[test]
    fn a_snapshots_own_texts_are_told_from_the_machines() {
        let xml = "<domainsnapshot><name>a &lt;b&gt; &#233;</name><description>two\nlines &amp; more</description>\
                   <parent><name>p</name></parent><creationTime>1795316843</creationTime>\
                   <domain><name>machine</name><description>no</description></domain></domainsnapshot>";
        let snapshot = snapshot(xml).unwrap();
        assert_eq!(snapshot.name, "a <b> é");
        assert_eq!(snapshot.description, "two\nlines & more");
        assert_eq!(snapshot.parent.as_deref(), Some("p"));
        assert_eq!(snapshot.time, Some(1_795_316_843.0));
        assert_eq!(self::snapshot("<domainsnapshot><na"), None);
        assert_eq!(self::snapshot(""), None);
    }

    #[test]
    fn a_circle_of_parents_ends() {
        let make = |id: &str, parent: &str| Snapshot {
            name: id.to_owned(),
            id: id.to_owned(),
            description: String::new(),
            time: None,
            parent: Some(parent.to_owned()),
            current: false,
        };
        let sorted = parents_first(vec![
            make("b", "a"),
            make("a", "none"),
            make("c", "d"),
            make("d", "c"),
        ]);
        let ids: Vec<_> = sorted.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids.len(), 4);
        assert_eq!(&ids[..2], ["a", "b"]);
    }

    #[test]
    fn figures_are_summed_in_their_units() {
        let figures = performance(
            "Domain: 't 1'\n  cpu.time=450000000\n  balloon.rss=44880\n  net.0.rx.bytes=5\n  net.1.rx.bytes=6\n  odd=x\n",
        );
        assert_eq!(figures["cpu_s"], 0.45);
        assert_eq!(figures["memory_bytes"], 45_957_120.0);
        assert_eq!(figures["net_rx_bytes"], 11.0);
    }

    #[test]
    fn the_console_is_the_first_serial_port() {
        let xml = "<domain><devices><serial type='file'><source path='/tmp/a'/></serial>\
                   <serial type='pty'><source path='/dev/pts/1'/></serial>\
                   <disk><source file='/d1'/></disk></devices></domain>";
        assert_eq!(console(xml), Some(Console::Log("/tmp/a".into())));
        assert_eq!(disks(xml), [PathBuf::from("/d1")]);
        assert_eq!(console("<domain/>"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "(?s)[<>/&;#a-c='\" @:.0-9\\n]{0,200}") {
            let _ = (machines(&text), about(&text), performance(&text), snapshot(&text), console(&text), disks(&text));
        }
    }
}
