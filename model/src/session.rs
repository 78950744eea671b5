//! Sessions: the replicated identity of gateways, their sequence windows and stored outcomes. A command of a
//! session is decided at most once; whoever asks again gets the stored answer.

use crate::cluster_time::ClusterTime;
use crate::codec::versioned;
use crate::command::Reply;
use crate::fat::rows::{SessionRow, SessionState};
use crate::fat::{close, cluster, keys, query};
use crate::ids::SessionId;
use crate::limits::{
    OUTCOME_KEPT_MS, OUTCOMES_PER_RENEWAL, ROWS_PER_TICK, SESSION_MS, SESSION_WINDOW, SESSIONS_MAX,
};
use crate::namespace;
use crate::rejection::Rejection;
use crate::step::{ReadRows, Step, Stop};
use crate::store::{Column, Direction, KeyRange, Read, StoreError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::{Bound, ControlFlow};

/// Leases that one abandon step closes.
const LEASES_PER_STEP: usize = 256;
/// Building blobs that one abandon step gives up.
const BLOBS_PER_STEP: usize = 256;

/// What became of one sequence of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeRow {
    /// Decided, with this answer; a refusal is one.
    Done(Reply),
    /// Never decided, and never will be.
    Abandoned,
}

versioned!(OutcomeRow);

/// Opens a session. Those that the same instance had, which was another process, end; instance 0 names no
/// process.
///
/// # Errors
/// Refused when there are too many sessions, or before the cluster is initialised.
pub fn open<R: Read>(step: &mut Step<'_, R>, gateway: &str, instance: u64) -> Result<Reply, Stop> {
    cluster::check_text("a gateway's name", gateway)?;
    if query::has_sessions(step, SESSIONS_MAX)? {
        return Err(Rejection::Invalid(format!("more than {SESSIONS_MAX} sessions")).into());
    }
    if instance != 0 {
        for row in query::sessions(step)? {
            if row.instance == instance {
                set_ended(step, row);
            }
        }
    }
    let session = SessionId(cluster::mint(step, |counters| &mut counters.session)?);
    let row = SessionRow {
        session,
        gateway: gateway.to_owned(),
        instance,
        state: SessionState::Live,
        renewed: step.at.cluster_time,
        window_start: 0,
        forgotten_below: 0,
        observed_index: step.at.index,
    };
    put(step, &row);
    Ok(Reply::Session(session))
}

/// Takes a session's sign of life, moves its window, and forgets a bounded number of acknowledged outcomes.
///
/// # Errors
/// Refused when the session does not live.
pub fn renew<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    acknowledged_below: u64,
    observed_index: u64,
) -> Result<Reply, Stop> {
    let mut row = live(step, session)?;
    row.renewed = row.renewed.max(step.at.cluster_time);
    row.window_start = row.window_start.max(acknowledged_below);
    // Nobody has seen more than has been decided.
    row.observed_index = row.observed_index.max(observed_index.min(step.at.index));
    let forgotten = Bound::Included(keys::outcome(session, row.forgotten_below));
    let window = Bound::Excluded(keys::outcome(session, row.window_start));
    let range = KeyRange {
        start: forgotten,
        end: window,
    };
    row.forgotten_below = match forget_outcomes(step, &range, OUTCOMES_PER_RENEWAL)? {
        Some(last) => last + 1,
        None => row.window_start,
    };
    put(step, &row);
    Ok(Reply::Done)
}

/// Ends a session: from now on its commands are refused. Ending one twice is no matter.
///
/// # Errors
/// Refused when there is no such session.
pub fn end<R: Read>(step: &mut Step<'_, R>, session: SessionId) -> Result<Reply, Stop> {
    let row = query::session(step, session)?.ok_or(Rejection::SessionGone)?;
    set_ended(step, row);
    Ok(Reply::Done)
}

