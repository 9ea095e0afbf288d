//! Jobs on disk, so that they survive the server: a file of lines in the transient directory.
//!
//! ```text
//! #chirp-jobs 1 NEXT                     format, and an id above all that were given out
//! +{"login":…,"signal":…,"sandbox":…,…}  a whole job: its status object with what clients do not see
//! ={"commit":{"ids":[1,2],"at":17…}}     a change of jobs above
//! ```
//!
//! A line is written by one `write` and is on disk before anybody is told of it. A server that is
//! killed, or a machine that loses power, so leaves at most one torn line, at the end; it is dropped,
//! for nobody was told of it. Each start writes the file anew, with one line for each job.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::description::Description;
use super::job::{Exit, Job, Owner, State, Times};
use super::json;
use super::table::Table;

/// The file.
const NAME: &str = "jobs.journal";

/// How the first line begins.
const HEADER: &str = "#chirp-jobs 1 ";

/// Bytes written since the last time the file was written anew, above which it is once more; it has
/// then also at least doubled.
const COMPACT_AT: u64 = 4 * 1024 * 1024;

/// Bytes of a line that is read: above twice the longest description.
const LINE_MAX: u64 = 128 * 1024 * 1024;

/// A change of jobs that are on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    Commit { ids: Vec<u64>, at: i64 },
    Start { id: u64, at: i64, sandbox: String },
    Kill { ids: Vec<u64>, at: i64 },
    Fail { id: u64, at: i64, error: String },
    Reap { ids: Vec<u64>, at: i64 },
    Forget { ids: Vec<u64> },
}

impl Change {
    /// Carries it out.
    pub(super) fn apply(&self, table: &mut Table) {
        match self {
            Self::Commit { ids, at } => {
                for &id in ids {
                    table.update(id, |job| job.commit(*at));
                }
            }
            Self::Start { id, at, sandbox } => {
                table.update(*id, |job| job.start(*at, sandbox.clone()));
            }
            Self::Kill { ids, at } => {
                for &id in ids {
                    table.update(id, |job| job.kill(*at));
                }
            }
            Self::Fail { id, at, error } => table.update(*id, |job| job.fail(*at, error.clone())),
            Self::Reap { ids, at } => {
                for &id in ids {
                    table.update(id, |job| job.reap(*at));
                }
            }
            Self::Forget { ids } => {
                for &id in ids {
                    table.remove(id);
                }
            }
        }
    }
}

/// The open file. It belongs to one server, as the transient directory does.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    file: File,
    length: u64,
    /// Its length when it was last written anew.
    fresh: u64,
    /// An id above all that were given out.
    next: u64,
    /// Whether something could not be written, so that the file has to be written anew.
    stale: bool,
}

impl Store {
    /// Opens the file of a transient directory, and returns the jobs in it.
    ///
    /// # Errors
    ///
    /// It cannot be read or written, or is of a format of the future.
    pub(super) fn open(transient: &Path) -> anyhow::Result<(Self, Table)> {
        let path = transient.join(NAME);
        let named = || format!("cannot use the jobs in {}", path.display());
        let loaded = load(&path).with_context(named)?;
        if loaded.damaged > 0 {
            let aside = path.with_extension("damaged");
            fs::copy(&path, &aside).with_context(named)?;
            tracing::error!(
                lines = loaded.damaged,
                copy = %aside.display(),
                "the file of jobs has lines that are no records; the others are used"
            );
        }
        let (file, length) = rewrite(&path, loaded.next, loaded.table.all()).with_context(named)?;
        let store = Self {
            path,
            file,
            length,
            fresh: length,
            next: loaded.next,
            stale: false,
        };
        Ok((store, loaded.table))
    }

    /// Returns the id for the next job; it is taken once that job was added.
    pub(super) const fn next_id(&self) -> u64 {
        self.next
    }

