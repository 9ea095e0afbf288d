//! All jobs of a server in memory, found by id, by owner and by what they wait for. Nothing here
//! does I/O or asks for the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chirp_proto::Code;

use super::job::{Job, State};

/// Jobs of one subject that are kept.
const SUBJECT_JOBS_MAX: usize = 10_000;

/// Bytes of descriptions of one subject that are kept.
const SUBJECT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Jobs of all subjects that are kept.
const JOBS_MAX: usize = 100_000;

/// Bytes of descriptions of all subjects that are kept.
const BYTES_MAX: usize = 512 * 1024 * 1024;

/// Seconds for which a reaped job is kept.
const REAPED_KEPT: i64 = 7 * 24 * 3600;

/// Seconds for which any job is kept that neither runs nor waits for its turn.
const IDLE_KEPT: i64 = 30 * 24 * 3600;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// The subject.
    pub(super) subject: String,
    /// Whether it may act on everybody's jobs.
    pub(super) superuser: bool,
}

impl Asker {
    fn owns(&self, job: &Job) -> bool {
        self.superuser || job.owner.subject == self.subject
    }
}

/// The jobs.
#[derive(Debug, Default)]
pub(super) struct Table {
    jobs: BTreeMap<u64, Job>,
    /// Committed jobs that nobody works on, oldest first.
    queue: BTreeSet<(i64, u64)>,
    subjects: HashMap<String, Holding>,
    /// Ended jobs that nobody has reaped, of all subjects.
    ready: BTreeSet<u64>,
    unreaped: usize,
    bytes: usize,
}

/// The jobs of one subject.
#[derive(Debug, Default)]
struct Holding {
    ids: BTreeSet<u64>,
    ready: BTreeSet<u64>,
    unreaped: usize,
    bytes: usize,
}

impl Table {
    /// Adds a job, or puts it in the place of one with its id.
    pub(super) fn insert(&mut self, job: Job) {
        self.remove(job.id);
        self.enter(&job);
        self.jobs.insert(job.id, job);
    }

