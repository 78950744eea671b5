//! The gateway's listeners on real sockets, in front of a metadata service in memory that keeps all bodies
//! inline: what clients see, and what hostile ones do not achieve. Vendors have no part in it.

mod admin;
mod client;
mod hostile;
mod metad;
mod objects;

use client::Client;
use metad::{NoAgents, NoLocalFats, TableInMemory};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use ullage_gateway::environment::{SystemClock, SystemRandomness};
use ullage_gateway::kek::Kek;
use ullage_gateway::metrics::Metrics;
use ullage_gateway::server::{self, Listeners, Readiness, RootKeys, ServerParts, ServerSettings};
use ullage_gateway::store::{Store, StoreParts};

const REGION: &str = "us-east-1";
const ACCESS_KEY: &str = "AKROOT";
const SECRET_KEY: &str = "a secret of the tests";

/// A running gateway.
struct Gateway {
    s3: SocketAddr,
    admin: SocketAddr,
    ready: Readiness,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Gateway {
    async fn start() -> Self {
        let random = Arc::new(SystemRandomness);
        let clock = Arc::new(SystemClock::default());
        let registry = prometheus::Registry::new();
        let store = Store::start(StoreParts {
            name: "front".to_owned(),
            metad: Arc::new(TableInMemory::default()),
            agents: Arc::new(NoAgents),
            clock: clock.clone(),
            random: random.clone(),
            kek: Kek::new(&[7; 32]),
            metrics: Metrics::register(&registry).expect("metrics"),
            inline_bytes: metad::INLINE_BYTES,
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
        };
        let (ready, shutdown) = (Readiness::default(), CancellationToken::new());
        ready.set(true);
        let parts = ServerParts {
            store,
            local_fats: Arc::new(NoLocalFats),
            registry,
            ready: ready.clone(),
            clock,
            random,
        };
        let running = server::run(listeners, settings, parts, shutdown.clone());
        Self {
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

    let idle = tokio::net::TcpStream::connect(gateway.s3).await.expect("a connection");
    gateway.shutdown.cancel();
    gateway.served.await.expect("the listeners end");
    drop(idle);
    assert!(tokio::net::TcpStream::connect(gateway.s3).await.is_err());
}
