//! Clients: each puts, gets, deletes and lists a few keys through one gateway's data path, as the S3 handlers do, and
//! records what it did and was told.

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
use ullage_gateway::put::finalize::ObjectFinish;
use ullage_gateway::put::plan::PutRequest;
use ullage_gateway::put::{PutError, Upload};
use ullage_gateway::store::{DeleteRequest, Store};
use ullage_model::command::{Actor, Conditions, EtagMatch};
use ullage_model::namespace::rows::{BucketRow, Etag, Metadata, ROOT_USER};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{ByteRange, ListRequest};

/// The bucket that all clients use.
pub const BUCKET: &str = "bucket";
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

/// The entity tag of a value: tells which it is.
pub fn etag_of(value: Value) -> Etag {
    let mut md5 = [0xe7; 16];
    md5[..8].copy_from_slice(&value.to_be_bytes());
    Etag::Md5(md5)
}

/// The value whose tag this is.
fn value_of(etag: &Etag) -> Option<Value> {
    match etag {
        Etag::Md5(md5) => md5.first_chunk().map(|bytes| Value::from_be_bytes(*bytes)),
        Etag::Multipart(..) => None,
    }
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

struct Body {
    parts: Vec<Bytes>,
    finish: ObjectFinish,
}

impl Upload for Body {
    type Finish = ObjectFinish;
    type Refusal = Infallible;

    async fn next(&mut self) -> Result<Option<Bytes>, Infallible> {
        Ok(self.parts.pop())
    }

    async fn finish(&mut self, _stale: bool) -> Result<ObjectFinish, Infallible> {
        Ok(self.finish.clone())
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
            0..30 => self.put(&bucket, &key, Condition::Always).await,
            30..40 => self.put(&bucket, &key, Condition::IfAbsent).await,
            40..50 => match self.history.last_value(&key) {
                Some(value) => self.put(&bucket, &key, Condition::IfValue(value)).await,
                None => self.put(&bucket, &key, Condition::IfAbsent).await,
            },
            50..62 => self.delete(&bucket, &key).await,
            62..94 => drop(self.get(&bucket, &key).await),
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
        let conditions = match condition {
            Condition::Always => Conditions::default(),
            Condition::IfAbsent => Conditions {
                if_none_match: Some(EtagMatch::Any),
                ..Conditions::default()
            },
            Condition::IfValue(value) => Conditions {
                if_match: Some(EtagMatch::OneOf(vec![etag_of(value).to_string()])),
                ..Conditions::default()
            },
        };
        let body = body_of(value);
        let request = PutRequest {
            class: "STANDARD".to_owned(),
            bytes: value.is_multiple_of(2).then_some(body.len() as u64),
            request_id: value,
        };
        let mut parts: Vec<Bytes> = body.chunks(50_000).map(|part| body.slice_ref(part)).collect();
        parts.reverse();
        let mut upload = Body {
            parts,
            finish: ObjectFinish {
                actor: ROOT,
                bucket: bucket_ref(bucket),
                key: key.to_owned(),
                conditions,
                etag: etag_of(value),
                checksum: None,
                metadata: Metadata::default(),
            },
        };
        match self.store.put(&request, &mut upload).await {
            Ok(_) => Ok(()),
            Err(PutError::Failed(error)) => Err(error),
            Err(PutError::Refused(never)) => match never {},
        }
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

    /// Reads a key; answers whether that succeeded.
    ///
    /// # Panics
    /// When bytes come that were never written.
    pub async fn get(&self, bucket: &BucketRow, key: &str) -> bool {
        let called = self.history.instant();
        match tokio::time::timeout(PATIENCE, self.try_get(bucket, key)).await {
            Ok(Ok(seen)) => {
                self.history.read(self.number, key, called, seen);
                true
            }
            Ok(Err(error)) => {
                tracing::debug!(client = self.number, key, %error, "a read failed");
                false
            }
            Err(_) => false,
        }
    }

    async fn try_get(&self, bucket: &BucketRow, key: &str) -> Result<Option<Value>, Error> {
        let name = ObjectName {
            bucket: bucket.bucket,
            key: key.to_owned(),
            version: None,
            request_id: self.history.instant(),
        };
        let range = ByteRange::From {
            first: 0,
            bytes: u64::MAX,
        };
        let Some(object) = self.store.open(bucket, name, range).await?.found() else {
            return Ok(None);
        };
        let value = value_of(&object.version.etag);
        let value = value.unwrap_or_else(|| panic!("{key} has a tag that nobody gave it"));
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
            let seen = found.map(|(_, row)| {
                value_of(&row.etag)
                    .unwrap_or_else(|| panic!("{key} is listed with a tag that nobody gave it"))
            });
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
