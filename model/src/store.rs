//! What `decide` reads and what it answers with: columns of sorted byte rows, changes, and an overlay that
//! shows changes over rows. [`Memory`] is the reference store; the RocksDB store in `metad` must behave the
//! same under the same commands.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// A table of the replicated state. Each is a column family in RocksDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Single rows: cluster, settings, counters, cluster time.
    System,
    /// Vendors by id, and their ids by public key and name.
    Vendors,
    /// Room by (vendor, device class).
    Rooms,
    /// Classes by name.
    Classes,
    /// Sessions by id.
    Sessions,
    /// Stored outcomes by (session, sequence).
    Outcomes,
    /// Open and closing leases by id, and their rows by (lease, vendor, device class).
    Leases,
    /// Erase orders by (vendor, release index, copy).
    EraseOrders,
    /// Copies by (vendor, copy): where the chunk row is.
    Copies,
    /// Chunk rows by (blob, index).
    Chunks,
    /// Blobs that have a row of their own: building, or shared.
    Blobs,
    /// Released manifests and blobs by (release index, n), to be drained.
    Releases,
    /// Buckets by id, ids by name, usage by id, number of buckets by creator.
    Buckets,
    /// What LIST returns, by (bucket, key).
    Live,
    /// Versions and delete markers by (bucket, key, newest first), and where a key's `null` version is if it is not
    /// the live one.
    Versions,
    /// Manifests by id and their pages.
    Manifests,
    /// Multipart uploads and their parts.
    Uploads,
    /// Encrypted bytes of inlined blobs, by blob.
    Inline,
    /// Users, and access keys.
    Users,
}

impl Column {
    /// All columns, in the order of their declaration.
    pub const ALL: [Self; 19] = [
        Self::System,
        Self::Vendors,
        Self::Rooms,
        Self::Classes,
        Self::Sessions,
        Self::Outcomes,
        Self::Leases,
        Self::EraseOrders,
        Self::Copies,
        Self::Chunks,
        Self::Blobs,
        Self::Releases,
        Self::Buckets,
        Self::Live,
        Self::Versions,
        Self::Manifests,
        Self::Uploads,
        Self::Inline,
        Self::Users,
    ];

    /// Its place in [`Column::ALL`].
    fn place(self) -> usize {
        self as usize
    }

    /// Its name on disk.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Vendors => "vendors",
            Self::Rooms => "rooms",
            Self::Classes => "classes",
            Self::Sessions => "sessions",
            Self::Outcomes => "outcomes",
            Self::Leases => "leases",
            Self::EraseOrders => "erase_orders",
            Self::Copies => "copies",
            Self::Chunks => "chunks",
            Self::Blobs => "blobs",
            Self::Releases => "releases",
            Self::Buckets => "buckets",
            Self::Live => "live",
            Self::Versions => "versions",
            Self::Manifests => "manifests",
            Self::Uploads => "uploads",
            Self::Inline => "inline",
            Self::Users => "users",
        }
    }

    /// Whether the column is small and touched by nearly every command, so that a store should keep all its
    /// rows in memory.
    #[must_use]
    pub fn is_hot(self) -> bool {
        matches!(
            self,
            Self::System
                | Self::Vendors
                | Self::Rooms
                | Self::Classes
                | Self::Sessions
                | Self::Leases
                | Self::Buckets
                | Self::Users
        )
    }
}

const _: () = {
    let mut place = 0;
    while place < Column::ALL.len() {
        assert!(
            Column::ALL[place] as usize == place,
            "all columns, as they are declared"
        );
        place += 1;
    }
};

/// The store could not answer. Stops the replica; never a matter of the command.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the database failed.
    #[error("cannot read {column}: {reason}")]
    Failed {
        /// The column.
        column: &'static str,
        /// What the store says.
        reason: String,
    },
    /// A row is not what its column holds.
    #[error("cannot decode a row of {column}")]
    Decode {
        /// The column.
        column: &'static str,
        /// What is wrong.
        #[source]
        source: crate::codec::DecodeError,
    },
    /// Rows contradict each other: corruption or a defect. The replica must not go on.
    #[error("the table contradicts itself: {0}")]
    Inconsistent(String),
}

/// A range of keys in one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it starts.
    pub start: Bound<Bytes>,
    /// Where it ends.
    pub end: Bound<Bytes>,
}

impl KeyRange {
    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self {
            start: Bound::Unbounded,
            end: Bound::Unbounded,
        }
    }

    /// All keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self {
            start: Bound::Included(Bytes::copy_from_slice(prefix)),
            end: after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded),
        }
    }

    /// The same range, from `start` on.
    #[must_use]
    pub fn from(self, start: Bound<Bytes>) -> Self {
        Self { start, end: self.end }
    }

    /// Whether no key can lie in it (BTreeMap would panic on such a range).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(a), Bound::Included(b)) => a > b,
            (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b))
            | (Bound::Excluded(a), Bound::Included(b)) => a >= b,
            _ => false,
        }
    }
}

