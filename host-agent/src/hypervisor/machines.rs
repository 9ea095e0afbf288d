//! The machines of a driver as the agent and the commands work with them: one operation at a time for each,
//! with a limit, going on when nobody waits for it any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::task::TaskTracker;

use super::{Driver, Error, Machine, Operation, State};

/// The machines of one driver. Clones are of the same.
#[derive(Debug, Clone)]
pub struct Machines {
    driver: Arc<dyn Driver>,
    shared: Arc<Mutex<Shared>>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Shared {
    /// What is being done, by the machine's key.
    busy: HashMap<String, Busy>,
    /// When a machine was last brought to run from here, by its key.
    started: HashMap<String, Instant>,
}

#[derive(Debug, Clone)]
struct Busy {
    operation: &'static str,
    meanwhile: Option<State>,
}

/// Marks a machine as busy until it is dropped.
#[derive(Debug)]
struct Turn {
    shared: Arc<Mutex<Shared>>,
    key: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.shared).busy.remove(&self.key);
    }
}

impl Machines {
    /// Returns the machines of that driver.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        Self {
            driver,
            shared: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Returns the driver.
    #[must_use]
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// Returns every machine. One that something is being done to has the state that tells what.
    ///
    /// # Errors
    ///
    /// As [`Driver::machines`].
    pub async fn list(&self) -> Result<Vec<Machine>, Error> {
        let mut machines = self.driver.machines().await?;
        for machine in &mut machines {
            self.show_busy(machine);
        }
        Ok(machines)
    }

    /// Returns one machine, by name or uuid.
    ///
    /// # Errors
    ///
    /// As [`Driver::machine`].
    pub async fn machine(&self, machine: &str) -> Result<Machine, Error> {
        let mut found = self.driver.machine(machine).await?;
        self.show_busy(&mut found);
        Ok(found)
    }

    /// Returns when a machine was last started, reset or restored from here.
    #[must_use]
    pub fn started(&self, machine: &Machine) -> Option<Instant> {
        lock(&self.shared).started.get(key(machine)).copied()
    }

    /// Does something to a machine.
    ///
    /// # Errors
    ///
    /// As [`Driver::operate`]; [`Error::Busy`] while something else is being done to it; [`Error::TimedOut`].
    ///
    /// # Cancel safety
    ///
    /// The operation goes on when the future is dropped.
    pub async fn operate(&self, machine: &str, operation: Operation) -> Result<(), Error> {
        operation.check(machine)?;
        let key = match &operation {
            Operation::Create(_) => machine.to_owned(),
            _ => key(&self.driver.machine(machine).await?).to_owned(),
        };
        let turn = self.turn(machine, &key, &operation)?;
        let (driver, machine) = (Arc::clone(&self.driver), machine.to_owned());
        let (what, limit) = (operation.name(), operation.limit());
        let starts = matches!(
            operation,
            Operation::Start
                | Operation::Reset
                | Operation::Resume
                | Operation::RestoreSnapshot { .. }
        );
        let done = self.tasks.spawn(async move {
            let done = tokio::time::timeout(limit, driver.operate(&machine, operation)).await;
            if starts && matches!(done, Ok(Ok(()))) {
                let mut shared = lock(&turn.shared);
                shared.started.insert(turn.key.clone(), Instant::now());
            }
            let done = done.unwrap_or_else(|_| {
                Err(Error::TimedOut {
                    what: format!("{what} of machine {machine:?}"),
                    limit,
                })
            });
            match &done {
                Ok(()) => tracing::info!(event = "hv.op", operation = what, machine, "done"),
                Err(error) => {
                    tracing::warn!(event = "hv.op", operation = what, machine, %error, "failed")
                }
            }
            drop(turn);
            done
        });
        match done.await {
            Ok(done) => done,
            Err(error) => Err(Error::Failed {
                what: what.to_owned(),
                said: format!("by a defect of this program: {error}"),
            }),
        }
    }

    /// Takes the turn of a machine.
    fn turn(&self, machine: &str, key: &str, operation: &Operation) -> Result<Turn, Error> {
        let mut shared = lock(&self.shared);
        if let Some(busy) = shared.busy.get(key) {
            return Err(Error::Busy {
                machine: machine.to_owned(),
                operation: busy.operation.to_owned(),
            });
        }
        let busy = Busy {
            operation: operation.name(),
            meanwhile: operation.meanwhile(),
        };
        shared.busy.insert(key.to_owned(), busy);
        Ok(Turn {
            shared: Arc::clone(&self.shared),
            key: key.to_owned(),
        })
    }

    fn show_busy(&self, machine: &mut Machine) {
        if let Some(state) = lock(&self.shared)
            .busy
            .get(key(machine))
            .and_then(|busy| busy.meanwhile)
        {
            machine.state = state;
        }
    }
}

/// Returns what tells a machine from all others of its driver.
fn key(machine: &Machine) -> &str {
    machine.uuid.as_deref().unwrap_or(&machine.name)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // A task that panicked left nothing half done in it.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
