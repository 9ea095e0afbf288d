//! Work that keeps a processor or a disk busy for long: on threads of its own, which the system
//! schedules after everything else, and in turns between subjects.
//!
//! Long work comes in slices ([`Slice`]), each run as one job. What waits is served subject by
//! subject, and no subject ever has more than half of the threads that are free, so one that asks
//! for a hundred digests delays nobody's removal of a directory for longer than a slice.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chirp_proto::Code;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Jobs that run at once.
pub const THREADS_MAX: usize = 16;

/// How much later than others these threads have their turn: beside a busy one each gets a tenth of a
/// processor, so that long work still ends on a machine that is never idle. From it the system derives the order
/// of disk accesses too.
const NICE: i32 = 10;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

/// How long a slice of long work lasts.
const SLICE: Duration = Duration::from_millis(50);

/// When a slice of long work ends.
#[derive(Debug)]
pub struct Slice {
    end: Instant,
    token: CancellationToken,
}

impl Slice {
    /// Starts a slice of work that is given up once the token is cancelled.
    #[must_use]
    pub fn new(token: CancellationToken) -> Self {
        Self {
            end: Instant::now() + SLICE,
            token,
        }
    }

    /// Reports whether the work is to pause here.
    #[must_use]
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.token.is_cancelled()
    }
}

/// The threads and what waits for them.
#[derive(Debug, Default)]
pub struct Heavy {
    state: Mutex<State>,
    work: Condvar,
}

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// Subjects with waiting jobs, each once, whose turn is next first.
    turns: VecDeque<Arc<str>>,
    waiting: HashMap<Arc<str>, VecDeque<Job>>,
    /// Subjects with running jobs, and how many.
    running: HashMap<Arc<str>, usize>,
    queued: usize,
    threads: usize,
    busy: usize,
}

