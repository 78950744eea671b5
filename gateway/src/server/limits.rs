//! Bounds of the listeners: connections, heads, waits. Bounds of S3's documents are in [`crate::s3::limits`],
//! those of the data path in [`crate::limits`].

use std::time::Duration;

/// Buckets of a listing that are looked up at once, to see whether their policies let a caller list them.
pub const BUCKETS_JUDGED_AT_ONCE: usize = 16;
/// Connections of one listener at once; later ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 8192;
/// Bytes of one request's head that are read at most: the protocol layer's own bounds on target and headers
/// lie below, so that what is slightly too long still gets S3's answer.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes read from or buffered for one connection at a time.
pub const CONNECTION_BUFFER_BYTES: usize = 256 * 1024;
/// How long the head of a request may take, counted from the end of the one before: also how long an idle
/// connection is kept.
pub const HEAD_WAIT: Duration = Duration::from_secs(60);
/// How long a document in a body may send nothing.
pub const DOCUMENT_IDLE: Duration = Duration::from_secs(20);
/// Memory of one listener for documents in bodies while they are read and understood, in bytes.
pub const DOCUMENT_MEMORY: u64 = 64 * 1024 * 1024;
/// The same for those whom nobody knows, and for forms, whose fields say who they are: they must not take what the
/// others need.
pub const STRANGERS_MEMORY: u64 = 16 * 1024 * 1024;
/// Memory for listings while they are made and taken by their clients, in bytes.
pub const LISTING_MEMORY: u64 = 128 * 1024 * 1024;
/// Bytes of a listed object's elements at most, with the longest key percent-encoded; and of a bucket's.
pub const LISTED_BYTES: (u64, u64) = (4 * 1024, 256);
/// How long a client may take nothing of an answer.
pub const WRITE_STALL: Duration = Duration::from_secs(120);
/// How long an answer may take until its head is sent, and whitespace each time this has passed again, where S3 does so
/// (`late.rs`): clients give up after a minute, some after ten seconds.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long requests may go on after shutdown has begun.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Pause after the kernel refused to accept, for example for want of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes left of a refused request's body that are read before the answer, so that the connection can be
/// used again.
pub const DRAIN_BYTES_BEFORE: u64 = 64 * 1024;
/// Bytes left of a refused request's body that are read after the answer, so that a client which sends first
/// and reads later sees the answer and not a reset; then the connection is closed.
pub const DRAIN_BYTES_AFTER: u64 = 16 * 1024 * 1024;
/// How long the answer is held back for that.
pub const DRAIN_WAIT_BEFORE: Duration = Duration::from_millis(250);
/// How long reading after the answer may take.
pub const DRAIN_WAIT_AFTER: Duration = Duration::from_secs(5);
/// Bytes of a document of the admin API.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 * 1024;
/// Objects of one DeleteObjects in flight at the metadata service.
pub const DELETES_IN_FLIGHT: usize = 64;
/// Chunks of one object that the admin API shows at most (32 TiB of default chunks are 8 million; a page of
/// JSON must end somewhere).
pub const FAT_CHUNKS_SHOWN_MAX: usize = 100_000;
/// Buckets in one page of the admin API.
pub const ADMIN_PAGE_BUCKETS: usize = 1000;
/// Copies in one page of the admin API.
pub const ADMIN_PAGE_COPIES: usize = 1000;
/// Objects looked at for one page of a user's FAT.
pub const ADMIN_PAGE_OBJECTS: usize = 1000;

const _: () =
    assert!(HEAD_BYTES_MAX > crate::s3::limits::HEADER_BYTES_MAX + crate::s3::limits::TARGET_BYTES_MAX);
const _: () = assert!(ADMIN_PAGE_BUCKETS <= ullage_model::limits::LIST_PAGE_KEYS_MAX);
const _: () = assert!(CONNECTION_BUFFER_BYTES >= HEAD_BYTES_MAX);
const _: () = assert!(DOCUMENT_MEMORY >= crate::s3::limits::COMPLETE_BODY_MAX);
