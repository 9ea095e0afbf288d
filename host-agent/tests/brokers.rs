//! The agent and real guests over other people's brokers, by settings alone.
//!
//! RabbitMQ and ActiveMQ take seconds to start, so theirs runs where it is asked for: `make test-brokers`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails this way has failed as it should"
)]

mod common;

use brokers::broker::{agent_account, guest_account};
use brokers::{Broker, Kind};
use common::{Agent, Guest, wait_for};
use rustix::process::Signal;

#[test]
fn presence_over_coilmq() {
    presence_over(Kind::CoilMq);
}

#[test]
#[ignore = "heavy: make test-brokers"]
fn presence_over_rabbitmq() {
    presence_over(Kind::RabbitMq);
}

#[test]
#[ignore = "heavy: make test-brokers"]
fn presence_over_activemq() {
    presence_over(Kind::ActiveMq);
}

/// A guest gets ready, stays so while the broker is dead, is heard again after it, and leaves.
fn presence_over(kind: Kind) {
    let mut broker = Broker::start(kind).unwrap();
    let (address, account) = (broker.address(), agent_account());
    let mut agent = Agent::start_from(&format!(
        "[EmbeddedBroker]\nenabled = no\n[Broker]\nhost = {}\nport = {}\nusername = {}\npassword = {}\n\
         [Host]\nvm_gc_grace = 60\n",
        address.ip(),
        address.port(),
        account.login,
        account.passcode
    ));
    agent.broker = address.to_string();
    let (own, wrong) = (guest_account(), "another-passcode");
    if kind != Kind::CoilMq {
        // It takes everybody unless it is configured otherwise.
        let stranger = Guest::with_account(&agent, "stranger", &own.login, wrong);
        wait_for("a refusal", || {
            stranger
                .log()
                .contains("refused login or passcode")
                .then_some(())
        });
        assert!(agent.guest("stranger").is_none());
        assert!(!stranger.log().contains(wrong), "{}", stranger.log());
    }
    let mut guest = Guest::with_account(&agent, "worker", &own.login, &own.passcode);
    agent.wait_state("worker", "ready");

    broker.kill();
    wait_for("the agent to miss the broker", || {
        (agent.get("/agent")?["broker_up"] == false).then_some(())
    });
    let heard = agent.wait_state("worker", "ready")["last_beacon"].clone();
    assert!(heard.is_string() || heard.is_number(), "{heard}");
    broker.start_again().unwrap();
    wait_for("the agent to find the broker again", || {
        (agent.get("/agent")?["broker_up"] == true).then_some(())
    });
    wait_for("the guest to be heard again", || {
        let guest = agent.guest("worker")?;
        (guest["state"] == "ready" && guest["last_beacon"] != heard).then_some(())
    });

    guest.process.signal(Signal::TERM);
    assert_eq!(guest.process.code(), Some(0));
    wait_for("the guest to leave the list", || {
        agent.guest("worker").is_none().then_some(())
    });
    let log = agent.log();
    assert!(log.contains("said BYE"), "{log}");
}
