//! Row keys of the namespace's columns. Object keys are escaped where something follows them, so that byte
//! order stays the order of keys.

use crate::ids::{BlobId, BucketId, ManifestId, SessionId, UploadId, UserId, VersionId};
use crate::namespace::rows::BucketDocumentKind;
use bytes::Bytes;

fn join(parts: &[&[u8]]) -> Bytes {
    Bytes::from(parts.concat())
}

/// `Column::Buckets`: what [`bucket`]'s keys begin with.
pub const BUCKETS: &[u8] = b"i";

/// `Column::Buckets`: `i` then the id.
#[must_use]
pub fn bucket(bucket: BucketId) -> Bytes {
    join(&[BUCKETS, &bucket.0.to_be_bytes()])
}

/// `Column::Buckets`: `n` then the name; the value is the id, 8 bytes.
#[must_use]
pub fn bucket_by_name(name: &str) -> Bytes {
    join(&[b"n", name.as_bytes()])
}

/// `Column::Buckets`: `u` then the id: usage.
#[must_use]
pub fn bucket_usage(bucket: BucketId) -> Bytes {
    join(&[b"u", &bucket.0.to_be_bytes()])
}

/// `Column::Buckets`: `d`, then the id, then the kind's byte: a document of the bucket's settings.
#[must_use]
pub fn bucket_document(bucket: BucketId, kind: BucketDocumentKind) -> Bytes {
    join(&[b"d", &bucket.0.to_be_bytes(), &[kind.byte()]])
}

/// `Column::Buckets`: `c` then the user: how many buckets it made, 8 bytes.
#[must_use]
pub fn bucket_count(creator: UserId) -> Bytes {
    join(&[b"c", &creator.0.to_be_bytes()])
}

/// `Column::Blobs`: `b` then the blob, whose first part is its session: building blobs.
#[must_use]
pub fn building_blob(blob: BlobId) -> Bytes {
    join(&[b"b", &blob.to_bytes()])
}

/// `Column::Blobs`: prefix of a session's building blobs.
#[must_use]
pub fn building_blobs(session: SessionId) -> Bytes {
    join(&[b"b", &session.0.to_be_bytes()])
}

/// `Column::Blobs`: `s` then the blob: shared blobs. Apart from the building ones, so that the end of a
/// session finds those without passing over every part it ever stored.
#[must_use]
pub fn shared_blob(blob: BlobId) -> Bytes {
    join(&[b"s", &blob.to_bytes()])
}

/// `Column::Live`: bucket, then the key's bytes.
#[must_use]
pub fn live(bucket: BucketId, key: &str) -> Bytes {
    join(&[&bucket.0.to_be_bytes(), key.as_bytes()])
}

/// What ends an escaped key: less than any escaped byte.
const KEY_END: [u8; 2] = [0, 1];

/// `key` with 0x00 written as 0x00 0xFF and 0x00 0x01 at its end: whatever follows, order is that of keys.
fn escaped(key: &str, into: &mut Vec<u8>) {
    for &byte in key.as_bytes() {
        into.push(byte);
        if byte == 0 {
            into.push(u8::MAX);
        }
    }
    into.extend_from_slice(&KEY_END);
}

/// `Column::Versions`: prefix of all versions of a key.
#[must_use]
pub fn versions(bucket: BucketId, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + key.len() + 2 + 16);
    bytes.extend_from_slice(&bucket.0.to_be_bytes());
    escaped(key, &mut bytes);
    bytes
}

/// `Column::Versions`: bucket, escaped key, then the version with its order inverted: newest first.
#[must_use]
pub fn version(bucket: BucketId, key: &str, version: VersionId) -> Bytes {
    let mut bytes = versions(bucket, key);
    bytes.extend_from_slice(&(!version.order).to_be_bytes());
    bytes.extend_from_slice(&version.random.to_be_bytes());
    Bytes::from(bytes)
}

/// What ends the key of [`null_version`]: more than any order inverted, for no version is made at log index 0.
const NULL_VERSION: [u8; 8] = [u8::MAX; 8];

/// `Column::Versions`: bucket, escaped key, then what sorts behind all other versions of the key: its `null` version,
/// or where that is.
#[must_use]
pub fn null_version(bucket: BucketId, key: &str) -> Bytes {
    let mut bytes = versions(bucket, key);
    bytes.extend_from_slice(&NULL_VERSION);
    Bytes::from(bytes)
}

/// What the key of a row of `Column::Versions` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionKey {
    /// The bucket.
    pub bucket: BucketId,
    /// The object's key.
    pub key: String,
    /// The version; `None`: the key's `null` version, or where that is.
    pub version: Option<VersionId>,
}

