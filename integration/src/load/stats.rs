//! Counts and latencies of a run.

use std::time::Duration;

use serde::Serialize;

/// Buckets per power of two: bounds the error of a quantile to one part in 64.
const STEPS: u64 = 64;
/// Powers of two covered: up to 2^44 ns, nearly five hours.
const POWERS: usize = 44;

/// Latencies in buckets that grow with the value.
#[derive(Clone, Debug)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: vec![0; POWERS * 64],
            count: 0,
        }
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let index = Self::index(nanoseconds).min(self.buckets.len() - 1);
        self.buckets[index] += 1;
        self.count += 1;
    }

    fn index(nanoseconds: u64) -> usize {
        if nanoseconds < STEPS {
            return usize::try_from(nanoseconds).unwrap_or(0);
        }
        let power = nanoseconds.ilog2();
        let shift = power - STEPS.ilog2();
        let within = (nanoseconds >> shift) - STEPS;
        usize::try_from(u64::from(shift + 1) * STEPS + within).unwrap_or(usize::MAX)
    }

    fn value(index: usize) -> u64 {
        let index = index as u64;
        match index / STEPS {
            0 => index,
            shift => (STEPS + index % STEPS) << (shift - 1),
        }
    }

    /// Takes over those of another.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// The latency that `fraction` of all are at or below; zero if there are none.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> Duration {
        // Counts here stay far below 2^52, where f64 would lose one.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let wanted = ((self.count as f64 * fraction).ceil() as u64).max(1);
        let mut passed = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            passed += count;
            if passed >= wanted {
                return Duration::from_nanos(Self::value(index));
            }
        }
        Duration::ZERO
    }
}

/// What one worker counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Operations that succeeded.
    pub operations: u64,
    /// Body bytes of those operations.
    pub bytes: u64,
    /// Answers 503.
    pub refused: u64,
    /// Every other failure.
    pub errors: u64,
    /// The first failure in words.
    pub first_error: Option<String>,
    /// Latencies of the operations that succeeded.
    pub latencies: Latencies,
}

impl Counts {
    /// Takes over those of another worker.
    pub fn merge(&mut self, other: Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.refused += other.refused;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latencies.merge(&other.latencies);
    }
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The endpoint's label.
    pub target: String,
    /// Operations that succeeded.
    pub operations: u64,
    /// Answers 503.
    pub refused: u64,
    /// Every other failure.
    pub errors: u64,
    /// The first failure in words.
    pub first_error: Option<String>,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Operations per second.
    pub operations_per_second: f64,
    /// Body bytes per second.
    pub bytes_per_second: f64,
    /// Median latency in seconds.
    pub p50_seconds: f64,
    /// 99th percentile of the latency in seconds.
    pub p99_seconds: f64,
    /// Processor time of the server per operation in seconds, if its process is known.
    pub server_seconds_per_operation: Option<f64>,
    /// Processor time of the client per operation in seconds.
    pub client_seconds_per_operation: f64,
}

impl Summary {
    /// Sums up a run.
    #[must_use]
    pub fn new(
        target: &str,
        counts: &Counts,
        elapsed: Duration,
        server: Option<Duration>,
        client: Duration,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let each = |time: Duration| time.as_secs_f64() / (counts.operations.max(1) as f64);
        Self {
            target: target.to_owned(),
            operations: counts.operations,
            refused: counts.refused,
            errors: counts.errors,
            first_error: counts.first_error.clone(),
            seconds,
            operations_per_second: counts.operations as f64 / seconds,
            bytes_per_second: counts.bytes as f64 / seconds,
            p50_seconds: counts.latencies.quantile(0.5).as_secs_f64(),
            p99_seconds: counts.latencies.quantile(0.99).as_secs_f64(),
            server_seconds_per_operation: server.map(each),
            client_seconds_per_operation: each(client),
        }
    }
}

/// The middle value; the mean of the middle two of an even number; zero of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_part_in_64() {
        let mut latencies = Latencies::default();
        for microseconds in 1..=10_000_u64 {
            latencies.record(Duration::from_micros(microseconds));
        }
        for (fraction, want) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let have = latencies.quantile(fraction).as_secs_f64() * 1e6;
            assert!(
                (have - want).abs() <= want / 64.0,
                "{fraction}: {have} for {want}"
            );
        }
        assert_eq!(Latencies::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn the_median_of_even_and_odd_numbers() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).abs() < 1e-9);
    }
}
