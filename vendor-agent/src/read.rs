//! Reading stored bytes of a copy: only the frames asked for, each verified before it goes out.

mod buffers;

use crate::agent::Agent;
use crate::device::record::{FRAME_STRIDE, HEADER_BYTES, PieceHeader, finish, frame_crc, read_u32};
use crate::device::{Device, DeviceError, Location, Wait};
use crate::local_fat::CopyEntry;
pub(crate) use buffers::Buffers;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::sync::Arc;
use ullage_model::ids::{CopyId, DeviceId};
use ullage_model::limits::{FRAME_BYTES, FRAME_TAG_BYTES};
use ullage_model::units;
use ullage_model::wire::chunk::{ChunkRefusal, GrantAction, ReadRequest};

/// Frames read at once from the medium: 1 MiB.
const WINDOW_FRAMES: u32 = 32;
/// Frames that go out together: few large parts cost less on the way than many small ones. As many are read at once
/// where the caller runs, if they are in the page cache: they are still in the processor's when they go out.
const PART_FRAMES: u32 = 8;
/// Stored bytes of as many.
#[allow(clippy::cast_possible_truncation, reason = "257 KiB")]
const PART_BYTES: usize = (PART_FRAMES as u64 * (FRAME_BYTES + FRAME_TAG_BYTES)) as usize;
/// A copy that compaction moves while it is read is looked up again this often.
const LOOKUPS: u32 = 3;

/// Frames of one piece to be read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    device: DeviceId,
    location: Location,
    piece: PieceHeader,
    first_frame: u32,
    frames: u32,
}

impl Window {
    fn offset(&self) -> u64 {
        let skipped = u64::from(self.first_frame - self.piece.first_frame) * FRAME_STRIDE;
        u64::from(self.location.offset) + HEADER_BYTES as u64 + skipped
    }

    /// Its frames as they are numbered in the chunk.
    fn frames(&self) -> std::ops::Range<u32> {
        self.first_frame..self.first_frame + self.frames
    }

    /// Stored bytes of one of them.
    fn frame_bytes(&self, frame: u32) -> usize {
        usize::try_from(self.piece.frame_bytes(frame)).unwrap_or(usize::MAX)
    }

    /// The first of them, at most `frames`.
    fn cut(self, frames: u32) -> Self {
        Self {
            frames: self.frames.min(frames),
            ..self
        }
    }

    /// Bytes on the medium.
    fn bytes(&self) -> usize {
        let frames = PieceHeader {
            first_frame: self.first_frame,
            frames: self.frames,
            ..self.piece
        };
        usize::try_from(frames.payload_bytes()).unwrap_or(usize::MAX)
    }
}

struct Reading {
    agent: Arc<Agent>,
    copy: CopyId,
    ready: VecDeque<Bytes>,
    next_frame: u32,
    end_frame: u32,
    entry: CopyEntry,
    failed: bool,
}

