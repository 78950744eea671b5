//! Clock and randomness as the gateway sees them, so that a simulator can supply its own. Timers are tokio's,
//! which a simulator pauses and advances by itself.
//!
//! What a simulator must know:
//!
//! - The data path begins at `store::Store::start` and needs no socket of clients. Its connections come from
//!   `connect`, with the network, the clock and the randomness of `Seams`; `Connected::upkeep` must run beside it.
//!   `run` adds the listeners for clients (the machine's own sockets) and is not for simulators.
//! - No thread is started and nothing blocks: sealing, opening and signatures are done by the task that needs them.
//! - Tasks are spawned in these places: `store.rs` (renewal and upkeep of the session, memory, probes), `session.rs`
//!   and `keeper.rs` (asking for room, returning and shrinking leases), `network/probing.rs` (answers to probes), `network/together.rs` (calls that
//!   travel together).
//! - All randomness comes from `Randomness`: keys, salts, the drawing of vendors, nonces of probes, jitter. What may
//!   come in any order is polled in the order in which it was made; no choice depends on the order of a hash map.
//! - `Clock::monotonic` must run with tokio's time: deadlines are computed from it and waited for by tokio's timers.
//! - `std::time::Instant` is used in `server/pipeline.rs` only, to measure requests for their metrics.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ullage_model::cluster_time::WallTime;

/// Tells time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Time since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// The wall clock: for Last-Modified only.
    fn wall(&self) -> WallTime;
}

/// Gives random bytes fit for keys.
pub trait Randomness: Send + Sync + fmt::Debug {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number.
    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}

/// The machine's clocks; the monotonic one is tokio's, so that paused tests see it stand still.
#[derive(Debug)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: tokio::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> WallTime {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The operating system's randomness, by way of AWS-LC's generator.
#[derive(Debug, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        // AWS-LC aborts the process when the kernel gives no entropy; an error here means nothing else.
        assert!(
            aws_lc_rs::rand::fill(bytes).is_ok(),
            "the operating system gives no random bytes"
        );
    }
}
