//! The admin API's JSON, one struct per document. Ids of chunks are text `LEASE.COUNTER`; all other ids are
//! numbers.

use super::error::{AdminError, Result};
use super::local::LocalCopy;
use crate::path::PathView;
use crate::policy::{self, PolicyKind};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::fat::rows::{
    ClassRow, CopyState, LeaseRow, LeaseState, LeaseVendorRow, RoomRow, VendorRow, VendorState,
};
use ullage_model::ids::{ChunkId, CopyId, DeviceId, UserId, VendorId};
use ullage_model::namespace::rows::{BlobStorage, Content, UserPolicy, UserRow, VersionRow};
use ullage_model::wire::agent::DeviceState;
use ullage_model::wire::metad::{LocatedSpan, SpanPlace, StatusReply};

/// A chunk's name.
pub(super) fn chunk_name(chunk: ChunkId) -> String {
    format!("{}.{}", chunk.lease.0, chunk.counter)
}

/// Bytes of room by state.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Room {
    free: u64,
    leased: u64,
    used: u64,
    erasing: u64,
    capacity: u64,
}

impl Room {
    /// With another row's bytes.
    pub(super) fn plus(self, row: &RoomRow) -> Self {
        Self {
            free: self.free + row.free(),
            leased: self.leased + row.leased,
            used: self.used + row.used,
            erasing: self.erasing + row.erasing,
            capacity: self.capacity + row.capacity,
        }
    }
}

/// `/v1/status`
#[derive(Debug, Serialize)]
pub(super) struct Status {
    cluster: String,
    epoch: u16,
    node: String,
    leader: Option<String>,
    term: u64,
    applied_index: u64,
    cluster_time_ms: u64,
    sessions: u64,
    leases: u64,
    erase_backlog: u64,
    release_queue: u64,
    room: Room,
}

impl Status {
    pub(super) fn new(reply: &StatusReply, room: Room) -> Self {
        Self {
            cluster: reply.cluster.to_string(),
            epoch: reply.epoch.0,
            node: format!("{:016x}", reply.node),
            leader: reply.leader.map(|node| format!("{node:016x}")),
            term: reply.term,
            applied_index: reply.applied_index,
            cluster_time_ms: reply.cluster_time.0,
            sessions: reply.sessions,
            leases: reply.leases,
            erase_backlog: reply.erase_backlog,
            release_queue: reply.release_backlog,
            room,
        }
    }
}

/// One entry of `/v1/vendors`.
#[derive(Debug, Serialize)]
pub(super) struct Vendor {
    vendor: u64,
    name: String,
    state: &'static str,
    address: String,
    owner: String,
    region: String,
    zone: String,
    rack: String,
    price: u64,
    room: Room,
    rooms: Vec<ClassRoom>,
    devices: Vec<Device>,
}

#[derive(Debug, Serialize)]
struct ClassRoom {
    device_class: String,
    #[serde(flatten)]
    room: Room,
}

#[derive(Debug, Serialize)]
struct Device {
    device: u32,
    class: String,
    capacity: u64,
    free: u64,
    state: &'static str,
    path: String,
}

impl Vendor {
    pub(super) fn new(row: VendorRow, rooms: Vec<(String, RoomRow)>, paths: &[(DeviceId, String)]) -> Self {
        let path = |device| {
            let known = paths.iter().find(|(known, _)| *known == device);
            known.map_or_else(String::new, |(_, path)| path.clone())
        };
        Self {
            vendor: row.vendor.0,
            name: row.name,
            state: match row.state {
                VendorState::Healthy => "alive",
                VendorState::Stale => "stale",
                VendorState::Dead => "dead",
                VendorState::Revoked => "revoked",
            },
            address: row.characteristics.address,
            owner: row.characteristics.owner,
            region: row.characteristics.region,
            zone: row.characteristics.zone,
            rack: row.characteristics.rack,
            price: row.characteristics.price,
            room: rooms.iter().fold(Room::default(), |sum, (_, row)| sum.plus(row)),
            rooms: rooms
                .into_iter()
                .map(|(device_class, row)| ClassRoom {
                    device_class,
                    room: Room::default().plus(&row),
                })
                .collect(),
            devices: row
                .devices
                .into_iter()
                .map(|report| Device {
                    device: report.device.0,
                    class: report.class,
                    capacity: report.capacity,
                    free: report.free,
                    state: match report.state {
                        DeviceState::Healthy => "ready",
                        DeviceState::ReadOnly => "read-only",
                        DeviceState::Gone => "gone",
                    },
                    path: path(report.device),
                })
                .collect(),
        }
    }
}

