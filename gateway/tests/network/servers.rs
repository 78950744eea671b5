//! The metadata service and the vendors of the data path's tests behind real servers: mutual TLS, HTTP/2, datagrams.

use crate::agents::{Agents, Reached};
use crate::metad::Metad;
use futures::{StreamExt as _, stream};
use http::StatusCode;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio_util::sync::{CancellationToken, DropGuard};
use ullage_gateway::agent_client::{AgentClient as _, ChunkStream};
use ullage_gateway::metad_client::MetadClient as _;
use ullage_model::codec;
use ullage_model::command::Command;
use ullage_model::ids::{DeviceId, VendorId};
use ullage_model::units::stored_bytes;
use ullage_model::wire::chunk::{
    ChunkHeader, ChunkPart, ChunkRefusal, HeldCopy, ListCopiesReply, ListCopiesRequest, ReadRequest,
};
use ullage_model::wire::metad::{
    Done, EndSessionRequest, MetadError, QueryManyReply, QueryManyRequest, ReportDamagedRequest,
    SubmitManyReply, SubmitManyRequest, SubmitRequest, Submitted,
};
use ullage_model::wire::probe::{PROBE_BYTES, Probe, ProbeCookie};
use ullage_model::wire::routes;
use ullage_transport::api::{self, Api, Route, StreamRequest, StreamResponse};
use ullage_transport::authority::Authority;
use ullage_transport::credentials::Credentials;
use ullage_transport::frame::{FrameReader, framed};
use ullage_transport::identity::{Callers, Identity};
use ullage_transport::network::{Datagrams, Listener, Network as _, TokioNetwork};
use ullage_transport::server::{ServerLimits, serve};

fn route(path: &'static str) -> Route {
    Route {
        path,
        callers: Callers::GATEWAY,
        body_bytes: 2 << 20,
    }
}

/// Serves `router` as `identity`; stops when dropped.
#[derive(Debug)]
pub struct Served {
    pub address: String,
    _stop: DropGuard,
}

impl Served {
    async fn start(authority: &Authority, identity: Identity, router: axum::Router) -> Self {
        let listener = TokioNetwork.listen("127.0.0.1:0").await.unwrap();
        Self::on(listener, authority, identity, router)
    }

    fn on(
        listener: Box<dyn Listener>,
        authority: &Authority,
        identity: Identity,
        router: axum::Router,
    ) -> Self {
        let address = listener.local_address().unwrap().to_string();
        let credentials = Credentials::issued_by(authority, identity, SystemTime::now()).unwrap();
        let stop = CancellationToken::new();
        let limits = ServerLimits {
            drain: Duration::ZERO,
            ..ServerLimits::default()
        };
        tokio::spawn(serve(listener, credentials, router, limits, stop.clone()));
        Self {
            address,
            _stop: stop.drop_guard(),
        }
    }
}

/// A node's ways to misbehave, and what it saw.
#[derive(Debug, Default)]
pub struct Node {
    /// So many submits are decided and their connections cut.
    pub cut_submits: AtomicU32,
    /// It hangs: takes calls and answers none.
    pub hangs: AtomicBool,
    /// It answers that it does not lead, with this address.
    pub led_by: Mutex<Option<String>>,
    /// It says that it has passed submits on to the leader, which is there.
    pub passes_on_to: Mutex<Option<String>>,
    /// Calls that came, by path.
    pub calls: Mutex<Vec<&'static str>>,
    /// (session, sequence) of the submits that came.
    pub submits: Mutex<Vec<(u64, u64)>>,
}

impl Node {
    pub fn calls_of(&self, path: &str) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|it| **it == path)
            .count()
    }

    async fn arrive(&self, path: &'static str) -> Result<(), MetadError> {
        self.calls.lock().unwrap().push(path);
        while self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match self.led_by.lock().unwrap().clone() {
            Some(leader) => Err(MetadError::NotLeader { leader: Some(leader) }),
            None => Ok(()),
        }
    }
}

macro_rules! calls {
    ($api:expr, $($path:ident => $method:ident),* $(,)?) => {
        $api$(.call(route(routes::$path), |(metad, node): MetadState, _, request| {
            Box::pin(async move {
                node.arrive(routes::$path).await?;
                metad.$method(request).await
            })
        }))*
    };
}

type MetadState = (Arc<Metad>, Arc<Node>);

