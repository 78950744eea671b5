//! Ullage's vendor agent: takes chunks, passes them on, cuts them into pieces, keeps the pieces on devices,
//! and knows where they are. Start with [`Agent`], then `ingest`. Only `device` and `local_fat` touch disks.

mod agent;
mod comings;
mod compact;
mod config;
pub mod device;
mod devices;
mod enrol;
mod error;
mod grants;
mod heartbeat;
mod http;
mod ingest;
mod lane;
mod leases;
pub mod local_fat;
mod lost;
mod metrics;
pub mod network;
mod opening;
mod others;
mod probe;
mod read;
mod receipts;
mod release;
mod run;
mod scrub;
mod seams;
mod show;
mod sync;
mod workers;

pub use agent::{Agent, LocalCopy, LocalPiece};
pub use config::{Config, DeviceConfig};
pub use device::data_dir::{DataDir, DeviceMarker, hex_of};
pub use error::AgentError;
pub use http::ROUTES;
pub use http::admin::PUBLIC_ROUTES;
pub use run::{Randomness, RunSeams, Service, run};
pub use seams::{
    ChunkParts, HopReports, MetadClient, MetadError, MonotonicClock, PeerSender, Seams, SystemClock,
};
pub use show::show;
pub use workers::Workers;
