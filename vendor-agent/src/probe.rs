//! The responder to path probes: a datagram for a datagram of the same length, for probers that hold a cookie
//! given out over a proven connection. What a path is worth is the gateway's to know.

use crate::seams::MonotonicClock;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use ullage_model::wire::probe::{COOKIE_MS, PROBE_BYTES, Probe, ProbeCookie};
use ullage_transport::network::{Datagrams, Received};

/// Replies per second at most; a vendor is probed by a few gateways, each a few times a second.
const REPLIES_PER_SECOND: u32 = 2000;
/// Pause after a failed receive, so that a broken socket does not keep a processor busy.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// Makes cookies and knows them again. They are good in the time slot in which they were made and in the next.
pub(crate) struct Cookies {
    key: [u8; 32],
    clock: Arc<dyn MonotonicClock>,
}

impl Cookies {
    /// Cookies of one process: `key` is random and told to nobody.
    pub(crate) fn new(key: [u8; 32], clock: Arc<dyn MonotonicClock>) -> Self {
        Self { key, clock }
    }

    /// A cookie that is good for [`COOKIE_MS`] at least.
    pub(crate) fn cookie(&self) -> ProbeCookie {
        self.of_slot(self.slot())
    }

    fn slot(&self) -> u64 {
        self.clock.now_ms() / COOKIE_MS
    }

    fn of_slot(&self, slot: u64) -> ProbeCookie {
        let digest = blake3::keyed_hash(&self.key, &slot.to_be_bytes());
        let mut cookie = [0; 16];
        cookie.copy_from_slice(&digest.as_bytes()[..16]);
        ProbeCookie(cookie)
    }

    fn is_good(&self, cookie: ProbeCookie) -> bool {
        let slot = self.slot();
        let mut slots = [Some(slot), slot.checked_sub(1)].into_iter().flatten();
        // Compared as digests, whose comparison takes the same time whatever they are.
        let theirs = blake3::hash(&cookie.0);
        slots.any(|slot| blake3::hash(&self.of_slot(slot).0) == theirs)
    }

    /// The reply to a datagram, if it gets one.
    fn reply(&self, bytes: &[u8], ttl_left: Option<u8>) -> Option<[u8; PROBE_BYTES]> {
        let probe = Probe::decode(bytes).filter(|probe| !probe.reply && self.is_good(probe.cookie))?;
        let reply = Probe {
            reply: true,
            ttl_left: ttl_left.unwrap_or(0),
            nonce: probe.nonce,
            cookie: ProbeCookie([0; 16]),
        };
        Some(reply.encode())
    }
}

/// A bound on replies: a bucket that fills with time.
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self {
            tokens: f64::from(REPLIES_PER_SECOND),
            at: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let most = f64::from(REPLIES_PER_SECOND);
        let came = now.duration_since(self.at).as_secs_f64() * most;
        self.tokens = (self.tokens + came).min(most);
        self.at = now;
        let any = self.tokens >= 1.0;
        if any {
            self.tokens -= 1.0;
        }
        any
    }
}

/// Answers probes until it is dropped.
pub(crate) async fn respond_forever(datagrams: Box<dyn Datagrams>, cookies: Arc<Cookies>) {
    // One byte more than a probe has, so that what is longer is seen to be.
    let mut buffer = [0; PROBE_BYTES + 1];
    let mut bucket = Bucket::new(Instant::now());
    let mut well = true;
    loop {
        let Received { bytes, from, ttl } = match datagrams.receive(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An earlier reply may come back as an error of the socket: that is no fault of it.
                if std::mem::take(&mut well) {
                    tracing::debug!(%error, "cannot receive path probes");
                }
                sleep(FAULT_PAUSE).await;
                continue;
            }
        };
        well = true;
        let Some(reply) = cookies.reply(&buffer[..bytes], ttl) else {
            continue;
        };
        if bucket.take(Instant::now())
            && let Err(error) = datagrams.send(&reply, from).await
        {
            tracing::debug!(%error, %from, "cannot answer a path probe");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl MonotonicClock for Hand {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_time_and_only_where_it_was_made() {
        let clock = Arc::new(Hand::default());
        let of_key = |key| Cookies::new([key; 32], Arc::clone(&clock) as Arc<dyn MonotonicClock>);
        let (cookies, others) = (of_key(1), of_key(2));
        let made_at = 5 * COOKIE_MS + COOKIE_MS / 3;
        clock.0.store(made_at, Ordering::Relaxed);
        let cookie = cookies.cookie();
        let probe = |cookie| {
            let probe = Probe {
                reply: false,
                ttl_left: 0,
                nonce: 7,
                cookie,
            };
            probe.encode()
        };
        for (later, good) in [(0, true), (COOKIE_MS, true), (2 * COOKIE_MS, false)] {
            clock.0.store(made_at + later, Ordering::Relaxed);
            let reply = cookies.reply(&probe(cookie), Some(61));
            assert_eq!(reply.is_some(), good, "{later} ms later");
            if let Some(reply) = reply.and_then(|reply| Probe::decode(&reply)) {
                assert_eq!((reply.reply, reply.ttl_left, reply.nonce), (true, 61, 7));
                assert_eq!(
                    reply.cookie,
                    ProbeCookie([0; 16]),
                    "a reply cannot be sent on as a probe"
                );
            }
            assert_eq!(others.reply(&probe(cookie), None), None);
        }
        let mine = cookies.cookie();
        assert_eq!(cookies.reply(&probe(ProbeCookie([0; 16])), None), None);
        let (reply, short) = (cookies.reply(&probe(mine), None).unwrap(), &probe(mine)[..39]);
        assert_eq!(cookies.reply(&reply, None), None);
        assert_eq!(cookies.reply(short, None), None);
        assert_eq!(cookies.reply(&[&probe(mine)[..], &[0]].concat(), None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn replies_are_bounded_in_time() {
        let mut bucket = Bucket::new(Instant::now());
        let taken = (0..10_000).filter(|_| bucket.take(Instant::now())).count();
        assert_eq!(taken, REPLIES_PER_SECOND as usize);
        tokio::time::advance(Duration::from_millis(500)).await;
        let taken = (0..10_000).filter(|_| bucket.take(Instant::now())).count();
        assert_eq!(taken, REPLIES_PER_SECOND as usize / 2);
    }
}
