//! Whether a bucket's policy lets in the public: what GetBucketPolicyStatus answers.

use super::condition::Condition;
use super::document::{Effect, Policy, Whom};

impl Policy {
    /// True if some statement lets in everybody without a condition that ties it to few (Amazon S3 user guide, "The
    /// meaning of public").
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            let everybody = matches!(&statement.principals, Whom::These(whom) if whom.has_everybody());
            statement.effect == Effect::Allow
                && everybody
                && !statement.conditions.iter().any(Condition::is_restrictive)
        })
    }
}