/// A page of copies, by the FAT or by the vendor.
#[derive(Debug, Serialize)]
pub(super) struct Copies<T> {
    pub(super) copies: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// A copy as the FAT lists it.
#[derive(Debug, Serialize)]
pub(super) struct FatCopyName {
    chunk: String,
    lease: u64,
}

impl From<CopyId> for FatCopyName {
    fn from(copy: CopyId) -> Self {
        Self {
            chunk: chunk_name(copy.chunk),
            lease: copy.lease.0,
        }
    }
}

/// A copy as its vendor lists it.
#[derive(Debug, Serialize)]
pub(super) struct LocalFatCopy {
    chunk: String,
    lease: u64,
    length: u64,
    pieces: usize,
    devices: Vec<u32>,
    complete: bool,
}

impl From<LocalCopy> for LocalFatCopy {
    fn from(local: LocalCopy) -> Self {
        Self {
            chunk: chunk_name(local.copy.chunk),
            lease: local.copy.lease.0,
            length: local.plaintext_bytes,
            pieces: local.devices.len(),
            devices: local.devices.iter().map(|device| device.0).collect(),
            complete: local.complete,
        }
    }
}

/// `/v1/fat/object`
#[derive(Debug, Serialize)]
pub(super) struct FatObject {
    bucket: String,
    key: String,
    version: String,
    length: u64,
    inline: bool,
    class: String,
    etag: String,
    pub(super) chunks: Vec<FatChunk>,
}

/// A chunk of `/v1/fat/object`.
#[derive(Debug, Serialize)]
pub(super) struct FatChunk {
    chunk: String,
    offset: u64,
    length: u64,
    copies: Vec<FatCopy>,
}

#[derive(Debug, Serialize)]
struct FatCopy {
    vendor: u64,
    lease: u64,
    device_class: String,
    pieces: u32,
    score: u16,
    state: &'static str,
}

impl FatObject {
    pub(super) fn new(bucket: String, key: String, version: &VersionRow) -> Self {
        Self {
            bucket,
            key,
            version: version.name().to_string(),
            length: version.bytes,
            inline: version.content.is_inlined(),
            class: version.class.clone(),
            etag: version.etag.to_string(),
            chunks: Vec::new(),
        }
    }
}

impl FatChunk {
    /// The chunk of a span; `None` for bytes that lie in the FAT itself.
    pub(super) fn of(span: LocatedSpan) -> Option<Self> {
        let SpanPlace::Chunk { row, .. } = span.place else {
            return None;
        };
        let copies = row.copies.into_iter().map(|copy| FatCopy {
            vendor: copy.vendor.0,
            lease: copy.lease.0,
            device_class: copy.device_class,
            pieces: copy.pieces,
            score: copy.score,
            state: match copy.state {
                CopyState::Good => "good",
                CopyState::Damaged => "bad",
                CopyState::Erasing => "erasing",
            },
        });
        Some(Self {
            chunk: chunk_name(row.chunk),
            offset: span.offset,
            length: span.bytes,
            copies: copies.collect(),
        })
    }
}

/// A page of `/v1/fat/user`.
#[derive(Debug, Serialize)]
pub(super) struct UserObjects {
    pub(super) objects: Vec<UserObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// A version of an object of `/v1/fat/user`.
#[derive(Debug, Serialize)]
pub(super) struct UserObject {
    bucket: String,
    key: String,
    version: String,
    length: u64,
    class: String,
    place: String,
}

impl UserObject {
    pub(super) fn new(bucket: String, key: String, version: VersionRow) -> Self {
        Self {
            bucket,
            key,
            version: version.name().to_string(),
            length: version.bytes,
            class: version.class,
            place: match version.content {
                Content::Empty => "empty".to_owned(),
                Content::Single(extent) | Content::Shared(extent) | Content::Held(extent, _) => {
                    match extent.storage {
                        BlobStorage::Inline => "inline".to_owned(),
                        BlobStorage::Chunks(1) => "1 chunk".to_owned(),
                        BlobStorage::Chunks(chunks) => format!("{chunks} chunks"),
                    }
                }
                Content::Manifest(manifest) => manifest.to_string(),
            },
        }
    }
}

/// A class: `/v1/classes`.
#[derive(Debug, Serialize)]
pub(super) struct Class {
    name: String,
    copies: u32,
    zones: u32,
    device_class: Option<String>,
    max_price: Option<u64>,
    pieces: u32,
    chunk_bytes: u64,
    settings_version: u64,
}

impl From<ClassRow> for Class {
    fn from(row: ClassRow) -> Self {
        Self {
            name: row.name,
            copies: row.copies,
            zones: row.zones,
            device_class: row.device_class,
            max_price: row.max_price,
            pieces: row.pieces,
            chunk_bytes: row.chunk_bytes,
            settings_version: row.settings_version,
        }
    }
}

/// The rule of a class, as an operator sends it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClassRule {
    copies: u32,
    zones: u32,
    device_class: Option<String>,
    max_price: Option<u64>,
    pieces: u32,
    chunk_bytes: u64,
}

impl ClassRule {
    pub(super) fn named(self, name: String) -> ClassRow {
        ClassRow {
            name,
            copies: self.copies,
            zones: self.zones,
            device_class: self.device_class,
            max_price: self.max_price,
            chunk_bytes: self.chunk_bytes,
            pieces: self.pieces,
            settings_version: 0,
        }
    }
}

/// An entry of `/v1/leases`.
#[derive(Debug, Serialize)]
pub(super) struct Lease {
    lease: u64,
    session: u64,
    class: String,
    state: &'static str,
    left_ms: u64,
    recalled: bool,
    rows: Vec<LeaseVendor>,
}

#[derive(Debug, Serialize)]
struct LeaseVendor {
    vendor: u64,
    device_class: String,
    locked: u64,
    settled: u64,
    confirmed: bool,
}

impl Lease {
    pub(super) fn new(row: LeaseRow, rows: Vec<(VendorId, LeaseVendorRow)>, now: ClusterTime) -> Self {
        let rows = rows.into_iter().map(|(vendor, row)| LeaseVendor {
            vendor: vendor.0,
            device_class: row.device_class,
            locked: row.locked,
            settled: row.settled,
            confirmed: row.confirmed,
        });
        Self {
            lease: row.lease.0,
            session: row.session.0,
            class: row.class,
            state: match row.state {
                LeaseState::Open => "open",
                LeaseState::Closing => "closing",
            },
            left_ms: row.deadline.since(now),
            recalled: row.recalled,
            rows: rows.collect(),
        }
    }
}

/// An entry of `/v1/paths`.
#[derive(Debug, Serialize)]
pub(super) struct Path {
    vendor: u64,
    score: u16,
    rtt_us: Option<f64>,
    hops: Option<u8>,
    loss: f64,
    latency_us: f64,
    read_latency_us: f64,
    bytes_per_second: f64,
    read_bytes_per_second: f64,
    failure_rate: f64,
    in_flight: u32,
    /// Chunks go to it directly, not by way of other vendors.
    direct: bool,
    /// Why it is not used for writes while others are there.
    discarded: Option<String>,
}

impl From<PathView> for Path {
    fn from(view: PathView) -> Self {
        Self {
            vendor: view.vendor.0,
            score: view.score,
            rtt_us: view.round_trip_ms.map(|ms| (ms * 1000.0).round()),
            hops: view.hops,
            loss: view.loss,
            latency_us: (view.write_ms * 1000.0).round(),
            read_latency_us: (view.read_ms * 1000.0).round(),
            bytes_per_second: view.write_bytes_per_s.round(),
            read_bytes_per_second: view.read_bytes_per_s.round(),
            failure_rate: view.failures,
            in_flight: view.in_flight,
            direct: view.direct,
            discarded: view.discarded.map(|why| why.to_string()),
        }
    }
}

/// A user: an entry of `/v1/users`.
#[derive(Debug, Serialize)]
pub(super) struct User {
    user: u64,
    name: String,
    /// `readwrite`, `readonly`, `none` or `document`.
    policy: &'static str,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            user: row.user.0,
            name: row.name,
            policy: policy_name(&row.policy),
        }
    }
}

