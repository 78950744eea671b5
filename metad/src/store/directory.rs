//! The data directory: whose it is, which format it has, and that only one process uses it.
//!
//! ```text
//! DATA/ullage-metad     marker: text, format level, cluster, group and node id
//! DATA/lock             held while a process uses the directory
//! DATA/quarantine       text: why nobody may use the directory any more; made when its content is found wrong
//! DATA/raft-log/        log database
//! DATA/state/           state database and its snapshots (see `states`)
//! ```

use super::files::{make_directory, sync_directory, write_beside};
use super::log::LogDatabase;
use super::memory::MemoryDisk;
use super::options::Budget;
use super::states::States;
use super::steps::Steps;
use crate::error::Error;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The format level this release writes. Directories of a higher one are refused.
pub const FORMAT_LEVEL: u32 = 1;

const MARKER: &str = "ullage-metad";
const QUARANTINE: &str = "quarantine";
const FIRST_LINE: &str = "Ullage metadata directory";

/// The `cluster` of a directory that no cluster has adopted yet.
pub const NO_CLUSTER: u128 = 0;

/// Who a data directory belongs to. Minted with it, never changed, but that an empty one gets its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; [`NO_CLUSTER`] until one adopts the node.
    pub cluster: u128,
    /// The replication group within the cluster.
    pub group: u64,
    /// This node: random, and gone for good with the directory.
    pub node: u64,
}

impl Identity {
    fn to_text(self) -> String {
        let Self { cluster, group, node } = self;
        format!(
            "{FIRST_LINE}\nformat {FORMAT_LEVEL}\ncluster {cluster:032x}\ngroup {group}\nnode {node:016x}\n"
        )
    }
}

/// An open data directory. The lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Mutex<Identity>,
    /// A random id that this directory gives to the cluster it makes, if it makes one.
    fresh_cluster: u128,
    /// Where the databases lie instead of in `path`, in a simulation.
    memory: Option<MemoryDisk>,
    _lock: File,
}

impl DataDirectory {
    /// Opens `path`, or makes it if there is none yet.
    ///
    /// `cluster` is the cluster this node is in; without one (a standalone node's first start) a new id is
    /// minted. `random` fills a buffer with random bytes for minted ids.
    ///
    /// # Errors
    /// When the directory is another cluster's or group's, of a newer format, damaged, in use, or cannot be
    /// read. A refused directory has not been written to.
    pub fn open(
        path: &Path,
        cluster: Option<u128>,
        group: u64,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, Error> {
        Self::open_or_mint(path, cluster, true, group, random)
    }

    /// Opens `path`, or makes it if there is none yet: for a member of a group of several. A new directory
    /// belongs to no cluster until [`DataDirectory::adopt`].
    ///
    /// # Errors
    /// As [`DataDirectory::open`].
    pub fn open_member(path: &Path, group: u64, random: &mut dyn FnMut(&mut [u8])) -> Result<Self, Error> {
        Self::open_or_mint(path, None, false, group, random)
    }

    /// The directory of a member whose databases lie on a simulated disk. Only the marker is a file, in the disk's
    /// scratch directory.
    ///
    /// # Errors
    /// As [`DataDirectory::open`].
    pub fn open_member_in_memory(
        disk: &MemoryDisk,
        group: u64,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, Error> {
        let path = disk.scratch().join("data");
        if disk.was_used() && read_marker(&path)?.is_none() {
            // As on a real disk: a node does not become another one because a file is gone.
            return Err(without_marker(&path, "raft-log"));
        }
        let opened = Self::open_member(&path, group, random)?;
        Ok(Self {
            memory: Some(disk.clone()),
            ..opened
        })
    }

    fn open_or_mint(
        path: &Path,
        cluster: Option<u128>,
        founds: bool,
        group: u64,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, Error> {
        if let Some(found) = read_marker(path)? {
            check(path, found, cluster, group)?;
        }
        make_directory(path)?;
        let lock = lock(path)?;
        let fresh_cluster = fresh_cluster(random);
        let identity = match read_marker(path)? {
            Some(found) => check(path, found, cluster, group)?,
            None => {
                let founded = if founds { fresh_cluster } else { NO_CLUSTER };
                mint(path, cluster.unwrap_or(founded), group, random)?
            }
        };
        check_quarantine(path, identity)?;
        Ok(Self {
            path: path.to_path_buf(),
            identity: Mutex::new(identity),
            fresh_cluster,
            memory: None,
            _lock: lock,
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A random id for the cluster that this node makes, if it makes one.
    #[must_use]
    pub fn fresh_cluster(&self) -> u128 {
        self.fresh_cluster
    }

    /// Durably makes this directory one of `cluster`. The one it belongs to already is fine.
    ///
    /// # Errors
    /// [`Error::OtherCluster`] when it belongs to another one, or when the disk fails.
    pub fn adopt(&self, cluster: u128) -> Result<(), Error> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        if identity.cluster == NO_CLUSTER {
            let adopted = Identity { cluster, ..*identity };
            write_marker(&self.path, adopted)?;
            *identity = adopted;
            return Ok(());
        }
        check(&self.path, *identity, Some(cluster), identity.group).map(drop)
    }

    /// Durably sets the directory aside: it cannot be opened any more. The first reason stays.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn quarantine(&self, reason: &str) -> Result<(), Error> {
        let marker = self.path.join(QUARANTINE);
        if marker.exists() {
            return Ok(());
        }
        let beside = write_beside(&marker, reason.as_bytes())?;
        fs::rename(&beside, &marker).map_err(Error::io("rename", &beside))?;
        sync_directory(&self.path)
    }

    /// Whether its calls may block; see [`super::offload`].
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.memory.is_none()
    }

    /// Opens its log.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub fn open_log(&self, budget: &Budget, steps: Steps) -> Result<LogDatabase, Error> {
        match &self.memory {
            None => LogDatabase::open(&self.log_path(), budget, steps),
            Some(disk) => Ok(LogDatabase::in_memory(disk, steps)),
        }
    }

    /// Opens its state; see [`States::open`].
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub fn open_states(
        &self,
        budget: &Budget,
        steps: Steps,
        rows: &'static [&'static str],
    ) -> Result<States, Error> {
        match &self.memory {
            None => States::open(&self.state_path(), budget, steps, rows),
            Some(disk) => States::in_memory(disk, steps, rows),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log database lies.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.path.join("raft-log")
    }

    /// Where the state and its snapshots lie.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        self.path.join("state")
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let name = path.join("lock");
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&name);
    let file = file.map_err(Error::io("open", &name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: path.to_path_buf(),
        }),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", &name)(source)),
    }
}

