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
use crate::get::{self, Object, ObjectName};
use crate::keeper::Keeper;
use crate::kek::Kek;
use crate::limits::{PARTS_CHANGED_RETRIES, READ_MEMORY};
use crate::memory::{Budget, BufferPool};
use crate::metad_client::MetadClient;
use crate::metrics::Metrics;
use crate::path::{PathTable, PathView};
use crate::put::finalize::Finish;
use crate::put::plan::PutRequest;
use crate::put::validate::VerifiedBatches;
use crate::put::{PutError, Upload, put};
use crate::session::{Surroundings, View};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;
use ullage_model::command::{
    Actor, BucketRef, Command, CompleteSlice, CompleteUpload, Conditions, ListedPart, Reply, SessionCommand,
    UploadRef,
};
use ullage_model::fat::rows::{ClassRow, CopyPlace, LeaseRow, LeaseVendorRow, RoomRow, VendorRow};
use ullage_model::ids::{BucketId, CopyId, ManifestId, UserId, VendorId, VersionId};
use ullage_model::limits::EXTENTS_PER_PAGE;
use ullage_model::namespace::rows::{
    BucketRow, BucketUsageRow, Checksum, ChecksumAlgorithm, ChecksumKind, Etag, Metadata, PartRow, UploadRow,
    UserPolicy, UserRow, VersionRow,
};
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{Answer, ByteRange, ListReply, ListRequest, Query, StatusReply};

/// What a store is made of.
#[derive(Debug)]
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

