//! Just enough of gRPC and Protocol Buffers for a few unary calls: messages are written and read field by
//! field, as https://protobuf.dev/programming-guides/encoding and
//! https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md have it.

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// A connection that many calls share.
#[derive(Clone)]
pub struct Channel {
    sender: http2::SendRequest<Full<Bytes>>,
    authority: String,
}

impl Channel {
    /// Connects, without TLS.
    ///
    /// # Errors
    /// If nobody listens, or not to HTTP/2.
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .context("HTTP/2 handshake")?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            authority: address.to_owned(),
        })
    }

    /// A unary call.
    ///
    /// # Errors
    /// If it has no answer, or the answer is an error.
    pub async fn call(&self, method: &'static str, message: &[u8]) -> anyhow::Result<Bytes> {
        let mut body = BytesMut::with_capacity(message.len() + 5);
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).context("a message too long")?);
        body.put_slice(message);
        let request = http::Request::post(format!("http://{}{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.freeze()))
            .context("make a request")?;
        let mut sender = self.sender.clone();
        sender.ready().await.context("wait for the connection")?;
        let response = sender.send_request(request).await.context("send")?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("receive")?;
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
        let status = status.or_else(|| head.headers.get("grpc-status"));
        ensure!(
            head.status == 200 && status.is_some_and(|status| status == "0"),
            "{method} answered {} {status:?} {:?}",
            head.status,
            body.trailers().and_then(|trailers| trailers.get("grpc-message"))
        );
        let mut bytes = body.to_bytes();
        ensure!(bytes.len() >= 5, "{method} answered no message");
        Ok(bytes.split_off(5))
    }
}

/// Appends a field of bytes.
pub fn put_bytes(message: &mut BytesMut, field: u64, value: &[u8]) {
    put_varint(message, field << 3 | 2);
    put_varint(message, value.len() as u64);
    message.put_slice(value);
}

fn put_varint(message: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        message.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    message.put_u8(u8::try_from(value).unwrap_or(0));
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Bytes, text or a message.
    Bytes(Bytes),
}

/// The fields of a message, in order.
///
/// # Errors
/// If it is no message.
pub fn fields(mut message: Bytes) -> anyhow::Result<Vec<(u64, Value)>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut message)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).context("a field too long")?;
                ensure!(length <= message.len(), "a field ends early");
                Value::Bytes(message.split_to(length))
            }
            other => bail!("a field of wire type {other}"),
        };
        found.push((tag >> 3, value));
    }
    Ok(found)
}

fn varint(message: &mut Bytes) -> anyhow::Result<u64> {
    let mut value = 0;
    for at in 0..10 {
        ensure!(!message.is_empty(), "a number ends early");
        let byte = message.split_to(1)[0];
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number too long")
}

#[cfg(test)]
mod tests {
    use super::{Value, fields, put_bytes, put_varint};
    use bytes::{Bytes, BytesMut};

    #[test]
    fn what_is_written_is_read() {
        let mut message = BytesMut::new();
        put_bytes(&mut message, 1, b"key");
        put_varint(&mut message, 20 << 3);
        put_varint(&mut message, u64::MAX);
        put_bytes(&mut message, 2, &[7; 200]);
        let read = fields(message.freeze()).expect("a message");
        let expected = vec![
            (1, Value::Bytes(Bytes::from_static(b"key"))),
            (20, Value::Number(u64::MAX)),
            (2, Value::Bytes(Bytes::from(vec![7; 200]))),
        ];
        assert_eq!(read, expected);
        assert!(fields(Bytes::from_static(&[0x0a, 9])).is_err());
    }
}
