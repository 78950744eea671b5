//! Every bound of the system that is not a setting, with its relation to the others asserted at compile time.

/// Bytes of plaintext in one frame, the unit of sealing, verification and range reads.
pub const FRAME_BYTES: u64 = 32 * 1024;
/// Bytes that AES-256-GCM adds to each frame (NIST SP 800-38D, 128-bit tag).
pub const FRAME_TAG_BYTES: u64 = 16;
/// Smallest plaintext chunk size a class may set.
pub const CHUNK_BYTES_MIN: u64 = 1024 * 1024;
/// Plaintext chunk size of a class that sets none.
pub const CHUNK_BYTES_DEFAULT: u64 = 4 * 1024 * 1024;
/// Greatest plaintext chunk size a class may set.
pub const CHUNK_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most pieces a chunk may be cut into at one vendor.
pub const PIECES_MAX: u32 = 16;
/// Most copies a class may ask for.
pub const COPIES_MAX: u32 = 16;
/// Rows that one command may change. Keeps every Raft entry and every apply step short.
pub const ROWS_PER_COMMAND: usize = 4096;
/// Chunks in one slice or in one finalize; a longer body is committed in several slices.
pub const CHUNKS_PER_SLICE: usize = 56;
/// Copies in one batch of erase orders, erase acknowledgements or close lists.
pub const COPIES_PER_BATCH: usize = 512;
/// Outcomes of commands in one report of an agent …
pub const OUTCOMES_PER_REPORT: usize = 1024;
/// … and copies of each kind that it names: erased, damaged, found.
pub const COPIES_PER_REPORT: usize = OUTCOMES_PER_REPORT * COPIES_PER_BATCH / 4;
/// Chunk rows looked at by one step of a release drain.
pub const CHUNKS_PER_DRAIN: usize = 128;
/// Extents that one command adds to a manifest under construction; also the extents of one manifest page.
pub const EXTENTS_PER_PAGE: usize = 256;
/// Extents of one object version: one for each part of a multipart upload, and as many again, three times, for
/// parts that were copied and span several parts of their source.
pub const EXTENTS_PER_VERSION: usize = 40_000;
/// Extents of one part that was copied by reference: the longest part of the shortest parts, begun amid one.
pub const EXTENTS_PER_PART: usize = 1025;
/// Rows that say where parts are (of up to [`EXTENTS_PER_PAGE`] parts each) taken by one step of a release drain.
pub const PARTS_ROWS_PER_DRAIN: usize = 64;
/// Parts of a multipart upload (Amazon S3 user guide, "Multipart upload limits").
pub const PARTS_PER_UPLOAD: u32 = 10_000;
/// Least bytes of a part that is not the last (same source).
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Most bytes of one part or one PUT (same source).
pub const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Most bytes of one object (5 TiB).
pub const OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024 * 1024;
/// Most plaintext bytes that the versions and parts of a bucket have together (1 EiB). Copies by reference make many bytes
/// of few; this keeps sums over a bucket far from the end of their numbers.
pub const BUCKET_BYTES_MAX: u64 = 1 << 60;
/// Most references to a blob or a manifest.
pub const REFERENCES_MAX: u32 = u32::MAX;
/// Most bytes of an object key (S3 user guide, "Naming objects").
pub const KEY_BYTES_MAX: usize = 1024;
/// Most bytes of user metadata, names and values together.
pub const USER_METADATA_BYTES_MAX: usize = 2048;
/// Most bytes of an object's system headers (content-type and the like), names and values together.
pub const SYSTEM_HEADERS_BYTES_MAX: usize = 8192;
/// Most tags of one object (S3 user guide, "Categorizing your objects using tags").
pub const TAGS_PER_OBJECT: usize = 10;
/// Most Unicode characters of a tag's key (same source).
pub const TAG_KEY_CHARACTERS_MAX: usize = 128;
/// Most Unicode characters of a tag's value (same source).
pub const TAG_VALUE_CHARACTERS_MAX: usize = 256;
/// Most bytes of a bucket's name (S3 user guide, "Bucket naming rules").
pub const BUCKET_NAME_BYTES_MAX: usize = 63;
/// Most bytes of one document of a bucket's settings. (S3: 64 KiB of CORS rules, 20 KiB of a policy, 50 tags of 128
/// and 256 characters, of up to four bytes each.)
pub const BUCKET_DOCUMENT_BYTES_MAX: usize = 128 * 1024;
/// Most bytes of a user's policy as a document (IAM: 2 to 10 KiB, by kind of identity).
pub const USER_POLICY_BYTES_MAX: usize = 10 * 1024;
/// Most bytes of a wrapped data key or a sealed secret.
pub const WRAPPED_KEY_BYTES_MAX: usize = 512;
/// Hard cap on an inlined payload; the replicated setting may only be lower.
pub const INLINE_BYTES_MAX: u64 = 64 * 1024;
/// Inlined payloads that are no longer than this when sealed lie in the row of their version, which they spare a row; longer ones
/// have one of their own, so that whoever looks at versions does not pass over them.
pub const HELD_BYTES_MAX: usize = 512;
/// Inlined payloads up to this are taken unless the setting says otherwise.
pub const INLINE_BYTES_DEFAULT: u64 = 4 * 1024;
/// Encoded bytes of one command: the log refuses longer ones.
pub const COMMAND_BYTES_MAX: usize = 1024 * 1024;
/// Commands of sessions that travel and are proposed together.
pub const COMMANDS_TOGETHER: usize = 256;
/// Their encoded bytes. A longer command goes by itself.
pub const COMMANDS_TOGETHER_BYTES: usize = 256 * 1024;
/// Questions that travel together; each may be answered with an inlined payload.
pub const QUERIES_TOGETHER: usize = 64;
/// Vendors named in one provisional FAT.
pub const VENDORS_PER_LEASE: usize = 64;
/// Longest life of a provisional FAT that may be asked for, in ms of cluster time; it can be renewed.
pub const LEASE_MS_MAX: u64 = 10 * LEASE_MS;
/// Open and closing leases of one session.
pub const LEASES_PER_SESSION: usize = 1024;
/// Sessions that have rows, live and ended. Ended ones are kept for [`OUTCOME_KEPT_MS`].
pub const SESSIONS_MAX: usize = 4096;
/// Vendors that ever registered: their rows stay.
pub const VENDORS_MAX: u64 = 4096;
/// Metadata nodes that have rows, those that left lately among them.
pub const MEMBERS_MAX: usize = 64;
/// Invitations that are neither used nor forgotten.
pub const INVITES_MAX: usize = 1024;
/// Classes.
pub const CLASSES_MAX: usize = 64;
/// Bytes of a name or another short text in a command: of vendors, gateways, classes, zones, addresses.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a KEK's check value.
pub const KEK_VALUE_BYTES_MAX: usize = 64;
/// Capacity of one device, in bytes (16 PiB): sums over all devices of a vendor fit 64 bits with ease.
pub const DEVICE_BYTES_MAX: u64 = 1 << 54;
/// Rows of each kind that one tick turns, ends or forgets.
pub const ROWS_PER_TICK: usize = 512;
/// Outcomes that one renewal of a session forgets.
pub const OUTCOMES_PER_RENEWAL: usize = 4000;
/// Backlogs are counted up to this for status.
pub const BACKLOG_COUNTED_MAX: u64 = 10_000;
/// Buckets are added up to this for metrics.
pub const BUCKETS_COUNTED_MAX: usize = 10_000;
/// Devices of one vendor.
pub const DEVICES_PER_VENDOR: usize = 256;
/// Stored outcomes of one session; a session with more unacknowledged commands must wait.
pub const SESSION_WINDOW: u64 = 16_384;
/// Keys in one page of a listing.
pub const LIST_PAGE_KEYS_MAX: usize = 1000;
/// Rows a listing may look at before it answers with what it has and a place to go on.
pub const LIST_SCAN_ROWS_MAX: usize = 10_000;
/// Chunks in one page of `locate`.
pub const LOCATE_PAGE_CHUNKS: usize = 64;
/// Buckets one user may own.
pub const BUCKETS_PER_USER: u64 = 10_000;
/// Bytes of one segment file of a device.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Segments per device that accounting leaves out: the one being written and the one being compacted.
pub const SEGMENTS_IN_HAND: u64 = 2;
/// Bytes a segment record may take beside its payload and checksums (header, alignment head).
pub const RECORD_HEADER_BYTES: u64 = 128;
/// Bytes of the CRC32C that stands beside each frame in a record.
pub const FRAME_CRC_BYTES: u64 = 4;
/// Records of at least this many bytes are aligned to [`BLOCK_BYTES`] and given back by hole punching.
pub const ALIGNED_RECORD_BYTES: u64 = 64 * 1024;
/// Block of a file system as far as alignment and hole punching go.
pub const BLOCK_BYTES: u64 = 4096;
/// How long a session lives without a sign of life, in ms of cluster time.
pub const SESSION_MS: u64 = 30_000;
/// How long outcomes and ended sessions are kept, in ms of cluster time.
pub const OUTCOME_KEPT_MS: u64 = 3_600_000;
/// Default life of a provisional FAT, in ms of cluster time.
pub const LEASE_MS: u64 = 60_000;
/// How long a completed or aborted upload is remembered, in ms of cluster time.
pub const COMPLETED_UPLOAD_KEPT_MS: u64 = 24 * 3_600_000;
/// Life of a grant in ms of cluster time. Its expiry only makes a vendor refuse; what keeps copies of a closed
/// lease out is the close that the vendor has persisted.
pub const GRANT_MS: u64 = 3_600_000;
/// How long a GET may hold back an erase, in ms of cluster time.
pub const READER_MS: u64 = 3_600_000;

