//! How much is answered at once: calls and the bytes of their requests are bounded before a body is read, and
//! enrolments, which anybody may ask for, in time too.

use super::CallMetrics;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use ullage_model::wire::metad::MetadError;
use ullage_transport::api::{refusal, text};
use ullage_transport::identity::{Identity, Peer};

/// Calls of gateways being answered at a time, and of nodes that pass calls on.
const GATEWAY_CALLS: usize = 4096;
/// Calls of vendors being answered at a time.
const VENDOR_CALLS: usize = 1024;
/// Enrolments being answered at a time.
const ENROLMENTS: usize = 16;
/// Bytes of requests being answered at a time.
const BYTES: usize = 256 * 1024 * 1024;
/// A request that does not tell its length counts as one of so many bytes.
const UNTOLD_BYTES: usize = 16 * 1024 * 1024;
/// Enrolments that may come at once …
const ENROLMENT_BURST: u32 = 64;
/// … and after that, one in so much time.
const ENROLMENT_EVERY: Duration = Duration::from_millis(50);

/// How long an enrolment may take, its request's body included.
const ENROLMENT_WITHIN: Duration = Duration::from_secs(15);

/// What is in flight.
pub(super) struct Admission {
    gateways: Arc<Semaphore>,
    vendors: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    enrolments: Mutex<Enrolments>,
    metrics: CallMetrics,
}

/// A bucket of leave to enrol: full at first, refilled as time passes.
#[derive(Debug, Default)]
struct Enrolments {
    taken: u32,
    since: Duration,
}

/// What a call holds while it is answered.
struct Held {
    anonymous: bool,
    _call: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
    metrics: CallMetrics,
}

impl Admission {
    pub(super) fn new(metrics: CallMetrics) -> Self {
        Self {
            gateways: Arc::new(Semaphore::new(GATEWAY_CALLS)),
            vendors: Arc::new(Semaphore::new(VENDOR_CALLS)),
            anonymous: Arc::new(Semaphore::new(ENROLMENTS)),
            bytes: Arc::new(Semaphore::new(BYTES)),
            enrolments: Mutex::default(),
            metrics,
        }
    }

    fn hold(&self, peer: Peer, bytes: usize) -> Option<Held> {
        let calls = match peer {
            Peer::Known(Identity::Vendor(_)) => &self.vendors,
            Peer::Known(Identity::Gateway(_) | Identity::Metad(_)) => &self.gateways,
            Peer::Anonymous => &self.anonymous,
        };
        let call = Arc::clone(calls).try_acquire_owned().ok()?;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(permits).ok()?;
        self.metrics.in_flight.inc();
        self.metrics.in_flight_bytes.add(i64::from(permits));
        Some(Held {
            anonymous: peer == Peer::Anonymous,
            _call: call,
            bytes,
            metrics: self.metrics.clone(),
        })
    }

    /// Leave for one enrolment at the time `now` of a monotonic clock.
    pub(super) fn may_enrol(&self, now: Duration) -> bool {
        let mut enrolments = self.enrolments.lock().unwrap_or_else(PoisonError::into_inner);
        let may = enrolments.take(now);
        if !may {
            self.metrics.not_admitted.inc();
        }
        may
    }
}

impl Enrolments {
    fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.since).as_millis() / ENROLMENT_EVERY.as_millis();
        if passed > 0 {
            self.taken = self
                .taken
                .saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            self.since = now;
        }
        let may = self.taken < ENROLMENT_BURST;
        self.taken += u32::from(may);
        may
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics.in_flight.dec();
        let bytes = i64::try_from(self.bytes.num_permits()).unwrap_or(i64::MAX);
        self.metrics.in_flight_bytes.sub(bytes);
    }
}

/// Lets a call in, or turns it away before its body is read.
pub(super) async fn admit(
    State(admission): State<Arc<Admission>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let told = request.headers().get(CONTENT_LENGTH);
    let told = told.and_then(|told| told.to_str().ok()?.parse().ok());
    let bytes = told.unwrap_or(UNTOLD_BYTES);
    let Some(held) = admission.hold(peer.unwrap_or(Peer::Anonymous), bytes) else {
        admission.metrics.not_admitted.inc();
        return refusal(&MetadError::Overloaded);
    };
    let answer = next.run(request);
    let response = if held.anonymous {
        // Who has proven nothing must not hold a place by being slow.
        match tokio::time::timeout(ENROLMENT_WITHIN, answer).await {
            Ok(response) => response,
            Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the call took too long"),
        }
    } else {
        answer.await
    };
    drop(held);
    response
}

#[cfg(test)]
mod tests {
    use super::{
        Admission, BYTES, CallMetrics, ENROLMENT_BURST, ENROLMENT_EVERY, ENROLMENTS, GATEWAY_CALLS, Identity,
        Peer,
    };
    use prometheus::Registry;
    use std::time::Duration;

    fn admission() -> Admission {
        Admission::new(CallMetrics::new(&Registry::new()).unwrap())
    }

    #[test]
    fn calls_and_bytes_are_bounded_and_given_back() {
        let admission = admission();
        let gateway = Peer::Known(Identity::Gateway(1));
        let held: Vec<_> = (0..GATEWAY_CALLS)
            .map(|_| admission.hold(gateway, 1).unwrap())
            .collect();
        assert!(admission.hold(gateway, 1).is_none());
        assert!(
            admission.hold(Peer::Known(Identity::Metad(1)), 1).is_none(),
            "those for whom others call are no more"
        );
        let vendor = Peer::Known(Identity::Vendor(ullage_model::ids::VendorId(1)));
        assert!(
            admission.hold(vendor, 1).is_some(),
            "vendors are heard all the same"
        );
        drop(held);
        let most = admission.hold(gateway, BYTES).unwrap();
        assert!(admission.hold(gateway, 1).is_none());
        drop(most);
        assert!(admission.hold(gateway, BYTES + 1).is_none());
        assert_eq!(admission.metrics.in_flight.get(), 0);
        assert_eq!(admission.metrics.in_flight_bytes.get(), 0);
        let anonymous: Vec<_> = (0..ENROLMENTS)
            .map(|_| admission.hold(Peer::Anonymous, 1))
            .collect();
        assert!(anonymous.iter().all(Option::is_some));
        assert!(admission.hold(Peer::Anonymous, 1).is_none());
    }

    #[test]
    fn enrolments_come_in_bursts_and_then_at_a_rate() {
        let admission = admission();
        let at = |number: u32| Duration::from_secs(100) + ENROLMENT_EVERY * number;
        for _ in 0..ENROLMENT_BURST {
            assert!(admission.may_enrol(at(0)));
        }
        assert!(!admission.may_enrol(at(0)));
        assert!(admission.may_enrol(at(1)));
        assert!(!admission.may_enrol(at(1)));
        assert!(admission.may_enrol(at(3)) && admission.may_enrol(at(3)) && !admission.may_enrol(at(3)));
        for _ in 0..ENROLMENT_BURST {
            assert!(admission.may_enrol(at(1000)), "full again");
        }
        assert!(!admission.may_enrol(at(1000)));
    }
}