/// The first key behind all keys that start with `prefix`; `None` if there is no such key.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut key = prefix[..=last].to_vec();
    key[last] += 1;
    Some(Bytes::from(key))
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Rising keys.
    Forward,
    /// Falling keys.
    Backward,
}

/// Called with each row of a scan; breaking ends it.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Rows of one consistent state.
pub trait Read {
    /// The row at `key`.
    ///
    /// # Errors
    /// When the store cannot tell.
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits the rows of `range` in order until `visit` breaks.
    ///
    /// # Errors
    /// When the store cannot tell.
    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError>;
}

impl<R: Read + ?Sized> Read for &R {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        (**self).get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        (**self).scan(column, range, direction, visit)
    }
}

/// One row to write, or (`value: None`) to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The column.
    pub column: Column,
    /// The row's key.
    pub key: Bytes,
    /// The row, or `None` to delete it.
    pub value: Option<Bytes>,
}

/// Rows of each column, at its place in [`Column::ALL`].
type Rows<V> = [BTreeMap<Bytes, V>; Column::ALL.len()];

/// The reference store: sorted maps in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    rows: Rows<Bytes>,
}

impl Memory {
    /// Applies changes in order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for Change { column, key, value } in changes {
            let rows = &mut self.rows[column.place()];
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
    }
}

impl Read for Memory {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows[column.place()].get(key).cloned())
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        let rows = &self.rows[column.place()];
        let mut found = rows.range::<Bytes, _>((range.start.as_ref(), range.end.as_ref()));
        loop {
            let next = match direction {
                Direction::Forward => found.next(),
                Direction::Backward => found.next_back(),
            };
            let Some((key, value)) = next else { return Ok(()) };
            if visit(key, value).is_break() {
                return Ok(());
            }
        }
    }
}

/// Changes laid over a store: reads see them, and each row is handed on once, as last written.
#[derive(Debug)]
pub struct Overlay<R> {
    below: R,
    changed: Rows<Option<Bytes>>,
}

impl<R: Read> Overlay<R> {
    /// No changes yet over `below`.
    pub fn new(below: R) -> Self {
        Self {
            below,
            changed: Rows::default(),
        }
    }

    /// Adds one change.
    pub fn change(&mut self, change: Change) {
        self.changed[change.column.place()].insert(change.key, change.value);
    }

    /// Adds changes in order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.change(change);
        }
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        self.changed = Rows::default();
    }

    /// The store below.
    pub fn below(&self) -> &R {
        &self.below
    }

    /// All changes, each row once, in the order of columns and keys.
    pub fn into_changes(self) -> Vec<Change> {
        let rows = |(column, rows): (Column, BTreeMap<Bytes, Option<Bytes>>)| {
            rows.into_iter()
                .map(move |(key, value)| Change { column, key, value })
        };
        Column::ALL.into_iter().zip(self.changed).flat_map(rows).collect()
    }

    /// Number of rows changed.
    pub fn changed_rows(&self) -> usize {
        self.changed.iter().map(BTreeMap::len).sum()
    }
}

impl<R: Read> Read for Overlay<R> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.changed[column.place()].get(key) {
            Some(value) => Ok(value.clone()),
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
        let changed = &self.changed[column.place()];
        if changed.is_empty() || range.is_empty() {
            return self.below.scan(column, range, direction, visit);
        }
        let bounds = (range.start.as_ref(), range.end.as_ref());
        let mut above = changed.range::<Bytes, _>(bounds);
        let mut advance = || match direction {
            Direction::Forward => above.next(),
            Direction::Backward => above.next_back(),
        };
        let mut next = advance();
        let mut ended = false;
        let comes_first = |above: &[u8], below: &[u8]| match direction {
            Direction::Forward => above < below,
            Direction::Backward => above > below,
        };
        self.below.scan(column, range, direction, &mut |key, value| {
            while let Some((above_key, above_value)) = next {
                if !comes_first(above_key, key) {
                    break;
                }
                next = advance();
                if let Some(above_value) = above_value
                    && visit(above_key, above_value).is_break()
                {
                    ended = true;
                    return ControlFlow::Break(());
                }
            }
            let shown = match next {
                Some((above_key, above_value)) if above_key == key => {
                    next = advance();
                    match above_value {
                        Some(above_value) => visit(key, above_value),
                        None => ControlFlow::Continue(()),
                    }
                }
                _ => visit(key, value),
            };
            ended = shown.is_break();
            shown
        })?;
        while let (false, Some((key, value))) = (ended, next) {
            next = advance();
            if let Some(value) = value {
                ended = visit(key, value).is_break();
            }
        }
        Ok(())
    }
}
