//! What is done in the cells.

mod across;
pub(super) mod commands;
mod rights;
mod spaces;
mod terminal;
mod tickets;
mod tools;

use super::Scene;

/// The journeys other than those of one command of `chirp`.
pub(super) const OTHERS: &[&[Scene]] = &[
    tools::SCENES,
    terminal::SCENES,
    rights::SCENES,
    tickets::SCENES,
    across::SCENES,
    spaces::SCENES,
];
