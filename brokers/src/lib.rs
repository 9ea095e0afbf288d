//! STOMP brokers as processes, for tests and figures: the embedded one, RabbitMQ, ActiveMQ and CoilMQ.
//!
//! Each runs on loopback, in a temporary directory, on ports of its own, with the same two accounts, and is
//! ended with the value that stands for it. Nothing but tests and `make bench` uses this crate.
//!
//! # Layout
//!
//! * [`process`]: children that end with their owner, free ports, memory and processor time
//! * [`broker`]: a broker of any kind, started, killed, frozen, started again
//! * `rabbitmq`, `activemq`, `coilmq`, `embedded`: how each is started

mod activemq;
pub mod broker;
pub mod coilmq;
pub mod embedded;
pub mod process;
mod rabbitmq;

pub use broker::{Broker, Kind};
