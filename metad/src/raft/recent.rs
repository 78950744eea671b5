//! Rows of the large columns that were written lately, in memory, written through: what is written again soon, such
//! as an object under a key that was just stored, is decided without a search in the database.
//!
//! Rows enter by being written only, in two generations: when the younger one has half of the bytes, the older one is
//! forgotten and the younger one takes its place. A row is here as the database has it, or not at all.

use bytes::Bytes;
use std::collections::{HashMap, hash_map};
use std::mem;
use ullage_model::store::{Change, Column};

/// Bytes of a row above which it is not kept.
const ROW_BYTES_MAX: usize = 4 * 1024;
/// Bytes that a row takes beside its key and value, about: the handles of both in a table that is partly empty, and
/// what the allocator rounds up.
const ROW_OVERHEAD_BYTES: usize = 160;

/// Rows of a forgotten generation that are given back with each row that is written: all at once would hold up what is
/// being applied. They are gone when the younger generation has half of what it may have.
const GIVEN_BACK_AT_ONCE: usize = 2;

/// The columns of which rows are kept: those that commands ask by key for rows that are there as a rule.
const KEPT: [Column; 2] = [Column::Live, Column::Versions];

/// Rows that were written after others, by their column's place among [`KEPT`].
#[derive(Debug, Default)]
struct Generation {
    rows: [HashMap<Bytes, Bytes>; KEPT.len()],
    bytes: usize,
}

impl Generation {
    /// An empty one that will be like `like`.
    fn as_large_as(like: &Self) -> Self {
        let table = |rows: &HashMap<Bytes, Bytes>| HashMap::with_capacity(rows.len());
        Self {
            rows: like.rows.each_ref().map(table),
            bytes: 0,
        }
    }

    fn insert(&mut self, column: usize, key: Bytes, value: Bytes) {
        self.bytes += taken(&key, &value);
        let (key_bytes, replaced) = (key.len(), self.rows[column].insert(key, value));
        if let Some(replaced) = replaced {
            self.bytes -= key_bytes + replaced.len() + ROW_OVERHEAD_BYTES;
        }
    }

    fn remove(&mut self, column: usize, key: &Bytes) {
        if let Some(removed) = self.rows[column].remove(key) {
            self.bytes -= taken(key, &removed);
        }
    }
}

fn taken(key: &Bytes, value: &Bytes) -> usize {
    key.len() + value.len() + ROW_OVERHEAD_BYTES
}

fn place(column: Column) -> Option<usize> {
    KEPT.iter().position(|kept| *kept == column)
}

/// Rows that were written lately.
#[derive(Debug, Default)]
pub(super) struct RecentRows {
    young: Generation,
    old: Generation,
    /// What is left of those forgotten.
    forgotten: Vec<hash_map::IntoIter<Bytes, Bytes>>,
    bytes_max: usize,
}

impl RecentRows {
    /// None yet, and never more than `bytes_max` bytes of them; about.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            ..Self::default()
        }
    }

    /// The row at `key`, if it is here. If not, the database knows.
    pub(super) fn get(&self, column: Column, key: &[u8]) -> Option<Bytes> {
        let place = place(column)?;
        let found = self.young.rows[place].get(key);
        found.or_else(|| self.old.rows[place].get(key)).cloned()
    }

    /// Follows one change of the database.
    pub(super) fn follow(&mut self, change: Change) {
        let Some(place) = place(change.column).filter(|_| self.bytes_max > 0) else {
            return;
        };
        self.give_back();
        let row = change.value.filter(|row| row.len() <= ROW_BYTES_MAX);
        let Some(row) = row else {
            self.young.remove(place, &change.key);
            self.old.remove(place, &change.key);
            return;
        };
        // One in the older generation is hidden from now on. Values were encoded with room to spare.
        self.young.insert(place, change.key, Bytes::copy_from_slice(&row));
        if self.young.bytes > self.bytes_max / 2 {
            let next = Generation::as_large_as(&self.young);
            let forgotten = mem::replace(&mut self.old, mem::replace(&mut self.young, next));
            self.forgotten = forgotten.rows.into_iter().map(HashMap::into_iter).collect();
        }
    }

    fn give_back(&mut self) {
        for _ in 0..GIVEN_BACK_AT_ONCE {
            while let Some(rows) = self.forgotten.last_mut() {
                if rows.next().is_some() {
                    break;
                }
                self.forgotten.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ROW_BYTES_MAX, RecentRows};
    use bytes::Bytes;
    use ullage_model::store::{Change, Column, Memory, Read};

    const BYTES_MAX: usize = 64 * 1024;

    /// Steps through numbers in an order of their own.
    fn next(state: &mut u64) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(*state >> 33).unwrap()
    }

    #[test]
    fn what_is_here_is_what_was_written_last() {
        let (mut recent, mut all) = (RecentRows::new(BYTES_MAX), Memory::default());
        let (mut state, mut found) = (1, 0);
        for step in 0..50_000_usize {
            let column = [Column::Live, Column::Versions, Column::Inline][next(&mut state) % 3];
            let key = |number: usize| Bytes::from(format!("key {}", number % 400));
            let value = match next(&mut state) % 8 {
                0 => None,
                1 => Some(vec![7; ROW_BYTES_MAX + next(&mut state) % 2]),
                _ => Some(format!("row {step}").into_bytes()),
            };
            let (key, value) = (key(next(&mut state)), value.map(Bytes::from));
            let change = Change { column, key, value };
            all.apply([change.clone()]);
            let kept = change
                .value
                .as_ref()
                .is_some_and(|row| row.len() <= ROW_BYTES_MAX);
            recent.follow(change.clone());
            assert!(recent.young.bytes + recent.old.bytes <= BYTES_MAX + 2 * ROW_BYTES_MAX);
            let (column, key) = (change.column, change.key);
            if column != Column::Inline {
                assert_eq!(recent.get(column, &key).is_some(), kept, "step {step}");
            }
            let asked = Bytes::from(format!("key {}", next(&mut state) % 400));
            if let Some(row) = recent.get(column, &asked) {
                found += 1;
                assert_eq!(Some(row), all.get(column, &asked).unwrap(), "step {step}");
            }
        }
        assert!(found > 1000, "{found} rows were found");
    }
}