    /// Writes a new job and applies it, after having forgotten others for it.
    ///
    /// # Errors
    ///
    /// The system's; nothing has changed then.
    pub(super) fn add(&mut self, table: &std::sync::Mutex<Table>, job: Job) -> io::Result<()> {
        self.write(table, &record(&job))?;
        self.next = self.next.max(job.id + 1);
        super::lock(table).insert(job);
        Ok(())
    }

    /// Writes a change and applies it.
    ///
    /// # Errors
    ///
    /// The system's; nothing has changed then.
    pub(super) fn change(
        &mut self,
        table: &std::sync::Mutex<Table>,
        change: &Change,
    ) -> io::Result<()> {
        self.write(table, &change_line(change)?)?;
        change.apply(&mut super::lock(table));
        Ok(())
    }

    /// Kills jobs. Returns those that are killed now, and whether that was written: where the disk is
    /// full the ones that run are killed all the same, for none of them runs again after a restart.
    pub(super) fn kill(
        &mut self,
        table: &std::sync::Mutex<Table>,
        mut ids: Vec<u64>,
        at: i64,
    ) -> (Vec<u64>, io::Result<()>) {
        if ids.is_empty() {
            return (ids, Ok(()));
        }
        let change = |ids: &[u64]| Change::Kill {
            ids: ids.to_vec(),
            at,
        };
        let Err(error) = self.change(table, &change(&ids)) else {
            return (ids, Ok(()));
        };
        let asked = ids.len();
        ids.retain(|id| {
            let table = super::lock(table);
            table
                .get(*id)
                .is_some_and(|job| job.state == State::Started)
        });
        if !ids.is_empty() {
            let change = change(&ids);
            self.note(table, |table| {
                change.apply(table);
                change_line(&change).ok()
            });
        }
        let all = ids.len() == asked;
        (ids, if all { Ok(()) } else { Err(error) })
    }

    /// Applies what has happened already, and writes it if that is possible; else it is written as
    /// soon as it is.
    pub(super) fn note(
        &mut self,
        table: &std::sync::Mutex<Table>,
        apply: impl FnOnce(&mut Table) -> Option<Vec<u8>>,
    ) {
        let Some(line) = apply(&mut super::lock(table)) else {
            return;
        };
        if let Err(error) = self.write(table, &line) {
            self.stale = true;
            tracing::error!(%error, path = %self.path.display(), "cannot write down what became of a job");
        }
    }

    /// Appends a line that is on disk when this returns.
    fn write(&mut self, table: &std::sync::Mutex<Table>, line: &[u8]) -> io::Result<()> {
        let grown = self.length.saturating_sub(self.fresh);
        if self.stale || (grown > COMPACT_AT && grown > self.fresh) {
            // Nobody who looks at the jobs meanwhile waits for the disk.
            let jobs: Vec<Job> = super::lock(table).all().cloned().collect();
            let (file, length) = rewrite(&self.path, self.next, jobs.iter())?;
            (self.file, self.length, self.fresh) = (file, length, length);
            self.stale = false;
        }
        let written = self
            .file
            .write_all(line)
            .and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.length += line.len() as u64,
            Err(_) => {
                // A part of the line may stand there: the next one must not be glued to it.
                self.stale = self.file.set_len(self.length).is_err();
            }
        }
        written
    }
}

/// Returns the line of a whole job.
pub(super) fn record(job: &Job) -> Vec<u8> {
    let mut line = b"+{".to_vec();
    json::text("login", Some(job.owner.login.as_bytes()), &mut line);
    let signal = match job.exit {
        Some(Exit::Signaled(number)) => Some(i64::from(number)),
        Some(Exit::Exited(_)) | None => None,
    };
    json::number(",signal", signal, &mut line);
    let sandbox = job.sandbox.as_deref();
    json::text(",sandbox", sandbox.map(str::as_bytes), &mut line);
    line.push(b',');
    json::fields(job, &mut line);
    line.extend_from_slice(b"}\n");
    line
}

