//! What a gateway decided under: the bucket, the actor and the class, checked again where the write is
//! decided. Whether the actor may do it is the gateway's judgement, made under the versions checked here.

use crate::command::{Actor, BucketRef};
use crate::fat;
use crate::namespace::keys;
use crate::namespace::rows::{ANONYMOUS_USER, BucketRow, ROOT_USER, UserRow};
use crate::rejection::Rejection;
use crate::step::{ReadRows, Stop};
use crate::store::{Column, Read};

/// The bucket, whose settings must be those the gateway knew.
///
/// # Errors
/// `NoSuchBucket`, `StaleSettings`.
pub fn check_bucket(rows: &impl Read, named: BucketRef) -> Result<BucketRow, Stop> {
    let row: BucketRow = rows
        .row(Column::Buckets, &keys::bucket(named.bucket))?
        .ok_or(Rejection::NoSuchBucket)?;
    if row.settings_version == named.settings_version {
        Ok(row)
    } else {
        Err(Rejection::StaleSettings.into())
    }
}

/// The actor must be there as the gateway knew it. The root user and anonymous callers have no row and no settings.
///
/// # Errors
/// `StaleSettings`.
pub fn check_actor(rows: &impl Read, actor: Actor) -> Result<(), Stop> {
    if matches!(actor.user, ROOT_USER | ANONYMOUS_USER) {
        return Ok(());
    }
    let row: Option<UserRow> = rows.row(Column::Users, &keys::user(actor.user))?;
    match row {
        Some(row) if row.settings_version == actor.settings_version => Ok(()),
        _ => Err(Rejection::StaleSettings.into()),
    }
}

/// The class must exist.
///
/// # Errors
/// `NoSuchClass`.
pub fn check_class(rows: &impl Read, name: &str) -> Result<(), Stop> {
    match rows.get(Column::Classes, &fat::keys::class(name))? {
        Some(_) => Ok(()),
        None => Err(Rejection::NoSuchClass(name.to_owned()).into()),
    }
}
