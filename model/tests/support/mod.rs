//! A table in memory to decide commands on, with everything checked that must hold of every command. Shared
//! by the tests of `model`; knows no gateway and no vendor agent.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use std::collections::BTreeMap;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec::{self, decode};
use ullage_model::command::{Command, Reply, SessionCommand, SliceCommand};
use ullage_model::decide::decide;
use ullage_model::fat::query;
use ullage_model::fat::query::ErasePermit;
use ullage_model::fat::rows::{ChunkRow, ClassRow, CopyRow, CopyState, InlineRow, RoomRow};
use ullage_model::ids::{BlobId, ChunkId, ClusterId, DeviceId, Digest, LeaseId, SessionId, VendorId};
use ullage_model::invariants;
use ullage_model::limits::{CHUNK_BYTES_MIN, COMMAND_BYTES_MAX, LEASE_MS, ROWS_PER_COMMAND};
use ullage_model::rejection::Rejection;
use ullage_model::step::At;
use ullage_model::store::Memory;
use ullage_model::wire::agent::{Characteristics, DeviceReport, DeviceState, RegisterRequest};
use ullage_model::wire::chunk::PublicKey;

/// Device class of vendors made by [`World::vendor`].
pub const HDD: &str = "hdd";
/// The class every test cluster starts with.
pub const STANDARD: &str = "STANDARD";

/// A replicated state machine of one.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The table.
    pub rows: Memory,
    /// Log index of the last command.
    pub index: u64,
    /// Every command decided, as it travelled.
    pub log: Vec<(At, Bytes)>,
    sequences: BTreeMap<SessionId, u64>,
    /// Whether every command is followed by a walk over the whole table.
    pub unchecked: bool,
}

/// `STANDARD` with so many copies in so many zones.
pub fn class(copies: u32, zones: u32) -> ClassRow {
    ClassRow {
        name: STANDARD.to_owned(),
        copies,
        zones,
        device_class: None,
        max_price: None,
        chunk_bytes: CHUNK_BYTES_MIN,
        pieces: 1,
        settings_version: 0,
    }
}

/// A working device.
pub fn device(number: u32, class: &str, capacity: u64) -> DeviceReport {
    DeviceReport {
        device: DeviceId(number),
        class: class.to_owned(),
        capacity,
        free: capacity,
        state: DeviceState::Healthy,
    }
}

/// First words of a vendor of this name, in this zone, whose key is made of its name.
pub fn registration(name: &str, zone: &str, devices: Vec<DeviceReport>) -> RegisterRequest {
    RegisterRequest {
        public_key: PublicKey(Digest::of(name.as_bytes()).0),
        name: name.to_owned(),
        characteristics: Characteristics {
            zone: zone.to_owned(),
            ..Characteristics::default()
        },
        devices,
    }
}

impl World {
    /// A cluster whose `STANDARD` class has so many copies.
    pub fn new(copies: u32) -> Self {
        Self::with_class(class(copies, 0))
    }

    /// A cluster with this class.
    pub fn with_class(class: ClassRow) -> Self {
        let mut world = Self::default();
        let inline = InlineRow {
            cap_bytes: 4096,
            budget_bytes: 64 * 1024,
            used_bytes: 0,
        };
        let command = Command::Initialise {
            cluster: ClusterId(7),
            classes: vec![class],
            inline,
        };
        assert_eq!(world.decide(&command), Reply::Done);
        world
    }