fn policy_name(policy: &UserPolicy) -> &'static str {
    match policy {
        UserPolicy::ReadWrite => "readwrite",
        UserPolicy::ReadOnly => "readonly",
        UserPolicy::None => "none",
        UserPolicy::Document(_) => "document",
    }
}

/// A user with its policy: `/v1/users/policy`.
#[derive(Debug, Serialize)]
pub(super) struct UserPolicyView {
    user: u64,
    name: String,
    /// A name, or the document.
    policy: serde_json::Value,
}

impl From<UserRow> for UserPolicyView {
    fn from(row: UserRow) -> Self {
        let named = || policy_name(&row.policy).into();
        Self {
            user: row.user.0,
            policy: match &row.policy {
                UserPolicy::Document(text) => serde_json::from_str(text).unwrap_or_else(|_| named()),
                UserPolicy::ReadWrite | UserPolicy::ReadOnly | UserPolicy::None => named(),
            },
            name: row.name,
        }
    }
}

/// A user to be made, as an operator sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    pub(super) name: String,
    pub(super) access_key: String,
    pub(super) secret_key: String,
    pub(super) policy: Policy,
}

/// A user's new policy, as an operator sends it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPolicy {
    pub(super) user: String,
    pub(super) policy: Policy,
}

/// What a user may do: a name, or a document as it was written.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Policy(Box<RawValue>);

