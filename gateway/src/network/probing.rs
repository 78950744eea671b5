//! One probe of a path: a datagram that the vendor sends back, by a cookie that the vendor gave over a proven
//! connection. Where datagrams do not come through, the round trip of a call stands in. When paths are probed is
//! `prober.rs`.

use crate::agent_client::Echo;
use crate::environment::{Clock, Randomness};
use crate::limits::{PROBE_CALL_WAIT, PROBE_RETRIED, PROBE_WAIT, PROBES_UNANSWERED};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use ullage_model::ids::VendorId;
use ullage_model::wire::chunk::ChunkRefusal;
use ullage_model::wire::metad::Done;
use ullage_model::wire::probe::{COOKIE_MS, PROBE_BYTES, Probe, ProbeCookie};
use ullage_model::wire::routes;
use ullage_transport::client::{CallError, Client, Target};
use ullage_transport::network::{DATAGRAM_TTL, Datagrams, Network};

/// Cookies are asked for again at half of their life.
const COOKIE_KEPT: Duration = Duration::from_millis(COOKIE_MS / 2);

/// Probes that wait for their answers, by nonce.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Answered>>>>;

/// An answer that came.
struct Answered {
    at: Duration,
    probe: Probe,
    /// Time to live left in the answer.
    ttl: Option<u8>,
}

/// Sends probes.
#[derive(Debug)]
pub(super) struct Prober {
    client: Client,
    network: Arc<dyn Network>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
    waiting: Waiting,
    /// For IPv4 and for IPv6, once one was needed.
    sockets: tokio::sync::Mutex<[Option<Socket>; 2]>,
    paths: Mutex<HashMap<VendorId, Known>>,
}

impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answered({:?})", self.probe)
    }
}

/// What is known of a way to a vendor.
#[derive(Clone, Debug, Default)]
struct Known {
    address: String,
    cookie: Option<(ProbeCookie, Duration)>,
    /// UDP has been answered here.
    answers: bool,
    /// UDP probes in a row that were not.
    unanswered: u32,
    probes: u32,
}

#[derive(Debug)]
struct Socket {
    datagrams: Arc<dyn Datagrams>,
    receiving: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

impl Prober {
    pub(super) fn new(
        client: Client,
        network: Arc<dyn Network>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Randomness>,
    ) -> Self {
        Self {
            client,
            network,
            clock,
            random,
            waiting: Waiting::default(),
            sockets: tokio::sync::Mutex::default(),
            paths: Mutex::default(),
        }
    }

    /// Forgets vendors that are not meant.
    pub(super) fn keep(&self, is_meant: impl Fn(VendorId) -> bool) {
        self.paths().retain(|vendor, _| is_meant(*vendor));
    }

    /// Measures the path to `vendor` at `target` once.
    pub(super) async fn probe(&self, vendor: VendorId, target: Target) -> Result<Echo, ChunkRefusal> {
        let mut known = self.known(vendor, &target.address);
        known.probes = known.probes.wrapping_add(1);
        let by_call_only =
            known.unanswered >= PROBES_UNANSWERED && !known.probes.is_multiple_of(PROBE_RETRIED);
        let probed = if by_call_only {
            self.by_call(&target, 0, &mut known).await
        } else {
            self.by_datagram(vendor, &target, &mut known).await
        };
        self.paths().insert(vendor, known);
        probed
    }

    async fn by_datagram(
        &self,
        vendor: VendorId,
        target: &Target,
        known: &mut Known,
    ) -> Result<Echo, ChunkRefusal> {
        let now = self.clock.monotonic();
        let cookie = match known.cookie {
            Some((cookie, at)) if now.saturating_sub(at) < COOKIE_KEPT => cookie,
            _ => {
                let cookie = self.cookie(target).await?;
                known.cookie = Some((cookie, now));
                cookie
            }
        };
        match self.echo(&target.address, cookie).await {
            Ok(Some(echo)) => {
                known.answers = true;
                known.unanswered = 0;
                return Ok(echo);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%vendor, %error, "cannot send a probe"),
        }
        known.unanswered = known.unanswered.saturating_add(1);
        // One that never answered may sit behind a filter: that says nothing about its availability. One whose
        // cookies were forgotten with its process gives new ones.
        let lost = u32::from(known.answers);
        known.answers &= known.unanswered < PROBES_UNANSWERED;
        known.cookie = None;
        self.by_call(target, lost, known).await
    }

