//! Users and access keys.

use crate::command::Reply;
use crate::fat::cluster;
use crate::ids::UserId;
use crate::limits::USER_POLICY_BYTES_MAX;
use crate::namespace::rows::{AccessKeyRow, UserPolicy, UserRow, WrappedKey};
use crate::namespace::{bounds, keys};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Read, StoreError};
use bytes::Bytes;

/// Makes a user with its first access key.
///
/// # Errors
/// `UserExists` for a name or an access key that is taken, `Invalid`.
pub fn create<R: Read>(
    step: &mut Step<'_, R>,
    name: &str,
    policy: &UserPolicy,
    access_key: &str,
    sealed_secret: &WrappedKey,
) -> Result<Reply, Stop> {
    bounds::check_name("user name", name)?;
    bounds::check_name("access key", access_key)?;
    bounds::check_wrapped_key(sealed_secret)?;
    check_policy(policy)?;
    if step.get(Column::Users, &keys::user_by_name(name))?.is_some() {
        return Err(Rejection::UserExists(name.to_owned()).into());
    }
    if step.get(Column::Users, &keys::access_key(access_key))?.is_some() {
        return Err(Rejection::UserExists(access_key.to_owned()).into());
    }
    let user = UserId(cluster::mint(step, |counters| &mut counters.user)?);
    let row = UserRow {
        user,
        name: name.to_owned(),
        policy: policy.clone(),
        settings_version: cluster::next_settings_version(step, 0)?,
    };
    let key_row = AccessKeyRow {
        user,
        sealed_secret: sealed_secret.clone(),
    };
    step.put(Column::Users, keys::user(user), &row);
    let id = Bytes::copy_from_slice(&user.0.to_be_bytes());
    step.put_bytes(Column::Users, keys::user_by_name(name), id);
    step.put(Column::Users, keys::access_key(access_key), &key_row);
    Ok(Reply::User(user))
}

/// Changes what a user may do. What it may do already changes nothing.
///
/// # Errors
/// `NoSuchUser`, `Invalid`.
pub fn set_policy<R: Read>(step: &mut Step<'_, R>, user: UserId, policy: &UserPolicy) -> Result<Reply, Stop> {
    check_policy(policy)?;
    let key = keys::user(user);
    let mut row: UserRow = step.row(Column::Users, &key)?.ok_or(Rejection::NoSuchUser)?;
    if row.policy != *policy {
        row.policy = policy.clone();
        row.settings_version = cluster::next_settings_version(step, row.settings_version)?;
        step.put(Column::Users, key, &row);
    }
    Ok(Reply::Done)
}

/// What a policy says is the gateway's judgement; its length is not.
fn check_policy(policy: &UserPolicy) -> Result<(), Rejection> {
    match policy {
        UserPolicy::Document(text) if !(1..=USER_POLICY_BYTES_MAX).contains(&text.len()) => Err(
            Rejection::Invalid(format!("a user's policy of {} bytes", text.len())),
        ),
        _ => Ok(()),
    }
}

/// Deletes an access key. Its user stays; gateways that decided under the key are told by the version of the
/// user's settings.
///
/// # Errors
/// `NoSuchAccessKey`.
pub fn delete_access_key<R: Read>(step: &mut Step<'_, R>, access_key: &str) -> Result<Reply, Stop> {
    let key = keys::access_key(access_key);
    let row: AccessKeyRow = step.row(Column::Users, &key)?.ok_or(Rejection::NoSuchAccessKey)?;
    let mut user = by_id(step, row.user)?;
    user.settings_version = cluster::next_settings_version(step, user.settings_version)?;
    step.delete(Column::Users, key);
    step.put(Column::Users, keys::user(row.user), &user);
    Ok(Reply::Done)
}

/// A user that an access key names.
///
/// # Errors
/// When the store fails or there is no such user.
pub(crate) fn by_id(rows: &impl Read, user: UserId) -> Result<UserRow, StoreError> {
    rows.row(Column::Users, &keys::user(user))?
        .ok_or_else(|| StoreError::Inconsistent(format!("an access key names {user}, who is not there")))
}
