//! Vendor agents as the gateway needs them: a trait, implemented in process and over the network elsewhere.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::fmt;
use std::time::Duration;
use ullage_model::ids::VendorId;
use ullage_model::wire::chunk::{ChunkHeader, ChunkPart, ChunkRefusal, HopReport, ReadRequest};
use ullage_model::wire::metad::VendorInfo;

/// The bytes of a chunk on their way out. An error in it means that the sender stopped.
pub type ChunkStream = BoxStream<'static, Result<ChunkPart, ChunkRefusal>>;
/// Reports of the hops of one chunk; ends when no further report will come.
pub type ReportStream = BoxStream<'static, HopReport>;
/// Stored bytes as they are read: in order, in pieces of any size.
pub type StoredStream = BoxStream<'static, Result<Bytes, ChunkRefusal>>;

/// What a probe of a path showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// From the probe's departure to its answer.
    pub round_trip: Duration,
    /// Routers and the last step between here and there, if the network tells.
    pub hops: Option<u8>,
    /// Probes of this kind that were sent for it and not answered.
    pub lost: u32,
}

/// Calls to vendor agents. Dropping a future or a stream gives the call up.
pub trait AgentClient: Send + Sync + fmt::Debug {
    /// Sends a chunk to `to`, the first vendor of the header's route. The answer may come before all parts
    /// are taken; reports come as hops store their copies.
    fn put_chunk(
        &self,
        to: VendorId,
        header: ChunkHeader,
        parts: ChunkStream,
    ) -> BoxFuture<'static, Result<ReportStream, ChunkRefusal>>;

    /// Reads frames of a copy: their stored bytes with their tags.
    fn read(
        &self,
        to: VendorId,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<StoredStream, ChunkRefusal>>;

    /// What a sign of life said of all vendors: where they are, among other things.
    fn learn(&self, _vendors: &[VendorInfo]) {}

    /// Measures the path to `to`; `None` when there is nothing to be measured.
    fn probe(&self, _to: VendorId) -> Option<BoxFuture<'static, Result<Echo, ChunkRefusal>>> {
        None
    }
}