/// A multipart upload to begin.
#[derive(Clone, Debug)]
pub struct NewUpload {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// Name of its class.
    pub class: String,
    /// Headers and metadata of the object to be.
    pub metadata: Metadata,
    /// Checksum of the object to be.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

/// A multipart upload to complete.
#[derive(Clone, Debug)]
pub struct CompleteRequest {
    /// Who.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload: UploadRef,
    /// The parts as listed by the client, numbers rising.
    pub parts: Vec<ListedPart>,
    /// Conditions on the current version.
    pub conditions: Conditions,
    /// Plaintext bytes the client says the object has.
    pub expected_bytes: Option<u64>,
}

/// One part as stored: its entity tag, its checksum, its plaintext bytes.
pub type PartFacts = (Etag, Option<Checksum>, u64);

/// A completed upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The version it became.
    pub version: VersionId,
    /// Its entity tag.
    pub etag: Etag,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

/// A page of a user's objects: (bucket name, key, version), and where to go on.
pub type UserObjects = (Vec<(String, String, VersionRow)>, Option<(String, String)>);

macro_rules! expect_answer {
    ($answer:expr, $pattern:pat => $value:expr, $what:literal) => {
        match $answer {
            $pattern => Ok($value),
            _ => Err(Error::UnexpectedAnswer($what)),
        }
    };
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
            clock: parts.clock,
            random: parts.random,
            kek: parts.kek,
            paths: PathTable::default(),
            metrics: parts.metrics,
        });
        let keeper = Keeper::open(Arc::clone(&around), parts.name).await?;
        let engine = Arc::new(Engine {
            agents: parts.agents,
            directory: Directory::new(Arc::clone(&around), Arc::clone(&keeper)),
            upload_memory: Budget::new(parts.upload_memory, "memory for uploads is used up"),
            read_memory: Budget::new(READ_MEMORY, "memory for reads is used up"),
            pool: Arc::new(BufferPool::default()),
            verified: VerifiedBatches::default(),
            inline_bytes: parts.inline_bytes,
            keeper: Arc::clone(&keeper),
            around,
        });
        let tasks = vec![
            tokio::spawn(keeper.run()),
            tokio::spawn(Engine::watch_memory(Arc::clone(&engine))),
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
        self.engine
            .around
            .paths
            .view(self.engine.around.clock.monotonic())
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

    /// The current version of a key without its bytes.
    ///
    /// # Errors
    /// `Rejected(NoSuchBucket)` or `StaleSettings` when there is no such key and the bucket is another one now;
    /// or when the metadata service does not answer.
    pub async fn head(&self, bucket: &BucketRow, name: &ObjectName) -> Result<Option<VersionRow>, Error> {
        let version = get::head(&self.engine, name).await?;
        self.confirm_absence(bucket, version).await
    }

    /// The current version of a key, ready to be read. `range` is what is wanted most likely: where those bytes are
    /// comes with the version.
    ///
    /// # Errors
    /// As [`Store::head`].
    pub async fn open(
        &self,
        bucket: &BucketRow,
        name: ObjectName,
        range: ByteRange,
    ) -> Result<Option<Object>, Error> {
        let object = get::open(&self.engine, name, range).await?;
        self.confirm_absence(bucket, object).await
    }

    /// Deletes a key's current version; answers whether there was one.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn delete(
        &self,
        actor: Actor,
        bucket: BucketRef,
        key: String,
        conditions: Conditions,
    ) -> Result<bool, Error> {
        let command = SessionCommand::DeleteObject {
            actor,
            bucket,
            key,
            conditions,
        };
        let reply = self.submit(command, Some((actor, bucket))).await?;
        expect_answer!(reply, Reply::Deleted { existed } => existed, "delete object")
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
    pub async fn create_bucket(&self, actor: Actor, name: &str, region: &str) -> Result<BucketId, Error> {
        let command = SessionCommand::CreateBucket {
            actor,
            name: name.to_owned(),
            region: region.to_owned(),
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
        let answer = self.query(Query::Usage(bucket)).await?;
        expect_answer!(answer, Answer::Usage(usage) => usage, "usage")
    }

    /// Begins a multipart upload.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn create_upload(&self, new: NewUpload) -> Result<UploadRef, Error> {
        let settings = (new.actor, new.bucket);
        let command = SessionCommand::CreateUpload {
            actor: new.actor,
            bucket: new.bucket,
            key: new.key,
            random: self.engine.around.random.number(),
            class: new.class,
            metadata: new.metadata,
            checksum: new.checksum,
            now: self.engine.around.clock.wall(),
        };
        let reply = self.submit(command, Some(settings)).await?;
        expect_answer!(reply, Reply::Upload(upload) => upload, "create upload")
    }

    /// An upload.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn upload(
        &self,
        bucket: BucketId,
        key: String,
        upload: UploadRef,
    ) -> Result<Option<UploadRow>, Error> {
        let answer = self.query(Query::Upload { bucket, key, upload }).await?;
        expect_answer!(answer, Answer::Upload(row) => row, "an upload")
    }

    /// Parts of an upload, those after number `after`; and whether there are more.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn parts(
        &self,
        upload: UploadRef,
        after: u32,
        limit: usize,
    ) -> Result<(Vec<(u32, PartRow)>, bool), Error> {
        let answer = self.query(Query::Parts { upload, after, limit }).await?;
        expect_answer!(answer, Answer::Parts(parts, more) => (parts, more), "parts")
    }

    /// Aborts an upload.
    ///
    /// # Errors
    /// `Rejected(NoSuchUpload)` and other refusals, or that the metadata service does not answer.
    pub async fn abort_upload(
        &self,
        actor: Actor,
        bucket: BucketRef,
        key: String,
        upload: UploadRef,
    ) -> Result<(), Error> {
        let command = SessionCommand::AbortUpload {
            actor,
            bucket,
            key,
            upload,
        };
        let reply = self.submit(command, Some((actor, bucket))).await?;
        expect_answer!(reply, Reply::Done => (), "abort upload")
    }

    /// Completes an upload. `combine` makes the entity tag and the checksum of the whole from the parts as they are
    /// stored, in order; it may refuse. A repeated complete answers what the first one did.
    ///
    /// # Errors
    /// What `combine` refuses with; a refusal of the metadata service; or that it does not answer.
    pub async fn complete_upload<R: Send>(
        &self,
        request: &CompleteRequest,
        mut combine: impl FnMut(&[PartFacts]) -> Result<(Etag, Option<Checksum>), R> + Send,
    ) -> Result<Completed, PutError<R>> {
        for _ in 0..PARTS_CHANGED_RETRIES {
            let (manifest, facts) = match self.build_manifest(request).await {
                Ok(Building::Built(manifest, facts)) => (manifest, facts),
                Ok(Building::Completed(completed)) => return Ok(completed),
                Err(Error::Rejected(Rejection::PartsChanged)) => continue,
                Err(error) => return Err(error.into()),
            };
            let (etag, checksum) = combine(&facts).map_err(PutError::Refused)?;
            let command = SessionCommand::CompleteUpload(CompleteUpload {
                actor: request.actor,
                bucket: request.bucket,
                key: request.key.clone(),
                upload: request.upload,
                manifest,
                conditions: request.conditions.clone(),
                random: self.engine.around.random.number(),
                now: self.engine.around.clock.wall(),
                etag,
                checksum,
                expected_bytes: request.expected_bytes,
            });
            match self.submit(command, Some((request.actor, request.bucket))).await {
                Err(Error::Rejected(Rejection::PartsChanged)) => {}
                Err(error) => return Err(error.into()),
                Ok(reply) => return Ok(completed(reply)?),
            }
        }
        Err(Error::Rejected(Rejection::PartsChanged).into())
    }

    async fn build_manifest(&self, request: &CompleteRequest) -> Result<Building, Error> {
        let mut manifest = None;
        let mut facts = Vec::with_capacity(request.parts.len());
        let mut pages = request.parts.chunks(EXTENTS_PER_PAGE).peekable();
        while let Some(page) = pages.next() {
            let command = SessionCommand::CompleteSlice(CompleteSlice {
                actor: request.actor,
                bucket: request.bucket,
                key: request.key.clone(),
                upload: request.upload,
                manifest,
                parts: page.to_vec(),
                last: pages.peek().is_none(),
            });
            match self
                .submit(command, Some((request.actor, request.bucket)))
                .await?
            {
                Reply::Manifest {
                    manifest: built,
                    parts,
                } => {
                    manifest = Some(built);
                    facts.extend(parts);
                }
                reply @ Reply::AlreadyCompleted { .. } => return Ok(Building::Completed(completed(reply)?)),
                _ => return Err(Error::UnexpectedAnswer("complete slice")),
            }
        }
        match manifest {
            Some(manifest) => Ok(Building::Built(manifest, facts)),
            None => {
                Err(Rejection::Invalid("an upload is completed with at least one part".to_owned()).into())
            }
        }
    }

    /// Makes a user with its first access key, whose secret is sealed under the KEK.
    ///
    /// # Errors
    /// `Rejected(UserExists)`, or that the metadata service does not answer.
    pub async fn create_user(
        &self,
        name: &str,
        policy: UserPolicy,
        access_key: &str,
        secret: &str,
    ) -> Result<UserId, Error> {
        let around = &self.engine.around;
        let command = SessionCommand::CreateUser {
            name: name.to_owned(),
            policy,
            access_key: access_key.to_owned(),
            sealed_secret: around.kek.seal_secret(access_key, secret, &*around.random),
        };
        let reply = self.submit(command, None).await?;
        expect_answer!(reply, Reply::User(user) => user, "create user")
    }

    /// Deletes an access key.
    ///
    /// # Errors
    /// `Rejected(NoSuchAccessKey)`, or that the metadata service does not answer.
    pub async fn delete_access_key(&self, access_key: &str) -> Result<(), Error> {
        let command = SessionCommand::DeleteAccessKey {
            access_key: access_key.to_owned(),
        };
        let deleted = self.submit(command, None).await;
        self.engine.directory.forget_access_key(access_key);
        expect_answer!(deleted?, Reply::Done => (), "delete access key")
    }

    /// The user of an access key, cached. See [`Directory::user`].
    ///
    /// # Errors
    /// As there.
    pub async fn user(&self, access_key: &str) -> Result<Arc<User>, Error> {
        self.engine.directory.user(access_key).await
    }

    /// All users.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn users(&self) -> Result<Vec<UserRow>, Error> {
        expect_answer!(self.query(Query::Users).await?, Answer::Users(users) => users, "users")
    }

    /// All access keys with their users.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn access_keys(&self) -> Result<Vec<(String, UserId)>, Error> {
        expect_answer!(self.query(Query::AccessKeys).await?, Answer::AccessKeys(keys) => keys, "access keys")
    }

    /// Open and closing leases of the cluster with their rows.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn leases(&self) -> Result<Vec<(LeaseRow, Vec<(VendorId, LeaseVendorRow)>)>, Error> {
        expect_answer!(self.query(Query::Leases).await?, Answer::Leases(leases) => leases, "leases")
    }

    /// Vendors with their rooms by device class.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn vendors(&self) -> Result<Vec<(VendorRow, Vec<(String, RoomRow)>)>, Error> {
        expect_answer!(self.query(Query::Vendors).await?, Answer::Vendors(vendors) => vendors, "vendors")
    }

    /// All classes.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn classes(&self) -> Result<Vec<ClassRow>, Error> {
        expect_answer!(self.query(Query::Classes).await?, Answer::Classes(classes) => classes, "classes")
    }

    /// The FAT of one user's objects. See `Query::UserObjects`.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn user_objects(
        &self,
        user: UserId,
        after: Option<(String, String)>,
        limit: usize,
    ) -> Result<UserObjects, Error> {
        let answer = self.query(Query::UserObjects { user, after, limit }).await?;
        expect_answer!(answer, Answer::UserObjects(rows, next) => (rows, next), "a user's objects")
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

    /// Copies that the FAT says a vendor holds, in the order of their names, those after `after`; and whether there
    /// are more.
    ///
    /// # Errors
    /// When the metadata service does not answer.
    pub async fn copies(
        &self,
        vendor: VendorId,
        after: Option<CopyId>,
        limit: usize,
    ) -> Result<(Vec<(CopyId, CopyPlace)>, bool), Error> {
        let query = Query::Copies { vendor, after, limit };
        expect_answer!(self.query(query).await?, Answer::Copies(copies, more) => (copies, more), "copies")
    }

    /// Makes or changes a class, and takes it over.
    ///
    /// # Errors
    /// A refusal, or that the metadata service does not answer.
    pub async fn set_class(&self, class: ClassRow) -> Result<(), Error> {
        match self.engine.around.metad.operate(Command::SetClass(class)).await? {
            Reply::Done => self.refresh().await,
            Reply::Refused(rejection) => Err(rejection.into()),
            _ => Err(Error::UnexpectedAnswer("set class")),
        }
    }

    /// State of the metadata service.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<StatusReply, Error> {
        Ok(self.engine.around.metad.status().await?)
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
    async fn confirm_absence<T>(&self, bucket: &BucketRow, found: Option<T>) -> Result<Option<T>, Error> {
        if found.is_none() {
            self.engine.directory.confirm_bucket(bucket).await?;
        }
        Ok(found)
    }
}

enum Building {
    Built(ManifestId, Vec<PartFacts>),
    Completed(Completed),
}

fn completed(reply: Reply) -> Result<Completed, Error> {
    match reply {
        Reply::Stored {
            version,
            etag,
            checksum,
        }
        | Reply::AlreadyCompleted {
            version,
            etag,
            checksum,
        } => Ok(Completed {
            version,
            etag,
            checksum,
        }),
        _ => Err(Error::UnexpectedAnswer("complete upload")),
    }
}
