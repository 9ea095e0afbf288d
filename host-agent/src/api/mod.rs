//! The agent's HTTP API with JSON on a Unix socket, both sides of it.
//!
//! It has what the commands need and no more: `GET /agent`, `GET /guests`, `GET /events`, `POST /exec`,
//! and for machines `GET /machines`, `GET /machine`, `POST /machine` and `GET /machines/check`.
//! Files do not pass through it: agent and commands share the host, so `push` and `pull` ask the agent only
//! where a guest is and then talk Chirp to it themselves. So no byte of a file crosses the agent, and local
//! files are read and written with the rights of whoever runs the command, not with the agent's.

pub(crate) mod client;
pub(crate) mod http;
mod machines;
pub(crate) mod socket;
pub(crate) mod types;
