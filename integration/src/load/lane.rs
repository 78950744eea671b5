//! A lane: one connection with one request in flight, signed and checked as cheaply as it goes.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};

use crate::content::Content;
use crate::http1::{Body, Connection, Head};
use crate::load::target::Target;
use crate::load::workload::Spec;
use crate::sign::{Signer, ToSign, UNSIGNED_PAYLOAD};

/// What all lanes of a client thread share.
pub struct Context {
    target: Target,
    signer: Signer,
    /// The run.
    pub spec: Spec,
    /// What every key of this run begins with; unreserved characters and slashes only.
    pub prefix: String,
}

impl Context {
    /// For one run on one endpoint.
    #[must_use]
    pub fn new(target: &Target, spec: &Spec, prefix: &str) -> Arc<Self> {
        let signer = Signer::new(target.credentials.clone(), &target.region, "s3");
        Arc::new(Self {
            target: target.clone(),
            signer,
            spec: spec.clone(),
            prefix: prefix.to_owned(),
        })
    }

    /// The key of a prepared object.
    #[must_use]
    pub fn prepared_key(&self, index: u64) -> String {
        format!("{}/prepared/{index:08}", self.prefix)
    }

    /// The key of an object that the run itself writes.
    #[must_use]
    pub fn new_key(&self, index: u64) -> String {
        format!("{}/new/{index:010}", self.prefix)
    }

    /// The body of a key.
    #[must_use]
    pub fn content(&self, key: &str) -> Content {
        Content::new(self.spec.seed, key, self.spec.size)
    }
}

/// Why an operation did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The server is busy: 503.
    Refused,
    /// Anything else.
    Error(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(error)
    }
}

/// One connection, opened when first needed and again after a failure.
pub struct Lane {
    /// What it shares with the others.
    pub context: Arc<Context>,
    connection: Option<Connection>,
}

/// A request line and what follows it.
struct Call<'a> {
    method: &'a str,
    key: &'a str,
    query: &'a str,
    /// Headers that need no signature, each with its line end.
    unsigned: &'a str,
    body: Body<'a>,
}