/// The inverse of [`version`] and [`null_version`]. `None` for keys of any other shape.
#[must_use]
pub fn parse_version(row_key: &[u8]) -> Option<VersionKey> {
    let (bucket, rest) = row_key.split_first_chunk()?;
    let mut key = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter();
    loop {
        match *bytes.next()? {
            0 => match *bytes.next()? {
                u8::MAX => key.push(0),
                end if end == KEY_END[1] => break,
                _ => return None,
            },
            byte => key.push(byte),
        }
    }
    let tail = bytes.as_slice();
    let version = if *tail == NULL_VERSION {
        None
    } else {
        let (order, random) = tail.split_first_chunk()?;
        Some(VersionId {
            order: !u64::from_be_bytes(*order),
            random: u64::from_be_bytes(random.try_into().ok()?),
        })
    };
    Some(VersionKey {
        bucket: BucketId(u64::from_be_bytes(*bucket)),
        key: String::from_utf8(key).ok()?,
        version,
    })
}

/// `Column::Versions`: prefix of the versions of all keys that start with `prefix`.
#[must_use]
pub fn versions_with_prefix(bucket: BucketId, prefix: &str) -> Vec<u8> {
    let mut bytes = versions(bucket, prefix);
    // Without the end of the key: a prefix ends where more may follow.
    bytes.truncate(bytes.len() - KEY_END.len());
    bytes
}

/// `Column::Manifests`: `m` then the id.
#[must_use]
pub fn manifest(manifest: ManifestId) -> Bytes {
    join(&[b"m", &manifest.0.to_be_bytes()])
}

/// `Column::Manifests`: `p`, manifest, first plaintext offset of the page.
#[must_use]
pub fn manifest_page(manifest: ManifestId, offset: u64) -> Bytes {
    join(&[b"p", &manifest.0.to_be_bytes(), &offset.to_be_bytes()])
}

/// `Column::Manifests`: prefix of a manifest's pages.
#[must_use]
pub fn manifest_pages(manifest: ManifestId) -> Bytes {
    join(&[b"p", &manifest.0.to_be_bytes()])
}

/// `Column::Manifests`: `n`, manifest, number of the first part in the row.
#[must_use]
pub fn manifest_parts(manifest: ManifestId, number: u32) -> Bytes {
    join(&[b"n", &manifest.0.to_be_bytes(), &number.to_be_bytes()])
}

/// `Column::Manifests`: prefix of a manifest's parts.
#[must_use]
pub fn manifest_all_parts(manifest: ManifestId) -> Bytes {
    join(&[b"n", &manifest.0.to_be_bytes()])
}

/// `Column::Uploads`: `u` then the id.
#[must_use]
pub fn upload(upload: UploadId) -> Bytes {
    join(&[b"u", &upload.0.to_be_bytes()])
}

/// `Column::Uploads`: `b`, bucket, escaped key, upload: uploads of a bucket in key order; empty value.
#[must_use]
pub fn upload_in_bucket(bucket: BucketId, key: &str, upload: UploadId) -> Bytes {
    let mut bytes = vec![b'b'];
    bytes.extend_from_slice(&versions(bucket, key));
    bytes.extend_from_slice(&upload.0.to_be_bytes());
    Bytes::from(bytes)
}

/// `Column::Uploads`: prefix of [`upload_in_bucket`] for all keys that start with `prefix`.
#[must_use]
pub fn uploads_with_prefix(bucket: BucketId, prefix: &str) -> Bytes {
    let mut bytes = vec![b'b'];
    bytes.extend_from_slice(&versions_with_prefix(bucket, prefix));
    Bytes::from(bytes)
}

/// `Column::Uploads`: prefix of [`upload_in_bucket`] for all uploads of a bucket.
#[must_use]
pub fn uploads_in_bucket(bucket: BucketId) -> Bytes {
    join(&[b"b", &bucket.0.to_be_bytes()])
}

/// `Column::Uploads`: `d`, then the cluster time of completion and the upload: what to forget; empty value.
#[must_use]
pub fn completed_upload(at: crate::cluster_time::ClusterTime, upload: UploadId) -> Bytes {
    join(&[b"d", &at.0.to_be_bytes(), &upload.0.to_be_bytes()])
}

/// `Column::Uploads`: `p`, upload, part number.
#[must_use]
pub fn part(upload: UploadId, number: u32) -> Bytes {
    join(&[b"p", &upload.0.to_be_bytes(), &number.to_be_bytes()])
}

/// `Column::Uploads`: prefix of an upload's parts.
#[must_use]
pub fn parts(upload: UploadId) -> Bytes {
    join(&[b"p", &upload.0.to_be_bytes()])
}

/// `Column::Users`: `i` then the id.
#[must_use]
pub fn user(user: UserId) -> Bytes {
    join(&[b"i", &user.0.to_be_bytes()])
}

/// `Column::Users`: `n` then the name; the value is the id, 8 bytes.
#[must_use]
pub fn user_by_name(name: &str) -> Bytes {
    join(&[b"n", name.as_bytes()])
}

/// `Column::Users`: `k` then the access key.
#[must_use]
pub fn access_key(access_key: &str) -> Bytes {
    join(&[b"k", access_key.as_bytes()])
}
