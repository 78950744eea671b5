//! Row keys of the FAT's columns: big-endian numbers, so that byte order is number order.

use crate::ids::{BlobId, CopyId, LeaseId, SessionId, VendorId};
use crate::wire::chunk::PublicKey;
use bytes::Bytes;

/// `Column::System`: the cluster's row.
pub const CLUSTER: &[u8] = b"cluster";
/// `Column::System`: the id counters.
pub const COUNTERS: &[u8] = b"counters";
/// `Column::System`: cluster time, a `ClusterTime`.
pub const CLUSTER_TIME: &[u8] = b"time";
/// `Column::System`: inline settings and usage.
pub const INLINE: &[u8] = b"inline";
/// `Column::System`: how far the release queue is drained: a key of `Column::Releases` before which nothing is
/// left, nor will be, because what is released later has a greater index.
pub const DRAINED: &[u8] = b"drained";
/// `Column::System`: prefix of KEK check values, followed by the KEK id.
pub const KEK_CHECK: &[u8] = b"kek/";
/// `Column::System`: prefix of members, followed by the node's id.
pub const MEMBERS: &[u8] = b"member/";
/// `Column::System`: prefix of invitations, followed by the digest of the secret.
pub const INVITES: &[u8] = b"invite/";

fn join(parts: &[&[u8]]) -> Bytes {
    Bytes::from(parts.concat())
}

/// `Column::System`: check value of a KEK.
#[must_use]
pub fn kek_check(kek: crate::ids::KekId) -> Bytes {
    join(&[KEK_CHECK, &kek.0.to_be_bytes()])
}

/// `Column::System`: a metadata node.
#[must_use]
pub fn member(node: u64) -> Bytes {
    join(&[MEMBERS, &node.to_be_bytes()])
}

/// `Column::System`: an invitation.
#[must_use]
pub fn invite(secret: &crate::ids::Digest) -> Bytes {
    join(&[INVITES, &secret.0])
}

/// `Column::Vendors`: `i` then the id.
#[must_use]
pub fn vendor(vendor: VendorId) -> Bytes {
    join(&[b"i", &vendor.0.to_be_bytes()])
}

/// `Column::Vendors`: `k` then the public key; the value is the id, 8 bytes.
#[must_use]
pub fn vendor_by_key(key: &PublicKey) -> Bytes {
    join(&[b"k", &key.0])
}

/// `Column::Vendors`: `n` then the name; the value is the id, 8 bytes.
#[must_use]
pub fn vendor_by_name(name: &str) -> Bytes {
    join(&[b"n", name.as_bytes()])
}

/// `Column::Rooms`: vendor, then device class.
#[must_use]
pub fn room(vendor: VendorId, device_class: &str) -> Bytes {
    join(&[&vendor.0.to_be_bytes(), device_class.as_bytes()])
}

/// `Column::Classes`: the name.
#[must_use]
pub fn class(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

/// `Column::Sessions`: the id.
#[must_use]
pub fn session(session: SessionId) -> Bytes {
    Bytes::copy_from_slice(&session.0.to_be_bytes())
}

/// `Column::Outcomes`: session, then sequence.
#[must_use]
pub fn outcome(session: SessionId, sequence: u64) -> Bytes {
    join(&[&session.0.to_be_bytes(), &sequence.to_be_bytes()])
}

/// `Column::Leases`: `l` then the id.
#[must_use]
pub fn lease(lease: LeaseId) -> Bytes {
    join(&[b"l", &lease.0.to_be_bytes()])
}

/// `Column::Leases`: `v`, lease, vendor.
#[must_use]
pub fn lease_vendor(lease: LeaseId, vendor: VendorId) -> Bytes {
    join(&[b"v", &lease.0.to_be_bytes(), &vendor.0.to_be_bytes()])
}

/// `Column::Leases`: prefix of a lease's vendor rows.
#[must_use]
pub fn lease_vendors(lease: LeaseId) -> Bytes {
    join(&[b"v", &lease.0.to_be_bytes()])
}

/// `Column::EraseOrders`: vendor, release index, copy.
#[must_use]
pub fn erase_order(vendor: VendorId, release_index: u64, copy: CopyId) -> Bytes {
    join(&[
        &vendor.0.to_be_bytes(),
        &release_index.to_be_bytes(),
        &copy.to_bytes(),
    ])
}

/// `Column::Copies`: vendor, copy.
#[must_use]
pub fn copy(vendor: VendorId, copy: CopyId) -> Bytes {
    join(&[&vendor.0.to_be_bytes(), &copy.to_bytes()])
}

/// `Column::Chunks`: blob, index.
#[must_use]
pub fn chunk(blob: BlobId, index: u32) -> Bytes {
    join(&[&blob.to_bytes(), &index.to_be_bytes()])
}

/// `Column::Inline`: the blob.
#[must_use]
pub fn blob(blob: BlobId) -> Bytes {
    Bytes::copy_from_slice(&blob.to_bytes())
}

/// `Column::Releases`: release index, then a number within it.
#[must_use]
pub fn release(release_index: u64, number: u32) -> Bytes {
    join(&[&release_index.to_be_bytes(), &number.to_be_bytes()])
}

/// The last `N` bytes of `key` as an array: ids at the end of index keys.
#[must_use]
pub fn tail<const N: usize>(key: &[u8]) -> Option<[u8; N]> {
    key.len().checked_sub(N).and_then(|at| key[at..].try_into().ok())
}
