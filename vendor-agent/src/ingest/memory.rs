//! Memory for chunks in flight: who may take how much, and who waits for it. What is kept in it is not known here.

use prometheus::IntGauge;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use ullage_model::wire::chunk::ChunkRefusal;

/// How long a chunk waits for memory before it is refused: well below the time after which its sender gives it up.
/// Waiting is the brake on senders: a chunk's bytes are not taken before there is memory for them.
const WAIT: Duration = Duration::from_secs(4);
/// Chunks that wait at once; headers are all that is held of them.
const QUEUE: usize = 1024;
/// One permit of the semaphore stands for so many bytes: permits are 32-bit numbers.
const GRAIN: u64 = 1024;

/// The memory that an agent has for chunks being received or written.
pub(crate) struct Intake {
    grains: Arc<Semaphore>,
    total: u32,
    waiters: Arc<Semaphore>,
    gauge: IntGauge,
}

/// Memory taken for a chunk in flight; given back when dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    bytes: u64,
    gauge: IntGauge,
    _grains: OwnedSemaphorePermit,
}

impl Memory {
    /// Bytes that may be held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.gauge.sub(self.bytes.cast_signed());
    }
}

impl Intake {
    /// Memory of `bytes`; what is taken of it is shown in `gauge`.
    pub(crate) fn new(bytes: u64, gauge: IntGauge) -> Self {
        let total = u32::try_from(bytes / GRAIN).unwrap_or(u32::MAX).max(1);
        Self {
            grains: Arc::new(Semaphore::new(total as usize)),
            total,
            waiters: Arc::new(Semaphore::new(QUEUE)),
            gauge,
        }
    }

    /// Bytes taken now.
    pub(crate) fn in_use(&self) -> u64 {
        self.gauge.get().cast_unsigned()
    }

    /// Takes memory for `bytes`, in order of arrival. What is larger than all there is gets all there is.
    pub(super) async fn take(&self, bytes: u64) -> Result<Memory, ChunkRefusal> {
        let grains = u32::try_from(bytes.div_ceil(GRAIN))
            .unwrap_or(u32::MAX)
            .min(self.total);
        let now = Arc::clone(&self.grains).try_acquire_many_owned(grains);
        let taken = match now {
            Ok(taken) => taken,
            Err(TryAcquireError::Closed) => return Err(ChunkRefusal::NotReady),
            Err(TryAcquireError::NoPermits) => self.wait(grains).await?,
        };
        self.gauge.add(bytes.cast_signed());
        Ok(Memory {
            bytes,
            gauge: self.gauge.clone(),
            _grains: taken,
        })
    }

    async fn wait(&self, grains: u32) -> Result<OwnedSemaphorePermit, ChunkRefusal> {
        let _waiting = self.waiters.try_acquire().map_err(|_| ChunkRefusal::Overloaded)?;
        let taken = Arc::clone(&self.grains).acquire_many_owned(grains);
        match tokio::time::timeout(WAIT, taken).await {
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(_)) => Err(ChunkRefusal::NotReady),
            Err(_) => Err(ChunkRefusal::Overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Intake, WAIT};
    use prometheus::IntGauge;
    use std::time::Duration;
    use tokio::time::Instant;
    use ullage_model::wire::chunk::ChunkRefusal;

    #[tokio::test(start_paused = true)]
    async fn a_chunk_waits_for_memory_and_is_refused_when_none_comes() {
        let intake = Intake::new(4096, IntGauge::new("in_flight_bytes", "x").unwrap());
        let first = intake.take(3000).await.unwrap();
        assert_eq!(intake.in_use(), 3000);
        let began = Instant::now();
        assert_eq!(intake.take(2000).await.unwrap_err(), ChunkRefusal::Overloaded);
        assert_eq!(began.elapsed(), WAIT);
        let (second, ()) = tokio::join!(intake.take(2000), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(first);
        });
        assert_eq!(intake.in_use(), 2000);
        drop(second.unwrap());
        assert_eq!(intake.in_use(), 0);
        assert!(
            intake.take(1 << 30).await.is_ok(),
            "what never fits gets all there is"
        );
    }
}
