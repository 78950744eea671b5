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
/// How long a chunk may take beside what the slowest rate allows …
const GRACE: Duration = Duration::from_secs(30);
/// … which is this many bytes a second: slower senders would hold memory that others wait for.
const BYTES_PER_SECOND_MIN: u64 = 16 * 1024;

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
    let allowed = time_allowed(units::stored_bytes(admitted.header.plaintext_bytes));
    let taking = take(agent, admitted, parts, next.as_ref());
    let result = tokio::time::timeout(allowed, taking)
        .await
        .unwrap_or(Err(ChunkRefusal::Cut));
    if let (Err(_), Some(next)) = (&result, &next) {
        // The next hop must not wait for the rest; it may have gone already.
        let _ = next.send(Err(ChunkRefusal::Cut));
    }
    result
}

/// How long a chunk of so many stored bytes may take to come.
fn time_allowed(bytes: u64) -> Duration {
    GRACE + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN)
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

#[cfg(test)]
mod tests {
    use super::*;
    use ullage_model::limits::CHUNK_BYTES_MAX;

    #[test]
    fn a_chunk_may_take_minutes_and_not_hours() {
        assert!(time_allowed(1) >= GRACE);
        let longest = time_allowed(units::stored_bytes(CHUNK_BYTES_MAX));
        assert!((Duration::from_secs(600)..Duration::from_secs(1200)).contains(&longest));
    }
}
