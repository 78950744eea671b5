//! The record: the one thing that lies in segments. Its layout, encoding and checks live here; where records
//! are put does not.
//!
//! # Layout, format 1
//!
//! All numbers are little-endian. A record starts at a multiple of 8. A record of
//! `limits::ALIGNED_RECORD_BYTES` or more starts at a multiple of `limits::BLOCK_BYTES` and the next record
//! starts at one too, so that everything but its first block can be given back by punching a hole.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `ULGR` |
//! | 4 | 1 | format, 1 |
//! | 5 | 1 | kind: 1 piece, 2 erased, 3 kept, 4 closed |
//! | 6 | 2 | zero |
//! | 8 | 4 | CRC32C of the header: bytes 0–7, then bytes 12–111 |
//! | 12 | 4 | payload bytes after the header |
//! | 16 | 8 | id of the segment the record was written to (a recycled file's old records do not match) |
//! | 24 | 20 | copy: placement lease, chunk lease, chunk counter (`CopyId::to_bytes`) |
//! | 44 | 2 | epoch in which it was written |
//! | 46 | 2 | piece number |
//! | 48 | 2 | pieces of the copy |
//! | 50 | 2 | zero |
//! | 52 | 4 | first frame |
//! | 56 | 4 | frames |
//! | 60 | 4 | zero |
//! | 64 | 8 | plaintext bytes of the whole chunk |
//! | 72 | 8 | session that sent it |
//! | 80 | 32 | BLAKE3 of the whole chunk's stored bytes |
//!
//! A piece's payload is its frames, each followed by the CRC32C of (copy, frame number as 4 bytes
//! little-endian, the frame's bytes), so that a frame read from the wrong place does not verify.
//! The payload of the other kinds is a postcard value ([`ErasedItem`]s, copies, a [`ClosedState`]) followed by
//! the CRC32C of it; their copy, piece and chunk fields are zero.

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use ullage_model::ids::{CopyId, DeviceId, Digest, Epoch, LeaseId, SessionId};
use ullage_model::limits::{
    ALIGNED_RECORD_BYTES, BLOCK_BYTES, CHUNK_BYTES_MAX, FRAME_BYTES, FRAME_CRC_BYTES, FRAME_TAG_BYTES,
    RECORD_HEADER_BYTES,
};
use ullage_model::units;

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 112;
/// Records start at multiples of this.
pub const RECORD_ALIGN: u64 = 8;
/// First bytes of every record.
pub const MAGIC: [u8; 4] = *b"ULGR";
/// The layout documented above.
pub const FORMAT: u8 = 1;
/// Greatest payload a header may claim: a whole chunk in one piece, or a page of tombstones.
pub const PAYLOAD_BYTES_MAX: u64 = CHUNK_BYTES_MAX + CHUNK_BYTES_MAX / 64;
/// Bytes of a full stored frame with its checksum.
pub const FRAME_STRIDE: u64 = FRAME_BYTES + FRAME_TAG_BYTES + FRAME_CRC_BYTES;

const _: () = assert!(HEADER_BYTES as u64 + RECORD_ALIGN <= RECORD_HEADER_BYTES + 1);
const _: () = assert!(CHUNK_BYTES_MAX / FRAME_BYTES * FRAME_STRIDE <= PAYLOAD_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX < u32::MAX as u64 / 2);

/// What a piece record says about its piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceHeader {
    /// The copy it is part of.
    pub copy: CopyId,
    /// Its number within the copy, from 0.
    pub piece: u16,
    /// Pieces of the copy.
    pub pieces: u16,
    /// First frame of the chunk in it.
    pub first_frame: u32,
    /// Frames in it.
    pub frames: u32,
    /// Plaintext bytes of the whole chunk.
    pub plaintext_bytes: u64,
    /// BLAKE3 of the whole chunk's stored bytes.
    pub digest: Digest,
    /// Who sent it.
    pub session: SessionId,
}

