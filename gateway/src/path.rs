//! Paths: what this gateway has seen of each vendor, as decaying averages, and the order in which vendors are
//! used. No I/O; time is passed in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ullage_model::fat::rows::VendorState;
use ullage_model::ids::VendorId;

/// Greatest score.
pub const SCORE_MAX: u16 = 1000;
/// Weight of the newest sample in an average.
const NEWEST: f64 = 0.2;
/// After a failure a vendor is used only if there is no other, for so long, doubled with each further failure.
const COOLING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A failure is half forgotten after so long.
const FAILURE_HALF_LIFE_S: f64 = 30.0;
/// Slower than so many times the median is an outlier, if also slower by [`OUTLIER_MS`].
const OUTLIER_TIMES: f64 = 8.0;
const OUTLIER_MS: f64 = 100.0;
/// Transfers below this say nothing about throughput.
const THROUGHPUT_SAMPLE_BYTES: u64 = 256 * 1024;

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a vendor, until its receipt was there.
    Write,
    /// From a vendor.
    Read,
}

/// One finished transfer.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Which way.
    pub way: Way,
    /// Stored bytes.
    pub bytes: u64,
    /// From the first word to the last.
    pub took: Duration,
}

/// How badly something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was overloaded, full or not ready: nothing is wrong with it.
    Busy,
    /// It failed, was too slow or was not reached.
    Failed,
    /// It sent something untrue: a receipt that does not verify, bytes that do not open.
    Lied,
}

/// Why a vendor is not used for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// The metadata service does not count on it.
    State(VendorState),
    /// It failed a short while ago.
    Cooling,
    /// It is much slower than the others.
    Outlier,
    /// It was tried for this already.
    Tried,
}

/// Vendors in the order in which they should be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking {
    /// Best first, with their scores of 0 to [`SCORE_MAX`].
    pub chosen: Vec<(VendorId, u16)>,
    /// The others, and why. Those at the front may be used when `chosen` does not reach.
    pub discarded: Vec<(VendorId, u16, Discarded)>,
}

/// A vendor's path as it is shown to people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PathView {
    /// The vendor.
    pub vendor: VendorId,
    /// 0 to [`SCORE_MAX`].
    pub score: u16,
    /// Mean ms from the first byte sent to the receipt.
    pub write_ms: f64,
    /// Mean ms of a read.
    pub read_ms: f64,
    /// Mean bytes per second of large transfers to it.
    pub write_bytes_per_s: f64,
    /// Mean bytes per second of large transfers from it.
    pub read_bytes_per_s: f64,
    /// Decaying share of failures, 0 to 1.
    pub failures: f64,
    /// Transfers in flight.
    pub in_flight: u32,
    /// Whether it is rested after a failure.
    pub cooling: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, sample: f64) {
        self.0 = Some(self.0.map_or(sample, |mean| mean + NEWEST * (sample - mean)));
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Averages {
    ms: Mean,
    bytes_per_s: Mean,
}

#[derive(Clone, Debug, Default)]
struct Path {
    write: Averages,
    read: Averages,
    failures: f64,
    failures_at: Duration,
    in_a_row: u32,
    cooling_until: Duration,
    in_flight: u32,
    relay_trouble_until: Duration,
}

impl Path {
    fn failures(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.failures_at).as_secs_f64();
        self.failures * 0.5_f64.powf(age / FAILURE_HALF_LIFE_S)
    }

    fn way(&self, way: Way) -> &Averages {
        match way {
            Way::Write => &self.write,
            Way::Read => &self.read,
        }
    }
}

/// All paths of one gateway.
#[derive(Debug, Default)]
pub struct PathTable {
    paths: Mutex<HashMap<VendorId, Path>>,
}

impl PathTable {
    /// A transfer began: [`PathTable::ended`] must follow.
    pub fn began(&self, vendor: VendorId) {
        self.with(vendor, |path| path.in_flight += 1);
    }

    /// A transfer is over, whatever became of it.
    pub fn ended(&self, vendor: VendorId) {
        self.with(vendor, |path| path.in_flight = path.in_flight.saturating_sub(1));
    }

    /// A transfer succeeded.
    pub fn succeeded(&self, vendor: VendorId, now: Duration, transfer: Transfer) {
        self.with(vendor, |path| {
            path.failures = path.failures(now) * (1.0 - NEWEST);
            path.failures_at = now;
            path.in_a_row = 0;
            path.cooling_until = Duration::ZERO;
            let averages = match transfer.way {
                Way::Write => &mut path.write,
                Way::Read => &mut path.read,
            };
            averages.ms.add(transfer.took.as_secs_f64() * 1000.0);
            if transfer.bytes >= THROUGHPUT_SAMPLE_BYTES {
                let seconds = transfer.took.as_secs_f64().max(1e-6);
                averages.bytes_per_s.add(to_f64(transfer.bytes) / seconds);
            }
        });
    }

