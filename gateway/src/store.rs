//! The gateway's data path for whoever speaks a protocol in front of it: objects, parts, listings, settings. It
//! knows users by id and buckets by row, and no protocol.
//!
//! Calls that change something name the settings they were decided under. `Error::StaleSettings` means: the caches
//! are fresh now, look up, authorize and try again (within bounds).

use crate::agent_client::AgentClient;
use crate::directory::{Directory, User};
use crate::engine::Engine;
use crate::environment::{Clock, Randomness};
use crate::error::Error;
use crate::get::hedge::Hedges;
use crate::get::{self, FoundVersion, Lookup, Object, ObjectName};
use crate::keeper::Keeper;
use crate::kek::Kek;
use crate::limits::READ_MEMORY;
use crate::memory::{Budget, BufferPool};
use crate::metad_client::MetadClient;
use crate::metrics::Metrics;
use crate::path::{PathTable, PathView};
use crate::prober;
use crate::put::finalize::Finish;
use crate::put::plan::PutRequest;
use crate::put::validate::VerifiedBatches;
use crate::put::{PutError, Upload, put};
use crate::session::{Surroundings, View};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;
use ullage_model::command::{Actor, BucketRef, Reply, SessionCommand};
use ullage_model::ids::BucketId;
use ullage_model::namespace::rows::{
    BucketAccess, BucketDocumentKind, BucketRow, BucketUsageRow, VersionRow,
};
use ullage_model::wire::metad::{Answer, ByteRange, ListReply, ListRequest, Query};

macro_rules! expect_answer {
    ($answer:expr, $pattern:pat => $value:expr, $what:literal) => {
        match $answer {
            $pattern => Ok($value),
            _ => Err(Error::UnexpectedAnswer($what)),
        }
    };
}
mod access;
mod copy;
mod multipart;
mod operators;
mod parts;
mod tagging;
mod versions;

pub use copy::{Copied, CopyRequest};
pub use multipart::{CompleteRequest, Completed, NewUpload, PartFacts};
pub use operators::UserObjects;
pub use parts::CopyPartRequest;
pub use tagging::TagsRequest;
pub use versions::{DeleteRequest, Deleted};

/// What a store is made of.
#[derive(Clone, Debug)]
pub struct StoreParts {
    /// Name of the gateway, for people.
    pub name: String,
    /// The metadata service.
    pub metad: Arc<dyn MetadClient>,
    /// Vendor agents.
    pub agents: Arc<dyn AgentClient>,
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Randomness>,
    /// The key-encryption key.
    pub kek: Kek,
    /// Metrics.
    pub metrics: Metrics,
    /// See `GatewayConfig::inline_bytes`.
    pub inline_bytes: u64,
    /// See `GatewayConfig::upload_memory`.
    pub upload_memory: u64,
}

/// The data path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    engine: Arc<Engine>,
    background: Arc<Background>,
}

#[derive(Debug)]
struct Background(Mutex<Vec<JoinHandle<()>>>);

impl Drop for Background {
    fn drop(&mut self) {
        for task in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

impl Store {
    /// Opens a session and starts what keeps it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Error::WrongKek` when the cluster's data was sealed under another key; or when the metadata service does
    /// not answer.
    pub async fn start(parts: StoreParts) -> Result<Self, Error> {
        let around = Arc::new(Surroundings {
            metad: parts.metad,
            agents: parts.agents,
            clock: parts.clock,
            random: parts.random,
            kek: parts.kek,
            paths: PathTable::default(),
            metrics: parts.metrics,
        });
        let keeper = Keeper::open(Arc::clone(&around), parts.name).await?;
        let engine = Arc::new(Engine {
            directory: Directory::new(Arc::clone(&around), Arc::clone(&keeper)),
            upload_memory: Budget::new(parts.upload_memory, "memory for uploads is used up"),
            read_memory: Budget::new(READ_MEMORY, "memory for reads is used up"),
            hedges: Hedges::default(),
            windows: Arc::default(),
            pool: Arc::new(BufferPool::default()),
            verified: VerifiedBatches::default(),
            inline_bytes: parts.inline_bytes,
            keeper: Arc::clone(&keeper),
            around,
        });
        let tasks = vec![
            tokio::spawn(keeper.run()),
            tokio::spawn(Engine::watch_memory(Arc::clone(&engine))),
            tokio::spawn(prober::run(Arc::clone(&engine))),
        ];
        Ok(Self {
            engine,
            background: Arc::new(Background(Mutex::new(tasks))),
        })
    }

    /// Ends the session in good order. Requests that are still running fail.
    ///
    /// # Errors
    /// When the metadata service does not answer; the session then ends by itself.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let tasks = std::mem::take(&mut *self.background.0.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
        }
        self.engine.keeper.close().await
    }

