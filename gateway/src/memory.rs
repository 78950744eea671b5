//! Bounded memory for bodies: who may hold how many bytes, and the buffers they are held in. No bytes are looked
//! at here.

use crate::error::Error;
use crate::limits::{ADMISSION_QUEUE, ADMISSION_WAIT, POOLED_BUFFER_BYTES_MIN, POOLED_BYTES};
use bytes::Bytes;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit of the semaphore stands for so many bytes: permits are 32-bit numbers.
const GRAIN: u64 = 1024;

/// A budget of bytes. Whoever is admitted holds a reservation for all it will ever need to make progress, so
/// that holders never wait for each other.
#[derive(Debug)]
pub struct Budget {
    grains: Arc<Semaphore>,
    total: u32,
    waiting: AtomicUsize,
    pressure: Mutex<Pressure>,
    refusal: &'static str,
}

/// What those who wait lack.
#[derive(Debug, Default)]
struct Pressure {
    /// Grains that they wait for.
    wanted: u64,
    /// Of those, grains that holders were told to give up.
    promised: u64,
}

/// Bytes that were reserved; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    grains: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.grains.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64 * GRAIN
    }

    /// Takes `bytes` of it, or all there is, into a reservation of its own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let grains = usize::try_from(bytes.div_ceil(GRAIN)).unwrap_or(usize::MAX);
        Self {
            grains: self
                .grains
                .as_mut()
                .and_then(|held| held.split(grains.min(held.num_permits()))),
        }
    }

    /// `bytes`, holding what they take of this reservation until the last of them is gone. The rest is given back
    /// now.
    #[must_use]
    pub fn hold(mut self, bytes: Bytes) -> Bytes {
        struct Held(Bytes, #[expect(dead_code, reason = "held")] Reservation);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        if let Some(grains) = &mut self.grains {
            let needed = usize::try_from((bytes.len() as u64).div_ceil(GRAIN)).unwrap_or(usize::MAX);
            drop(grains.split(grains.num_permits().saturating_sub(needed)));
        }
        Bytes::from_owner(Held(bytes, self))
    }
}

impl Budget {
    /// A budget of `bytes`; `refusal` is what those are told who do not get in.
    #[must_use]
    pub fn new(bytes: u64, refusal: &'static str) -> Self {
        let total = u32::try_from(bytes / GRAIN).unwrap_or(u32::MAX).max(1);
        Self {
            grains: Arc::new(Semaphore::new(total as usize)),
            total,
            waiting: AtomicUsize::new(0),
            pressure: Mutex::default(),
            refusal,
        }
    }

    /// Whether a holder that makes no progress is to give its reservation up at once, because others wait. No more
    /// are told so than those who wait need.
    #[must_use]
    pub fn must_give_way(&self, held: &Reservation) -> bool {
        let grains = held.bytes() / GRAIN;
        let mut pressure = self.pressure.lock().unwrap_or_else(PoisonError::into_inner);
        let must = grains > 0 && pressure.promised < pressure.wanted;
        if must {
            pressure.promised += grains;
        }
        must
    }

    /// Reserves `bytes`, after a short wait in order of arrival if need be. The caller must hold no other
    /// reservation of this budget.
    ///
    /// # Errors
    /// `Error::SlowDown` when the wait was in vain or too many wait already.
    pub async fn admit(&self, bytes: u64) -> Result<Reservation, Error> {
        if let Some(reservation) = self.try_reserve(bytes) {
            return Ok(reservation);
        }
        let grains = self.grains_of(bytes);
        let _waiting = Waiting::enter(self, grains).ok_or(Error::SlowDown(self.refusal))?;
        let admitted = Arc::clone(&self.grains).acquire_many_owned(grains);
        match tokio::time::timeout(ADMISSION_WAIT, admitted).await {
            Ok(Ok(grains)) => Ok(Reservation { grains: Some(grains) }),
            Ok(Err(_)) | Err(_) => Err(Error::SlowDown(self.refusal)),
        }
    }

    /// Reserves `bytes` if they are free now and nobody waits for them.
    #[must_use]
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let grains = self.grains_of(bytes);
        if grains == 0 {
            return Some(Reservation { grains: None });
        }
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let grains = Arc::clone(&self.grains).try_acquire_many_owned(grains).ok()?;
        Some(Reservation { grains: Some(grains) })
    }

    /// As [`Budget::try_reserve`], as long as half of the budget stays free: what is borrowed only to be faster,
    /// and may be kept for long, must not keep others from being admitted.
    #[must_use]
    pub fn try_borrow(&self, bytes: u64) -> Option<Reservation> {
        let free = u64::try_from(self.grains.available_permits()).unwrap_or(u64::MAX);
        let left = free.checked_sub(self.grains_of(bytes).into())?;
        (left >= u64::from(self.total) / 2)
            .then(|| self.try_reserve(bytes))
            .flatten()
    }

    /// Whether less than a quarter is free: what borrowers leave free is used up by half.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        self.grains.available_permits() < self.total as usize / 4
    }

    /// Bytes reserved now.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        let free = self.grains.available_permits() as u64;
        u64::from(self.total).saturating_sub(free) * GRAIN
    }

    fn grains_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(GRAIN))
            .unwrap_or(u32::MAX)
            .min(self.total)
    }
}

struct Waiting<'a> {
    budget: &'a Budget,
    grains: u64,
}