    /// A transfer failed.
    pub fn failed(&self, vendor: VendorId, now: Duration, fault: Fault) {
        self.with(vendor, |path| {
            let weight = match fault {
                Fault::Busy => NEWEST / 2.0,
                Fault::Failed => NEWEST,
                Fault::Lied => 1.0,
            };
            let failures = path.failures(now);
            path.failures = failures + weight * (1.0 - failures);
            path.failures_at = now;
            path.in_a_row = path.in_a_row.saturating_add(1);
            if fault != Fault::Busy || path.in_a_row > 2 {
                let rest = COOLING.0 * 2_u32.saturating_pow(path.in_a_row.min(8) - 1);
                let rest = if fault == Fault::Lied {
                    COOLING.1
                } else {
                    rest.min(COOLING.1)
                };
                path.cooling_until = path.cooling_until.max(now + rest);
            }
        });
    }

    /// A vendor could not be reached from another one, which may be the other one's fault: for a while it is
    /// sent to directly.
    pub fn relay_failed(&self, vendor: VendorId, now: Duration) {
        self.with(vendor, |path| path.relay_trouble_until = now + COOLING.1);
    }

    /// Whether any of `vendors` should not be reached by way of another one.
    #[must_use]
    pub fn has_relay_trouble(&self, vendors: &[VendorId], now: Duration) -> bool {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        vendors.iter().any(|vendor| {
            paths
                .get(vendor)
                .is_some_and(|path| path.relay_trouble_until > now)
        })
    }

    /// Orders `vendors` (with the state the metadata service gives them) by score for one way.
    #[must_use]
    pub fn rank(&self, vendors: &[(VendorId, VendorState)], way: Way, now: Duration) -> Ranking {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = Path::default();
        let path_of = |vendor: &VendorId| paths.get(vendor).unwrap_or(&unknown);
        let typical = Typical::of(vendors.iter().map(|(vendor, _)| path_of(vendor).way(way)));
        let mut ranking = Ranking::default();
        for &(vendor, state) in vendors {
            let path = path_of(&vendor);
            let score = score(path, way, &typical, now);
            let why = match state {
                VendorState::Dead | VendorState::Stale => Some(Discarded::State(state)),
                VendorState::Healthy if path.cooling_until > now => Some(Discarded::Cooling),
                VendorState::Healthy => typical.is_outlier(path.way(way)).then_some(Discarded::Outlier),
            };
            match why {
                Some(why) => ranking.discarded.push((vendor, score, why)),
                None => ranking.chosen.push((vendor, score)),
            }
        }
        ranking
            .chosen
            .sort_by_key(|&(vendor, score)| (std::cmp::Reverse(score), vendor));
        ranking.discarded.sort_by_key(|(vendor, score, why)| {
            let dead = matches!(why, Discarded::State(VendorState::Dead));
            (dead, std::cmp::Reverse(*score), *vendor)
        });
        ranking
    }

    /// All paths, for people.
    #[must_use]
    pub fn view(&self, now: Duration) -> Vec<PathView> {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let typical = Typical::of(paths.values().map(|path| &path.write));
        let view = |(&vendor, path): (&VendorId, &Path)| PathView {
            vendor,
            score: score(path, Way::Write, &typical, now),
            write_ms: path.write.ms.0.unwrap_or_default(),
            read_ms: path.read.ms.0.unwrap_or_default(),
            write_bytes_per_s: path.write.bytes_per_s.0.unwrap_or_default(),
            read_bytes_per_s: path.read.bytes_per_s.0.unwrap_or_default(),
            failures: path.failures(now),
            in_flight: path.in_flight,
            cooling: path.cooling_until > now,
        };
        let mut views: Vec<PathView> = paths.iter().map(view).collect();
        views.sort_by_key(|view| view.vendor);
        views
    }

    fn with(&self, vendor: VendorId, change: impl FnOnce(&mut Path)) {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        change(paths.entry(vendor).or_default());
    }
}

/// What the vendors compared with each other have in common.
struct Typical {
    best_ms: f64,
    median_ms: f64,
    best_bytes_per_s: f64,
}

