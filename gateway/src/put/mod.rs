//! Storing a body: `Plan → Probed → Sent → Validated → Stored`, top down. Each step is a type of its own; a chunk
//! cannot be committed unless all its receipts verified, because only [`validate`] makes a `Validated`.
//!
//! A body streams through encryption and chunking (`chunker.rs`); each full chunk goes out while the next one
//! fills. Nothing is visible before the one command of [`finalize`]; whatever ends a request earlier leaves work
//! for [`abandon`].

pub mod abandon;
pub mod finalize;
mod leg;
pub mod plan;
pub mod probe;
pub mod send;
pub mod validate;

use crate::chunker::{Chunker, SealedChunk};
use crate::engine::Engine;
use crate::error::Error;
use crate::limits::{
    BODY_BYTES_PER_S_MIN, BODY_IDLE, BODY_IDLE_PRESSED, CHUNKS_IN_FLIGHT, PRESSURE_LOOK, SLICE_AGE,
    STALE_SETTINGS_RETRIES,
};
use crate::memory::{Budget, Reservation};
use abandon::AbandonOnDrop;
use bytes::Bytes;
use finalize::{Content, Finish, commit_slice, finalize, refresh_class};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use plan::{Plan, PutRequest};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use ullage_model::limits::CHUNKS_PER_SLICE;
use ullage_model::rejection::Rejection;
use validate::Validated;

/// A body and what it is to become, as the caller of a PUT supplies them.
pub trait Upload: Send {
    /// What it becomes.
    type Finish: Finish + Sync;
    /// Why the caller may not want it after all (a digest that does not match, a body cut short).
    type Refusal: Send;

    /// The next plaintext bytes; `None` after the last. Cut off (dropped) calls are not resumed.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Refusal>> + Send;

    /// Called after the last byte: what the body becomes, or that it must not. Called again with `stale` when
    /// settings changed under the decision: the caches are fresh then, and the caller looks up and authorizes
    /// anew.
    fn finish(&mut self, stale: bool) -> impl Future<Output = Result<Self::Finish, Self::Refusal>> + Send;
}

/// Why a body was not stored.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError<R> {
    /// The caller did not want it.
    #[error("the caller refused the body")]
    Refused(R),
    /// The gateway could not store it.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Stores one body. Nothing is visible unless this answers `Ok`, except after `Error::OutcomeUnknown`, which leaves
/// open whether it is. Dropping the future gives the body up.
///
/// # Errors
/// See [`PutError`].
pub async fn put<U: Upload>(
    engine: &Engine,
    request: &PutRequest,
    upload: &mut U,
) -> Result<<U::Finish as Finish>::Done, PutError<U::Refusal>> {
    let (plan, mut chunker) = Plan::make(engine, request, U::Finish::MAY_INLINE).await?;
    let first = read_small(engine, &plan, &mut chunker, upload).await?;
    if let Small::Whole(chunk) = first {
        return Box::pin(put_small(engine, plan, chunk, upload)).await;
    }
    Box::pin(put_long(engine, plan, chunker, first, upload)).await
}

enum Small {
    /// The body is over: nothing, or one chunk.
    Whole(Option<SealedChunk>),
    /// The first chunk is full and the body goes on with these bytes.
    More(SealedChunk, Bytes),
}

/// Reads the first chunk. Most bodies end within it.
async fn read_small<U: Upload>(
    engine: &Engine,
    plan: &Plan,
    chunker: &mut Chunker,
    upload: &mut U,
) -> Result<Small, PutError<U::Refusal>> {
    let bytes = plan.next_chunk_bytes(plan.class.chunk_bytes, 0);
    chunker.fill(engine.pool.take(Plan::capacity(bytes), Some(plan.reservation())));
    let mut rate = Rate::begin(bytes);
    loop {
        let next = rate
            .watch((&engine.upload_memory, &plan.reservation()), upload.next())
            .await?;
        let Some(mut data) = next.map_err(PutError::Refused)? else {
            return Ok(Small::Whole(chunker.finish().map_err(Error::from)?));
        };
        if let Some(chunk) = chunker.push(&mut data).map_err(Error::from)? {
            return Ok(Small::More(chunk, data));
        }
        plan.check_length(chunker.total())?;
    }
}

