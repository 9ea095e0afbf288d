//! What is done in the cells.

pub(super) mod commands;
mod terminal;
mod tickets;
mod tools;

use super::Scene;

/// The journeys other than those of one command of `chirp`.
pub(super) const OTHERS: &[&[Scene]] = &[tools::SCENES, terminal::SCENES, tickets::SCENES];
