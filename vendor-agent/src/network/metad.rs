//! The metadata service over the network: whichever node answers. Which is asked, and when again, is the pure
//! policy of `ullage_model::wire::leader`.

use crate::seams::{MetadClient, MetadError};
use crate::sync::{Shared, lock};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use ullage_model::codec::Versioned;
use ullage_model::wire::agent::{
    Heartbeat, HeartbeatReply, JudgeReply, JudgeRequest, RegisterReply, RegisterRequest,
};
use ullage_model::wire::leader::{Addresses, Attempts, Failure, Next, Repeat};
use ullage_model::wire::members::{Member, MembersReply};
use ullage_model::wire::{metad, routes};
use ullage_transport::client::{CallError, Client, Target};
use ullage_transport::identity::Expect;

/// How long a call may take with all its attempts; a little less than the agent waits.
const PATIENCE: Duration = Duration::from_secs(9);
/// Connections for these calls are shared with nothing else.
const LANE: u8 = 1;

/// The metadata service over the network.
pub struct NetworkMetad {
    client: Client,
    addresses: Shared<Addresses>,
    /// State of the generator that spreads pauses.
    random: AtomicU64,
}

impl NetworkMetad {
    /// The service at any of `addresses`; `random` differs from agent to agent.
    #[must_use]
    pub fn new(client: Client, addresses: Vec<String>, random: u64) -> Self {
        Self {
            client,
            addresses: Shared::new(Addresses::new(addresses)),
            random: AtomicU64::new(random),
        }
    }

    /// The addresses known now.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        lock(&self.addresses).known().to_vec()
    }

    /// Calls the route `path`.
    ///
    /// # Errors
    /// The service's own word, or why no answer came.
    pub(crate) async fn call<Req, Resp>(
        &self,
        path: &str,
        request: &Req,
        patience: Duration,
    ) -> Result<Resp, metad::MetadError>
    where
        Req: Versioned,
        Resp: Versioned,
    {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let mut attempts = Attempts::new(Repeat::of(path), patience_ms);
        let begun = Instant::now();
        let mut next = attempts.first(&lock(&self.addresses));
        loop {
            let (address, after_ms, within_ms) = match next {
                Next::Call {
                    address,
                    after_ms,
                    within_ms,
                } => (address, after_ms, within_ms),
                Next::GiveUp(error) => return Err(error),
            };
            if after_ms > 0 {
                sleep(Duration::from_millis(after_ms)).await;
            }
            let target = Target {
                address: address.clone(),
                expect: Expect::AnyMetad,
                lane: LANE,
            };
            let within = Duration::from_millis(within_ms);
            let failure = match self.client.call(&target, path, request, within).await {
                Ok(answer) => {
                    lock(&self.addresses).answered(&address);
                    return Ok(answer);
                }
                Err(error) => failure(error)?,
            };
            tracing::debug!(address, path, ?failure, "a metadata node did not answer");
            let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let random = self.next_random();
            let mut addresses = lock(&self.addresses);
            next = attempts.failed(&mut addresses, &address, failure, elapsed_ms, random);
        }
    }

    /// splitmix64 (Steele, Lea, Flood 2014): good enough to spread pauses.
    fn next_random(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What `error` is to the policy.
///
/// # Errors
/// The service's own word.
fn failure(error: CallError<metad::MetadError>) -> Result<Failure, metad::MetadError> {
    match error {
        CallError::NotSent { address, reason } => Ok(Failure::NotSent(format!("{address}: {reason}"))),
        CallError::Unknown { address, reason } => Ok(Failure::Unknown(format!("{address}: {reason}"))),
        CallError::Status { status, text, .. } => Ok(Failure::Status(status, text)),
        CallError::Application(word) => Failure::of(word),
    }
}

fn for_agent(error: metad::MetadError) -> MetadError {
    match error {
        metad::MetadError::Refused(rejection) => MetadError::Refused(rejection.to_string()),
        other => MetadError::Unavailable(other.to_string()),
    }
}

impl MetadClient for NetworkMetad {
    fn register(&self, request: RegisterRequest) -> BoxFuture<'_, Result<RegisterReply, MetadError>> {
        async move {
            let called = self.call(routes::REGISTER, &request, PATIENCE).await;
            called.map_err(for_agent)
        }
        .boxed()
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'_, Result<HeartbeatReply, MetadError>> {
        async move {
            let called = self.call(routes::HEARTBEAT, &heartbeat, PATIENCE).await;
            called.map_err(for_agent)
        }
        .boxed()
    }

    fn judge(&self, request: JudgeRequest) -> BoxFuture<'_, Result<JudgeReply, MetadError>> {
        async move {
            let called = self.call(routes::JUDGE, &request, PATIENCE).await;
            called.map_err(for_agent)
        }
        .boxed()
    }

    fn learn(&self, addresses: &[String]) {
        if addresses.is_empty() {
            return;
        }
        let member = |address: &String| Member {
            node: 0,
            address: address.clone(),
            voter: true,
            leads: false,
            matched_index: None,
            silent_ms: None,
            issuer: None,
        };
        lock(&self.addresses).learn(&MembersReply {
            members: addresses.iter().map(member).collect(),
            joint: false,
        });
    }
}
