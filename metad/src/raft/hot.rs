//! The rows that apply reads from memory, written through: those of the hot columns, which nearly every command reads,
//! all of them, and of the others what was written lately.

use super::recent::RecentRows;
use bytes::Bytes;
use std::ops::ControlFlow;
use ullage_model::store::{Change, Column, Direction, KeyRange, Memory, Read, StoreError, Visit};

/// All rows of the hot columns, and recent ones of the others.
#[derive(Debug, Default)]
pub(super) struct HotRows {
    rows: Memory,
    recent: RecentRows,
}

impl HotRows {
    /// Reads all hot columns of `state`, and will keep `recent_bytes` of the others.
    pub(super) fn load(state: &impl Read, recent_bytes: usize) -> Result<Self, StoreError> {
        let mut rows = Memory::default();
        for column in Column::ALL.into_iter().filter(|column| column.is_hot()) {
            state.scan(column, &KeyRange::all(), Direction::Forward, &mut |key, value| {
                let (key, value) = (Bytes::copy_from_slice(key), Some(Bytes::copy_from_slice(value)));
                rows.apply([Change { column, key, value }]);
                ControlFlow::Continue(())
            })?;
        }
        let recent = RecentRows::new(recent_bytes);
        Ok(Self { rows, recent })
    }

    /// Follows what was written to the database.
    pub(super) fn follow(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            if change.column.is_hot() {
                self.rows.apply([detached(change)]);
            } else {
                self.recent.follow(change);
            }
        }
    }
}

/// A change that owns its bytes, instead of keeping alive whatever they were cut from.
fn detached(change: Change) -> Change {
    let copy = |bytes: Bytes| Bytes::copy_from_slice(&bytes);
    Change {
        column: change.column,
        key: copy(change.key),
        value: change.value.map(copy),
    }
}

/// The state as apply reads it: hot columns from memory, recent rows too, the others from `below`.
pub(super) struct HotRead<'a, R> {
    pub(super) hot: &'a HotRows,
    pub(super) below: &'a R,
}

impl<R: Read> Read for HotRead<'_, R> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if column.is_hot() {
            return self.hot.rows.get(column, key);
        }
        match self.hot.recent.get(column, key) {
            Some(row) => Ok(Some(row)),
            None => self.below.get(column, key),
        }
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if column.is_hot() {
            self.hot.rows.scan(column, range, direction, visit)
        } else {
            self.below.scan(column, range, direction, visit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(column: Column, key: &'static str, value: Option<&'static str>) -> Change {
        Change {
            column,
            key: Bytes::from(key),
            value: value.map(Bytes::from),
        }
    }

    #[test]
    fn hot_rows_follow_and_cold_rows_pass_through_unless_they_were_just_written() {
        let mut below = Memory::default();
        below.apply([
            row(Column::System, "a", Some("1")),
            row(Column::Live, "a", Some("2")),
        ]);
        let mut hot = HotRows::load(&below, 1 << 20).unwrap();
        hot.follow([
            row(Column::System, "a", None),
            row(Column::Live, "a", None),
            row(Column::Live, "b", Some("3")),
        ]);
        let read = HotRead {
            hot: &hot,
            below: &below,
        };
        assert_eq!(read.get(Column::System, b"a").unwrap(), None);
        assert_eq!(read.get(Column::Live, b"a").unwrap(), Some(Bytes::from("2")));
        assert_eq!(read.get(Column::Live, b"b").unwrap(), Some(Bytes::from("3")));
    }
}
