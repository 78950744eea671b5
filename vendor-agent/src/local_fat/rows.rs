//! Keys and rows of the local FAT's index, and nothing that reads or writes them.
//!
//! All rows lie in one column family, so that a flush is atomic: what is on disk is always a prefix of the
//! batches written. Numbers in keys are big-endian.
//!
//! | key | row |
//! |---|---|
//! | `c` copy(20) `p` first frame(4) | [`PieceRow`] |
//! | `c` copy(20) `e` device(4) | [`ErasedRow`]: the copy is erased, the tombstone lies on that device |
//! | `c` copy(20) `k` device(4) | empty: the copy was judged "keep", the record of that lies on that device |
//! | `l` lease(8) | empty: copies under this lease have not all been judged |
//! | `m` device(4) | [`PositionRow`]: all records of the device before it are in the index |
//! | `s` device(4) segment(8) | [`SegmentRow`] |
//! | `x` device(4) | [`ClosedRow`]: the device's newest record of closed leases |
//!
//! Rows are a version byte (1) and postcard.

use crate::device::record::{ClosedState, ErasedItem, PieceHeader};
use crate::device::{Location, Position};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use ullage_model::ids::{CopyId, DeviceId, Digest, LeaseId, SessionId};

/// Length of the prefix that all rows of a copy share: `c` and the copy.
pub const COPY_PREFIX: usize = 1 + CopyId::BYTES;
const ROW_VERSION: u8 = 1;

/// A piece of a copy and where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRow {
    /// The device.
    pub device: DeviceId,
    /// The segment.
    pub segment: u64,
    /// Offset of the record.
    pub offset: u32,
    /// Bytes of the record.
    pub bytes: u32,
    /// Number of the piece within the copy.
    pub piece: u16,
    /// Pieces of the copy.
    pub pieces: u16,
    /// Frames in the piece.
    pub frames: u32,
    /// Plaintext bytes of the whole chunk.
    pub plaintext_bytes: u64,
    /// BLAKE3 of the whole chunk's stored bytes.
    pub digest: Digest,
    /// Who sent it.
    pub session: SessionId,
    /// Where dead records of the same piece may still lie.
    pub stale: Vec<(DeviceId, u64)>,
}

impl PieceRow {
    /// A row for a record.
    #[must_use]
    pub fn new(device: DeviceId, location: Location, piece: &PieceHeader) -> Self {
        Self {
            device,
            segment: location.segment,
            offset: location.offset,
            bytes: location.bytes,
            piece: piece.piece,
            pieces: piece.pieces,
            frames: piece.frames,
            plaintext_bytes: piece.plaintext_bytes,
            digest: piece.digest,
            session: piece.session,
            stale: Vec::new(),
        }
    }

    /// Where it lies on its device.
    #[must_use]
    pub fn location(&self) -> Location {
        Location {
            segment: self.segment,
            offset: self.offset,
            bytes: self.bytes,
        }
    }

    /// The piece as its record's header describes it.
    #[must_use]
    pub fn header(&self, copy: CopyId, first_frame: u32) -> PieceHeader {
        PieceHeader {
            copy,
            piece: self.piece,
            pieces: self.pieces,
            first_frame,
            frames: self.frames,
            plaintext_bytes: self.plaintext_bytes,
            digest: self.digest,
            session: self.session,
        }
    }
}

/// A tombstone: where its record lies and which records it kills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedRow {
    /// The segment of the tombstone's record.
    pub segment: u64,
    /// Its offset.
    pub offset: u32,
    /// Segments that hold dead records of the copy.
    pub killed: Vec<(DeviceId, u64)>,
}

impl ErasedRow {
    /// A row for one item of a tombstone record.
    #[must_use]
    pub fn new(location: Location, item: &ErasedItem) -> Self {
        Self {
            segment: location.segment,
            offset: location.offset,
            killed: item.killed.clone(),
        }
    }
}

/// How far a device's records are in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionRow {
    /// The segment.
    pub segment: u64,
    /// Offset in it.
    pub offset: u64,
}

