//! Reads in progress, as far as the metadata service must wait for them before copies are erased. Pure but for a
//! lock.

use crate::limits::READ_LIFE;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The reads of one session.
#[derive(Debug, Default)]
pub struct Readers {
    latest: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// (log index seen before it asked, number) → when it began.
    active: BTreeMap<(u64, u64), Duration>,
}

/// A read in progress; over when dropped.
#[derive(Debug)]
pub struct Reader {
    name: (u64, u64),
    began: Duration,
    of: Arc<Readers>,
}

impl Readers {
    /// An answer as of `index` was seen.
    pub fn observe(&self, index: u64) {
        self.latest.fetch_max(index, Ordering::AcqRel);
    }

    /// Begins a read. To be called before the metadata service is asked where the bytes are.
    #[must_use]
    pub fn enter(self: &Arc<Self>, now: Duration) -> Reader {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (self.latest.load(Ordering::Acquire), state.next);
        state.next += 1;
        state.active.insert(name, now);
        Reader {
            name,
            began: now,
            of: Arc::clone(self),
        }
    }

    /// No read that began before this log index was applied is still going on: what `SessionRow` calls
    /// `observed_index`. Reads that lived too long do not count; they are cut.
    #[must_use]
    pub fn observed_index(&self, now: Duration) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .active
            .retain(|_, began| now.saturating_sub(*began) < READ_LIFE);
        let latest = self.latest.load(Ordering::Acquire);
        state
            .active
            .first_key_value()
            .map_or(latest, |((index, _), _)| *index)
    }
}

impl Reader {
    /// Whether the read has lived so long that nobody waits for it any more.
    #[must_use]
    pub fn is_overdue(&self, now: Duration) -> bool {
        now.saturating_sub(self.began) >= READ_LIFE
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.of.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.active.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::Readers;
    use crate::limits::READ_LIFE;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_oldest_read_holds_the_observed_index_until_it_ends_or_is_overdue() {
        let readers = Arc::new(Readers::default());
        readers.observe(5);
        let first = readers.enter(Duration::ZERO);
        readers.observe(9);
        let second = readers.enter(Duration::from_secs(1));
        assert_eq!(readers.observed_index(Duration::from_secs(2)), 5);
        drop(first);
        assert_eq!(readers.observed_index(Duration::from_secs(2)), 9);
        readers.observe(12);
        let late = Duration::from_secs(1) + READ_LIFE;
        assert!(second.is_overdue(late));
        assert_eq!(readers.observed_index(late), 12);
    }
}
