//! Snapshots inside a machine's disk, taken and loaded by QEMU's jobs while it runs and by `qemu-img` while it
//! does not.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::folder::{DISK, Folder};
use super::monitor::{Monitor, Trouble};
use super::qmp::Refusal;
use crate::hypervisor::Error;
use crate::hypervisor::machine::Snapshot;
use crate::hypervisor::tool::Tool;

/// The tag of the memory that a saved machine goes on from. Nobody's snapshot.
pub(super) const SAVED: &str = "host-agent-saved";

/// How long one may take: memory is written to a disk, or read from it.
const LIMIT: Duration = Duration::from_secs(120);

/// Snapshots of a machine at most: their list is read each time.
const SNAPSHOTS_MAX: usize = 1000;

/// Bytes of a description at most.
const DESCRIPTION_MAX: usize = 4096;

/// A snapshot as the disk has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tag {
    /// Its name.
    pub(super) name: String,
    /// Whether memory is in it, so that a machine can go on from it.
    pub(super) memory: bool,
    /// When it was taken, in seconds since 1970.
    time: f64,
}

/// What is remembered of snapshots beside the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Notes {
    /// The snapshot that the machine's present state comes from.
    pub(super) current: Option<String>,
    /// By name.
    of: BTreeMap<String, Note>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    description: String,
    parent: Option<String>,
}

/// The file of the notes.
const NOTES: &str = "snapshots.json";

impl Notes {
    /// Reads a machine's notes.
    pub(super) fn read(folder: &Folder) -> Result<Self, Error> {
        Ok(folder.read(NOTES)?.unwrap_or_default())
    }

    /// Writes them.
    pub(super) fn write(&self, folder: &Folder) -> Result<(), Error> {
        folder.write(NOTES, self)
    }

    /// Remembers a snapshot that was taken now.
    pub(super) fn taken(&mut self, name: &str, description: &str) {
        let note = Note {
            description: description.to_owned(),
            parent: self.current.replace(name.to_owned()),
        };
        self.of.insert(name.to_owned(), note);
    }

    /// Forgets a snapshot; what came from it comes from its parent now.
    pub(super) fn deleted(&mut self, name: &str) {
        let parent = self.of.remove(name).and_then(|note| note.parent);
        for note in self.of.values_mut() {
            if note.parent.as_deref() == Some(name) {
                note.parent.clone_from(&parent);
            }
        }
        if self.current.as_deref() == Some(name) {
            self.current = parent;
        }
    }

    /// Returns the snapshots of a disk with what is remembered of them, each after its parent.
    pub(super) fn describe(&self, tags: Vec<Tag>) -> Vec<Snapshot> {
        let mut tags: Vec<_> = tags.into_iter().filter(|tag| tag.name != SAVED).collect();
        // A parent was there before.
        tags.sort_by(|a, b| a.time.total_cmp(&b.time));
        let known: Vec<_> = tags.iter().map(|tag| tag.name.clone()).collect();
        tags.into_iter()
            .map(|tag| {
                let note = self.of.get(&tag.name).cloned().unwrap_or_default();
                Snapshot {
                    id: tag.name.clone(),
                    description: note.description,
                    time: Some(tag.time),
                    parent: note.parent.filter(|parent| known.contains(parent)),
                    current: self.current.as_ref() == Some(&tag.name),
                    name: tag.name,
                }
            })
            .collect()
    }
}

/// Looks at what somebody wants to call and say of a snapshot.
pub(super) fn check(tags: &[Tag], name: &str, description: &str) -> Result<(), Error> {
    if name == SAVED {
        return Err(Error::BadName {
            what: "snapshot",
            name: name.to_owned(),
            why: "is the driver's own",
        });
    }
    if tags.iter().any(|tag| tag.name == name) {
        return Err(Error::Exists {
            what: format!("snapshot {name:?}"),
        });
    }
    let bad = |reason: String| {
        Err(Error::BadArgument {
            what: format!("snapshot {name:?}"),
            reason,
        })
    };
    if description.len() > DESCRIPTION_MAX {
        return bad(format!(
            "its description is longer than {DESCRIPTION_MAX} bytes"
        ));
    }
    if tags.len() >= SNAPSHOTS_MAX {
        return bad(format!(
            "the machine has {SNAPSHOTS_MAX} already; delete some"
        ));
    }
    Ok(())
}

/// Returns the snapshots of a running machine's disk.
pub(super) async fn live(monitor: &mut Monitor) -> Result<Vec<Tag>, Trouble> {
    let nodes = monitor
        .execute("query-named-block-nodes", json!({ "flat": true }))
        .await?;
    let node = find(&nodes, "node-name", "disk0");
    Ok(tags(node.and_then(|node| node.pointer("/image/snapshots"))))
}

/// Returns the snapshots of a disk that nobody has open.
pub(super) async fn kept(qemu_img: &Tool, folder: &Folder) -> Result<Vec<Tag>, Error> {
    let what = || format!("qemu-img info of machine {:?}", folder.name);
    let text = image(qemu_img, folder, ["info", "--output=json"], &[], what()).await?;
    let info: Value = serde_json::from_str(&text).map_err(|error| Error::BadAnswer {
        what: what(),
        reason: error.to_string(),
    })?;
    Ok(tags(info.get("snapshots")))
}