const _: () = assert!(CHUNK_BYTES_MIN.is_multiple_of(FRAME_BYTES));
const _: () = assert!(CHUNK_BYTES_MAX.is_multiple_of(FRAME_BYTES));
const _: () = assert!(COMMANDS_TOGETHER_BYTES <= COMMAND_BYTES_MAX);
const _: () = assert!(INLINE_BYTES_DEFAULT <= INLINE_BYTES_MAX);
const _: () = assert!(
    CHUNK_BYTES_MAX * 2 <= SEGMENT_BYTES,
    "a whole chunk must fit a segment"
);
const _: () = assert!(INLINE_BYTES_MAX * 2 < COMMAND_BYTES_MAX as u64);
const _: () = assert!(BUCKET_DOCUMENT_BYTES_MAX * 2 < COMMAND_BYTES_MAX);
const _: () = assert!(CHUNKS_PER_SLICE * (COPIES_MAX as usize * 2 + 2) <= ROWS_PER_COMMAND);
const _: () = assert!(EXTENTS_PER_PAGE * 4 + PARTS_ROWS_PER_DRAIN <= ROWS_PER_COMMAND);
const _: () = assert!(PARTS_PER_UPLOAD as usize * 4 == EXTENTS_PER_VERSION);
const _: () = assert!(PART_BYTES_MAX.div_ceil(PART_BYTES_MIN) + 1 == EXTENTS_PER_PART as u64);
const _: () = assert!(
    EXTENTS_PER_PART * 3 + 16 <= ROWS_PER_COMMAND,
    "a part is copied over one as long, whose blobs are released"
);
const _: () = assert!(
    CHUNKS_PER_SLICE * (COPIES_MAX as usize * 2 + 2) + EXTENTS_PER_PART * 2 + 16 <= ROWS_PER_COMMAND,
    "a part is sent over one that was copied, whose blobs are released"
);
const _: () = assert!((EXTENTS_PER_PAGE + EXTENTS_PER_PART) * 2 + EXTENTS_PER_PAGE <= ROWS_PER_COMMAND);
const _: () = assert!(
    LIST_PAGE_KEYS_MAX < LIST_SCAN_ROWS_MAX,
    "a page is always within the bound: each row looked at gives a key or a common prefix"
);
const _: () = assert!(CHUNKS_PER_DRAIN * (COPIES_MAX as usize + 2) <= ROWS_PER_COMMAND);
const _: () = assert!(OUTCOMES_PER_RENEWAL < ROWS_PER_COMMAND);
const _: () = assert!(ROWS_PER_TICK * 6 + MEMBERS_MAX <= ROWS_PER_COMMAND);
const _: () = assert!((DEVICE_BYTES_MAX as u128) * (DEVICES_PER_VENDOR as u128) <= (u64::MAX as u128) / 2);
const _: () = assert!(COPIES_PER_BATCH * 5 <= ROWS_PER_COMMAND);
const _: () = assert!(
    LEASE_MS > SESSION_MS,
    "a live session can always renew its leases"
);