/// One bounded step of what follows a session's end: its building blobs are released, its leases closed.
///
/// # Errors
/// Refused while the session lives.
pub fn abandon_step<R: Read>(step: &mut Step<'_, R>, session: SessionId) -> Result<Reply, Stop> {
    if is_live(step, session)? {
        return Err(Rejection::Invalid(format!("{session} lives")).into());
    }
    let blobs = namespace::blob::building_of_session(step, session, BLOBS_PER_STEP)?;
    let more_blobs = blobs.len() == BLOBS_PER_STEP;
    for blob in blobs {
        namespace::blob::abandon(step, session, blob)?;
    }
    let more_leases = close::close_of_session(step, session, LEASES_PER_STEP)?;
    Ok(Reply::Progress {
        more: more_blobs || more_leases,
    })
}

/// Decides a command of a session at most once: a sequence that was decided answers what it answered then,
/// whether the session still lives or not. Refusals are outcomes like any other; their changes are dropped.
///
/// # Errors
/// Refused, without an outcome, when the session does not live or the sequence is outside its window.
pub fn decide_once<R: Read>(
    step: &mut Step<'_, R>,
    session: SessionId,
    sequence: u64,
    inner: impl FnOnce(&mut Step<'_, R>) -> Result<Reply, Stop>,
) -> Result<Reply, Stop> {
    let Some(row) = query::session(step, session)? else {
        return Err(Rejection::SessionGone.into());
    };
    if sequence < row.window_start {
        return Err(Rejection::SequenceForgotten(sequence).into());
    }
    match outcome(step, session, sequence)? {
        Some(OutcomeRow::Done(reply)) => return Ok(reply),
        Some(OutcomeRow::Abandoned) => return Err(Rejection::SequenceAbandoned(sequence).into()),
        None => {}
    }
    check_takes(&row, sequence)?;
    let reply = match inner(step) {
        Ok(reply) => reply,
        Err(Stop::Rejected(rejection)) => {
            step.discard();
            Reply::Refused(rejection)
        }
        Err(Stop::Store(error)) => return Err(error.into()),
    };
    store(step, &row, sequence, &OutcomeRow::Done(reply.clone()));
    Ok(reply)
}

/// What became of (session, sequence)? Answers the stored outcome, or sees to it that the sequence is never
/// decided: it is recorded abandoned, which an ended session does not need.
///
/// # Errors
/// Refused when the session or the outcome is forgotten, or the sequence lies beyond the window.
pub fn resolve<R: Read>(step: &mut Step<'_, R>, session: SessionId, sequence: u64) -> Result<Reply, Stop> {
    let row = query::session(step, session)?.ok_or(Rejection::SessionGone)?;
    if sequence < row.window_start {
        return Err(Rejection::SequenceForgotten(sequence).into());
    }
    match outcome(step, session, sequence)? {
        Some(OutcomeRow::Done(reply)) => return Ok(reply),
        Some(OutcomeRow::Abandoned) => return Ok(Reply::Abandoned),
        None => {}
    }
    if row.state == SessionState::Live {
        check_takes(&row, sequence)?;
        store(step, &row, sequence, &OutcomeRow::Abandoned);
    }
    Ok(Reply::Abandoned)
}

/// What was decided of a sequence; `None` if nothing was, or it is abandoned or forgotten.
///
/// # Errors
/// When the store fails.
pub fn decided(rows: &impl Read, session: SessionId, sequence: u64) -> Result<Option<Reply>, StoreError> {
    Ok(match outcome(rows, session, sequence)? {
        Some(OutcomeRow::Done(reply)) => Some(reply),
        Some(OutcomeRow::Abandoned) | None => None,
    })
}

/// Whether the session is there and has not ended.
///
/// # Errors
/// When the store fails.
pub fn is_live(rows: &impl Read, session: SessionId) -> Result<bool, StoreError> {
    Ok(query::session(rows, session)?.is_some_and(|row| row.state == SessionState::Live))
}

/// Ends sessions that were silent for longer than `SESSION_MS` at `now`, a bounded number.
pub(crate) fn end_silent<R: Read>(step: &mut Step<'_, R>, now: ClusterTime) -> Result<(), Stop> {
    let silent = |row: &SessionRow| row.state == SessionState::Live && now.since(row.renewed) > SESSION_MS;
    let rows = query::sessions(step)?;
    for mut row in rows.into_iter().filter(silent).take(ROWS_PER_TICK) {
        row.state = SessionState::Ended { at: now };
        put(step, &row);
    }
    Ok(())
}

/// Forgets sessions that ended longer than `OUTCOME_KEPT_MS` before `now`, outcomes first, in bounded steps.
/// One that still has building blobs or open leases is kept until they are abandoned.
pub(crate) fn forget_ended<R: Read>(step: &mut Step<'_, R>, now: ClusterTime) -> Result<(), Stop> {
    let past = |row: &SessionRow| match row.state {
        SessionState::Live => false,
        SessionState::Ended { at } => now.since(at) > OUTCOME_KEPT_MS,
    };
    let mut budget = ROWS_PER_TICK;
    for row in query::sessions(step)?.into_iter().filter(past) {
        if budget < 2 {
            break;
        }
        budget -= 1;
        if has_work(step, row.session)? {
            continue;
        }
        let range = KeyRange::prefix(&keys::session(row.session));
        let before = step.changed_rows();
        let left = forget_outcomes(step, &range, budget)?;
        budget = budget.saturating_sub(step.changed_rows() - before);
        if left.is_none() {
            step.delete(Column::Sessions, keys::session(row.session));
        }
    }
    Ok(())
}

/// Whether an ended session has building blobs or open leases left to abandon.
///
/// # Errors
/// When the store fails.
pub fn has_work(rows: &impl Read, session: SessionId) -> Result<bool, StoreError> {
    let leases = query::open_leases(rows, |row| row.session == session, 1)?;
    Ok(!leases.is_empty() || !namespace::blob::building_of_session(rows, session, 1)?.is_empty())
}

/// Deletes up to `limit` outcomes of `range`; answers the last sequence deleted if there may be more.
fn forget_outcomes<R: Read>(
    step: &mut Step<'_, R>,
    range: &KeyRange,
    limit: usize,
) -> Result<Option<u64>, StoreError> {
    let mut found = Vec::new();
    if limit > 0 && !range.is_empty() {
        step.scan(Column::Outcomes, range, Direction::Forward, &mut |key, _| {
            found.push(Bytes::copy_from_slice(key));
            if found.len() == limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
    }
    let last = found.last().filter(|_| found.len() == limit).cloned();
    for key in found {
        step.delete(Column::Outcomes, key);
    }
    let not_a_key = || StoreError::Inconsistent("an outcome's key is not one".to_owned());
    last.map(|key| {
        keys::tail::<8>(&key)
            .map(u64::from_be_bytes)
            .ok_or_else(not_a_key)
    })
    .transpose()
}

fn live(rows: &impl Read, session: SessionId) -> Result<SessionRow, Stop> {
    query::session(rows, session)?
        .filter(|row| row.state == SessionState::Live)
        .ok_or_else(|| Rejection::SessionGone.into())
}

/// Refuses a sequence that has no outcome yet if none may be made for it.
fn check_takes(row: &SessionRow, sequence: u64) -> Result<(), Rejection> {
    if row.state != SessionState::Live {
        return Err(Rejection::SessionGone);
    }
    if sequence - row.window_start >= SESSION_WINDOW {
        return Err(Rejection::WindowFull);
    }
    Ok(())
}

fn outcome(rows: &impl Read, session: SessionId, sequence: u64) -> Result<Option<OutcomeRow>, StoreError> {
    rows.row(Column::Outcomes, &keys::outcome(session, sequence))
}

/// Stores an outcome, and forgets the one a whole window earlier if renewals have not come to it yet: however
/// fast a session goes, it has no more than a window of outcomes.
fn store<R: Read>(step: &mut Step<'_, R>, row: &SessionRow, sequence: u64, outcome: &OutcomeRow) {
    step.put(Column::Outcomes, keys::outcome(row.session, sequence), outcome);
    if let Some(past) = sequence.checked_sub(SESSION_WINDOW)
        && past >= row.forgotten_below
    {
        step.delete(Column::Outcomes, keys::outcome(row.session, past));
    }
}

fn set_ended<R: Read>(step: &mut Step<'_, R>, mut row: SessionRow) {
    if row.state == SessionState::Live {
        row.state = SessionState::Ended {
            at: step.at.cluster_time,
        };
        put(step, &row);
    }
}

fn put<R: Read>(step: &mut Step<'_, R>, row: &SessionRow) {
    step.put(Column::Sessions, keys::session(row.session), row);
}