/// Returns the line of a change.
pub(super) fn change_line(change: &Change) -> io::Result<Vec<u8>> {
    let mut line = b"=".to_vec();
    serde_json::to_writer(&mut line, change)?;
    line.push(b'\n');
    Ok(line)
}

struct Loaded {
    table: Table,
    next: u64,
    /// Lines that are no records, a torn last one not counted.
    damaged: usize,
}

impl Loaded {
    fn nothing() -> Self {
        Self {
            table: Table::default(),
            next: 1,
            damaged: 0,
        }
    }
}

fn load(path: &Path) -> anyhow::Result<Loaded> {
    match File::open(path) {
        Ok(file) => read(BufReader::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Loaded::nothing()),
        Err(error) => Err(error.into()),
    }
}

/// Reads the content of the file.
fn read(mut reader: impl BufRead) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::nothing();
    let mut line = Vec::new();
    let mut first = true;
    loop {
        line.clear();
        let read = io::Read::take(&mut reader, LINE_MAX).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(loaded);
        }
        let Some(content) = line.strip_suffix(b"\n") else {
            tracing::warn!("dropped the last record of the jobs, which was not written whole");
            return Ok(loaded);
        };
        let understood = if first {
            header(content).map(|next| loaded.next = next)
        } else {
            replay(content, &mut loaded.table)
        };
        anyhow::ensure!(
            !first || understood.is_some(),
            "it is no such file, or of another version; move it away to begin without jobs"
        );
        first = false;
        match understood {
            Some(()) => {
                let last = loaded.table.all().last().map_or(0, |job| job.id);
                loaded.next = loaded.next.max(last.saturating_add(1));
            }
            None => loaded.damaged += 1,
        }
    }
}

fn header(line: &[u8]) -> Option<u64> {
    let next = line.strip_prefix(HEADER.as_bytes())?;
    std::str::from_utf8(next).ok()?.parse().ok()
}

/// Carries out one line; None for one that is no record.
fn replay(line: &[u8], table: &mut Table) -> Option<()> {
    match line.split_first()? {
        (b'+', record) => table.insert(parse_record(record)?),
        (b'=', change) => serde_json::from_slice::<Change>(change).ok()?.apply(table),
        _ => return None,
    }
    Some(())
}

/// What a whole job has besides its description.
#[derive(Deserialize)]
struct Kept {
    login: String,
    subject: String,
    id: u64,
    status: State,
    error: Option<String>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    sandbox: Option<String>,
    time_commit: Option<i64>,
    time_create: i64,
    time_error: Option<i64>,
    time_finish: Option<i64>,
    time_kill: Option<i64>,
    time_start: Option<i64>,
    time_reap: Option<i64>,
    files: Vec<KeptFile>,
}

#[derive(Deserialize)]
struct KeptFile {
    size: Option<u64>,
}

fn parse_record(record: &[u8]) -> Option<Job> {
    let kept: Kept = from_bytes(record)?;
    let description = Description::parse(record).ok()?;
    let owner = Owner {
        login: kept.login,
        subject: kept.subject,
    };
    let mut job = Job::new(kept.id, owner, description, kept.time_create);
    let mut files = (*job.files).clone();
    if files.len() != kept.files.len() {
        return None;
    }
    for (file, kept) in files.iter_mut().zip(kept.files) {
        file.size = kept.size;
    }
    job.files = files.into();
    job.state = kept.status;
    job.error = kept.error;
    job.exit = match (kept.exit_code, kept.signal) {
        (Some(code), _) => Some(Exit::Exited(code)),
        (None, Some(signal)) => Some(Exit::Signaled(signal)),
        (None, None) => None,
    };
    job.sandbox = kept.sandbox;
    job.times = Times {
        create: kept.time_create,
        commit: kept.time_commit,
        start: kept.time_start,
        finish: kept.time_finish,
        error: kept.time_error,
        kill: kept.time_kill,
        reap: kept.time_reap,
    };
    Some(job)
}