/// A body of no bytes or one chunk: inline if it may, else at vendors.
async fn put_small<U: Upload>(
    engine: &Engine,
    mut plan: Plan,
    chunk: Option<SealedChunk>,
    upload: &mut U,
) -> Result<<U::Finish as Finish>::Done, PutError<U::Refusal>> {
    plan.check_whole(chunk.as_ref().map_or(0, |chunk| chunk.plaintext_bytes))?;
    let Some(chunk) = chunk else {
        let finish = upload.finish(false).await.map_err(PutError::Refused)?;
        return finish_upload(engine, &mut plan, upload, finish, &mut Content::Empty).await;
    };
    if chunk.plaintext_bytes <= plan.inline_bytes {
        let finish = upload.finish(false).await.map_err(PutError::Refused)?;
        let mut content = Content::Inline {
            sealed: chunk.stored.clone(),
            plaintext_bytes: chunk.plaintext_bytes,
        };
        match finish_upload(engine, &mut plan, upload, finish, &mut content).await {
            Err(PutError::Failed(Error::Rejected(Rejection::NotInlined(_)))) => {}
            other => return other,
        }
        // Over the budget, or the cap was lowered: vendors take it, sealed as it is.
    }
    put_one_chunk(engine, plan, chunk, upload).await
}

async fn put_one_chunk<U: Upload>(
    engine: &Engine,
    mut plan: Plan,
    chunk: SealedChunk,
    upload: &mut U,
) -> Result<<U::Finish as Finish>::Done, PutError<U::Refusal>> {
    let plaintext_bytes = chunk.plaintext_bytes;
    let validated = send::send(engine, &plan, &chunk).await?;
    drop(chunk);
    // Not before: while the vendors write, the caller's digests are made beside those of others (`s3/md5/`). A body
    // that is refused now is what one is whose finalize is refused: its copies go when their lease is closed.
    let finish = upload.finish(false).await.map_err(PutError::Refused)?;
    let mut content = Content::Chunks {
        plaintext_bytes,
        first: 0,
        chunks: vec![validated],
    };
    finish_upload(engine, &mut plan, upload, finish, &mut content).await
}

/// Finalizes, and decides anew when settings changed, within bounds.
async fn finish_upload<U: Upload>(
    engine: &Engine,
    plan: &mut Plan,
    upload: &mut U,
    mut finish: U::Finish,
    content: &mut Content,
) -> Result<<U::Finish as Finish>::Done, PutError<U::Refusal>> {
    for _ in 0..STALE_SETTINGS_RETRIES {
        match finalize(engine, plan, &finish, content).await {
            Err(Error::StaleSettings) => {}
            other => return Ok(other?),
        }
        // Which settings changed is not said: the class's, the bucket's or the user's.
        refresh_class(engine, plan).await?;
        finish = upload.finish(true).await.map_err(PutError::Refused)?;
    }
    Ok(finalize(engine, plan, &finish, content).await?)
}

/// A body of several chunks, some of which are in flight while the next one fills.
async fn put_long<U: Upload>(
    engine: &Engine,
    mut plan: Plan,
    mut chunker: Chunker,
    first: Small,
    upload: &mut U,
) -> Result<<U::Finish as Finish>::Done, PutError<U::Refusal>> {
    let Small::More(chunk, mut data) = first else {
        return Err(Error::UnexpectedAnswer("a body").into());
    };
    let mut long = Long::new(engine, &plan);
    long.start(&plan, chunk, Memory::Own);
    loop {
        if chunker.needs_buffer() {
            let memory = long.memory(&mut plan).await?;
            let bytes = plan.next_chunk_bytes(plan.class.chunk_bytes, chunker.total());
            chunker.fill(engine.pool.take(Plan::capacity(bytes), memory.reservation(&plan)));
            long.filling = Some(memory);
            long.rate = Rate::begin(bytes);
        }
        if let Some(chunk) = chunker.push(&mut data).map_err(Error::from)? {
            let memory = long.filling.take().unwrap_or(Memory::Own);
            long.start(&plan, chunk, memory);
            continue;
        }
        plan.check_length(chunker.total())?;
        match long.next_bytes(&mut plan, upload).await? {
            Some(more) => data = more,
            None => break,
        }
    }
    plan.check_whole(chunker.total())?;
    if let Some(chunk) = chunker.finish().map_err(Error::from)? {
        let memory = long.filling.take().unwrap_or(Memory::Own);
        long.start(&plan, chunk, memory);
    }
    long.wait_for_all().await?;
    let finish = upload.finish(false).await.map_err(PutError::Refused)?;
    long.commit_all_but(&mut plan, CHUNKS_PER_SLICE).await?;
    let mut content = long.content(chunker.total());
    let done = finish_upload(engine, &mut plan, upload, finish, &mut content).await?;
    long.abandon.finalized();
    Ok(done)
}

