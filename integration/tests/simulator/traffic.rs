//! Clients: each puts (whole or in parts), copies, gets, deletes and lists a few keys through one gateway's data path,
//! as the S3 handlers do, and records what it did and was told.

mod copies;
mod parts;
mod versions;

use crate::history::{Begun, History};
use crate::linearizability::{Action, Condition, Value};
use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ullage_gateway::directory::bucket_ref;
use ullage_gateway::error::Error;
use ullage_gateway::get::ObjectName;
use ullage_gateway::put::finalize::{Finish, ObjectFinish};
use ullage_gateway::put::plan::PutRequest;
use ullage_gateway::put::{PutError, Upload};
use ullage_gateway::store::{DeleteRequest, Store};
use ullage_model::command::{Actor, Conditions, EtagMatch};
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{BucketRow, Etag, Metadata, ROOT_USER};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{ByteRange, ListRequest};

/// The bucket that all clients use.
pub const BUCKET: &str = "bucket";
/// The class of all objects.
const CLASS: &str = "STANDARD";
/// Keys that they use.
const KEYS: u64 = 8;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(25);
/// Who they are.
pub const ROOT: Actor = Actor {
    user: ROOT_USER,
    settings_version: 0,
};

/// One client.
pub struct Client {
    /// Its number; none comes twice.
    pub number: usize,
    /// Where it goes.
    pub store: Store,
    /// What it notes.
    pub history: History,
    /// Where its choices come from.
    pub random: StdRng,
}

fn md5_of(value: Value) -> [u8; 16] {
    let mut md5 = [0xe7; 16];
    md5[..8].copy_from_slice(&value.to_be_bytes());
    md5
}

/// The entity tag of a value: tells which it is.
pub fn etag_of(value: Value) -> Etag {
    match parts::comes_in_parts(value) {
        true => Etag::Multipart(md5_of(value), 1),
        false => Etag::Md5(md5_of(value)),
    }
}

/// The value whose tag this is.
fn value_of(etag: &Etag) -> Option<Value> {
    let (Etag::Md5(md5) | Etag::Multipart(md5, _)) = etag;
    let value = md5.first_chunk().map(|bytes| Value::from_be_bytes(*bytes))?;
    (etag_of(value) == *etag).then_some(value)
}

/// [`value_of`] what was found under `key`.
fn known(key: &str, etag: &Etag) -> Value {
    value_of(etag).unwrap_or_else(|| panic!("{key} has a tag that nobody gave it: {etag}"))
}

/// Bytes that follow from the value, lengths too: some fit into the FAT, some take pieces.
pub fn body_of(value: Value) -> Bytes {
    let mut state = value;
    let length = match crate::entropy::mix(&mut state) % 10 {
        0 => 0,
        1..5 => 1 + crate::entropy::mix(&mut state) % 4_096,
        5..9 => 4_097 + crate::entropy::mix(&mut state) % 60_000,
        _ => 65_536 + crate::entropy::mix(&mut state) % 250_000,
    };
    let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 8);
    while (body.len() as u64) < length {
        body.extend_from_slice(&crate::entropy::mix(&mut state).to_be_bytes());
    }
    body.truncate(usize::try_from(length).unwrap_or(0));
    Bytes::from(body)
}

/// A body on its way, in pieces as a socket would give them.
struct Body<F> {
    pieces: Vec<Bytes>,
    finish: F,
}

impl<F> Body<F> {
    fn new(body: &Bytes, finish: F) -> Self {
        let mut pieces: Vec<Bytes> = body.chunks(50_000).map(|piece| body.slice_ref(piece)).collect();
        pieces.reverse();
        Self { pieces, finish }
    }
}

impl<F: Finish + Clone + Sync> Upload for Body<F> {
    type Finish = F;
    type Refusal = Infallible;

    async fn next(&mut self) -> Result<Option<Bytes>, Infallible> {
        Ok(self.pieces.pop())
    }

    async fn finish(&mut self, _stale: bool) -> Result<F, Infallible> {
        Ok(self.finish.clone())
    }
}

/// What S3's conditional headers make of a condition.
fn conditions(condition: Condition) -> Conditions {
    match condition {
        Condition::Always => Conditions::default(),
        Condition::IfAbsent => Conditions {
            if_none_match: Some(EtagMatch::Any),
            ..Conditions::default()
        },
        Condition::IfValue(value) => Conditions {
            if_match: Some(EtagMatch::OneOf(vec![etag_of(value).to_string()])),
            ..Conditions::default()
        },
    }
}

fn failed(error: PutError<Infallible>) -> Error {
    match error {
        PutError::Failed(error) => error,
        PutError::Refused(never) => match never {},
    }
}

/// How a put ended, if it did.
fn put_ended(result: &Result<(), Error>) -> Option<bool> {
    match result {
        Ok(()) => Some(true),
        Err(Error::Rejected(Rejection::PreconditionFailed)) => Some(false),
        // Some of these say that nothing was done; nobody is held to it.
        Err(_) => None,
    }
}

