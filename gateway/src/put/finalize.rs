//! Last step: one command makes the body visible, as an object or as a part of an upload. Slices of long bodies
//! are committed here too.

use crate::engine::Engine;
use crate::error::Error;
use crate::limits::STALE_SETTINGS_RETRIES;
use crate::put::plan::Plan;
use crate::put::validate::Validated;
use std::sync::Arc;
use ullage_model::cluster_time::WallTime;
use ullage_model::command::{
    Actor, Body, BucketRef, Conditions, FinalizeObject, FinalizePart, Reply, SessionCommand, SliceCommand,
    UploadRef,
};
use ullage_model::ids::VersionName;
use ullage_model::namespace::rows::{Checksum, Etag, Metadata};
use ullage_model::rejection::Rejection;

/// What a body becomes, decided by the caller after its last byte.
pub trait Finish: Send {
    /// What the caller gets.
    type Done: Send;
    /// Whether a small body of this kind may be kept in the FAT itself.
    const MAY_INLINE: bool;

    /// The command that makes it visible.
    fn command(&self, class: &str, random: u64, now: WallTime, body: Body) -> SessionCommand;
    /// Whose settings it was decided under.
    fn settings(&self) -> (Actor, BucketRef);
    /// The caller's answer, from the command's.
    ///
    /// # Errors
    /// When the reply does not fit.
    fn done(&self, reply: Reply, bytes: u64, now: WallTime) -> Result<Self::Done, Error>;
}

/// An object to be.
#[derive(Clone, Debug)]
pub struct ObjectFinish {
    /// Who stores it.
    pub actor: Actor,
    /// Where, as decided under.
    pub bucket: BucketRef,
    /// Its key.
    pub key: String,
    /// Conditions on the current version.
    pub conditions: Conditions,
    /// Entity tag.
    pub etag: Etag,
    /// Checksum.
    pub checksum: Option<Checksum>,
    /// Headers and metadata.
    pub metadata: Metadata,
}

/// A part to be.
#[derive(Clone, Debug)]
pub struct PartFinish {
    /// Who uploads it.
    pub actor: Actor,
    /// The bucket as decided under.
    pub bucket: BucketRef,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload: UploadRef,
    /// Its number.
    pub number: u32,
    /// Entity tag.
    pub etag: Etag,
    /// Checksum.
    pub checksum: Option<Checksum>,
}

/// A stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How answers name the new version; not at all if the bucket never kept old ones.
    pub version: Option<VersionName>,
    /// Its entity tag.
    pub etag: Etag,
    /// Its checksum.
    pub checksum: Option<Checksum>,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Last-Modified.
    pub modified: WallTime,
}

/// A stored part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Its entity tag.
    pub etag: Etag,
    /// Its checksum.
    pub checksum: Option<Checksum>,
    /// Plaintext bytes.
    pub bytes: u64,
    /// Last-Modified.
    pub modified: WallTime,
}

impl Finish for ObjectFinish {
    type Done = Stored;
    const MAY_INLINE: bool = true;

    fn command(&self, class: &str, random: u64, now: WallTime, body: Body) -> SessionCommand {
        SessionCommand::FinalizeObject(FinalizeObject {
            actor: self.actor,
            bucket: self.bucket,
            key: self.key.clone(),
            conditions: self.conditions.clone(),
            random,
            now,
            etag: self.etag,
            checksum: self.checksum.clone(),
            class: class.to_owned(),
            metadata: self.metadata.clone(),
            body,
        })
    }

    fn settings(&self) -> (Actor, BucketRef) {
        (self.actor, self.bucket)
    }

    fn done(&self, reply: Reply, bytes: u64, now: WallTime) -> Result<Stored, Error> {
        match reply {
            Reply::Stored {
                name, etag, checksum, ..
            } => Ok(Stored {
                version: name,
                etag,
                checksum,
                bytes,
                modified: now,
            }),
            _ => Err(Error::UnexpectedAnswer("finalize object")),
        }
    }
}

impl Finish for PartFinish {
    type Done = StoredPart;
    const MAY_INLINE: bool = false;

    fn command(&self, _class: &str, _random: u64, now: WallTime, body: Body) -> SessionCommand {
        SessionCommand::FinalizePart(FinalizePart {
            actor: self.actor,
            bucket: self.bucket,
            key: self.key.clone(),
            upload: self.upload,
            number: self.number,
            now,
            etag: self.etag,
            checksum: self.checksum.clone(),
            body,
        })
    }

    fn settings(&self) -> (Actor, BucketRef) {
        (self.actor, self.bucket)
    }

    fn done(&self, reply: Reply, bytes: u64, now: WallTime) -> Result<StoredPart, Error> {
        match reply {
            Reply::Done => Ok(StoredPart {
                etag: self.etag,
                checksum: self.checksum.clone(),
                bytes,
                modified: now,
            }),
            _ => Err(Error::UnexpectedAnswer("finalize part")),
        }
    }
}