/// Memory that a chunk is held in.
#[derive(Debug)]
enum Memory {
    /// What the body was admitted with.
    Own,
    /// Borrowed because there was room.
    Borrowed(Arc<Reservation>),
}

impl Memory {
    fn reservation(&self, plan: &Plan) -> Option<Arc<Reservation>> {
        Some(match self {
            Self::Own => plan.reservation(),
            Self::Borrowed(reservation) => Arc::clone(reservation),
        })
    }
}

/// What a chunk in flight comes back with.
type Arrived = (u32, Memory, Result<Validated, Error>);

/// A body of several chunks on its way.
struct Long<'a> {
    engine: &'a Engine,
    in_flight: FuturesUnordered<BoxFuture<'a, Arrived>>,
    /// Stored, not committed, by index.
    stored: BTreeMap<u32, Validated>,
    /// When the oldest of them was stored.
    oldest: Option<Instant>,
    committed: u32,
    own_memory_free: bool,
    filling: Option<Memory>,
    rate: Rate,
    abandon: AbandonOnDrop,
}

impl<'a> Long<'a> {
    fn new(engine: &'a Engine, plan: &Plan) -> Self {
        Self {
            engine,
            in_flight: FuturesUnordered::new(),
            stored: BTreeMap::new(),
            oldest: None,
            committed: 0,
            own_memory_free: true,
            filling: None,
            rate: Rate::begin(0),
            abandon: AbandonOnDrop::new(&plan.session, plan.blob),
        }
    }

    fn start(&mut self, plan: &Plan, chunk: SealedChunk, memory: Memory) {
        self.own_memory_free &= !matches!(memory, Memory::Own);
        let engine = self.engine;
        let plan = plan.clone();
        self.in_flight.push(Box::pin(async move {
            let index = chunk.index;
            let stored = send::send(engine, &plan, &chunk).await;
            (index, memory, stored)
        }));
    }

    fn arrived(&mut self, (index, memory, stored): Arrived) -> Result<(), Error> {
        self.own_memory_free |= matches!(memory, Memory::Own);
        self.stored.insert(index, stored?);
        self.oldest.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Memory for the next chunk: the body's own if it is free, else borrowed, else the body's own when it gets
    /// free.
    async fn memory(&mut self, plan: &mut Plan) -> Result<Memory, Error> {
        loop {
            if self.own_memory_free {
                self.own_memory_free = false;
                return Ok(Memory::Own);
            }
            if self.in_flight.len() < CHUNKS_IN_FLIGHT
                && let Some(borrowed) = self.engine.upload_memory.try_reserve(plan.class.chunk_bytes)
            {
                return Ok(Memory::Borrowed(Arc::new(borrowed)));
            }
            if let Some(arrived) = self.in_flight.next().await {
                self.arrived(arrived)?;
            }
            self.commit_what_is_due(plan).await?;
        }
    }

    /// The body's next bytes, while chunks arrive and slices fall due.
    async fn next_bytes<U: Upload>(
        &mut self,
        plan: &mut Plan,
        upload: &mut U,
    ) -> Result<Option<Bytes>, PutError<U::Refusal>> {
        let mut next = std::pin::pin!(upload.next());
        // Time during which the vendors were waited for is not the body's fault.
        self.rate.resume();
        loop {
            let slice_due = self
                .oldest
                .map_or_else(|| Instant::now() + SLICE_AGE, |oldest| oldest + SLICE_AGE);
            tokio::select! {
                biased;
                // First, so that chunks go out while a fast body is always ready.
                Some(arrived) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.arrived(arrived)?;
                }
                bytes = &mut next => {
                    self.rate.pause();
                    return bytes.map_err(PutError::Refused);
                }
                () = tokio::time::sleep_until(self.rate.look()) => {
                    self.rate.check((&self.engine.upload_memory, &plan.reservation()))?;
                    continue;
                }
                () = tokio::time::sleep_until(slice_due), if self.oldest.is_some() => {}
            }
            // Time during which the metadata service is waited for is not the body's fault.
            self.rate.pause();
            self.commit_what_is_due(plan).await?;
            self.rate.resume();
        }
    }