impl Client {
    /// Works until `stop`.
    pub async fn run(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            let pause = self.random.random_range(1..250);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let key = format!("key-{}", self.random.random_range(0..KEYS));
        let Ok(Ok(bucket)) = tokio::time::timeout(PATIENCE, self.store.directory().bucket(BUCKET)).await
        else {
            return;
        };
        match self.random.random_range(0..100) {
            0..24 => self.put(&bucket, &key, Condition::Always).await,
            24..32 => {
                let other = format!("key-{}", self.random.random_range(0..KEYS));
                self.copy(&bucket, &key, &other).await;
            }
            32..34 => self.begin_and_give_up(&bucket, &key).await,
            34..40 => self.put(&bucket, &key, Condition::IfAbsent).await,
            40..50 => match self.history.last_value(&key) {
                Some(value) => self.put(&bucket, &key, Condition::IfValue(value)).await,
                None => self.put(&bucket, &key, Condition::IfAbsent).await,
            },
            50..62 => self.delete(&bucket, &key).await,
            62..94 => drop(self.get(&bucket, &key, None).await),
            _ => self.list(&bucket).await,
        }
    }

    /// Stores a fresh value; answers whether it is known to be there.
    pub async fn put(&self, bucket: &BucketRow, key: &str, condition: Condition) {
        let value = self.history.fresh_value();
        let write = |done| Action::Write {
            value,
            condition,
            done,
        };
        let begun = self.history.begin(self.number, key, write(None));
        let result = tokio::time::timeout(PATIENCE, self.try_put(bucket, key, value, condition)).await;
        if let Ok(result) = result {
            self.answer(&begun, put_ended(&result).map(|done| write(Some(done))), &result);
        }
    }

    /// Stores `value`.
    pub async fn try_put(
        &self,
        bucket: &BucketRow,
        key: &str,
        value: Value,
        condition: Condition,
    ) -> Result<(), Error> {
        if parts::comes_in_parts(value) {
            return self.put_in_parts(bucket, key, value, condition).await;
        }
        let finish = ObjectFinish {
            actor: ROOT,
            bucket: bucket_ref(bucket),
            key: key.to_owned(),
            conditions: conditions(condition),
            etag: etag_of(value),
            checksum: None,
            metadata: Metadata::default(),
        };
        self.send(value, finish).await.map(drop)
    }

    /// Sends the bytes of `value`.
    async fn send<F: Finish + Clone + Sync>(&self, value: Value, finish: F) -> Result<F::Done, Error> {
        let body = body_of(value);
        let request = PutRequest {
            class: CLASS.to_owned(),
            bytes: value.is_multiple_of(2).then_some(body.len() as u64),
            request_id: value,
        };
        let mut upload = Body::new(&body, finish);
        self.store.put(&request, &mut upload).await.map_err(failed)
    }

    async fn delete(&self, bucket: &BucketRow, key: &str) {
        let begun = self
            .history
            .begin(self.number, key, Action::Delete { existed: None });
        let deleting = self.store.delete(DeleteRequest {
            actor: ROOT,
            bucket: bucket_ref(bucket),
            key: key.to_owned(),
            version: None,
            conditions: Conditions::default(),
        });
        if let Ok(result) = tokio::time::timeout(PATIENCE, deleting).await {
            let answer = result.as_ref().ok().map(|deleted| Action::Delete {
                existed: Some(deleted.existed),
            });
            self.answer(&begun, answer, &result.map(drop));
        }
    }

    /// Reads a key, or one version of it; answers whether that succeeded.
    ///
    /// # Panics
    /// When bytes come that were never written.
    pub async fn get(&self, bucket: &BucketRow, key: &str, version: Option<VersionName>) -> bool {
        let called = self.history.instant();
        match tokio::time::timeout(PATIENCE, self.try_get(bucket, key, version)).await {
            Ok(Ok(seen)) => {
                if version.is_none() {
                    self.history.read(self.number, key, called, seen);
                }
                true
            }
            Ok(Err(error)) => {
                tracing::debug!(client = self.number, key, %error, "a read failed");
                false
            }
            Err(_) => false,
        }
    }

    async fn try_get(
        &self,
        bucket: &BucketRow,
        key: &str,
        version: Option<VersionName>,
    ) -> Result<Option<Value>, Error> {
        let name = ObjectName {
            bucket: bucket.bucket,
            key: key.to_owned(),
            version,
            request_id: self.history.instant(),
        };
        let range = ByteRange::From {
            first: 0,
            bytes: u64::MAX,
        };
        let Some(object) = self.store.open(bucket, name, range).await?.found() else {
            return Ok(None);
        };
        let value = known(key, &object.version.etag);
        let mut body = Vec::new();
        let mut stream = object.read(0, u64::MAX);
        while let Some(bytes) = stream.next().await? {
            body.extend_from_slice(&bytes);
        }
        assert!(
            body == body_of(value),
            "{key}: other bytes than were stored as value {value}"
        );
        Ok(Some(value))
    }

    /// A listing says of each key what it holds. Keys need not be seen at the same instant.
    async fn list(&self, bucket: &BucketRow) {
        let called = self.history.instant();
        let request = ListRequest {
            bucket: bucket.bucket,
            prefix: "key-".to_owned(),
            delimiter: String::new(),
            after: None,
            limit: 1000,
        };
        let Ok(Ok(page)) = tokio::time::timeout(PATIENCE, self.store.list(bucket, request)).await else {
            return;
        };
        for number in 0..KEYS {
            let key = format!("key-{number}");
            let found = page.objects.iter().find(|(name, _)| *name == key);
            let seen = found.map(|(_, row)| known(&key, &row.etag));
            self.history.read(self.number, &key, called, seen);
        }
    }

    fn answer(&self, begun: &Begun, answer: Option<Action>, result: &Result<(), Error>) {
        match answer {
            Some(answer) => self.history.end(begun, answer),
            None => tracing::debug!(client = self.number, ?result, "an outcome is open"),
        }
    }
}
