//! Sessions: the gateways as the FAT knows them.

use super::{count, select};
use crate::fat::rows::{SessionRow, SessionState};
use crate::ids::SessionId;
use crate::step::ReadRows;
use crate::store::{Column, KeyRange, Read, StoreError};

/// The session's row.
///
/// # Errors
/// When the store fails.
pub fn session(rows: &impl Read, session: SessionId) -> Result<Option<SessionRow>, StoreError> {
    rows.row(Column::Sessions, &session.0.to_be_bytes())
}

/// All sessions that have rows, live and ended.
///
/// # Errors
/// When the store fails.
pub fn sessions(rows: &impl Read) -> Result<Vec<SessionRow>, StoreError> {
    select(
        rows,
        Column::Sessions,
        &KeyRange::all(),
        usize::MAX,
        |_: &SessionRow| true,
    )
}

/// Whether there are at least so many sessions, live and ended.
///
/// # Errors
/// When the store fails.
pub fn has_sessions(rows: &impl Read, number: usize) -> Result<bool, StoreError> {
    let number = number as u64;
    Ok(count(rows, Column::Sessions, &KeyRange::all(), number)? >= number)
}

/// Number of live sessions, that is of gateways.
///
/// # Errors
/// When the store fails.
pub fn live_sessions(rows: &impl Read) -> Result<u64, StoreError> {
    let live = |row: &&SessionRow| row.state == SessionState::Live;
    Ok(sessions(rows)?.iter().filter(live).map(|_| 1).sum())
}

/// The log index that every live session's reads have passed, as far as the FAT knows (a leader knows more):
/// copies released below it have no reader. `u64::MAX` without live sessions.
///
/// # Errors
/// When the store fails.
pub fn safe_erase_index(rows: &impl Read) -> Result<u64, StoreError> {
    let live = |row: &SessionRow| row.state == SessionState::Live;
    let observed = sessions(rows)?
        .into_iter()
        .filter(live)
        .map(|row| row.observed_index);
    Ok(observed.min().unwrap_or(u64::MAX))
}
