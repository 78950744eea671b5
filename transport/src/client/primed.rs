//! A connection whose first bytes have been waited for, and which tells when it was last heard of.

use bytes::{Buf, Bytes};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes to wait for at most; the server's settings are shorter.
const FIRST_BYTES: usize = 1024;

/// When a connection was last heard of.
#[derive(Clone, Debug)]
pub(super) struct LastHeard {
    since: Instant,
    micros: Arc<AtomicU64>,
}

impl LastHeard {
    fn now() -> Self {
        Self {
            since: Instant::now(),
            micros: Arc::default(),
        }
    }

    fn touch(&self) {
        let micros = self.since.elapsed().as_micros();
        self.micros
            .store(u64::try_from(micros).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn at(&self) -> Instant {
        self.since + Duration::from_micros(self.micros.load(Relaxed))
    }
}

/// Gives out the bytes that were read beforehand, then the connection's own.
pub(super) struct Primed<S> {
    first: Bytes,
    stream: S,
    pub(super) heard: LastHeard,
}

impl<S: AsyncRead + Unpin> Primed<S> {
    /// Waits until the other end says something.
    pub(super) async fn first_of(mut stream: S) -> Result<Self, String> {
        let mut first = Vec::with_capacity(FIRST_BYTES);
        match stream.read_buf(&mut first).await {
            Ok(0) => Err("it closed the connection".to_owned()),
            Ok(_) => Ok(Self {
                first: first.into(),
                stream,
                heard: LastHeard::now(),
            }),
            Err(error) => Err(format!("it refused the connection: {error}")),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Primed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, into));
            self.heard.touch();
            return Poll::Ready(read);
        }
        let count = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}
impl<S: AsyncWrite + Unpin> AsyncWrite for Primed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