/// Reads the fields, whatever bytes the strings beside them hold.
fn from_bytes<'a, T: Deserialize<'a>>(record: &'a [u8]) -> Option<T> {
    serde_json::from_slice(record).ok()
}

/// Replaces the file by one with a line for each job, and returns it open for more.
fn rewrite<'a>(
    path: &Path,
    next: u64,
    jobs: impl Iterator<Item = &'a Job>,
) -> io::Result<(File, u64)> {
    let fresh = path.with_extension("new");
    // For appending, so that after a failure the next line begins where the file then ends.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&fresh)?;
    file.set_len(0)?;
    let mut out = BufWriter::new(&file);
    let length = write_all(&mut out, next, jobs)?;
    out.flush()?;
    drop(out);
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok((file, length))
}

/// Writes what the file holds after a start, and returns how many bytes that is.
fn write_all<'a>(
    out: &mut impl Write,
    next: u64,
    jobs: impl Iterator<Item = &'a Job>,
) -> io::Result<u64> {
    let mut length = 0;
    let mut put = |line: &[u8]| {
        length += line.len() as u64;
        out.write_all(line)
    };
    put(format!("{HEADER}{next}\n").as_bytes())?;
    for job in jobs {
        put(&record(job))?;
    }
    Ok(length)
}

