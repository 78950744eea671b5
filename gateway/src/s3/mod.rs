//! The S3 protocol: bytes and headers in, typed operation out; typed answer
//! in, bytes and headers out. Pure: no storage, no sockets, no clock but the
//! time handed in. Nothing in here knows of the FAT, of metad or of agents,
//! and nothing outside of it knows S3's words.
//!
//! A server calls it in this order, answering the first error it meets with
//! [`Reply::error`]:
//!
//! 1. [`Head::parse`]: HTTP sanity, path or virtual-host style.
//! 2. [`route()`]: which operation of S3 this is, offered or not.
//! 3. [`Credential::parse`]: who claims to ask, and whether the claim is in
//!    form and in time. The caller looks up the secret of
//!    [`Credential::access_key`], or answers InvalidAccessKeyId.
//! 4. [`Credential::verify`]: an [`Authenticated`] comes out, or nothing does.
//! 5. [`Request::parse`]: the typed [`Operation`] and the [`BodyPlan`]. Now the
//!    caller authorizes, and only now answers `Expect: 100-continue`.
//! 6. [`BodyDecoder`]: `push` what comes off the wire, `finish` before acting
//!    on it. Documents are then read by [`request_xml`].
//! 7. The operation's answer of [`answer`], and [`Reply::into_http`].

mod accepted;
pub mod acl;
pub mod answer;
pub mod attributes;
pub mod body;
pub mod checksum;
pub mod conditions;
pub mod copy;
pub mod cors;
pub mod error;
pub mod etag;
pub mod form;
pub mod head;
pub mod limits;
pub mod list_uploads;
pub mod listing;
pub mod md5;
pub mod metadata;
pub mod names;
pub mod operation;
mod percent;
pub mod public_access;
pub mod range;
pub mod request_xml;
pub mod route;
mod sha256;
pub mod sigv4;
pub mod tagging;
pub mod time;
pub mod token;
pub mod unset;
pub mod versioning;
mod xml;

pub use answer::{Reply, RequestIds};
pub use body::{BodyDecoder, BodyPlan, BodyUse, WantedDigests};
pub use error::{ErrorCode, Result, S3Error};
pub use head::{Endpoint, Head};
pub use operation::{Operation, Request};
pub use route::route;
pub use sigv4::{Authenticated, Credential, Realm, SigningKeys};
pub use time::UnixMs;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
