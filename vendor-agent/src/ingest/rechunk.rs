//! Cutting a chunk into pieces on frame borders, each frame with its checksum. Pure.

use super::receive::Received;
use crate::device::record::{PieceHeader, finish, frame_crc};
use bytes::{Bytes, BytesMut};
use ullage_model::ids::CopyId;
use ullage_model::limits::ALIGNED_RECORD_BYTES;
use ullage_model::units;
use ullage_model::wire::chunk::ChunkHeader;

/// A piece ready to be written.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) header: PieceHeader,
    pub(super) payload: Vec<Bytes>,
}

/// Cuts into `pieces` pieces of as equal numbers of frames as can be.
pub(super) fn cut(header: &ChunkHeader, copy: CopyId, pieces: u32, received: &Received) -> Vec<Piece> {
    let frames = u32::try_from(units::frames(header.plaintext_bytes)).unwrap_or(u32::MAX);
    let mut reader = Reader {
        parts: &received.parts,
        part: 0,
        offset: 0,
    };
    (0..pieces)
        .map(|piece| {
            let first_frame = share(frames, piece, pieces);
            let piece_header = PieceHeader {
                copy,
                piece: u16::try_from(piece).unwrap_or(u16::MAX),
                pieces: u16::try_from(pieces).unwrap_or(u16::MAX),
                first_frame,
                frames: share(frames, piece + 1, pieces) - first_frame,
                plaintext_bytes: header.plaintext_bytes,
                digest: received.digest,
                session: header.owner,
            };
            Piece {
                header: piece_header,
                payload: payload(&piece_header, &mut reader),
            }
        })
        .collect()
}

fn share(frames: u32, piece: u32, pieces: u32) -> u32 {
    let cut = u64::from(frames) * u64::from(piece) / u64::from(pieces.max(1));
    u32::try_from(cut).unwrap_or(u32::MAX)
}

fn payload(piece: &PieceHeader, reader: &mut Reader<'_>) -> Vec<Bytes> {
    let bytes = piece.payload_bytes();
    let small = bytes < ALIGNED_RECORD_BYTES;
    let mut copied = BytesMut::with_capacity(if small {
        usize::try_from(bytes).unwrap_or(0)
    } else {
        0
    });
    let mut slices = Vec::new();
    for frame in piece.first_frame..piece.first_frame + piece.frames {
        let mut crc = frame_crc(piece.copy, frame);
        let mut left = usize::try_from(piece.frame_bytes(frame)).unwrap_or(0);
        while left > 0 {
            let Some(slice) = reader.next(left) else { break };
            crc.update(&slice);
            left -= slice.len();
            if small {
                copied.extend_from_slice(&slice);
            } else {
                slices.push(slice);
            }
        }
        let crc = finish(&crc).to_le_bytes();
        if small {
            copied.extend_from_slice(&crc);
        } else {
            slices.push(Bytes::copy_from_slice(&crc));
        }
    }
    if small {
        slices.push(copied.freeze());
    }
    slices
}

struct Reader<'a> {
    parts: &'a [Bytes],
    part: usize,
    offset: usize,
}

impl Reader<'_> {
    /// The next at most `limit` bytes that lie together.
    fn next(&mut self, limit: usize) -> Option<Bytes> {
        let part = self.parts.get(self.part)?;
        let end = part.len().min(self.offset + limit);
        let slice = part.slice(self.offset..end);
        self.offset = end;
        if end == part.len() {
            self.part += 1;
            self.offset = 0;
        }
        Some(slice)
    }
}
