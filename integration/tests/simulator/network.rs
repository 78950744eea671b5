//! The services' network, on turmoil: TCP and UDP between simulated hosts, by name.
//!
//! turmoil sends nothing again that was lost: a TCP connection that lost a segment stands still for good, as one
//! behind a black hole does, until whoever uses it gives it up.

use futures::FutureExt;
use futures::future::BoxFuture;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use turmoil::net::{TcpListener, TcpStream, UdpSocket};
use ullage_transport::network::{BoxStream, DATAGRAM_TTL, Datagrams, Listener, Network, Received};

/// How long an attempt to connect is left without an answer, if nobody gives up before.
const NO_ANSWER: Duration = Duration::from_secs(60);

/// The network of the host on which it is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimulatedNetwork;

/// Host and port of `host:port`; what is no address of this kind names nobody.
fn split(address: &str) -> io::Result<(&str, u16)> {
    let parts = address.rsplit_once(':');
    let parsed = parts.and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address} is no host:port")))
}

/// Whatever a service is told to listen at, it listens on all addresses of its host: turmoil knows nothing else.
fn everywhere(address: &str) -> io::Result<SocketAddr> {
    let (_, port) = split(address)?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
}

impl Network for SimulatedNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        async move {
            match TcpStream::connect(split(address)?).await {
                Ok(stream) => Ok(Box::new(stream) as BoxStream),
                // turmoil refuses where a cut link or a dead machine would leave the caller without an answer: both
                // come to pass.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && rand::random() => {
                    tokio::time::sleep(NO_ANSWER).await;
                    Err(io::ErrorKind::TimedOut.into())
                }
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        async move {
            let listener = TcpListener::bind(everywhere(address)?).await?;
            Ok(Box::new(SimulatedListener(listener)) as Box<dyn Listener>)
        }
        .boxed()
    }

    fn datagrams<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Datagrams>>> {
        async move {
            let socket = UdpSocket::bind(everywhere(address)?).await?;
            Ok(Box::new(SimulatedDatagrams(socket)) as Box<dyn Datagrams>)
        }
        .boxed()
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<SocketAddr>> {
        async move {
            let (host, port) = split(address)?;
            Ok(SocketAddr::new(turmoil::lookup(host), port))
        }
        .boxed()
    }
}

struct SimulatedListener(TcpListener);

impl std::fmt::Debug for SimulatedListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimulatedListener")
            .field(&self.0.local_addr())
            .finish()
    }
}

impl Listener for SimulatedListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxStream, from))
        }
        .boxed()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[derive(Debug)]
struct SimulatedDatagrams(UdpSocket);

impl Datagrams for SimulatedDatagrams {
    fn send<'a>(&'a self, bytes: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<()>> {
        self.0.send_to(bytes, to).map(|sent| sent.map(drop)).boxed()
    }

    fn receive<'a>(&'a self, into: &'a mut [u8]) -> BoxFuture<'a, io::Result<Received>> {
        async move {
            let (bytes, from) = self.0.recv_from(into).await?;
            Ok(Received {
                bytes,
                from,
                // All hosts are neighbours.
                ttl: Some(DATAGRAM_TTL),
            })
        }
        .boxed()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
