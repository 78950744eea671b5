//! Clusters of separate processes: one module for each thing that they show (docs/testing.md).
//!
//! All of them are one binary: a binary for each would link the same crates again and again.

mod clocks;
mod example;
mod gateway;
mod identities;
mod leader;
mod main_job;
mod network;
mod partition;
mod paths;
mod placement;
mod races;
mod restart;
mod vendor;
