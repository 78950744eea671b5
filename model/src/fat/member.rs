//! The metadata nodes as they tell of themselves: where they are reached, what their grants are signed with,
//! which behaviour of `decide` they know. Who is a member is Raft's matter; here lies what others must know.

use crate::cluster_time::ClusterTime;
use crate::command::Reply;
use crate::fat::cluster::{self, FORMAT_LEVEL};
use crate::fat::rows::{ClusterRow, MemberRow};
use crate::fat::{keys, query};
use crate::limits::{GRANT_MS, MEMBERS_MAX};
use crate::rejection::Rejection;
use crate::step::{Step, Stop};
use crate::store::{Column, Read, StoreError};
use crate::wire::chunk::PublicKey;
use bytes::Bytes;

/// Takes over what a node says of itself; one that had left is back.
///
/// # Errors
/// Refused when a value is out of bounds, there are too many nodes, the node's release is too old for the
/// cluster, or before the cluster is initialised.
pub fn set<R: Read>(
    step: &mut Step<'_, R>,
    node: u64,
    address: &str,
    issuer: PublicKey,
    format_level: u32,
) -> Result<Reply, Stop> {
    cluster::check_text("a metadata node's address", address)?;
    let level = row(step)?.format_level;
    if format_level < level {
        let old =
            format!("node {node:016x} knows format levels up to {format_level}, the cluster is at {level}");
        return Err(Rejection::Invalid(old).into());
    }
    if query::member(step, node)?.is_none() && query::members(step)?.len() >= MEMBERS_MAX {
        return Err(Rejection::Invalid(format!("more than {MEMBERS_MAX} metadata nodes")).into());
    }
    let row = MemberRow {
        node,
        address: address.to_owned(),
        issuer,
        format_level,
        left: None,
    };
    step.put(Column::System, keys::member(node), &row);
    Ok(Reply::Done)
}

/// Notes that a node has left. Its row, and with it its key, stays until its last grant has run out.
///
/// # Errors
/// When the store fails.
pub fn remove<R: Read>(step: &mut Step<'_, R>, node: u64) -> Result<Reply, Stop> {
    if let Some(row) = query::member(step, node)?.filter(|row| row.left.is_none()) {
        let left = Some(step.at.cluster_time);
        step.put(Column::System, keys::member(node), &MemberRow { left, ..row });
    }
    Ok(Reply::Done)
}

/// Raises the level of `decide`'s behaviour.
///
/// # Errors
/// Refused when a node that has not left does not know it, none is known, or it would fall. An error of the
/// store, which stops this replica, when its own release does not know a level that all members are said to
/// know: it could not decide as they do.
pub fn raise_format<R: Read>(step: &mut Step<'_, R>, to: u32) -> Result<Reply, Stop> {
    let cluster = row(step)?;
    if to < cluster.format_level {
        return Err(Rejection::Invalid(format!("the format level is {}", cluster.format_level)).into());
    }
    let members = query::members(step)?;
    let staying = || members.iter().filter(|row| row.left.is_none());
    if staying().next().is_none() || staying().any(|row| row.format_level < to) {
        return Err(Rejection::Invalid(format!("not every member knows format level {to}")).into());
    }
    if to > FORMAT_LEVEL {
        let newer = format!("format level {to}: this release knows levels up to {FORMAT_LEVEL}");
        return Err(StoreError::Inconsistent(newer).into());
    }
    let raised = ClusterRow {
        format_level: to,
        ..cluster
    };
    step.put(Column::System, Bytes::from_static(keys::CLUSTER), &raised);
    Ok(Reply::Done)
}

/// Refuses to decide on rows whose format level this release does not know: it came with a snapshot, or with a
/// data directory that a newer release has used.
pub(crate) fn check_known(rows: &impl Read) -> Result<(), StoreError> {
    match query::cluster(rows)? {
        Some(row) if row.format_level > FORMAT_LEVEL => Err(StoreError::Inconsistent(format!(
            "the cluster is at format level {}: this release knows levels up to {FORMAT_LEVEL}",
            row.format_level
        ))),
        _ => Ok(()),
    }
}

/// Forgets nodes that left so long before `now` that none of their grants is good.
pub(crate) fn forget_left<R: Read>(step: &mut Step<'_, R>, now: ClusterTime) -> Result<(), Stop> {
    // A grant may have been dated by a tick that was applied after the node's leaving was.
    let past = |row: &MemberRow| row.left.is_some_and(|left| now.since(left) > 2 * GRANT_MS);
    for row in query::members(step)?.into_iter().filter(past) {
        step.delete(Column::System, keys::member(row.node));
    }
    Ok(())
}

fn row(rows: &impl Read) -> Result<ClusterRow, Stop> {
    query::cluster(rows)?.ok_or_else(|| Rejection::Cluster("not initialised yet".to_owned()).into())
}