impl Policy {
    /// As it is kept.
    ///
    /// # Errors
    /// 400 for another name, and for a document that is not understood whole.
    pub(super) fn read(&self) -> Result<UserPolicy> {
        let text = self.0.get();
        match text {
            r#""readwrite""# => return Ok(UserPolicy::ReadWrite),
            r#""readonly""# => return Ok(UserPolicy::ReadOnly),
            r#""none""# => return Ok(UserPolicy::None),
            _ if text.starts_with('"') => {
                return Err(AdminError::invalid(format!(
                    "{text} is no policy: readwrite, readonly, none, or a document"
                )));
            }
            _ => {}
        }
        policy::Policy::parse(text, PolicyKind::User)
            .map_err(|error| AdminError::invalid(format!("the policy cannot be taken: {error}")))?;
        Ok(UserPolicy::Document(text.to_owned()))
    }
}

/// The answer to a new user.
#[derive(Debug, Serialize)]
pub(super) struct UserMade {
    pub(super) user: u64,
    pub(super) name: String,
    pub(super) access_key: String,
}

/// An entry of `/v1/keys`.
#[derive(Debug, Serialize)]
pub(super) struct Key {
    access_key: String,
    user: u64,
}

impl From<(String, UserId)> for Key {
    fn from((access_key, user): (String, UserId)) -> Self {
        Self {
            access_key,
            user: user.0,
        }
    }
}

/// The answer to a deleted key.
#[derive(Debug, Serialize)]
pub(super) struct KeyDeleted {
    pub(super) deleted: String,
}
