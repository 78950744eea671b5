//! Bounds of the gateway that are not settings. Bounds that other services share are in `ullage_model::limits`.

use std::time::Duration;
use ullage_model::limits::{
    CHUNK_BYTES_MAX, FRAME_BYTES, INLINE_BYTES_MAX, LEASE_MS, READER_MS, SESSION_MS, SESSION_WINDOW,
};

/// Memory for chunks being uploaded, unless the configuration says otherwise, in bytes of plaintext.
pub const UPLOAD_MEMORY_DEFAULT: u64 = 256 * 1024 * 1024;
/// Memory for bytes read ahead of clients, in bytes of plaintext.
pub const READ_MEMORY: u64 = 128 * 1024 * 1024;
/// Chunk buffers kept for the next upload, in bytes.
pub const POOLED_BYTES: usize = 32 * 1024 * 1024;
/// Buffers below this are not worth keeping.
pub const POOLED_BUFFER_BYTES_MIN: usize = 256 * 1024;
/// How long an upload or a read waits for memory before it is told to slow down.
pub const ADMISSION_WAIT: Duration = Duration::from_secs(5);
/// Most requests that wait for memory at once.
pub const ADMISSION_QUEUE: usize = 1024;
/// Chunks of one body in flight: the one every upload has memory for, and borrowed ones.
pub const CHUNKS_IN_FLIGHT: usize = 4;
/// How long a body may send nothing.
pub const BODY_IDLE: Duration = Duration::from_secs(20);
/// How long a body may send nothing while others wait for the memory it holds …
pub const BODY_IDLE_PRESSED: Duration = Duration::from_secs(1);
/// … and how often one that sends nothing looks whether others wait.
pub const PRESSURE_LOOK: Duration = Duration::from_millis(250);
/// How long a client may take nothing of an answer before what was fetched ahead for it is given to those who wait
/// for memory. It is fetched again when the client goes on.
pub const READ_IDLE_PRESSED: Duration = Duration::from_secs(2);
/// Bytes of an answer that its connection holds, copied, while memory for reads is scarce. They are in no budget:
/// the number of connections bounds them.
pub const SENT_COPIED_BYTES: usize = 32 * 1024;
/// Bytes per second below which a body loses its place, measured while it fills a chunk.
pub const BODY_BYTES_PER_S_MIN: u64 = 32 * 1024;
/// How long chunks that vendors hold may wait for their slice: well below a lease's life.
pub const SLICE_AGE: Duration = Duration::from_secs(10);
/// Stored bytes of one message of a chunk on its way out: whole frames, small enough for hops to overlap.
pub const PART_FRAMES: usize = 8;
/// Chunks up to this long go from the gateway to each vendor at once: the bytes are few, the waits are not.
pub const FAN_OUT_BYTES: u64 = 64 * 1024;
/// Base of the time a chunk may take until its receipts are there.
pub const CHUNK_WAIT: Duration = Duration::from_secs(10);
/// Bytes per second that a vendor must take, on top of [`CHUNK_WAIT`].
pub const VENDOR_BYTES_PER_S_MIN: u64 = 1024 * 1024;
/// Copies of one chunk that may be tried beyond those the class asks for, under one chunk id.
pub const RESENDS_PER_CHUNK: usize = 4;
/// Times one chunk is sent under a new id, after every vendor was tried.
pub const CHUNK_RESTARTS: u32 = 2;
/// Pause before a chunk is sent under a new id.
pub const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// Times a decision is made again because settings changed under it.
pub const STALE_SETTINGS_RETRIES: u32 = 3;
/// Times a copy starts again because its source changed under it.
pub const SOURCE_CHANGED_RETRIES: u32 = 4;
/// Times a complete starts again because parts changed under it.
pub const PARTS_CHANGED_RETRIES: u32 = 4;
/// How long a command that surely was not done is tried again.
pub const SUBMIT_PATIENCE: Duration = Duration::from_secs(10);
/// How long an unknown outcome is asked for.
pub const RESOLVE_PATIENCE: Duration = Duration::from_secs(20);
/// How long one call to the metadata service may take over the network, all nodes that are asked for it together. The
/// two above go on from there.
pub const METAD_PATIENCE: Duration = Duration::from_secs(6);
/// As [`METAD_PATIENCE`], for provisional FATs: leases may have to be recalled first.
pub const METAD_PATIENCE_ALLOCATE: Duration = Duration::from_secs(20);
/// As [`METAD_PATIENCE`], for changes of the membership: a new member must catch up.
pub const METAD_PATIENCE_MEMBERS: Duration = Duration::from_secs(300);
/// Bytes of a hop's report: receipts of one fsync group, each with up to 16 pieces.
pub const REPORT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a vendor's refusal.
pub const REFUSAL_BYTES_MAX: usize = 16 * 1024;
/// How long connecting to another service may take, handshakes included: little, because there are others.
pub const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// Pause between tries to open the first session, and how often the log says so.
pub const START_PAUSE: Duration = Duration::from_millis(500);
/// See [`START_PAUSE`].
pub const START_SAID_EVERY: Duration = Duration::from_secs(30);
/// How long the end of the session may take when the process is told to stop.
pub const END_SESSION_WAIT: Duration = Duration::from_secs(5);
/// How long a page of a vendor's own table may take.
pub const TABLE_WAIT: Duration = Duration::from_secs(5);
/// How long a UDP probe waits for its answer.
pub const PROBE_WAIT: Duration = Duration::from_secs(1);
/// How long a probe by a call waits, which stands in where datagrams do not come through.
pub const PROBE_CALL_WAIT: Duration = Duration::from_secs(3);
/// How often each path is probed, more or less.
pub const PROBE_EVERY: Duration = Duration::from_secs(10);
/// UDP probes in a row without an answer, after which a call measures the path.
pub const PROBES_UNANSWERED: u32 = 3;
/// Of the probes after that, one in so many is tried by UDP again.
pub const PROBE_RETRIED: u32 = 30;
/// Probes in flight.
pub const PROBES_IN_FLIGHT: usize = 16;
/// How often the addresses of the metadata nodes are learned again.
pub const MEMBERS_EVERY: Duration = Duration::from_secs(60);
/// First and longest pause between such tries.
pub const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// Times a command is submitted under a new sequence after the old one was abandoned.
pub const ABANDONED_RETRIES: u32 = 5;
/// Sequences given out since the metadata service last heard which outcomes are known, that make the session
/// renew early; and those at which commands wait.
pub const SEQUENCES_UNTOLD: (u64, u64) = (SESSION_WINDOW / 4, SESSION_WINDOW - 1024);
/// How often a session gives a sign of life.
pub const RENEW_EVERY: Duration = Duration::from_millis(SESSION_MS / 3);
/// A session whose last sign of life was answered so long ago may have ended.
pub const PERHAPS_GONE: Duration = Duration::from_millis(SESSION_MS);
/// What the gateway has not heard of is asked for again, but not more often than this.
pub const REFRESH_AFTER: Duration = Duration::from_millis(250);
/// How often leases and left-overs are looked after.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(1);
/// Room asked for per vendor in the first lease of a class, the most and the least, in bytes.
pub const LEASE_BYTES: (u64, u64, u64) = (64 * 1024 * 1024, 64 * 1024 * 1024 * 1024, 16 * 1024 * 1024);
/// A lease consumed faster than this makes the next one twice as large.
pub const LEASE_GROWS_BELOW: Duration = Duration::from_secs(15);
/// Grants and leases are not used any more this long (in ms of cluster time) before they end.
pub const GRANT_MARGIN_MS: u64 = 15_000;
/// A new lease is asked for this long (in ms of cluster time) before grants end.
pub const GRANT_SUCCESSOR_MS: u64 = 25_000;
/// Leases are renewed this long (in ms of cluster time) before they end.
pub const LEASE_RENEWED_MS: u64 = LEASE_MS / 2;
/// Leases nobody used for this long are returned.
pub const LEASE_IDLE: Duration = Duration::from_secs(120);
/// A lease with chunks that were sent and never committed is returned after this, so that the bytes on
/// vendors' disks come back.
pub const DIRTY_LEASE_KEPT: Duration = Duration::from_secs(3);
/// Leases of one class at once.
pub const LEASES_PER_CLASS: usize = 8;
/// How long "no room" is answered without asking again.
pub const NO_ROOM_KEPT: Duration = Duration::from_millis(500);
/// How long a write waits for a provisional FAT.
pub const ROOM_WAIT: Duration = Duration::from_secs(10);
/// Left-over blobs and damage reports waiting to be told, each.
pub const LEFTOVERS_MAX: usize = 65_536;
/// Plaintext bytes fetched by one read request: the first of a read, and later ones when memory allows.
pub const SEGMENT_BYTES: (u64, u64) = (8 * FRAME_BYTES, 32 * FRAME_BYTES);
/// Plaintext bytes one read may be ahead of its client, in chunks of its object.
pub const READ_AHEAD_CHUNKS: u64 = 2;
/// Segments of one read in flight.
pub const SEGMENTS_IN_FLIGHT: usize = 8;
/// How long a transfer to or from a vendor may stand still, no byte moved and no word heard, before it goes on
/// elsewhere: while the path has no experience of its own, at least, and at most. A vendor lets a chunk wait for memory
/// for 4 s before it says that it is overloaded: that word should be waited for.
pub const PATIENCE: (Duration, Duration, Duration) = (
    Duration::from_secs(6),
    Duration::from_secs(5),
    Duration::from_secs(10),
);
/// A read that has not answered for so long is tried at another copy too, until the path has its own experience.
pub const HEDGE_AFTER: Duration = Duration::from_millis(300);
/// Bounds of the time a path's own experience gives.
pub const HEDGE_BETWEEN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Second reads for the sake of speed: one in so many reads, and so many in a row.
pub const HEDGES: (u32, u32) = (20, 8);
/// How long one read request may take.
pub const READ_WAIT: Duration = Duration::from_secs(10);
/// Times the locations of one segment are asked for again.
pub const RELOCATIONS: u32 = 2;
/// A read older than this is cut, before the metadata service stops waiting for it.
pub const READ_LIFE: Duration = Duration::from_millis(READER_MS - READER_MS / 20);
/// Entries of each settings cache.
pub const CACHED_SETTINGS: usize = 10_000;
/// Bytes of buckets' documents (as text; what was read from them takes some times as much) in that cache.
pub const CACHED_DOCUMENT_BYTES: usize = 8 * 1024 * 1024;
/// How long cached settings serve reads without a question: reads name no settings versions, so a right or a key
/// that was withdrawn works this long at gateways that did not withdraw it. One question a second for each user and
/// bucket in use is cheap.
pub const SETTINGS_KEPT: Duration = Duration::from_secs(1);
/// Verified receipt batches remembered, per shard.
pub const VERIFIED_BATCHES: usize = 64;

