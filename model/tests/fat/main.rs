//! Transitions of the FAT and of sessions, one file per area: what each changes, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod choice;
mod class_rules;
mod cluster;
mod leases;
mod release;
mod sessions;
mod settling;
mod vendors;
mod vendors_in_and_out;
