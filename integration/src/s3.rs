//! A small S3 client for tests. It signs properly unless told otherwise, sends keys as they are, and
//! gives every answer back, errors too, so that a test can look at status, code and headers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use md5::{Digest as _, Md5};
use quick_xml::events::Event;

use crate::content::Content;
use crate::http1::{Body, Connection, Head};
use crate::patient::{ATTEMPTS, FIRST_PAUSE};
use crate::sign::{Credentials, Signer, ToSign, UNSIGNED_PAYLOAD, encode_path, encode_query};

/// Idle connections kept by one client.
const IDLE_CONNECTIONS: usize = 64;
/// Pages that a full listing may take: 10^7 keys.
const LIST_PAGES: usize = 10_000;

/// A request before it is signed.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The bucket, empty for the service itself.
    pub bucket: &'a str,
    /// The key, empty for the bucket itself.
    pub key: &'a str,
    /// Query parameters, not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// Further headers, lower-case names; all are signed.
    pub headers: &'a [(&'a str, &'a str)],
    /// The value of `x-amz-content-sha256`; `UNSIGNED-PAYLOAD` if empty.
    pub payload_hash: &'a str,
}

impl<'a> Request<'a> {
    fn payload_hash(&self) -> &'a str {
        if self.payload_hash.is_empty() {
            UNSIGNED_PAYLOAD
        } else {
            self.payload_hash
        }
    }

    /// A request for an object.
    #[must_use]
    pub fn object(method: &'a str, bucket: &'a str, key: &'a str) -> Self {
        Self {
            method,
            bucket,
            key,
            ..Self::default()
        }
    }

    /// ListBuckets.
    #[must_use]
    pub fn list_buckets() -> Self {
        Self {
            method: "GET",
            ..Self::default()
        }
    }

    /// With query parameters.
    #[must_use]
    pub fn query(self, query: &'a [(&'a str, &'a str)]) -> Self {
        Self { query, ..self }
    }

    /// With headers.
    #[must_use]
    pub fn headers(self, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { headers, ..self }
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status and headers.
    pub head: Head,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of the first XML element of that name.
    #[must_use]
    pub fn element(&self, name: &str) -> Option<String> {
        elements(&self.body, name).into_iter().next()
    }

    /// The ETag without its quotes.
    #[must_use]
    pub fn etag(&self) -> String {
        self.head
            .header("etag")
            .unwrap_or_default()
            .trim_matches('"')
            .to_owned()
    }

    /// Requires a status.
    ///
    /// # Errors
    /// Names the status and the S3 error if it is another one.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        ensure!(
            self.status() == status,
            "status {} instead of {status}: {}",
            self.status(),
            self.text()
        );
        Ok(self)
    }
}

/// The value of `Content-MD5` for a body: DeleteObjects takes no body without it or a checksum.
#[must_use]
pub fn content_md5(body: &[u8]) -> String {
    BASE64_STANDARD.encode(Md5::digest(body))
}