impl<'a> Waiting<'a> {
    fn enter(budget: &'a Budget, grains: u32) -> Option<Self> {
        if budget.waiting.fetch_add(1, Ordering::Relaxed) >= ADMISSION_QUEUE {
            budget.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let grains = u64::from(grains);
        budget
            .pressure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wanted += grains;
        Some(Self { budget, grains })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut pressure = self
            .budget
            .pressure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pressure.wanted -= self.grains;
        pressure.promised = pressure.promised.saturating_sub(self.grains);
        drop(pressure);
        self.budget.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Buffers waiting for their next use: fresh ones of some MiB cost a page fault per page.
#[derive(Debug, Default)]
pub struct BufferPool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    /// An empty buffer for `capacity` bytes that comes back to the pool when dropped. It keeps
    /// `reservation` as long as it or bytes made of it live.
    #[must_use]
    pub fn take(self: &Arc<Self>, capacity: usize, reservation: Option<Arc<Reservation>>) -> PooledBuffer {
        PooledBuffer {
            bytes: self
                .reuse(capacity)
                .unwrap_or_else(|| Vec::with_capacity(capacity)),
            pool: Arc::clone(self),
            _reservation: reservation,
        }
    }

    /// Frees all idle buffers.
    pub fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    fn reuse(&self, capacity: usize) -> Option<Vec<u8>> {
        if capacity < POOLED_BUFFER_BYTES_MIN {
            return None;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Not one more than twice as large: its reservation counts what was asked for.
        let fits = |buffer: &Vec<u8>| (capacity..=capacity * 2).contains(&buffer.capacity());
        let at = idle.buffers.iter().rposition(fits)?;
        let buffer = idle.buffers.swap_remove(at);
        idle.bytes -= buffer.capacity();
        Some(buffer)
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() < POOLED_BUFFER_BYTES_MIN {
            return;
        }
        buffer.clear();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.bytes + buffer.capacity() <= POOLED_BYTES {
            idle.bytes += buffer.capacity();
            idle.buffers.push(buffer);
        }
    }
}

/// A buffer of the pool. `Bytes::from_owner` makes cheap clones of it; the last one gives it back.
pub struct PooledBuffer {
    /// The bytes.
    pub bytes: Vec<u8>,
    pool: Arc<BufferPool>,
    _reservation: Option<Arc<Reservation>>,
}

impl fmt::Debug for PooledBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PooledBuffer({} of {} bytes)",
            self.bytes.len(),
            self.bytes.capacity()
        )
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, BufferPool};
    use crate::error::Error;
    use bytes::Bytes;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_full_budget_makes_wait_and_then_refuses() {
        let budget = Budget::new(4096, "full");
        let held = budget.admit(4096).await.unwrap();
        assert_eq!(budget.in_use(), 4096);
        assert_eq!(budget.admit(1).await.unwrap_err(), Error::SlowDown("full"));
        assert!(!budget.must_give_way(&held), "nobody waits any more");
        drop(held);
        assert!(budget.admit(1).await.is_ok());
        assert!(
            budget.admit(1 << 40).await.is_ok(),
            "what never fits is cut to all there is"
        );
    }

    #[test]
    fn held_bytes_keep_what_they_take_and_give_the_rest_back() {
        let budget = Budget::new(4096, "full");
        let held = budget.try_reserve(3072).unwrap().hold(Bytes::from(vec![7; 1500]));
        assert_eq!((budget.in_use(), held.len()), (2048, 1500));
        let slice = held.slice(..1);
        drop(held);
        assert_eq!(budget.in_use(), 2048);
        drop(slice);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn borrowers_leave_half_to_those_who_come_next() {
        let budget = Budget::new(4096, "full");
        let borrowed: Vec<_> = std::iter::from_fn(|| budget.try_borrow(1024)).collect();
        assert_eq!(borrowed.len(), 2);
        assert!(budget.admit(2048).await.is_ok());
        let _admitted = budget.admit(1024).await.unwrap();
        drop(borrowed);
        assert!(budget.try_borrow(1024).is_some());
        assert!(budget.try_borrow(2048).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_holders_give_way_as_those_who_wait_need() {
        let budget = Budget::new(4096, "full");
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(budget.admit(1024).await.unwrap());
        }
        assert!(!budget.must_give_way(&held[0]), "nobody waits");
        let (admitted, ()) = tokio::join!(budget.admit(2048), async {
            let must = held.iter().map(|held| budget.must_give_way(held));
            assert_eq!(must.collect::<Vec<_>>(), [true, true, false, false]);
            held.drain(..2);
        });
        assert!(admitted.is_ok());
        assert!(!budget.must_give_way(&held[0]));
        assert!(budget.admit(1024).await.is_err(), "nobody was told to go");
        assert!(!budget.must_give_way(&held[0]), "who waited has gone");
    }

    #[test]
    fn a_buffer_is_reserved_until_its_last_bytes_are_gone() {
        let budget = Budget::new(1 << 20, "full");
        let pool = Arc::new(BufferPool::default());
        let reservation = budget.try_reserve(1 << 20).map(Arc::new);
        let mut buffer = pool.take(1 << 20, reservation);
        buffer.bytes.extend_from_slice(b"abc");
        let at = buffer.bytes.as_ptr();
        let bytes = Bytes::from_owner(buffer);
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert!(budget.try_reserve(1024).is_none());
        drop(slice);
        assert!(budget.try_reserve(1024).is_some());
        assert_eq!(
            pool.take(1 << 20, None).bytes.as_ptr(),
            at,
            "buffers are used again"
        );
    }
}
