//! Reading an object: where its bytes are ([`locate`]), a bounded window of them ahead of the client ([`fetch`]),
//! every frame verified before it is handed on ([`verify`]).
//!
//! A read is registered with its session before the metadata service is asked, so that no copy it may need is
//! erased under it: an overwrite or a delete during a slow read does not harm it.

pub mod fetch;
pub mod hedge;
pub mod locate;
pub mod verify;
pub mod window;

use crate::crypt::BlobKey;
use crate::engine::Engine;
use crate::error::Error;
use crate::limits::{PRESSURE_LOOK, READ_AHEAD_CHUNKS, SEGMENT_BYTES, SEGMENTS_IN_FLIGHT, SENT_COPIED_BYTES};
use crate::memory::Reservation;
use crate::readers::Reader;
use crate::session::Session;
use bytes::Bytes;
use fetch::{Segment, fetch};
use futures::{Stream, stream};
use locate::Locator;
use std::sync::Arc;
use std::time::Duration;
use ullage_model::ids::{BucketId, VersionId, VersionName};
use ullage_model::limits::{FRAME_BYTES, LOCATE_PAGE_CHUNKS};
use ullage_model::namespace::rows::{DeleteMarkerRow, Extent, VersionRow, Versioning};
use ullage_model::units::{frames, stored_bytes};
use ullage_model::wire::metad::{
    Answer, ByteRange, Found, LocateSource, LocatedPart, LocatedSpan, ObjectAnswer, PageSize, Query,
    SpanPlace,
};
use verify::{FrameSpan, Opening};
use window::{OneAtATime, Registered, Window};

/// Chunks whose places come with the version.
const FIRST_PAGE_CHUNKS: u32 = 16;
const _: () = assert!(FIRST_PAGE_CHUNKS as usize <= LOCATE_PAGE_CHUNKS);
/// Times one read goes on under another session.
const SESSIONS_PER_READ: u32 = 3;

/// Which object is read.
#[derive(Clone, Debug)]
pub struct ObjectName {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// Which version; `None`: the current one.
    pub version: Option<VersionName>,
    /// For tracing only.
    pub request_id: u64,
}

/// What is under a key, or under a version's name.
#[derive(Debug)]
pub enum Lookup<T> {
    /// Nothing.
    Nothing,
    /// A delete marker: the newest of the key, or the one named.
    DeleteMarker(DeleteMarkerRow),
    /// A version.
    Found(T),
}

impl<T> Lookup<T> {
    /// The version, if there is one.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Nothing | Self::DeleteMarker(_) => None,
        }
    }

    fn of(answer: Answer, make: impl FnOnce(ObjectAnswer) -> T) -> Result<Self, Error> {
        match answer {
            Answer::Object(Found::Nothing) => Ok(Self::Nothing),
            Answer::Object(Found::DeleteMarker(row)) => Ok(Self::DeleteMarker(row)),
            Answer::Object(Found::Object(answer)) => Ok(Self::Found(make(*answer))),
            _ => Err(Error::UnexpectedAnswer("an object")),
        }
    }
}

/// A version that was looked up.
#[derive(Debug)]
pub struct FoundVersion {
    /// The version.
    pub version: VersionRow,
    /// How answers name it; not at all if the bucket never kept old versions.
    pub name: Option<VersionName>,
    /// The part that was asked for by its number, if there is one.
    pub part: Option<LocatedPart>,
}

/// A version that was looked up, and what is needed to read its bytes.
#[derive(Debug)]
pub struct Object {
    /// The version.
    pub version: VersionRow,
    /// How answers name it; not at all if the bucket never kept old versions.
    pub version_name: Option<VersionName>,
    /// The part that was asked for by its number, if there is one.
    pub part: Option<LocatedPart>,
    engine: Arc<Engine>,
    name: ObjectName,
    reading: Reading,
    spans: Vec<LocatedSpan>,
}

/// A read registered with a session.
#[derive(Debug)]
struct Reading {
    session: Arc<Session>,
    reader: Reader,
}

impl Reading {
    async fn begin(engine: &Engine) -> Result<Self, Error> {
        let session = engine.keeper.live_session().await?;
        let reader = session.enter_read();
        Ok(Self { session, reader })
    }

    async fn ask(&self, name: &ObjectName, range: ByteRange) -> Result<Answer, Error> {
        let range = Some((range, PageSize(FIRST_PAGE_CHUNKS)));
        Ok(self.session.query(name.query(range)).await?.answer)
    }
}

impl ObjectName {
    fn query(&self, range: Option<(ByteRange, PageSize)>) -> Query {
        Query::Object {
            bucket: self.bucket,
            key: self.key.clone(),
            version: self.version,
            range,
        }
    }
}