/// Returns the first of a list whose `key` is that text.
fn find<'a>(list: &'a Value, key: &str, text: &str) -> Option<&'a Value> {
    let mut list = list.as_array()?.iter();
    list.find(|entry| entry.get(key).and_then(Value::as_str) == Some(text))
}

fn tags(list: Option<&Value>) -> Vec<Tag> {
    let number = |entry: &Value, key| entry.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            Some(Tag {
                name: entry.get("name")?.as_str()?.to_owned(),
                memory: number(entry, "vm-state-size") > 0.0,
                time: number(entry, "date-sec") + number(entry, "date-nsec") / 1e9,
            })
        })
        .collect()
}

/// Changes the snapshots of a disk that nobody has open: `-c` makes one, `-a` goes back to one, `-d` deletes it.
pub(super) async fn change(
    qemu_img: &Tool,
    folder: &Folder,
    option: &str,
    name: &str,
) -> Result<(), Error> {
    let what = format!(
        "qemu-img snapshot {option} {name:?} of machine {:?}",
        folder.name
    );
    image(qemu_img, folder, ["snapshot", option], &[name], what)
        .await
        .map(drop)
}

async fn image(
    qemu_img: &Tool,
    folder: &Folder,
    options: [&str; 2],
    values: &[&str],
    what: String,
) -> Result<String, Error> {
    let disk = folder.file(DISK);
    let mut arguments: Vec<_> = options.iter().map(std::ffi::OsString::from).collect();
    arguments.extend(values.iter().map(std::ffi::OsString::from));
    arguments.push(disk.into());
    let output = qemu_img.run(arguments, LIMIT).await?;
    if output.code == 0 {
        return Ok(output.out);
    }
    Err(Error::Failed {
        what,
        said: output.said(),
    })
}

/// Takes a snapshot of a machine with its memory.
pub(super) async fn save(monitor: &mut Monitor, name: &str) -> Result<(), Trouble> {
    job(monitor, "snapshot-save", with_memory(name)).await
}

/// Deletes a snapshot of a machine that runs.
pub(super) async fn delete(monitor: &mut Monitor, name: &str) -> Result<(), Trouble> {
    let arguments = json!({ "tag": name, "devices": ["disk0"] });
    job(monitor, "snapshot-delete", arguments).await
}

fn with_memory(name: &str) -> Value {
    json!({ "tag": name, "vmstate": "disk0", "devices": ["disk0"] })
}

/// Does one of QEMU's jobs to its end: the command itself answers before anything is done.
async fn job(monitor: &mut Monitor, name: &str, mut arguments: Value) -> Result<(), Trouble> {
    let deadline = Instant::now() + LIMIT;
    let nanoseconds = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| time.as_nanos());
    let id = format!("job-{nanoseconds}");
    if let Some(arguments) = arguments.as_object_mut() {
        arguments.insert("job-id".to_owned(), json!(id));
    }
    monitor.execute(name, arguments).await?;
    loop {
        let event = monitor.event(deadline, LIMIT).await?;
        let says = |key| event.data.get(key).and_then(Value::as_str);
        if event.name == "JOB_STATUS_CHANGE"
            && says("id") == Some(&id)
            && says("status") == Some("concluded")
        {
            break;
        }
    }
    let jobs = monitor.execute("query-jobs", Value::Null).await?;
    let error = find(&jobs, "id", &id)
        .and_then(|job| job.get("error")?.as_str())
        .map(str::to_owned);
    monitor.execute("job-dismiss", json!({ "id": id })).await?;
    match error {
        None => Ok(()),
        Some(description) => Err(Trouble::Refused(Refusal {
            class: "GenericError".to_owned(),
            description,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str, time: f64) -> Tag {
        Tag {
            name: name.to_owned(),
            memory: true,
            time,
        }
    }

    #[test]
    fn snapshots_keep_their_tree_when_one_of_them_goes() {
        let mut notes = Notes::default();
        for name in ["a", "b", "c"] {
            notes.taken(name, &format!("about {name}"));
        }
        notes.deleted("b");
        let tags = vec![tag("c", 3.0), tag("a", 1.0), tag(SAVED, 9.0)];
        let shown = notes.describe(tags);
        let names: Vec<_> = shown.iter().map(|snapshot| &*snapshot.name).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(shown[1].parent.as_deref(), Some("a"));
        assert_eq!(shown[1].description, "about c");
        assert!(shown[1].current && !shown[0].current);
        notes.deleted("c");
        assert_eq!(notes.current.as_deref(), Some("a"));
    }

    #[test]
    fn names_that_are_taken_or_the_driver_s_own_are_refused() {
        let tags = [tag("a", 1.0)];
        assert!(matches!(check(&tags, "a", ""), Err(Error::Exists { .. })));
        assert!(matches!(
            check(&tags, SAVED, ""),
            Err(Error::BadName { .. })
        ));
        let long = "x".repeat(DESCRIPTION_MAX + 1);
        assert!(check(&tags, "b", &long).is_err());
        check(&tags, "b", "two\nlines").unwrap();
    }

    #[test]
    fn lists_of_other_shapes_are_empty() {
        for list in [json!(null), json!({}), json!([1, {"name": 2}])] {
            assert!(tags(Some(&list)).is_empty(), "{list}");
        }
    }
}
