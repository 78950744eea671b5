//! The policy language of IAM and S3: documents in, decisions out. Pure: no storage, no sockets, and no clock but
//! the time that comes with the facts of a request. Which action an operation is, and which resource it acts on, is
//! said by [`crate::ops`]; nothing here knows operations, only actions, resources, principals and facts.
//!
//! - [`Policy::parse`] reads a document, and refuses whatever it does not know: a policy is kept whole or not at all.
//! - [`evaluate()`] judges one action under a caller's policy, a bucket's policy and what an access control list
//!   grants, in Amazon's order: an explicit deny anywhere wins, else an allow anywhere, else no.
//!
//! The language is that of Amazon's "IAM JSON policy reference" and of "Actions, resources, and condition keys for
//! Amazon S3".

mod action;
mod condition;
mod document;
mod evaluate;
mod json;
mod key;
mod pattern;
mod principal;
mod public;
mod value;

pub use action::Action;
pub use document::{Policy, PolicyKind};
pub use evaluate::{Ask, Decision, Policies, evaluate};
pub use key::{ConditionKey, Fact, Facts};
pub use principal::{ACCOUNT, Principal};

use thiserror::Error;

/// Most bytes of a bucket's policy (Amazon S3: 20 KiB).
pub const BUCKET_POLICY_BYTES_MAX: usize = 20 * 1024;
/// Most bytes of a user's policy (IAM: 2 to 10 KiB, by kind of identity).
pub const USER_POLICY_BYTES_MAX: usize = ullage_model::limits::USER_POLICY_BYTES_MAX;
/// Most statements of a policy.
pub const STATEMENTS_MAX: usize = 256;

/// Why a document is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl PolicyError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

type Result<T> = std::result::Result<T, PolicyError>;

#[cfg(test)]
mod object_tag_tests;
#[cfg(test)]
mod tests;
