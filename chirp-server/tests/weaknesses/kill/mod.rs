//! `kill -9` at any moment of many random operations, then a start that finds what was acknowledged.
//!
//! Each client works in a directory of its own, so that its model says exactly what is there: all that
//! was acknowledged, and of the one operation that was under way either nothing or everything. In a
//! directory that all share, files must be whole versions, and nobody's entry in the list may be lost.

mod client;
mod held;
mod model;
mod space;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::common::{Place, eventually};
use crate::random::Random;
use client::Client;
use held::Held;
use model::{Model, snapshot};

const CLIENTS: usize = 4;

/// How often the server is killed, and about how many operations it lives for. `CHIRP_KILL_ROUNDS` asks for
/// more kills, `CHIRP_KILL_SEED` for other operations.
const ROUNDS: u64 = 25;
const OPERATIONS: usize = 120;

/// What the clients of one run do besides files and lists.
#[derive(Clone, Copy)]
pub(crate) struct Features {
    pub(crate) args: &'static [&'static str],
    /// Allocations instead of hard links, which there are none of with a quota.
    pub(crate) space: bool,
    /// Tickets and jobs.
    pub(crate) held: bool,
}

#[test]
fn a_server_killed_during_random_operations_comes_back_with_all_that_was_acknowledged() {
    run(Features {
        args: &["--jobs"],
        space: false,
        held: true,
    });
}

#[test]
fn a_server_with_a_quota_that_is_killed_comes_back_with_figures_that_are_right() {
    run(Features {
        args: &["-Q", "200M"],
        space: true,
        held: false,
    });
}

/// Uploads into the shared directory: every version that was begun.
type Begun = Mutex<BTreeSet<u64>>;

fn run(features: Features) {
    let setting = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
    };
    let (rounds, seed) = (
        setting("CHIRP_KILL_ROUNDS", ROUNDS),
        setting("CHIRP_KILL_SEED", 1),
    );
    let mut random = Random::new(seed);
    let place = Place::new();
    let list = format!("unix:{} rwldpa\n", place.user);
    place.write(".__acl", format!("unix:{} rwldpax\n", place.user));
    place.directory("shared", &list);
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| {
            place.directory(&format!("c{number}"), &list);
            let held = if features.held {
                Held::with_keys(&place, number)
            } else {
                Held::nothing()
            };
            Client::new(number, random.number(), features, &place.user, held)
        })
        .collect();
    let begun = Begun::default();
    let (mut done, mut refused) = (0, 0);
    for round in 0..rounds {
        let mut server = place.serve(features.args);
        let count = AtomicUsize::new(0);
        let end = OPERATIONS / 2 + random.below(OPERATIONS);
        let pause = Duration::from_micros(random.number() % 2000);
        let mut peers: Vec<_> = clients.iter().map(|_| server.owner()).collect();
        std::thread::scope(|scope| {
            for (client, peer) in clients.iter_mut().zip(&mut peers) {
                let (count, begun) = (&count, &begun);
                scope.spawn(move || client.work(peer, count, begun));
            }
            while count.load(Ordering::Relaxed) < end {
                std::thread::sleep(Duration::from_micros(100));
            }
            std::thread::sleep(pause);
            server.signal(Signal::KILL);
            server.wait();
        });
        done += count.load(Ordering::Relaxed);
        drop(server);
        let server = place.serve(features.args);
        let context = format!("round {round} of seed {seed}");
        for client in &mut clients {
            refused += std::mem::take(&mut client.refused);
            let found = snapshot(&place, &format!("c{}", client.number));
            client.settle(found, &context);
        }
        check_shared(&place, &clients, &begun, &context);
        check_own_files(&place, &context);
        if features.held {
            let mut owner = server.owner();
            let mut ids = Vec::new();
            for client in &mut clients {
                ids.extend(client.held.settle(&place, &mut owner, &context));
            }
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), count, "{context}: no id is given twice");
        }
        if features.space {
            space::check(&place, &server, &context);
        }
        drop(server);
    }
    assert!(
        done as u64 >= rounds * OPERATIONS as u64 / 2,
        "{done} operations"
    );
    assert!(refused < done / 3, "{refused} of {done} operations refused");
}

/// The shared directory holds whole versions that somebody began, and everybody's last entry.
#[track_caller]
fn check_shared(place: &Place, clients: &[Client], begun: &Begun, context: &str) {
    let shared: Model = snapshot(place, "shared");
    let begun = begun.lock().unwrap();
    for (path, version) in shared.versions() {
        assert!(
            begun.contains(&version),
            "{context}: {path} has version {version}"
        );
    }
    let list = shared.list("/shared");
    for client in clients {
        client.check_entry(list, context);
    }
}

/// The server has left no file of its own that it does not need. Jobs that waited for the start may
/// be running.
#[track_caller]
fn check_own_files(place: &Place, context: &str) {
    let is_needed = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name == ".__alloc"
            || name == ".__uuid"
            || name.starts_with(".__ticket.") && name.len() == ".__ticket.".len() + 32
    };
    eventually(&format!("{context}: nothing is left"), || {
        place.debris().iter().all(is_needed)
    });
}
