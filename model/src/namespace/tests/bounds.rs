//! The largest legal commands fit a log entry, and small ones are small.

use super::world::{CHUNK, World, etag, key};
use crate::codec::encode;
use crate::command::{
    Body, Command, CompleteSlice, FinalizeObject, ListedPart, SessionCommand, SliceCommand, UploadRef,
};
use crate::fat::rows::{ChunkRow, CopyRow, CopyState};
use crate::ids::{BlobId, ChunkId, Digest, LeaseId, ManifestId, SessionId, UploadId, VendorId};
use crate::limits::{
    CHUNKS_PER_SLICE, COMMAND_BYTES_MAX, COPIES_MAX, EXTENTS_PER_PAGE, INLINE_BYTES_MAX, KEY_BYTES_MAX,
    NAME_BYTES_MAX, SYSTEM_HEADERS_BYTES_MAX, TAG_KEY_CHARACTERS_MAX, TAG_VALUE_CHARACTERS_MAX,
    TAGS_PER_OBJECT, USER_METADATA_BYTES_MAX, WRAPPED_KEY_BYTES_MAX,
};
use crate::namespace::rows::{Checksum, ChecksumAlgorithm, ChecksumKind, Metadata, WrappedKey};
use crate::units::stored_bytes;
use bytes::Bytes;

fn encoded(command: SessionCommand) -> usize {
    encode(&Command::InSession {
        session: SessionId(u64::MAX),
        sequence: u64::MAX,
        command,
    })
    .len()
}

fn largest_blob() -> BlobId {
    BlobId {
        session: SessionId(u64::MAX),
        counter: u64::MAX,
    }
}

fn chunks(count: usize, copies: u32, device_class: &str) -> Vec<ChunkRow> {
    let copy = CopyRow {
        vendor: VendorId(u64::MAX),
        lease: LeaseId(u64::MAX),
        device_class: device_class.to_owned(),
        pieces: u32::MAX,
        score: u16::MAX,
        state: CopyState::Good,
    };
    let chunk = ChunkRow {
        chunk: ChunkId {
            lease: LeaseId(u64::MAX),
            counter: u32::MAX,
        },
        plaintext_bytes: u64::MAX,
        digest: Digest([255; 32]),
        copies: vec![copy; copies as usize],
    };
    vec![chunk; count]
}

fn largest_class() -> (String, u64) {
    ("c".repeat(NAME_BYTES_MAX), u64::MAX)
}

/// Metadata of the greatest number of pairs: names of one byte without values.
fn largest_metadata() -> Metadata {
    let pairs = |bytes| vec![("m".to_owned(), String::new()); bytes];
    Metadata {
        headers: pairs(SYSTEM_HEADERS_BYTES_MAX),
        user: pairs(USER_METADATA_BYTES_MAX),
        tags: largest_tags(),
        ..Metadata::default()
    }
}

/// Tags of the greatest number, each of the most characters of the most bytes.
fn largest_tags() -> Vec<(String, String)> {
    let tag = |index: usize| {
        let key = char::from_digit(u32::try_from(index).unwrap(), 36).unwrap();
        let key = format!("{key}{}", "\u{1F6E2}".repeat(TAG_KEY_CHARACTERS_MAX - 1));
        (key, "\u{1F6E2}".repeat(TAG_VALUE_CHARACTERS_MAX))
    };
    (0..TAGS_PER_OBJECT).map(tag).collect()
}

fn largest_finalize(world: &World, body: Body) -> FinalizeObject {
    FinalizeObject {
        class: largest_class().0,
        metadata: largest_metadata(),
        checksum: Some(Checksum {
            algorithm: ChecksumAlgorithm::Sha256,
            kind: ChecksumKind::Composite,
            value: Bytes::from_static(&[255; 32]),
            parts: u32::MAX,
        }),
        ..world.finalize(&"k".repeat(KEY_BYTES_MAX), u64::MAX, body)
    }
}

#[test]
fn the_largest_commands_fit_a_log_entry() {
    let world = World::new();
    let every_chunk = chunks(CHUNKS_PER_SLICE, COPIES_MAX, &"d".repeat(NAME_BYTES_MAX));
    let slice = SessionCommand::Slice(SliceCommand {
        blob: largest_blob(),
        first: u32::MAX,
        chunk_bytes: u64::MAX,
        chunks: every_chunk.clone(),
        class: largest_class(),
    });
    let wrapped = WrappedKey {
        bytes: Bytes::from(vec![255; WRAPPED_KEY_BYTES_MAX]),
        ..key()
    };
    let chunked = largest_finalize(
        &world,
        Body::Chunks {
            blob: largest_blob(),
            plaintext_bytes: u64::MAX,
            chunk_bytes: u64::MAX,
            first: u32::MAX,
            chunks: every_chunk,
            key: wrapped.clone(),
            class: largest_class(),
        },
    );
    let inlined = largest_finalize(
        &world,
        Body::Inline {
            blob: largest_blob(),
            plaintext_bytes: INLINE_BYTES_MAX,
            sealed: Bytes::from(vec![0; usize::try_from(stored_bytes(INLINE_BYTES_MAX)).unwrap()]),
            key: wrapped,
        },
    );
    let part = ListedPart {
        number: u32::MAX,
        etag: etag(u64::MAX),
        checksum: Some(Bytes::from_static(&[255; 32])),
    };
    let complete = SessionCommand::CompleteSlice(CompleteSlice {
        actor: super::world::ROOT,
        bucket: world.bucket,
        key: "k".repeat(KEY_BYTES_MAX),
        upload: UploadRef {
            upload: UploadId(u64::MAX),
            random: u64::MAX,
        },
        manifest: Some(ManifestId(u64::MAX)),
        parts: vec![part; EXTENTS_PER_PAGE],
        last: true,
    });
    for command in [
        slice,
        complete,
        SessionCommand::FinalizeObject(chunked),
        SessionCommand::FinalizeObject(inlined),
    ] {
        let bytes = encoded(command);
        assert!(bytes <= COMMAND_BYTES_MAX, "{bytes} bytes");
    }
}

#[test]
fn a_finalize_of_one_chunk_is_small() {
    let world = World::new();
    for copies in [1, 2, 3] {
        let body = Body::Chunks {
            blob: largest_blob(),
            plaintext_bytes: CHUNK,
            chunk_bytes: CHUNK,
            first: 0,
            chunks: chunks(1, copies, "nvme-ssd"),
            key: key(),
            class: ("STANDARD".to_owned(), u64::MAX),
        };
        let mut finalize = world.finalize("some/key", u64::MAX, body);
        finalize.metadata.headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
        finalize.metadata.user = vec![("mtime".to_owned(), "1700000000".to_owned())];
        let texts = "some/key".len() + "content-typetext/plain".len() + "mtime1700000000".len();
        let bytes = encoded(SessionCommand::FinalizeObject(finalize));
        let allowed = texts + 512 + 64 * copies as usize;
        assert!(
            bytes <= allowed,
            "{bytes} bytes with {copies} copies, allowed {allowed}"
        );
    }
}
