//! Ullage's metadata service: three processes of the real binary on loopback, and two gateways' clients of it, the
//! very ones that gateways use, shared by all who write and read. A commit stores a small object in the FAT itself, a read asks for one with its bytes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use tokio::task::JoinSet;
use ullage_gateway::environment::{SystemClock, SystemRandomness};
use ullage_gateway::metad_client::MetadClient as _;
use ullage_gateway::network::NetworkMetad;
use ullage_model::cluster_time::WallTime;
use ullage_model::codec;
use ullage_model::command::{Actor, Body, BucketRef, Conditions, FinalizeObject, Reply, SessionCommand};
use ullage_model::ids::{BlobId, BucketId, KekId, SessionId};
use ullage_model::namespace::rows::{Etag, Metadata, ROOT_USER, WrappedKey};
use ullage_model::units::stored_bytes;
use ullage_model::wire::metad::{
    Answer, ByteRange, Found, MetadError, OpenSessionRequest, PageSize, Query, RenewSessionReply,
    RenewSessionRequest, SubmitRequest,
};
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::client::{Client, ClientLimits};
use ullage_transport::credentials::Credentials;
use ullage_transport::identity::Identity;
use ullage_transport::network::TokioNetwork;

use super::{COMMAND_BYTES, KEYS, Service};
use crate::cluster::{Cluster, Plan};
use crate::daemon::ready_deadline;

/// Gateways that the clients share, each with its session.
const SESSIONS: usize = 2;
/// How often each of them shows a sign of life, which forgets the outcomes of finished sequences.
const RENEWAL: Duration = Duration::from_millis(100);
/// How long a command may be tried again that was surely not decided, as sessions of gateways do.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before it is.
const PAUSE: Duration = Duration::from_millis(20);
const ROOT: Actor = Actor {
    user: ROOT_USER,
    settings_version: 0,
};

/// A running group and a gateway's way to it.
pub struct Metad {
    cluster: Cluster,
    sessions: Vec<Arc<Session>>,
    bucket: BucketRef,
    plaintext_bytes: u64,
    keys: u64,
    // Ends the renewals when this is dropped.
    _renewals: JoinSet<()>,
}

/// A session and the sequences it has under way.
struct Session {
    service: Arc<NetworkMetad>,
    session: SessionId,
    next: AtomicU64,
    blobs: AtomicU64,
    observed: AtomicU64,
    /// Everything below is finished, and these are.
    finished: Mutex<(u64, BTreeSet<u64>)>,
}

