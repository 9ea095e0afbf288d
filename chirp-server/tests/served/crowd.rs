//! Many clients at once in one process.

use std::sync::Barrier;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::{Peer, Place};

/// What a connection that waits may cost the server, in KiB: its task and two buffers of 8 KiB at most,
/// and what the allocator keeps.
const WAITING_MAX_KIB: u64 = 20;

/// Memory of a server without clients, in KiB, in a build that is not optimised.
const SERVER_MAX_KIB: u64 = 64 * 1024;

/// Lets `idle` clients log in and stay, and `busy` others make `requests` requests each at the same time;
/// then asks all that waited.
#[track_caller]
fn crowd(idle: usize, busy: usize, requests: usize) {
    // This process holds the other ends.
    let limit = getrlimit(Resource::Nofile);
    let wanted = idle + busy + 100;
    assert!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted as u64),
        "this test needs a hard limit of {wanted} open files (ulimit -Hn)"
    );
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();

    let place = Place::new();
    place.write("f", "x");
    let server = place.serve(&["-t", "10m", "-P", "address:127.0.0.1"]);
    let mut waiting: Vec<Peer> = (0..idle).map(|_| server.guest(1)).collect();
    let memory = server.memory_kib("VmRSS");
    let allowed = SERVER_MAX_KIB + WAITING_MAX_KIB * idle as u64;
    assert!(
        memory < allowed,
        "{memory} KiB for {idle} clients, allowed are {allowed}"
    );
    let together = Barrier::new(busy);
    std::thread::scope(|scope| {
        for number in 0..busy {
            let (server, together) = (&server, &together);
            let work = move || {
                let mut peer = server.guest(1);
                together.wait();
                for turn in 0..requests {
                    let missing = format!("/missing-{number}-{turn}");
                    let answer = peer.answer(format!("stat /f\nstat {missing}\nwhoami 7\n"));
                    assert!(answer.starts_with(b"0\n"), "{}", answer.escape_ascii());
                    assert!(
                        answer.ends_with(b"\n-3\n7\naddress"),
                        "{}",
                        answer.escape_ascii()
                    );
                }
            };
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn_scoped(scope, work)
                .unwrap();
        }
    });
    for peer in &mut waiting {
        peer.expect("whoami 7\n", "7\naddress");
    }
    // One process, and not a thread for each of them.
    assert!(server.figure("Threads") < 100);
}

#[test]
fn a_thousand_wait_and_two_hundred_work() {
    crowd(1000, 200, 20);
}

#[test]
#[ignore = "takes a minute and 11,100 open files here and in the server; `make test-full` runs it"]
fn ten_thousand_wait_and_a_thousand_work() {
    crowd(10_000, 1000, 20);
}
