//! Paths: what this gateway has seen of each vendor, as decaying averages, and the order in which vendors are
//! used. Two sources: probes (round trip, hops, loss) and what became of transfers. No I/O; time is passed in.

mod averages;
mod score;

use crate::limits::{HEDGE_AFTER, HEDGE_BETWEEN, PATIENCE};
use averages::{Averages, Mean, to_f64};
use score::Typical;
use std::collections::HashMap;
use std::fmt;
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
/// The least of that after silence.
const SILENT_COOLING: Duration = Duration::from_secs(8);
/// A failure is half forgotten after so long.
const FAILURE_HALF_LIFE_S: f64 = 30.0;
/// Slower than so many times the median is an outlier, if also slower by [`OUTLIER_MS`].
const OUTLIER_TIMES: f64 = 8.0;
const OUTLIER_MS: f64 = 100.0;
/// Below this a vendor is too slow, if others are not: what a chunk's time allows for, with some air.
const SLOW_BYTES_PER_S: f64 = 512.0 * 1024.0;
/// Below this share of successes a vendor is failing.
const AVAILABLE_MIN: f64 = 0.5;
/// What was measured longer ago discards nobody: who is never used is never measured again.
const JUDGED_FOR: Duration = Duration::from_secs(60);
/// Slower by way of another vendor than directly, by so many times and so many ms: it is sent to directly.
const RELAYED_SLOWER: (f64, f64) = (4.0, 500.0);
/// Chunks that went by way of others before that is judged: the first ones wait for connections.
const RELAYED_SAMPLES: u32 = 8;
/// Transfers below this say nothing about throughput.
const THROUGHPUT_SAMPLE_BYTES: u64 = 256 * 1024;
/// Samples from which a path's own experience counts.
const EXPERIENCED: usize = 4;
/// Samples from which its 95th percentile means something.
const P95_SAMPLES: usize = 16;

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
    /// It failed or was not reached.
    Failed,
    /// It took a transfer and nothing more was heard of it: finding that out again costs time.
    Silent,
    /// It sent something untrue: a receipt that does not verify, bytes that do not open.
    Lied,
}

/// Why a vendor is not used for something, as long as others are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// The metadata service does not count on it.
    State(VendorState),
    /// It failed a short while ago.
    Cooling,
    /// It fails too often, or too many probes to it are lost.
    Failing,
    /// It is much slower than the others.
    Outlier,
    /// Its throughput is too low for chunks to come in time.
    TooSlow,
    /// It was tried for this already.
    Tried,
}

impl fmt::Display for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::State(VendorState::Healthy) => "healthy",
            Self::State(VendorState::Stale) => "stale: the metadata service has not heard of it for a while",
            Self::State(VendorState::Dead) => "dead: the metadata service has given it up",
            Self::State(VendorState::Revoked) => "revoked: an operator has shut it out",
            Self::Cooling => "rests after a failure",
            Self::Failing => "fails too often",
            Self::Outlier => "much slower than the others",
            Self::TooSlow => "throughput too low",
            Self::Tried => "tried already",
        })
    }
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
    /// Mean ms from a probe to its answer.
    pub round_trip_ms: Option<f64>,
    /// Hops on the way, as the last probe told.
    pub hops: Option<u8>,
    /// Decaying share of lost probes, 0 to 1.
    pub loss: f64,
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
    /// Whether it is sent to directly, because the way over other vendors failed or was slow.
    pub direct: bool,
    /// Why it is not used for writes while others are there.
    pub discarded: Option<Discarded>,
}

#[derive(Clone, Debug, Default)]
struct Path {
    write: Averages,
    read: Averages,
    /// ms from the first byte sent until the receipt of a hop that others passed the chunk on to.
    relayed_ms: Mean,
    relayed: u32,
    round_trip_ms: Mean,
    hops: Option<u8>,
    /// Share of answered probes.
    reach: Mean,
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

    /// Share of what can be expected to succeed.
    fn available(&self, now: Duration) -> f64 {
        (1.0 - self.failures(now)).clamp(0.0, 1.0) * self.reach.0.unwrap_or(1.0)
    }

    fn way(&self, way: Way) -> &Averages {
        match way {
            Way::Write => &self.write,
            Way::Read => &self.read,
        }
    }

    fn way_mut(&mut self, way: Way) -> &mut Averages {
        match way {
            Way::Write => &mut self.write,
            Way::Read => &mut self.read,
        }
    }

