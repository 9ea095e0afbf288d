//! Thousands of guests that come and leave at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails this way has failed as it should"
)]

mod common;

use std::io::Write as _;
use std::net::TcpStream;

use common::{Agent, Guest, wait_for};

/// Guests that come within a second, and leave within one.
const CROWD: u32 = 2000;

#[test]
fn two_thousand_guests_come_and_leave() {
    beacon::broker::raise_open_files();
    let agent = Agent::start();
    // One that is really there, so that the crowd is seen to take nothing from it.
    let _guest = Guest::start(&agent, "worker");
    let count = |wanted: usize| {
        wait_for(&format!("{wanted} guests"), || {
            let guests = agent.get("/guests")?["guests"].as_array()?.len();
            (guests == wanted).then_some(())
        });
    };
    let mut guests: Vec<_> = (0..CROWD)
        .map(|number| {
            let mut stream = TcpStream::connect(&agent.broker).unwrap();
            let hello = said("HELLO", number, 0);
            let text = format!("CONNECT\naccept-version:1.2\nhost:x\n\n\0{hello}");
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    count(CROWD as usize + 1);
    let log = agent.log();
    assert_eq!(log.matches("guest.hello").count(), CROWD as usize + 1);
    assert_eq!(agent.guest("worker").unwrap()["state"], "ready");
    let member = agent.guest("m1999").unwrap();
    // Nobody listens where they say that they are.
    assert_eq!(member["state"], "joining", "{member}");

    // Half of them say so.
    let rest = guests.split_off(CROWD as usize / 2);
    for (number, guest) in (0..).zip(&mut guests) {
        guest.write_all(said("BYE", number, 1).as_bytes()).unwrap();
    }
    count(CROWD as usize / 2 + 1);
    assert_eq!(
        agent.log().matches("guest.left").count(),
        CROWD as usize / 2
    );
    // The rest just end: each is asked twice whether it is still there, long before its deadline.
    drop(rest);
    count(1);
    let log = agent.log();
    assert_eq!(log.matches("guest.gone").count(), CROWD as usize / 2);
    assert_eq!(log.matches("guest.left").count(), CROWD as usize / 2);
    assert_eq!(agent.guest("worker").unwrap()["state"], "ready");
}

/// A SEND frame of one of the crowd.
fn said(word: &str, number: u32, seq: u64) -> String {
    let [_, _, c, d] = number.to_be_bytes();
    let body = format!(
        "{word} {{\"id\":\"02:00:01:00:{c:02X}:{d:02X}\",\"name\":\"m{number}\",\"ip\":\"127.1.{c}.{d}\",\
         \"port\":9,\"boot\":\"b\",\"run\":\"r\",\"seq\":{seq},\"interval\":20}}"
    );
    format!(
        "SEND\ndestination:/topic/connections\ncontent-length:{}\n\n{body}\0",
        body.len()
    )
}