impl Lane {
    /// A lane that is not connected yet.
    #[must_use]
    pub fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
            connection: None,
        }
    }

    /// Connects, so that a run does not begin with it.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn connect(&mut self) -> anyhow::Result<()> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(self.context.target.address).await?);
        }
        Ok(())
    }

    async fn call(&mut self, call: &Call<'_>) -> anyhow::Result<(Connection, Head)> {
        self.connect().await?;
        let mut connection = self.connection.take().context("not connected")?;
        let context = &self.context;
        let slash = if call.key.is_empty() { "" } else { "/" };
        let path = format!("/{}{slash}{}", context.target.bucket, call.key);
        let to_sign = ToSign {
            method: call.method,
            path: &path,
            query: call.query,
            host: &context.target.host,
            headers: &[],
            payload_hash: UNSIGNED_PAYLOAD,
        };
        let (stamp, authorization) = context.signer.sign(&to_sign, SystemTime::now());
        let mark = if call.query.is_empty() { "" } else { "?" };
        let head = format!(
            "{} {path}{mark}{} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nx-amz-content-sha256: {UNSIGNED_PAYLOAD}\r\n\
             x-amz-date: {stamp}\r\nauthorization: {authorization}\r\n{}\r\n",
            call.method,
            call.query,
            context.target.host,
            call.body.length(),
            call.unsigned,
        );
        connection.send(head.into_bytes(), call.body).await?;
        let head = connection.read_head(call.method == "HEAD").await?;
        Ok((connection, head))
    }

    fn keep(&mut self, connection: Connection, head: &Head) {
        if !head.close {
            self.connection = Some(connection);
        }
    }

    /// Reads a small answer, whatever its status.
    async fn exchange(&mut self, call: &Call<'_>) -> anyhow::Result<(Head, Vec<u8>)> {
        let (mut connection, mut head) = self.call(call).await?;
        let body = connection.read_body(&mut head).await?;
        self.keep(connection, &head);
        Ok((head, body))
    }

    async fn expect(&mut self, call: &Call<'_>, status: u16) -> Result<(Head, Vec<u8>), Failure> {
        let (head, body) = self.exchange(call).await?;
        match head.status {
            have if have == status => Ok((head, body)),
            503 => Err(Failure::Refused),
            have => Err(Failure::Error(unexpected(call, have, &body))),
        }
    }

    /// Makes the bucket unless it is there.
    ///
    /// # Errors
    /// If it neither is there nor can be made.
    pub async fn ensure_bucket(&mut self) -> anyhow::Result<()> {
        let mut call = Call {
            method: "HEAD",
            key: "",
            query: "",
            unsigned: "",
            body: Body::Empty,
        };
        if self.exchange(&call).await?.0.status == 200 {
            return Ok(());
        }
        call.method = "PUT";
        let (head, body) = self.exchange(&call).await?;
        ensure!(head.status == 200, "{}", unexpected(&call, head.status, &body));
        Ok(())
    }

    /// PUT of the key's body; returns its length.
    ///
    /// # Errors
    /// Any answer but 200; when verifying, a wrong ETag.
    pub async fn put(&mut self, key: &str) -> Result<u64, Failure> {
        let content = self.context.content(key);
        let call = Call {
            method: "PUT",
            key,
            query: "",
            unsigned: "",
            body: Body::Content(content),
        };
        let (head, _) = self.expect(&call, 200).await?;
        if self.context.spec.verify {
            let (have, want) = (
                head.header("etag")
                    .unwrap_or_default()
                    .trim_matches('"')
                    .to_owned(),
                content.md5_hex(),
            );
            if have != want {
                return Err(Failure::Error(anyhow::anyhow!(
                    "PUT {key}: ETag {have} instead of {want}"
                )));
            }
        }
        Ok(content.length)
    }

    /// GET of a key, or of a part of it; returns the length.
    ///
    /// # Errors
    /// Any other answer, a wrong length; when verifying, a wrong byte.
    pub async fn get(&mut self, key: &str, range: Option<(u64, u64)>) -> Result<u64, Failure> {
        let content = self.context.content(key);
        let (want_status, wanted, header) = match range {
            None => (200, content, String::new()),
            Some((offset, length)) => {
                let part = content.part(offset, length);
                (
                    206,
                    part,
                    format!(
                        "range: bytes={offset}-{}\r\n",
                        (offset + part.length).saturating_sub(1)
                    ),
                )
            }
        };
        let call = Call {
            method: "GET",
            key,
            query: "",
            unsigned: &header,
            body: Body::Empty,
        };
        let (mut connection, mut head) = self.call(&call).await?;
        if head.status != want_status {
            let body = connection.read_body(&mut head).await?;
            self.keep(connection, &head);
            return Err(match head.status {
                503 => Failure::Refused,
                status => Failure::Error(unexpected(&call, status, &body)),
            });
        }
        let verify = self.context.spec.verify;
        let mut length = 0;
        while let Some(piece) = connection.next_piece(&mut head).await? {
            if verify && let Err(mismatch) = wanted.check(length, piece) {
                return Err(Failure::Error(anyhow::anyhow!(
                    "GET {key}: wrong byte at {}",
                    mismatch.offset
                )));
            }
            length += piece.len() as u64;
        }
        if length != wanted.length {
            return Err(Failure::Error(anyhow::anyhow!(
                "GET {key}: {length} bytes instead of {}",
                wanted.length
            )));
        }
        self.keep(connection, &head);
        Ok(length)
    }

    /// HEAD of a key.
    ///
    /// # Errors
    /// Any answer but 200; when verifying, a wrong length.
    pub async fn head(&mut self, key: &str) -> Result<u64, Failure> {
        let call = Call {
            method: "HEAD",
            key,
            query: "",
            unsigned: "",
            body: Body::Empty,
        };
        let (head, _) = self.expect(&call, 200).await?;
        if self.context.spec.verify && head.content_length() != Some(self.context.spec.size) {
            return Err(Failure::Error(anyhow::anyhow!(
                "HEAD {key}: length {:?}",
                head.content_length()
            )));
        }
        Ok(0)
    }

    /// DELETE of a key.
    ///
    /// # Errors
    /// Any answer but 204.
    pub async fn delete(&mut self, key: &str) -> Result<u64, Failure> {
        let call = Call {
            method: "DELETE",
            key,
            query: "",
            unsigned: "",
            body: Body::Empty,
        };
        self.expect(&call, 204).await.map(|_| 0)
    }

    /// One page of the prepared keys; returns the body's length and the token of the next page.
    ///
    /// # Errors
    /// Any answer but 200; when verifying, a page with too few keys.
    pub async fn list(&mut self, token: Option<&str>) -> Result<(u64, Option<String>), Failure> {
        let prefix = format!("{}/prepared/", self.context.prefix);
        let page_keys = self.context.spec.page_keys.to_string();
        let mut pairs = vec![
            ("list-type", "2"),
            ("max-keys", page_keys.as_str()),
            ("prefix", prefix.as_str()),
        ];
        if let Some(token) = token {
            pairs.push(("continuation-token", token));
        }
        let query = crate::sign::encode_query(&pairs);
        let call = Call {
            method: "GET",
            key: "",
            query: &query,
            unsigned: "",
            body: Body::Empty,
        };
        let (_, body) = self.expect(&call, 200).await?;
        let text = String::from_utf8_lossy(&body);
        let next = between(&text, "<NextContinuationToken>", "</NextContinuationToken>");
        if self.context.spec.verify {
            let keys = text.matches("<Key>").count() as u64;
            let full = u64::from(self.context.spec.page_keys).min(self.context.spec.keys);
            if next.is_some() && keys != full || keys == 0 {
                return Err(Failure::Error(anyhow::anyhow!(
                    "a page with {keys} keys instead of {full}"
                )));
            }
        }
        Ok((body.len() as u64, next.map(|token| token.replace("&amp;", "&"))))
    }

    /// Opens an upload; returns its id.
    ///
    /// # Errors
    /// Any answer but 200 with an id.
    pub async fn create_upload(&mut self, key: &str) -> Result<String, Failure> {
        let call = Call {
            method: "POST",
            key,
            query: "uploads=",
            unsigned: "",
            body: Body::Empty,
        };
        let (_, body) = self.expect(&call, 200).await?;
        let id = between(&String::from_utf8_lossy(&body), "<UploadId>", "</UploadId>");
        id.with_context(|| format!("no UploadId for {key}"))
            .map_err(Failure::Error)
    }

    /// Uploads one part, numbered from 1; returns its ETag as sent.
    ///
    /// # Errors
    /// Any answer but 200 with an ETag.
    pub async fn put_part(&mut self, key: &str, upload: &str, number: u64) -> Result<String, Failure> {
        let part_bytes = self.context.spec.part_bytes;
        let part = self
            .context
            .content(key)
            .part((number - 1) * part_bytes, part_bytes);
        let query = crate::sign::encode_query(&[("partNumber", &number.to_string()), ("uploadId", upload)]);
        let call = Call {
            method: "PUT",
            key,
            query: &query,
            unsigned: "",
            body: Body::Content(part),
        };
        let (head, _) = self.expect(&call, 200).await?;
        let etag = head
            .header("etag")
            .with_context(|| format!("no ETag for part {number} of {key}"))?;
        Ok(etag.to_owned())
    }

    /// Completes an upload.
    ///
    /// # Errors
    /// Any answer but 200 with an ETag inside.
    pub async fn complete_upload(
        &mut self,
        key: &str,
        upload: &str,
        etags: &[String],
    ) -> Result<(), Failure> {
        let mut xml = String::from("<CompleteMultipartUpload>");
        for (index, etag) in etags.iter().enumerate() {
            xml.push_str(&format!(
                "<Part><PartNumber>{}</PartNumber><ETag>{etag}</ETag></Part>",
                index + 1
            ));
        }
        xml.push_str("</CompleteMultipartUpload>");
        let query = crate::sign::encode_query(&[("uploadId", upload)]);
        let call = Call {
            method: "POST",
            key,
            query: &query,
            unsigned: "",
            body: Body::Bytes(xml.as_bytes()),
        };
        let (_, body) = self.expect(&call, 200).await?;
        match between(&String::from_utf8_lossy(&body), "<ETag>", "</ETag>") {
            Some(_) => Ok(()),
            None => Err(Failure::Error(unexpected(&call, 200, &body))),
        }
    }
}