/// The version of this name without its bytes, in a bucket of which this is known; and its part of this number.
///
/// # Errors
/// When the metadata service does not answer.
pub async fn head(
    engine: &Engine,
    versioning: Versioning,
    name: &ObjectName,
    part: Option<u32>,
) -> Result<Lookup<FoundVersion>, Error> {
    let session = engine.keeper.live_session().await?;
    // Where the part's bytes are is not asked.
    let range = part.map(|number| (ByteRange::Part(number), PageSize(0)));
    Lookup::of(session.query(name.query(range)).await?.answer, |answer| {
        FoundVersion {
            name: versioning.shown(answer.version.name()),
            version: answer.version,
            part: answer.part,
        }
    })
}

/// The version of this name, with where its bytes of `range` are, in a bucket of which this is known.
///
/// # Errors
/// When the metadata service does not answer.
pub async fn open(
    engine: &Arc<Engine>,
    versioning: Versioning,
    mut name: ObjectName,
    range: ByteRange,
) -> Result<Lookup<Object>, Error> {
    let reading = Reading::begin(engine).await?;
    Lookup::of(reading.ask(&name, range).await?, |answer| {
        // What is read on is this version, whatever becomes current.
        name.version = Some(answer.version.name());
        Object {
            version_name: versioning.shown(answer.version.name()),
            version: answer.version,
            part: answer.part,
            engine: Arc::clone(engine),
            name,
            reading,
            spans: answer.spans,
        }
    })
}

impl Object {
    /// The plaintext bytes from `first` on, `bytes` of them, cut to the object. They need not be those named when
    /// it was opened, but then where they are is asked for again.
    #[must_use]
    pub fn read(self, first: u64, bytes: u64) -> ObjectStream {
        let first = first.min(self.version.bytes);
        let end = first.saturating_add(bytes).min(self.version.bytes);
        let locator = Locator::new(&self.version.content, self.spans, end);
        ObjectStream {
            version: self.version.version,
            engine: self.engine,
            name: self.name,
            reading: self.reading,
            locator,
            key: None,
            scheduled: first,
            delivered: first,
            end,
            window: Arc::default(),
            registered: None,
            copies: OneAtATime::default(),
            sessions: 1,
            failed: false,
        }
    }
}

/// Verified plaintext bytes, in order.
pub struct ObjectStream {
    version: VersionId,
    engine: Arc<Engine>,
    name: ObjectName,
    reading: Reading,
    locator: Locator,
    key: Option<Arc<BlobKey>>,
    /// Everything before was scheduled.
    scheduled: u64,
    /// Everything before was handed on.
    delivered: u64,
    end: u64,
    /// What is fetched ahead of the client.
    window: Arc<Window>,
    /// While the window holds memory.
    registered: Option<Registered>,
    /// Pieces that were handed on as copies.
    copies: OneAtATime,
    sessions: u32,
    failed: bool,
}

impl std::fmt::Debug for ObjectStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ObjectStream({}: {} of {})",
            self.version, self.delivered, self.end
        )
    }
}

