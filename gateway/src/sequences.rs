//! The sequence window of a session: numbers for commands, and which outcomes are known. Pure but for a lock.

use crate::limits::SEQUENCES_UNTOLD;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Numbers the commands of one session.
#[derive(Debug)]
pub struct Sequences {
    state: Mutex<State>,
    told: Notify,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// Given out, outcome not known yet.
    open: BTreeSet<u64>,
    /// The metadata service has heard that all below are known.
    told: u64,
}

/// A sequence in use. Dropping it says that its outcome is known, or that nobody will ever ask for it.
#[derive(Debug)]
pub struct Sequence {
    /// The number.
    pub number: u64,
    of: Arc<Sequences>,
}

impl Default for Sequences {
    fn default() -> Self {
        Self {
            // 0 is left out, so that "below 1" can mean "none".
            state: Mutex::new(State {
                next: 1,
                open: BTreeSet::new(),
                told: 1,
            }),
            told: Notify::new(),
        }
    }
}

impl Sequences {
    /// The next sequence, after a wait when the window is full. `wake` is notified when the window gets so
    /// full that the session should renew early.
    pub async fn take(self: &Arc<Self>, wake: &Notify) -> Sequence {
        loop {
            let told = self.told.notified();
            let (taken, untold) = self.try_take();
            if untold >= SEQUENCES_UNTOLD.0 {
                wake.notify_one();
            }
            if let Some(number) = taken {
                return Sequence {
                    number,
                    of: Arc::clone(self),
                };
            }
            told.await;
        }
    }

    /// All outcomes below this are known.
    #[must_use]
    pub fn acknowledged_below(&self) -> u64 {
        let state = self.lock();
        state.open.first().copied().unwrap_or(state.next)
    }

    /// The metadata service has heard that all outcomes below `acknowledged_below` are known.
    pub fn was_told(&self, acknowledged_below: u64) {
        self.lock().told = acknowledged_below;
        self.told.notify_waiters();
    }

    /// Whether so many sequences are untold that the session should renew early.
    #[must_use]
    pub fn should_tell(&self) -> bool {
        let state = self.lock();
        let known = state.open.first().copied().unwrap_or(state.next);
        // Telling must help: a window held open by one old command is not renewed over and over.
        known - state.told >= SEQUENCES_UNTOLD.0 / 2
    }

    fn try_take(&self) -> (Option<u64>, u64) {
        let mut state = self.lock();
        let untold = state.next - state.told;
        if untold >= SEQUENCES_UNTOLD.1 {
            return (None, untold);
        }
        let number = state.next;
        state.next += 1;
        state.open.insert(number);
        (Some(number), untold)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.of.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::Sequences;
    use crate::limits::SEQUENCES_UNTOLD;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::Notify;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_open_sequence_bounds_what_is_acknowledged_and_the_window_holds() {
        let sequences = Arc::new(Sequences::default());
        let wake = Notify::new();
        let first = sequences.take(&wake).await;
        drop(sequences.take(&wake).await);
        assert_eq!(sequences.acknowledged_below(), first.number);
        for _ in 2..SEQUENCES_UNTOLD.1 {
            drop(sequences.take(&wake).await);
        }
        let full = tokio::time::timeout(Duration::from_secs(1), sequences.take(&wake)).await;
        assert!(full.is_err(), "the window is full");
        assert!(
            !sequences.should_tell(),
            "the oldest is open: telling would not help"
        );
        drop(first);
        assert!(sequences.should_tell());
        sequences.was_told(sequences.acknowledged_below());
        sequences.take(&wake).await;
    }
}
