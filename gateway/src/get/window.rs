//! What one read holds ahead of its client, and the reads that must give it up while others wait for memory: those
//! whose clients take nothing. Nothing is lost by that, it is fetched again. Which bytes are wanted is not known
//! here.

use crate::error::Error;
use crate::limits::READ_IDLE_PRESSED;
use crate::memory::Reservation;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, Stream};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A segment on its way.
pub type Fetching = BoxFuture<'static, Result<Bytes, Error>>;

/// The bytes that one read holds, fetched or being fetched, and the memory reserved for them.
///
/// A client either asks for bytes ([`Window::asked`]) or has been handed some ([`Window::handed`]). Only in the
/// second state, when nobody waits for what is being fetched, may another task take the bytes away.
#[derive(Default)]
pub struct Window(Mutex<State>);

#[derive(Default)]
struct State {
    in_flight: FuturesOrdered<Fetching>,
    /// Of the segment at the head, what was not handed on yet.
    rest: Bytes,
    /// The memory that the read was admitted with: for the segment at its head.
    own: Option<Arc<Reservation>>,
    /// All memory reserved for this read.
    reserved: Vec<Weak<Reservation>>,
    /// Since when the client has not asked for more.
    idle_since: Option<Duration>,
    gave_way: bool,
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        write!(
            f,
            "Window({} in flight, idle since {:?})",
            state.in_flight.len(),
            state.idle_since
        )
    }
}

impl Window {
    /// The client asks for bytes. Answers whether what the window held was taken away since the last time.
    pub fn asked(&self) -> bool {
        let mut state = self.state();
        state.idle_since = None;
        std::mem::take(&mut state.gave_way)
    }

    /// The client was handed bytes.
    pub fn handed(&self, now: Duration) {
        self.state().idle_since = Some(now);
    }

    /// Drops all bytes; the read's own memory stays.
    pub fn clear(&self) {
        let mut state = self.state();
        state.in_flight = FuturesOrdered::new();
        state.rest = Bytes::new();
    }