fn unexpected(call: &Call<'_>, status: u16, body: &[u8]) -> anyhow::Error {
    let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
    anyhow::anyhow!(
        "{} {}?{}: status {status}: {text}",
        call.method,
        call.key,
        call.query
    )
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let start = text.find(before)? + before.len();
    let length = text[start..].find(after)?;
    Some(text[start..start + length].to_owned())
}

/// Uploads a whole object in parts over all lanes; returns its length.
///
/// # Errors
/// The first failure of a step.
pub async fn upload(lanes: &mut Vec<Lane>, key: &str) -> Result<u64, Failure> {
    let Some(first) = lanes.first_mut() else {
        return Err(Failure::Error(anyhow::anyhow!("no lane")));
    };
    let spec = first.context.spec.clone();
    let id = first.create_upload(key).await?;
    let parts = spec.size.div_ceil(spec.part_bytes).max(1);
    let stride = lanes.len() as u64;
    let mut tasks = Vec::new();
    for (start, mut lane) in (1..).zip(lanes.drain(..)) {
        let (key, id) = (key.to_owned(), id.clone());
        tasks.push(tokio::spawn(async move {
            let mut etags = Vec::new();
            let mut number = start;
            while number <= parts {
                match lane.put_part(&key, &id, number).await {
                    Ok(etag) => etags.push((number, etag)),
                    Err(failure) => return (lane, Err(failure)),
                }
                number += stride;
            }
            (lane, Ok(etags))
        }));
    }
    let mut numbered = Vec::new();
    let mut failed = None;
    for task in tasks {
        let (lane, result) = task.await.context("join a part")?;
        lanes.push(lane);
        match result {
            Ok(etags) => numbered.extend(etags),
            Err(failure) => failed = Some(failure),
        }
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    numbered.sort_by_key(|(number, _)| *number);
    let etags: Vec<String> = numbered.into_iter().map(|(_, etag)| etag).collect();
    match lanes.first_mut() {
        Some(lane) => lane.complete_upload(key, &id, &etags).await?,
        None => return Err(Failure::Error(anyhow::anyhow!("no lane"))),
    }
    Ok(spec.size)
}

/// Waits a moment after a refusal, as its `Retry-After` asks in full seconds and a benchmark cannot.
///
/// # Errors
/// Never; a failure that is no refusal is given back in words.
pub async fn after(failure: Failure) -> Option<String> {
    match failure {
        Failure::Refused => {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            None
        }
        Failure::Error(error) => {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            Some(format!("{error:#}"))
        }
    }
}

/// Repeats an operation while the server is busy, a bounded number of times.
///
/// # Errors
/// The failure, or that the server stayed busy.
pub async fn insist<T>(mut operation: impl AsyncFnMut() -> Result<T, Failure>) -> anyhow::Result<T> {
    for _ in 0..1_000 {
        match operation().await {
            Ok(value) => return Ok(value),
            Err(Failure::Error(error)) => return Err(error),
            refused @ Err(Failure::Refused) => {
                drop(refused);
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
    bail!("the server answered 503 a thousand times in a row")
}
