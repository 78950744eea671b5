//! The score of a path, compared with those of the other vendors at hand. Pure.

use super::averages::Averages;
use super::{OUTLIER_MS, OUTLIER_TIMES, Path, SCORE_MAX, SLOW_BYTES_PER_S, Way};
use std::time::Duration;

/// What the vendors compared with each other have in common.
pub(super) struct Typical {
    best_ms: f64,
    median_ms: f64,
    best_bytes_per_s: f64,
    best_round_trip_ms: f64,
}

impl Typical {
    pub(super) fn of<'a>(paths: impl Iterator<Item = &'a Path>, way: Way) -> Self {
        let mut ms = Vec::new();
        let mut best_bytes_per_s: f64 = 0.0;
        let mut best_round_trip_ms = f64::INFINITY;
        for path in paths {
            let averages = path.way(way);
            ms.extend(averages.ms.0);
            best_bytes_per_s = best_bytes_per_s.max(averages.bytes_per_s.0.unwrap_or_default());
            best_round_trip_ms = best_round_trip_ms.min(path.round_trip_ms.0.unwrap_or(f64::INFINITY));
        }
        ms.sort_by(f64::total_cmp);
        Self {
            best_ms: ms.first().copied().unwrap_or_default(),
            // The lower of two middle ones, so that of two vendors the slower one can be an outlier.
            median_ms: ms
                .get(ms.len().saturating_sub(1) / 2)
                .copied()
                .unwrap_or_default(),
            best_bytes_per_s,
            best_round_trip_ms,
        }
    }

    pub(super) fn is_outlier(&self, average: &Averages) -> bool {
        average
            .ms
            .0
            .is_some_and(|ms| ms > self.median_ms * OUTLIER_TIMES && ms > self.median_ms + OUTLIER_MS)
    }

    pub(super) fn is_too_slow(&self, average: &Averages) -> bool {
        let speed = average.bytes_per_s.0;
        speed.is_some_and(|speed| speed < SLOW_BYTES_PER_S) && self.best_bytes_per_s >= SLOW_BYTES_PER_S
    }
}

/// 1000 for a vendor without failures that is as near and as fast as the best of those compared; what is not known
/// counts as good.
pub(super) fn score(path: &Path, way: Way, typical: &Typical, now: Duration) -> u16 {
    let averages = path.way(way);
    let availability = path.available(now);
    // One more millisecond on both sides (of probes: a fifth): below it, differences are noise.
    let latency = averages
        .ms
        .0
        .map_or(1.0, |ms| (typical.best_ms + 1.0) / (ms + 1.0));
    let nearness = path
        .round_trip_ms
        .0
        .map_or(1.0, |ms| (typical.best_round_trip_ms + 0.2) / (ms + 0.2));
    let speed = averages
        .bytes_per_s
        .0
        .map_or(1.0, |speed| speed / typical.best_bytes_per_s.max(1.0));
    let load = 1.0 / (1.0 + f64::from(path.in_flight) / 16.0);
    let root = |part: f64| part.clamp(0.0, 1.0).sqrt();
    let quality = 0.25 * root(latency) + 0.2 * root(nearness) + 0.35 * root(speed) + 0.2 * load;
    to_score(f64::from(SCORE_MAX) * availability * availability * quality)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range before"
)]
fn to_score(score: f64) -> u16 {
    score.clamp(0.0, f64::from(SCORE_MAX)).round() as u16
}
