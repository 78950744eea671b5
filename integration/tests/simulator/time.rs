//! The clocks and the randomness that the simulation hands to the services: time is the simulated host's, random
//! bytes follow from the seed.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use ullage_model::cluster_time::WallTime;
use ullage_transport::credentials::WallClock;

/// A host's clock: runs from its start on, at its own rate.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    start: tokio::time::Instant,
    /// Parts per thousand that it runs fast (slow, if negative).
    drift_permille: i32,
}

impl HostClock {
    /// A clock that starts now. To be made on the host.
    #[must_use]
    pub fn starting(drift_permille: i32) -> Self {
        Self {
            start: tokio::time::Instant::now(),
            drift_permille,
        }
    }

    fn elapsed(&self) -> Duration {
        let elapsed = self.start.elapsed();
        let off = elapsed / 1000 * self.drift_permille.unsigned_abs();
        if self.drift_permille < 0 {
            elapsed.saturating_sub(off)
        } else {
            elapsed + off
        }
    }
}

impl ullage_metad::clock::Clock for HostClock {
    fn now(&self) -> Duration {
        self.elapsed()
    }
}

impl ullage_vendor_agent::MonotonicClock for HostClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl ullage_gateway::environment::Clock for HostClock {
    fn monotonic(&self) -> Duration {
        self.elapsed()
    }

    fn wall(&self) -> WallTime {
        let since_epoch = wall_clock()()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        WallTime(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The wall clock of a simulated host. It decides nothing but whether certificates are valid.
#[must_use]
pub fn wall_clock() -> WallClock {
    Arc::new(|| {
        let since_epoch = turmoil::since_epoch().unwrap_or_default();
        SystemTime::UNIX_EPOCH + since_epoch
    })
}

/// Randomness that follows from a seed.
#[derive(Debug)]
pub struct SeededRandomness(Mutex<StdRng>);

impl SeededRandomness {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl ullage_gateway::environment::Randomness for SeededRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(bytes);
    }
}
