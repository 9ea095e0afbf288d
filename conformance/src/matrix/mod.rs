//! Two sets of clients on two servers: every journey in every cell, and what differs.
//!
//! A journey says what is done, not what comes out: the first clients on the first server say that.
//! It is done anew, in fresh directories, with each set of clients on each server; all that the tools
//! print, their exit statuses, and the trees left behind on the servers and in the tools' directory
//! are compared with that first cell. Nothing here knows whose implementation is which; where the
//! second may do otherwise is told by [`accepted`], with the reason.
//!
//! Some journeys have more cells than four: a transfer between two servers is done in every
//! direction, and what one set of clients made is used by the other ([`cell::Mix`]).
//!
//! # Layout
//!
//! - [`clients`]: a directory of tools named as the reference's
//! - [`cell`]: which clients work on which servers
//! - [`outcome`]: what was written down in each cell, and what differs
//! - [`accepted`]: the differences that are accepted, and why
//! - `play`: servers, a directory and a transcript, where one journey is done
//! - `normal`: what varies from run to run; `tree`: what is left; `terminal`: `chirp` for a person
//! - `journeys`: what is done
//!
//! # Example
//!
//! ```no_run
//! use conformance::matrix::{self, accepted::Accepted, clients::Clients};
//! use conformance::program::Program;
//!
//! # fn main() -> anyhow::Result<()> {
//! let clients = [Clients::reference()?, Clients::ours()?];
//! let servers = [Program::reference_server()?, Program::our_server()?];
//! for journey in matrix::journeys() {
//!     let outcome = matrix::run(&journey, &clients, &servers, &Accepted::written()?);
//!     assert!(outcome.is_clean(), "{outcome}");
//! }
//! # Ok(())
//! # }
//! ```

pub mod accepted;
pub mod cell;
pub mod clients;
mod journeys;
mod normal;
pub mod outcome;
mod play;
mod terminal;
mod tree;

use anyhow::Result;

use crate::program::Program;
use accepted::Accepted;
use cell::{Cell, Mix};
use clients::Clients;
use outcome::{CellOutcome, Outcome, Record};
use play::{Form, Play};

/// Something that is done in every cell.
#[derive(Clone, Copy, Debug)]
pub struct Journey {
    scene: &'static Scene,
    form: Form,
}

/// What is done: its name, with what servers, and how.
#[derive(Debug)]
struct Scene {
    name: &'static str,
    /// Further options of the servers, separated by blanks.
    options: &'static str,
    /// How many servers it needs.
    servers: usize,
    /// Whether the two sides meet in it.
    mix: Mix,
    /// Tools that not every set of clients has, and without which it is left out.
    tools: &'static [&'static str],
    act: fn(&mut Play<'_>) -> Result<()>,
}

/// Returns every journey.
#[must_use]
pub fn journeys() -> Vec<Journey> {
    let both = [Form::Batch, Form::Script];
    let commands = both.into_iter().flat_map(|form| {
        let scenes = journeys::commands::SCENES.iter();
        scenes.map(move |scene| Journey { scene, form })
    });
    // No form makes a difference to the others.
    let others = journeys::OTHERS
        .iter()
        .flat_map(|scenes| scenes.iter())
        .map(|scene| Journey {
            scene,
            form: Form::Tools,
        });
    commands.chain(others).collect()
}

impl Journey {
    /// Returns its name, as `batch::mkdir`: how its commands are given, and what it is about.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}::{}", self.form.name(), self.scene.name)
    }

    /// Returns what it is about: for a command of `chirp`, the command.
    #[must_use]
    pub fn subject(&self) -> &'static str {
        self.scene.name
    }
}

/// Does a journey in every cell and compares. The first of each pair is the one to be like.
#[must_use]
pub fn run(
    journey: &Journey,
    clients: &[Clients; 2],
    servers: &[Program; 2],
    accepted: &Accepted,
) -> Outcome {
    let mut cells = Vec::new();
    for cell in journey.scene.mix.cells(journey.scene.servers) {
        let record = record(journey, &cell, clients, servers);
        cells.push(CellOutcome::new(&cell, clients, servers, record));
    }
    Outcome::compare(journey.name(), cells, accepted)
}

fn record(
    journey: &Journey,
    cell: &Cell,
    clients: &[Clients; 2],
    servers: &[Program; 2],
) -> Record {
    let lacking = cell.clients.iter().find_map(|side| {
        let clients = side.of(clients);
        let tool = journey.scene.tools.iter().find(|tool| !clients.has(tool))?;
        Some(format!("{} have no {tool}", clients.label()))
    });
    if let Some(reason) = lacking {
        return Record::left_out(reason);
    }
    let scene = journey.scene;
    let mut play = match Play::set(cell, clients, servers, journey.form, scene.options) {
        Ok(play) => play,
        Err(error) => return Record::not_set_up(&error),
    };
    match (scene.act)(&mut play) {
        Ok(()) => play.finish(),
        Err(error) => play.fail(&error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_journeys_have_one_name() {
        let journeys = journeys();
        let names: BTreeSet<String> = journeys.iter().map(Journey::name).collect();
        assert_eq!(names.len(), journeys.len());
    }
}
