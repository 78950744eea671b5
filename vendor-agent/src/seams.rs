//! What reaches the agent through its constructor: the clock, the metadata service, the way to other
//! vendors. Implementations live elsewhere.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use ullage_model::ids::VendorId;
use ullage_model::wire::agent::{
    Heartbeat, HeartbeatReply, JudgeReply, JudgeRequest, RegisterReply, RegisterRequest,
};
use ullage_model::wire::chunk::{ChunkHeader, ChunkPart, ChunkRefusal, HopReport};

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
}
