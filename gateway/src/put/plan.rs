//! First step of a PUT: which class, which session, which blob, and memory for one chunk.

use crate::chunker::Chunker;
use crate::engine::Engine;
use crate::error::Error;
use crate::memory::Reservation;
use crate::session::Session;
use std::sync::Arc;
use ullage_model::fat::rows::ClassRow;
use ullage_model::ids::BlobId;
use ullage_model::namespace::rows::WrappedKey;
use ullage_model::rejection::Rejection;
use ullage_model::units::stored_bytes;

/// What is known of a body before its first byte.
#[derive(Clone, Debug)]
pub struct PutRequest {
    /// Name of the class asked for.
    pub class: String,
    /// Plaintext bytes announced, if they were.
    pub bytes: Option<u64>,
    /// For tracing only.
    pub request_id: u64,
}

/// A body that may begin: everything it needs to make progress is reserved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The session it is stored under.
    pub session: Arc<Session>,
    /// The class's row; replaced when the class changes under the upload.
    pub class: Arc<ClassRow>,
    /// The blob.
    pub blob: BlobId,
    /// The blob's key, wrapped.
    pub key: WrappedKey,
    /// Plaintext bytes up to which it is inlined; 0 = not at all.
    pub inline_bytes: u64,
    /// For tracing only.
    pub request_id: u64,
    /// Plaintext bytes announced.
    pub announced: Option<u64>,
    reservation: Arc<Reservation>,
}

impl Plan {
    /// Plans a body; `may_inline` says whether its kind can be kept in the FAT itself.
    ///
    /// # Errors
    /// When there is no such class, no session, or no memory.
    pub async fn make(
        engine: &Engine,
        request: &PutRequest,
        may_inline: bool,
    ) -> Result<(Self, Chunker), Error> {
        let session = engine.keeper.live_session().await?;
        let mut view = session.view();
        if !view.classes.contains_key(&request.class) {
            engine.keeper.refresh().await?;
            view = session.view();
        }
        let Some(class) = view.classes.get(&request.class) else {
            return Err(Rejection::NoSuchClass(request.class.clone()).into());
        };
        let inline_bytes = if may_inline {
            engine.inline_cap(&view.inline)
        } else {
            0
        };
        let needed = request.bytes.unwrap_or(u64::MAX).min(class.chunk_bytes);
        let reservation = Arc::new(engine.upload_memory.admit(needed).await?);
        let (blob_key, key) = session.new_blob();
        let plan = Self {
            class: Arc::clone(class),
            blob: blob_key.blob(),
            key,
            inline_bytes,
            request_id: request.request_id,
            announced: request.bytes,
            reservation,
            session,
        };
        let chunker = Chunker::new(blob_key, plan.class.chunk_bytes);
        Ok((plan, chunker))
    }

    /// Plaintext bytes that the next chunk can have at most, `sent` bytes into the body.
    #[must_use]
    pub fn next_chunk_bytes(&self, chunk_bytes: u64, sent: u64) -> u64 {
        self.announced.map_or(chunk_bytes, |announced| {
            chunk_bytes.min(announced.saturating_sub(sent))
        })
    }

    /// Refuses a body that is longer than announced.
    ///
    /// # Errors
    /// `Error::BodyLength`.
    pub fn check_length(&self, bytes: u64) -> Result<(), Error> {
        match self.announced {
            Some(announced) if bytes > announced => Err(Error::BodyLength { announced }),
            _ => Ok(()),
        }
    }

    /// Refuses a whole body that is not as long as announced.
    ///
    /// # Errors
    /// `Error::BodyLength`.
    pub fn check_whole(&self, bytes: u64) -> Result<(), Error> {
        match self.announced {
            Some(announced) if bytes != announced => Err(Error::BodyLength { announced }),
            _ => Ok(()),
        }
    }

    /// Capacity of a buffer for a chunk of `plaintext_bytes`.
    #[must_use]
    pub fn capacity(plaintext_bytes: u64) -> usize {
        usize::try_from(stored_bytes(plaintext_bytes)).unwrap_or(usize::MAX)
    }

    /// The memory this body was admitted with.
    #[must_use]
    pub fn reservation(&self) -> Arc<Reservation> {
        Arc::clone(&self.reservation)
    }
}
