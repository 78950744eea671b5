//! The whole store in one process: one module for each thing that it shows (docs/testing.md).
//!
//! All of them are one binary: a binary for each would link the same crates again and again.

mod bad_input;
mod bit_flip;
mod config;
mod crash;
mod cut_off;
mod durability_strace;
mod full_store;
mod main_job;
mod many_chunks;
mod memory;
mod placement;
mod put_get;
mod secrecy;
mod service_config;
mod slow_reader;
