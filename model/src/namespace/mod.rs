//! The namespace: buckets, versions, manifests, blobs, uploads, users.

pub mod keys;
pub mod rows;
