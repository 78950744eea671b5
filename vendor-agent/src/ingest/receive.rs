//! Taking a chunk's bytes in: digest, length, time. What is done with them comes later.

use super::Admitted;
use super::forward::Next;
use crate::agent::Agent;
use crate::seams::ChunkParts;
use bytes::Bytes;
use futures::StreamExt as _;
use std::time::Duration;
use ullage_model::ids::Digest;
use ullage_model::units;
use ullage_model::wire::chunk::{ChunkPart, ChunkRefusal};

/// How often a waiting upload looks whether its lease was closed.
const TICK: Duration = Duration::from_secs(1);
/// Ticks without a byte after which the sender counts as gone.
const IDLE_TICKS: u32 = 30;

/// A chunk that is here in full and is what its sender digested.
pub(super) struct Received {
    /// The stored bytes, in order.
    pub(super) parts: Vec<Bytes>,
    /// BLAKE3 of them.
    pub(super) digest: Digest,
}

/// Receives the chunk, passing every part on to the next hop as it comes.
pub(super) async fn receive(
    agent: &Agent,
    admitted: &Admitted,
    parts: ChunkParts,
    next: Option<Next>,
) -> Result<Received, ChunkRefusal> {
    let result = take(agent, admitted, parts, next.as_ref()).await;
    if let (Err(_), Some(next)) = (&result, &next) {
        // The next hop must not wait for the rest; it may have gone already.
        let _ = next.send(Err(ChunkRefusal::Cut));
    }
    result
}

async fn take(
    agent: &Agent,
    admitted: &Admitted,
    mut parts: ChunkParts,
    next: Option<&Next>,
) -> Result<Received, ChunkRefusal> {
    let expected = units::stored_bytes(admitted.header.plaintext_bytes);
    let mut hasher = blake3::Hasher::new();
    let mut received = Vec::new();
    let mut length = 0u64;
    loop {
        let part = next_part(agent, admitted, &mut parts).await?;
        if let Some(next) = next {
            // A next hop that went away reports itself.
            let _ = next.send(Ok(part.clone()));
        }
        match part {
            ChunkPart::Data(bytes) => {
                length += bytes.len() as u64;
                if length > expected {
                    return Err(ChunkRefusal::Damaged);
                }
                hasher.update(&bytes);
                if !bytes.is_empty() {
                    received.push(bytes);
                }
            }
            ChunkPart::End(digest) => {
                if length != expected || *hasher.finalize().as_bytes() != digest.0 {
                    return Err(ChunkRefusal::Damaged);
                }
                agent.metrics.bytes_received.inc_by(length);
                debug_assert_eq!(admitted.memory.bytes(), length);
                return Ok(Received {
                    parts: received,
                    digest,
                });
            }
        }
    }
}

async fn next_part(
    agent: &Agent,
    admitted: &Admitted,
    parts: &mut ChunkParts,
) -> Result<ChunkPart, ChunkRefusal> {
    for _ in 0..IDLE_TICKS {
        if agent.leases.is_closed(admitted.copy.lease) {
            return Err(ChunkRefusal::LeaseClosed(admitted.copy.lease));
        }
        match tokio::time::timeout(TICK, parts.next()).await {
            Ok(Some(Ok(part))) => return Ok(part),
            Ok(Some(Err(_)) | None) => return Err(ChunkRefusal::Cut),
            Err(_) => {}
        }
    }
    Err(ChunkRefusal::Cut)
}
