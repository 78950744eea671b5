//! A small HTTP/1.1 client on one TCP connection: raw enough that a test can send half a request, read
//! at its own pace or leave in the middle, and cheap enough for the load generator. No TLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::content::Content;

/// The most bytes that a response head may have.
const HEAD_BYTES: usize = 64 << 10;
/// Room to read into: bounds what one read returns.
const READ_BYTES: usize = 256 << 10;
/// Bodies up to this size are sent in one write with their head.
const JOINED_BYTES: u64 = 64 << 10;

/// The bytes that follow a request head.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(&'a [u8]),
    /// A generated body.
    Content(Content),
}

impl Body<'_> {
    /// Length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Content(content) => content.length,
        }
    }
}

/// How the end of a response body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunked {
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Done,
}

/// Status and headers of a response.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Whether the server closes the connection after this response.
    pub close: bool,
    framing: Framing,
    raw: Vec<u8>,
}

impl Head {
    /// The first header of that name, compared without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// All headers in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.raw.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
            let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
            Some((name, value.trim()))
        })
    }

    /// Length of the body if the server said it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|value| value.parse().ok())
    }
}

/// One connection to a server.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    handed_out: usize,
}

impl Connection {
    /// Connects with `TCP_NODELAY` set.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        Self::from_stream(stream)
    }

    /// Connects with a small receive buffer, so that a slow reader really holds up the server.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn open_narrow(address: SocketAddr, receive_bytes: u32) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4().context("make a socket")?;
        socket
            .set_recv_buffer_size(receive_bytes)
            .context("set the receive buffer")?;
        let stream = socket
            .connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        Self::from_stream(stream)
    }

    fn from_stream(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        Ok(Self {
            stream,
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            handed_out: 0,
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(bytes).await.context("send")
    }

    /// Says that no more bytes will come from this side.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn finish_sending(&mut self) -> anyhow::Result<()> {
        self.stream.shutdown().await.context("shut down the sending side")
    }

    /// Closes with a reset, as a client that died does.
    pub fn reset(self) {
        // A linger time of zero turns close into a reset; that it could not be set only makes the end milder.
        let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }

    /// Sends a request. If the server answers and closes while the body is still on its way, that is no
    /// error: the answer is there to be read.
    ///
    /// # Errors
    /// What the socket says, when no answer can be read either.
    pub async fn send(&mut self, mut head: Vec<u8>, body: Body<'_>) -> anyhow::Result<()> {
        let sent = match body {
            Body::Empty => self.stream.write_all(&head).await,
            Body::Bytes(bytes) if bytes.len() as u64 <= JOINED_BYTES => {
                head.extend_from_slice(bytes);
                self.stream.write_all(&head).await
            }
            Body::Content(content) if content.length <= JOINED_BYTES => {
                let mut offset = 0;
                while offset < content.length {
                    let slice = content.slice(offset, usize::MAX);
                    head.extend_from_slice(slice);
                    offset += slice.len() as u64;
                }
                self.stream.write_all(&head).await
            }
            Body::Bytes(bytes) => match self.stream.write_all(&head).await {
                Ok(()) => self.stream.write_all(bytes).await,
                error => error,
            },
            Body::Content(content) => self.send_content(&head, content).await,
        };
        match sent {
            Ok(()) => Ok(()),
            // An early answer may already lie in the receive buffer.
            Err(_) if self.fill().await.unwrap_or(0) > 0 => Ok(()),
            Err(error) => Err(error).context("send a request"),
        }
    }

    async fn send_content(&mut self, head: &[u8], content: Content) -> std::io::Result<()> {
        self.stream.write_all(head).await?;
        let mut offset = 0;
        while offset < content.length {
            let slice = content.slice(offset, 1 << 20);
            self.stream.write_all(slice).await?;
            offset += slice.len() as u64;
        }
        Ok(())
    }

    /// Reads a response head; interim 1xx responses are passed over. `to_head` says that the request was
    /// a HEAD, whose answer has no body whatever its headers say.
    ///
    /// # Errors
    /// If the connection ends, or what comes is no HTTP/1.1.
    pub async fn read_head(&mut self, to_head: bool) -> anyhow::Result<Head> {
        loop {
            let head = self.read_any_head(to_head).await?;
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    /// Reads a response head, an interim one too.
    ///
    /// # Errors
    /// If the connection ends, or what comes is no HTTP/1.1.
    pub async fn read_any_head(&mut self, to_head: bool) -> anyhow::Result<Head> {
        self.release();
        // Not sticky: the kernel falls back to delayed acknowledgements by itself. A kernel without it only costs time.
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
        let mut searched = 0;
        loop {
            let have = &self.buffer[self.start..self.end];
            if let Some(at) = find(&have[searched..], b"\r\n\r\n") {
                let length = searched + at + 4;
                let raw = have[..length].to_vec();
                self.start += length;
                return parse_head(raw, to_head);
            }
            searched = have.len().saturating_sub(3);
            ensure!(have.len() < HEAD_BYTES, "response head over {HEAD_BYTES} bytes");
            ensure!(self.fill().await? > 0, "connection closed before a response");
        }
    }

    /// The next bytes of a response body, `None` at its end.
    ///
    /// # Errors
    /// If the connection ends before the body does, or the chunked framing is broken.
    pub async fn next_piece(&mut self, head: &mut Head) -> anyhow::Result<Option<&[u8]>> {
        self.release();
        loop {
            let want = match head.framing {
                Framing::Length(0) | Framing::Chunked(Chunked::Done) => return Ok(None),
                Framing::Length(left) | Framing::Chunked(Chunked::Data(left)) => left,
                Framing::UntilClose => u64::MAX,
                Framing::Chunked(state) => {
                    head.framing = Framing::Chunked(self.next_chunk_state(state).await?);
                    continue;
                }
            };
            if self.start == self.end && self.fill().await? == 0 {
                if head.framing == Framing::UntilClose {
                    return Ok(None);
                }
                bail!("connection closed inside a body, {want} bytes before the end of it or of its chunk");
            }
            let take = (self.end - self.start).min(usize::try_from(want).unwrap_or(usize::MAX));
            match &mut head.framing {
                Framing::Length(left) => *left -= take as u64,
                Framing::Chunked(state) => {
                    let left = want - take as u64;
                    *state = if left == 0 {
                        Chunked::DataEnd
                    } else {
                        Chunked::Data(left)
                    };
                }
                Framing::UntilClose => {}
            }
            self.handed_out = take;
            return Ok(Some(&self.buffer[self.start..self.start + take]));
        }
    }

    /// The whole body in memory.
    ///
    /// # Errors
    /// As for [`Connection::next_piece`].
    pub async fn read_body(&mut self, head: &mut Head) -> anyhow::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.next_piece(head).await? {
            body.extend_from_slice(piece);
        }
        Ok(body)
    }

    /// Reads the body away; returns its length.
    ///
    /// # Errors
    /// As for [`Connection::next_piece`].
    pub async fn skip_body(&mut self, head: &mut Head) -> anyhow::Result<u64> {
        let mut length = 0;
        while let Some(piece) = self.next_piece(head).await? {
            length += piece.len() as u64;
        }
        Ok(length)
    }

    async fn next_chunk_state(&mut self, state: Chunked) -> anyhow::Result<Chunked> {
        let line = self.read_line().await?;
        match state {
            Chunked::Size => {
                let digits = line.split(';').next().unwrap_or_default().trim();
                let size =
                    u64::from_str_radix(digits, 16).with_context(|| format!("chunk size {digits:?}"))?;
                Ok(if size == 0 {
                    Chunked::Trailer
                } else {
                    Chunked::Data(size)
                })
            }
            Chunked::DataEnd => {
                ensure!(line.is_empty(), "bytes after the end of a chunk");
                Ok(Chunked::Size)
            }
            Chunked::Trailer if line.is_empty() => Ok(Chunked::Done),
            other => Ok(other),
        }
    }

    async fn read_line(&mut self) -> anyhow::Result<String> {
        loop {
            let have = &self.buffer[self.start..self.end];
            if let Some(at) = find(have, b"\r\n") {
                let line = String::from_utf8_lossy(&have[..at]).into_owned();
                self.start += at + 2;
                return Ok(line);
            }
            ensure!(have.len() < HEAD_BYTES, "line over {HEAD_BYTES} bytes");
            ensure!(self.fill().await? > 0, "connection closed inside a chunked body");
        }
    }

    fn release(&mut self) {
        self.start += std::mem::take(&mut self.handed_out);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    async fn fill(&mut self) -> anyhow::Result<usize> {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let read = self
            .stream
            .read(&mut self.buffer[self.end..])
            .await
            .context("receive")?;
        self.end += read;
        Ok(read)
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn parse_head(raw: Vec<u8>, to_head: bool) -> anyhow::Result<Head> {
    let line = raw.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let text = std::str::from_utf8(line).context("read a status line")?;
    let mut words = text.split(' ');
    ensure!(
        matches!(words.next(), Some("HTTP/1.1" | "HTTP/1.0")),
        "not an HTTP response: {text:?}"
    );
    let status: u16 = words
        .next()
        .unwrap_or_default()
        .parse()
        .with_context(|| format!("status line {text:?}"))?;
    let mut head = Head {
        status,
        close: false,
        framing: Framing::UntilClose,
        raw,
    };
    let close = head
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let chunked = head
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    head.framing = match head.content_length() {
        _ if to_head || status < 200 || status == 204 || status == 304 => Framing::Length(0),
        _ if chunked => Framing::Chunked(Chunked::Size),
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    };
    head.close = close || head.framing == Framing::UntilClose;
    Ok(head)
}

/// A plain GET without a signature: status and body.
///
/// # Errors
/// If no whole answer came.
pub async fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut connection = Connection::open(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.send(request.into_bytes(), Body::Empty).await?;
    let mut head = connection.read_head(false).await?;
    let body = connection.read_body(&mut head).await?;
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}

/// The status of a plain GET.
///
/// # Errors
/// If no answer came.
pub async fn http_status(address: SocketAddr, path: &str) -> anyhow::Result<u16> {
    Ok(http_get(address, path).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Serves `answer` to one connection, in pieces of `step` bytes, after one read.
    async fn served(answer: &'static [u8], step: usize) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            for piece in answer.chunks(step) {
                stream.write_all(piece).await.expect("write");
                tokio::task::yield_now().await;
            }
        });
        Connection::open(address).await.expect("connect")
    }

    #[tokio::test]
    async fn two_responses_on_one_connection_are_told_apart() {
        for step in [1, 7, 4096] {
            let mut connection = served(
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\nhello\
                  HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: v\r\n\r\n",
                step,
            )
            .await;
            let mut first = connection.read_head(false).await.expect("first head");
            assert_eq!(
                (first.status, first.header("etag"), first.close),
                (200, Some("\"x\""), false)
            );
            assert_eq!(
                connection.read_body(&mut first).await.expect("first body"),
                b"hello"
            );
            let mut second = connection.read_head(false).await.expect("second head");
            assert_eq!(second.status, 404);
            assert_eq!(
                connection.read_body(&mut second).await.expect("second body"),
                b"abcde"
            );
        }
    }

    #[tokio::test]
    async fn a_body_cut_short_is_an_error_and_a_head_has_none() {
        let mut connection = served(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", 4096).await;
        let mut head = connection.read_head(false).await.expect("head");
        assert!(connection.read_body(&mut head).await.is_err());
        let mut connection = served(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 4096).await;
        let mut head = connection.read_head(true).await.expect("head");
        assert_eq!(connection.skip_body(&mut head).await.expect("no body"), 0);
        assert_eq!(head.content_length(), Some(9));
    }
}
