//! The network as the services see it, so that a simulator can supply its own.

use futures::future::BoxFuture;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Any connection.
pub type BoxStream = Box<dyn Stream>;

/// Takes connections.
pub trait Listener: Send + fmt::Debug {
    /// The next connection and where it comes from.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;
    /// Where it listens.
    ///
    /// # Errors
    /// When the operating system does not tell.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// A bound datagram socket.
pub trait Datagrams: Send + Sync + fmt::Debug {
    /// Sends one datagram.
    fn send<'a>(&'a self, bytes: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<()>>;
    /// Receives one datagram.
    fn receive<'a>(&'a self, into: &'a mut [u8]) -> BoxFuture<'a, io::Result<Received>>;
    /// Where it is bound.
    ///
    /// # Errors
    /// When the operating system does not tell.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// A datagram that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its length in bytes.
    pub bytes: usize,
    /// Where it came from.
    pub from: SocketAddr,
    /// Time-to-live (hop limit) left in the packet, where the network tells.
    pub ttl: Option<u8>,
}

/// Time-to-live that every datagram leaves with, so that what is left tells the number of hops.
pub const DATAGRAM_TTL: u8 = 64;

/// A way to reach others and to be reached. Addresses are `host:port`.
pub trait Network: Send + Sync + fmt::Debug {
    /// Connects to `address`.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;
    /// Listens at `address`.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
    /// Binds a datagram socket at `address`; datagrams leave it with [`DATAGRAM_TTL`].
    fn datagrams<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Datagrams>>>;
    /// The first address that `address` resolves to.
    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<SocketAddr>>;
}

/// The network of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioNetwork;

impl Network for TokioNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let mut failure = nowhere(address);
            for at in lookup_host(address).await? {
                match TcpStream::connect(at).await {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(Box::new(stream) as BoxStream);
                    }
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        })
    }

    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(TokioListener(listener)) as Box<dyn Listener>)
        })
    }

    fn datagrams<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Datagrams>>> {
        Box::pin(async move {
            let socket = UdpSocket::bind(address).await?;
            let hops = i32::from(DATAGRAM_TTL);
            // A socket for IPv6 may carry IPv4 too, where the first pair of settings counts.
            setsockopt(&socket, sockopt::Ipv4Ttl, &hops)?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            if socket.local_addr()?.is_ipv6() {
                setsockopt(&socket, sockopt::Ipv6Ttl, &hops)?;
                setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            }
            Ok(Box::new(TokioDatagrams(socket)) as Box<dyn Datagrams>)
        })
    }

    fn resolve<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<SocketAddr>> {
        Box::pin(async move { lookup_host(address).await?.next().ok_or_else(|| nowhere(address)) })
    }
}

fn nowhere(address: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{address} resolves to nothing"))
}

#[derive(Debug)]
struct TokioListener(TcpListener);

impl Listener for TokioListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxStream, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[derive(Debug)]
struct TokioDatagrams(UdpSocket);

impl Datagrams for TokioDatagrams {
    fn send<'a>(&'a self, bytes: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let sent = self.0.send_to(bytes, to).await?;
            if sent == bytes.len() {
                Ok(())
            } else {
                Err(io::Error::other("a datagram went out shorter than it is"))
            }
        })
    }

    fn receive<'a>(&'a self, into: &'a mut [u8]) -> BoxFuture<'a, io::Result<Received>> {
        Box::pin(
            self.0
                .async_io(Interest::READABLE, move || receive_now(&self.0, into)),
        )
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Receives a datagram that is there already, with the time-to-live that the kernel tells beside it.
fn receive_now(socket: &UdpSocket, into: &mut [u8]) -> io::Result<Received> {
    let mut parts = [IoSliceMut::new(into)];
    let mut beside = nix::cmsg_space!(i32, i32);
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut beside),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let ttl = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => u8::try_from(ttl).ok(),
        _ => None,
    });
    let from = message.address.and_then(socket_address);
    Ok(Received {
        bytes: message.bytes,
        from: from.ok_or_else(|| io::Error::other("a datagram came from nowhere"))?,
        ttl,
    })
}

fn socket_address(from: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(from) = from.as_sockaddr_in() {
        return Some(SocketAddr::V4((*from).into()));
    }
    from.as_sockaddr_in6().map(|from| SocketAddr::V6((*from).into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{DATAGRAM_TTL, Network, Received, TokioNetwork};
    use std::net::SocketAddr;
    use std::time::Duration;

    async fn exchange(from: &str, to: &str) -> Received {
        let (near, far) = (
            TokioNetwork.datagrams(from).await.unwrap(),
            TokioNetwork.datagrams(to).await.unwrap(),
        );
        let mut at = far.local_address().unwrap();
        if at.ip().is_unspecified() {
            at = SocketAddr::new(near.local_address().unwrap().ip(), at.port());
        }
        near.send(b"probe", at).await.unwrap();
        let mut bytes = [0; 64];
        let received = tokio::time::timeout(Duration::from_secs(10), far.receive(&mut bytes));
        let received = received.await.unwrap().unwrap();
        assert_eq!(&bytes[..received.bytes], b"probe");
        assert_eq!(received.from.port(), near.local_address().unwrap().port());
        // The answer finds its way by the address that came with the question.
        far.send(b"reply", received.from).await.unwrap();
        let reply = tokio::time::timeout(Duration::from_secs(10), near.receive(&mut bytes));
        assert_eq!(reply.await.unwrap().unwrap().ttl, Some(DATAGRAM_TTL));
        received
    }

    #[tokio::test]
    async fn a_datagram_tells_its_time_to_live() {
        let received = exchange("127.0.0.1:0", "127.0.0.1:0").await;
        assert_eq!(received.ttl, Some(64));
        if TokioNetwork.datagrams("[::1]:0").await.is_ok() {
            assert_eq!(exchange("[::1]:0", "[::1]:0").await.ttl, Some(64));
            // A socket for IPv6 that IPv4 reaches, as `[::]` is by default.
            assert_eq!(exchange("127.0.0.1:0", "[::]:0").await.ttl, Some(64));
        }
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_tried() {
        let mut listener = TokioNetwork.listen("127.0.0.1:0").await.unwrap();
        let port = listener.local_address().unwrap().port();
        // `localhost` may resolve to ::1 first, where nobody listens.
        let address = format!("localhost:{port}");
        let (near, far) = tokio::join!(TokioNetwork.connect(&address), listener.accept());
        near.unwrap();
        far.unwrap();
        assert_eq!(TokioNetwork.resolve(&address).await.unwrap().port(), port);
        assert!(TokioNetwork.connect("no address").await.is_err());
    }
}
