//! A client that does random things, one after another, and remembers what the server promised.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::held::{self, Held};
use super::model::{Entry, Model, content};
use super::{Begun, Features};
use crate::common::Peer;
use crate::random::Random;

pub(super) struct Client {
    pub(super) number: usize,
    /// Operations that were answered with an error.
    pub(super) refused: usize,
    random: Random,
    features: Features,
    model: Model,
    /// Entries of one inode, so that a rename of one over another does nothing.
    identities: u64,
    inodes: BTreeMap<String, u64>,
    versions: u64,
    in_flight: Option<Operation>,
    /// What was answered since the last start, to find a failure's cause.
    history: Vec<(Operation, i64)>,
    /// What this client has besides files.
    pub(super) held: Held,
    /// Rights of this client's entry in the shared list: as acknowledged, and as asked for last.
    shared: (String, String),
}

#[derive(Clone, Debug)]
enum Operation {
    Mkdir(String),
    Mkalloc(String, u64),
    Put(String, u64),
    Rename(String, String),
    Link(String, String),
    Symlink(String, String),
    Unlink(String),
    Rmdir(String),
    Rmall(String),
    Setacl(String, String, &'static str),
    Setxattr(String, String, String),
    SharedPut(usize, u64),
    SharedSetacl(&'static str),
    Held(held::Operation),
}

const RIGHTS: [&str; 5] = ["r", "l", "rl", "rld", "rlx"];

impl Client {
    pub(super) fn new(
        number: usize,
        seed: u64,
        features: Features,
        user: &str,
        held: Held,
    ) -> Self {
        let mut model = Model::default();
        let list = format!("unix:{user} rwldpa\n");
        model
            .0
            .insert(format!("/c{number}"), Entry::Dir(list, None));
        Self {
            number,
            refused: 0,
            random: Random::new(seed),
            features,
            model,
            identities: 0,
            inodes: BTreeMap::new(),
            versions: 0,
            in_flight: None,
            history: Vec::new(),
            held,
            shared: (String::new(), String::new()),
        }
    }

    /// Works until the connection ends.
    pub(super) fn work(&mut self, peer: &Peer, count: &AtomicUsize, begun: &Begun) {
        let writer = peer.socket().try_clone().unwrap();
        let mut wire = Wire {
            reader: BufReader::new(writer.try_clone().unwrap()),
            writer,
        };
        loop {
            let operation = self.choose();
            if let Operation::SharedPut(_, version) = operation {
                begun.lock().unwrap().insert(version);
            }
            if let Operation::SharedSetacl(rights) = operation {
                rights.clone_into(&mut self.shared.1);
            }
            self.in_flight = Some(operation.clone());
            let Some(answer) = wire.run(&operation, self.number, &self.held) else {
                return;
            };
            self.in_flight = None;
            self.history.push((operation.clone(), answer));
            if answer >= 0 {
                apply(
                    &mut self.model,
                    &operation,
                    &mut self.inodes,
                    &mut self.identities,
                );
                match operation {
                    Operation::SharedSetacl(rights) => rights.clone_into(&mut self.shared.0),
                    Operation::Held(operation) => self.held.apply(operation, answer),
                    _ => {}
                }
            } else {
                self.refused += 1;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Compares what is on disk after a kill with what was promised, and goes on from there.
    #[track_caller]
    pub(super) fn settle(&mut self, found: Model, context: &str) {
        let operation = self.in_flight.take();
        self.held.under_way = match &operation {
            Some(Operation::Held(operation)) => Some(*operation),
            _ => None,
        };
        let mut after = self.model.clone();
        let (mut inodes, mut identities) = (self.inodes.clone(), self.identities);
        if let Some(operation) = &operation {
            apply(&mut after, operation, &mut inodes, &mut identities);
        }
        let between = match &operation {
            Some(Operation::Rmall(path)) => is_partly_removed(&self.model, &found, path),
            _ => false,
        };
        assert!(
            found == self.model || found == after || between,
            "{context}: {operation:?} was under way; on disk but promised:\n{}after {:?}",
            found.difference(&self.model),
            self.history
        );
        self.history.clear();
        if found == after {
            (self.inodes, self.identities) = (inodes, identities);
        }
        self.inodes.retain(|path, _| found.0.contains_key(path));
        self.model = found;
    }

    /// This client's entry of the shared list is as acknowledged, or as asked for last.
    #[track_caller]
    pub(super) fn check_entry(&self, list: &str, context: &str) {
        let subject = format!("unix:c{} ", self.number);
        let rights = list
            .lines()
            .find_map(|line| line.strip_prefix(&subject))
            .unwrap_or_default();
        let (acknowledged, asked) = &self.shared;
        assert!(
            rights == acknowledged || rights == asked,
            "{context}: {subject}{rights}, but {acknowledged} was promised, and then asked for {asked}"
        );
    }

    fn home(&self) -> String {
        format!("/c{}", self.number)
    }

    fn version(&mut self) -> u64 {
        self.versions += 1;
        ((self.number as u64) << 40) | (self.versions << 2) | (self.random.number() % 4)
    }

    fn choose(&mut self) -> Operation {
        let dirs: Vec<String> =
            self.paths(|entry| matches!(entry, Entry::Dir(list, _) if !list.is_empty()));
        let files = self.paths(|entry| matches!(entry, Entry::File { .. }));
        let others: Vec<String> = self
            .paths(|_| true)
            .into_iter()
            .filter(|path| *path != self.home())
            .collect();
        let dir = self.random.choose(&dirs).clone();
        let fresh = format!("{dir}/n{}", self.random.below(8));
        let old = (!others.is_empty()).then(|| self.random.choose(&others).clone());
        let file = (!files.is_empty()).then(|| self.random.choose(&files).clone());
        let is_free = !self.model.0.contains_key(&fresh);
        let is_deep = fresh.matches('/').count() > 5;
        match (self.random.below(19), old, file) {
            (16..=18, ..) if self.held.is_any() => {
                Operation::Held(self.held.choose(&mut self.random))
            }
            (0, ..) if is_free && !is_deep => Operation::Mkdir(fresh),
            (1, ..) if is_free && !is_deep && self.features.space => {
                Operation::Mkalloc(fresh, 400_000)
            }
            (2, Some(old), _) if !format!("{fresh}/").starts_with(&format!("{old}/")) => {
                Operation::Rename(old, fresh)
            }
            (3, _, Some(file)) if is_free && !self.features.space => Operation::Link(file, fresh),
            (4, ..) if is_free => {
                Operation::Symlink(format!("to{}", self.random.below(1000)), fresh)
            }
            (5, Some(old), _) if !matches!(self.model.0[&old], Entry::Dir(..)) => {
                Operation::Unlink(old)
            }
            (6, Some(old), _) if self.random.below(4) == 0 => Operation::Rmall(old),
            (6, Some(old), _) if matches!(self.model.0[&old], Entry::Dir(..)) => {
                Operation::Rmdir(old)
            }
            (7, ..) => {
                let subject = format!("unix:s{}", self.random.below(3));
                Operation::Setacl(dir, subject, RIGHTS[self.random.below(RIGHTS.len())])
            }
            (8, _, Some(file)) => {
                let name = format!("user.a{}", self.random.below(3));
                Operation::Setxattr(file, name, format!("value {}", self.random.below(1000)))
            }
            (9, ..) => Operation::SharedPut(self.random.below(3), self.version()),
            (10, ..) => Operation::SharedSetacl(RIGHTS[self.random.below(RIGHTS.len())]),
            (11..=13, _, Some(file)) => Operation::Put(file, self.version()),
            _ if is_free => Operation::Put(fresh, self.version()),
            _ => Operation::SharedPut(self.random.below(3), self.version()),
        }
    }

    fn paths(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<String> {
        let all = self.model.0.iter().filter(|(_, entry)| wanted(entry));
        all.map(|(path, _)| path.clone()).collect()
    }
}

/// Changes a model as an operation does that succeeds.
fn apply(
    model: &mut Model,
    operation: &Operation,
    inodes: &mut BTreeMap<String, u64>,
    identities: &mut u64,
) {
    let parent = |path: &str| path.rsplit_once('/').unwrap().0.to_owned();
    match operation {
        Operation::Mkdir(path) | Operation::Mkalloc(path, _) => {
            let list = model.list(&parent(path)).to_owned();
            let size = match operation {
                Operation::Mkalloc(_, size) => Some(*size),
                _ => None,
            };
            model.0.insert(path.clone(), Entry::Dir(list, size));
        }
        Operation::Put(path, version) => {
            // A new file under the old name, with the old one's attributes.
            *identities += 1;
            inodes.insert(path.clone(), *identities);
            let attributes = match model.0.remove(path) {
                Some(Entry::File { attributes, .. }) => attributes,
                _ => BTreeMap::new(),
            };
            let version = *version;
            let file = Entry::File {
                version,
                attributes,
            };
            model.0.insert(path.clone(), file);
        }
        Operation::Rename(from, to) => {
            // Two names of one file: nothing happens.
            if inodes.contains_key(from) && inodes.get(from) == inodes.get(to) {
                return;
            }
            model.take(to);
            for (path, entry) in model.take(from) {
                let renamed = path.replacen(from, to, 1);
                match inodes.remove(&path) {
                    Some(inode) => inodes.insert(renamed.clone(), inode),
                    None => inodes.remove(&renamed),
                };
                model.0.insert(renamed, entry);
            }
        }
        Operation::Link(from, to) => {
            let entry = model.0[from].clone();
            let inode = *inodes.get(from).expect("every file has one");
            inodes.insert(to.clone(), inode);
            model.0.insert(to.clone(), entry);
        }
        Operation::Symlink(target, path) => {
            model.0.insert(path.clone(), Entry::Link(target.clone()));
        }
        Operation::Unlink(path) | Operation::Rmdir(path) | Operation::Rmall(path) => {
            for (path, _) in model.take(path) {
                inodes.remove(&path);
            }
        }
        Operation::Setacl(dir, subject, rights) => {
            let Some(Entry::Dir(list, _)) = model.0.get_mut(dir) else {
                panic!("{dir} is a directory")
            };
            *list = with_entry(list, subject, rights);
        }
        Operation::Setxattr(path, name, value) => {
            // Of the file, whatever name it is reached by.
            let inode = inodes.get(path).copied();
            for (other, entry) in &mut model.0 {
                if let Entry::File { attributes, .. } = entry
                    && inodes.get(other).copied() == inode
                {
                    attributes.insert(name.clone(), value.clone());
                }
            }
        }
        Operation::SharedPut(..) | Operation::SharedSetacl(_) | Operation::Held(_) => {}
    }
}

/// A list in which a subject has these rights.
fn with_entry(list: &str, subject: &str, rights: &str) -> String {
    let start = format!("{subject} ");
    let entry = format!("{subject} {rights}\n");
    let mut found = false;
    let mut lines: String = list
        .split_inclusive('\n')
        .map(|line| {
            let same = line.starts_with(&start);
            found |= same;
            if same { entry.clone() } else { line.to_owned() }
        })
        .collect();
    if !found {
        lines.push_str(&entry);
    }
    lines
}

/// Reports whether only things below a path are missing. An empty directory may have lost what the
/// server keeps in it, which goes last.
fn is_partly_removed(before: &Model, found: &Model, path: &str) -> bool {
    let below = format!("{path}/");
    let concerned = |name: &str| name == path || name.starts_with(&below);
    let is_empty = |name: &str| {
        let below = format!("{name}/");
        !found.0.keys().any(|other| other.starts_with(&below))
    };
    let is_left = |name: &str, entry: &Entry| match found.0.get(name) {
        Some(other) if other == entry => true,
        Some(Entry::Dir(..)) => concerned(name) && is_empty(name),
        Some(_) => false,
        None => concerned(name),
    };
    before.0.iter().all(|(name, entry)| is_left(name, entry))
        && found.0.keys().all(|name| before.0.contains_key(name))
}

struct Wire {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Wire {
    /// Does an operation and returns its answer, or nothing when the connection has ended.
    fn run(&mut self, operation: &Operation, client: usize, held: &Held) -> Option<i64> {
        match operation {
            Operation::Held(operation) => self.ask(&held.request(*operation)),
            Operation::Mkdir(path) => self.ask(&format!("mkdir {path} 448\n")),
            Operation::Mkalloc(path, size) => self.ask(&format!("mkalloc {path} {size} 448\n")),
            Operation::Put(path, version) => self.put(path, *version),
            Operation::Rename(from, to) => self.ask(&format!("rename {from} {to}\n")),
            Operation::Link(from, to) => self.ask(&format!("link {from} {to}\n")),
            Operation::Symlink(target, path) => self.ask(&format!("symlink {target} {path}\n")),
            Operation::Unlink(path) => self.ask(&format!("unlink {path}\n")),
            Operation::Rmdir(path) => self.ask(&format!("rmdir {path}\n")),
            Operation::Rmall(path) => self.ask(&format!("rmall {path}\n")),
            Operation::Setacl(path, subject, rights) => {
                self.ask(&format!("setacl {path} {subject} {rights}\n"))
            }
            Operation::Setxattr(path, name, value) => self.ask(&format!(
                "setxattr {path} {name} {} 0\n{value}",
                value.len()
            )),
            Operation::SharedPut(number, version) => {
                self.put(&format!("/shared/f{number}"), *version)
            }
            Operation::SharedSetacl(rights) => {
                self.ask(&format!("setacl /shared unix:c{client} {rights}\n"))
            }
        }
    }

    fn put(&mut self, path: &str, version: u64) -> Option<i64> {
        let content = content(version);
        let go_ahead = self.ask(&format!("putfile {path} 420 {}\n", content.len()))?;
        if go_ahead < 0 {
            return Some(go_ahead);
        }
        self.writer.write_all(&content).ok()?;
        self.answer()
    }

    fn ask(&mut self, request: &str) -> Option<i64> {
        self.writer.write_all(request.as_bytes()).ok()?;
        self.answer()
    }

    fn answer(&mut self) -> Option<i64> {
        let mut line = String::new();
        self.reader.by_ref().take(100).read_line(&mut line).ok()?;
        // Without its LF it is cut off, and promises nothing.
        line.strip_suffix('\n')?.parse().ok()
    }
}