/// The texts of all XML elements of one name, entities resolved.
#[must_use]
pub fn elements(xml: &[u8], name: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(xml);
    let mut reader = quick_xml::Reader::from_str(&text);
    let mut found = Vec::new();
    let mut inside: Option<String> = None;
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(tag) if tag.local_name().as_ref() == name => inside = Some(String::new()),
            Event::Empty(tag) if tag.local_name().as_ref() == name => found.push(String::new()),
            Event::End(tag) if tag.local_name().as_ref() == name => found.extend(inside.take()),
            Event::Text(text) => {
                if let Some(value) = &mut inside {
                    value.push_str(&text);
                }
            }
            Event::GeneralRef(entity) => {
                if let Some(value) = &mut inside {
                    value.push_str(&resolve(&entity));
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    found
}

fn resolve(entity: &str) -> String {
    let number = entity
        .strip_prefix('#')
        .and_then(|digits| match digits.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        });
    match (entity, number.and_then(char::from_u32)) {
        (_, Some(character)) => character.to_string(),
        ("amp", _) => "&".to_owned(),
        ("lt", _) => "<".to_owned(),
        ("gt", _) => ">".to_owned(),
        ("quot", _) => "\"".to_owned(),
        ("apos", _) => "'".to_owned(),
        _ => format!("&{entity};"),
    }
}

/// A client of one endpoint as one user. Clones share the idle connections.
#[derive(Clone)]
pub struct S3 {
    address: SocketAddr,
    host: Arc<str>,
    signer: Arc<Signer>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl S3 {
    /// A client of the endpoint at `address`, region us-east-1.
    #[must_use]
    pub fn new(address: SocketAddr, credentials: Credentials) -> Self {
        Self {
            address,
            host: address.to_string().into(),
            signer: Arc::new(Signer::new(credentials, "us-east-1", "s3")),
            idle: Arc::default(),
        }
    }

    /// The address of the endpoint.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The credentials of the user.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        self.signer.credentials()
    }

    /// The signed head of a request with a body of `length` bytes.
    #[must_use]
    pub fn head_bytes(&self, request: &Request<'_>, length: u64) -> Vec<u8> {
        let (path, query) = target(request);
        let to_sign = ToSign {
            method: request.method,
            path: &path,
            query: &query,
            host: &self.host,
            headers: request.headers,
            payload_hash: request.payload_hash(),
        };
        let (stamp, authorization) = self.signer.sign(&to_sign, SystemTime::now());
        let mut head = unsigned_head(request, &path, &query, &self.host, length);
        head.push_str(&format!(
            "x-amz-date: {stamp}\r\nauthorization: {authorization}\r\n\r\n"
        ));
        head.into_bytes()
    }

    /// The head of the same request without a signature, as an anonymous caller sends it.
    #[must_use]
    pub fn anonymous_head_bytes(&self, request: &Request<'_>, length: u64) -> Vec<u8> {
        let (path, query) = target(request);
        let mut head = unsigned_head(request, &path, &query, &self.host, length);
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Sends a request; returns the connection with the response body still to be read.
    ///
    /// # Errors
    /// If no response came: the outcome of the request is then unknown.
    pub async fn open(&self, request: &Request<'_>, body: Body<'_>) -> anyhow::Result<(Connection, Head)> {
        let kept = self
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(self.address).await?,
        };
        connection
            .send(self.head_bytes(request, body.length()), body)
            .await?;
        let head = connection.read_head(request.method == "HEAD").await?;
        Ok((connection, head))
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// If no whole response came: the outcome of the request is then unknown.
    pub async fn send(&self, request: &Request<'_>, body: Body<'_>) -> anyhow::Result<Response> {
        let described = || format!("{} /{}/{}", request.method, request.bucket, request.key);
        let (mut connection, mut head) = self.open(request, body).await.with_context(described)?;
        let body = connection.read_body(&mut head).await.with_context(described)?;
        self.give_back(connection, &head);
        Ok(Response { head, body })
    }

    /// Keeps a connection for the next request, if the server does too. The response must have been read.
    pub fn give_back(&self, connection: Connection, head: &Head) {
        let mut idle = self
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !head.close && idle.len() < IDLE_CONNECTIONS {
            idle.push(connection);
        }
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// Any answer but 200.
    pub async fn create_bucket(&self, bucket: &str) -> anyhow::Result<Response> {
        self.send(&Request::object("PUT", bucket, ""), Body::Empty)
            .await?
            .expect(200)
    }

    /// Puts an object and checks that the ETag is the MD5 of a body given as bytes.
    ///
    /// # Errors
    /// Any answer but 200.
    pub async fn put(&self, bucket: &str, key: &str, body: Body<'_>) -> anyhow::Result<Response> {
        self.send(&Request::object("PUT", bucket, key), body)
            .await?
            .expect(200)
    }

    /// Gets an object, whatever the answer.
    ///
    /// # Errors
    /// If no whole answer came.
    pub async fn get(&self, bucket: &str, key: &str) -> anyhow::Result<Response> {
        self.send(&Request::object("GET", bucket, key), Body::Empty).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// Any answer but 204.
    pub async fn delete(&self, bucket: &str, key: &str) -> anyhow::Result<Response> {
        self.send(&Request::object("DELETE", bucket, key), Body::Empty)
            .await?
            .expect(204)
    }

    /// Gets an object and checks each byte as it comes, without keeping it.
    ///
    /// # Errors
    /// Any answer but 200, a wrong byte, a wrong length.
    pub async fn check(&self, bucket: &str, key: &str, content: Content) -> anyhow::Result<()> {
        let (mut connection, mut head) = self
            .open(&Request::object("GET", bucket, key), Body::Empty)
            .await?;
        if head.status != 200 {
            let body = connection.read_body(&mut head).await?;
            bail!(
                "GET /{bucket}/{key}: status {}: {}",
                head.status,
                String::from_utf8_lossy(&body)
            );
        }
        let length = check_body(&mut connection, &mut head, content).await;
        let length = length.with_context(|| format!("GET /{bucket}/{key}"))?;
        ensure!(
            length == content.length,
            "/{bucket}/{key} has {length} bytes instead of {}",
            content.length
        );
        self.give_back(connection, &head);
        Ok(())
    }

    /// Every key under a prefix, page by page.
    ///
    /// # Errors
    /// Any answer but 200, and a listing that is not in byte order or does not end.
    pub async fn list_keys(&self, bucket: &str, prefix: &str) -> anyhow::Result<Vec<String>> {
        let mut keys: Vec<String> = Vec::new();
        let mut token = String::new();
        for _ in 0..LIST_PAGES {
            let mut query = vec![("list-type", "2"), ("prefix", prefix), ("encoding-type", "url")];
            if !token.is_empty() {
                query.push(("continuation-token", &token));
            }
            let request = Request::object("GET", bucket, "").query(&query);
            let page = self.send(&request, Body::Empty).await?.expect(200)?;
            for key in elements(&page.body, "Key") {
                let decoded = percent_encoding::percent_decode_str(&key.replace('+', " "))
                    .decode_utf8_lossy()
                    .into_owned();
                ensure!(
                    keys.last()
                        .is_none_or(|last| last.as_bytes() < decoded.as_bytes()),
                    "{decoded:?} out of order"
                );
                keys.push(decoded);
            }
            if page.element("IsTruncated").as_deref() != Some("true") {
                return Ok(keys);
            }
            token = page
                .element("NextContinuationToken")
                .context("a truncated page has no token")?;
        }
        bail!("listing of {bucket}/{prefix} does not end")
    }

    /// Uploads a body in parts, one after the other.
    ///
    /// # Errors
    /// Any answer but the expected ones.
    pub async fn put_multipart(
        &self,
        bucket: &str,
        key: &str,
        content: Content,
        part: u64,
    ) -> anyhow::Result<Response> {
        let upload = self.create_upload(bucket, key).await?;
        let mut etags = Vec::new();
        let mut offset = 0;
        while offset < content.length {
            let body = content.part(offset, part);
            etags.push(self.put_part(bucket, key, &upload, etags.len() + 1, body).await?);
            offset += body.length;
        }
        self.complete_upload(bucket, key, &upload, &etags).await
    }

    /// Opens a multipart upload; returns its id.
    ///
    /// # Errors
    /// Any answer but 200.
    pub async fn create_upload(&self, bucket: &str, key: &str) -> anyhow::Result<String> {
        let request = Request::object("POST", bucket, key).query(&[("uploads", "")]);
        let answer = self.send(&request, Body::Empty).await?.expect(200)?;
        answer.element("UploadId").context("no UploadId in the answer")
    }

    /// Uploads one part; returns its ETag. As SDKs do, it comes again a few times when it is told to: a disk that
    /// is slower than the network makes a server say so.
    ///
    /// # Errors
    /// Any answer but 200.
    pub async fn put_part(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        number: usize,
        content: Content,
    ) -> anyhow::Result<String> {
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", upload)];
        let request = Request::object("PUT", bucket, key).query(&query);
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            let answer = self.send(&request, Body::Content(content)).await?;
            if answer.status() != 503 {
                return Ok(answer.expect(200)?.etag());
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let answer = self.send(&request, Body::Content(content)).await?;
        Ok(answer.expect(200)?.etag())
    }

    /// Completes a multipart upload with the parts' ETags in order. A 200 with an error inside, as S3
    /// sends it, is an error.
    ///
    /// # Errors
    /// Any answer but 200 with a result.
    pub async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        etags: &[String],
    ) -> anyhow::Result<Response> {
        let mut xml = String::from("<CompleteMultipartUpload>");
        for (index, etag) in etags.iter().enumerate() {
            xml.push_str(&format!(
                "<Part><PartNumber>{}</PartNumber><ETag>\"{etag}\"</ETag></Part>",
                index + 1
            ));
        }
        xml.push_str("</CompleteMultipartUpload>");
        let query = [("uploadId", upload)];
        let request = Request::object("POST", bucket, key).query(&query);
        let answer = self
            .send(&request, Body::Bytes(xml.as_bytes()))
            .await?
            .expect(200)?;
        ensure!(
            answer.element("ETag").is_some(),
            "complete failed after 200: {}",
            answer.text()
        );
        Ok(answer)
    }
}

/// Reads a body and checks it as it comes; returns its length.
///
/// # Errors
/// A wrong byte, or a connection that ends early.
pub async fn check_body(
    connection: &mut Connection,
    head: &mut Head,
    content: Content,
) -> anyhow::Result<u64> {
    let mut offset = 0;
    while let Some(piece) = connection.next_piece(head).await? {
        if let Err(mismatch) = content.check(offset, piece) {
            bail!("WRONG BYTE at offset {} of {}", mismatch.offset, content.length);
        }
        offset += piece.len() as u64;
    }
    Ok(offset)
}

fn target(request: &Request<'_>) -> (String, String) {
    let path = match (request.bucket, request.key) {
        ("", _) => "/".to_owned(),
        (bucket, "") => format!("/{}", encode_path(bucket)),
        (bucket, key) => format!("/{}/{}", encode_path(bucket), encode_path(key)),
    };
    (path, encode_query(request.query))
}

fn unsigned_head(request: &Request<'_>, path: &str, query: &str, host: &str, length: u64) -> String {
    let mark = if query.is_empty() { "" } else { "?" };
    let mut head = format!(
        "{} {path}{mark}{query} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\nx-amz-content-sha256: {}\r\n",
        request.method,
        request.payload_hash()
    );
    for (name, value) in request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_with_their_entities_resolved() {
        let xml =
            b"<?xml version=\"1.0\"?><R xmlns=\"x\"><Key>a&amp;b&#x41;&#66;</Key><Key/><Key>c</Key></R>";
        assert_eq!(elements(xml, "Key"), ["a&bAB", "", "c"]);
        assert!(elements(xml, "Missing").is_empty());
    }
}
