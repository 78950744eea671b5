//! What reaches the agent through its constructor: the clock, the metadata service, the way to other
//! vendors, its devices. Implementations live elsewhere.
//!
//! # In a simulation
//! One process, one thread, the runtime's time: set
//! - `workers` to [`Workers::Tasks`]: lanes, keepers and the signer are tasks of the caller's runtime, what may block
//!   is done at once, and a group takes `flush` to become durable (half of it before its bytes are on the device,
//!   half before that is told, so that a crash meets both cases);
//! - `index` to [`IndexHome::InMemory`], whose [`crate::local_fat::MemoryIndex`] outlives the agent: call its
//!   `crash` between a crash and the next start, which replays the devices;
//! - `devices` to [`crate::device::memory::MemoryDevice`]s, which outlive the agent too: start again on
//!   `MemoryDevice::restarted`, which has what was durable;
//! - `clock` to one that reads the runtime's time, `key_seed` to a seeded one.
//!
//! The data directory stays a real one (a few small files: key, identity, credentials): a temporary directory
//! per agent. Its lock goes with the agent: drop every `Arc<Agent>` before the next start.

use crate::device::Device;
use crate::local_fat::IndexHome;
use crate::workers::Workers;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use prometheus::Registry;
use std::sync::Arc;
use ullage_model::ids::VendorId;
use ullage_model::wire::agent::{
    Heartbeat, HeartbeatReply, JudgeReply, JudgeRequest, RegisterReply, RegisterRequest,
};
use ullage_model::wire::chunk::{ChunkHeader, ChunkPart, ChunkRefusal, HopReport};

/// What reaches the agent from outside.
pub struct Seams {
    /// A clock that only goes forward.
    pub clock: Arc<dyn MonotonicClock>,
    /// Makes the secret of the vendor's key, once in the life of a data directory.
    pub key_seed: Box<dyn FnOnce() -> [u8; 32] + Send>,
    /// The metadata service.
    pub metad: Arc<dyn MetadClient>,
    /// The way to other vendors.
    pub peers: Arc<dyn PeerSender>,
    /// Where the index of the local FAT lies.
    pub index: IndexHome,
    /// Where metrics are registered. Each agent of a process needs a registry of its own (with a constant
    /// label that tells them apart).
    pub registry: Registry,
    /// Devices instead of those of the configuration (class and device): for tests and simulation.
    pub devices: Option<Vec<(String, Arc<dyn Device>)>>,
    /// What does the work that may block.
    pub workers: Workers,
}

/// [`Seams`] for an agent whose data directory is open already.
pub(crate) struct AgentSeams {
    pub(crate) clock: Arc<dyn MonotonicClock>,
    pub(crate) metad: Arc<dyn MetadClient>,
    pub(crate) peers: Arc<dyn PeerSender>,
    pub(crate) index: IndexHome,
    pub(crate) registry: Registry,
    pub(crate) devices: Option<Vec<(String, Arc<dyn Device>)>>,
    pub(crate) workers: Workers,
}

impl Seams {
    /// The seed of the key, and the rest.
    pub(crate) fn split(self) -> (Box<dyn FnOnce() -> [u8; 32] + Send>, AgentSeams) {
        let rest = AgentSeams {
            clock: self.clock,
            metad: self.metad,
            peers: self.peers,
            index: self.index,
            registry: self.registry,
            devices: self.devices,
            workers: self.workers,
        };
        (self.key_seed, rest)
    }
}

/// A clock that only goes forward.
pub trait MonotonicClock: Send + Sync + 'static {
    /// Milliseconds since some fixed instant.
    fn now_ms(&self) -> u64;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(std::time::Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}

impl MonotonicClock for SystemClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Why the metadata service did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadError {
    /// Not reached, or no leader now: try again.
    #[error("not reached: {0}")]
    Unavailable(String),
    /// It will not have this agent: trying again does not help.
    #[error("refused: {0}")]
    Refused(String),
}

/// The metadata service as an agent sees it.
pub trait MetadClient: Send + Sync + 'static {
    /// Makes the agent known. Idempotent by public key.
    fn register(&self, request: RegisterRequest) -> BoxFuture<'_, Result<RegisterReply, MetadError>>;
    /// Reports, and receives commands.
    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'_, Result<HeartbeatReply, MetadError>>;
    /// Asks what to do with copies of closed leases.
    fn judge(&self, request: JudgeRequest) -> BoxFuture<'_, Result<JudgeReply, MetadError>>;
    /// Learns where the metadata nodes are now. Nothing to implementations that have no addresses.
    fn learn(&self, addresses: &[String]) {
        let _ = addresses;
    }
}

/// The bytes of one chunk on their way.
pub type ChunkParts = BoxStream<'static, Result<ChunkPart, ChunkRefusal>>;
/// What comes back for one chunk.
pub type HopReports = BoxStream<'static, HopReport>;

/// The way to other vendors.
pub trait PeerSender: Send + Sync + 'static {
    /// Sends a chunk to `vendor`, which is the first of the header's route.
    fn put_chunk(
        &self,
        vendor: VendorId,
        header: ChunkHeader,
        parts: ChunkParts,
    ) -> BoxFuture<'_, HopReports>;
    /// Learns where the vendors are now. Nothing to implementations that have no addresses.
    fn learn(&self, addresses: &[(VendorId, String)]) {
        let _ = addresses;
    }
}
