//! Whole-cluster tests of Ullage and the tools that they share.
//!
//! The tests in `tests/` start the real binary as a child process and talk to it as its users do:
//! S3 over TCP, `ullage admin`, files on disk. Nothing here reaches into the services' code, but for the tables of
//! routes that `tests/cluster/identities.rs` walks, and the simulator, which runs it.
//!
//! - [`standalone`] is `ullage standalone`, [`cluster`] a cluster of separate processes, both made of
//!   [`daemon`]s that are started, killed and restarted;
//! - [`http1`], [`sign`] and [`s3`] are the client side, made by hand so that a test can send what no
//!   library would (half a body, a bad signature, a key named `..`) and so that the load generator is cheap;
//! - [`content`] makes bodies whose every byte can be checked without keeping them;
//! - [`traffic`], [`history`] and [`validate`] are seeded load, what was acknowledged, and the check of it;
//! - [`faults`] breaks disks and processes, [`process`] and [`syscalls`] look at them from outside;
//! - [`clients`] runs the tools that people use: aws, boto3, rclone; [`trees`] are directories that they store;
//! - [`admin_json`] is the one place that knows the shape of `ullage admin --json`, [`layout`] the one that
//!   knows the data directory, [`metrics`] reads `/metrics`;
//! - [`settle`] waits for what upkeep does by itself, [`seed`] is where a test's randomness starts;
//! - [`load`] is the benchmark.
//!
//! No other crate depends on this one.

pub mod admin_json;
pub mod clients;
pub mod cluster;
pub mod content;
pub mod daemon;
pub mod faults;
pub mod history;
pub mod http1;
pub mod layout;
pub mod load;
pub mod metrics;
pub mod patient;
pub mod process;
pub mod s3;
pub mod seed;
pub mod settle;
pub mod sign;
pub mod standalone;
pub mod syscalls;
pub mod traffic;
pub mod trees;
pub mod validate;