    async fn wait_for_all(&mut self) -> Result<(), Error> {
        while let Some(arrived) = self.in_flight.next().await {
            self.arrived(arrived)?;
        }
        Ok(())
    }

    /// Commits a full slice, or a smaller one whose chunks have waited long: they depend on their lease until then.
    async fn commit_what_is_due(&mut self, plan: &mut Plan) -> Result<(), Error> {
        let old = self.oldest.is_some_and(|oldest| oldest.elapsed() >= SLICE_AGE);
        let ready = self.ready();
        if ready >= CHUNKS_PER_SLICE || (old && ready > 0) {
            self.commit(plan, ready.min(CHUNKS_PER_SLICE)).await?;
        } else if old {
            // The chunk before them is still in flight: look again later.
            self.oldest = Some(Instant::now());
        }
        Ok(())
    }

    async fn commit_all_but(&mut self, plan: &mut Plan, rest: usize) -> Result<(), Error> {
        while self.stored.len() > rest {
            let count = (self.stored.len() - rest).min(CHUNKS_PER_SLICE);
            self.commit(plan, count).await?;
        }
        Ok(())
    }

    /// Chunks stored without a gap from the first that is not committed.
    fn ready(&self) -> usize {
        let gapless = |(at, index): &(u32, &u32)| **index == self.committed + at;
        (0..).zip(self.stored.keys()).take_while(gapless).count()
    }

    async fn commit(&mut self, plan: &mut Plan, count: usize) -> Result<(), Error> {
        let mut chunks = Vec::with_capacity(count);
        while chunks.len() < count {
            let Some((_, chunk)) = self.stored.pop_first() else {
                break;
            };
            chunks.push(chunk);
        }
        let committed = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        self.abandon.building();
        commit_slice(self.engine, plan, self.committed, chunks).await?;
        self.committed += committed;
        self.oldest = (!self.stored.is_empty()).then(Instant::now);
        Ok(())
    }

    fn content(&mut self, plaintext_bytes: u64) -> Content {
        Content::Chunks {
            plaintext_bytes,
            first: self.committed,
            chunks: std::mem::take(&mut self.stored).into_values().collect(),
        }
    }
}

/// How long a body may take to fill its chunk; stands still while it is not waited for.
#[derive(Debug)]
struct Rate {
    left: Duration,
    since: Option<Instant>,
}

/// A budget, and what a body was admitted with.
type Held<'a> = (&'a Budget, &'a Reservation);

impl Rate {
    fn begin(bytes: u64) -> Self {
        Self {
            left: BODY_IDLE + Duration::from_secs(bytes / BODY_BYTES_PER_S_MIN),
            since: Some(Instant::now()),
        }
    }

    /// Waits for bytes of the body as long as it may.
    async fn watch<T>(&mut self, held: Held<'_>, next: impl Future<Output = T>) -> Result<T, Error> {
        let mut next = std::pin::pin!(next);
        self.resume();
        loop {
            if let Ok(bytes) = tokio::time::timeout_at(self.look(), &mut next).await {
                self.pause();
                return Ok(bytes);
            }
            self.check(held)?;
        }
    }

    /// When [`Rate::check`] is due, unless bytes come before.
    fn look(&self) -> Instant {
        let now = Instant::now();
        let pressed = self.since.unwrap_or(now) + BODY_IDLE_PRESSED;
        let look = if now < pressed {
            pressed
        } else {
            now + PRESSURE_LOOK
        };
        look.min(self.until())
    }

    /// Whether the body loses its place: it is too late, or it sends nothing while others wait for its memory.
    fn check(&self, (memory, reservation): Held<'_>) -> Result<(), Error> {
        let now = Instant::now();
        if now >= self.until() {
            return Err(Error::SlowBody);
        }
        let idle = self.since.is_some_and(|since| now >= since + BODY_IDLE_PRESSED);
        if idle && memory.must_give_way(reservation) {
            return Err(Error::SlowDown("the body paused while others waited for memory"));
        }
        Ok(())
    }

    /// When it is too late.
    fn until(&self) -> Instant {
        self.since.unwrap_or_else(Instant::now) + self.left.min(BODY_IDLE)
    }

    fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    fn resume(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }
}
