//! Where the state database lies, its one current snapshot, and how both are replaced: by a pointer file
//! that is renamed over the old one.
//!
//! ```text
//! STATE/pointer         text: "state N", "snapshot M" (or "snapshot none")
//! STATE/db-N/           the state database
//! STATE/snapshot-M/     the current snapshot: a checkpoint (hard links)
//! STATE/incoming/       a snapshot as far as it has been received
//! ```
//!
//! A directory the pointer does not name is rubbish of an interrupted step and removed at opening. A
//! replaced directory stays until its last user lets go of it.

use super::files::{
    is_database_file, link_database, list, make_directory, remove_tree, sync_directory, sync_tree,
    write_beside,
};
use super::incoming::{Incoming, read_at};
use super::memory::{Image, MemoryDisk, MemoryState};
use super::options::Budget;
use super::state::StateDatabase;
use super::steps::{Step, Steps};
use crate::error::Error;
use bytes::Bytes;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// [`States::recent_bytes`] on a simulated disk: little, so that rows are forgotten in simulations too.
const RECENT_BYTES_IN_MEMORY: usize = 64 * 1024;

/// A directory that removes itself when it is obsolete and nobody uses it.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    number: u64,
    obsolete: AtomicBool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire)
            && let Err(error) = remove_tree(&self.path)
        {
            tracing::warn!(%error, "an obsolete directory stays until the next start");
        }
    }
}

/// An open state database and its directory. Fields drop in this order: the database closes first.
#[derive(Debug)]
pub struct OpenState {
    database: StateDatabase,
    place: Place,
}

impl Deref for OpenState {
    type Target = StateDatabase;

    fn deref(&self) -> &StateDatabase {
        &self.database
    }
}

/// A complete snapshot on disk, shared by all who send, install or keep it.
#[derive(Debug)]
pub struct SnapshotDirectory {
    place: Place,
    /// Raft's rows in it, in the order in which they were asked for.
    rows: Vec<Option<Bytes>>,
    /// What is in it, if it lies on a simulated disk; its directory then only serves to send it.
    image: Option<Arc<Image>>,
}

impl SnapshotDirectory {
    /// Where its files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Raft's rows in it, in the order given to [`States::open`].
    #[must_use]
    pub fn raft_rows(&self) -> &[Option<Bytes>] {
        &self.rows
    }

    /// Names and lengths of its files, sorted: what a sender transfers.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn files(&self) -> Result<Vec<(String, u64)>, Error> {
        let length = |path: PathBuf| {
            let found = fs::metadata(&path).map_err(Error::io("inspect", &path))?;
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Ok((name, found.len()))
        };
        list(&self.place.path)?
            .into_iter()
            .filter(|path| is_database_file(path))
            .map(length)
            .collect()
    }

    /// At most `bytes` bytes from `offset` of one of its files on; fewer at its end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str, offset: u64, bytes: usize) -> Result<Bytes, Error> {
        read_at(&self.place.path.join(name), offset, bytes)
    }

    /// BLAKE3 of one of its files.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn checksum(&self, name: &str) -> Result<[u8; 32], Error> {
        let path = self.place.path.join(name);
        let mut hasher = blake3::Hasher::new();
        let hashed = fs::File::open(&path).and_then(|file| hasher.update_reader(file).map(drop));
        hashed.map_err(Error::io("read", &path))?;
        Ok(*hasher.finalize().as_bytes())
    }

    /// Whether its calls may block; see [`super::offload`].
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.image.is_none()
    }

    fn discard(&self) {
        self.place.obsolete.store(true, Ordering::Release);
    }
}

/// What the pointer file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pointer {
    state: u64,
    snapshot: Option<u64>,
}

#[derive(Debug)]
enum Medium {
    Files(Budget),
    Memory(MemoryDisk),
}

/// The file of a simulated snapshot.
const IMAGE_FILE: &str = "image";

/// The state, its snapshot and their replacement.
#[derive(Debug)]
pub struct States {
    root: PathBuf,
    medium: Medium,
    steps: Steps,
    rows: &'static [&'static str],
    next: AtomicU64,
    current: RwLock<Arc<OpenState>>,
    /// The current snapshot. Held while the pointer is replaced, so replacements come one after another.
    snapshot: Mutex<Option<Arc<SnapshotDirectory>>>,
}

