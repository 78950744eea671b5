//! What a node does with a call that only the leader answers: does it, if it leads; else passes it on, once, and
//! tells apart what surely was not done from what may have been.

use super::caller::Acting;
use super::{FORWARD_LANE, State};
use crate::service::Metad;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use ullage_model::codec::Versioned;
use ullage_model::wire::metad::MetadError;
use ullage_model::wire::routes::{DEADLINE_MS, FORWARDED_FOR};
use ullage_transport::client::{CallError, Target};
use ullage_transport::identity::{Expect, Identity};

/// How long a leader that was replaced has to answer what it was passed before.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a call is answered.
pub(super) type Answer<Resp> = BoxFuture<'static, Result<Resp, MetadError>>;

impl State {
    /// Has the leader answer a call: this node by `handler`, or another one. Counts the answer.
    pub(super) async fn by_leader<Req, Resp>(
        self,
        path: &'static str,
        acting: Result<Acting, MetadError>,
        request: Req,
        handler: fn(Arc<Metad>, Acting, Req) -> Answer<Resp>,
    ) -> Result<Resp, MetadError>
    where
        Req: Versioned + Clone,
        Resp: Versioned,
    {
        let answer = match acting {
            Ok(acting) => {
                let work = self.led(path, acting, request, handler);
                let worked = tokio::time::timeout(acting.within, work).await;
                worked.unwrap_or_else(|_| Err(MetadError::Unknown("no answer in time".to_owned())))
            }
            Err(refused) => Err(refused),
        };
        self.metrics.answered(path, &answer);
        answer
    }

    async fn led<Req, Resp>(
        &self,
        path: &'static str,
        acting: Acting,
        request: Req,
        handler: fn(Arc<Metad>, Acting, Req) -> Answer<Resp>,
    ) -> Result<Resp, MetadError>
    where
        Req: Versioned + Clone,
        Resp: Versioned,
    {
        let deadline = Instant::now() + acting.within;
        if self.metad.group.term_led().is_some() {
            let answer = handler(Arc::clone(&self.metad), acting, request.clone()).await;
            // Not done here; it was another's already.
            if !matches!(answer, Err(MetadError::NotLeader { .. })) {
                return answer;
            }
        }
        let leader = self.metad.leader_elsewhere();
        match leader {
            None => Err(MetadError::Unavailable("no leader is known".to_owned())),
            Some((_, address)) if acting.forwarded => Err(MetadError::NotLeader {
                leader: Some(address),
            }),
            Some((node, address)) => {
                let target = Target {
                    address,
                    expect: Expect::Exactly(Identity::Metad(node)),
                    lane: FORWARD_LANE,
                };
                let forward = self.forward(&target, path, acting, &request, deadline);
                self.unless_replaced(node, forward).await
            }
        }
    }

    /// What `forward` answers, unless another node than `leader` leads meanwhile: then the old one has a moment
    /// left to answer, and whoever asked need not wait for a node that is gone.
    async fn unless_replaced<Resp>(
        &self,
        leader: u64,
        forward: impl Future<Output = Result<Resp, MetadError>>,
    ) -> Result<Resp, MetadError> {
        let mut forward = std::pin::pin!(forward);
        let mut elections = self.metad.group.watch_leadership();
        let replaced = elections.wait_for(|now| now.leader.as_ref().is_some_and(|(node, _)| *node != leader));
        tokio::select! {
            answer = forward.as_mut() => return answer,
            Ok(_) = replaced => {}
        }
        let late = tokio::time::timeout(LAST_WORDS, forward).await;
        late.unwrap_or_else(|_| Err(MetadError::Unknown("another node leads now".to_owned())))
    }

    async fn forward<Req, Resp>(
        &self,
        target: &Target,
        path: &'static str,
        acting: Acting,
        request: &Req,
        deadline: Instant,
    ) -> Result<Resp, MetadError>
    where
        Req: Versioned,
        Resp: Versioned,
    {
        let Some(client) = self.metad.client() else {
            return Err(MetadError::Unavailable(
                "other nodes cannot be reached from here".to_owned(),
            ));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let headers = headers(acting, left.as_millis());
        self.metrics.forwarded.inc();
        let answer = client.call_with(target, path, headers, request, left).await;
        answer.map_err(|error| match error {
            CallError::Application(error) => error,
            // Whoever asks may reach it all the same.
            CallError::NotSent { .. } => MetadError::NotLeader {
                leader: Some(target.address.clone()),
            },
            CallError::Status { status, .. } if status != 503 && status >= 500 => {
                MetadError::Unknown(error.to_string())
            }
            CallError::Status { .. } => MetadError::Unavailable(error.to_string()),
            CallError::Unknown { .. } => MetadError::Unknown(error.to_string()),
        })
    }
}

fn headers(acting: Acting, left_ms: u128) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Both are plain ASCII.
    if let Ok(named) = HeaderValue::from_str(&acting.named()) {
        headers.insert(HeaderName::from_static(FORWARDED_FOR), named);
    }
    if let Ok(left) = HeaderValue::from_str(&left_ms.to_string()) {
        headers.insert(HeaderName::from_static(DEADLINE_MS), left);
    }
    headers
}
