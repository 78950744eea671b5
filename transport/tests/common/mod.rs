//! Services, clients and a wire that can be cut, for the tests of this crate.
#![allow(clippy::unwrap_used, dead_code)]

use futures::future::BoxFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use ullage_model::codec::Versioned;
use ullage_model::ids::VendorId;
use ullage_transport::api::{Api, Route};
use ullage_transport::authority::{Authority, ClusterSecret};
use ullage_transport::client::{CallError, Client, ClientLimits, Target};
use ullage_transport::credentials::Credentials;
use ullage_transport::identity::{Callers, Expect, Identity, Peer};
use ullage_transport::network::{BoxStream, Datagrams, Listener, Network, TokioNetwork};
use ullage_transport::server::{ServerLimits, serve};

/// Longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(30);

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

/// A route with short bodies.
pub fn route(path: &'static str, callers: Callers) -> Route {
    Route {
        path,
        callers,
        body_bytes: 1024,
    }
}

/// How many calls handlers have seen.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<AtomicUsize>);

impl Seen {
    pub fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// `/echo` for vendors, `/public` for anybody: answer the text and who sent it; the text "fail" is an error of
/// the service, to "hang" there is no answer.
pub fn echo_api(seen: &Seen) -> Api<Seen> {
    let echo = |seen: Seen, peer: Peer, message: Echo| -> BoxFuture<'static, Result<Echo, Echo>> {
        Box::pin(async move {
            seen.0.fetch_add(1, SeqCst);
            match message.text.as_str() {
                "fail" => Err(Echo::of("refused")),
                "hang" => std::future::pending().await,
                text => Ok(Echo::of(&format!("{text} from {peer}"))),
            }
        })
    };
    Api::new(seen.clone())
        .call(route("/echo", Callers::VENDOR), echo)
        .call(route("/public", Callers::ANYONE), echo)
}

/// Calls `/echo`.
pub async fn echo(client: &Client, target: &Target, text: &str) -> Result<String, CallError<Echo>> {
    let answer: Echo = client.call(target, "/echo", &Echo::of(text), LONG).await?;
    Ok(answer.text)
}

/// The holders of one cluster secret.
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
        let credentials = self.credentials(identity);
        Server::start(
            "127.0.0.1:0",
            credentials,
            api.into_router(),
            ServerLimits::default(),
        )
        .await
    }
}

pub fn client(credentials: Credentials) -> Client {
    Client::new(Arc::new(TokioNetwork), credentials, ClientLimits::default())
}

/// A service that listens.
pub struct Server {
    pub address: String,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Server {
    pub async fn start(
        address: &str,
        credentials: Credentials,
        router: axum::Router,
        limits: ServerLimits,
    ) -> Self {
        let listener = TokioNetwork.listen(address).await.unwrap();
        let address = listener.local_address().unwrap().to_string();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, credentials, router, limits, stop.clone()));
        Self { address, stop, task }
    }

    pub fn target(&self, expect: Expect) -> Target {
        target(&self.address, expect)
    }

    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(LONG, self.task).await.unwrap().unwrap();
    }
}

pub fn target(address: &str, expect: Expect) -> Target {
    Target {
        address: address.to_owned(),
        expect,
        lane: 0,
    }
}

/// The system's network, which counts connections made.
#[derive(Clone, Debug, Default)]
pub struct CountingNetwork(Arc<AtomicUsize>);

impl CountingNetwork {
    pub fn connects(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Network for CountingNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        self.0.fetch_add(1, SeqCst);
        TokioNetwork.connect(address)
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        TokioNetwork.listen(address)
    }

    fn datagrams<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Datagrams>>> {
        TokioNetwork.datagrams(address)
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<SocketAddr>> {
        TokioNetwork.resolve(address)
    }
}

/// What a wire does with the connections that are on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Carries,
    /// Swallows what is sent; says nothing.
    Silent,
    /// Closes what is open.
    Cut,
}

/// A relay in front of a server.
pub struct Relay {
    pub address: String,
    state: watch::Sender<Wire>,
    task: JoinHandle<()>,
}

impl Relay {
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, watched) = watch::channel(Wire::Carries);
        let server = server.to_owned();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(&server).await.unwrap();
                connections.spawn(carry(near, far, watched.clone()));
            }
        });
        Self { address, state, task }
    }

    /// Does `wire` to all connections that are open now; later ones are carried.
    pub fn now(&self, wire: Wire) {
        self.state.send(wire).unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut near: TcpStream, mut far: TcpStream, mut state: watch::Receiver<Wire>) {
    state.mark_unchanged();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        changed = state.changed() => {
            if changed.is_ok() && *state.borrow() == Wire::Silent {
                std::future::pending().await
            }
        }
    }
}
