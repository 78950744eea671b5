//! Ullage's S3 gateway: the S3 protocol in front, File Allocation Table flows
//! behind. Only [`s3`] knows S3's words.

pub mod admin;
pub mod agent_client;
pub mod audit;
pub mod chunker;
pub mod config;
pub mod crypt;
pub mod directory;
pub mod engine;
pub mod environment;
pub mod error;
pub mod get;
pub mod instance;
pub mod keeper;
pub mod kek;
pub mod limits;
pub mod memory;
pub mod metad_client;
pub mod metrics;
pub mod network;
mod ops;
pub mod path;
pub mod policy;
mod prober;
pub mod put;
pub mod readers;
pub mod rooms;
mod run;
pub mod s3;
pub mod sequences;
pub mod server;
pub mod session;
pub mod store;

pub use run::{Connected, Seams, connect, run};