const _: () = assert!(UPLOAD_MEMORY_DEFAULT >= CHUNK_BYTES_MAX);
const _: () = assert!(
    BODY_IDLE_PRESSED.as_millis() + PRESSURE_LOOK.as_millis() < ADMISSION_WAIT.as_millis(),
    "who waits for memory lives to see bodies that send nothing give way"
);
const _: () = assert!(
    READ_MEMORY / 4 >= SEGMENT_BYTES.1,
    "a read fits what is left when memory is scarce"
);
const _: () = assert!(
    READ_IDLE_PRESSED.as_millis() + PRESSURE_LOOK.as_millis() < ADMISSION_WAIT.as_millis(),
    "who waits for memory lives to see reads that take nothing give way"
);
const _: () = assert!(GRANT_SUCCESSOR_MS > GRANT_MARGIN_MS && LEASE_MS > GRANT_SUCCESSOR_MS);
const _: () = assert!(
    GRANT_MARGIN_MS > CHUNK_WAIT.as_secs() * 1000,
    "a chunk sent under a grant is there before the grant ends"
);
const _: () = assert!(
    PATIENCE.1.as_millis() <= PATIENCE.0.as_millis()
        && PATIENCE.0.as_millis() <= PATIENCE.2.as_millis()
        && PATIENCE.2.as_millis() <= CHUNK_WAIT.as_millis()
);
const _: () = assert!(LEASE_RENEWED_MS > GRANT_MARGIN_MS);
const _: () = assert!(SLICE_AGE.as_millis() < LEASE_MS as u128 / 2);
const _: () = assert!(SEQUENCES_UNTOLD.0 < SEQUENCES_UNTOLD.1);
const _: () = assert!(INLINE_BYTES_MAX <= CHUNK_BYTES_MAX);