fn fresh_cluster(random: &mut dyn FnMut(&mut [u8])) -> u128 {
    let mut bytes = [0; 16];
    random(&mut bytes);
    // Never the number that stands for none.
    u128::from_be_bytes(bytes).max(NO_CLUSTER + 1)
}

fn check_quarantine(path: &Path, identity: Identity) -> Result<(), Error> {
    let marker = path.join(QUARANTINE);
    match fs::read_to_string(&marker) {
        Ok(reason) => Err(Error::Quarantined {
            path: path.to_path_buf(),
            node: identity.node,
            reason,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("read", &marker)(error)),
    }
}

fn without_marker(path: &Path, database: &str) -> Error {
    Error::damaged(path, format!("it has a {database} but no file {MARKER}"))
}

fn mint(
    path: &Path,
    cluster: u128,
    group: u64,
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<Identity, Error> {
    for database in ["raft-log", "state"] {
        if path.join(database).exists() {
            return Err(without_marker(path, database));
        }
    }
    let mut for_node = [0; 8];
    random(&mut for_node);
    let identity = Identity {
        cluster,
        group,
        node: u64::from_be_bytes(for_node),
    };
    write_marker(path, identity)?;
    Ok(identity)
}

fn write_marker(path: &Path, identity: Identity) -> Result<(), Error> {
    let marker = path.join(MARKER);
    let beside = write_beside(&marker, identity.to_text().as_bytes())?;
    fs::rename(&beside, &marker).map_err(Error::io("rename", &beside))?;
    sync_directory(path)
}

fn check(path: &Path, found: Identity, cluster: Option<u128>, group: u64) -> Result<Identity, Error> {
    if let Some(expected) = cluster
        && found.cluster != expected
    {
        let (found, expected) = (format!("{:032x}", found.cluster), format!("{expected:032x}"));
        return Err(Error::OtherCluster {
            path: path.to_path_buf(),
            found,
            expected,
        });
    }
    if found.group != group {
        return Err(Error::OtherGroup {
            path: path.to_path_buf(),
            found: found.group,
            expected: group,
        });
    }
    Ok(found)
}

fn read_marker(path: &Path) -> Result<Option<Identity>, Error> {
    let marker = path.join(MARKER);
    let text = match fs::read_to_string(&marker) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &marker)(error)),
    };
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(Error::damaged(&marker, "it is not a marker of this program"));
    }
    let mut field = |name: &str| {
        let line = lines
            .next()
            .and_then(|line| line.strip_prefix(name))
            .map(str::trim);
        line.ok_or_else(|| Error::damaged(&marker, format!("it names no {name}")))
    };
    let number = |text: &str, radix, name: &str| {
        u128::from_str_radix(text, radix).map_err(|_| Error::damaged(&marker, format!("bad {name} {text:?}")))
    };
    let narrow =
        |value: u128| u64::try_from(value).map_err(|_| Error::damaged(&marker, "a number is too long"));
    let level = u32::try_from(number(field("format ")?, 10, "format")?).unwrap_or(u32::MAX);
    if level > FORMAT_LEVEL {
        return Err(Error::NewerFormat {
            path: path.to_path_buf(),
            found: level,
            known: FORMAT_LEVEL,
        });
    }
    let cluster = number(field("cluster ")?, 16, "cluster")?;
    let group = narrow(number(field("group ")?, 10, "group")?)?;
    let node = narrow(number(field("node ")?, 16, "node")?)?;
    Ok(Some(Identity { cluster, group, node }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, cluster: Option<u128>) -> Result<DataDirectory, Error> {
        DataDirectory::open(path, cluster, 0, &mut |bytes| bytes.fill(7))
    }

    fn listing(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(&path).unwrap_or_default()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn keeps_its_identity() {
        let home = tempfile::tempdir().unwrap();
        let first = open(home.path(), Some(5)).unwrap().identity();
        assert_eq!(open(home.path(), None).unwrap().identity(), first);
        assert_eq!(first.cluster, 5);
    }

    #[test]
    fn refuses_another_cluster_and_writes_nothing() {
        let home = tempfile::tempdir().unwrap();
        drop(open(home.path(), Some(5)).unwrap());
        fs::remove_file(home.path().join("lock")).unwrap();
        let before = listing(home.path());
        assert!(matches!(
            open(home.path(), Some(6)),
            Err(Error::OtherCluster { .. })
        ));
        let group = DataDirectory::open(home.path(), Some(5), 1, &mut |_| ());
        assert!(matches!(group, Err(Error::OtherGroup { .. })));
        assert_eq!(listing(home.path()), before);
    }

    #[test]
    fn refuses_a_newer_format_and_writes_nothing() {
        let home = tempfile::tempdir().unwrap();
        fs::write(
            home.path().join(MARKER),
            format!("{FIRST_LINE}\nformat 2\nwhatever comes then\n"),
        )
        .unwrap();
        let before = listing(home.path());
        assert!(matches!(
            open(home.path(), None),
            Err(Error::NewerFormat { found: 2, .. })
        ));
        assert_eq!(listing(home.path()), before);
    }

    #[test]
    fn an_empty_node_is_adopted_once() {
        let home = tempfile::tempdir().unwrap();
        let member = || DataDirectory::open_member(home.path(), 0, &mut |bytes| bytes.fill(7));
        let data = member().unwrap();
        assert_eq!(data.identity().cluster, NO_CLUSTER);
        data.adopt(9).unwrap();
        data.adopt(9).unwrap();
        assert!(matches!(data.adopt(8), Err(Error::OtherCluster { .. })));
        drop(data);
        assert_eq!(member().unwrap().identity().cluster, 9);
    }

    #[test]
    fn a_quarantined_directory_stays_shut_and_says_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let data = open(home.path(), Some(5)).unwrap();
        data.quarantine("the first reason").unwrap();
        data.quarantine("another reason").unwrap();
        let node = data.identity().node;
        drop(data);
        let refused = open(home.path(), Some(5)).unwrap_err().to_string();
        assert!(refused.contains("the first reason"), "{refused}");
        assert!(refused.contains(&format!("--replaces {node:016x}")), "{refused}");
    }

    #[test]
    fn refuses_a_second_user() {
        let home = tempfile::tempdir().unwrap();
        let first = open(home.path(), None).unwrap();
        assert!(matches!(open(home.path(), None), Err(Error::InUse { .. })));
        drop(first);
        open(home.path(), None).unwrap();
    }

    #[test]
    fn refuses_databases_without_a_marker_and_broken_markers() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("state")).unwrap();
        assert!(matches!(open(home.path(), None), Err(Error::Damaged { .. })));
        for text in [
            "",
            "something else\n",
            "Ullage metadata directory\nformat 1\ncluster xyz\n",
        ] {
            fs::write(home.path().join(MARKER), text).unwrap();
            assert!(
                matches!(open(home.path(), None), Err(Error::Damaged { .. })),
                "{text:?}"
            );
        }
    }
}
