//! What a client's directory holds: as the client believes, or as it is on disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::Place;
use crate::random::Random;

/// Entries by their path from the root, with the slash.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model(pub(super) BTreeMap<String, Entry>);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    File {
        version: u64,
        attributes: BTreeMap<String, String>,
    },
    Link(String),
    /// With its list, and the size of its allocation.
    Dir(String, Option<u64>),
}

/// The content of one version of a file; no two versions begin alike.
pub(super) fn content(version: u64) -> Vec<u8> {
    let mut random = Random::new(version);
    let length = match version % 4 {
        0 => random.below(100),
        1 => random.below(10_000),
        _ => random.below(150_000),
    };
    [&version.to_le_bytes()[..], &random.bytes(length)].concat()
}

/// Reads what is below a directory of the tree, past the server.
#[track_caller]
pub(super) fn snapshot(place: &Place, dir: &str) -> Model {
    let mut model = Model::default();
    read(&place.host(dir), &format!("/{dir}"), &mut model);
    model
}

#[track_caller]
fn read(host: &Path, path: &str, into: &mut Model) {
    let list = fs::read_to_string(host.join(".__acl")).unwrap_or_default();
    let size = fs::read_to_string(host.join(".__alloc"))
        .ok()
        .map(|text| text.split_whitespace().next().unwrap().parse().unwrap());
    into.0.insert(path.to_owned(), Entry::Dir(list, size));
    for entry in fs::read_dir(host).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with(".__") {
            continue;
        }
        let (host, path) = (entry.path(), format!("{path}/{name}"));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            read(&host, &path, into);
        } else if kind.is_symlink() {
            let target = fs::read_link(&host).unwrap();
            into.0.insert(
                path,
                Entry::Link(target.into_os_string().into_string().unwrap()),
            );
        } else {
            let bytes = fs::read(&host).unwrap();
            let head = bytes
                .get(..8)
                .unwrap_or_else(|| panic!("{path} is cut to {} bytes", bytes.len()));
            let version = u64::from_le_bytes(head.try_into().unwrap());
            assert!(
                bytes == content(version),
                "{path} is no whole version: {} bytes",
                bytes.len()
            );
            let attributes = attributes(&host);
            into.0.insert(
                path,
                Entry::File {
                    version,
                    attributes,
                },
            );
        }
    }
}

fn attributes(host: &Path) -> BTreeMap<String, String> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::listxattr(host, &mut names[..]).unwrap();
    let names = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let name = std::str::from_utf8(name).unwrap();
            let mut value = vec![0; 4096];
            let length = rustix::fs::getxattr(host, name, &mut value[..]).unwrap();
            (
                name.to_owned(),
                String::from_utf8(value[..length].to_vec()).unwrap(),
            )
        })
        .collect()
}

impl Model {
    /// Returns the files and their versions.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().filter_map(|(path, entry)| match entry {
            Entry::File { version, .. } => Some((path.as_str(), *version)),
            _ => None,
        })
    }

    /// Returns a directory's list.
    pub(super) fn list(&self, path: &str) -> &str {
        match &self.0[path] {
            Entry::Dir(list, _) => list,
            other => panic!("{path} is {other:?}"),
        }
    }

    /// Takes an entry out with all that is below it.
    pub(super) fn take(&mut self, path: &str) -> BTreeMap<String, Entry> {
        let below = format!("{path}/");
        let all = std::mem::take(&mut self.0);
        let (taken, kept) = all
            .into_iter()
            .partition(|(name, _)| name == path || name.starts_with(&below));
        self.0 = kept;
        taken
    }

    /// Says where two models differ.
    pub(super) fn difference(&self, other: &Self) -> String {
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        keys.into_iter()
            .filter(|key| self.0.get(*key) != other.0.get(*key))
            .map(|key| format!("{key}: {:?} but {:?}\n", self.0.get(key), other.0.get(key)))
            .collect()
    }
}
