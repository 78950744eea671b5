//! How a vendor comes into the cluster: an operator's invitation, used up by the registration that it lets in.

use crate::cluster_time::ClusterTime;
use crate::command::Reply;
use crate::fat::rows::InviteRow;
use crate::fat::{cluster, keys, query, vendor};
use crate::ids::Digest;
use crate::limits::{INVITES_MAX, ROWS_PER_TICK};
use crate::rejection::Rejection;
use crate::step::{Step, Stop};
use crate::store::{Column, Read};
use crate::wire::agent::RegisterRequest;
use crate::wire::enrol::INVITE_MS_MAX;

/// Notes an invitation by the digest of its secret.
///
/// # Errors
/// Refused when its life is none or too long, it is there already, there are too many, or before the cluster is
/// initialised.
pub fn invite<R: Read>(step: &mut Step<'_, R>, secret: &Digest, life_ms: u64) -> Result<Reply, Stop> {
    cluster::epoch(step)?;
    if !(1..=INVITE_MS_MAX).contains(&life_ms) {
        return Err(Rejection::Invalid(format!("an invitation for {life_ms} ms")).into());
    }
    if query::invite(step, secret)?.is_some() {
        return Err(Rejection::Invalid("an invitation that is there already".to_owned()).into());
    }
    if query::invites(step, |_| true, INVITES_MAX)?.len() >= INVITES_MAX {
        return Err(Rejection::Invalid(format!("more than {INVITES_MAX} invitations")).into());
    }
    let row = InviteRow {
        expires: step.at.cluster_time.plus(life_ms),
    };
    step.put(Column::System, keys::invite(secret), &row);
    Ok(Reply::Done)
}

/// Registers a vendor that shows an invitation, which goes with it; one whose key is registered already needs
/// none, and uses none up.
///
/// # Errors
/// Refused without an invitation that is good still, when the vendor is revoked, and as [`vendor::register`].
pub fn enrol<R: Read>(
    step: &mut Step<'_, R>,
    request: &RegisterRequest,
    secret: Option<&Digest>,
) -> Result<Reply, Stop> {
    if query::vendor_by_key(step, &request.public_key)?.is_none() {
        let secret = secret.ok_or(Rejection::NotInvited)?;
        let good = |row: &InviteRow| row.expires > step.at.cluster_time;
        query::invite(step, secret)?
            .filter(good)
            .ok_or(Rejection::NotInvited)?;
        step.delete(Column::System, keys::invite(secret));
    }
    vendor::register(step, request)
}

/// Forgets invitations that have expired at `now`, a bounded number.
pub(crate) fn forget_expired<R: Read>(step: &mut Step<'_, R>, now: ClusterTime) -> Result<(), Stop> {
    for (key, _) in query::invites(step, |row| row.expires <= now, ROWS_PER_TICK)? {
        step.delete(Column::System, key);
    }
    Ok(())
}
