//! A client on a raw socket that signs with aws-sigv4's own signer.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A user's client of one listener.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    host: String,
    service: &'static str,
    access_key: String,
    secret_key: String,
}

/// An answer, read to its end.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Answers before it with a status of 1xx.
    pub interim: usize,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    }

    pub fn elements(&self, name: &str) -> Vec<String> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let text = self.text();
        let found = text.split(&open).skip(1);
        found
            .filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned()))
            .collect()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Requires an S3 error, complete in all its parts.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str) {
        let have = (self.status, self.element("Code").unwrap_or_default());
        assert_eq!(have, (status, code.to_owned()), "{}", self.text());
        assert_eq!(
            self.element("RequestId").as_deref(),
            self.header("x-amz-request-id")
        );
        assert!(self.header("x-amz-id-2").is_some());
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Client {
    pub fn new(address: SocketAddr, service: &'static str, access_key: &str, secret_key: &str) -> Self {
        Self {
            address,
            host: address.to_string(),
            service,
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
        }
    }

    /// The same client, naming another host.
    pub fn at_host(&self, host: &str) -> Self {
        Self {
            host: host.to_owned(),
            ..self.clone()
        }
    }

    /// The signed head of a request whose body is `body`; `target` is encoded already.
    pub fn head(&self, method: &str, target: &str, headers: &[(&str, &str)], length: usize) -> String {
        let host = &self.host;
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        // The header is among those signed below.
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = Credentials::new(&self.access_key, &self.secret_key, None, None, "tests").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(super::REGION)
            .name(self.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .expect("parameters");
        let given = headers.iter().find(|(name, _)| *name == "x-amz-content-sha256");
        let payload = given.map_or("UNSIGNED-PAYLOAD", |(_, value)| *value);
        let mut headers = headers.to_vec();
        if given.is_none() {
            headers.push(("x-amz-content-sha256", payload));
        }
        let signed_headers = headers.iter().copied().filter(|(name, _)| *name != "expect");
        let signable = SignableRequest::new(
            method,
            format!("http://{host}{target}"),
            signed_headers,
            SignableBody::Precomputed(payload.to_owned()),
        );
        let (instructions, _) = sign(signable.expect("signable"), &parameters.into())
            .expect("signed")
            .into_parts();
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n");
        for (name, value) in headers.iter().copied().chain(instructions.headers()) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// Sends a signed request and reads its answer.
    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut bytes = self.head(method, target, headers, body.len()).into_bytes();
        bytes.extend_from_slice(body);
        let answer = self.raw(&bytes, method == "HEAD").await;
        answer.unwrap_or_else(|| panic!("{method} {target}: no answer"))
    }

    /// Sends a request without a signature.
    pub async fn unsigned(&self, method: &str, target: &str) -> Answer {
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.raw(head.as_bytes(), method == "HEAD")
            .await
            .expect("an answer")
    }

    /// Sends bytes as they are; `None` if the server closes without an answer.
    pub async fn raw(&self, bytes: &[u8], is_head: bool) -> Option<Answer> {
        let mut connection = Connection::open(self.address).await;
        connection.send(bytes).await;
        connection.answer(is_head).await
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// A connection into which little fits that nobody reads.
    pub async fn connect_narrow(&self) -> Connection {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        Connection {
            stream: socket.connect(self.address).await.expect("a connection"),
            buffered: Vec::new(),
        }
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    buffered: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.expect("a connection"),
            buffered: Vec::new(),
        }
    }

    /// Sends as much as the server takes: it may refuse early.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn finish_sending(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next answer; `None` when the connection ends before one is complete.
    pub async fn answer(&mut self, is_head: bool) -> Option<Answer> {
        tokio::time::timeout(PATIENCE, self.read_answer(is_head))
            .await
            .expect("an answer in time")
    }

    async fn read_answer(&mut self, is_head: bool) -> Option<Answer> {
        let mut answer = Answer::default();
        loop {
            let end = loop {
                let at = self.buffered.windows(4).position(|window| window == b"\r\n\r\n");
                match at {
                    Some(at) => break at + 4,
                    None => self.more().await?,
                }
            };
            let head = String::from_utf8(self.buffered.drain(..end).collect()).expect("an ASCII head");
            let mut lines = head.lines();
            answer.status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
            if answer.status < 200 {
                answer.interim += 1;
                continue;
            }
            let fields = lines.filter_map(|line| line.split_once(": "));
            answer.headers = fields
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            break;
        }
        let bodiless = is_head || matches!(answer.status, 204 | 304);
        let length = answer
            .header("content-length")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks().await?;
        } else if !bodiless {
            while self.buffered.len() < length {
                self.more().await?;
            }
            answer.body = self.buffered.drain(..length).collect();
        }
        Some(answer)
    }

    /// The body of an answer whose length was not known when it began.
    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                match self.buffered.windows(2).position(|window| window == b"\r\n") {
                    Some(at) => break at,
                    None => self.more().await?,
                }
            };
            let size: Vec<u8> = self.buffered.drain(..end + 2).collect();
            let size = usize::from_str_radix(std::str::from_utf8(&size).ok()?.trim(), 16).ok()?;
            while self.buffered.len() < size + 2 {
                self.more().await?;
            }
            body.extend(self.buffered.drain(..size));
            self.buffered.drain(..2);
            if size == 0 {
                return Some(body);
            }
        }
    }

    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.buffered).await.ok()?;
        (read > 0).then_some(())
    }

    /// Some bytes as they come.
    pub async fn some_bytes(&mut self) -> Vec<u8> {
        self.more().await.expect("bytes");
        std::mem::take(&mut self.buffered)
    }

    /// Some bytes as they come; none at the end.
    pub async fn read(&mut self) -> Vec<u8> {
        let _ = self.more().await;
        std::mem::take(&mut self.buffered)
    }

    /// All bytes until the server closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await.is_some() {}
        std::mem::take(&mut self.buffered)
    }

    /// Whether the server closes, without another byte.
    pub async fn is_closed(&mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.more())
            .await
            .is_ok_and(|more| more.is_none())
    }
}