impl From<Position> for PositionRow {
    fn from(position: Position) -> Self {
        Self {
            segment: position.segment,
            offset: position.offset,
        }
    }
}

/// Bytes of a segment that are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    /// Bytes of pieces that the local FAT names.
    pub live: u64,
    /// Bytes of other records; whether they are still needed shows when the segment is compacted.
    pub control: u64,
}

/// The newest record of closed leases on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedRow {
    /// Its segment.
    pub segment: u64,
    /// Its offset.
    pub offset: u32,
    /// What it says.
    pub state: ClosedState,
}

/// Prefix of all rows of a copy.
#[must_use]
pub fn copy_prefix(copy: CopyId) -> [u8; COPY_PREFIX] {
    let mut key = [b'c'; COPY_PREFIX];
    key[1..].copy_from_slice(&copy.to_bytes());
    key
}

fn copy_key(copy: CopyId, kind: u8, number: u32) -> [u8; COPY_PREFIX + 5] {
    let mut key = [kind; COPY_PREFIX + 5];
    key[..COPY_PREFIX].copy_from_slice(&copy_prefix(copy));
    key[COPY_PREFIX + 1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Key of a [`PieceRow`].
#[must_use]
pub fn piece_key(copy: CopyId, first_frame: u32) -> [u8; COPY_PREFIX + 5] {
    copy_key(copy, b'p', first_frame)
}

/// Key of an [`ErasedRow`].
#[must_use]
pub fn erased_key(copy: CopyId, device: DeviceId) -> [u8; COPY_PREFIX + 5] {
    copy_key(copy, b'e', device.0)
}

/// Key of a mark "keep".
#[must_use]
pub fn kept_key(copy: CopyId, device: DeviceId) -> [u8; COPY_PREFIX + 5] {
    copy_key(copy, b'k', device.0)
}

/// A row of a copy by its key: the copy, the kind and the number.
#[must_use]
pub fn parse_copy_key(key: &[u8]) -> Option<(CopyId, u8, u32)> {
    let key: &[u8; COPY_PREFIX + 5] = key.try_into().ok()?;
    let copy: &[u8; CopyId::BYTES] = key[1..COPY_PREFIX].try_into().ok()?;
    let number = u32::from_be_bytes(key[COPY_PREFIX + 1..].try_into().ok()?);
    (key[0] == b'c').then(|| (CopyId::from_bytes(copy), key[COPY_PREFIX], number))
}

/// Key of the mark that a lease is not settled.
#[must_use]
pub fn lease_key(lease: LeaseId) -> [u8; 9] {
    let mut key = [b'l'; 9];
    key[1..].copy_from_slice(&lease.0.to_be_bytes());
    key
}

/// Key of a device's [`PositionRow`] (`m`) or [`ClosedRow`] (`x`).
#[must_use]
pub fn device_key(kind: u8, device: DeviceId) -> [u8; 5] {
    let mut key = [kind; 5];
    key[1..].copy_from_slice(&device.0.to_be_bytes());
    key
}

/// Key of a [`SegmentRow`].
#[must_use]
pub fn segment_key(device: DeviceId, segment: u64) -> [u8; 13] {
    let mut key = [b's'; 13];
    key[1..5].copy_from_slice(&device.0.to_be_bytes());
    key[5..].copy_from_slice(&segment.to_be_bytes());
    key
}

/// A row as bytes.
#[must_use]
pub fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(96);
    bytes.push(ROW_VERSION);
    // Postcard fails only on maps of unknown length and full buffers; neither occurs here.
    match postcard::to_extend(row, bytes) {
        Ok(bytes) => bytes,
        Err(error) => panic!("cannot encode a row of the local FAT: {error}"),
    }
}

/// The inverse of [`encode`]; `None` if the bytes are no such row.
#[must_use]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first() {
        Some((&ROW_VERSION, body)) => postcard::from_bytes(body).ok(),
        _ => None,
    }
}
