//! The view a transition has of the tables: typed reads, and changes that it sees itself.

use crate::cluster_time::ClusterTime;
use crate::codec::{Versioned, decode, encode};
use crate::rejection::Rejection;
use crate::store::{Change, Column, Direction, KeyRange, Overlay, Read, StoreError, Visit};
use bytes::Bytes;
use std::ops::ControlFlow;

/// Where in the log, and when in cluster time, a command is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Its log index.
    pub index: u64,
    /// Cluster time as applied before it.
    pub cluster_time: ClusterTime,
}

/// Why a transition ended without an answer of its own.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Refused: becomes `Reply::Refused`, and none of its changes is kept.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The store failed: stops the replica.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A command being decided.
#[derive(Debug)]
pub struct Step<'a, R> {
    rows: Overlay<&'a R>,
    released: u32,
    /// Where and when.
    pub at: At,
}

impl<'a, R: Read> Step<'a, R> {
    /// Nothing changed yet.
    pub fn new(rows: &'a R, at: At) -> Self {
        Self {
            rows: Overlay::new(rows),
            released: 0,
            at,
        }
    }

    /// Forgets every change made so far, as if the step had just begun.
    pub fn discard(&mut self) {
        self.rows.clear();
        self.released = 0;
    }

    /// Numbers what this command releases, from 0.
    pub fn next_release_number(&mut self) -> u32 {
        let number = self.released;
        self.released += 1;
        number
    }

    /// Writes a row.
    pub fn put<T: Versioned>(&mut self, column: Column, key: Bytes, row: &T) {
        self.put_bytes(column, key, encode(row));
    }

    /// Writes a row of plain bytes (index entries, inlined payloads).
    pub fn put_bytes(&mut self, column: Column, key: Bytes, value: Bytes) {
        self.rows.change(Change {
            column,
            key,
            value: Some(value),
        });
    }

    /// Deletes a row.
    pub fn delete(&mut self, column: Column, key: Bytes) {
        self.rows.change(Change {
            column,
            key,
            value: None,
        });
    }

    /// Rows changed so far: bounded by `limits::ROWS_PER_COMMAND`.
    pub fn changed_rows(&self) -> usize {
        self.rows.changed_rows()
    }

    /// The changes, each row once.
    pub fn into_changes(self) -> Vec<Change> {
        self.rows.into_changes()
    }
}

impl<R: Read> Read for Step<'_, R> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.rows.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        range: &KeyRange,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.rows.scan(column, range, direction, visit)
    }
}

/// Typed reads over any [`Read`].
pub trait ReadRows: Read {
    /// The row at `key`, decoded.
    ///
    /// # Errors
    /// When the store fails or the row does not decode.
    fn row<T: Versioned>(&self, column: Column, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(column, key)?
            .map(|bytes| decode_row(column, &bytes))
            .transpose()
    }

    /// Up to `limit` rows of `range` in order, as (key, row).
    ///
    /// # Errors
    /// When the store fails or a row does not decode.
    fn rows<T: Versioned>(
        &self,
        column: Column,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<(Bytes, T)>, StoreError> {
        let mut found = Vec::new();
        let mut failed = None;
        if limit == 0 {
            return Ok(found);
        }
        self.scan(column, range, Direction::Forward, &mut |key, value| {
            match decode_row(column, value) {
                Ok(row) => found.push((Bytes::copy_from_slice(key), row)),
                Err(error) => failed = Some(error),
            }
            if failed.is_some() || found.len() == limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        failed.map_or(Ok(found), Err)
    }

    /// The last row of `range`, as (key, row).
    ///
    /// # Errors
    /// When the store fails or the row does not decode.
    fn last_row<T: Versioned>(
        &self,
        column: Column,
        range: &KeyRange,
    ) -> Result<Option<(Bytes, T)>, StoreError> {
        let mut found = None;
        self.scan(column, range, Direction::Backward, &mut |key, value| {
            found = Some((Bytes::copy_from_slice(key), decode_row(column, value)));
            ControlFlow::Break(())
        })?;
        found.map(|(key, row)| Ok((key, row?))).transpose()
    }
}

impl<R: Read + ?Sized> ReadRows for R {}

/// Decodes one row of `column`.
///
/// # Errors
/// When the bytes are not such a row.
pub fn decode_row<T: Versioned>(column: Column, bytes: &[u8]) -> Result<T, StoreError> {
    decode(bytes).map_err(|source| StoreError::Decode {
        column: column.name(),
        source,
    })
}
