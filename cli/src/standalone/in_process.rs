//! Calls between the services of one process: the same traits that connections implement in a cluster,
//! without the connection.

use futures::FutureExt;
use futures::future::BoxFuture;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use ullage_gateway::admin::{LocalCopies, LocalCopy, LocalFatError, LocalFats};
use ullage_gateway::agent_client::{AgentClient, ChunkStream, ReportStream, StoredStream};
use ullage_gateway::metad_client::{Answered, MetadClient};
use ullage_metad::service::Metad;
use ullage_model::command::{Command, Reply};
use ullage_model::ids::{CopyId, DeviceId, SessionId, VendorId};
use ullage_model::rejection::Rejection;
use ullage_model::wire::agent::{
    Heartbeat, HeartbeatReply, JudgeReply, JudgeRequest, RegisterReply, RegisterRequest,
};
use ullage_model::wire::chunk::{ChunkHeader, ChunkRefusal, HopReport, ReadRequest};
use ullage_model::wire::enrol::{InviteReply, InviteRequest};
use ullage_model::wire::members::{MembersReply, MembersRequest};
use ullage_model::wire::metad::{
    AllocateRequest, MetadError, OpenSessionReply, OpenSessionRequest, ProvisionalFat, Query, QueryReply,
    RenewSessionReply, RenewSessionRequest, ReportDamagedRequest, ResolveRequest, StatusReply, SubmitReply,
    SubmitRequest,
};
use ullage_vendor_agent::{self as agent, Agent, ChunkParts, HopReports, PeerSender};

/// The metadata service, called directly.
#[derive(Clone, Debug)]
pub struct DirectMetad(pub Arc<Metad>);

impl MetadClient for DirectMetad {
    fn open_session(&self, request: OpenSessionRequest) -> Answered<'_, OpenSessionReply> {
        self.0.open_session(request).boxed()
    }

    fn renew_session(&self, request: RenewSessionRequest) -> Answered<'_, RenewSessionReply> {
        self.0.renew_session(request).boxed()
    }

    fn allocate(&self, request: AllocateRequest) -> Answered<'_, ProvisionalFat> {
        self.0.allocate(request).boxed()
    }

    fn submit(&self, request: SubmitRequest) -> Answered<'_, SubmitReply> {
        self.0.submit(request).boxed()
    }

    fn resolve(&self, request: ResolveRequest) -> Answered<'_, SubmitReply> {
        self.0.resolve(request).boxed()
    }

    fn query(&self, query: Query) -> Answered<'_, QueryReply> {
        self.0.query(query).boxed()
    }

    fn report_damaged(&self, request: ReportDamagedRequest) -> Answered<'_, ()> {
        self.0.report_damaged(request).boxed()
    }

    fn end_session(&self, session: SessionId) -> Answered<'_, ()> {
        self.0.end_session(session).boxed()
    }

    fn operate(&self, command: Command) -> Answered<'_, Reply> {
        self.0.operate(command).boxed()
    }

    fn status(&self) -> Answered<'_, StatusReply> {
        std::future::ready(self.0.status()).boxed()
    }

    fn members(&self, _request: MembersRequest) -> Answered<'_, MembersReply> {
        std::future::ready(Err(alone())).boxed()
    }

    fn invite(&self, _request: InviteRequest) -> Answered<'_, InviteReply> {
        std::future::ready(Err(alone())).boxed()
    }
}

/// What there is in a cluster only.
fn alone() -> MetadError {
    MetadError::Refused(Rejection::Invalid(
        "this is a standalone store: its one metadata node and its vendors are what it was started with"
            .to_owned(),
    ))
}

fn for_agent(error: MetadError) -> agent::MetadError {
    match error {
        MetadError::Refused(rejection) => agent::MetadError::Refused(rejection.to_string()),
        other => agent::MetadError::Unavailable(other.to_string()),
    }
}

