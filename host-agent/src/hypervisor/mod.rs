//! Drivers of hypervisors behind one trait (`host-agent.md` part 7).
//!
//! * [`machine`]: machines, their states, snapshots and figures
//! * [`operation`]: what can be done to a machine
//! * [`error`]: why it was not done
//! * [`tool`]: running the programs that hypervisors come with
//! * [`qemu`]: a QEMU process for each machine, with its monitor
//! * [`virtualbox`]: VirtualBox, through `VBoxManage`
//! * [`libvirt`]: what libvirt drives, through `virsh`
//! * [`machines`]: a driver's machines, one operation at a time for each
//! * [`command`]: any hypervisor, by commands of the settings
//! * [`none`]: no hypervisor: guests are whoever announces themselves
//!
//! A driver answers from the hypervisor each time and keeps no state of machines of its own, so that what
//! others do to the same machines is seen. It does one thing at a time for each machine only if its caller
//! sees to that.

pub mod command;
pub mod error;
pub mod libvirt;
pub mod machine;
pub mod machines;
pub mod none;
pub mod operation;
pub mod qemu;
pub mod tool;
pub mod virtualbox;

use std::fmt::Debug;

use futures_util::future::BoxFuture;

pub use error::Error;
pub use machine::{Console, Finding, Machine, Performance, Snapshot, State};
pub use machines::Machines;
pub use operation::{Blueprint, Operation};

/// What a driver's call returns: the answer of a hypervisor, later.
///
/// # Cancel safety
///
/// Dropping it does not undo what the hypervisor was already told.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// A hypervisor.
///
/// `machine` is the machine's name as [`Driver::machines`] lists it, or its uuid. What a driver cannot do is
/// [`Error::NotSupported`], which is also what every method here answers by itself.
pub trait Driver: Debug + Send + Sync {
    /// Returns the driver's name as `Hypervisor.hypervisor` and `--driver` have it.
    fn name(&self) -> &'static str;

    /// Looks whether the driver can work here: tools, their versions, rights. Changes nothing.
    ///
    /// # Errors
    ///
    /// None of its own: what is missing is a [`Finding`] with the remedy.
    fn check(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Tries out what could work here beside what the settings ask for, which takes seconds; for those who ask, not
    /// for every start. Leaves nothing behind.
    ///
    /// # Errors
    ///
    /// The hypervisor's program cannot be run.
    fn try_out(&self) -> Answer<'_, Vec<Finding>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Returns every machine that the hypervisor knows, in its order.
    ///
    /// # Errors
    ///
    /// The hypervisor cannot be asked, or its answer is not understood.
    fn machines(&self) -> Answer<'_, Vec<Machine>>;

    /// Returns one machine as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchMachine`], [`Error::Ambiguous`], or the hypervisor cannot be asked.
    fn machine<'a>(&'a self, machine: &'a str) -> Answer<'a, Machine> {
        Box::pin(async move { machine::find(self.machines().await?, machine) })
    }

    /// Does something to a machine, and returns when the hypervisor says that it is done; for
    /// [`Operation::Shutdown`] when the guest has been told.
    ///
    /// # Errors
    ///
    /// See [`Error`]; the machine is then as it was, or as the hypervisor left it.
    fn operate<'a>(&'a self, machine: &'a str, operation: Operation) -> Answer<'a, ()> {
        let _ = machine;
        unsupported(self.name(), operation.name())
    }

    /// Returns the machine's snapshots, each after its parent.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    fn snapshots<'a>(&'a self, machine: &'a str) -> Answer<'a, Vec<Snapshot>> {
        let _ = machine;
        unsupported(self.name(), "snapshots")
    }

    /// Returns what the hypervisor measured of a machine.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    fn performance<'a>(&'a self, machine: &'a str) -> Answer<'a, Performance> {
        let _ = machine;
        unsupported(self.name(), "info")
    }

    /// Returns where the machine's console is.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    fn console<'a>(&'a self, machine: &'a str) -> Answer<'a, Console> {
        let _ = machine;
        unsupported(self.name(), "console")
    }
}

/// Returns all that a driver finds: what it lacks, and what else could work.
///
/// # Errors
///
/// The hypervisor's program cannot be run.
pub async fn check(driver: &dyn Driver) -> Result<Vec<Finding>, Error> {
    let mut findings = driver.check().await?;
    // What lacks something need not be tried.
    if findings.iter().all(|finding| finding.ok) {
        findings.extend(driver.try_out().await?);
    }
    Ok(findings)
}

/// Returns the answer of a driver to what it cannot do: [`Error::NotSupported`].
pub fn unsupported<'a, T: Send + 'a>(driver: &'static str, operation: &str) -> Answer<'a, T> {
    let error = Error::NotSupported {
        driver,
        operation: operation.to_owned(),
    };
    Box::pin(std::future::ready(Err(error)))
}
