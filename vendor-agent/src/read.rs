//! Reading stored bytes of a copy: only the frames asked for, each verified before it goes out.

use crate::agent::Agent;
use crate::device::record::{FRAME_STRIDE, HEADER_BYTES, PieceHeader, finish, frame_crc, read_u32};
use crate::device::{DeviceError, Location, Wait};
use crate::local_fat::CopyEntry;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::collections::VecDeque;
use std::sync::Arc;
use ullage_model::ids::{CopyId, DeviceId};
use ullage_model::units;
use ullage_model::wire::chunk::{ChunkRefusal, GrantAction, ReadRequest};

/// Frames read at once: 1 MiB.
const WINDOW_FRAMES: u32 = 32;
/// Up to this many bytes are read where the caller runs, if they are in the page cache.
const INLINE_BYTES: usize = 256 * 1024;
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
    /// Streams stored bytes of a copy, frame by frame (without the vendor's own checksums).
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

    /// Reads and verifies one window; the frames come back without their checksums.
    async fn read_window(self: &Arc<Self>, window: Window) -> Result<Vec<Bytes>, WindowError> {
        if window.bytes() <= INLINE_BYTES {
            let opened = self.devices.get(window.device)?;
            match opened.device.read(
                window.location.segment,
                window.offset(),
                window.bytes(),
                Wait::Never,
            ) {
                Ok(bytes) => return verify(&window, &bytes),
                Err(DeviceError::WouldWait { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let permit = Arc::clone(&self.blocking_reads).acquire_owned().await;
        let agent = Arc::clone(self);
        let read = self.workers.blocking(move || {
            let _permit = permit;
            let opened = agent.devices.get(window.device)?;
            let bytes = opened.device.read(
                window.location.segment,
                window.offset(),
                window.bytes(),
                Wait::ForMedium,
            )?;
            verify(&window, &bytes)
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
            match self.agent.read_window(window).await {
                Ok(frames) => {
                    self.next_frame = window.first_frame + window.frames;
                    self.ready.extend(frames);
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

fn verify(window: &Window, bytes: &Bytes) -> Result<Vec<Bytes>, WindowError> {
    let mut frames = Vec::with_capacity(window.frames as usize);
    let mut at = 0;
    for frame in window.first_frame..window.first_frame + window.frames {
        let length = usize::try_from(window.piece.frame_bytes(frame)).unwrap_or(usize::MAX);
        if bytes.len() < at + length + 4 {
            return Err(WindowError::Damaged);
        }
        let mut crc = frame_crc(window.piece.copy, frame);
        crc.update(&bytes[at..at + length]);
        if finish(&crc) != read_u32(bytes, at + length) {
            return Err(WindowError::Damaged);
        }
        frames.push(bytes.slice(at..at + length));
        at += length + 4;
    }
    Ok(frames)
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