/// The body of a finalize, from what was validated.
#[derive(Debug)]
pub enum Content {
    /// No bytes.
    Empty,
    /// Sealed frames for the FAT itself.
    Inline {
        /// The frames with their tags.
        sealed: bytes::Bytes,
        /// Plaintext bytes.
        plaintext_bytes: u64,
    },
    /// Chunks, those below `first` committed already.
    Chunks {
        /// Plaintext bytes of the whole blob.
        plaintext_bytes: u64,
        /// Index of the first chunk not committed yet.
        first: u32,
        /// The rest.
        chunks: Vec<Validated>,
    },
}

impl Content {
    fn body(&self, plan: &Plan) -> Body {
        match self {
            Self::Empty => Body::Empty,
            Self::Inline {
                sealed,
                plaintext_bytes,
            } => Body::Inline {
                blob: plan.blob,
                plaintext_bytes: *plaintext_bytes,
                sealed: sealed.clone(),
                key: plan.key.clone(),
            },
            Self::Chunks {
                plaintext_bytes,
                first,
                chunks,
            } => Body::Chunks {
                blob: plan.blob,
                plaintext_bytes: *plaintext_bytes,
                chunk_bytes: plan.class.chunk_bytes,
                first: *first,
                chunks: chunks.iter().map(|chunk| chunk.row().clone()).collect(),
                key: plan.key.clone(),
                class: (plan.class.name.clone(), plan.class.settings_version),
            },
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Inline { plaintext_bytes, .. } | Self::Chunks { plaintext_bytes, .. } => *plaintext_bytes,
        }
    }

    fn place(&self) -> &'static str {
        match self {
            Self::Empty => "nowhere",
            Self::Inline { .. } => "inline",
            Self::Chunks { .. } => "vendors",
        }
    }
}

/// Makes the body visible. After `Error::StaleSettings` the caches are fresh and the caller may decide anew and
/// call again with the same content.
///
/// # Errors
/// A refusal, or that the outcome is not known.
pub async fn finalize<F: Finish>(
    engine: &Engine,
    plan: &Plan,
    finish: &F,
    content: &mut Content,
) -> Result<F::Done, Error> {
    let now = engine.around.clock.wall();
    let random = engine.around.random.number();
    let command = finish.command(&plan.class.name, random, now, content.body(plan));
    match plan.session.submit(command).await {
        Ok(reply) => {
            let bytes = content.bytes();
            engine
                .around
                .metrics
                .stored_bytes
                .with_label_values(&[content.place()])
                .inc_by(bytes);
            if let Content::Chunks { chunks, .. } = content {
                chunks.drain(..).for_each(Validated::settled);
            }
            finish.done(reply, bytes, now)
        }
        Err(Error::StaleSettings) => {
            let (actor, bucket) = finish.settings();
            engine.directory.forget(actor.user, bucket.bucket);
            Err(Error::StaleSettings)
        }
        Err(error) => Err(error),
    }
}

/// Commits chunks of a long body from index `first` on, invisible until it is finalized.
///
/// # Errors
/// A refusal, or that the outcome is not known.
pub async fn commit_slice(
    engine: &Engine,
    plan: &mut Plan,
    first: u32,
    chunks: Vec<Validated>,
) -> Result<(), Error> {
    for _ in 0..STALE_SETTINGS_RETRIES {
        let slice = SliceCommand {
            blob: plan.blob,
            first,
            chunk_bytes: plan.class.chunk_bytes,
            chunks: chunks.iter().map(|chunk| chunk.row().clone()).collect(),
            class: (plan.class.name.clone(), plan.class.settings_version),
        };
        match plan.session.submit(SessionCommand::Slice(slice)).await {
            Ok(_) => {
                chunks.into_iter().for_each(Validated::settled);
                return Ok(());
            }
            Err(Error::StaleSettings) => refresh_class(engine, plan).await?,
            Err(error) => return Err(error),
        }
    }
    Err(Error::StaleSettings)
}

/// Takes the class's present rule: `decide` checks whether what was stored under the old one fits it.
///
/// # Errors
/// When the class is gone or now cuts bodies otherwise.
pub async fn refresh_class(engine: &Engine, plan: &mut Plan) -> Result<(), Error> {
    engine.keeper.renew().await?;
    let view = plan.session.view();
    let Some(class) = view.classes.get(&plan.class.name) else {
        return Err(Rejection::NoSuchClass(plan.class.name.clone()).into());
    };
    if class.chunk_bytes != plan.class.chunk_bytes {
        return Err(Error::NotStored(
            "the class's chunk size changed during the upload".to_owned(),
        ));
    }
    plan.class = Arc::clone(class);
    Ok(())
}