impl Agent {
    /// Streams stored bytes of a copy, some frames at a time (without the vendor's own checksums).
    ///
    /// # Errors
    /// When the grant is not good, or the copy or the frames are not here. A frame that does not verify ends
    /// the stream with `CopyDamaged`; no byte of it goes out.
    pub async fn read(
        self: &Arc<Self>,
        request: ReadRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, ChunkRefusal>>, ChunkRefusal> {
        let result = self.begin_read(&request).await;
        let outcome = if result.is_ok() { "ok" } else { "refused" };
        self.metrics.reads.with_label_values(&[outcome]).inc();
        let reading = result?;
        Ok(futures::stream::unfold(reading, |mut reading| async move {
            let item = reading.next().await?;
            Some((item, reading))
        })
        .boxed())
    }

    async fn begin_read(self: &Arc<Self>, request: &ReadRequest) -> Result<Reading, ChunkRefusal> {
        let context = self.grant_context(request.session)?;
        let body = self.grants.check(&request.grant, &context)?;
        if body.action != GrantAction::Read {
            return Err(ChunkRefusal::Grant("it allows no reading".to_owned()));
        }
        let entry = self.here(request.copy).await?;
        let plaintext_bytes = entry.pieces.first().map_or(0, |(_, piece)| piece.plaintext_bytes);
        let end_frame = request.first_frame.saturating_add(request.frames);
        if request.frames == 0 || u64::from(end_frame) > units::frames(plaintext_bytes) {
            return Err(ChunkRefusal::Header("no such frames".to_owned()));
        }
        Ok(Reading {
            agent: Arc::clone(self),
            copy: request.copy,
            ready: VecDeque::new(),
            next_frame: request.first_frame,
            end_frame,
            entry,
            failed: false,
        })
    }

    /// The copy, if it is here and being erased nowhere.
    async fn here(&self, copy: CopyId) -> Result<CopyEntry, ChunkRefusal> {
        match self.lookup(copy).await? {
            Some(entry) if entry.erased.is_empty() && !entry.pieces.is_empty() => Ok(entry),
            _ => Err(ChunkRefusal::NotFound(copy)),
        }
    }

    /// Reads and verifies what is in the page cache of the first frames of `window`, or else all of it. Answers how
    /// many frames those are, and the frames without their checksums, some at a time.
    async fn read_some(self: &Arc<Self>, window: Window) -> Result<(u32, Vec<Bytes>), WindowError> {
        let first = window.cut(PART_FRAMES);
        let opened = self.devices.get(window.device)?;
        match read_frames(&*opened.device, &first, Wait::Never, &self.read_buffers) {
            Err(WindowError::Device(DeviceError::WouldWait { .. })) => {}
            read => return Ok((first.frames, read?)),
        }
        Ok((window.frames, self.read_window(window).await?))
    }

    /// Reads and verifies a window where it may wait for the medium.
    async fn read_window(self: &Arc<Self>, window: Window) -> Result<Vec<Bytes>, WindowError> {
        let permit = Arc::clone(&self.blocking_reads).acquire_owned().await;
        let agent = Arc::clone(self);
        let read = self.workers.blocking(move || {
            let _permit = permit;
            let opened = agent.devices.get(window.device)?;
            read_frames(&*opened.device, &window, Wait::ForMedium, &agent.read_buffers)
        });
        match read.await {
            Ok(frames) => frames,
            Err(_) => Err(WindowError::Stopped),
        }
    }
}

/// Why a window did not come.
#[derive(Debug, thiserror::Error)]
enum WindowError {
    /// The device did not read.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A frame does not verify.
    #[error("a frame does not verify")]
    Damaged,
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopped,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes, ChunkRefusal>> {
        let wanted = self.ready.is_empty() && !self.failed && self.next_frame < self.end_frame;
        if wanted && let Err(refusal) = self.fill().await {
            self.failed = true;
            self.agent.metrics.reads.with_label_values(&["failed"]).inc();
            return Some(Err(refusal));
        }
        let frame = self.ready.pop_front()?;
        self.agent.metrics.bytes_read.inc_by(frame.len() as u64);
        Some(Ok(frame))
    }

    async fn fill(&mut self) -> Result<(), ChunkRefusal> {
        for _ in 0..LOOKUPS {
            let Some(window) = self.window() else {
                self.agent.note_damaged(self.copy, true);
                return Err(ChunkRefusal::CopyDamaged(self.copy));
            };
            match self.agent.read_some(window).await {
                Ok((frames, parts)) => {
                    self.next_frame = window.first_frame + frames;
                    self.ready.extend(parts);
                    return Ok(());
                }
                Err(WindowError::Stopped) => return Err(ChunkRefusal::NotReady),
                Err(error) => {
                    // Compaction may have moved it, an erase order may have removed it.
                    self.entry = self.agent.here(self.copy).await?;
                    if self.window() == Some(window) {
                        if let WindowError::Device(error @ DeviceError::Gone { .. }) = error {
                            // It may be back soon; if not, its copies are reported lost together.
                            return Err(ChunkRefusal::Devices(error.to_string()));
                        }
                        tracing::warn!(copy = %self.copy, frame = window.first_frame, device = %window.device, %error, "copy cannot be read");
                        let lost = !matches!(error, WindowError::Damaged);
                        self.agent.note_damaged(self.copy, lost);
                        return Err(ChunkRefusal::CopyDamaged(self.copy));
                    }
                }
            }
        }
        Err(ChunkRefusal::Overloaded)
    }