    /// Takes a job out.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(job) = self.jobs.remove(&id) {
            self.leave(&job);
        }
    }

    /// Changes a job, if it is there.
    pub(super) fn update(&mut self, id: u64, change: impl FnOnce(&mut Job)) {
        if let Some(mut job) = self.jobs.remove(&id) {
            self.leave(&job);
            change(&mut job);
            self.enter(&job);
            self.jobs.insert(id, job);
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// Takes the committed job that waits longest; it is then claimed.
    pub(super) fn claim_next(&mut self) -> Option<Job> {
        let (_, id) = self.queue.first().copied()?;
        self.update(id, |job| job.claimed = true);
        self.jobs.get(&id).cloned()
    }

    /// Finds the jobs of these ids, all or none.
    ///
    /// # Errors
    ///
    /// -21 for an unknown id, -2 for a job of somebody else.
    pub(super) fn find(&self, asker: &Asker, ids: &[i64]) -> Result<Vec<&Job>, Code> {
        ids.iter()
            .map(|&id| {
                let job = u64::try_from(id).ok().and_then(|id| self.jobs.get(&id));
                let job = job.ok_or(Code::NoSuchJob)?;
                if asker.owns(job) {
                    Ok(job)
                } else {
                    Err(Code::NotAuthorized)
                }
            })
            .collect()
    }

    /// Returns the jobs that `job_wait ID` is answered, at most `longest`; None where there is
    /// nothing yet but may be.
    ///
    /// # Errors
    ///
    /// -21 where the asker has no job to wait for at all, -2 for the job of somebody else.
    pub(super) fn waited_for(
        &self,
        asker: &Asker,
        id: i64,
        longest: usize,
    ) -> Result<Option<Vec<&Job>>, Code> {
        let none = BTreeSet::new();
        let (ready, unreaped) = match self.subjects.get(&asker.subject) {
            _ if asker.superuser => (&self.ready, self.unreaped),
            Some(own) => (&own.ready, own.unreaped),
            None => (&none, 0),
        };
        let number = id.unsigned_abs();
        if id > 0 && self.jobs.get(&number).is_some_and(|job| !asker.owns(job)) {
            return Err(Code::NotAuthorized);
        }
        if unreaped == 0 {
            return Err(Code::NoSuchJob);
        }
        let last = if id > 0 { number } else { u64::MAX };
        let found: Vec<&Job> = ready
            .range(number..=last)
            .filter_map(|id| self.jobs.get(id))
            .take(longest)
            .collect();
        Ok(Some(found).filter(|found| !found.is_empty()))
    }

    /// Returns the jobs that are forgotten at `now` whether or not their room is needed.
    pub(super) fn outdated(&self, now: i64) -> Vec<u64> {
        let outdated = |job: &&Job| {
            let age = now.saturating_sub(job.last_change());
            match job.state {
                State::Committed | State::Started => false,
                _ if job.times.reap.is_some() => age > REAPED_KEPT,
                _ => age > IDLE_KEPT,
            }
        };
        self.jobs
            .values()
            .filter(outdated)
            .map(|job| job.id)
            .collect()
    }

    /// Makes room for one more job of `weight` bytes: returns the reaped ones, oldest first, that
    /// have to be forgotten for it.
    ///
    /// # Errors
    ///
    /// -9 where there are too many jobs, -7 where they are too large, and not enough are reaped.
    pub(super) fn room_for(&self, subject: &str, weight: usize) -> Result<Vec<u64>, Code> {
        let none = Holding::default();
        let own = self.subjects.get(subject).unwrap_or(&none);
        let (mut own_count, mut own_bytes) = (own.ids.len(), own.bytes);
        let (mut count, mut bytes) = (self.jobs.len(), self.bytes);
        let mut forgotten = Vec::new();
        let mut reaped = own.ids.iter().filter_map(|id| self.jobs.get(id));
        loop {
            let crowded = own_count >= SUBJECT_JOBS_MAX || count >= JOBS_MAX;
            let large = own_bytes + weight > SUBJECT_BYTES_MAX || bytes + weight > BYTES_MAX;
            if !crowded && !large {
                return Ok(forgotten);
            }
            let Some(job) = reaped.find(|job| job.times.reap.is_some() && !job.claimed) else {
                return Err(if crowded {
                    Code::TooManyOpen
                } else {
                    Code::NoMemory
                });
            };
            let freed = job.description.weight();
            (own_count, own_bytes) = (own_count - 1, own_bytes.saturating_sub(freed));
            (count, bytes) = (count - 1, bytes.saturating_sub(freed));
            forgotten.push(job.id);
        }
    }

    /// Adds a job to the indices.
    fn enter(&mut self, job: &Job) {
        let own = self.subjects.entry(job.owner.subject.clone()).or_default();
        own.ids.insert(job.id);
        let weight = job.description.weight();
        own.bytes += weight;
        self.bytes += weight;
        if job.is_ready() {
            own.ready.insert(job.id);
            self.ready.insert(job.id);
        }
        if job.times.reap.is_none() {
            own.unreaped += 1;
            self.unreaped += 1;
        }
        if job.is_queued() {
            self.queue.insert((job.times.commit.unwrap_or(0), job.id));
        }
    }

    /// Takes a job out of the indices, as it was when it was entered.
    fn leave(&mut self, job: &Job) {
        self.queue.remove(&(job.times.commit.unwrap_or(0), job.id));
        self.ready.remove(&job.id);
        let weight = job.description.weight();
        self.bytes = self.bytes.saturating_sub(weight);
        let unreaped = usize::from(job.times.reap.is_none());
        self.unreaped = self.unreaped.saturating_sub(unreaped);
        let subject = &job.owner.subject;
        if let Some(own) = self.subjects.get_mut(subject) {
            own.ids.remove(&job.id);
            own.ready.remove(&job.id);
            own.bytes = own.bytes.saturating_sub(weight);
            own.unreaped = own.unreaped.saturating_sub(unreaped);
            if own.ids.is_empty() {
                self.subjects.remove(subject);
            }
        }
    }
}
