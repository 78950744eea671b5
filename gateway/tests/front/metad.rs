//! A metadata service in memory: the model's `decide` on a table, one command at a time. It has no vendors.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::{Mutex, MutexGuard, PoisonError};
use ullage_gateway::admin::{LocalCopies, LocalFatError, LocalFats};
use ullage_gateway::agent_client::{AgentClient, ChunkStream, ReportStream, StoredStream};
use ullage_gateway::metad_client::{Answered, MetadClient};
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Command, Reply};
use ullage_model::decide::decide;
use ullage_model::fat::query;
use ullage_model::fat::rows::{ClassRow, InlineRow};
use ullage_model::ids::{ClusterId, CopyId, DeviceId, Epoch, SessionId, VendorId};
use ullage_model::namespace;
use ullage_model::step::At;
use ullage_model::store::Memory;
use ullage_model::wire::chunk::{ChunkHeader, ChunkRefusal, ReadRequest};
use ullage_model::wire::metad::{
    AllocateRequest, MetadError, OpenSessionReply, OpenSessionRequest, ProvisionalFat, Query, QueryReply,
    RenewSessionReply, RenewSessionRequest, ReportDamagedRequest, ResolveRequest, StatusReply, SubmitReply,
    SubmitRequest,
};

/// Bodies up to this long are inlined; longer ones find no room.
pub const INLINE_BYTES: u64 = 64 * 1024;
const CLUSTER: ClusterId = ClusterId(42);

#[derive(Debug)]
struct Table {
    rows: Memory,
    index: u64,
}

/// The service.
#[derive(Debug)]
pub struct TableInMemory(Mutex<Table>);

impl Default for TableInMemory {
    fn default() -> Self {
        let table = Self(Mutex::new(Table {
            rows: Memory::default(),
            index: 0,
        }));
        let class = |name: &str| ClassRow {
            name: name.to_owned(),
            copies: 1,
            zones: 0,
            device_class: None,
            max_price: None,
            chunk_bytes: ullage_model::limits::CHUNK_BYTES_DEFAULT,
            pieces: 1,
            settings_version: 0,
        };
        let reply = table.decide(&Command::Initialise {
            cluster: CLUSTER,
            classes: vec![class("STANDARD"), class("COLD")],
            inline: InlineRow {
                cap_bytes: INLINE_BYTES,
                budget_bytes: 1 << 30,
                used_bytes: 0,
            },
        });
        assert_eq!(reply, Ok(Reply::Done));
        table
    }
}

impl TableInMemory {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, command: &Command) -> Result<Reply, MetadError> {
        let mut table = self.table();
        table.index += 1;
        let at = At {
            index: table.index,
            cluster_time: query::cluster_time(&table.rows).map_err(unavailable)?,
        };
        let decision = decide(&table.rows, at, command).map_err(unavailable)?;
        table.rows.apply(decision.changes);
        Ok(decision.reply)
    }

    fn submitted(&self, command: &Command) -> Result<SubmitReply, MetadError> {
        let reply = self.decide(command)?;
        Ok(SubmitReply {
            index: self.table().index,
            reply,
        })
    }

    fn opened(&self, request: OpenSessionRequest) -> Result<OpenSessionReply, MetadError> {
        let check = Command::CheckKek {
            kek: request.kek,
            value: request.kek_value,
        };
        let Reply::KekValue(kek_value) = self.decide(&check)? else {
            return Err(unavailable("no check value"));
        };
        let gateway = request.gateway;
        match self.decide(&Command::OpenSession { gateway })? {
            Reply::Session(session) => Ok(OpenSessionReply {
                cluster: CLUSTER,
                epoch: Epoch::default(),
                session,
                kek_value,
            }),
            other => Err(unavailable(format!("{other:?}"))),
        }
    }

    fn known(&self) -> Result<RenewSessionReply, MetadError> {
        let table = self.table();
        Ok(RenewSessionReply {
            cluster_time: query::cluster_time(&table.rows).map_err(unavailable)?,
            index: table.index,
            leases: Vec::new(),
            vendors: Vec::new(),
            classes: query::classes(&table.rows).map_err(unavailable)?,
            inline: query::inline(&table.rows).map_err(unavailable)?,
        })
    }
}