impl PieceHeader {
    /// Stored bytes of `frame` of the chunk (without its checksum); frames count from 0 in the chunk.
    #[must_use]
    pub fn frame_bytes(&self, frame: u32) -> u64 {
        let before = u64::from(frame) * FRAME_BYTES;
        self.plaintext_bytes.saturating_sub(before).min(FRAME_BYTES) + FRAME_TAG_BYTES
    }

    /// Payload bytes of the record of this piece.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        let end = u64::from(self.first_frame) + u64::from(self.frames);
        let last = self.plaintext_bytes.min(end * FRAME_BYTES);
        let plaintext = last.saturating_sub(u64::from(self.first_frame) * FRAME_BYTES);
        plaintext + u64::from(self.frames) * (FRAME_TAG_BYTES + FRAME_CRC_BYTES)
    }

    fn is_sane(&self) -> bool {
        let frames = units::frames(self.plaintext_bytes);
        self.plaintext_bytes <= CHUNK_BYTES_MAX
            && self.piece < self.pieces
            && u64::from(self.first_frame) + u64::from(self.frames) <= frames.max(u64::from(self.first_frame))
    }
}

/// One copy that is erased, and the records of it that are thereby dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedItem {
    /// The copy.
    pub copy: CopyId,
    /// Segments that hold its records. The tombstone is needed while one of them exists.
    pub killed: Vec<(DeviceId, u64)>,
}

/// Which leases are closed here. States merge; what is closed never opens again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedState {
    /// Leases below this are closed unless they are in `open`.
    pub mark: LeaseId,
    /// Exceptions below the mark, in order.
    pub open: Vec<LeaseId>,
    /// Closed leases at or above the mark, in order.
    pub closed: Vec<LeaseId>,
}

/// What a record holds.
#[derive(Clone, Debug)]
pub enum RecordBody {
    /// A piece: its header and its payload (frames with checksums) in slices.
    Piece(PieceHeader, Vec<Bytes>),
    /// These copies are erased.
    Erased(Vec<ErasedItem>),
    /// These copies were judged: the FAT names them.
    Kept(Vec<CopyId>),
    /// These leases are closed. The newest such record of a device holds all that is known.
    Closed(ClosedState),
}

/// A record to be written.
#[derive(Clone, Debug)]
pub struct Record {
    /// The epoch its writer knew.
    pub epoch: Epoch,
    /// What it holds.
    pub body: RecordBody,
}

/// A record's header as read, verified by its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Kind byte.
    pub kind: u8,
    /// Bytes after the header.
    pub payload_bytes: u32,
    /// The segment it was written to.
    pub segment: u64,
    /// The epoch its writer knew.
    pub epoch: Epoch,
    /// The piece fields (zero for other kinds).
    pub piece: PieceHeader,
}

/// Kind byte of a piece.
pub const KIND_PIECE: u8 = 1;
/// Kind byte of a list of erased copies.
pub const KIND_ERASED: u8 = 2;
/// Kind byte of a list of kept copies.
pub const KIND_KEPT: u8 = 3;
/// Kind byte of a closed-lease state.
pub const KIND_CLOSED: u8 = 4;

const NO_PIECE: PieceHeader = PieceHeader {
    copy: CopyId {
        chunk: ullage_model::ids::ChunkId {
            lease: LeaseId(0),
            counter: 0,
        },
        lease: LeaseId(0),
    },
    piece: 0,
    pieces: 0,
    first_frame: 0,
    frames: 0,
    plaintext_bytes: 0,
    digest: Digest([0; 32]),
    session: SessionId(0),
};

/// CRC32C (Castagnoli) of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The running checksum of one frame of `copy`: frames are bound to their place.
#[must_use]
pub fn frame_crc(copy: CopyId, frame: u32) -> Crc {
    let mut name = [0; CopyId::BYTES + 4];
    name[..CopyId::BYTES].copy_from_slice(&copy.to_bytes());
    name[CopyId::BYTES..].copy_from_slice(&frame.to_le_bytes());
    let mut crc = Crc::new(CrcAlgorithm::Crc32Iscsi);
    crc.update(&name);
    crc
}

