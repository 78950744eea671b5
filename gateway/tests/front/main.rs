//! The gateway's listeners on real sockets, over a metadata service and vendors in memory: what clients see, and
//! what hostile ones do not achieve.

#![allow(clippy::cast_possible_truncation, clippy::unwrap_used, missing_docs)]

mod access;
mod access_settings;
mod admin;
#[allow(dead_code)]
#[path = "../data_path/agents.rs"]
mod agents;
mod audit;
mod bucket_settings;
mod checksums;
mod client;
mod conditions;
mod copies;
mod forms;
mod half_credentials;
mod hostile;
mod late;
#[allow(dead_code)]
#[path = "../data_path/metad.rs"]
mod metad;
mod mutations;
mod object_tags;
mod objects;
mod parts;
mod public_access;
#[allow(dead_code)]
#[path = "../data_path/random.rs"]
mod random;
mod tagging;
mod unset;
mod uploads;
mod versioning;

use agents::{Agents, Reached};
use client::Client;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use metad::Metad;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use ullage_gateway::admin::{LocalCopies, LocalCopy, LocalFatError, LocalFats};
use ullage_gateway::environment::{SystemClock, SystemRandomness};
use ullage_gateway::kek::Kek;
use ullage_gateway::metrics::Metrics;
use ullage_gateway::server::{
    self, ANSWER_PATIENCE, Listeners, Readiness, RootKeys, ServerParts, ServerSettings,
};
use ullage_gateway::store::{Store, StoreParts};
use ullage_model::ids::{CopyId, DeviceId, VendorId};
use ullage_model::limits::INLINE_BYTES_MAX;

const REGION: &str = "us-east-1";
const ACCESS_KEY: &str = "AKROOT";
const SECRET_KEY: &str = "a secret of the tests";

/// A vendor whose table panics.
const PANICS: VendorId = VendorId(666);

/// The tables of the vendors in memory.
#[derive(Debug)]
struct TablesOfAgents(Arc<Agents>);

impl LocalFats for TablesOfAgents {
    fn copies(
        &self,
        vendor: VendorId,
        after: Option<CopyId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<LocalCopies, LocalFatError>> {
        assert_ne!(vendor, PANICS, "the tests want a panic");
        if !self.0.vendors().contains(&vendor) {
            return std::future::ready(Err(LocalFatError::Unreachable(vendor))).boxed();
        }
        let mut copies = self.0.copies(vendor);
        copies.sort();
        copies.retain(|copy| after.is_none_or(|after| *copy > after));
        let more = copies.len() > limit;
        copies.truncate(limit);
        let page = LocalCopies {
            next: copies.last().copied().filter(|_| more),
            copies: copies
                .into_iter()
                .map(|copy| LocalCopy {
                    copy,
                    plaintext_bytes: 0,
                    devices: vec![DeviceId(0), DeviceId(1)],
                    complete: true,
                })
                .collect(),
        };
        std::future::ready(Ok(page)).boxed()
    }

    fn device_paths(&self, _vendor: VendorId) -> BoxFuture<'_, Vec<(DeviceId, String)>> {
        std::future::ready(vec![(DeviceId(0), "/nowhere/d0".to_owned())]).boxed()
    }
}

/// A running gateway.
struct Gateway {
    agents: Arc<Agents>,
    metad: Arc<Metad>,
    s3: SocketAddr,
    admin: SocketAddr,
    ready: Readiness,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Gateway {
    async fn start() -> Self {
        Self::start_with(ANSWER_PATIENCE).await
    }

    /// One that lets clients wait for so long.
    async fn start_with(answer_patience: Duration) -> Self {
        let random = Arc::new(SystemRandomness);
        let clock = Arc::new(SystemClock::default());
        let registry = prometheus::Registry::new();
        let agents = Agents::new(4, 1 << 30, 1);
        let metad = Metad::new(Arc::clone(&agents), 1, 1 << 30);
        tokio::spawn(Arc::clone(&metad).run());
        let store = Store::start(StoreParts {
            name: "front".to_owned(),
            metad: metad.clone(),
            agents: Arc::new(Reached(Arc::clone(&agents))),
            clock: clock.clone(),
            random: random.clone(),
            kek: Kek::new(&[7; 32]),
            metrics: Metrics::register(&registry).expect("metrics"),
            inline_bytes: INLINE_BYTES_MAX,
            upload_memory: 64 << 20,
        });
        let store = Arc::new(store.await.expect("a store"));
        let bind = || TcpListener::bind("127.0.0.1:0");
        let listeners = Listeners {
            s3: bind().await.expect("a socket"),
            admin: bind().await.expect("a socket"),
        };
        let s3 = listeners.s3.local_addr().expect("an address");
        let admin = listeners.admin.local_addr().expect("an address");
        let settings = ServerSettings {
            region: REGION.to_owned(),
            domains: vec!["s3.test".to_owned()],
            root: RootKeys {
                access_key: ACCESS_KEY.to_owned(),
                secret_key: SECRET_KEY.to_owned().into(),
            },
            answer_patience,
        };
        let (ready, shutdown) = (Readiness::default(), CancellationToken::new());
        ready.set(true);
        let parts = ServerParts {
            store: store.into(),
            local_fats: Arc::new(TablesOfAgents(Arc::clone(&agents))),
            registry,
            ready: ready.clone(),
            clock,
            random,
        };
        let running = server::run(listeners, settings, parts, shutdown.clone());
        Self {
            agents,
            metad,
            s3,
            admin,
            ready,
            shutdown,
            served: tokio::spawn(async move { running.await.expect("metrics are registered once") }),
        }
    }

    /// A client with the root keys.
    fn client(&self) -> Client {
        Client::new(self.s3, "s3", ACCESS_KEY, SECRET_KEY)
    }

    /// A client of the admin API with the root keys.
    fn admin_client(&self) -> Client {
        Client::new(self.admin, "ullage", ACCESS_KEY, SECRET_KEY)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_answers_503_until_the_gateway_is_ready_and_shutdown_ends_connections() {
    let gateway = Gateway::start().await;
    gateway.ready.set(false);
    let answer = gateway.client().send("GET", "/", &[], b"").await;
    answer.expect_error(503, "ServiceUnavailable");
    assert!(answer.header("retry-after").is_some());
    let health = gateway.admin_client().unsigned("GET", "/health/ready").await;
    assert_eq!(health.status, 503);
    gateway.ready.set(true);
    assert_eq!(gateway.client().send("GET", "/", &[], b"").await.status, 200);

    let idle = tokio::net::TcpStream::connect(gateway.s3)
        .await
        .expect("a connection");
    gateway.shutdown.cancel();
    gateway.served.await.expect("the listeners end");
    drop(idle);
    assert!(tokio::net::TcpStream::connect(gateway.s3).await.is_err());
}
