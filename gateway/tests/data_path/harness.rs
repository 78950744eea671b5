//! One gateway over a metadata service and vendors in memory.

use crate::agents::{Agents, Reached};
use crate::metad::{Metad, copies_in_fat};
use crate::random::Random;
use bytes::Bytes;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use ullage_gateway::directory::Bucket;
use ullage_gateway::directory::bucket_ref;
use ullage_gateway::environment::SystemClock;
use ullage_gateway::error::Error;
use ullage_gateway::get::{ObjectName, ObjectStream};
use ullage_gateway::kek::Kek;
use ullage_gateway::limits::UPLOAD_MEMORY_DEFAULT;
use ullage_gateway::metrics::Metrics;
use ullage_gateway::put::finalize::{ObjectFinish, PartFinish, Stored, StoredPart};
use ullage_gateway::put::plan::PutRequest;
use ullage_gateway::put::{PutError, Upload};
use ullage_gateway::store::{DeleteRequest, Store, StoreParts};
use ullage_model::command::{Actor, Conditions, UploadRef};
use ullage_model::limits::INLINE_BYTES_MAX;
use ullage_model::namespace::rows::{BucketAccess, Etag, Metadata, ROOT_USER};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::ByteRange;

pub const ROOT: Actor = Actor {
    user: ROOT_USER,
    settings_version: 0,
};

pub struct Harness {
    pub agents: Arc<Agents>,
    pub metad: Arc<Metad>,
    pub store: Store,
    pub bucket: Arc<Bucket>,
    pub random: Random,
    pub metrics: Metrics,
}

pub struct Setup {
    pub seed: u64,
    pub vendors: usize,
    pub capacity: u64,
    pub inline_budget: u64,
    pub upload_memory: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            vendors: 4,
            capacity: 4 << 30,
            inline_budget: 1 << 30,
            upload_memory: UPLOAD_MEMORY_DEFAULT,
        }
    }
}

pub fn parts(metad: &Arc<Metad>, agents: &Arc<Agents>, setup: &Setup) -> StoreParts {
    StoreParts {
        name: "gateway".to_owned(),
        metad: Arc::<Metad>::clone(metad),
        agents: Arc::new(Reached(Arc::clone(agents))),
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(Random::new(setup.seed)),
        kek: Kek::new(&[7; 32]),
        metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
        inline_bytes: INLINE_BYTES_MAX,
        upload_memory: setup.upload_memory,
    }
}

impl Harness {
    pub async fn new(setup: Setup) -> Self {
        let agents = Agents::new(setup.vendors, setup.capacity, setup.seed);
        let metad = Metad::new(Arc::clone(&agents), setup.seed, setup.inline_budget);
        tokio::spawn(Arc::clone(&metad).run());
        Self::over(agents, metad, setup).await
    }

