//! The metadata service over the network: any node may be asked; the one that answered is asked first next time,
//! and another one soon when it does not answer. What may be repeated and when is `ullage_model::wire::leader`.

use super::LANE_CALLS;
use super::together::{Bounds, Together};
use crate::environment::{Clock, Randomness};
use crate::limits::{MEMBERS_EVERY, METAD_PATIENCE, METAD_PATIENCE_ALLOCATE, METAD_PATIENCE_MEMBERS};
use crate::metad_client::{Answered, MetadClient};
use bytes::Bytes;
use futures::FutureExt as _;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use ullage_model::codec::{self, Versioned};
use ullage_model::command::{Command, Reply};
use ullage_model::ids::SessionId;
use ullage_model::limits::{COMMANDS_TOGETHER, COMMANDS_TOGETHER_BYTES, QUERIES_TOGETHER};
use ullage_model::wire::enrol::{InviteReply, InviteRequest};
use ullage_model::wire::leader::{Addresses, Attempts, Failure, Next, Repeat};
use ullage_model::wire::members::{MembersReply, MembersRequest};
use ullage_model::wire::metad::{
    AllocateRequest, Done, EndSessionRequest, MetadError, OpenSessionReply, OpenSessionRequest,
    ProvisionalFat, Query, QueryManyReply, QueryManyRequest, QueryReply, RenewSessionReply,
    RenewSessionRequest, ReportDamagedRequest, ResolveRequest, StatusReply, SubmitManyReply,
    SubmitManyRequest, SubmitReply, SubmitRequest, Submitted,
};
use ullage_model::wire::routes;
use ullage_transport::client::{CallError, Client, Target};
use ullage_transport::identity::Expect;

/// Calls to the metadata service.
pub struct NetworkMetad {
    nodes: Arc<Nodes>,
    commands: Arc<Together<Bytes, SubmitReply>>,
    questions: Arc<Together<Query, QueryReply>>,
}

/// Its nodes.
struct Nodes {
    client: Client,
    addresses: Mutex<Addresses>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Randomness>,
}

impl fmt::Debug for NetworkMetad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NetworkMetad")
            .field(&self.nodes.addresses().known())
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
        let nodes = Nodes {
            client,
            addresses: Mutex::new(Addresses::new(addresses)),
            clock,
            random,
        };
        Self {
            nodes: Arc::new(nodes),
            commands: Together::new(Bounds {
                calls: COMMANDS_TOGETHER,
                bytes: COMMANDS_TOGETHER_BYTES,
            }),
            questions: Together::new(Bounds {
                calls: QUERIES_TOGETHER,
                bytes: usize::MAX,
            }),
        }
    }

    /// Learns the addresses of the members every now and then, so that a group all of whose nodes were replaced, one
    /// after the other, is still found. Never ends.
    pub async fn follow_members(&self) {
        loop {
            let jitter = self.nodes.random.number() % (millis(MEMBERS_EVERY) / 4);
            tokio::time::sleep(MEMBERS_EVERY + Duration::from_millis(jitter)).await;
            if let Err(error) = self.members(MembersRequest::List).await {
                tracing::debug!(%error, "the metadata service does not tell its members");
            }
        }
    }

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
        self.nodes.ask(path, request, patience).await
    }
}

impl Nodes {
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

impl Nodes {
    /// Follows the word of a node that passed a call on.
    fn learn_leader(&self, leader: Option<&String>) {
        if let Some(leader) = leader {
            self.addresses().passed_on_to(leader);
        }
    }

    /// A command that is too long to travel with others.
    async fn submit(&self, request: &SubmitRequest) -> Result<SubmitReply, MetadError> {
        let reply: SubmitReply = self.ask(routes::SUBMIT, request, METAD_PATIENCE).await?;
        self.learn_leader(reply.leader.as_ref());
        Ok(reply)
    }

    async fn submit_many(&self, commands: Vec<Bytes>) -> Vec<Result<SubmitReply, MetadError>> {
        let count = commands.len();
        let request = SubmitManyRequest { commands };
        let asked = self.ask::<_, SubmitManyReply>(routes::SUBMIT_MANY, &request, METAD_PATIENCE);
        let reply = match asked.await {
            Ok(reply) => reply,
            Err(error) => return vec![Err(error); count],
        };
        self.learn_leader(reply.leader.as_ref());
        let answer = |answer: Result<Submitted, MetadError>| {
            let Submitted { index, reply } = answer?;
            // It is decided: whatever is wrong with the answer, nobody may take it for refused.
            let reply = codec::decode(&reply).map_err(|error| MetadError::Unknown(error.to_string()))?;
            Ok(SubmitReply {
                index,
                reply,
                leader: None,
            })
        };
        reply.answers.into_iter().map(answer).collect()
    }

    async fn query_many(&self, queries: Vec<Query>) -> Vec<Result<QueryReply, MetadError>> {
        let count = queries.len();
        let request = QueryManyRequest { queries };
        let asked = self.ask::<_, QueryManyReply>(routes::QUERY_MANY, &request, METAD_PATIENCE);
        match asked.await {
            Ok(QueryManyReply { index, answers }) => {
                let reply = |answer| {
                    Ok(QueryReply {
                        index,
                        answer: answer?,
                    })
                };
                answers.into_iter().map(reply).collect()
            }
            Err(error) => vec![Err(error); count],
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
        async move {
            let SubmitRequest {
                session,
                sequence,
                command,
            } = request;
            let command = Command::InSession {
                session,
                sequence,
                command,
            };
            let bytes = codec::encode(&command);
            if bytes.len() > COMMANDS_TOGETHER_BYTES
                && let Command::InSession {
                    session,
                    sequence,
                    command,
                } = command
            {
                let request = SubmitRequest {
                    session,
                    sequence,
                    command,
                };
                return self.nodes.submit(&request).await;
            }
            let nodes = Arc::clone(&self.nodes);
            let send = move |commands| {
                let nodes = Arc::clone(&nodes);
                async move { nodes.submit_many(commands).await }
            };
            let length = bytes.len();
            self.commands.call(bytes, length, METAD_PATIENCE, send).await
        }
        .boxed()
    }

    fn resolve(&self, request: ResolveRequest) -> Answered<'_, SubmitReply> {
        async move {
            let reply: SubmitReply = self.ask(routes::RESOLVE, &request, METAD_PATIENCE).await?;
            self.nodes.learn_leader(reply.leader.as_ref());
            Ok(reply)
        }
        .boxed()
    }

    fn query(&self, query: Query) -> Answered<'_, QueryReply> {
        async move {
            if query.reads_many_rows() {
                return self.ask(routes::QUERY, &query, METAD_PATIENCE).await;
            }
            let nodes = Arc::clone(&self.nodes);
            let send = move |queries| {
                let nodes = Arc::clone(&nodes);
                async move { nodes.query_many(queries).await }
            };
            self.questions.call(query, 0, METAD_PATIENCE, send).await
        }
        .boxed()
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
            self.nodes.addresses().learn(&members);
            Ok(members)
        }
        .boxed()
    }

    fn invite(&self, request: InviteRequest) -> Answered<'_, InviteReply> {
        async move { self.ask(routes::INVITE, &request, METAD_PATIENCE).await }.boxed()
    }
}
