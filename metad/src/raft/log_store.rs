//! openraft's log storage on the log database. Appends are written unsynced and completed by the flusher;
//! votes, truncations and purges are synced before they return; the newest entries are also kept in memory,
//! because apply reads each right after it was appended.
//!
//! openraft makes all writing calls from one task, one after another; readers are on other tasks.

use super::flusher::Flusher;
use super::group::OpenGuard;
use super::health::Health;
use super::metrics::Metrics;
use super::types::{
    EncodedEntry, Entry, LogId, TypeConfig, Vote, decode, decode_entry, decode_header, encode, encode_entry,
    fatal,
};
use crate::error::Error;
use crate::store::{LogDatabase, LogEntry};
use futures::stream::{self, Stream};
use openraft::alias::LeaderIdOf;
use openraft::entry::RaftEntry;
use openraft::errors::LeaderChanged;
use openraft::storage::{
    IOFlushed, LeaderBoundedStreamError, LeaderBoundedStreamResult, LogState, RaftLogReader, RaftLogStorage,
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of the newest entries kept in memory.
const RECENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of entries read at once from disk.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Up to where the log was purged.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct PurgeMark {
    log_id: LogId,
    /// Length of the log up to and including that entry.
    length: u64,
}

/// What is known of the log without reading it.
struct Ends {
    vote: Option<Vote>,
    purged: Option<PurgeMark>,
    /// Index of the first entry in the database, purged or not, if there is one. A group's log starts at 0, but
    /// openraft does not promise it.
    first: Option<u64>,
    last: Option<LogId>,
    /// Length of the log up to and including the last entry, in bytes since its first.
    length: u64,
    /// The newest entries, consecutive up to `last`, each with its encoded length.
    recent: VecDeque<(Entry, u64)>,
    recent_bytes: u64,
    /// The newest committed mark, if it is not written yet: it goes with the next append, or when the log is closed.
    committed: Option<Option<LogId>>,
}

impl Ends {
    fn remember(&mut self, entry: Entry, bytes: u64) {
        self.recent_bytes += bytes;
        self.recent.push_back((entry, bytes));
        while self.recent_bytes > RECENT_BYTES_MAX
            && let Some((_, bytes)) = self.recent.pop_front()
        {
            self.recent_bytes -= bytes;
        }
    }

    fn forget_from(&mut self, first: u64) {
        while self
            .recent
            .back()
            .is_some_and(|(entry, _)| entry.index() >= first)
            && let Some((_, bytes)) = self.recent.pop_back()
        {
            self.recent_bytes -= bytes;
        }
    }

    fn forget_up_to(&mut self, last: u64) {
        while self
            .recent
            .front()
            .is_some_and(|(entry, _)| entry.index() <= last)
            && let Some((_, bytes)) = self.recent.pop_front()
        {
            self.recent_bytes -= bytes;
        }
    }

    fn first_index(&self) -> u64 {
        let behind_purged = self.purged.map_or(0, |mark| mark.log_id.index + 1);
        self.first.map_or(behind_purged, |first| first.max(behind_purged))
    }

    /// The part of `range` that the log contains.
    fn contained(&self, range: Range<u64>) -> Range<u64> {
        let end = self.last.map_or(0, |last| last.index + 1);
        range.start.max(self.first_index())..range.end.min(end)
    }

    /// The entries of `range`, if all are in memory.
    fn recall(&self, range: &Range<u64>, bytes_max: usize) -> Option<Vec<Entry>> {
        let first = self.recent.front()?.0.index();
        let skip = usize::try_from(range.start.checked_sub(first)?).ok()?;
        let count = usize::try_from(range.end - range.start).ok()?;
        if skip + count > self.recent.len() {
            return None;
        }
        let mut bytes = 0;
        let mut found = Vec::with_capacity(count.min(4096));
        for (entry, length) in self.recent.range(skip..skip + count) {
            bytes += length;
            if bytes > bytes_max as u64 && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Some(found)
    }
}

struct Shared {
    // Dropped first: it completes what waits while the database is open.
    flusher: Flusher,
    log: Arc<LogDatabase>,
    ends: Mutex<Ends>,
    metrics: Metrics,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let ends = self.ends.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(committed) = ends.committed.take() else {
            return;
        };
        let written = encode(&committed)
            .map_err(|error| error.to_string())
            .and_then(|mark| self.log.put_committed(&mark).map_err(|error| error.to_string()));
        if let Err(error) = written {
            tracing::debug!(
                error,
                "an older committed mark stays: the next start applies the rest later"
            );
        }
    }
}

/// The Raft log. Clones are readers of the same log.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
    health: Health,
    // Behind `shared`: gone when the log is closed.
    _guard: Option<OpenGuard>,
}