    /// A gateway of its own over what is there.
    pub async fn over(agents: Arc<Agents>, metad: Arc<Metad>, setup: Setup) -> Self {
        let parts = parts(&metad, &agents, &setup);
        let metrics = parts.metrics.clone();
        let store = Store::start(parts).await.unwrap();
        let made = store.create_bucket(ROOT, "bucket", "us-east-1", BucketAccess::default());
        match made.await {
            Ok(_) | Err(Error::Rejected(Rejection::BucketExists { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
        let bucket = store.directory().bucket("bucket").await.unwrap();
        Self {
            agents,
            metad,
            store,
            bucket,
            random: Random::new(setup.seed ^ 0x7465_7374),
            metrics,
        }
    }

    /// Bytes that depend on the seed.
    pub fn body(&self, bytes: u64) -> Bytes {
        let mut body = Vec::with_capacity(bytes as usize + 8);
        while (body.len() as u64) < bytes {
            body.extend_from_slice(&self.random.next().to_be_bytes());
        }
        body.truncate(bytes as usize);
        Bytes::from(body)
    }

    pub async fn put(&self, key: &str, body: &Bytes) -> Result<Stored, Error> {
        self.put_as(key, body, "STANDARD", Conditions::default()).await
    }

    pub async fn put_as(
        &self,
        key: &str,
        body: &Bytes,
        class: &str,
        conditions: Conditions,
    ) -> Result<Stored, Error> {
        let mut upload = self.upload(key, body, conditions);
        let request = PutRequest {
            class: class.to_owned(),
            bytes: self.random.percent(50).then_some(body.len() as u64),
            request_id: 1,
        };
        self.store.put(&request, &mut upload).await.map_err(failed)
    }

    pub fn upload(&self, key: &str, body: &Bytes, conditions: Conditions) -> TestUpload {
        TestUpload {
            parts: self.cut(body),
            pause: Duration::ZERO,
            asked: 0,
            finish: ObjectFinish {
                actor: ROOT,
                bucket: bucket_ref(&self.bucket),
                key: key.to_owned(),
                conditions,
                etag: etag(body),
                checksum: None,
                metadata: Metadata::default(),
            },
        }
    }

    pub async fn put_part(
        &self,
        key: &str,
        upload: UploadRef,
        number: u32,
        body: &Bytes,
    ) -> Result<StoredPart, Error> {
        let mut upload = TestUpload {
            parts: self.cut(body),
            pause: Duration::ZERO,
            asked: 0,
            finish: PartFinish {
                actor: ROOT,
                bucket: bucket_ref(&self.bucket),
                key: key.to_owned(),
                upload,
                number,
                etag: etag(body),
                checksum: None,
            },
        };
        let request = PutRequest {
            class: "STANDARD".to_owned(),
            bytes: Some(body.len() as u64),
            request_id: 1,
        };
        self.store.put(&request, &mut upload).await.map_err(failed)
    }

    /// A body in pieces of random sizes.
    fn cut(&self, body: &Bytes) -> VecDeque<Bytes> {
        let mut body = body.clone();
        let mut parts = VecDeque::new();
        while !body.is_empty() {
            let most = 1 + self.random.below(300_000);
            parts.push_back(body.split_to(body.len().min(most as usize)));
        }
        parts
    }

    pub fn name(&self, key: &str) -> ObjectName {
        ObjectName {
            bucket: self.bucket.bucket,
            key: key.to_owned(),
            version: None,
            request_id: 1,
        }
    }

    /// The bytes of an object, of which the last is located already.
    pub async fn reading(&self, key: &str) -> ObjectStream {
        let opened = self.store.open(&self.bucket, self.name(key), ByteRange::Last(1));
        opened.await.unwrap().found().unwrap().read(0, u64::MAX)
    }

    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.get_range(key, 0, u64::MAX).await
    }

    pub async fn get_range(&self, key: &str, first: u64, bytes: u64) -> Result<Option<Bytes>, Error> {
        let range = ByteRange::From { first, bytes };
        let opened = self.store.open(&self.bucket, self.name(key), range).await?;
        let Some(object) = opened.found() else {
            return Ok(None);
        };
        let mut stream = object.read(first, bytes);
        let mut whole = Vec::new();
        while let Some(bytes) = stream.next().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(Some(Bytes::from(whole)))
    }

    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        let delete = DeleteRequest {
            actor: ROOT,
            bucket: bucket_ref(&self.bucket),
            key: key.to_owned(),
            version: None,
            conditions: Conditions::default(),
        };
        Ok(self.store.delete(delete).await?.existed)
    }

    /// Waits until FAT and vendors agree copy by copy: nothing leaks, nothing is missing.
    pub async fn settle(&self) {
        let vendors = self.agents.vendors();
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let in_fat = copies_in_fat(&self.metad, &vendors);
            let waits = self
                .metad
                .read(|rows| ullage_model::fat::query::counts(rows, 10).unwrap());
            if waits.erase_orders == 0
                && waits.releases == 0
                && vendors
                    .iter()
                    .all(|vendor| in_fat[vendor] == self.agents.copies(*vendor))
            {
                self.metad.check_invariants();
                return;
            }
        }
        let in_fat = copies_in_fat(&self.metad, &vendors);
        for vendor in vendors {
            assert_eq!(
                in_fat[&vendor],
                self.agents.copies(vendor),
                "{vendor}: FAT and vendor differ"
            );
        }
    }

    pub fn copies_stored(&self) -> usize {
        self.agents
            .vendors()
            .into_iter()
            .map(|vendor| self.agents.copies(vendor).len())
            .sum()
    }
}

/// What stands in for the MD5.
/// Of a body whose length is not told beforehand.
pub fn unannounced() -> PutRequest {
    PutRequest {
        class: "STANDARD".to_owned(),
        bytes: None,
        request_id: 1,
    }
}

pub fn etag(body: &Bytes) -> Etag {
    let mut md5 = [0; 16];
    md5.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
    Etag::Md5(md5)
}

pub fn failed(error: PutError<Infallible>) -> Error {
    match error {
        PutError::Failed(error) => error,
        PutError::Refused(never) => match never {},
    }
}

#[derive(Clone)]
pub struct TestUpload<F = ObjectFinish> {
    pub parts: VecDeque<Bytes>,
    /// Before each part.
    pub pause: Duration,
    /// Times it was asked what to become, with `stale`.
    pub asked: u32,
    pub finish: F,
}

impl<F> Upload for TestUpload<F>
where
    F: ullage_gateway::put::finalize::Finish + Clone + Sync,
{
    type Finish = F;
    type Refusal = Infallible;

    async fn next(&mut self) -> Result<Option<Bytes>, Infallible> {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        Ok(self.parts.pop_front())
    }

    async fn finish(&mut self, stale: bool) -> Result<F, Infallible> {
        self.asked += u32::from(stale);
        Ok(self.finish.clone())
    }
}
