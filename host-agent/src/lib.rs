//! Virtual machines for the host agent: drivers of hypervisors behind one trait.
//!
//! The crate's program, `host-agent`, finds guests by their beacons and works with them; what it needs of a
//! hypervisor is here, so that other programs can have it too. It is no hypervisor, and it holds no list of
//! guests: a machine and the guest in it are linked by MAC addresses, and nothing else.
//!
//! # Layout
//!
//! * [`hypervisor`]: the trait, machines, states, operations and errors; one module for each driver
//! * [`watchdog`]: which machines are to be restarted, without I/O and without a clock
//!
//! # Example
//!
//! ```
//! use host_agent::hypervisor::{Driver as _, Operation, none::NoHypervisor};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let driver = NoHypervisor;
//! assert!(driver.machines().await?.is_empty());
//! let refused = driver.operate("worker-1", Operation::Start).await.unwrap_err();
//! assert_eq!(refused.fault(), -8);
//! # Ok::<(), host_agent::hypervisor::Error>(())
//! # }).map_err(|error| error.to_string())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod hypervisor;
pub mod watchdog;