/// One node of the metadata service. All nodes share one state.
pub async fn metad(authority: &Authority, number: u64, metad: Arc<Metad>, node: Arc<Node>) -> Served {
    let api = calls!(
        Api::new((metad, node)),
        SESSION_OPEN => open_session,
        SESSION_RENEW => renew_session,
        ALLOCATE => allocate,
        RESOLVE => resolve,
        QUERY => query,
        OPERATE => operate,
        MEMBERS => members,
        INVITE => invite,
    );
    let api = api
        .call(route(routes::STATUS), |(metad, node): MetadState, _, Done| {
            Box::pin(async move {
                node.arrive(routes::STATUS).await?;
                metad.status().await
            })
        })
        .call(
            route(routes::SESSION_END),
            |(metad, node): MetadState, _, request: EndSessionRequest| {
                Box::pin(async move {
                    node.arrive(routes::SESSION_END).await?;
                    metad.end_session(request.session).await.map(|()| Done)
                })
            },
        )
        .call(
            route(routes::REPORT_DAMAGED),
            |(metad, node): MetadState, _, request: ReportDamagedRequest| {
                Box::pin(async move {
                    node.arrive(routes::REPORT_DAMAGED).await?;
                    metad.report_damaged(request).await.map(|()| Done)
                })
            },
        )
        .call(
            route(routes::QUERY_MANY),
            |(metad, node): MetadState, _, request| Box::pin(query(metad, node, request)),
        )
        .stream(route(routes::SUBMIT_MANY), |(metad, node), _, request| {
            Box::pin(submit(metad, node, request))
        });
    Served::start(authority, Identity::Metad(number), api.into_router()).await
}

async fn submit(metad: Arc<Metad>, node: Arc<Node>, request: StreamRequest) -> StreamResponse {
    if let Err(error) = node.arrive(routes::SUBMIT_MANY).await {
        return api::refusal(&error);
    }
    let request: SubmitManyRequest = match api::message_of(request.into_body(), 2 << 20).await {
        Ok(request) => request,
        Err(refused) => return *refused,
    };
    let mut answers = Vec::new();
    for command in request.commands {
        let Command::InSession {
            session,
            sequence,
            command,
        } = codec::decode(&command).unwrap()
        else {
            panic!("a command of no session");
        };
        node.submits.lock().unwrap().push((session.0, sequence));
        let request = SubmitRequest {
            session,
            sequence,
            command,
        };
        answers.push(metad.submit(request).await.map(|reply| Submitted {
            index: reply.index,
            reply: codec::encode(&reply.reply),
        }));
    }
    let cut = |left: u32| left.checked_sub(1);
    if node
        .cut_submits
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, cut)
        .is_ok()
    {
        return api::streamed(stream::once(async { Err(io::Error::other("cut")) }));
    }
    api::answer(Ok::<_, MetadError>(SubmitManyReply {
        answers,
        leader: node.passes_on_to.lock().unwrap().clone(),
    }))
}

/// Questions that came together.
async fn query(
    metad: Arc<Metad>,
    node: Arc<Node>,
    request: QueryManyRequest,
) -> Result<QueryManyReply, MetadError> {
    node.arrive(routes::QUERY_MANY).await?;
    let (mut index, mut answers) = (u64::MAX, Vec::new());
    for query in request.queries {
        let answer = metad.query(query).await;
        index = answer.as_ref().map_or(index, |answer| index.min(answer.index));
        answers.push(answer.map(|answer| answer.answer));
    }
    Ok(QueryManyReply { index, answers })
}

type AgentState = (Arc<Agents>, VendorId);

/// One vendor: its server and, if `datagrams`, its answers to probes on the same port.
pub async fn agent(authority: &Authority, agents: Arc<Agents>, vendor: VendorId, datagrams: bool) -> Served {
    let (listener, socket) = port().await;
    if datagrams {
        tokio::spawn(answer_probes(socket, vendor));
    }
    let api = Api::new((agents, vendor))
        .stream(route(routes::CHUNK_PUT), |(agents, vendor), _, request| {
            Box::pin(put(agents, vendor, request))
        })
        .stream(route(routes::CHUNK_READ), |(agents, vendor), _, request| {
            Box::pin(read(agents, vendor, request))
        })
        .call(
            route(routes::COPIES),
            |(agents, vendor): AgentState, _, request: ListCopiesRequest| {
                Box::pin(async move { list(&agents, vendor, request) })
            },
        )
        .call(route(routes::PROBE_COOKIE), |(_, vendor): AgentState, _, Done| {
            Box::pin(async move { Ok::<_, ChunkRefusal>(cookie(vendor)) })
        });
    Served::on(listener, authority, Identity::Vendor(vendor), api.into_router())
}