impl Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStore")
            .field("log", &self.shared.log)
            .finish_non_exhaustive()
    }
}

impl LogStore {
    /// Takes over `log` and starts its sync thread.
    ///
    /// # Errors
    /// When the log cannot be read or holds what no log of this program holds.
    pub fn new(log: LogDatabase, metrics: Metrics) -> Result<Self, Error> {
        let unreadable = |error: io::Error| Error::Corrupt {
            database: "log",
            reason: error.to_string(),
        };
        let purged = log
            .purged()?
            .map(|mark| decode::<PurgeMark>(&mark))
            .transpose()
            .map_err(unreadable)?;
        let vote = log
            .vote()?
            .map(|vote| decode::<Vote>(&vote))
            .transpose()
            .map_err(unreadable)?;
        let last = log.last()?.map(|(index, stored)| decode_header(index, &stored));
        let last = last.transpose().map_err(unreadable)?;
        let purged_index = purged.map(|mark| mark.log_id.index);
        let (last, length) = match last {
            Some(last) if Some(last.log_id.index) > purged_index => (Some(last.log_id), last.length),
            _ => (
                purged.map(|mark| mark.log_id),
                purged.map_or(0, |mark| mark.length),
            ),
        };
        let first = log
            .first()?
            .filter(|_| last.map(|last| last.index) > purged_index);
        let ends = Ends {
            vote,
            purged,
            first,
            last,
            length,
            recent: VecDeque::new(),
            recent_bytes: 0,
            committed: None,
        };
        let log = Arc::new(log);
        let flusher = Flusher::start(Arc::clone(&log), metrics.clone())?;
        let shared = Shared {
            flusher,
            log,
            ends: Mutex::new(ends),
            metrics,
        };
        let store = Self {
            shared: Arc::new(shared),
            health: Health::default(),
            _guard: None,
        };
        store.count_bytes();
        Ok(store)
    }

    /// The same log, which tells `health` what it finds corrupt.
    pub(super) fn watched(self, health: Health) -> Self {
        Self { health, ..self }
    }

    /// `error` for openraft, which stops; corruption is remembered.
    fn fatal(&self, error: Error) -> io::Error {
        self.health.note(&error);
        fatal(error)
    }

    /// An entry that is not what was written.
    fn damaged(&self, reason: String) -> io::Error {
        self.fatal(Error::Corrupt {
            database: "log",
            reason,
        })
    }

    /// The same log, which holds `guard` while it is open.
    pub(super) fn guarded(self, guard: OpenGuard) -> Self {
        Self {
            _guard: Some(guard),
            ..self
        }
    }