/// The 32 bits of a finished running checksum.
#[must_use]
pub fn finish(crc: &Crc) -> u32 {
    // The crate widens every checksum to 64 bits; CRC32C leaves the upper half zero.
    u32::try_from(crc.finalize() & 0xffff_ffff).unwrap_or(u32::MAX)
}

impl Record {
    /// Its encoded payload, in slices.
    #[must_use]
    pub fn payload(&self) -> Vec<Bytes> {
        match &self.body {
            RecordBody::Piece(_, payload) => payload.clone(),
            RecordBody::Erased(items) => vec![control(items)],
            RecordBody::Kept(copies) => vec![control(copies)],
            RecordBody::Closed(state) => vec![control(state)],
        }
    }

    /// Its header for `segment`, given the length of [`Record::payload`].
    #[must_use]
    pub fn header(&self, segment: u64, payload_bytes: u32) -> [u8; HEADER_BYTES] {
        let (kind, piece) = match &self.body {
            RecordBody::Piece(piece, _) => (KIND_PIECE, *piece),
            RecordBody::Erased(_) => (KIND_ERASED, NO_PIECE),
            RecordBody::Kept(_) => (KIND_KEPT, NO_PIECE),
            RecordBody::Closed(_) => (KIND_CLOSED, NO_PIECE),
        };
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = FORMAT;
        header[5] = kind;
        header[12..16].copy_from_slice(&payload_bytes.to_le_bytes());
        header[16..24].copy_from_slice(&segment.to_le_bytes());
        header[24..44].copy_from_slice(&piece.copy.to_bytes());
        header[44..46].copy_from_slice(&self.epoch.0.to_le_bytes());
        header[46..48].copy_from_slice(&piece.piece.to_le_bytes());
        header[48..50].copy_from_slice(&piece.pieces.to_le_bytes());
        header[52..56].copy_from_slice(&piece.first_frame.to_le_bytes());
        header[56..60].copy_from_slice(&piece.frames.to_le_bytes());
        header[64..72].copy_from_slice(&piece.plaintext_bytes.to_le_bytes());
        header[72..80].copy_from_slice(&piece.session.0.to_le_bytes());
        header[80..112].copy_from_slice(&piece.digest.0);
        let crc = header_crc(&header);
        header[8..12].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

impl Header {
    /// Reads a header; `None` if these bytes are not one.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        if header[..4] != MAGIC || header[4] != FORMAT || header_crc(header) != read_u32(header, 8) {
            return None;
        }
        let mut copy = [0; CopyId::BYTES];
        copy.copy_from_slice(&header[24..44]);
        let mut digest = [0; 32];
        digest.copy_from_slice(&header[80..112]);
        let parsed = Self {
            kind: header[5],
            payload_bytes: read_u32(header, 12),
            segment: read_u64(header, 16),
            epoch: Epoch(read_u16(header, 44)),
            piece: PieceHeader {
                copy: CopyId::from_bytes(&copy),
                piece: read_u16(header, 46),
                pieces: read_u16(header, 48),
                first_frame: read_u32(header, 52),
                frames: read_u32(header, 56),
                plaintext_bytes: read_u64(header, 64),
                session: SessionId(read_u64(header, 72)),
                digest: Digest(digest),
            },
        };
        let sane = match parsed.kind {
            KIND_PIECE => {
                parsed.piece.is_sane() && parsed.piece.payload_bytes() == u64::from(parsed.payload_bytes)
            }
            KIND_ERASED | KIND_KEPT | KIND_CLOSED => u64::from(parsed.payload_bytes) <= PAYLOAD_BYTES_MAX,
            _ => false,
        };
        sane.then_some(parsed)
    }

    /// Bytes of the record, without padding.
    #[must_use]
    pub fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }
}

/// Whether a record of this length is aligned to blocks.
#[must_use]
pub fn is_aligned(record_bytes: u64) -> bool {
    record_bytes >= ALIGNED_RECORD_BYTES
}