    fn forgive(&mut self, now: Duration) {
        self.failures = self.failures(now) * (1.0 - NEWEST);
        self.failures_at = now;
        self.in_a_row = 0;
        self.cooling_until = Duration::ZERO;
    }

    /// Why the vendor should not be used while others are there.
    fn discarded(&self, state: VendorState, way: Way, typical: &Typical, now: Duration) -> Option<Discarded> {
        let averages = self.way(way);
        let is_judged = now.saturating_sub(averages.at) < JUDGED_FOR;
        match state {
            VendorState::Dead | VendorState::Stale | VendorState::Revoked => Some(Discarded::State(state)),
            VendorState::Healthy if self.cooling_until > now => Some(Discarded::Cooling),
            VendorState::Healthy if self.available(now) < AVAILABLE_MIN => Some(Discarded::Failing),
            VendorState::Healthy if !is_judged => None,
            VendorState::Healthy if typical.is_outlier(averages) => Some(Discarded::Outlier),
            VendorState::Healthy if typical.is_too_slow(averages) => Some(Discarded::TooSlow),
            VendorState::Healthy => None,
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
            path.forgive(now);
            let averages = path.way_mut(transfer.way);
            averages.add(transfer.took, now);
            if transfer.bytes >= THROUGHPUT_SAMPLE_BYTES {
                let seconds = transfer.took.as_secs_f64().max(1e-6);
                averages.bytes_per_s.add(to_f64(transfer.bytes) / seconds);
            }
        });
    }

    /// A transfer to a vendor by way of others succeeded. That says little about this gateway's own path to it, but
    /// when it takes much longer than that, the vendor is sent to directly for a while.
    pub fn succeeded_by_relay(&self, vendor: VendorId, now: Duration, took: Duration) {
        self.with(vendor, |path| {
            path.forgive(now);
            path.relayed_ms.add(took.as_secs_f64() * 1000.0);
            path.relayed = path.relayed.saturating_add(1);
            let (Some(relayed), Some(direct)) = (path.relayed_ms.0, path.write.ms.0) else {
                return;
            };
            let (times, more_ms) = RELAYED_SLOWER;
            let is_slower = relayed > direct * times && relayed > direct + more_ms;
            if is_slower && path.relayed >= RELAYED_SAMPLES {
                path.relay_trouble_until = now + COOLING.1;
                (path.relayed_ms, path.relayed) = (Mean::default(), 0);
            }
        });
    }

    /// A transfer has taken this long and is not waited for any more: the next ones are waited for somewhat longer,
    /// in case the vendor is only slow.
    pub fn outwaited(&self, vendor: VendorId, way: Way, now: Duration, waited: Duration) {
        self.with(vendor, |path| {
            let averages = path.way_mut(way);
            averages.ms.add(waited.as_secs_f64() * 1000.0);
            averages.recent.add(waited / 3);
            averages.at = now;
        });
    }

    /// A read that has gone on for this long was overtaken by one from another vendor.
    pub fn overtaken(&self, vendor: VendorId, now: Duration, waited: Duration) {
        self.with(vendor, |path| {
            let ms = waited.as_secs_f64() * 1000.0;
            if path.read.ms.0.is_none_or(|mean| ms > mean) {
                path.read.add(waited, now);
            }
        });
    }

    /// A transfer failed.
    pub fn failed(&self, vendor: VendorId, now: Duration, fault: Fault) {
        self.with(vendor, |path| {
            let weight = match fault {
                Fault::Busy => NEWEST / 2.0,
                Fault::Failed | Fault::Silent => NEWEST,
                Fault::Lied => 1.0,
            };
            let failures = path.failures(now);
            path.failures = failures + weight * (1.0 - failures);
            path.failures_at = now;
            path.in_a_row = path.in_a_row.saturating_add(1);
            if fault != Fault::Busy || path.in_a_row > 2 {
                let rest = COOLING.0 * 2_u32.saturating_pow(path.in_a_row.min(8) - 1);
                let rest = match fault {
                    Fault::Lied => COOLING.1,
                    Fault::Silent => rest.clamp(SILENT_COOLING, COOLING.1),
                    Fault::Busy | Fault::Failed => rest.min(COOLING.1),
                };
                path.cooling_until = path.cooling_until.max(now + rest);
            }
        });
    }

    /// A probe was answered, after `lost` that were not.
    pub fn probed(&self, vendor: VendorId, round_trip: Duration, hops: Option<u8>, lost: u32) {
        self.with(vendor, |path| {
            path.round_trip_ms.add(round_trip.as_secs_f64() * 1000.0);
            path.hops = hops.or(path.hops);
            (0..lost).for_each(|_| path.reach.add(0.0));
            path.reach.add(1.0);
        });
    }

    /// A vendor was not reached by a probe of any kind.
    pub fn unreached(&self, vendor: VendorId) {
        self.with(vendor, |path| path.reach.add(0.0));
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

    /// How long a transfer may stand still, no byte moved and no word heard: some times what the path's transfers
    /// take, within bounds.
    #[must_use]
    pub fn patience(&self, vendor: VendorId, way: Way) -> Duration {
        let (first, least, most) = PATIENCE;
        let slow = self.slow(vendor, way, EXPERIENCED);
        slow.map_or(first, |slow| slow.saturating_mul(4).clamp(least, most))
    }

    /// How long a read may take before another copy is tried too.
    #[must_use]
    pub fn hedge_after(&self, vendor: VendorId) -> Duration {
        let slow = self.slow(vendor, Way::Read, P95_SAMPLES);
        slow.map_or(HEDGE_AFTER, |slow| slow.clamp(HEDGE_BETWEEN.0, HEDGE_BETWEEN.1))
    }

    /// Orders `vendors` (with the state the metadata service gives them) by score for one way.
    #[must_use]
    pub fn rank(&self, vendors: &[(VendorId, VendorState)], way: Way, now: Duration) -> Ranking {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = Path::default();
        let path_of = |vendor: &VendorId| paths.get(vendor).unwrap_or(&unknown);
        let typical = Typical::of(vendors.iter().map(|(vendor, _)| path_of(vendor)), way);
        let mut ranking = Ranking::default();
        for &(vendor, state) in vendors {
            let path = path_of(&vendor);
            let score = score::score(path, way, &typical, now);
            match path.discarded(state, way, &typical, now) {
                Some(why) => ranking.discarded.push((vendor, score, why)),
                None => ranking.chosen.push((vendor, score)),
            }
        }
        ranking
            .chosen
            .sort_by_key(|&(vendor, score)| (std::cmp::Reverse(score), vendor));
        ranking.discarded.sort_by_key(|(vendor, score, why)| {
            let dead = matches!(why, Discarded::State(VendorState::Dead | VendorState::Revoked));
            (dead, std::cmp::Reverse(*score), *vendor)
        });
        ranking
    }

    /// The paths to `vendors`, for people.
    #[must_use]
    pub fn view(&self, vendors: &[(VendorId, VendorState)], now: Duration) -> Vec<PathView> {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = Path::default();
        let path_of = |vendor: &VendorId| paths.get(vendor).unwrap_or(&unknown);
        let typical = Typical::of(vendors.iter().map(|(vendor, _)| path_of(vendor)), Way::Write);
        let view = |&(vendor, state): &(VendorId, VendorState)| {
            let path = path_of(&vendor);
            PathView {
                vendor,
                score: score::score(path, Way::Write, &typical, now),
                round_trip_ms: path.round_trip_ms.0,
                hops: path.hops,
                loss: 1.0 - path.reach.0.unwrap_or(1.0),
                write_ms: path.write.ms.0.unwrap_or_default(),
                read_ms: path.read.ms.0.unwrap_or_default(),
                write_bytes_per_s: path.write.bytes_per_s.0.unwrap_or_default(),
                read_bytes_per_s: path.read.bytes_per_s.0.unwrap_or_default(),
                failures: path.failures(now),
                in_flight: path.in_flight,
                cooling: path.cooling_until > now,
                direct: path.relay_trouble_until > now,
                discarded: path.discarded(state, Way::Write, &typical, now),
            }
        };
        vendors.iter().map(view).collect()
    }

    /// Forgets vendors that are not meant and have nothing in flight.
    pub fn keep(&self, is_meant: impl Fn(VendorId) -> bool) {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.retain(|vendor, path| path.in_flight > 0 || is_meant(*vendor));
    }

    /// The 95th percentile of recent transfers, if there were at least `samples`.
    fn slow(&self, vendor: VendorId, way: Way, samples: usize) -> Option<Duration> {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.get(&vendor)?.way(way).recent.p95(samples)
    }

    fn with(&self, vendor: VendorId, change: impl FnOnce(&mut Path)) {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        change(paths.entry(vendor).or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::{Discarded, Fault, PathTable, SCORE_MAX, Transfer, Way};
    use crate::limits::PATIENCE;
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

    #[test]
    fn the_nearer_vendor_comes_first_and_lost_probes_count_against_it() {
        let paths = PathTable::default();
        let ms = Duration::from_millis;
        for _ in 0..10 {
            paths.probed(VendorId(1), ms(40), Some(7), 0);
            paths.probed(VendorId(2), ms(1), Some(1), 0);
            paths.probed(VendorId(3), ms(1), None, 3);
        }
        let vendors = healthy(&[1, 2, 3]);
        let ranking = paths.rank(&vendors, Way::Write, NOW);
        assert_eq!(ranking.chosen[0].0, VendorId(2));
        let view = paths.view(&vendors, NOW);
        assert_eq!(
            (view[0].hops, view[1].hops, view[2].hops),
            (Some(7), Some(1), None)
        );
        assert!(view[2].loss > 0.5 && view[1].loss == 0.0, "{view:?}");
        assert_eq!(view[2].discarded, Some(Discarded::Failing));
        for _ in 0..20 {
            paths.unreached(VendorId(2));
        }
        assert_eq!(paths.view(&vendors, NOW)[1].discarded, Some(Discarded::Failing));
        paths.keep(|vendor| vendor == VendorId(1));
        assert_eq!(paths.view(&vendors, NOW)[1].hops, None, "forgotten");
    }

    #[test]
    fn a_slow_vendor_is_discarded_only_while_that_is_fresh() {
        let paths = PathTable::default();
        transfers(&paths, 1, 10);
        transfers(&paths, 2, 2400);
        let why = |at| paths.view(&healthy(&[1, 2, 3]), at)[1].discarded;
        assert_eq!(why(NOW), Some(Discarded::Outlier));
        assert_eq!(why(NOW + super::JUDGED_FOR), None, "it may be tried again");
        let all_slow = PathTable::default();
        transfers(&all_slow, 1, 2400);
        transfers(&all_slow, 2, 2500);
        let view = all_slow.view(&healthy(&[1, 2]), NOW);
        assert!(view.iter().all(|path| path.discarded.is_none()), "{view:?}");
        transfers(&all_slow, 3, 1000);
        let view = all_slow.view(&healthy(&[1, 2, 3]), NOW);
        assert_eq!(view[1].discarded, Some(Discarded::TooSlow));
    }

    #[test]
    fn patience_follows_the_paths_experience_within_bounds() {
        let paths = PathTable::default();
        let (first, least, most) = PATIENCE;
        assert_eq!(paths.patience(VendorId(1), Way::Write), first);
        transfers(&paths, 1, 5);
        assert_eq!(paths.patience(VendorId(1), Way::Write), least);
        assert_eq!(paths.patience(VendorId(1), Way::Read), first);
        for _ in 0..2 {
            let waited = paths.patience(VendorId(1), Way::Write);
            paths.outwaited(VendorId(1), Way::Write, NOW, waited);
        }
        assert!(paths.patience(VendorId(1), Way::Write) > least);
        transfers(&paths, 2, 60_000);
        assert_eq!(paths.patience(VendorId(2), Way::Write), most);
    }

    #[test]
    fn a_way_over_others_that_is_much_slower_is_left() {
        let paths = PathTable::default();
        transfers(&paths, 1, 50);
        paths.succeeded_by_relay(VendorId(1), NOW, Duration::from_millis(120));
        assert!(!paths.has_relay_trouble(&[VendorId(1)], NOW));
        paths.succeeded_by_relay(VendorId(1), NOW, Duration::from_secs(9));
        assert!(
            !paths.has_relay_trouble(&[VendorId(1)], NOW),
            "one that waited for a connection says little"
        );
        for _ in 0..20 {
            paths.succeeded_by_relay(VendorId(1), NOW, Duration::from_millis(900));
        }
        assert!(paths.has_relay_trouble(&[VendorId(1), VendorId(2)], NOW));
        let later = NOW + super::COOLING.1;
        assert!(
            !paths.has_relay_trouble(&[VendorId(1)], later),
            "it is tried again"
        );
    }
}
