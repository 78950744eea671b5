//! The metadata service: the File Allocation Table and the namespace behind Raft on RocksDB.
//!
//! `store` alone names RocksDB, `raft` alone names openraft. Everything else proposes commands
//! ([`propose`]), reads states ([`reads`]) and knows neither. [`service`] is what callers see, [`http`] how they
//! reach it from elsewhere, [`server`] the process around it.

pub mod clock;
pub mod config;
pub mod error;
pub mod grants;
pub mod http;
pub mod leader;
pub mod propose;
pub mod raft;
pub mod reads;
pub mod server;
pub mod service;
pub mod space;
pub mod store;

pub use error::Error;