impl ObjectStream {
    /// Plaintext bytes still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.end - self.delivered
    }

    /// The next bytes; `None` after the last. After an error nothing more comes, and all that came was right.
    ///
    /// While memory is scarce they come in small copies, one at a time: the next waits until the last was dropped.
    /// Between two calls, what was fetched ahead may be taken away for others; it is fetched again then.
    ///
    /// # Errors
    /// When the bytes cannot be read and verified, or the read was cut.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.failed || self.delivered == self.end {
            return Ok(None);
        }
        // Until then it is the client that is waited for.
        self.copies.gone().await;
        if self.window.asked() {
            self.scheduled = self.delivered;
        }
        let next = self.next_or_fail().await;
        self.failed = next.is_err();
        if self.failed || self.delivered == self.end {
            // Nothing is ahead any more; what is handed on keeps its own memory.
            self.window = Arc::default();
            self.registered = None;
        }
        self.window.handed(self.engine.around.clock.monotonic());
        next.map(Some)
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static {
        stream::unfold(self, |mut reading| async move {
            let next = reading.next().await.transpose()?;
            Some((next, reading))
        })
    }

    async fn next_or_fail(&mut self) -> Result<Bytes, Error> {
        loop {
            let now = self.engine.around.clock.monotonic();
            if self.reading.reader.is_overdue(now) {
                return Err(Error::Cut("it took longer than reads are waited for"));
            }
            if self.reading.session.is_gone() {
                self.go_on_under_another_session().await?;
            }
            if let Some(piece) = self.piece() {
                self.delivered += piece.len() as u64;
                return Ok(piece);
            }
            self.schedule().await?;
            let window = &self.window;
            match std::future::poll_fn(|cx| window.poll_next(cx)).await {
                Some(Ok(bytes)) => window.set_rest(bytes),
                Some(Err(Error::SessionLost)) => self.reading.session.lost(),
                Some(Err(error)) => return Err(error),
                None => return Err(Error::UnexpectedAnswer("where bytes are")),
            }
        }
    }

    /// What is handed on of the segment in front: all of it, as long as there is memory. What a client was handed
    /// and does not take cannot be taken away again, so when memory is scarce it gets small copies, and the segment
    /// stays where it can be dropped.
    fn piece(&self) -> Option<Bytes> {
        if self.engine.read_memory.is_scarce() {
            let piece = self.window.cut(SENT_COPIED_BYTES)?;
            Some(self.copies.copy(&piece))
        } else {
            self.window.cut(usize::MAX)
        }
    }

    /// Copies may have been erased since the session ended: what is not handed on yet is located again, and must
    /// still be the same version.
    async fn go_on_under_another_session(&mut self) -> Result<(), Error> {
        self.sessions += 1;
        if self.sessions > SESSIONS_PER_READ {
            return Err(Error::SessionLost);
        }
        self.window.clear();
        self.scheduled = self.delivered;
        self.reading = Reading::begin(&self.engine).await?;
        let range = ByteRange::From {
            first: self.delivered,
            bytes: self.end - self.delivered,
        };
        let answer = self.reading.ask(&self.name, range).await?;
        match Lookup::of(answer, |answer| answer)? {
            Lookup::Found(answer) if answer.version.version == self.version => {
                self.locator = Locator::new(&answer.version.content, answer.spans, self.end);
                Ok(())
            }
            _ => Err(Error::Cut(
                "it was replaced after the gateway's session had ended",
            )),
        }
    }

    /// Starts segments until the window is full: the one at the head in the read's own memory, further ones as
    /// far as there is memory for them now. A client that takes nothing keeps what was fetched ahead for it, so
    /// reading ahead leaves half of the memory to reads that are yet to come.
    async fn schedule(&mut self) -> Result<(), Error> {
        while self.scheduled < self.end && self.window.in_flight() < SEGMENTS_IN_FLIGHT {
            let span = self
                .locator
                .span_at(&self.reading.session, self.scheduled)
                .await?;
            if let SpanPlace::Inline(sealed) = &span.place {
                let bytes = self.open_inline(&span, sealed)?;
                self.scheduled += bytes.len() as u64;
                self.window.push(Box::pin(std::future::ready(Ok(bytes))), None);
                continue;
            }
            let window = span.extent.chunk_bytes * READ_AHEAD_CHUNKS;
            if self.scheduled - self.delivered >= window {
                return Ok(());
            }
            let wanted = self.end - self.scheduled;
            let (memory, most) = if self.window.in_flight() == 0 {
                (self.own_memory().await?, SEGMENT_BYTES.0)
            } else {
                match self.engine.read_memory.try_borrow(SEGMENT_BYTES.1.min(wanted)) {
                    Some(borrowed) => (Arc::new(borrowed), SEGMENT_BYTES.1),
                    None => return Ok(()),
                }
            };
            let segment = self.segment(span, most)?;
            self.scheduled += segment.bytes as u64;
            let engine = Arc::clone(&self.engine);
            let session = Arc::clone(&self.reading.session);
            let fetching = fetch(engine, session, segment, Arc::clone(&memory));
            self.window.push(Box::pin(fetching), Some(&memory));
        }
        Ok(())
    }

    /// The memory that the read is admitted with. A read that gave way has been admitted before: it waits for as
    /// long as reads are waited for.
    async fn own_memory(&mut self) -> Result<Arc<Reservation>, Error> {
        if let Some(own) = self.window.own() {
            return Ok(own);
        }
        let needed = SEGMENT_BYTES.0.min(self.end - self.delivered);
        let own = loop {
            let admitted = self.admitted(needed).await;
            let now = self.engine.around.clock.monotonic();
            match admitted {
                Err(Error::SlowDown(_)) if self.registered.is_some() => {
                    if self.reading.reader.is_overdue(now) {
                        return Err(Error::Cut("it took longer than reads are waited for"));
                    }
                    tokio::time::sleep(PRESSURE_LOOK).await;
                }
                admitted => break Arc::new(admitted?),
            }
        };
        self.window.set_own(Arc::clone(&own));
        if self.registered.is_none() {
            self.registered = Some(self.engine.windows.register(&self.window));
        }
        Ok(own)
    }

    /// Reserves memory. While it waits, reads whose clients take nothing give way.
    async fn admitted(&self, bytes: u64) -> Result<Reservation, Error> {
        let memory = &self.engine.read_memory;
        if let Some(reservation) = memory.try_reserve(bytes) {
            return Ok(reservation);
        }
        let mut admission = std::pin::pin!(memory.admit(bytes));
        loop {
            // Polled first: what is given back goes to those who wait already.
            if let Ok(admitted) = tokio::time::timeout(Duration::ZERO, &mut admission).await {
                return admitted;
            }
            let now = self.engine.around.clock.monotonic();
            self.engine.windows.make_room(bytes, now);
            if let Ok(admitted) = tokio::time::timeout(PRESSURE_LOOK, &mut admission).await {
                return admitted;
            }
        }
    }

    /// The part of `span` that starts where scheduling stands and ends with the span, the range, the last whole
    /// frame within `most` bytes, or the run ([`fetch::run`]), so that all reads of the chunk ask for the same.
    fn segment(&mut self, span: LocatedSpan, most: u64) -> Result<Segment, Error> {
        let key = self.key_of(&span.extent)?;
        let SpanPlace::Chunk { index, offset, row } = span.place else {
            return Err(Error::UnexpectedAnswer("where bytes are"));
        };
        let unsound = Error::UnexpectedAnswer("where bytes are");
        let start = self
            .scheduled
            .checked_sub(span.offset)
            .and_then(|into| offset.checked_add(into));
        let start = start.ok_or_else(|| unsound.clone())?;
        let left = span
            .offset
            .saturating_add(span.bytes)
            .min(self.end)
            .saturating_sub(self.scheduled);
        let first = start / FRAME_BYTES;
        let run_end = (fetch::run(first) + 1) * SEGMENT_BYTES.1;
        let window_end = (first * FRAME_BYTES).saturating_add(most).min(run_end);
        let stop = start.saturating_add(left).min(window_end);
        let frame_span = FrameSpan {
            index,
            chunk_plaintext_bytes: row.plaintext_bytes,
            chunk_bytes: span.extent.chunk_bytes,
            blob_bytes: span.extent.blob_bytes,
            first,
            count: stop.div_ceil(FRAME_BYTES).saturating_sub(first),
        };
        let skip = start % FRAME_BYTES;
        if stop <= start || !frame_span.is_sound() || skip + (stop - start) > frame_span.plaintext_bytes() {
            return Err(unsound);
        }
        let source = self.locator.source().cloned().ok_or(unsound)?;
        Ok(Segment {
            key,
            span: frame_span,
            row,
            // Both are below the length of a chunk.
            skip: usize::try_from(skip).unwrap_or(usize::MAX),
            bytes: usize::try_from(stop - start).unwrap_or(usize::MAX),
            source,
            offset: self.scheduled,
            request_id: self.name.request_id,
        })
    }

    /// The wanted bytes of a blob that came with its place: opened at once.
    fn open_inline(&mut self, span: &LocatedSpan, sealed: &Bytes) -> Result<Bytes, Error> {
        let extent = &span.extent;
        let unsound = || Error::UnexpectedAnswer("where bytes are");
        let start = extent.offset.checked_add(self.scheduled).ok_or_else(unsound)?;
        let stop = extent
            .offset
            .saturating_add(span.offset.saturating_add(span.bytes).min(self.end))
            .min(extent.blob_bytes);
        if stop <= start || sealed.len() as u64 != stored_bytes(extent.blob_bytes) {
            return Err(unsound());
        }
        let key = self.key_of(extent)?;
        let frame_span = FrameSpan {
            index: 0,
            chunk_plaintext_bytes: extent.blob_bytes,
            chunk_bytes: extent.blob_bytes.next_multiple_of(FRAME_BYTES),
            blob_bytes: extent.blob_bytes,
            first: 0,
            count: frames(extent.blob_bytes),
        };
        let mut plain = Vec::with_capacity(sealed.len());
        let mut opening = Opening::new(&key, frame_span);
        opening
            .push(sealed, &mut plain)
            .and_then(|()| opening.finish())
            .map_err(|error| Error::Unreadable {
                blob: extent.blob,
                reason: error.to_string(),
            })?;
        self.engine.around.metrics.read_bytes.inc_by(stop - start);
        // Both are at most the length of `plain`.
        let range = usize::try_from(start).unwrap_or(0)..usize::try_from(stop).unwrap_or(0);
        Ok(Bytes::from(plain).slice(range))
    }

    fn key_of(&mut self, extent: &Extent) -> Result<Arc<BlobKey>, Error> {
        match &self.key {
            Some(key) if key.blob() == extent.blob => Ok(Arc::clone(key)),
            _ => {
                let key = self.engine.around.kek.unwrap_data_key(extent.blob, &extent.key)?;
                let key = Arc::new(BlobKey::new(extent.blob, &key));
                self.key = Some(Arc::clone(&key));
                Ok(key)
            }
        }
    }
}

/// The source that later pages of a version's bytes go by.
#[must_use]
pub fn source_of(version: &VersionRow) -> Option<LocateSource> {
    Locator::new(&version.content, Vec::new(), 0).source().cloned()
}