    /// The next frames that lie together.
    fn window(&self) -> Option<Window> {
        let (first_frame, row) = self.entry.pieces.iter().find(|(first_frame, piece)| {
            (*first_frame..first_frame + piece.frames).contains(&self.next_frame)
        })?;
        let end = self
            .end_frame
            .min(first_frame + row.frames)
            .min(self.next_frame + WINDOW_FRAMES);
        Some(Window {
            device: row.device,
            location: row.location(),
            piece: row.header(self.copy, *first_frame),
            first_frame: self.next_frame,
            frames: end - self.next_frame,
        })
    }
}

/// Bytes of a frame's checksum on the medium.
const SUM_BYTES: usize = 4;

/// Reads the frames of a window one after the other, the checksums between them to a place of their own, and verifies
/// every frame.
fn read_frames(
    device: &dyn Device,
    window: &Window,
    wait: Wait,
    buffers: &Arc<Buffers>,
) -> Result<Vec<Bytes>, WindowError> {
    let mut parts: Vec<_> = (window.first_frame..window.first_frame + window.frames)
        .step_by(PART_FRAMES as usize)
        .map(|first| {
            let frames = first..window.frames().end.min(first.saturating_add(PART_FRAMES));
            let bytes = frames.clone().map(|frame| window.frame_bytes(frame)).sum();
            (frames, buffers.take(bytes))
        })
        .collect();
    let mut sums = vec![0; window.frames as usize * SUM_BYTES];
    let mut slices = Vec::with_capacity(2 * window.frames as usize);
    let mut sums_left = sums.as_mut_slice();
    for (frames, part) in &mut parts {
        let mut left = part.as_mut();
        for frame in frames.clone() {
            let (bytes, rest) = left.split_at_mut(window.frame_bytes(frame).min(left.len()));
            let (sum, others) = sums_left.split_at_mut(SUM_BYTES.min(sums_left.len()));
            slices.extend([IoSliceMut::new(bytes), IoSliceMut::new(sum)]);
            (left, sums_left) = (rest, others);
        }
    }
    device.read_into(window.location.segment, window.offset(), &mut slices, wait)?;
    let mut sums = sums.chunks_exact(SUM_BYTES);
    for (frames, part) in &parts {
        let mut left = part.as_ref();
        for (frame, sum) in frames.clone().zip(&mut sums) {
            let (bytes, rest) = left.split_at(window.frame_bytes(frame).min(left.len()));
            let mut crc = frame_crc(window.piece.copy, frame);
            crc.update(bytes);
            if finish(&crc) != read_u32(sum, 0) {
                return Err(WindowError::Damaged);
            }
            left = rest;
        }
    }
    Ok(parts.into_iter().map(|(_, part)| part.into()).collect())
}

impl Agent {
    /// Re-reads every piece of a copy and checks it. Returns the bytes read.
    ///
    /// # Errors
    /// Whether the copy is lost (`true`) or damaged (`false`).
    pub(crate) async fn verify_copy(self: &Arc<Self>, entry: &CopyEntry) -> Result<u64, bool> {
        let mut bytes = 0;
        for (first_frame, row) in &entry.pieces {
            let mut at = *first_frame;
            let end = first_frame + row.frames;
            while at < end {
                let frames = WINDOW_FRAMES.min(end - at);
                let window = Window {
                    device: row.device,
                    location: row.location(),
                    piece: row.header(entry.copy, *first_frame),
                    first_frame: at,
                    frames,
                };
                match self.read_window(window).await {
                    Ok(_) => bytes += window.bytes() as u64,
                    Err(WindowError::Damaged) => return Err(false),
                    // Of a device that is gone nothing is known.
                    Err(WindowError::Stopped | WindowError::Device(DeviceError::Gone { .. })) => {
                        return Ok(bytes);
                    }
                    Err(WindowError::Device(_)) => return Err(true),
                }
                at += frames;
            }
            self.metrics.scrubbed.inc();
        }
        Ok(bytes)
    }
}