impl agent::MetadClient for DirectMetad {
    fn register(&self, request: RegisterRequest) -> BoxFuture<'_, Result<RegisterReply, agent::MetadError>> {
        self.0
            .register(request)
            .map(|answer| answer.map_err(for_agent))
            .boxed()
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> BoxFuture<'_, Result<HeartbeatReply, agent::MetadError>> {
        self.0
            .heartbeat(heartbeat)
            .map(|answer| answer.map_err(for_agent))
            .boxed()
    }

    fn judge(&self, request: JudgeRequest) -> BoxFuture<'_, Result<JudgeReply, agent::MetadError>> {
        self.0
            .judge(request)
            .map(|answer| answer.map_err(for_agent))
            .boxed()
    }
}

/// The agents of this process, called directly. Filled once all are open; before, nobody is reached.
#[derive(Clone, Default)]
pub struct DirectAgents(Arc<RwLock<Arc<[Arc<Agent>]>>>);

impl fmt::Debug for DirectAgents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirectAgents").field(&self.all().len()).finish()
    }
}

impl DirectAgents {
    /// Sets the agents; answers those there were.
    pub fn set(&self, agents: Vec<Arc<Agent>>) -> Arc<[Arc<Agent>]> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *all, agents.into())
    }

    /// All agents.
    pub fn all(&self) -> Arc<[Arc<Agent>]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn agent(&self, vendor: VendorId) -> Result<Arc<Agent>, ChunkRefusal> {
        let all = self.all();
        let found = all.iter().find(|agent| agent.vendor() == Some(vendor));
        found
            .cloned()
            .ok_or_else(|| ChunkRefusal::Link(format!("{vendor} is not in this process")))
    }
}

impl LocalFats for DirectAgents {
    fn copies(
        &self,
        vendor: VendorId,
        after: Option<CopyId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<LocalCopies, LocalFatError>> {
        let agent = self.agent(vendor).map_err(|_| LocalFatError::Unreachable(vendor));
        async move {
            let listed = agent?.list_copies(after, limit).await;
            let listed = listed.map_err(|error| LocalFatError::Failed(error.to_string()))?;
            let next = listed
                .last()
                .filter(|_| listed.len() == limit)
                .map(|last| last.copy);
            let copies = listed
                .into_iter()
                .filter(|copy| !copy.erased)
                .map(|copy| LocalCopy {
                    copy: copy.copy,
                    plaintext_bytes: copy.plaintext_bytes,
                    devices: copy.pieces.iter().map(|piece| piece.device).collect(),
                    complete: copy.complete,
                });
            Ok(LocalCopies {
                copies: copies.collect(),
                next,
            })
        }
        .boxed()
    }

    fn device_paths(&self, vendor: VendorId) -> BoxFuture<'_, Vec<(DeviceId, String)>> {
        let paths = self
            .agent(vendor)
            .map(|agent| agent.device_paths())
            .unwrap_or_default();
        let paths = paths
            .into_iter()
            .map(|(device, path)| (device, path.display().to_string()));
        std::future::ready(paths.collect()).boxed()
    }
}

impl AgentClient for DirectAgents {
    fn put_chunk(
        &self,
        to: VendorId,
        header: ChunkHeader,
        parts: ChunkStream,
    ) -> BoxFuture<'static, Result<ReportStream, ChunkRefusal>> {
        let agent = self.agent(to);
        async move { Ok(agent?.put_chunk(header, parts).await) }.boxed()
    }

    fn read(
        &self,
        to: VendorId,
        request: ReadRequest,
    ) -> BoxFuture<'static, Result<StoredStream, ChunkRefusal>> {
        let agent = self.agent(to);
        async move { agent?.read(request).await }.boxed()
    }
}

impl PeerSender for DirectAgents {
    fn put_chunk(
        &self,
        vendor: VendorId,
        header: ChunkHeader,
        parts: ChunkParts,
    ) -> BoxFuture<'_, HopReports> {
        async move {
            match self.agent(vendor) {
                Ok(agent) => agent.put_chunk(header, parts).await,
                Err(refusal) => {
                    let failed = HopReport::Failed {
                        vendor,
                        from: None,
                        refusal,
                    };
                    Box::pin(futures::stream::iter([failed])) as HopReports
                }
            }
        }
        .boxed()
    }
}
