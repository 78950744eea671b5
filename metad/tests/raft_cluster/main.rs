//! Groups of several nodes in one process: real databases, real TLS over real loopback sockets, each node on a runtime
//! of its own, so that it can be killed between any two instructions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod changes;
mod formation;
mod identity;
#[path = "../loopback/mod.rs"]
mod loopback;
mod network;
mod node;
mod quarantine;
mod replication;
mod snapshots;
#[path = "../support/mod.rs"]
mod support;
