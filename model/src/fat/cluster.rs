//! The cluster's own rows: identity, cluster time, KEK check values, inline settings, id counters. What falls
//! due by time is found here and done by its own module.

use crate::cluster_time::ClusterTime;
use crate::command::Reply;
use crate::fat::rows::{ClassRow, ClusterRow, CountersRow, InlineRow};
use crate::fat::{class, close, invite, keys, member, query};
use crate::ids::{COUNTER_BITS, ClusterId, Epoch, KekId};
use crate::limits::{CLASSES_MAX, INLINE_BYTES_MAX, KEK_VALUE_BYTES_MAX, NAME_BYTES_MAX};
use crate::namespace;
use crate::rejection::Rejection;
use crate::session;
use crate::step::{Step, Stop};
use crate::store::{Column, Read, StoreError};
use bytes::Bytes;

/// Greatest level of `decide`'s behaviour that this release knows; a new cluster starts with it.
pub const FORMAT_LEVEL: u32 = 1;
/// Name of the class every cluster has.
pub const STANDARD: &str = "STANDARD";

/// First command of a cluster: its name, its counters, its first classes.
///
/// # Errors
/// Refused when there is a cluster already, or a class or the inline settings are out of bounds.
pub fn initialise<R: Read>(
    step: &mut Step<'_, R>,
    cluster: ClusterId,
    classes: &[ClassRow],
    inline: &InlineRow,
) -> Result<Reply, Stop> {
    if query::cluster(step)?.is_some() {
        return Err(Rejection::Cluster("initialised already".to_owned()).into());
    }
    if !classes.iter().any(|class| class.name == STANDARD) || classes.len() > CLASSES_MAX {
        return Err(Rejection::Invalid(format!("no class {STANDARD}, or too many classes")).into());
    }
    let row = ClusterRow {
        cluster,
        epoch: Epoch::default(),
        format_level: FORMAT_LEVEL,
    };
    step.put(Column::System, Bytes::from_static(keys::CLUSTER), &row);
    let counters = CountersRow {
        // Number 0 of each kind is nobody: the default of an id names nothing, and user 0 is the root user.
        vendor: 1,
        bucket: 1,
        user: 1,
        session: 1,
        lease: 1,
        manifest: 1,
        upload: 1,
    };
    step.put(Column::System, Bytes::from_static(keys::COUNTERS), &counters);
    put_time(step, ClusterTime::default());
    check_inline(inline)?;
    put_inline(
        step,
        &InlineRow {
            used_bytes: 0,
            ..inline.clone()
        },
    );
    for class in classes {
        class::set(step, class)?;
    }
    Ok(Reply::Done)
}

/// Advances cluster time and does a bounded part of what falls due: leases past their deadline turn closing,
/// silent sessions end, sessions that ended long ago, completed uploads, expired invitations and members that
/// left long ago are forgotten. What is left falls due again at the next tick.
///
/// # Errors
/// Refused before the cluster is initialised.
pub fn tick<R: Read>(step: &mut Step<'_, R>, to: ClusterTime) -> Result<Reply, Stop> {
    epoch(step)?;
    let before = query::cluster_time(step)?;
    let now = before.max(to);
    if now > before {
        put_time(step, now);
    }
    close::close_overdue(step, now)?;
    session::end_silent(step, now)?;
    session::forget_ended(step, now)?;
    namespace::release::forget_completed(step, now)?;
    invite::forget_expired(step, now)?;
    member::forget_left(step, now)?;
    Ok(Reply::Done)
}

/// Registers the check value of a KEK, once; answers the one that is stored.
///
/// # Errors
/// Refused when the value is empty or too long, or before the cluster is initialised.
pub fn check_kek<R: Read>(step: &mut Step<'_, R>, kek: KekId, value: &Bytes) -> Result<Reply, Stop> {
    epoch(step)?;
    let key = keys::kek_check(kek);
    if let Some(stored) = query::kek_value(step, kek)? {
        return Ok(Reply::KekValue(stored));
    }
    if value.is_empty() || value.len() > KEK_VALUE_BYTES_MAX {
        return Err(Rejection::Invalid("a KEK's check value of that length".to_owned()).into());
    }
    step.put_bytes(Column::System, key, value.clone());
    Ok(Reply::KekValue(value.clone()))
}

