//! Second reads for the sake of speed, and what they may cost: a share of all reads. Pure but for an atomic.

use crate::limits::{HEDGE_BETWEEN, HEDGES};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Leave for second reads: each read earns a share of one, up to a bound.
#[derive(Debug)]
pub struct Hedges {
    /// In shares, of which [`HEDGES`]`.0` make one second read.
    earned: AtomicU32,
}

impl Default for Hedges {
    fn default() -> Self {
        Self {
            earned: AtomicU32::new(HEDGES.0 * HEDGES.1),
        }
    }
}

impl Hedges {
    /// A read was made.
    pub fn earn(&self) {
        let most = HEDGES.0 * HEDGES.1;
        let more = |earned: u32| (earned < most).then_some(earned + 1);
        // At the bound nothing changes.
        let _ = self
            .earned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether a second read may be made after the first has taken this long. One that takes longer than any path's
    /// experience says is as good as failed: then it is no question of cost.
    pub fn may(&self, waited: Duration) -> bool {
        waited >= HEDGE_BETWEEN.1
            || self
                .earned
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |earned| {
                    earned.checked_sub(HEDGES.0)
                })
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Hedges;
    use crate::limits::{HEDGE_AFTER, HEDGE_BETWEEN, HEDGES};

    #[test]
    fn second_reads_are_a_share_of_all_reads_unless_the_first_is_as_good_as_lost() {
        let hedges = Hedges::default();
        let made: u32 = (0..100).map(|_| u32::from(hedges.may(HEDGE_AFTER))).sum();
        assert_eq!(made, HEDGES.1, "so many in a row");
        assert!(hedges.may(HEDGE_BETWEEN.1));
        for _ in 1..HEDGES.0 {
            hedges.earn();
            assert!(!hedges.may(HEDGE_AFTER));
        }
        hedges.earn();
        assert!(hedges.may(HEDGE_AFTER));
        (0..10_000).for_each(|_| hedges.earn());
        let made: u32 = (0..100).map(|_| u32::from(hedges.may(HEDGE_AFTER))).sum();
        assert_eq!(made, HEDGES.1, "they are not saved up without bound");
    }
}