    /// Bytes of log behind the entry `index`, or all that are kept if that is purged or `None`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn bytes_behind(&self, index: Option<u64>) -> Result<u64, Error> {
        let (purged, length) = {
            let ends = self.ends();
            (ends.purged, ends.length)
        };
        let purged_length = purged.map_or(0, |mark| mark.length);
        // The database may still hold entries that were purged.
        let kept = index.filter(|index| Some(*index) > purged.map(|mark| mark.log_id.index));
        let before = kept.map(|index| self.length_at(index)).transpose()?.flatten();
        Ok(length.saturating_sub(before.unwrap_or(purged_length)))
    }

    /// The last index that can be purged so that at least `keep_bytes` of log remain, and none above `limit`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn purge_target(&self, keep_bytes: u64, limit: u64) -> Result<Option<u64>, Error> {
        let (first, last, length) = {
            let ends = self.ends();
            (ends.first_index(), ends.last.map(|last| last.index), ends.length)
        };
        let Some(last) = last else { return Ok(None) };
        let (mut low, mut high) = (first, limit.min(last).saturating_add(1).max(first));
        // Greatest prefix of entries behind each of which at least `keep_bytes` lie.
        while low < high {
            let middle = low + (high - low) / 2;
            let before = self.length_at(middle)?.unwrap_or(0);
            if length.saturating_sub(before) >= keep_bytes {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok((low > first).then(|| low - 1))
    }

    /// Gives table files of purged entries back to the file system.
    ///
    /// # Errors
    /// When RocksDB cannot.
    pub fn reclaim(&self) -> Result<(), Error> {
        let purged = self.ends().purged;
        purged.map_or(Ok(()), |mark| self.shared.log.reclaim(mark.log_id.index))
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.shared.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn length_at(&self, index: u64) -> Result<Option<u64>, Error> {
        let Some(stored) = self.shared.log.get(index)? else {
            return Ok(None);
        };
        let header = decode_header(index, &stored).map_err(|error| Error::Corrupt {
            database: "log",
            reason: error.to_string(),
        });
        Ok(Some(header.inspect_err(|error| self.health.note(error))?.length))
    }

    fn count_bytes(&self) {
        let ends = self.ends();
        let kept = ends.length - ends.purged.map_or(0, |mark| mark.length).min(ends.length);
        self.shared
            .metrics
            .log_bytes
            .set(i64::try_from(kept).unwrap_or(i64::MAX));
    }

    /// The entries of `range` that the log contains, in order and without a hole; at least one if it
    /// contains one, and no more once they exceed `bytes_max` together.
    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let contained = {
            let ends = self.ends();
            let contained = ends.contained(range);
            if contained.is_empty() {
                return Ok(Vec::new());
            }
            if let Some(found) = ends.recall(&contained, bytes_max) {
                return Ok(found);
            }
            contained
        };
        let stored = self
            .shared
            .log
            .entries(contained.clone(), bytes_max)
            .map_err(|error| self.fatal(error))?;
        let purged_meanwhile = || self.ends().first_index() > contained.start;
        let mut found = Vec::with_capacity(stored.len());
        for ((index, stored), expected) in stored.iter().zip(contained.clone()) {
            if *index != expected {
                if purged_meanwhile() {
                    return self.read(contained, bytes_max);
                }
                return Err(self.damaged(format!("the log has no entry {expected}")));
            }
            let entry = decode_entry(*index, stored).map_err(|error| self.damaged(error.to_string()))?;
            found.push(entry);
        }
        let complete = found.len() as u64 == contained.end - contained.start;
        if found.is_empty() || (!complete && bytes_max == usize::MAX) {
            if purged_meanwhile() {
                return self.read(contained, bytes_max);
            }
            return Err(self.damaged(format!("the log has lost entries of {contained:?}")));
        }
        Ok(found)
    }

    /// The entries of `range` read piece by piece, as long as `allowed` holds before and after each piece.
    fn pieces<E>(
        &self,
        range: Range<u64>,
        allowed: impl Fn(&Self) -> Result<(), E> + Send,
    ) -> impl Stream<Item = Result<Entry, E>> + Send
    where
        E: From<io::Error> + Send,
    {
        let start = (self.clone(), range, VecDeque::new(), allowed);
        stream::unfold(start, |(store, mut range, mut read, allowed)| async move {
            if read.is_empty() && !range.is_empty() {
                let checked = allowed(&store)
                    .and_then(|()| store.read(range.clone(), READ_BYTES_MAX).map_err(E::from))
                    .and_then(|entries| allowed(&store).map(|()| entries));
                match checked {
                    Ok(entries) => read = VecDeque::from(entries),
                    Err(error) => return Some((Err(error), (store, 0..0, VecDeque::new(), allowed))),
                }
                range.start = read.back().map_or(range.end, |entry| entry.index() + 1);
            }
            read.pop_front()
                .map(|entry| (Ok(entry), (store, range, read, allowed)))
        })
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        self.read(bounds(&range), usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.ends().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, READ_BYTES_MAX)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        Box::pin(self.pieces(bounds(&range), |_: &Self| Ok::<(), io::Error>(())))
    }

    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderIdOf<TypeConfig>,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let leads = move |store: &Self| match store.ends().vote {
            Some(vote) if vote.leader_id() == &leader && vote.is_committed() => Ok(()),
            vote => Err(LeaderBoundedStreamError::LeaderChanged(LeaderChanged::new(
                leader, vote,
            ))),
        };
        Box::pin(self.pieces(bounds(&range), leads))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let ends = self.ends();
        Ok(LogState {
            last_purged_log_id: ends.purged.map(|mark| mark.log_id),
            last_log_id: ends.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.shared
            .log
            .put_vote(&encode(vote)?)
            .map_err(|error| self.fatal(error))?;
        self.ends().vote = Some(*vote);
        Ok(())
    }

    /// Written with the next append: a write of its own would only be an older mark's after a power cut too.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.log.check().map_err(|error| self.fatal(error))?;
        self.ends().committed = Some(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let waiting = self.ends().committed;
        let committed = match waiting {
            Some(committed) => committed,
            None => {
                let stored = self.shared.log.committed().map_err(|error| self.fatal(error))?;
                stored.map_or(Ok(None), |stored| decode(&stored))?
            }
        };
        // A power cut may have kept this mark and not the entries it speaks of.
        Ok(committed.min(self.ends().last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let (mut length, committed) = {
            let mut ends = self.ends();
            (ends.length, ends.committed.take())
        };
        let committed = committed.map(|committed| encode(&committed)).transpose()?;
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut encoded: Vec<EncodedEntry> = Vec::with_capacity(entries.len());
        for entry in &entries {
            let next = encode_entry(entry, length)?;
            length += next.len();
            self.shared.metrics.entry_bytes.observe(next.len() as f64);
            encoded.push(next);
        }
        let written = encoded.iter().map(|entry| LogEntry {
            index: entry.index,
            header: &entry.header,
            payload: &entry.payload,
        });
        self.shared
            .log
            .append(written, committed.as_deref())
            .map_err(|error| self.fatal(error))?;
        self.shared.metrics.entries.inc_by(entries.len() as u64);
        self.shared.metrics.append_entries.observe(entries.len() as f64);
        {
            let mut ends = self.ends();
            ends.length = length;
            for (entry, encoded) in entries.into_iter().zip(&encoded) {
                ends.first.get_or_insert(entry.index());
                ends.last = Some(entry.log_id());
                ends.remember(entry, encoded.len());
            }
        }
        self.count_bytes();
        self.shared.flusher.push(callback);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let first = last_log_id.map_or(0, |last| last.index + 1);
        let purged = {
            let ends = self.ends();
            if ends.last.is_none_or(|last| last.index < first) {
                return Ok(());
            }
            ends.purged
        };
        let (last, length) = match (last_log_id, purged) {
            (Some(last), Some(mark)) if last.index <= mark.log_id.index => (Some(mark.log_id), mark.length),
            (None, Some(mark)) => (Some(mark.log_id), mark.length),
            (None, None) => (None, 0),
            (Some(last), _) => {
                let length = self.length_at(last.index).map_err(|error| self.fatal(error))?;
                let length =
                    length.ok_or_else(|| io::Error::other(format!("the log has no entry {last}")))?;
                (Some(last), length)
            }
        };
        self.shared
            .log
            .truncate(first)
            .map_err(|error| self.fatal(error))?;
        {
            let mut ends = self.ends();
            ends.forget_from(first);
            ends.first = ends.first.filter(|existing| *existing < first);
            (ends.last, ends.length) = (last, length);
        }
        self.count_bytes();
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        // Behind an installed snapshot the log may end before `log_id`.
        let length = self
            .length_at(log_id.index)
            .map_err(|error| self.fatal(error))?
            .unwrap_or_else(|| self.ends().length);
        let mark = PurgeMark { log_id, length };
        self.shared
            .log
            .purge(&encode(&mark)?)
            .map_err(|error| self.fatal(error))?;
        {
            let mut ends = self.ends();
            ends.forget_up_to(log_id.index);
            ends.purged = Some(mark);
            let remains = ends.last > Some(log_id);
            ends.first = remains.then_some(log_id.index + 1);
            ends.last = ends.last.max(Some(log_id));
        }
        self.count_bytes();
        Ok(())
    }
}
