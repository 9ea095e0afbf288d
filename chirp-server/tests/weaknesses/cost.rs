//! Weaknesses in cost: descriptors, processor time, connections.

use std::fs;

use crate::common::{Place, Server};
use crate::reference::Reference;

/// Processor time that a process has used, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn w22_listings_leak_no_descriptor() {
    let place = Place::new();
    let attack = |server: &Server<'_>| {
        let mut owner = server.owner();
        let answers = owner.answer("getdir /\n".repeat(1100));
        let stat = owner.answer("stat /\n");
        (
            memchr::memmem::find(&answers, b"\n-2\n").is_none(),
            stat.starts_with(b"0\n"),
        )
    };
    assert_eq!(attack(&Reference::serve(&place, &[])), (false, false));
    let ours = place.serve(&[]);
    assert_eq!(attack(&ours), (true, true));
    let open = || {
        fs::read_dir(format!("/proc/{}/fd", ours.pid()))
            .unwrap()
            .count()
    };
    let mut owner = ours.owner();
    owner.answer("getdir /\n");
    let before = open();
    owner.answer("getlongdir /\nsearch x / 0\naudit /\ngetdir /none\nrmall /none\n".repeat(500));
    // Connections of before may have been counted.
    let after = open();
    assert!(after <= before, "{after} after {before}");
}

#[test]
fn w23_a_blank_line_costs_nothing_to_speak_of() {
    let place = Place::new();
    let ours = place.serve(&[]);
    let mut owner = ours.owner();
    let before = ticks(ours.pid());
    // Extrapolated, over ten minutes for the reference.
    owner.expect("\n".repeat(1 << 20), "");
    owner.expect("whoami 4\n".repeat(10_000), "4\nunix".repeat(10_000));
    let cost = ticks(ours.pid()) - before;
    assert!(cost < 500, "{cost} ticks");
}

#[test]
fn w24_silent_connections_stop_nobody_s_service() {
    let place = Place::new();
    let ours = place.serve(&[]);
    let silent: Vec<_> = (0..400).map(|_| ours.connect()).collect();
    for number in 2..30 {
        ours.guest(number).expect("whoami 7\n", "7\naddress");
    }
    drop(silent);
}
