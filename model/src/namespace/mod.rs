//! The namespace: buckets, versions, manifests, blobs, uploads, users.

pub mod authority;
pub mod blob;
pub mod bounds;
pub mod bucket;
pub mod complete;
pub mod delete;
pub mod finalize;
pub mod invariants;
pub mod keys;
pub mod list;
pub mod locate;
pub mod query;
pub mod release;
pub mod rows;
pub mod upload;
pub mod user;
pub mod version;

#[cfg(test)]
mod tests;
