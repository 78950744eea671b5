//! Amazon's evaluation order ("Policy evaluation logic", one account): an explicit deny anywhere wins, else an allow
//! anywhere, else no.

use super::action::Action;
use super::document::{Effect, Policy};
use super::key::Facts;
use super::principal::Principal;

/// One action that somebody asks to do.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who.
    pub principal: &'a Principal<'a>,
    /// What.
    pub action: Action,
    /// With what: `bucket`, `bucket/key`, or nothing for the service.
    pub resource: &'a str,
    /// What else is known of the request.
    pub facts: &'a dyn Facts,
}

/// All that may grant or deny.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policies<'a> {
    /// Of the user.
    pub user: Option<&'a Policy>,
    /// Of the bucket.
    pub bucket: Option<&'a Policy>,
    /// Whether the bucket's policy grants nothing, though it may deny.
    pub restricted: bool,
    /// Whether an access control list grants it.
    pub acl: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A statement denies it, whatever grants it.
    Denied,
    /// Something grants it.
    Allowed,
    /// Nothing grants it, which is a no.
    NotAllowed,
    /// A statement that may decide it asks for what is not known yet ([`Fact::Unknown`](super::Fact::Unknown)).
    Open,
}

/// Judges. The root user may do everything, so that it can repair a policy that shuts everybody out.
pub fn evaluate(ask: &Ask<'_>, policies: Policies<'_>) -> Decision {
    if matches!(ask.principal, Principal::Root { .. }) {
        return Decision::Allowed;
    }
    let (mut allowed, mut may_deny, mut may_allow) = (policies.acl, false, false);
    let both = [(policies.user, false), (policies.bucket, policies.restricted)];
    let statements = both.into_iter().flat_map(|(policy, restricted)| {
        let statements = policy.into_iter().flat_map(|policy| &policy.statements);
        statements.map(move |statement| (statement, restricted))
    });
    for (statement, restricted) in statements {
        if (allowed || restricted) && statement.effect == Effect::Allow {
            continue;
        }
        match (statement.is_about(ask), statement.effect) {
            (Some(false), _) => {}
            (Some(true), Effect::Deny) => return Decision::Denied,
            (Some(true), Effect::Allow) => allowed = true,
            (None, Effect::Deny) => may_deny = true,
            (None, Effect::Allow) => may_allow = true,
        }
    }
    match allowed {
        // What grants nothing here may still be granted by an object's list.
        _ if may_deny => Decision::Open,
        true => Decision::Allowed,
        false if may_allow => Decision::Open,
        false => Decision::NotAllowed,
    }
}
