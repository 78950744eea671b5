//! A cluster of two services for the tests of this crate.
#![allow(clippy::unwrap_used, dead_code)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ullage_model::codec::Versioned;
use ullage_model::ids::VendorId;
use ullage_transport::api::{Api, Route};
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::client::{Client, ClientLimits, Target};
use ullage_transport::credentials::Credentials;
use ullage_transport::identity::{Callers, Expect, Identity};
use ullage_transport::network::{Network, TokioNetwork};
use ullage_transport::server::{ServerLimits, serve};

pub const SECOND: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Echo {
    pub text: String,
}

impl Versioned for Echo {
    const NAME: &'static str = "Echo";
}

impl Echo {
    pub fn of(text: &str) -> Self {
        Self {
            text: text.to_owned(),
        }
    }
}

pub fn metad(node: u64) -> Identity {
    Identity::Metad(node)
}

pub fn gateway(instance: u64) -> Identity {
    Identity::Gateway(instance)
}

pub fn vendor(id: u64) -> Identity {
    Identity::Vendor(VendorId(id))
}

pub fn route(path: &'static str, callers: Callers) -> Route {
    Route {
        path,
        callers,
        body_bytes: 1024,
    }
}

/// `/echo` for vendors, `/public` for anybody: the text and who sent it; the text "fail" is refused.
pub fn echo_api() -> Api<()> {
    let echo = |(),
                peer: ullage_transport::identity::Peer,
                message: Echo|
     -> futures::future::BoxFuture<'static, Result<Echo, Echo>> {
        Box::pin(async move {
            if message.text == "fail" {
                return Err(Echo::of("refused"));
            }
            Ok(Echo::of(&format!("{} from {peer}", message.text)))
        })
    };
    Api::new(())
        .call(route("/echo", Callers::VENDOR), echo)
        .call(route("/public", Callers::ANYONE), echo)
}

pub struct Cluster {
    pub authority: Authority,
}

impl Cluster {
    pub fn new(secret: u8) -> Self {
        Self {
            authority: Authority::derive(&ClusterSecret::new([secret; 32])).unwrap(),
        }
    }

    pub fn credentials(&self, identity: Identity) -> Credentials {
        Credentials::issued_by(&self.authority, identity, SystemTime::now()).unwrap()
    }

    pub fn client(&self, identity: Identity) -> Client {
        client(self.credentials(identity))
    }

    pub async fn serve<S: Clone + Send + Sync + 'static>(&self, identity: Identity, api: Api<S>) -> Server {
        Server::start(
            self.credentials(identity),
            api.into_router(),
            ServerLimits::default(),
        )
        .await
    }
}

pub fn client(credentials: Credentials) -> Client {
    Client::new(Arc::new(TokioNetwork), credentials, ClientLimits::default())
}

pub struct Server {
    pub address: String,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Server {
    pub async fn start(credentials: Credentials, router: axum::Router, limits: ServerLimits) -> Self {
        let listener = TokioNetwork.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, credentials, router, limits, stop.clone()));
        Self { address, stop, task }
    }

    pub fn target(&self, expect: Expect) -> Target {
        Target {
            address: self.address.clone(),
            expect,
            lane: 0,
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}