fn unavailable(error: impl ToString) -> MetadError {
    MetadError::Unavailable(error.to_string())
}

fn now<'a, T: Send + 'a>(answer: Result<T, MetadError>) -> Answered<'a, T> {
    std::future::ready(answer).boxed()
}

impl MetadClient for TableInMemory {
    fn open_session(&self, request: OpenSessionRequest) -> Answered<'_, OpenSessionReply> {
        now(self.opened(request))
    }

    fn renew_session(&self, _request: RenewSessionRequest) -> Answered<'_, RenewSessionReply> {
        now(self.known())
    }

    fn allocate(&self, _request: AllocateRequest) -> Answered<'_, ProvisionalFat> {
        now(Err(MetadError::NoRoom("there are no vendors".to_owned())))
    }

    fn submit(&self, request: SubmitRequest) -> Answered<'_, SubmitReply> {
        now(self.submitted(&Command::InSession {
            session: request.session,
            sequence: request.sequence,
            command: request.command,
        }))
    }

    fn resolve(&self, request: ResolveRequest) -> Answered<'_, SubmitReply> {
        now(self.submitted(&Command::Resolve {
            session: request.session,
            sequence: request.sequence,
        }))
    }

    fn query(&self, query: Query) -> Answered<'_, QueryReply> {
        let table = self.table();
        let answer = namespace::query::answer(&table.rows, &query).map_err(unavailable);
        now(answer.map(|answer| QueryReply {
            index: table.index,
            answer,
        }))
    }

    fn report_damaged(&self, _request: ReportDamagedRequest) -> Answered<'_, ()> {
        now(Ok(()))
    }

    fn end_session(&self, session: SessionId) -> Answered<'_, ()> {
        now(self.decide(&Command::EndSession { session }).map(drop))
    }

    fn operate(&self, command: Command) -> Answered<'_, Reply> {
        now(self.decide(&command))
    }

    fn status(&self) -> Answered<'_, StatusReply> {
        now(Ok(StatusReply {
            cluster: CLUSTER,
            epoch: Epoch::default(),
            node: 1,
            leader: Some(1),
            term: 1,
            applied_index: self.table().index,
            cluster_time: ClusterTime(0),
            sessions: 1,
            leases: 0,
            erase_backlog: 0,
            release_backlog: 0,
            issuers: Vec::new(),
        }))
    }
}

/// Nobody stores chunks.
#[derive(Debug)]
pub struct NoAgents;

impl AgentClient for NoAgents {
    fn put_chunk(
        &self,
        to: VendorId,
        _header: ChunkHeader,
        _parts: ChunkStream,
    ) -> BoxFuture<'static, Result<ReportStream, ChunkRefusal>> {
        std::future::ready(Err(ChunkRefusal::Link(to.to_string()))).boxed()
    }

    fn read(
        &self,
        to: VendorId,
        _request: ReadRequest,
    ) -> BoxFuture<'static, Result<StoredStream, ChunkRefusal>> {
        std::future::ready(Err(ChunkRefusal::Link(to.to_string()))).boxed()
    }
}

/// Nobody has a table of its own.
#[derive(Debug)]
pub struct NoLocalFats;

impl LocalFats for NoLocalFats {
    fn copies(
        &self,
        vendor: VendorId,
        _after: Option<CopyId>,
        _limit: usize,
    ) -> BoxFuture<'_, Result<LocalCopies, LocalFatError>> {
        std::future::ready(Err(LocalFatError::Unreachable(vendor))).boxed()
    }

    fn device_paths(&self, _vendor: VendorId) -> Vec<(DeviceId, String)> {
        Vec::new()
    }
}
