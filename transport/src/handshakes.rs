//! Handshakes under way, the oldest of which gives way when there are too many: who connects and says nothing
//! must not keep out those who have something to say.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// At most so many handshakes at a time.
#[derive(Debug)]
pub(crate) struct Handshakes {
    most: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    begun: u64,
    /// Oldest first.
    oldest: VecDeque<(u64, CancellationToken)>,
}

impl Handshakes {
    /// None yet, at most `most` (at least one).
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            under_way: Mutex::default(),
        }
    }

    /// One more; the oldest is told to give way if there are too many.
    pub(crate) fn begin(&self) -> Handshake<'_> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.oldest.len() >= self.most
            && let Some((_, oldest)) = under_way.oldest.pop_front()
        {
            oldest.cancel();
        }
        let number = under_way.begun;
        under_way.begun += 1;
        let give_way = CancellationToken::new();
        under_way.oldest.push_back((number, give_way.clone()));
        Handshake {
            all: self,
            number,
            give_way,
        }
    }
}

/// A handshake under way, until dropped.
#[derive(Debug)]
pub(crate) struct Handshake<'a> {
    all: &'a Handshakes,
    number: u64,
    give_way: CancellationToken,
}

impl Handshake<'_> {
    /// Ends when this handshake is to give way.
    pub(crate) async fn gives_way(&self) {
        self.give_way.cancelled().await;
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        let mut under_way = self.all.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(at) = under_way
            .oldest
            .binary_search_by_key(&self.number, |(number, _)| *number)
        {
            under_way.oldest.remove(at);
        }
    }
}