/// Changes cap and budget of inlining. What is inlined already stays.
///
/// # Errors
/// Refused when the cap is above its bound, or before the cluster is initialised.
pub fn set_inline<R: Read>(step: &mut Step<'_, R>, settings: &InlineRow) -> Result<Reply, Stop> {
    epoch(step)?;
    check_inline(settings)?;
    let used_bytes = query::inline(step)?.used_bytes;
    put_inline(
        step,
        &InlineRow {
            used_bytes,
            ..settings.clone()
        },
    );
    Ok(Reply::Done)
}

/// Mints an id: takes the next number of `counter` and puts the epoch in front. Counters are one small row;
/// the store keeps it in memory and writes it once per batch.
///
/// # Errors
/// Refused before the cluster is initialised.
pub fn mint<R: Read>(step: &mut Step<'_, R>, counter: fn(&mut CountersRow) -> &mut u64) -> Result<u64, Stop> {
    let epoch = epoch(step)?;
    let mut counters = query::counters(step)?
        .ok_or_else(|| StoreError::Inconsistent("a cluster without counters".to_owned()))?;
    let next = counter(&mut counters);
    let id = epoch.id(*next);
    *next += 1;
    step.put(Column::System, Bytes::from_static(keys::COUNTERS), &counters);
    Ok(id)
}

/// The version that settings get when they change: greater than `previous` (0 for new ones), and with the
/// epoch in front, so that a version never comes back after a restore.
///
/// # Errors
/// Refused before the cluster is initialised.
pub fn next_settings_version<R: Read>(step: &Step<'_, R>, previous: u64) -> Result<u64, Stop> {
    let counter = previous & ((1 << COUNTER_BITS) - 1);
    Ok(epoch(step)?.id(counter + 1))
}

/// The epoch in which ids are minted now.
///
/// # Errors
/// Refused before the cluster is initialised.
pub fn epoch(rows: &impl Read) -> Result<Epoch, Stop> {
    match query::cluster(rows)? {
        Some(cluster) => Ok(cluster.epoch),
        None => Err(Rejection::Cluster("not initialised yet".to_owned()).into()),
    }
}

/// Refuses a name or another short text that is longer than names may be.
///
/// # Errors
/// `Rejection::Invalid`, saying `what` it was.
pub fn check_text(what: &str, text: &str) -> Result<(), Rejection> {
    if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(Rejection::Invalid(format!(
            "{what} is too long or has control characters"
        )));
    }
    Ok(())
}

/// As [`check_text`], and refuses the empty text too.
///
/// # Errors
/// `Rejection::Invalid`, saying `what` it was.
pub fn check_name(what: &str, text: &str) -> Result<(), Rejection> {
    if text.is_empty() {
        return Err(Rejection::Invalid(format!("{what} is empty")));
    }
    check_text(what, text)
}

fn check_inline(settings: &InlineRow) -> Result<(), Rejection> {
    if settings.cap_bytes > INLINE_BYTES_MAX {
        return Err(Rejection::Invalid(format!(
            "an inline cap of {} bytes, above {INLINE_BYTES_MAX}",
            settings.cap_bytes
        )));
    }
    Ok(())
}

fn put_inline<R: Read>(step: &mut Step<'_, R>, row: &InlineRow) {
    step.put(Column::System, Bytes::from_static(keys::INLINE), row);
}

fn put_time<R: Read>(step: &mut Step<'_, R>, time: ClusterTime) {
    step.put(Column::System, Bytes::from_static(keys::CLUSTER_TIME), &time);
}