impl States {
    /// Opens what lies in `root`, or makes an empty state. `rows` names the Raft rows that every snapshot
    /// shows.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or the disk fails.
    pub fn open(
        root: &Path,
        budget: &Budget,
        steps: Steps,
        rows: &'static [&'static str],
    ) -> Result<Self, Error> {
        make_directory(root)?;
        let pointer = match read_pointer(root)? {
            Some(pointer) => pointer,
            None => first_pointer(root)?,
        };
        // A crash may have come between the pointer's renaming and its sync: what it replaced goes only behind that.
        sync_directory(root)?;
        let next = sweep(root, pointer)?;
        let place = place(root, "db", pointer.state);
        let database = StateDatabase::open(&place.path, budget, steps.clone())?;
        sync_opened(&place.path)?;
        let snapshot = match pointer.snapshot {
            None => None,
            Some(number) => {
                let place = self::place(root, "snapshot", number);
                let rows = StateDatabase::peek(&place.path, budget, rows)?;
                let image = None;
                Some(Arc::new(SnapshotDirectory { place, rows, image }))
            }
        };
        write_pointer(root, pointer, &Steps::default())?;
        Ok(Self {
            root: root.to_path_buf(),
            medium: Medium::Files(budget.clone()),
            steps,
            rows,
            next: AtomicU64::new(next),
            current: RwLock::new(Arc::new(OpenState { database, place })),
            snapshot: Mutex::new(snapshot),
        })
    }

    /// The state on a simulated disk. Directories are used only to send and receive snapshots.
    ///
    /// # Errors
    /// When the disk's scratch directory cannot be written.
    pub fn in_memory(disk: &MemoryDisk, steps: Steps, rows: &'static [&'static str]) -> Result<Self, Error> {
        let root = disk.start()?;
        let database = StateDatabase::in_memory(MemoryState::open(disk), steps.clone());
        let place = place(&root, "db", 1);
        let states = Self {
            root,
            medium: Medium::Memory(disk.clone()),
            steps,
            rows,
            next: AtomicU64::new(2),
            current: RwLock::new(Arc::new(OpenState { database, place })),
            snapshot: Mutex::new(None),
        };
        if let Some(image) = MemoryState::snapshot(disk) {
            let snapshot = states.materialize(image)?;
            snapshot.place.obsolete.store(false, Ordering::Release);
            *states.snapshot_guard() = Some(snapshot);
        }
        Ok(states)
    }

    /// A directory from which `image` can be sent.
    fn materialize(&self, image: Arc<Image>) -> Result<Arc<SnapshotDirectory>, Error> {
        let place = place(&self.root, "snapshot", self.number());
        place.obsolete.store(true, Ordering::Release);
        fs::create_dir(&place.path).map_err(Error::io("make", &place.path))?;
        let file = place.path.join(IMAGE_FILE);
        fs::write(&file, image.to_bytes()?).map_err(Error::io("write", &file))?;
        Ok(Arc::new(self.described(place, image)))
    }

    fn described(&self, place: Place, image: Arc<Image>) -> SnapshotDirectory {
        let rows = self.rows.iter().map(|name| image.raft_row(name)).collect();
        SnapshotDirectory {
            place,
            rows,
            image: Some(image),
        }
    }

    /// Whether its calls may block; see [`super::offload`].
    #[must_use]
    pub fn blocks(&self) -> bool {
        matches!(self.medium, Medium::Files(_))
    }

    /// Bytes of rows written lately that apply may keep in memory.
    #[must_use]
    pub fn recent_bytes(&self) -> usize {
        let Medium::Files(budget) = &self.medium else {
            return RECENT_BYTES_IN_MEMORY;
        };
        budget.recent_bytes()
    }

    /// Where everything lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The state as it now is. A caller keeps the database open for as long as it keeps the handle.
    #[must_use]
    pub fn current(&self) -> Arc<OpenState> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<SnapshotDirectory>> {
        self.snapshot_guard().clone()
    }

    /// Makes a checkpoint of the current state. It is neither durable nor the current snapshot until
    /// [`States::publish`].
    ///
    /// # Errors
    /// When the disk fails.
    pub fn checkpoint(&self) -> Result<Arc<SnapshotDirectory>, Error> {
        let budget = match &self.medium {
            Medium::Files(budget) => budget,
            Medium::Memory(_) => return self.checkpoint_in_memory(),
        };
        let place = place(&self.root, "snapshot", self.number());
        self.step(Step::CheckpointMake, &place.path)?;
        // Whatever is there until it is published is rubbish.
        place.obsolete.store(true, Ordering::Release);
        self.current().checkpoint(&place.path)?;
        self.step(Step::CheckpointMade, &place.path)?;
        let rows = StateDatabase::peek(&place.path, budget, self.rows)?;
        let image = None;
        Ok(Arc::new(SnapshotDirectory { place, rows, image }))
    }

    /// A checkpoint flushes, here too.
    fn checkpoint_in_memory(&self) -> Result<Arc<SnapshotDirectory>, Error> {
        self.step(Step::CheckpointMake, &self.root)?;
        let state = self.current();
        state.flush()?;
        let image = state
            .image()
            .ok_or_else(|| Error::damaged(&self.root, "a state on a simulated disk is not in memory"))?;
        self.step(Step::CheckpointMade, &self.root)?;
        self.materialize(image)
    }

    /// Makes `made` durable, and makes it the current snapshot unless `newer(current, made)` says that the
    /// current one has overtaken it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn publish(
        &self,
        made: &Arc<SnapshotDirectory>,
        overtaken: impl FnOnce(&SnapshotDirectory, &SnapshotDirectory) -> bool,
    ) -> Result<bool, Error> {
        if matches!(self.medium, Medium::Files(_)) {
            sync_tree(&made.place.path)?;
        }
        self.step(Step::CheckpointSynced, &made.place.path)?;
        let mut current = self.snapshot_guard();
        if let Some(current) = current.as_deref()
            && overtaken(current, made)
        {
            return Ok(false);
        }
        self.point(&self.current().place, made)?;
        Self::adopt(&mut current, made);
        Ok(true)
    }

    /// Where a snapshot is received; what an earlier transfer left there is still there. One at a time.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn incoming(&self) -> Result<Incoming, Error> {
        Incoming::open(self.root.join("incoming"))
    }

    /// The snapshot that is completely there, durable, and goes with its last handle unless it is installed.
    ///
    /// # Errors
    /// When the disk fails or it is not a state.
    pub fn received(&self, incoming: Incoming) -> Result<Arc<SnapshotDirectory>, Error> {
        let place = place(&self.root, "snapshot", self.number());
        place.obsolete.store(true, Ordering::Release);
        incoming.finish(&place.path)?;
        let budget = match &self.medium {
            Medium::Files(budget) => budget,
            Medium::Memory(_) => {
                let file = place.path.join(IMAGE_FILE);
                let bytes = fs::read(&file).map_err(Error::io("read", &file))?;
                let image = Arc::new(Image::from_bytes(&bytes)?);
                return Ok(Arc::new(self.described(place, image)));
            }
        };
        let rows = StateDatabase::peek(&place.path, budget, self.rows)?;
        let image = None;
        Ok(Arc::new(SnapshotDirectory { place, rows, image }))
    }

    /// Replaces the state by `snapshot`, which becomes the current snapshot in the same step. The old state
    /// stays whole until then; readers that hold it go on reading it.
    ///
    /// # Errors
    /// When the disk fails; the old state is still the current one then.
    pub fn install(&self, snapshot: &Arc<SnapshotDirectory>) -> Result<Arc<OpenState>, Error> {
        let mut current = self.snapshot_guard();
        let budget = match &self.medium {
            Medium::Files(budget) => budget,
            Medium::Memory(disk) => return self.install_in_memory(disk, &mut current, snapshot),
        };
        let snapshot = &self.own(snapshot)?;
        sync_tree(&snapshot.place.path)?;
        let place = place(&self.root, "db", self.number());
        place.obsolete.store(true, Ordering::Release);
        link_database(&snapshot.place.path, &place.path, || {
            self.step(Step::InstallLinking, &place.path)
        })?;
        sync_tree(&place.path)?;
        self.step(Step::InstallSynced, &place.path)?;
        let database = StateDatabase::open(&place.path, budget, self.steps.clone())?;
        sync_opened(&place.path)?;
        self.step(Step::InstallOpened, &place.path)?;
        let new = Arc::new(OpenState { database, place });
        self.point(&new.place, snapshot)?;
        self.replace(&mut current, &new, snapshot);
        Ok(new)
    }

    fn install_in_memory(
        &self,
        disk: &MemoryDisk,
        current: &mut Option<Arc<SnapshotDirectory>>,
        snapshot: &Arc<SnapshotDirectory>,
    ) -> Result<Arc<OpenState>, Error> {
        let image = snapshot.image.as_ref();
        let image = image.ok_or_else(|| Error::damaged(snapshot.path(), "it is not in memory"))?;
        self.step(Step::InstallSynced, &self.root)?;
        let database = StateDatabase::in_memory(MemoryState::install(disk, image), self.steps.clone());
        self.step(Step::InstallOpened, &self.root)?;
        let place = place(&self.root, "db", self.number());
        let new = Arc::new(OpenState { database, place });
        snapshot.place.obsolete.store(false, Ordering::Release);
        self.replace(current, &new, snapshot);
        Ok(new)
    }

    /// Puts what was durably pointed to in the place of what was current.
    fn replace(
        &self,
        current: &mut Option<Arc<SnapshotDirectory>>,
        new: &Arc<OpenState>,
        snapshot: &Arc<SnapshotDirectory>,
    ) {
        let mut state = self.current.write().unwrap_or_else(PoisonError::into_inner);
        state.place.obsolete.store(true, Ordering::Release);
        *state = Arc::clone(new);
        drop(state);
        Self::adopt(current, snapshot);
    }

    fn adopt(current: &mut Option<Arc<SnapshotDirectory>>, new: &Arc<SnapshotDirectory>) {
        if let Some(old) = current.replace(Arc::clone(new))
            && !Arc::ptr_eq(&old, new)
        {
            old.discard();
        }
    }

    /// Durably points to `state` and `snapshot`. From the first attempt on both stay: after a failure in the
    /// middle nobody knows which pointer the next start will find.
    fn point(&self, state: &Place, snapshot: &SnapshotDirectory) -> Result<(), Error> {
        for place in [state, &snapshot.place] {
            place.obsolete.store(false, Ordering::Release);
        }
        if let (Medium::Memory(disk), Some(image)) = (&self.medium, &snapshot.image) {
            MemoryState::publish(disk, image);
            return Ok(());
        }
        let pointer = Pointer {
            state: state.number,
            snapshot: Some(snapshot.place.number),
        };
        write_pointer(&self.root, pointer, &self.steps)
    }

    /// `snapshot` itself if it lies in this root, else a linked copy that does.
    fn own(&self, snapshot: &Arc<SnapshotDirectory>) -> Result<Arc<SnapshotDirectory>, Error> {
        if snapshot.place.path.parent() == Some(&self.root) {
            return Ok(Arc::clone(snapshot));
        }
        let place = place(&self.root, "snapshot", self.number());
        place.obsolete.store(true, Ordering::Release);
        link_database(&snapshot.place.path, &place.path, || Ok(()))?;
        Ok(Arc::new(SnapshotDirectory {
            place,
            rows: snapshot.rows.clone(),
            image: None,
        }))
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn snapshot_guard(&self) -> MutexGuard<'_, Option<Arc<SnapshotDirectory>>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, step: Step, path: &Path) -> Result<(), Error> {
        self.steps.at(step).map_err(Error::io("go on with", path))
    }
}

