//! A connection that is read in large steps. TLS asks for 4 KiB at a time (rustls's record buffer), and each would be
//! a system call of its own.

use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// Bytes asked of the operating system at a time: four TLS records.
const STEP_BYTES: usize = 64 * 1024;

/// A connection with bytes that were read ahead. While it is idle it holds no memory.
#[derive(Debug)]
pub(crate) struct ReadAhead<S> {
    stream: S,
    ahead: BytesMut,
}

impl<S> ReadAhead<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: BytesMut::new(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, ahead } = self.get_mut();
        if ahead.is_empty() {
            if into.remaining() >= STEP_BYTES {
                return Pin::new(stream).poll_read(cx, into);
            }
            ahead.reserve(STEP_BYTES);
            match poll_read_buf(Pin::new(stream), cx, ahead) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    *ahead = BytesMut::new();
                    return Poll::Pending;
                }
            }
        }
        let count = ahead.len().min(into.remaining());
        into.put_slice(&ahead[..count]);
        ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, from)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{ReadAhead, STEP_BYTES};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn bytes_come_in_their_order_whatever_is_asked_for_and_the_end_is_seen() {
        let sent: Vec<u8> = (0..5 * STEP_BYTES + 77)
            .map(|at| at.to_le_bytes()[at % 3])
            .collect();
        for asked in [100, 4096, STEP_BYTES - 1, STEP_BYTES, 3 * STEP_BYTES] {
            let (mut near, far) = tokio::io::duplex(2 * STEP_BYTES);
            let body = sent.clone();
            let writer = tokio::spawn(async move {
                near.write_all(&body).await.unwrap();
            });
            let mut far = ReadAhead::new(far);
            let mut came = Vec::new();
            let mut part = vec![0; asked];
            loop {
                let count = far.read(&mut part).await.unwrap();
                if count == 0 {
                    break;
                }
                came.extend_from_slice(&part[..count]);
            }
            writer.await.unwrap();
            assert!(came == sent, "asked for {asked} at a time");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_holds_no_memory() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut far = ReadAhead::new(far);
        near.write_all(b"word").await.unwrap();
        let mut word = [0; 4];
        far.read_exact(&mut word).await.unwrap();
        assert!(far.ahead.capacity() > 0);
        {
            let mut more = std::pin::pin!(far.read_u8());
            assert!(futures::poll!(&mut more).is_pending());
        }
        assert_eq!(far.ahead.capacity(), 0);
        drop(near);
    }
}
