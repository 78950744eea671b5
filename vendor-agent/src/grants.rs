//! Grants: whether one is good now, here, for this session. Verified signatures are remembered, bounded.

use crate::seams::MonotonicClock;
use crate::sync::{Shared, lock};
use ed25519_dalek::{Signature, VerifyingKey};
use std::collections::HashMap;
use std::sync::Arc;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec;
use ullage_model::ids::{ClusterId, Epoch, SessionId, VendorId};
use ullage_model::wire::chunk::{ChunkRefusal, GRANT_CONTEXT, Grant, GrantBody, PublicKey};

/// Verified grants remembered.
const VERIFIED_MAX: usize = 4096;
/// How far cluster time is extrapolated past the last reply, in ms (design: agents stand still after it).
const EXTRAPOLATED_MS: u64 = 10_000;

/// Cluster time as this agent knows it.
pub struct ClusterClock {
    clock: Arc<dyn MonotonicClock>,
    /// Cluster time of the last reply, and the monotonic time of its arrival.
    last: Shared<(ClusterTime, u64)>,
}

impl ClusterClock {
    /// A clock that stands at 0 until the first reply.
    #[must_use]
    pub fn new(clock: Arc<dyn MonotonicClock>) -> Self {
        Self {
            clock,
            last: Shared::default(),
        }
    }

    /// Learns cluster time from a reply. It never goes back.
    pub fn learn(&self, time: ClusterTime) {
        let now = self.now();
        let mut last = lock(&self.last);
        *last = (time.max(now), self.clock.now_ms());
    }

    /// Cluster time now: extrapolated for a while past the last reply, then standing still.
    #[must_use]
    pub fn now(&self) -> ClusterTime {
        let (time, at) = *lock(&self.last);
        if time == ClusterTime::default() {
            return time;
        }
        time.plus(self.clock.now_ms().saturating_sub(at).min(EXTRAPOLATED_MS))
    }
}

/// What a grant is checked against.
#[derive(Clone, Copy, Debug)]
pub struct GrantContext {
    /// This cluster.
    pub cluster: ClusterId,
    /// This vendor.
    pub vendor: VendorId,
    /// The newest epoch known.
    pub epoch: Epoch,
    /// Cluster time now.
    pub now: ClusterTime,
    /// Who uses it.
    pub session: SessionId,
}

/// Checks grants.
#[derive(Default)]
pub struct Grants {
    issuers: Shared<Vec<PublicKey>>,
    verified: Shared<HashMap<[u8; 64], (Grant, GrantBody)>>,
}

impl Grants {
    /// Replaces the keys whose grants are good.
    pub fn set_issuers(&self, issuers: Vec<PublicKey>) {
        *lock(&self.issuers) = issuers;
    }

    /// The body of `grant`, if it is good in `context`.
    ///
    /// # Errors
    /// `ChunkRefusal::Grant` with the reason.
    pub fn check(&self, grant: &Grant, context: &GrantContext) -> Result<GrantBody, ChunkRefusal> {
        let refuse = |reason: String| Err(ChunkRefusal::Grant(reason));
        if !lock(&self.issuers).contains(&grant.issuer) {
            return refuse("its issuer is not known".to_owned());
        }
        let body = self.verify(grant)?;
        if body.cluster != context.cluster {
            return refuse(format!("it is for cluster {}", body.cluster));
        }
        if body.vendor != context.vendor {
            return refuse(format!("it is made out to {}", body.vendor));
        }
        if body.epoch < context.epoch {
            return refuse(format!(
                "it is of epoch {}, now is {}",
                body.epoch.0, context.epoch.0
            ));
        }
        if body.session != context.session {
            return refuse(format!("it is for {}", body.session));
        }
        if body.deadline < context.now {
            return refuse(format!("it ended at {}, now is {}", body.deadline, context.now));
        }
        Ok(body)
    }

    fn verify(&self, grant: &Grant) -> Result<GrantBody, ChunkRefusal> {
        let refuse = |reason: &str| ChunkRefusal::Grant(reason.to_owned());
        let signature: [u8; 64] = grant
            .signature
            .0
            .as_ref()
            .try_into()
            .map_err(|_| refuse("its signature is not 64 bytes"))?;
        if let Some((known, body)) = lock(&self.verified).get(&signature)
            && known == grant
        {
            return Ok(body.clone());
        }
        let key = VerifyingKey::from_bytes(&grant.issuer.0).map_err(|_| refuse("its issuer is not a key"))?;
        let message = [GRANT_CONTEXT, &grant.body].concat();
        key.verify_strict(&message, &Signature::from_bytes(&signature))
            .map_err(|_| refuse("its signature is not its issuer's"))?;
        let body: GrantBody =
            codec::decode(&grant.body).map_err(|error| ChunkRefusal::Grant(error.to_string()))?;
        let mut verified = lock(&self.verified);
        if verified.len() >= VERIFIED_MAX {
            // Any half will do: a grant in use is verified once more.
            let mut turn = false;
            verified.retain(|_, _| {
                turn = !turn;
                turn
            });
        }
        verified.insert(signature, (grant.clone(), body.clone()));
        Ok(body)
    }
}