    /// Decides and applies a command, and checks everything that must hold of any.
    pub fn decide(&mut self, command: &Command) -> Reply {
        self.index += 1;
        let at = At {
            index: self.index,
            cluster_time: query::cluster_time(&self.rows).unwrap(),
        };
        let encoded = codec::encode(command);
        assert!(encoded.len() <= COMMAND_BYTES_MAX);
        let travelled: Command = decode(&encoded).unwrap();
        assert_eq!(&travelled, command);
        let decision = decide(&self.rows, at, command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let again = decide(&self.rows, at, &travelled).unwrap();
        assert_eq!(decision, again, "decided twice, {command:?} differs");
        assert!(
            decision.changes.len() <= ROWS_PER_COMMAND,
            "{command:?} changes too much"
        );
        assert_eq!(
            decode::<Reply>(&codec::encode(&decision.reply)).unwrap(),
            decision.reply
        );
        if matches!(decision.reply, Reply::Refused(_)) {
            let stored = usize::from(matches!(command, Command::InSession { .. }));
            assert!(
                decision.changes.len() <= stored,
                "refused, {command:?} changes {:?}",
                decision.changes
            );
        }
        self.rows.apply(decision.changes);
        self.log.push((at, encoded));
        if !self.unchecked {
            self.check(command);
        }
        decision.reply
    }

    /// What another replica has that applies the same log.
    pub fn replayed(&self) -> Memory {
        let mut rows = Memory::default();
        for (at, encoded) in &self.log {
            let decision = decide(&rows, *at, &decode::<Command>(encoded).unwrap()).unwrap();
            rows.apply(decision.changes);
        }
        rows
    }

    fn check(&self, after: &Command) {
        if let Err(error) = invariants::check(&self.rows) {
            panic!("after {after:?}: {error}");
        }
    }

    /// Decides a command that must be refused, and gives the refusal.
    pub fn refused(&mut self, command: &Command) -> Rejection {
        match self.decide(command) {
            Reply::Refused(rejection) => rejection,
            reply => panic!("{command:?} was answered {reply:?}"),
        }
    }

    /// Registers a vendor with one device of `capacity` bytes.
    pub fn vendor(&mut self, name: &str, zone: &str, capacity: u64) -> VendorId {
        let request = registration(name, zone, vec![device(0, HDD, capacity)]);
        match self.decide(&Command::RegisterVendor(request)) {
            Reply::Vendor(vendor) => vendor,
            reply => panic!("registration of {name}: {reply:?}"),
        }
    }

    /// Opens a session.
    pub fn session(&mut self) -> SessionId {
        match self.decide(&Command::OpenSession {
            gateway: "gateway".to_owned(),
            instance: 0,
        }) {
            Reply::Session(session) => session,
            reply => panic!("open session: {reply:?}"),
        }
    }

    /// The next sequence of a session.
    pub fn next_sequence(&mut self, session: SessionId) -> u64 {
        let next = self.sequences.entry(session).or_default();
        *next += 1;
        *next - 1
    }

    /// Decides a command of a session under its next sequence.
    pub fn submit(&mut self, session: SessionId, command: SessionCommand) -> Reply {
        let sequence = self.next_sequence(session);
        self.decide(&Command::InSession {
            session,
            sequence,
            command,
        })
    }

    /// As [`World::submit`], and gives the refusal, which there must be.
    pub fn submit_refused(&mut self, session: SessionId, command: SessionCommand) -> Rejection {
        match self.submit(session, command) {
            Reply::Refused(rejection) => rejection,
            reply => panic!("was answered {reply:?}"),
        }
    }

    /// Locks `bytes` at each of `vendors`.
    pub fn lease(&mut self, session: SessionId, vendors: &[VendorId], bytes: u64) -> LeaseId {
        match self.submit(session, allocate(vendors, bytes)) {
            Reply::Lease { lease, .. } => lease,
            reply => panic!("allocate: {reply:?}"),
        }
    }

    /// Advances cluster time by so many ms.
    pub fn pass(&mut self, ms: u64) {
        let to = self.now().plus(ms);
        assert_eq!(self.decide(&Command::Tick { to }), Reply::Done);
    }

    /// Cluster time.
    pub fn now(&self) -> ClusterTime {
        query::cluster_time(&self.rows).unwrap()
    }

    /// Room of a vendor's [`HDD`] devices.
    pub fn room(&self, vendor: VendorId) -> RoomRow {
        let rooms = query::rooms(&self.rows, vendor).unwrap();
        rooms
            .into_iter()
            .find(|(class, _)| class == HDD)
            .map(|(_, row)| row)
            .unwrap_or_default()
    }

    /// Name and settings version of `STANDARD`.
    pub fn placed(&self) -> (String, u64) {
        let row = query::class(&self.rows, STANDARD).unwrap().unwrap();
        (row.name, row.settings_version)
    }

    /// A slice of one-chunk steps that goes on at `first`.
    pub fn slice(&self, blob: BlobId, first: u32, chunks: Vec<ChunkRow>) -> SessionCommand {
        let class = self.placed();
        SessionCommand::Slice(SliceCommand {
            blob,
            first,
            chunk_bytes: CHUNK_BYTES_MIN,
            chunks,
            class,
        })
    }

    /// Drains the release queue.
    pub fn drain(&mut self) {
        for _ in 0..10_000 {
            match self.decide(&Command::DrainReleases {
                permit: ErasePermit::ALL,
            }) {
                Reply::Progress { more: true } => {}
                Reply::Progress { more: false } => return,
                reply => panic!("drain: {reply:?}"),
            }
        }
        panic!("the drain does not end");
    }

    /// Abandons an ended session's blobs and leases.
    pub fn abandon(&mut self, session: SessionId) {
        for _ in 0..10_000 {
            match self.decide(&Command::AbandonStep { session }) {
                Reply::Progress { more: true } => {}
                Reply::Progress { more: false } => return,
                reply => panic!("abandon: {reply:?}"),
            }
        }
        panic!("the abandoning does not end");
    }

    /// Lets a vendor acknowledge every erase order it has.
    pub fn erase_all(&mut self, vendor: VendorId) {
        let permit = query::ErasePermit {
            below_index: u64::MAX,
            released_before: ClusterTime::default(),
        };
        loop {
            let copies = query::erase_orders(&self.rows, vendor, &permit, 512).unwrap();
            if copies.is_empty() {
                return;
            }
            assert_eq!(
                self.decide(&Command::AcknowledgeErased { vendor, copies }),
                Reply::Done
            );
        }
    }

    /// Lets a vendor confirm every close it is asked for.
    pub fn confirm_all(&mut self, vendor: VendorId) {
        for lease in query::leases_to_confirm(&self.rows, vendor, usize::MAX).unwrap() {
            assert_eq!(self.decide(&Command::ConfirmClose { lease, vendor }), Reply::Done);
        }
    }
}

/// Asks for `bytes` at each of `vendors`, for `STANDARD`.
pub fn allocate(vendors: &[VendorId], bytes: u64) -> SessionCommand {
    SessionCommand::Allocate {
        class: STANDARD.to_owned(),
        rows: vendors
            .iter()
            .map(|vendor| (*vendor, HDD.to_owned(), bytes))
            .collect(),
        duration_ms: LEASE_MS,
    }
}

/// A chunk placed under `lease` at each of `vendors`, in one piece each.
pub fn chunk(lease: LeaseId, counter: u32, plaintext_bytes: u64, vendors: &[VendorId]) -> ChunkRow {
    let copy = |vendor: &VendorId| CopyRow {
        vendor: *vendor,
        lease,
        device_class: HDD.to_owned(),
        pieces: 1,
        score: 500,
        state: CopyState::Good,
    };
    ChunkRow {
        chunk: ChunkId { lease, counter },
        plaintext_bytes,
        digest: Digest::of(&counter.to_be_bytes()),
        copies: vendors.iter().map(copy).collect(),
    }
}

/// The `counter`th blob of a session.
pub fn blob(session: SessionId, counter: u64) -> BlobId {
    BlobId { session, counter }
}

/// Some sealed bytes.
pub fn sealed(len: u64) -> Bytes {
    Bytes::from(vec![7; usize::try_from(len).unwrap()])
}
