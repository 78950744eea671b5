//! Reading a segment record by record, whatever its medium: torn tails end it, damage in the middle is
//! skipped by looking for the next header. What a record means is not decided here.

use super::record::{ClosedState, ErasedItem, PieceHeader};
use super::record::{
    HEADER_BYTES, Header, KIND_CLOSED, KIND_ERASED, KIND_KEPT, KIND_PIECE, MAGIC, RECORD_ALIGN,
    parse_control, place, verify_payload,
};
use super::{DeviceError, Location, Position};
use ullage_model::ids::CopyId;
use ullage_model::limits::BLOCK_BYTES;

/// Bytes looked at in one step of the search for the next header.
const RESYNC_STEP_BYTES: usize = 1024 * 1024;

/// A record found on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Where it lies.
    pub location: Location,
    /// End of the record and its padding.
    pub end: Position,
    /// What it says.
    pub body: ScannedBody,
}

/// What a record found says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScannedBody {
    /// A piece.
    Piece(PieceHeader),
    /// Erased copies.
    Erased(Vec<ErasedItem>),
    /// Kept copies.
    Kept(Vec<CopyId>),
    /// Closed leases.
    Closed(ClosedState),
}

/// How a scan went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanSummary {
    /// Records found.
    pub records: u64,
    /// Bytes skipped between records because no header or payload verified there.
    pub damaged_bytes: u64,
    /// End of the last record (and its padding) in the last segment.
    pub end: u64,
}

impl ScanSummary {
    /// Adds what a later segment came to.
    pub fn add(&mut self, later: ScanSummary) {
        self.records += later.records;
        self.damaged_bytes += later.damaged_bytes;
        self.end = later.end;
    }
}

/// Which records of a segment need their payload looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payloads {
    /// The segment was synced as a whole: a good header is enough for a piece.
    Trusted,
    /// The segment's end may never have been synced: a header may be there without its payload.
    Verified,
}

/// Bytes of one segment.
pub trait Source {
    /// Fills `buffer` from `offset`; returns how many bytes there were.
    ///
    /// # Errors
    /// When the medium fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DeviceError>;
}

/// What stands at a place of a segment.
enum Place {
    /// A good record.
    Record(Scanned),
    /// A good header whose payload does not verify: never finished, given back, or damaged. Ends here.
    Unfinished(u64),
    /// Nothing that can be read.
    Nothing,
}

/// Walks the records of `segment` from `from` on.
///
/// # Errors
/// When the medium or `each` fails; damage is not an error.
pub fn walk(
    source: &dyn Source,
    segment: u64,
    from: u64,
    payloads: Payloads,
    each: &mut dyn FnMut(Scanned) -> Result<(), DeviceError>,
) -> Result<ScanSummary, DeviceError> {
    let mut summary = ScanSummary {
        end: from,
        ..ScanSummary::default()
    };
    let mut at = from.next_multiple_of(RECORD_ALIGN);
    loop {
        let mut place = read_record(source, segment, at, payloads)?;
        if matches!(place, Place::Nothing) && !at.is_multiple_of(BLOCK_BYTES) {
            // The next record may be an aligned one behind padding.
            place = read_record(source, segment, at.next_multiple_of(BLOCK_BYTES), payloads)?;
        }
        if matches!(place, Place::Nothing) {
            place = resync(source, segment, at + RECORD_ALIGN, payloads)?;
            if let Place::Record(found) = &place {
                summary.damaged_bytes += u64::from(found.location.offset) - at;
            }
        }
        match place {
            Place::Record(found) => {
                at = found.end.offset;
                summary.records += 1;
                summary.end = at;
                each(found)?;
            }
            Place::Unfinished(end) => at = end,
            Place::Nothing => return Ok(summary),
        }
    }
}

fn read_record(source: &dyn Source, segment: u64, at: u64, payloads: Payloads) -> Result<Place, DeviceError> {
    let mut bytes = [0; HEADER_BYTES];
    if source.read_at(at, &mut bytes)? < HEADER_BYTES {
        return Ok(Place::Nothing);
    }
    let Some(header) = Header::parse(&bytes).filter(|header| header.segment == segment) else {
        return Ok(Place::Nothing);
    };
    let (offset, end) = place(at, header.record_bytes());
    let (Ok(offset32), Ok(bytes32)) = (u32::try_from(at), u32::try_from(header.record_bytes())) else {
        return Ok(Place::Nothing);
    };
    if offset != at {
        return Ok(Place::Nothing);
    }
    let payload = if header.kind == KIND_PIECE && payloads == Payloads::Trusted {
        None
    } else {
        let mut payload = vec![0; header.payload_bytes as usize];
        if source.read_at(at + HEADER_BYTES as u64, &mut payload)? < payload.len() {
            return Ok(Place::Nothing);
        }
        Some(payload)
    };
    let body = match (header.kind, payload) {
        (KIND_PIECE, Some(payload)) if !verify_payload(&header.piece, &payload) => None,
        (KIND_PIECE, _) => Some(ScannedBody::Piece(header.piece)),
        (KIND_ERASED, Some(payload)) => parse_control(&payload).map(ScannedBody::Erased),
        (KIND_KEPT, Some(payload)) => parse_control(&payload).map(ScannedBody::Kept),
        (KIND_CLOSED, Some(payload)) => parse_control(&payload).map(ScannedBody::Closed),
        _ => None,
    };
    Ok(match body {
        Some(body) => Place::Record(Scanned {
            location: Location {
                segment,
                offset: offset32,
                bytes: bytes32,
            },
            end: Position { segment, offset: end },
            body,
        }),
        None => Place::Unfinished(end),
    })
}

/// The first good record at or after `from`.
fn resync(source: &dyn Source, segment: u64, from: u64, payloads: Payloads) -> Result<Place, DeviceError> {
    let mut buffer = vec![0; RESYNC_STEP_BYTES];
    let step = usize::try_from(RECORD_ALIGN).unwrap_or(8);
    let mut at = from;
    loop {
        let read = source.read_at(at, &mut buffer)?;
        if read < HEADER_BYTES {
            return Ok(Place::Nothing);
        }
        for offset in (0..read - 3).step_by(step) {
            if buffer[offset..offset + 4] == MAGIC
                && let found @ Place::Record(_) = read_record(source, segment, at + offset as u64, payloads)?
            {
                return Ok(found);
            }
        }
        at += (read as u64).next_multiple_of(RECORD_ALIGN);
    }
}