    /// Segments in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state().in_flight.len()
    }

    /// Adds a segment in `memory`, which is `None` for bytes that need none.
    pub fn push(&self, segment: Fetching, memory: Option<&Arc<Reservation>>) {
        let mut state = self.state();
        state.in_flight.push_back(segment);
        if let Some(memory) = memory {
            state.reserved.retain(|known| known.strong_count() > 0);
            state.reserved.push(Arc::downgrade(memory));
        }
    }

    /// The memory that the read was admitted with.
    #[must_use]
    pub fn own(&self) -> Option<Arc<Reservation>> {
        self.state().own.clone()
    }

    /// Sets it.
    pub fn set_own(&self, own: Arc<Reservation>) {
        self.state().own = Some(own);
    }

    /// The next segment, when it is there; `None` when none is in flight.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        Pin::new(&mut self.state().in_flight).poll_next(cx)
    }

    /// Puts a segment in front: what is cut off next.
    pub fn set_rest(&self, bytes: Bytes) {
        self.state().rest = bytes;
    }

    /// Cuts up to `most` bytes off the segment in front.
    pub fn cut(&self, most: usize) -> Option<Bytes> {
        let mut state = self.state();
        let most = most.min(state.rest.len());
        (most > 0).then(|| {
            let piece = state.rest.split_to(most);
            if state.rest.is_empty() {
                // An empty slice would still hold the segment's memory.
                state.rest = Bytes::new();
            }
            piece
        })
    }

    /// Takes away all that a client leaves lying which has not asked for `READ_IDLE_PRESSED`. Answers how many bytes
    /// of memory were given back.
    fn give_way(&self) -> u64 {
        let Ok(mut state) = self.0.try_lock() else {
            return 0;
        };
        if state.idle_since.is_none() {
            return 0;
        }
        let reserved = std::mem::take(&mut state.reserved);
        let bytes = |of: &[Weak<Reservation>]| -> u64 {
            let mut held: Vec<_> = of.iter().filter_map(Weak::upgrade).collect();
            // The read's own memory serves several segments.
            held.sort_by_key(|held| Arc::as_ptr(held).addr());
            held.dedup_by(|a, b| Arc::ptr_eq(a, b));
            held.iter().map(|held| held.bytes()).sum()
        };
        let before = bytes(&reserved);
        state.in_flight = FuturesOrdered::new();
        state.rest = Bytes::new();
        state.own = None;
        state.gave_way = true;
        let after = bytes(&reserved);
        state.reserved = reserved;
        state.reserved.retain(|known| known.strong_count() > 0);
        before.saturating_sub(after)
    }

    /// Since when it could give way; `None` when it cannot.
    fn idle_since(&self) -> Option<Duration> {
        let state = self.0.try_lock().ok()?;
        let holds = state.own.is_some() || !state.in_flight.is_empty() || !state.rest.is_empty();
        state.idle_since.filter(|_| holds)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The windows of all reads that were admitted to memory.
#[derive(Debug, Default)]
pub struct Windows {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    next: u64,
    windows: BTreeMap<u64, Arc<Window>>,
    /// When it was last found that none of them could give way.
    in_vain: Option<Duration>,
}

/// How long nobody looks again after a look in vain.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A window among those that may have to give way, until this is dropped.
#[derive(Debug)]
pub struct Registered {
    number: u64,
    of: Arc<Windows>,
}

impl Windows {
    /// Adds a window.
    #[must_use]
    pub fn register(self: &Arc<Self>, window: &Arc<Window>) -> Registered {
        let mut known = self.known();
        let number = known.next;
        known.next += 1;
        known.windows.insert(number, Arc::clone(window));
        Registered {
            number,
            of: Arc::clone(self),
        }
    }

    /// Makes reads give way whose clients take nothing, the longest first, until `bytes` of memory were given back.
    pub fn make_room(&self, bytes: u64, now: Duration) {
        let mut stalled = {
            let mut known = self.known();
            if known.in_vain.is_some_and(|at| now < at + LOOK_PAUSE) {
                return;
            }
            let stalled = known.windows.values().filter_map(|window| {
                let since = window.idle_since()?;
                (now >= since + READ_IDLE_PRESSED).then(|| (since, Arc::clone(window)))
            });
            let stalled: Vec<_> = stalled.collect();
            known.in_vain = stalled.is_empty().then_some(now);
            stalled
        };
        stalled.sort_by_key(|(since, _)| *since);
        let mut freed = 0;
        for (_, window) in stalled {
            if freed >= bytes {
                return;
            }
            freed += window.give_way();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let gone = self.of.known().windows.remove(&self.number);
        drop(gone);
    }
}

/// Lets one piece of bytes at a time be on its way: the next waits until the last is gone.
#[derive(Clone, Debug, Default)]
pub struct OneAtATime(Arc<Mutex<Underway>>);

#[derive(Debug, Default)]
struct Underway {
    pieces: usize,
    waker: Option<Waker>,
}

impl OneAtATime {
    /// A copy of `bytes`: holds none of their memory, and counts until it is dropped.
    #[must_use]
    pub fn copy(&self, bytes: &[u8]) -> Bytes {
        struct Piece(Vec<u8>, OneAtATime);
        impl AsRef<[u8]> for Piece {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        impl Drop for Piece {
            fn drop(&mut self) {
                let mut underway = self.1.underway();
                underway.pieces -= 1;
                let waker = underway.waker.take();
                drop(underway);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
        self.underway().pieces += 1;
        Bytes::from_owner(Piece(bytes.to_vec(), self.clone()))
    }

    /// Waits until no copy is left.
    pub async fn gone(&self) {
        std::future::poll_fn(|cx| {
            let mut underway = self.underway();
            if underway.pieces == 0 {
                return Poll::Ready(());
            }
            underway.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn underway(&self) -> MutexGuard<'_, Underway> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;
    use futures::FutureExt as _;

    const LONG: Duration = READ_IDLE_PRESSED;

    fn holding(budget: &Budget, bytes: u64) -> Arc<Window> {
        let window = Arc::new(Window::default());
        let own = Arc::new(budget.try_reserve(bytes).unwrap());
        let segment = std::future::ready(Ok(Bytes::new())).boxed();
        window.push(segment, Some(&own));
        window.set_own(own);
        window
    }

    #[test]
    fn those_idle_for_longest_give_way_and_no_more_than_are_needed() {
        let budget = Budget::new(4096, "full");
        let windows = Arc::new(Windows::default());
        let held: Vec<_> = (0..4).map(|_| holding(&budget, 1024)).collect();
        let mut registered: Vec<_> = held.iter().map(|window| windows.register(window)).collect();
        let at = |second| Duration::from_secs(second);
        held[0].handed(at(3));
        held[1].handed(at(1));
        held[2].handed(at(2));
        windows.make_room(2048, at(1));
        assert_eq!(budget.in_use(), 4096, "none is idle for long");
        windows.make_room(1500, at(3) + LONG);
        assert_eq!(budget.in_use(), 2048);
        let gave: Vec<_> = held.iter().map(|window| window.asked()).collect();
        assert_eq!(gave, [false, true, true, false]);
        windows.make_room(4096, at(60) + LONG);
        assert_eq!(
            budget.in_use(),
            2048,
            "clients that ask keep what is fetched for them"
        );
        held[0].handed(at(70));
        drop(registered.remove(0));
        windows.make_room(4096, at(80));
        assert_eq!(budget.in_use(), 2048, "it is known no more");
    }

    #[tokio::test]
    async fn the_next_piece_waits_until_the_last_is_gone() {
        let pieces = OneAtATime::default();
        pieces.gone().await;
        let piece = pieces.copy(b"abc");
        assert!(pieces.gone().now_or_never().is_none());
        let waits = tokio::spawn({
            let pieces = pieces.clone();
            async move { pieces.gone().await }
        });
        tokio::task::yield_now().await;
        drop(piece);
        waits.await.unwrap();
    }
}
