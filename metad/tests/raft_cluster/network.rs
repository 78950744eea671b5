//! A network whose nodes can be cut off: bytes of a node that is cut are swallowed, as by a black hole, until the
//! connections die of it.

use futures::future::BoxFuture;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use ullage_transport::network::{BoxStream, Datagrams, Listener, Network, TokioNetwork};

/// Pairs (from, to) of node numbers between which nothing passes; the order does not matter.
#[derive(Clone, Debug, Default)]
pub struct Cuts(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    pairs: HashSet<(usize, usize)>,
    /// Which node listens where.
    addresses: Vec<(String, usize)>,
    /// Who was dialled, each time.
    dialled: Vec<usize>,
}

impl Cuts {
    /// `node` listens at `address`.
    pub fn listens(&self, address: &str, node: usize) {
        let mut state = self.0.lock().unwrap();
        state.addresses.retain(|(known, _)| known != address);
        state.addresses.push((address.to_owned(), node));
    }

    /// Nothing passes between `one` and `other` any more.
    pub fn cut(&self, one: usize, other: usize) {
        self.0
            .lock()
            .unwrap()
            .pairs
            .insert((one.min(other), one.max(other)));
    }

    /// Everything passes again, on connections made from now on.
    pub fn heal(&self) {
        self.0.lock().unwrap().pairs.clear();
    }

    /// How often `node` was dialled so far.
    pub fn dialled(&self, node: usize) -> usize {
        let state = self.0.lock().unwrap();
        state.dialled.iter().filter(|dialled| **dialled == node).count()
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.0
            .lock()
            .unwrap()
            .pairs
            .contains(&(one.min(other), one.max(other)))
    }

    fn node_at(&self, address: &str) -> Option<usize> {
        let state = self.0.lock().unwrap();
        let found = state.addresses.iter().find(|(known, _)| known == address);
        found.map(|(_, node)| *node)
    }
}

/// The network as one node sees it.
#[derive(Clone, Debug)]
pub struct CutNetwork {
    pub node: usize,
    pub cuts: Cuts,
}

impl Network for CutNetwork {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let Some(other) = self.cuts.node_at(address) else {
                return TokioNetwork.connect(address).await;
            };
            self.cuts.0.lock().unwrap().dialled.push(other);
            if self.cuts.is_cut(self.node, other) {
                std::future::pending::<()>().await;
            }
            let inner = TokioNetwork.connect(address).await?;
            let link = (self.node, other);
            let cuts = self.cuts.clone();
            Ok(Box::new(CutStream {
                inner,
                link,
                cuts,
                dead: false,
            }) as BoxStream)
        })
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

/// The dialling side swallows for both directions: what is written goes nowhere, what is read never comes.
struct CutStream {
    inner: BoxStream,
    link: (usize, usize),
    cuts: Cuts,
    dead: bool,
}

impl CutStream {
    fn is_dead(&mut self) -> bool {
        self.dead |= self.cuts.is_cut(self.link.0, self.link.1);
        self.dead
    }
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if self.is_dead() {
            buffer.set_filled(before);
            return Poll::Pending;
        }
        read
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_dead() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