    /// The shorter of two calls: the first may have had to connect.
    async fn by_call(&self, target: &Target, lost: u32, known: &mut Known) -> Result<Echo, ChunkRefusal> {
        let mut round_trip = Duration::MAX;
        for _ in 0..2 {
            let began = self.clock.monotonic();
            let cookie = self.cookie(target).await?;
            let now = self.clock.monotonic();
            known.cookie = Some((cookie, now));
            round_trip = round_trip.min(now.saturating_sub(began));
        }
        Ok(Echo {
            round_trip,
            hops: None,
            lost,
        })
    }

    async fn cookie(&self, target: &Target) -> Result<ProbeCookie, ChunkRefusal> {
        let asked = self
            .client
            .call(target, routes::PROBE_COOKIE, &Done, PROBE_CALL_WAIT);
        asked.await.map_err(|error| match error {
            CallError::Application(refusal) => refusal,
            error => ChunkRefusal::Link(error.to_string()),
        })
    }

    /// Sends one datagram; `None` when no answer comes in time.
    async fn echo(&self, address: &str, cookie: ProbeCookie) -> io::Result<Option<Echo>> {
        let to = self.network.resolve(address).await?;
        let datagrams = self.socket(to).await?;
        let (sender, answer) = oneshot::channel();
        let waits = Wait {
            nonce: self.random.number(),
            waiting: Arc::clone(&self.waiting),
        };
        lock(&self.waiting).insert(waits.nonce, sender);
        let probe = Probe {
            reply: false,
            ttl_left: 0,
            nonce: waits.nonce,
            cookie,
        };
        let began = self.clock.monotonic();
        datagrams.send(&probe.encode(), to).await?;
        let answered = tokio::time::timeout(PROBE_WAIT, answer).await;
        let Ok(Ok(answered)) = answered else {
            return Ok(None);
        };
        // The way there if the vendor saw it, else the way back.
        let left = Some(answered.probe.ttl_left)
            .filter(|left| *left > 0)
            .or(answered.ttl);
        Ok(Some(Echo {
            round_trip: answered.at.saturating_sub(began),
            hops: left.and_then(|left| DATAGRAM_TTL.checked_sub(left)),
            lost: 0,
        }))
    }

    /// The socket for addresses like `to`.
    async fn socket(&self, to: SocketAddr) -> io::Result<Arc<dyn Datagrams>> {
        let mut sockets = self.sockets.lock().await;
        let (slot, local) = if to.is_ipv4() {
            (&mut sockets[0], "0.0.0.0:0")
        } else {
            (&mut sockets[1], "[::]:0")
        };
        if slot.as_ref().is_some_and(|socket| socket.receiving.is_finished()) {
            *slot = None;
        }
        let socket = match slot {
            Some(socket) => socket,
            None => {
                let datagrams: Arc<dyn Datagrams> = Arc::from(self.network.datagrams(local).await?);
                let receiving = receive(
                    Arc::clone(&datagrams),
                    Arc::clone(&self.waiting),
                    Arc::clone(&self.clock),
                );
                slot.insert(Socket {
                    datagrams,
                    receiving: tokio::spawn(receiving),
                })
            }
        };
        Ok(Arc::clone(&socket.datagrams))
    }

    fn known(&self, vendor: VendorId, address: &str) -> Known {
        let known = self.paths().get(&vendor).cloned();
        known
            .filter(|known| known.address == address)
            .unwrap_or_else(|| Known {
                address: address.to_owned(),
                ..Known::default()
            })
    }

    fn paths(&self) -> MutexGuard<'_, HashMap<VendorId, Known>> {
        lock(&self.paths)
    }
}

/// Takes a probe off the list when nobody waits for it any more.
struct Wait {
    nonce: u64,
    waiting: Waiting,
}

impl Drop for Wait {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.nonce);
    }
}

/// Hands answers to those who wait for them. Whoever sends something else is passed over: a nonce cannot be guessed.
/// Ends when the socket fails; the next probe makes another one.
async fn receive(datagrams: Arc<dyn Datagrams>, waiting: Waiting, clock: Arc<dyn Clock>) {
    let mut bytes = [0; 2 * PROBE_BYTES];
    loop {
        let received = match datagrams.receive(&mut bytes).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "the socket of the probes failed");
                return;
            }
        };
        let at = clock.monotonic();
        let probe = bytes.get(..received.bytes).and_then(Probe::decode);
        let Some(probe) = probe.filter(|probe| probe.reply) else {
            continue;
        };
        if let Some(waits) = lock(&waiting).remove(&probe.nonce) {
            let ttl = received.ttl;
            // Whoever waited may have just given up.
            let _ = waits.send(Answered { at, probe, ttl });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