impl Session {
    fn finish(&self, sequence: u64) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.1.insert(sequence);
        let mut below = finished.0;
        while finished.1.remove(&below) {
            below += 1;
        }
        finished.0 = below;
    }

    fn finished_below(&self) -> u64 {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Metad {
    /// Starts three nodes with data below `directory`, each by `wrapper` if that is a program, and stores every key once.
    ///
    /// # Errors
    /// If they do not come up in time.
    pub async fn start(directory: &Path, wrapper: &[String]) -> anyhow::Result<Self> {
        Self::start_with(directory, wrapper, String::new(), KEYS).await
    }

    /// As [`Metad::start`], with further `settings` at the top of each node's, and so many keys.
    ///
    /// # Errors
    /// As [`Metad::start`].
    pub async fn start_with(
        directory: &Path,
        wrapper: &[String],
        settings: String,
        keys: u64,
    ) -> anyhow::Result<Self> {
        // What is compared must lie on one disk. An error means that the directory was set before.
        let _ = tempfile::env::override_temp_dir(directory);
        let mut cluster = Cluster::prepare(Plan {
            metads: 3,
            agents: Vec::new(),
            gateways: 0,
            metad_settings: settings,
            ..Plan::default()
        })?;
        for node in &mut cluster.metads {
            node.wrapper = wrapper.to_vec();
            node.spawn()?;
        }
        for node in &mut cluster.metads {
            node.wait_ready(ready_deadline()).await?;
        }
        let mut metad = Self {
            cluster,
            sessions: Vec::new(),
            bucket: BucketRef {
                bucket: BucketId(0),
                settings_version: 0,
            },
            plaintext_bytes: 1,
            keys,
            _renewals: JoinSet::new(),
        };
        for number in 0..SESSIONS {
            metad.open_session(number).await?;
        }
        metad.bucket = metad.create_bucket().await?;
        metad.fit_command();
        // So that every read finds something.
        metad.store_some_keys(keys).await?;
        Ok(metad)
    }

    async fn open_session(&mut self, number: usize) -> anyhow::Result<()> {
        let request = OpenSessionRequest {
            gateway: format!("bench-{number}"),
            kek: KekId(1),
            kek_value: Bytes::from_static(b"the benchmark's"),
        };
        let service = Arc::new(service(&self.cluster)?);
        let opened = service.open_session(request).await.context("open a session")?;
        let session = Arc::new(Session {
            service,
            session: opened.session,
            next: AtomicU64::new(0),
            blobs: AtomicU64::new(0),
            observed: AtomicU64::new(0),
            finished: Mutex::default(),
        });
        self.sessions.push(Arc::clone(&session));
        self._renewals.spawn(async move {
            let mut ticks = tokio::time::interval(RENEWAL);
            loop {
                ticks.tick().await;
                let request = RenewSessionRequest {
                    session: session.session,
                    acknowledged_below: session.finished_below(),
                    observed_index: session.observed.load(Ordering::Relaxed),
                };
                // One that fails is followed by the next; sessions that end make commits fail.
                let _: Result<RenewSessionReply, _> = session.service.renew_session(request).await;
            }
        });
        Ok(())
    }

    async fn create_bucket(&self) -> anyhow::Result<BucketRef> {
        let create = SessionCommand::CreateBucket {
            actor: ROOT,
            name: "bench".to_owned(),
            region: "here".to_owned(),
            access: ullage_model::namespace::rows::BucketAccess::default(),
            now: WallTime(0),
        };
        let bucket = match self.submit(0, create).await? {
            Reply::Bucket(bucket) => bucket,
            reply => bail!("no bucket was made: {reply:?}"),
        };
        let query = Query::Bucket("bench".to_owned());
        let reply = self
            .session(0)
            .service
            .query(query)
            .await
            .context("look for the bucket")?;
        let Answer::Bucket(Some(found)) = reply.answer else {
            bail!("the bucket is not there")
        };
        Ok(BucketRef {
            bucket,
            settings_version: found.row.settings_version,
        })
    }

    /// Chooses the size of the objects so that the whole command has as many bytes as etcd's key and value.
    fn fit_command(&mut self) {
        let bytes = |metad: &Self| codec::encode(&metad.request(0, 0, 0)).len();
        while bytes(self) < COMMAND_BYTES {
            self.plaintext_bytes += 1;
        }
    }

    /// The nodes.
    pub fn nodes(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// Stores so many keys, at most all, by many clients.
    ///
    /// # Errors
    /// If a commit fails.
    pub async fn store_some_keys(&self, count: u64) -> anyhow::Result<()> {
        const LANES: u64 = 512;
        let lane = |first: u64| async move {
            for key in (first..count.min(self.keys)).step_by(usize::try_from(LANES).unwrap_or(1)) {
                self.commit(usize::try_from(first).unwrap_or(0), key).await?;
            }
            anyhow::Ok(())
        };
        futures::future::try_join_all((0..LANES).map(lane)).await?;
        Ok(())
    }

    fn session(&self, client: usize) -> &Session {
        &self.sessions[client % self.sessions.len()]
    }

    fn finalize(&self, client: usize, number: u64) -> SessionCommand {
        let session = self.session(client);
        let sealed = usize::try_from(stored_bytes(self.plaintext_bytes)).unwrap_or(0);
        SessionCommand::FinalizeObject(FinalizeObject {
            actor: ROOT,
            bucket: self.bucket,
            key: key(number),
            conditions: Conditions::default(),
            random: number,
            now: WallTime(1_000_000),
            etag: Etag::Md5([7; 16]),
            checksum: None,
            class: crate::admin_json::DEFAULT_CLASS.to_owned(),
            metadata: Metadata::default(),
            body: Body::Inline {
                blob: BlobId {
                    session: session.session,
                    counter: session.blobs.fetch_add(1, Ordering::Relaxed),
                },
                plaintext_bytes: self.plaintext_bytes,
                sealed: Bytes::from(vec![0x5a; sealed]),
                key: WrappedKey {
                    kek: KekId(1),
                    bytes: Bytes::from_static(&[0x5a; 48]),
                },
            },
        })
    }

    fn request(&self, client: usize, sequence: u64, number: u64) -> SubmitRequest {
        SubmitRequest {
            session: self.session(client).session,
            sequence,
            command: self.finalize(client, number),
        }
    }

    async fn submit(&self, client: usize, command: SessionCommand) -> anyhow::Result<Reply> {
        let session = self.session(client);
        let sequence = session.next.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let reply = loop {
            let request = SubmitRequest {
                session: session.session,
                sequence,
                command: command.clone(),
            };
            match session.service.submit(request).await {
                Err(MetadError::Unavailable(_)) if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await
                }
                answer => break answer,
            }
        };
        session.finish(sequence);
        let reply = reply.context("submit a command")?;
        session.observed.fetch_max(reply.index, Ordering::Relaxed);
        Ok(reply.reply)
    }
}

impl Service for Metad {
    fn label(&self) -> &'static str {
        "ullage"
    }

    fn pids(&self) -> Vec<u32> {
        let nodes = self.cluster.metads.iter();
        nodes.filter_map(|node| node.daemon.pid().ok()).collect()
    }

    async fn commit(&self, client: usize, number: u64) -> anyhow::Result<()> {
        match self.submit(client, self.finalize(client, number)).await? {
            Reply::Stored { .. } => Ok(()),
            reply => bail!("a commit was answered {reply:?}"),
        }
    }

    async fn read(&self, client: usize, number: u64) -> anyhow::Result<()> {
        let query = Query::Object {
            bucket: self.bucket.bucket,
            key: key(number),
            version: None,
            range: Some((
                ByteRange::From {
                    first: 0,
                    bytes: self.plaintext_bytes,
                },
                PageSize(1),
            )),
        };
        let session = self.session(client);
        let reply = session.service.query(query).await.context("ask for an object")?;
        session.observed.fetch_max(reply.index, Ordering::Relaxed);
        match reply.answer {
            Answer::Object(Found::Object(object)) if object.spans.len() == 1 => Ok(()),
            answer => bail!("key {number} was answered {answer:?}"),
        }
    }
}

fn key(number: u64) -> String {
    format!("{number:024}")
}

/// The service as a gateway reaches it: it holds the cluster secret and issues for itself.
fn service(cluster: &Cluster) -> anyhow::Result<NetworkMetad> {
    let secret = ClusterSecret::read(&cluster.cluster_secret())?;
    let authority = Authority::derive(&secret)?;
    let identity = Identity::Gateway(rand::random());
    let credentials = Credentials::issued_by(&authority, identity, SystemTime::now())?;
    let client = Client::new(Arc::new(TokioNetwork), credentials, ClientLimits::default());
    let addresses = cluster.metads.iter().map(|node| node.address.to_string());
    Ok(NetworkMetad::new(
        client,
        addresses.collect(),
        Arc::new(SystemClock::default()),
        Arc::new(SystemRandomness),
    ))
}