    /// Buckets and users, cached.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.engine.directory
    }

    /// Whether the gateway has a live session.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.engine.keeper.session().is_gone()
    }

    /// The cluster as last heard of: vendors, classes, inlining.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.engine.keeper.session().view()
    }

    /// Paths to vendors as seen from this gateway.
    #[must_use]
    pub fn paths(&self) -> Vec<PathView> {
        let around = &self.engine.around;
        let states = self.view().states();
        around.paths.view(&states, around.clock.monotonic())
    }

    /// Stores a body as an object or as a part of an upload, whichever `upload` finishes as.
    ///
    /// # Errors
    /// See [`put`].
    pub async fn put<U: Upload>(
        &self,
        request: &PutRequest,
        upload: &mut U,
    ) -> Result<<U::Finish as Finish>::Done, PutError<U::Refusal>> {
        put(&self.engine, request, upload).await
    }

    /// The version of this name without its bytes.
    ///
    /// # Errors
    /// `Rejected(NoSuchBucket)` or `StaleSettings` when there is no such key and the bucket is another one now;
    /// or when the metadata service does not answer.
    pub async fn head(&self, bucket: &BucketRow, name: &ObjectName) -> Result<Lookup<FoundVersion>, Error> {
        self.head_with_part(bucket, name, None).await
    }

    /// As [`Store::head`], with what is known of its part of this number, if one is named and there.
    ///
    /// # Errors
    /// As [`Store::head`].
    pub async fn head_with_part(
        &self,
        bucket: &BucketRow,
        name: &ObjectName,
        part: Option<u32>,
    ) -> Result<Lookup<FoundVersion>, Error> {
        let version = get::head(&self.engine, bucket.versioning, name, part).await?;
        self.confirm_absence(bucket, version).await
    }

    /// The version of this name, ready to be read. `range` is what is wanted most likely: where those bytes are
    /// comes with the version.
    ///
    /// # Errors
    /// As [`Store::head`].
    pub async fn open(
        &self,
        bucket: &BucketRow,
        name: ObjectName,
        range: ByteRange,
    ) -> Result<Lookup<Object>, Error> {
        let object = get::open(&self.engine, bucket.versioning, name, range).await?;
        self.confirm_absence(bucket, object).await
    }

    /// A page of a bucket's keys.
    ///
    /// # Errors
    /// As [`Store::head`], when the page is empty.
    pub async fn list(&self, bucket: &BucketRow, request: ListRequest) -> Result<ListReply, Error> {
        let answer = self.query(Query::List(request)).await?;
        let page = expect_answer!(answer, Answer::List(page) => page, "a listing")?;
        if page.objects.is_empty() && page.common_prefixes.is_empty() {
            self.engine.directory.confirm_bucket(bucket).await?;
        }
        Ok(page)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// `Rejected(BucketExists)`, or that the metadata service does not answer.
    pub async fn create_bucket(
        &self,
        actor: Actor,
        name: &str,
        region: &str,
        access: BucketAccess,
    ) -> Result<BucketId, Error> {
        let command = SessionCommand::CreateBucket {
            actor,
            name: name.to_owned(),
            region: region.to_owned(),
            access,
            now: self.engine.around.clock.wall(),
        };
        self.engine.directory.forget_bucket(name);
        let reply = self.submit_as(command, actor).await?;
        expect_answer!(reply, Reply::Bucket(bucket) => bucket, "create bucket")
    }

    /// Deletes an empty bucket.
    ///
    /// # Errors
    /// `Rejected(BucketNotEmpty)` and other refusals, or that the metadata service does not answer.
    pub async fn delete_bucket(&self, actor: Actor, bucket: BucketRef) -> Result<(), Error> {
        let command = SessionCommand::DeleteBucket { actor, bucket };
        let deleted = self.submit(command, Some((actor, bucket))).await;
        self.engine.directory.forget(actor.user, bucket.bucket);
        expect_answer!(deleted?, Reply::Done => (), "delete bucket")
    }

    /// A document of a bucket's settings as it is now, whatever is cached.
    ///
    /// # Errors
    /// As [`Store::head`], when there is none.
    pub async fn bucket_document(
        &self,
        bucket: &BucketRow,
        kind: BucketDocumentKind,
    ) -> Result<Option<String>, Error> {
        let query = Query::BucketDocument {
            bucket: bucket.bucket,
            kind,
        };
        let answer = self.query(query).await?;
        let found = expect_answer!(answer, Answer::BucketDocument(found) => found, "a bucket's document")?;
        if found.is_none() {
            self.engine.directory.confirm_bucket(bucket).await?;
        }
        Ok(found)
    }

    /// Sets a document of a bucket's settings, or deletes it.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn set_bucket_document(
        &self,
        actor: Actor,
        bucket: BucketRef,
        kind: BucketDocumentKind,
        document: Option<String>,
    ) -> Result<(), Error> {
        let command = SessionCommand::SetBucketDocument {
            actor,
            bucket,
            kind,
            document,
        };
        let set = self.submit(command, Some((actor, bucket))).await;
        self.engine.directory.forget(actor.user, bucket.bucket);
        expect_answer!(set?, Reply::Done => (), "set a bucket's document")
    }

    /// Buckets by name that start with `prefix`, those after `after`; and whether there are more.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn buckets(
        &self,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<(Vec<BucketRow>, bool), Error> {
        let answer = self.query(Query::Buckets { prefix, after, limit }).await?;
        expect_answer!(answer, Answer::Buckets(rows, more) => (rows, more), "buckets")
    }

    /// Exact usage of a bucket.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn usage(&self, bucket: BucketId) -> Result<BucketUsageRow, Error> {
        let usage = self.usage_of(vec![bucket]).await?;
        usage.first().copied().ok_or(Error::UnexpectedAnswer("usage"))
    }

    /// Exact usage of each of these buckets, of which there are at most `LIST_PAGE_KEYS_MAX`.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn usage_of(&self, buckets: Vec<BucketId>) -> Result<Vec<BucketUsageRow>, Error> {
        let answer = self.query(Query::Usage(buckets)).await?;
        expect_answer!(answer, Answer::Usage(usage) => usage, "usage")
    }

    /// The user of an access key, cached. See [`Directory::user`].
    ///
    /// # Errors
    /// As there.
    pub async fn user(&self, access_key: &str) -> Result<Arc<User>, Error> {
        self.engine.directory.user(access_key).await
    }

    /// Where the bytes of a version are, from byte `offset` on: every chunk's every copy. Empty at the end.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn locate(
        &self,
        version: &VersionRow,
        offset: u64,
    ) -> Result<Vec<ullage_model::wire::metad::LocatedSpan>, Error> {
        let bytes = version.bytes.saturating_sub(offset);
        match get::source_of(version) {
            Some(source) if bytes > 0 => {
                let answer = self
                    .query(Query::Locate {
                        source,
                        offset,
                        bytes,
                    })
                    .await?;
                expect_answer!(answer, Answer::Located(spans) => spans, "where bytes are")
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Takes over what the metadata service says now, without waiting for the next sign of life: after a class was
    /// changed through this gateway, for example.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.engine.keeper.renew().await
    }

    async fn query(&self, query: Query) -> Result<Answer, Error> {
        Ok(self
            .engine
            .keeper
            .live_session()
            .await?
            .query(query)
            .await?
            .answer)
    }

    async fn submit_as(&self, command: SessionCommand, actor: Actor) -> Result<Reply, Error> {
        self.submit(
            command,
            Some((
                actor,
                BucketRef {
                    bucket: BucketId(0),
                    settings_version: 0,
                },
            )),
        )
        .await
    }

    /// Submits a command that does not depend on the session; one that was not done because the session had ended
    /// is submitted under the next one.
    async fn submit(
        &self,
        command: SessionCommand,
        settings: Option<(Actor, BucketRef)>,
    ) -> Result<Reply, Error> {
        let keeper = &self.engine.keeper;
        let mut done = keeper.live_session().await?.submit(command.clone()).await;
        if done == Err(Error::SessionLost) {
            done = keeper.live_session().await?.submit(command).await;
        }
        if let (Err(Error::StaleSettings), Some((actor, bucket))) = (&done, settings) {
            self.engine.directory.forget(actor.user, bucket.bucket);
        }
        done
    }

    /// Nothing was found: is it because the bucket was deleted, or made again, behind the cache?
    async fn confirm_absence<T>(&self, bucket: &BucketRow, found: Lookup<T>) -> Result<Lookup<T>, Error> {
        if matches!(found, Lookup::Nothing) {
            self.engine.directory.confirm_bucket(bucket).await?;
        }
        Ok(found)
    }
}