/// A port that is free for both.
async fn port() -> (Box<dyn Listener>, Box<dyn Datagrams>) {
    for _ in 0..20 {
        let listener = TokioNetwork.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        if let Ok(socket) = TokioNetwork.datagrams(&address).await {
            return (listener, socket);
        }
    }
    panic!("no port is free for both TCP and UDP")
}

fn cookie(vendor: VendorId) -> ProbeCookie {
    ProbeCookie([u8::try_from(vendor.0).unwrap(); 16])
}

async fn answer_probes(socket: Box<dyn Datagrams>, vendor: VendorId) {
    let mut bytes = [0; 2 * PROBE_BYTES];
    while let Ok(received) = socket.receive(&mut bytes).await {
        let Some(probe) = Probe::decode(&bytes[..received.bytes]) else {
            continue;
        };
        if probe.reply || probe.cookie != cookie(vendor) {
            continue;
        }
        let reply = Probe {
            reply: true,
            ttl_left: received.ttl.unwrap_or(0),
            nonce: probe.nonce,
            cookie: ProbeCookie([0; 16]),
        };
        socket.send(&reply.encode(), received.from).await.unwrap();
    }
}

async fn put(agents: Arc<Agents>, vendor: VendorId, request: StreamRequest) -> StreamResponse {
    let mut reader = FrameReader::new(request.into_body());
    let header = reader.message(1 << 20).await.unwrap().unwrap();
    let header: ChunkHeader = codec::decode(&header).unwrap();
    let left = stored_bytes(header.plaintext_bytes);
    let parts = stream::unfold(Some((reader, left)), |state| async move {
        let (mut reader, left) = state?;
        let cut = |_| ChunkRefusal::Cut;
        if left == 0 {
            let end = reader.exactly(32).await.map_err(cut);
            let end = end.map(|end| {
                let mut digest = [0; 32];
                digest.copy_from_slice(&end);
                ChunkPart::End(ullage_model::ids::Digest(digest))
            });
            return Some((end, None));
        }
        let most = usize::try_from(left.min(32 * 1024)).unwrap();
        match reader.exactly(most).await {
            Ok(bytes) => {
                let left = left - bytes.len() as u64;
                Some((Ok(ChunkPart::Data(bytes)), Some((reader, left))))
            }
            Err(error) => Some((Err(cut(error)), None)),
        }
    });
    let parts: ChunkStream = parts.boxed();
    match Reached(agents).put_chunk(vendor, header, parts).await {
        Ok(reports) => api::streamed(reports.map(|report| Ok(framed(&codec::encode(&report))))),
        Err(refusal) => api::refusal(&refusal),
    }
}

async fn read(agents: Arc<Agents>, vendor: VendorId, request: StreamRequest) -> StreamResponse {
    let request: ReadRequest = match api::message_of(request.into_body(), 1 << 20).await {
        Ok(request) => request,
        Err(refused) => return *refused,
    };
    match Reached(agents).read(vendor, request).await {
        Ok(stored) => api::streamed(stored.map(|bytes| bytes.map_err(io::Error::other))),
        Err(refusal) => api::refusal(&refusal),
    }
}

fn list(
    agents: &Agents,
    vendor: VendorId,
    request: ListCopiesRequest,
) -> Result<ListCopiesReply, ChunkRefusal> {
    let mut copies = agents.copies(vendor);
    copies.retain(|copy| request.after.is_none_or(|after| *copy > after));
    let more = copies.len() > request.limit;
    copies.truncate(request.limit);
    let held = copies.iter().map(|&copy| HeldCopy {
        copy,
        plaintext_bytes: 7,
        devices: vec![DeviceId(1)],
        complete: true,
    });
    Ok(ListCopiesReply {
        copies: held.collect(),
        next: copies.last().copied().filter(|_| more),
        devices: vec![(DeviceId(1), format!("/dev/vendor-{}", vendor.0))],
    })
}

/// Speaks for nobody: answers every chunk with a 500.
pub async fn broken(authority: &Authority, vendor: VendorId) -> Served {
    let api = Api::new(()).stream(route(routes::CHUNK_PUT), |(), _, _| {
        Box::pin(async { api::text(StatusCode::INTERNAL_SERVER_ERROR, "broken") })
    });
    Served::start(authority, Identity::Vendor(vendor), api.into_router()).await
}

/// Serves `put` only, with `handler`.
pub async fn putting<F>(authority: &Authority, vendor: VendorId, handler: F) -> Served
where
    F: Fn(StreamRequest) -> futures::future::BoxFuture<'static, StreamResponse>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let api = Api::new(()).stream(route(routes::CHUNK_PUT), move |(), _, request| handler(request));
    Served::start(authority, Identity::Vendor(vendor), api.into_router()).await
}