/// Returns what a start writes in the place of a file with this content; none for what is no such file.
pub(super) fn restarted(content: &[u8]) -> Option<Vec<u8>> {
    let loaded = read(content).ok()?;
    let mut out = Vec::new();
    write_all(&mut out, loaded.next, loaded.table.all()).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::jobs::lock;

    const BODY: &[u8] = b"{\"executable\":\"/bin/a\",\"arguments\":[\"\xff\\u0001\",\"\\n\"],\
        \"environment\":{\"A\":\"1\"},\"tag\":\"t\",\"files\":[\
        {\"type\":\"OUTPUT\",\"serv_path\":\"/o\",\"task_path\":\"o\"}]}";

    fn job(id: u64) -> Job {
        let owner = Owner {
            login: "unix:alice".to_owned(),
            subject: "unix:alice".to_owned(),
        };
        Job::new(id, owner, Description::parse(BODY).unwrap(), 10)
    }

    /// Writes some of every kind of line, and returns all statuses after each.
    fn history(directory: &Path) -> Vec<(u64, Vec<u8>)> {
        let (mut store, table) = Store::open(directory).unwrap();
        let table = Mutex::new(table);
        let mut history = vec![(store.length, statuses(&lock(&table)))];
        let mut note = |store: &Store| history.push((store.length, statuses(&lock(&table))));
        for id in 1..=4 {
            assert_eq!(store.next_id(), id);
            store.add(&table, job(id)).unwrap();
            note(&store);
        }
        let sandbox = ".__job.1.00".to_owned();
        for change in [
            Change::Commit {
                ids: vec![1, 2, 3],
                at: 11,
            },
            Change::Start {
                id: 1,
                at: 12,
                sandbox,
            },
            Change::Kill {
                ids: vec![2],
                at: 13,
            },
            Change::Fail {
                id: 3,
                at: 14,
                error: "why \"\n".to_owned(),
            },
            Change::Reap {
                ids: vec![2, 3],
                at: 15,
            },
            Change::Forget { ids: vec![2] },
        ] {
            store.change(&table, &change).unwrap();
            note(&store);
        }
        store.note(&table, |table| {
            table.update(1, |job| {
                let mut files = (*job.files).clone();
                files.iter_mut().for_each(|file| file.size = Some(7));
                job.finish(16, Exit::Signaled(9), files);
            });
            table.get(1).map(record)
        });
        note(&store);
        history
    }

    fn statuses(table: &Table) -> Vec<u8> {
        let mut all = Vec::new();
        for job in table.all() {
            json::status(job, &mut all);
        }
        all
    }

    #[test]
    fn what_was_answered_is_there_after_a_cut_at_any_byte() {
        let directory = tempfile::tempdir().unwrap();
        let history = history(directory.path());
        let path = directory.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        let header = usize::try_from(history[0].0).unwrap();
        for length in header..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let loaded = load(&path).unwrap();
            let mut past = history.iter().rev();
            let expected = past.find(|(end, _)| *end <= length as u64).unwrap();
            assert_eq!(
                statuses(&loaded.table),
                expected.1,
                "cut after {length} bytes"
            );
            assert_eq!(loaded.damaged, 0);
            // The next start writes the file anew, and goes on; not at each length, for it takes its time.
            if length % 101 != 0 {
                continue;
            }
            let (mut store, table) = Store::open(directory.path()).unwrap();
            let next = store.next_id();
            assert!(table.all().all(|job| job.id < next));
            store.add(&Mutex::new(table), job(next)).unwrap();
            let (_, table) = Store::open(directory.path()).unwrap();
            assert!(statuses(&table).starts_with(&expected.1));
            assert!(table.get(next).is_some());
        }
    }

    #[test]
    fn a_full_disk_keeps_no_running_job_from_being_killed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, table) = Store::open(directory.path()).unwrap();
        let table = Mutex::new(table);
        for id in 1..=3 {
            store.add(&table, job(id)).unwrap();
        }
        let (ids, at) = (vec![1, 2], 11);
        store.change(&table, &Change::Commit { ids, at }).unwrap();
        let (id, sandbox) = (1, ".__job.1.00".to_owned());
        let start = Change::Start { id, at, sandbox };
        store.change(&table, &start).unwrap();
        let path = std::mem::replace(&mut store.path, directory.path().join("none/jobs"));
        store.file = OpenOptions::new().append(true).open("/dev/full").unwrap();

        let (killed, result) = store.kill(&table, vec![1, 2], 12);
        assert_eq!(killed, [1]);
        assert_eq!(
            result.unwrap_err().kind(),
            io::ErrorKind::StorageFull,
            "job 2 waits for its turn on disk, so it cannot be called killed"
        );
        let states = |table: &Table| table.all().map(|job| job.state).collect::<Vec<_>>();
        let after = [State::Killed, State::Committed, State::Created];
        assert_eq!(states(&lock(&table)), after);
        // As soon as there is room it is on disk.
        store.path = path;
        store.kill(&table, vec![3], 13).1.unwrap();
        let (_, loaded) = Store::open(directory.path()).unwrap();
        let after = [State::Killed, State::Committed, State::Killed];
        assert_eq!(states(&loaded), after);
    }

    #[test]
    fn ids_are_not_given_twice_even_if_the_last_job_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, table) = Store::open(directory.path()).unwrap();
        let table = Mutex::new(table);
        store.add(&table, job(1)).unwrap();
        store
            .change(&table, &Change::Forget { ids: vec![1] })
            .unwrap();
        for _ in 0..2 {
            let (store, table) = Store::open(directory.path()).unwrap();
            assert_eq!((store.next_id(), table.all().count()), (2, 0));
        }
    }

    #[test]
    fn a_damaged_line_costs_no_other_and_is_kept_aside() {
        let directory = tempfile::tempdir().unwrap();
        history(directory.path());
        let path = directory.path().join(NAME);
        let mut text = fs::read(&path).unwrap();
        let second = memchr::memchr_iter(b'\n', &text).nth(1).unwrap();
        text[second + 3] = 0;
        fs::write(&path, &text).unwrap();
        let (_, table) = Store::open(directory.path()).unwrap();
        assert!(table.get(2).is_none() && table.get(1).is_some() && table.get(4).is_some());
        assert_eq!(fs::read(path.with_extension("damaged")).unwrap(), text);
        fs::write(&path, "something else\n").unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(format!("{error:#}").contains("move it away"), "{error:#}");
    }
}