impl Heavy {
    /// Runs a job for a subject when its turn comes. A job whose future is dropped before that is
    /// not run.
    ///
    /// # Errors
    ///
    /// -11 if the system gives no thread, or the job panicked.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        subject: &str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Code> {
        let (done, result) = oneshot::channel();
        let job = move || {
            if !done.is_closed() {
                // Whoever waited may have left.
                let _ = done.send(job());
            }
        };
        self.submit(subject, Box::new(job))?;
        result.await.map_err(|_| Code::TryAgain)
    }

    fn submit(self: &Arc<Self>, subject: &str, job: Job) -> Result<(), Code> {
        let mut state = self.lock();
        // Each idle thread has at most one of the waiting jobs to begin with.
        if state.threads - state.busy <= state.queued && state.threads < THREADS_MAX {
            let shared = Arc::clone(self);
            let spawned = std::thread::Builder::new()
                .name("heavy".to_owned())
                .spawn(move || shared.serve());
            match spawned {
                Ok(_) => state.threads += 1,
                Err(_) if state.threads > 0 => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot start a thread for long work");
                    return Err(Code::TryAgain);
                }
            }
        }
        state.push(subject, job);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// The life of a thread.
    fn serve(&self) {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::warn!(%error, "long work runs at full priority");
        }
        let mut state = self.lock();
        loop {
            if let Some((subject, job)) = state.next() {
                drop(state);
                // The one who waits for it sees that no result came.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
                state.ended(&subject);
                // What could not run beside it may do so now.
                self.work.notify_one();
                continue;
            }
            let (guard, waited) = self
                .work
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if waited.timed_out() && state.turns.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, subject: &str, job: Job) {
        let subject: Arc<str> = subject.into();
        let queue = self.waiting.entry(Arc::clone(&subject)).or_default();
        if queue.is_empty() {
            self.turns.push_back(subject);
        }
        queue.push_back(job);
        self.queued += 1;
    }

    /// Takes the job whose turn it is. A subject that has as many running as threads are free has to
    /// wait, so that something is left for the others.
    fn next(&mut self) -> Option<(Arc<str>, Job)> {
        let free = THREADS_MAX - self.busy;
        let running = &self.running;
        let turn = self
            .turns
            .iter()
            .position(|subject| running.get(subject).copied().unwrap_or(0) < free)?;
        let subject = self.turns.remove(turn)?;
        let queue = self.waiting.get_mut(&subject)?;
        let job = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&subject);
        } else {
            self.turns.push_back(Arc::clone(&subject));
        }
        *self.running.entry(Arc::clone(&subject)).or_default() += 1;
        self.queued -= 1;
        self.busy += 1;
        Some((subject, job))
    }

    fn ended(&mut self, subject: &Arc<str>) {
        self.busy -= 1;
        if let Some(count) = self.running.get_mut(subject) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(subject);
            }
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("turns", &self.turns)
            .field("running", &self.running)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes jobs until none may run, and returns whose they were.
    fn taken(state: &mut State) -> Vec<String> {
        std::iter::from_fn(|| state.next().map(|(subject, _)| subject.to_string())).collect()
    }

    #[test]
    fn subjects_take_turns_and_none_takes_everything() {
        let mut state = State::default();
        for _ in 0..100 {
            state.push("greedy", Box::new(|| ()));
        }
        assert_eq!(taken(&mut state).len(), THREADS_MAX / 2);
        for subject in ["a", "b", "a"] {
            state.push(subject, Box::new(|| ()));
        }
        assert_eq!(taken(&mut state), ["a", "b", "a"]);
        state.ended(&"greedy".into());
        assert_eq!(taken(&mut state), [] as [&str; 0]);
        for subject in ["a", "b", "a", "greedy"] {
            state.ended(&subject.into());
        }
        assert_eq!(taken(&mut state), ["greedy", "greedy"]);
    }

    #[test]
    fn jobs_of_one_subject_run_in_their_order() {
        let mut state = State::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..5 {
            let order = Arc::clone(&order);
            state.push("a", Box::new(move || order.lock().unwrap().push(number)));
        }
        while let Some((subject, job)) = state.next() {
            job();
            state.ended(&subject);
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert!(state.running.is_empty() && state.waiting.is_empty());
    }

    #[tokio::test]
    async fn a_panic_costs_its_job_only_and_an_abandoned_job_is_not_run() {
        let heavy = Arc::new(Heavy::default());
        let lost = heavy.run("a", || panic!("for the test")).await;
        assert_eq!(lost.map(|(): ()| ()), Err(Code::TryAgain));
        assert_eq!(heavy.run("a", || 7).await, Ok(7));
        // All of one subject's threads wait here, so that a further job of it has to.
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let held: Vec<_> = (0..THREADS_MAX / 2)
            .map(|_| {
                let (heavy, gate) = (Arc::clone(&heavy), Arc::clone(&gate));
                tokio::spawn(async move {
                    let wait = move || gate.lock().unwrap().recv().is_err();
                    heavy.run("a", wait).await
                })
            })
            .collect();
        while heavy.lock().busy < THREADS_MAX / 2 {
            tokio::task::yield_now().await;
        }
        let ran = Arc::new(Mutex::new(false));
        let mark = Arc::clone(&ran);
        let abandoned = {
            let heavy = Arc::clone(&heavy);
            tokio::spawn(async move { heavy.run("a", move || *mark.lock().unwrap() = true).await })
        };
        while heavy.lock().turns.is_empty() {
            tokio::task::yield_now().await;
        }
        abandoned.abort();
        assert!(abandoned.await.is_err());
        // Another subject's work does not wait for any of that.
        assert_eq!(heavy.run("b", || 8).await, Ok(8));
        drop(open);
        for job in held {
            assert_eq!(job.await.unwrap(), Ok(true));
        }
        assert_eq!(heavy.run("a", || 9).await, Ok(9));
        assert!(!*ran.lock().unwrap());
    }

    #[tokio::test]
    async fn the_threads_have_a_low_priority_and_nobody_else() {
        let heavy = Arc::new(Heavy::default());
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        assert_eq!(heavy.run("a", nice).await, Ok(NICE));
        assert_eq!(nice(), before);
    }
}
