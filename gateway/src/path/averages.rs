//! Decaying averages, and the last few samples for percentiles.

use super::NEWEST;
use std::time::Duration;

/// Samples kept for percentiles.
const RECENT: usize = 32;

/// A mean in which older samples count less and less; nothing before the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean(pub(super) Option<f64>);

impl Mean {
    pub(super) fn add(&mut self, sample: f64) {
        self.0 = Some(self.0.map_or(sample, |mean| mean + NEWEST * (sample - mean)));
    }
}

/// What transfers one way took.
#[derive(Clone, Debug, Default)]
pub(super) struct Averages {
    pub(super) ms: Mean,
    pub(super) bytes_per_s: Mean,
    pub(super) recent: Recent,
    /// When the last sample came.
    pub(super) at: Duration,
}

impl Averages {
    pub(super) fn add(&mut self, took: Duration, now: Duration) {
        self.ms.add(took.as_secs_f64() * 1000.0);
        self.recent.add(took);
        self.at = now;
    }
}

/// The last samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    samples: Vec<Duration>,
    next: usize,
}

impl Recent {
    pub(super) fn add(&mut self, sample: Duration) {
        if self.samples.len() < RECENT {
            self.samples.push(sample);
        } else {
            self.samples[self.next] = sample;
            self.next = (self.next + 1) % RECENT;
        }
    }

    /// Slower than 95 of 100, if there are at least `least` samples.
    pub(super) fn p95(&self, least: usize) -> Option<Duration> {
        if self.samples.len() < least.max(1) {
            return None;
        }
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 95).div_ceil(100) - 1).copied()
    }
}

#[expect(clippy::cast_precision_loss, reason = "an average needs no more than 53 bits")]
pub(super) fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::{RECENT, Recent};
    use std::time::Duration;

    #[test]
    fn a_percentile_is_of_the_last_samples_and_of_enough() {
        let mut recent = Recent::default();
        assert_eq!(recent.p95(0), None);
        recent.add(Duration::from_secs(9));
        assert_eq!(recent.p95(2), None);
        assert_eq!(recent.p95(1), Some(Duration::from_secs(9)));
        for ms in 1..=RECENT as u64 {
            recent.add(Duration::from_millis(ms));
        }
        assert_eq!(recent.p95(1), Some(Duration::from_millis(31)));
    }
}