impl Typical {
    fn of<'a>(averages: impl Iterator<Item = &'a Averages>) -> Self {
        let mut ms = Vec::new();
        let mut best_bytes_per_s: f64 = 0.0;
        for average in averages {
            ms.extend(average.ms.0);
            best_bytes_per_s = best_bytes_per_s.max(average.bytes_per_s.0.unwrap_or_default());
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
        }
    }

    fn is_outlier(&self, average: &Averages) -> bool {
        average
            .ms
            .0
            .is_some_and(|ms| ms > self.median_ms * OUTLIER_TIMES && ms > self.median_ms + OUTLIER_MS)
    }
}

/// 1000 for a vendor without failures that is as fast as the best of those compared; what is not known counts
/// as good.
fn score(path: &Path, way: Way, typical: &Typical, now: Duration) -> u16 {
    let averages = path.way(way);
    let availability = (1.0 - path.failures(now)).clamp(0.0, 1.0);
    // One more millisecond on both sides: below it, differences are noise.
    let nearness = averages
        .ms
        .0
        .map_or(1.0, |ms| (typical.best_ms + 1.0) / (ms + 1.0));
    let speed = averages
        .bytes_per_s
        .0
        .map_or(1.0, |speed| speed / typical.best_bytes_per_s.max(1.0));
    let load = 1.0 / (1.0 + f64::from(path.in_flight) / 16.0);
    let score = f64::from(SCORE_MAX)
        * availability
        * availability
        * (0.4 * nearness.clamp(0.0, 1.0).sqrt() + 0.4 * speed.clamp(0.0, 1.0).sqrt() + 0.2 * load);
    to_score(score)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range before"
)]
fn to_score(score: f64) -> u16 {
    score.clamp(0.0, f64::from(SCORE_MAX)).round() as u16
}

#[expect(clippy::cast_precision_loss, reason = "an average needs no more than 53 bits")]
fn to_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::{Discarded, Fault, PathTable, SCORE_MAX, Transfer, Way};
    use std::time::Duration;
    use ullage_model::fat::rows::VendorState;
    use ullage_model::ids::VendorId;

    const NOW: Duration = Duration::from_secs(1000);

    fn healthy(vendors: &[u64]) -> Vec<(VendorId, VendorState)> {
        vendors
            .iter()
            .map(|&vendor| (VendorId(vendor), VendorState::Healthy))
            .collect()
    }

    fn transfers(paths: &PathTable, vendor: u64, ms: u64) {
        for _ in 0..20 {
            let took = Duration::from_millis(ms);
            paths.succeeded(
                VendorId(vendor),
                NOW,
                Transfer {
                    way: Way::Write,
                    bytes: 1 << 20,
                    took,
                },
            );
        }
    }

    #[test]
    fn the_faster_vendor_comes_first_and_an_outlier_is_discarded() {
        let paths = PathTable::default();
        transfers(&paths, 1, 20);
        transfers(&paths, 2, 10);
        transfers(&paths, 3, 2000);
        let ranking = paths.rank(&healthy(&[1, 2, 3]), Way::Write, NOW);
        assert_eq!(
            ranking
                .chosen
                .iter()
                .map(|(vendor, _)| vendor.0)
                .collect::<Vec<_>>(),
            [2, 1]
        );
        assert_eq!(ranking.chosen[0].1, SCORE_MAX);
        assert_eq!(ranking.discarded[0].2, Discarded::Outlier);
    }

    #[test]
    fn a_liar_loses_its_score_and_is_rested_and_time_forgives() {
        let paths = PathTable::default();
        paths.failed(VendorId(1), NOW, Fault::Lied);
        let ranking = paths.rank(&healthy(&[1, 2]), Way::Write, NOW);
        assert_eq!(ranking.chosen, [(VendorId(2), SCORE_MAX)]);
        assert_eq!(ranking.discarded, [(VendorId(1), 0, Discarded::Cooling)]);
        let later = NOW + Duration::from_secs(600);
        assert_eq!(paths.rank(&healthy(&[1, 2]), Way::Write, later).chosen.len(), 2);
    }

    #[test]
    fn dead_vendors_come_last_of_all() {
        let paths = PathTable::default();
        paths.failed(VendorId(2), NOW, Fault::Failed);
        let vendors = [
            (VendorId(1), VendorState::Dead),
            (VendorId(2), VendorState::Healthy),
        ];
        let ranking = paths.rank(&vendors, Way::Read, NOW);
        assert!(ranking.chosen.is_empty());
        assert_eq!(ranking.discarded[0].0, VendorId(2));
    }
}