/// Where a record of `record_bytes` goes when the previous one ended at `at`: its offset and the end of its
/// padding.
#[must_use]
pub fn place(at: u64, record_bytes: u64) -> (u64, u64) {
    let align = if is_aligned(record_bytes) {
        BLOCK_BYTES
    } else {
        RECORD_ALIGN
    };
    let offset = at.next_multiple_of(align);
    (offset, (offset + record_bytes).next_multiple_of(align))
}

/// Reads the payload of a record that is not a piece.
#[must_use]
pub fn parse_control<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    let (body, crc) = payload.split_at_checked(payload.len().checked_sub(4)?)?;
    if crc32c(body) != read_u32(crc, 0) {
        return None;
    }
    postcard::from_bytes(body).ok()
}

/// Checks every frame of a piece's payload.
#[must_use]
pub fn verify_payload(piece: &PieceHeader, payload: &[u8]) -> bool {
    let mut rest = payload;
    for frame in piece.first_frame..piece.first_frame + piece.frames {
        let Ok(bytes) = usize::try_from(piece.frame_bytes(frame)) else {
            return false;
        };
        let Some((data, tail)) = rest.split_at_checked(bytes) else {
            return false;
        };
        let Some((crc, tail)) = tail.split_at_checked(4) else {
            return false;
        };
        let mut running = frame_crc(piece.copy, frame);
        running.update(data);
        if finish(&running) != read_u32(crc, 0) {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}

fn control<T: Serialize>(value: &T) -> Bytes {
    // Postcard fails only on maps of unknown length and full buffers; neither occurs here.
    let body = match postcard::to_extend(value, Vec::with_capacity(64)) {
        Ok(body) => body,
        Err(error) => panic!("cannot encode a control record: {error}"),
    };
    let mut payload = BytesMut::with_capacity(body.len() + 4);
    payload.put_slice(&body);
    payload.put_u32_le(crc32c(&body));
    payload.freeze()
}

fn header_crc(header: &[u8; HEADER_BYTES]) -> u32 {
    let mut crc = Crc::new(CrcAlgorithm::Crc32Iscsi);
    crc.update(&header[..8]);
    crc.update(&header[12..]);
    finish(&crc)
}

/// Little-endian number at `at`; the callers' slices are long enough by construction.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, NO_PIECE, PieceHeader, RECORD_ALIGN, place};
    use ullage_model::limits::{CHUNK_BYTES_MAX, FRAME_BYTES, PIECES_MAX};
    use ullage_model::units;

    /// Bytes that a copy takes when its pieces are put one after the other at the worst offset.
    fn taken(plaintext_bytes: u64, pieces: u32) -> u64 {
        let frames = u32::try_from(units::frames(plaintext_bytes)).unwrap();
        let pieces = pieces.min(frames.max(1));
        (0..pieces)
            .map(|piece| {
                let first_frame = frames * piece / pieces;
                let header = PieceHeader {
                    first_frame,
                    frames: frames * (piece + 1) / pieces - first_frame,
                    plaintext_bytes,
                    ..NO_PIECE
                };
                let at = RECORD_ALIGN;
                let (_, end) = place(at, HEADER_BYTES as u64 + header.payload_bytes());
                end - at
            })
            .sum()
    }

    #[test]
    fn records_never_take_more_than_room() {
        let mut lengths = vec![0, 1, 100, 4096, 8192, CHUNK_BYTES_MAX];
        for frames in [1, 2, 3, 7, 16, 31, 32, 100, 128, 511] {
            for off in [-1i64, 0, 1, 17] {
                lengths.push(u64::try_from(frames * FRAME_BYTES.cast_signed() + off).unwrap());
            }
        }
        lengths.extend((65_000..66_000).step_by(3));
        for len in lengths {
            for pieces in 1..=PIECES_MAX {
                let (taken, room) = (taken(len, pieces), units::room(len, pieces));
                assert!(
                    taken <= room,
                    "{len} bytes in {pieces} pieces take {taken}, room says {room}"
                );
            }
        }
    }
}
