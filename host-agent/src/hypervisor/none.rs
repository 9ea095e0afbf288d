//! The driver `none`: guests are whoever announces themselves, and nothing can be done to their machines.

use super::{Answer, Driver, Error, Machine};

/// No hypervisor.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHypervisor;

impl Driver for NoHypervisor {
    fn name(&self) -> &'static str {
        "none"
    }

    fn machines(&self) -> Answer<'_, Vec<Machine>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn machine<'a>(&'a self, machine: &'a str) -> Answer<'a, Machine> {
        Box::pin(std::future::ready(Err(Error::NoSuchMachine {
            machine: machine.to_owned(),
        })))
    }
}
