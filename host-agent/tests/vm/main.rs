//! Real virtual machines under QEMU without KVM: `make test-vm`, which makes the guest and installs QEMU.
//!
//! Root becomes an ordinary user at the start of each test; only a bridge takes root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails this way has failed as it should"
)]

#[path = "../common/mod.rs"]
mod common;
mod demo;
mod disk;
mod driver;
mod empty_root;
mod faults;
mod golden;
mod harness;
mod journey;
mod kvm;
mod network;
mod restore;
