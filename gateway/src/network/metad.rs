//! The metadata service over the network: any node may be asked; the one that answered is asked first next time,
//! and another one soon when it does not answer. What may be repeated and when is `ullage_model::wire::leader`.

use super::LANE_CALLS;
use crate::environment::{Clock, Randomness};
use crate::limits::{MEMBERS_EVERY, METAD_PATIENCE, METAD_PATIENCE_ALLOCATE, METAD_PATIENCE_MEMBERS};
use crate::metad_client::{Answered, MetadClient};
use futures::FutureExt as _;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use ullage_model::codec::Versioned;
use ullage_model::command::{Command, Reply};
use ullage_model::ids::SessionId;
use ullage_model::wire::enrol::{InviteReply, InviteRequest};
use ullage_model::wire::leader::{Addresses, Attempts, Failure, Next, Repeat};
use ullage_model::wire::members::{MembersReply, MembersRequest};
use ullage_model::wire::metad::{
    AllocateRequest, Done, EndSessionRequest, MetadError, OpenSessionReply, OpenSessionRequest,
    ProvisionalFat, Query, QueryReply, RenewSessionReply, RenewSessionRequest, ReportDamagedRequest,
    ResolveRequest, StatusReply, SubmitReply, SubmitRequest,
};
use ullage_model::wire::routes;
use ullage_transport::client::{CallError, Client, Target};
use ullage_transport::identity::Expect;

/// Calls to the metadata service.
pub struct NetworkMetad {
    client: Client,
    addresses: Mutex<Addresses>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
}

impl fmt::Debug for NetworkMetad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NetworkMetad")
            .field(&self.addresses().known())
            .finish()
    }
}

impl NetworkMetad {
    /// Calls to the nodes at `addresses` (`host:port`), and to those that the membership names later.
    #[must_use]
    pub fn new(
        client: Client,
        addresses: Vec<String>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Randomness>,
    ) -> Self {
        Self {
            client,
            addresses: Mutex::new(Addresses::new(addresses)),
            clock,
            random,
        }
    }

    /// Learns the addresses of the members every now and then, so that a group all of whose nodes were replaced, one
    /// after the other, is still found. Never ends.
    pub async fn follow_members(&self) {
        loop {
            let jitter = self.random.number() % (millis(MEMBERS_EVERY) / 4);
            tokio::time::sleep(MEMBERS_EVERY + Duration::from_millis(jitter)).await;
            if let Err(error) = self.members(MembersRequest::List).await {
                tracing::debug!(%error, "the metadata service does not tell its members");
            }
        }
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks one node after the other, as the policy says.
    async fn ask<Req, Resp>(
        &self,
        path: &'static str,
        request: &Req,
        patience: Duration,
    ) -> Result<Resp, MetadError>
    where
        Req: Versioned + Sync,
        Resp: Versioned,
    {
        let began = self.clock.monotonic();
        let mut attempts = Attempts::new(Repeat::of(path), millis(patience));
        let mut next = attempts.first(&self.addresses());
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
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
            }
            let target = Target {
                address,
                expect: Expect::AnyMetad,
                lane: LANE_CALLS,
            };
            let within = Duration::from_millis(within_ms);
            let called = self.client.call(&target, path, request, within).await;
            let failure = match called {
                Ok(answer) => {
                    self.addresses().answered(&target.address);
                    return Ok(answer);
                }
                Err(error) => match failure_of(error) {
                    Ok(failure) => failure,
                    Err(word) => {
                        self.addresses().answered(&target.address);
                        return Err(word);
                    }
                },
            };
            let elapsed = millis(self.clock.monotonic().saturating_sub(began));
            let random = self.random.number();
            tracing::debug!(
                path,
                address = target.address,
                ?failure,
                "a metadata node did not answer"
            );
            next = attempts.failed(&mut self.addresses(), &target.address, failure, elapsed, random);
        }
    }
}

/// Why a call brought no answer; an error that is the service's own word is given back.
fn failure_of(error: CallError<MetadError>) -> Result<Failure, MetadError> {
    match error {
        CallError::NotSent { reason, .. } => Ok(Failure::NotSent(reason)),
        CallError::Unknown { reason, .. } => Ok(Failure::Unknown(reason)),
        CallError::Status { status, text, .. } => Ok(Failure::Status(status, text)),
        CallError::Application(error) => Failure::of(error),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl MetadClient for NetworkMetad {
    fn open_session(&self, request: OpenSessionRequest) -> Answered<'_, OpenSessionReply> {
        async move { self.ask(routes::SESSION_OPEN, &request, METAD_PATIENCE).await }.boxed()
    }

    fn renew_session(&self, request: RenewSessionRequest) -> Answered<'_, RenewSessionReply> {
        async move { self.ask(routes::SESSION_RENEW, &request, METAD_PATIENCE).await }.boxed()
    }

    fn allocate(&self, request: AllocateRequest) -> Answered<'_, ProvisionalFat> {
        async move {
            self.ask(routes::ALLOCATE, &request, METAD_PATIENCE_ALLOCATE)
                .await
        }
        .boxed()
    }

    fn submit(&self, request: SubmitRequest) -> Answered<'_, SubmitReply> {
        async move { self.ask(routes::SUBMIT, &request, METAD_PATIENCE).await }.boxed()
    }

    fn resolve(&self, request: ResolveRequest) -> Answered<'_, SubmitReply> {
        async move { self.ask(routes::RESOLVE, &request, METAD_PATIENCE).await }.boxed()
    }

    fn query(&self, query: Query) -> Answered<'_, QueryReply> {
        async move { self.ask(routes::QUERY, &query, METAD_PATIENCE).await }.boxed()
    }

    fn report_damaged(&self, request: ReportDamagedRequest) -> Answered<'_, ()> {
        async move {
            let Done = self.ask(routes::REPORT_DAMAGED, &request, METAD_PATIENCE).await?;
            Ok(())
        }
        .boxed()
    }

    fn end_session(&self, session: SessionId) -> Answered<'_, ()> {
        async move {
            let request = EndSessionRequest { session };
            let Done = self.ask(routes::SESSION_END, &request, METAD_PATIENCE).await?;
            Ok(())
        }
        .boxed()
    }

    fn operate(&self, command: Command) -> Answered<'_, Reply> {
        async move { self.ask(routes::OPERATE, &command, METAD_PATIENCE).await }.boxed()
    }

    fn status(&self) -> Answered<'_, StatusReply> {
        async move { self.ask(routes::STATUS, &Done, METAD_PATIENCE).await }.boxed()
    }

    fn members(&self, request: MembersRequest) -> Answered<'_, MembersReply> {
        async move {
            // A member that is added must catch up first.
            let patience = match request {
                MembersRequest::List => METAD_PATIENCE,
                _ => METAD_PATIENCE_MEMBERS,
            };
            let members: MembersReply = self.ask(routes::MEMBERS, &request, patience).await?;
            self.addresses().learn(&members);
            Ok(members)
        }
        .boxed()
    }

    fn invite(&self, request: InviteRequest) -> Answered<'_, InviteReply> {
        async move { self.ask(routes::INVITE, &request, METAD_PATIENCE).await }.boxed()
    }
}
