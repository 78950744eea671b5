//! The namespace: buckets, versions, manifests, blobs, uploads, users. It meets the FAT in settling
//! (`fat::settle`, called by [`blob`]) and in release (`fat::release`, called by [`mod@release`], whose drains it
//! calls back); it knows chunks only as "so many, of this blob".
//!
//! ```text
//!   Slice ──▶ building blob ──FinalizeObject──▶ version ──replaced, deleted──▶ released
//!                  │  └──────FinalizePart──▶ shared blob ◀── part, extents of manifests
//!                  └──abandoned, session ended──▶ released         last reference ──▶ released
//!
//!   CreateUpload ──▶ Open ──CompleteSlice──▶ Completing ──CompleteUpload──▶ Completed ──a day──▶ forgotten
//!                     └──────AbortUpload───────┘└─▶ gone, parts and manifest released
//! ```
//!
//! A copy refers to the manifest of its source, or makes the source's own blob a shared one. A part that is copied
//! has extents of its own, which refer to the source's blobs.
//!
//! What must hold after every command is in [`invariants`]: the newest version of a key is the live one, unless a
//! delete marker is newer; at most one version of a key is `null`; a single extent's blob is its version's alone; a shared blob counts its parts, extents and versions, a manifest its
//! versions, and a count that reached 0 stays there; a bucket's usage and the inlined bytes are exact; every chunk is
//! somebody's, or released.

pub mod access;
pub mod authority;
pub mod blob;
pub mod bounds;
pub mod bucket;
pub mod complete;
pub mod copy;
pub mod copy_part;
pub mod delete;
pub mod document;
pub mod finalize;
pub mod invariants;
pub mod keys;
pub mod list;
pub mod list_uploads;
pub mod list_versions;
pub mod locate;
pub mod parts;
pub mod query;
pub mod release;
pub mod rows;
pub mod successor;
pub mod tags;
pub mod upload;
pub mod usage;
pub mod user;
pub mod version;

#[cfg(test)]
mod tests;