/// Makes the entries of an open database's directory durable. Its files are RocksDB's to sync and to delete.
fn sync_opened(path: &Path) -> Result<(), Error> {
    sync_directory(path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn place(root: &Path, kind: &str, number: u64) -> Place {
    Place {
        path: root.join(format!("{kind}-{number}")),
        number,
        obsolete: AtomicBool::new(false),
    }
}

fn pointer_path(root: &Path) -> PathBuf {
    root.join("pointer")
}

fn read_pointer(root: &Path) -> Result<Option<Pointer>, Error> {
    let path = pointer_path(root);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let fields: Vec<_> = text.split_whitespace().collect();
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| Error::damaged(&path, format!("{text:?} is not a number")))
    };
    match fields[..] {
        ["state", state, "snapshot", "none"] => Ok(Some(Pointer {
            state: number(state)?,
            snapshot: None,
        })),
        ["state", state, "snapshot", snapshot] => Ok(Some(Pointer {
            state: number(state)?,
            snapshot: Some(number(snapshot)?),
        })),
        _ => Err(Error::damaged(&path, "it is not a pointer")),
    }
}

fn write_pointer(root: &Path, pointer: Pointer, steps: &Steps) -> Result<(), Error> {
    if read_pointer(root)? == Some(pointer) {
        return Ok(());
    }
    let path = pointer_path(root);
    let step = |step| steps.at(step).map_err(Error::io("go on with", &path));
    let snapshot = pointer
        .snapshot
        .map_or_else(|| "none".to_owned(), |number| number.to_string());
    let text = format!("state {}\nsnapshot {snapshot}\n", pointer.state);
    let beside = write_beside(&path, text.as_bytes())?;
    step(Step::PointerWritten)?;
    fs::rename(&beside, &path).map_err(Error::io("rename", &beside))?;
    step(Step::PointerRenamed)?;
    sync_directory(root)?;
    step(Step::PointerSynced)
}

/// The pointer of a directory that has none yet: only a start that was interrupted may have left anything.
fn first_pointer(root: &Path) -> Result<Pointer, Error> {
    for path in list(root)? {
        let name = path.file_name().unwrap_or_default();
        if name != "db-1" && name != "pointer.new" {
            return Err(Error::damaged(
                root,
                format!("it has {} but no pointer", path.display()),
            ));
        }
    }
    Ok(Pointer {
        state: 1,
        snapshot: None,
    })
}

/// Removes what the pointer does not name; returns the first free number.
fn sweep(root: &Path, pointer: Pointer) -> Result<u64, Error> {
    let mut next = pointer.state.max(pointer.snapshot.unwrap_or(0)) + 1;
    for path in list(root)? {
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        if name == "pointer.new" {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        let Some((kind, number)) = name.split_once('-') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        let kept = match kind {
            "db" => number == pointer.state,
            "snapshot" => Some(number) == pointer.snapshot,
            _ => true,
        };
        next = next.max(number + 1);
        if !kept {
            remove_tree(&path)?;
        }
    }
    Ok(next)
}
