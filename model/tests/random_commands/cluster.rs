//! Acts on actions: gateways that send before they commit, a leader, vendors; and what must hold of FAT and
//! vendors together.

mod arrivals;
pub mod classes;
mod leases;
mod objects;
mod quota;
mod uploads;
mod versions;

use crate::agents::Agent;
use crate::support::{World, registration, sealed};
use crate::{Action, Rule};
use arrivals::Arrivals;
use classes::OFFERS;
use quota::Bounds;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use ullage_model::cluster_time::WallTime;
use ullage_model::command::{Actor, BucketRef, Command, Reply, SessionCommand};
use ullage_model::fat::query;
use ullage_model::fat::query::ErasePermit;
use ullage_model::fat::rows::{ChunkRow, CopyState, LeaseState, SessionState, VendorState};
use ullage_model::ids::{BucketId, KekId, LeaseId, SessionId, VendorId};
use ullage_model::limits::{CHUNK_BYTES_MIN, OUTCOME_KEPT_MS};
use ullage_model::namespace::keys;
use ullage_model::namespace::rows::{BucketRow, Quota, ROOT_USER, WrappedKey};
use ullage_model::rejection::Rejection;
use ullage_model::step::{ReadRows, decode_row};
use ullage_model::store::{Column, Direction, KeyRange, Read};
use uploads::Upload;

const CAPACITY: u64 = 5 << 20;
const SESSIONS: usize = 3;
const KEYS: u8 = 5;
const ROOT: Actor = Actor {
    user: ROOT_USER,
    settings_version: 0,
};

/// A gateway: what it knows of its leases, and the blob it is building.
#[derive(Debug)]
struct Gateway {
    session: SessionId,
    silent: bool,
    /// (lease, vendor) → (granted, sent), in bytes of room.
    grants: BTreeMap<(LeaseId, VendorId), (u64, u64)>,
    chunks: u32,
    blobs: u64,
    /// Chunks and bytes committed of the blob being built.
    building: (u32, u64),
}

/// The whole.
pub struct Cluster {
    world: World,
    agents: Vec<Agent>,
    gateways: Vec<Gateway>,
    bucket: BucketRef,
    decided: Vec<(Command, Reply)>,
    uploads: Vec<Upload>,
    arrivals: Arrivals,
    bounds: Bounds,
}

fn pick<T>(items: &[T], number: u8) -> Option<usize> {
    usize::from(number).checked_rem(items.len())
}

fn wrapped_key() -> WrappedKey {
    WrappedKey {
        kek: KekId(1),
        bytes: sealed(32),
    }
}

impl Cluster {
    pub fn new(rule: Rule) -> Self {
        let mut world = World::new(1);
        let agents = OFFERS.iter().map(|offer| {
            let mut request = registration(offer.name, offer.zone, offer.reports(CAPACITY));
            request.characteristics.price = offer.price;
            match world.decide(&Command::RegisterVendor(request)) {
                Reply::Vendor(vendor) => Agent::new(vendor, offer, CAPACITY),
                reply => panic!("{reply:?}"),
            }
        });
        let agents = agents.collect();
        let session = world.session();
        let create = SessionCommand::CreateBucket {
            actor: ROOT,
            name: "bucket".to_owned(),
            region: "here".to_owned(),
            access: ullage_model::namespace::rows::BucketAccess::default(),
            now: WallTime(0),
        };
        let bucket = BucketRef {
            bucket: BucketId(0),
            settings_version: 0,
        };
        let (gateways, decided) = (Vec::new(), Vec::new());
        let mut cluster = Self {
            world,
            agents,
            gateways,
            bucket,
            decided,
            uploads: Vec::new(),
            arrivals: Arrivals::default(),
            bounds: Bounds::default(),
        };
        cluster.set_class(&rule);
        cluster.add_gateway(session);
        let Reply::Bucket(bucket) = cluster.submit(0, create) else {
            panic!("no bucket")
        };
        cluster.bucket = cluster.bucket_ref(bucket);
        cluster
    }

    /// The bucket under its present settings.
    fn bucket_ref(&self, bucket: BucketId) -> BucketRef {
        let key = keys::bucket(bucket);
        let row: Option<BucketRow> = self.world.rows.row(Column::Buckets, &key).unwrap();
        BucketRef {
            bucket,
            settings_version: row.unwrap().settings_version,
        }
    }

    fn add_gateway(&mut self, session: SessionId) {
        self.gateways.push(Gateway {
            session,
            silent: false,
            grants: BTreeMap::new(),
            chunks: 0,
            blobs: 0,
            building: (0, 0),
        });
    }

    /// Does one action.
    pub fn act(&mut self, action: &Action) {
        match *action {
            Action::OpenSession if self.gateways.len() < SESSIONS => {
                let session = self.world.session();
                self.add_gateway(session);
            }
            Action::OpenSession => {}
            Action::Tick { ms } => self.tick(ms),
            Action::Drain => {
                assert!(matches!(
                    self.world.decide(&Command::DrainReleases {
                        permit: ErasePermit::ALL
                    }),
                    Reply::Progress { .. }
                ));
            }
            Action::Vendor {
                vendor,
                closes,
                erases,
            } => {
                let at = pick(&self.agents, vendor).unwrap();
                self.agents[at].work(&mut self.world, closes.into(), erases.into());
            }
            Action::Damage { vendor, copy } => {
                let at = pick(&self.agents, vendor).unwrap();
                self.agents[at].lose(&mut self.world, copy);
            }
            Action::Devices { vendor, capacity } => self.devices(vendor, capacity),
            Action::VendorState { vendor, state } => {
                let vendor = self.agents[pick(&self.agents, vendor).unwrap()].vendor;
                let states = [VendorState::Healthy, VendorState::Stale, VendorState::Dead];
                let state = states[pick(&states, state).unwrap()];
                assert_eq!(
                    self.world.decide(&Command::SetVendorState { vendor, state }),
                    Reply::Done
                );
            }
            Action::SetClass { rule } => self.set_class(&rule),
            Action::Repeat { back } => self.repeat(back),
            Action::Invite { number, life_ms } => self.arrivals.invite(&mut self.world, number, life_ms),
            Action::Enrol { vendor, invite } => self.arrivals.enrol(&mut self.world, vendor, invite),
            Action::Revoke { vendor } => self.arrivals.revoke(&mut self.world, vendor),
            Action::Member { node, leaves } => self.arrivals.member(&mut self.world, node, leaves),
            ref action => self.act_for_gateway(action),
        }
        self.keep_within_quota();
    }

    fn act_for_gateway(&mut self, action: &Action) {
        let gateway = |number: u8| pick(&self.gateways, number).unwrap();
        match *action {
            Action::LoseGateway {
                gateway: number,
                silently,
            } => self.lose_gateway(gateway(number), silently),
            Action::Renew {
                gateway: number,
                acknowledge,
            } => self.renew(gateway(number), acknowledge),
            Action::Abandon { gateway: number } => self.abandon(gateway(number)),
            Action::Resolve {
                gateway: number,
                ahead,
                back,
            } => self.resolve(gateway(number), ahead, back),
            Action::Choose {
                gateway: number,
                bytes,
                least,
            } => self.choose(gateway(number), bytes, least),
            Action::Allocate {
                gateway: number,
                vendors,
                bytes,
            } => {
                let blindly = self.blindly(vendors, bytes);
                self.allocate(gateway(number), blindly);
            }
            Action::RenewLease {
                gateway: number,
                lease,
                duration_ms,
            } => {
                let command = |lease| SessionCommand::RenewLease { lease, duration_ms };
                self.with_lease(gateway(number), lease, command);
            }
            Action::Return {
                gateway: number,
                lease,
            } => {
                self.with_lease(gateway(number), lease, |lease| SessionCommand::ReturnLease {
                    lease,
                });
            }
            Action::Shrink {
                gateway: number,
                lease,
                vendor,
                bytes,
            } => {
                self.shrink(gateway(number), (lease, vendor), bytes);
            }
            Action::Recall {
                gateway: number,
                lease,
            } => {
                if let Some(lease) = self.lease_of(gateway(number), lease) {
                    assert_eq!(self.world.decide(&Command::RecallLease { lease }), Reply::Done);
                }
            }
            Action::Expire {
                gateway: number,
                lease,
            } => {
                if let Some(lease) = self.lease_of(gateway(number), lease) {
                    self.world.decide(&Command::ExpireLease { lease });
                }
            }
            Action::Stray {
                gateway: number,
                lease,
                vendors,
                bytes,
            } => {
                self.send(gateway(number), (lease, vendors), bytes.min(CHUNK_BYTES_MIN));
            }
            Action::Slice {
                gateway: number,
                lease,
                vendors,
                chunks,
            } => {
                self.slice(gateway(number), (lease, vendors), chunks);
            }
            Action::AbandonBlob { gateway: number } => self.abandon_blob(gateway(number)),
            Action::Finalize {
                gateway: number,
                lease,
                vendors,
                bytes,
                key,
            } => {
                self.finalize(gateway(number), (lease, vendors), bytes, key);
            }
            Action::Inline {
                gateway: number,
                bytes,
                key,
            } => self.inline(gateway(number), bytes.into(), key),
            Action::Copy {
                gateway: number,
                from,
                to,
            } => self.copy(gateway(number), from, to),
            Action::Delete { gateway: number, key } => self.delete(gateway(number), key),
            Action::Tag { gateway: number, key } => self.tag(gateway(number), key),
            Action::Document {
                gateway: number,
                kind,
                bytes,
            } => self.document(gateway(number), kind, bytes),
            Action::DeleteVersion {
                gateway: number,
                key,
                version,
            } => self.delete_version(gateway(number), key, version),
            Action::SetQuota {
                gateway: number,
                bytes,
                objects,
            } => self.set_quota(gateway(number), Quota { bytes, objects }),
            Action::SetVersioning {
                gateway: number,
                enabled,
            } => self.set_versioning(gateway(number), enabled),
            Action::CreateUpload { gateway: number, key } => self.create_upload(gateway(number), key),
            Action::Part {
                gateway: number,
                upload,
                part,
                lease,
                vendors,
                bytes,
            } => self.part(gateway(number), (upload, part), (lease, vendors), bytes),
            Action::Complete {
                gateway: number,
                upload,
                parts,
                whole,
            } => self.complete(gateway(number), upload, parts, whole),
            Action::AbortUpload {
                gateway: number,
                upload,
            } => self.abort_upload(gateway(number), upload),
            ref other => panic!("{other:?} is nobody's"),
        }
    }

    /// Vendors hold every good copy, and never more bytes than they offered.
    pub fn check(&self) {
        self.arrivals.check(&self.world);
        for agent in &self.agents {
            let (least, most) = agent.offered;
            if least == most {
                assert!(
                    agent.stored() <= most,
                    "{} holds {} of {most}",
                    agent.vendor,
                    agent.stored()
                );
            }
        }
        let all = KeyRange::all();
        let check = &mut |_: &[u8], value: &[u8]| {
            let chunk: ChunkRow = decode_row(Column::Chunks, value).unwrap();
            for copy in chunk.copies.iter().filter(|copy| copy.state == CopyState::Good) {
                let agent = self
                    .agents
                    .iter()
                    .find(|agent| agent.vendor == copy.vendor)
                    .unwrap();
                let name = chunk.copy_id(copy);
                assert!(agent.copies.contains_key(&name), "{} lost {name}", agent.vendor);
            }
            ControlFlow::Continue(())
        };
        self.world
            .rows
            .scan(Column::Chunks, &all, Direction::Forward, check)
            .unwrap();
    }

    /// Ends every session and lets everybody finish: all room is free but that of live objects, and FAT and
    /// vendors agree copy by copy. Then deletes the objects: nothing is left at all.
    pub fn close_everything(mut self) {
        let undertaker = self.world.session();
        let sessions = query::sessions(&self.world.rows).unwrap();
        for session in sessions
            .into_iter()
            .map(|row| row.session)
            .filter(|id| *id != undertaker)
        {
            assert_eq!(self.world.decide(&Command::EndSession { session }), Reply::Done);
            self.world.abandon(session);
        }
        self.settle_down();
        for agent in &self.agents {
            let room = self.room_of(agent);
            assert_eq!((room.leased, room.erasing), (0, 0), "{}", agent.vendor);
            let known = self.copies_of(agent.vendor);
            let held = agent.copies.keys().all(|copy| known.contains_key(copy));
            assert!(held, "{} holds what the FAT does not know", agent.vendor);
        }
        self.abort_uploads(undertaker);
        self.delete_all_versions(undertaker);
        self.settle_down();
        self.everything_is_free(undertaker);
        self.nothing_is_left(undertaker);
        assert!(
            self.world.replayed() == self.world.rows,
            "another replica differs"
        );
    }

    fn settle_down(&mut self) {
        self.world.drain();
        for agent in &mut self.agents {
            while agent.work(&mut self.world, usize::MAX, 100) {}
        }
        self.check();
    }

    /// All that is offered can be locked: nothing is falsely full.
    fn everything_is_free(&mut self, session: SessionId) {
        self.set_class(&Rule::plain(1));
        for at in 0..self.agents.len() {
            let (vendor, state) = (self.agents[at].vendor, VendorState::Healthy);
            assert_eq!(
                self.world.decide(&Command::SetVendorState { vendor, state }),
                Reply::Done
            );
            let room = self.room_of(&self.agents[at]);
            assert_eq!((room.leased, room.used, room.erasing), (0, 0, 0));
            if room.capacity > 0 {
                let all = self.blindly(1 << at, room.capacity);
                let reply = self.world.submit(session, all);
                let Reply::Lease { lease, .. } = reply else {
                    panic!("{reply:?}")
                };
                let give_back = SessionCommand::ReturnLease { lease };
                assert_eq!(self.world.submit(session, give_back), Reply::Done);
                self.world.confirm_all(vendor);
            }
        }
    }

    fn nothing_is_left(&mut self, last: SessionId) {
        assert_eq!(
            self.world.decide(&Command::EndSession { session: last }),
            Reply::Done
        );
        self.world.abandon(last);
        for _ in 0..20 {
            self.world.pass(OUTCOME_KEPT_MS);
        }
        let gone = [
            Column::Leases,
            Column::EraseOrders,
            Column::Copies,
            Column::Chunks,
            Column::Blobs,
            Column::Releases,
            Column::Live,
            Column::Versions,
            Column::Manifests,
            Column::Inline,
            Column::Sessions,
            Column::Outcomes,
        ];
        for column in gone {
            let mut left = 0;
            let count = &mut |_: &[u8], _: &[u8]| {
                left += 1;
                ControlFlow::Continue(())
            };
            self.world
                .rows
                .scan(column, &KeyRange::all(), Direction::Forward, count)
                .unwrap();
            assert_eq!(left, 0, "rows left in {}", column.name());
        }
        assert_eq!(query::inline(&self.world.rows).unwrap().used_bytes, 0);
        self.completed_uploads_are_forgotten();
    }

    fn copies_of(&self, vendor: VendorId) -> BTreeMap<ullage_model::ids::CopyId, ()> {
        let mut found = BTreeMap::new();
        let collect = &mut |_: &[u8], value: &[u8]| {
            let chunk: ChunkRow = decode_row(Column::Chunks, value).unwrap();
            let here = chunk.copies.iter().filter(|copy| copy.vendor == vendor);
            found.extend(here.map(|copy| (chunk.copy_id(copy), ())));
            ControlFlow::Continue(())
        };
        self.world
            .rows
            .scan(Column::Chunks, &KeyRange::all(), Direction::Forward, collect)
            .unwrap();
        found
    }

    fn submit(&mut self, at: usize, command: SessionCommand) -> Reply {
        let session = self.gateways[at].session;
        let sequence = self.world.next_sequence(session);
        let command = Command::InSession {
            session,
            sequence,
            command,
        };
        let reply = self.world.decide(&command);
        if let Command::InSession { command, .. } = &command {
            self.judge_placement(command, &reply);
        }
        self.decided.push((command, reply.clone()));
        reply
    }

    fn repeat(&mut self, back: u8) {
        let Some(at) = self.decided.len().checked_sub(1 + usize::from(back)) else {
            return;
        };
        let (command, first) = self.decided[at].clone();
        let before = self.world.rows.clone();
        match self.world.decide(&command) {
            Reply::Refused(Rejection::SequenceForgotten(_) | Rejection::SessionGone) => {}
            again => assert_eq!(again, first, "{command:?} was decided twice"),
        }
        assert!(self.world.rows == before, "{command:?} did something twice");
    }

    fn resolve(&mut self, at: usize, ahead: u8, back: u8) {
        let session = self.gateways[at].session;
        let next = self.world.next_sequence(session);
        let sequence = (next + u64::from(ahead)).saturating_sub(u64::from(back % 4));
        let asked = self.decided.iter().find(|(command, _)| {
            matches!(command, Command::InSession { session: s, sequence: n, .. } if *s == session && *n == sequence)
        });
        let asked = asked.map(|(_, reply)| reply.clone());
        match (self.world.decide(&Command::Resolve { session, sequence }), asked) {
            (Reply::Refused(Rejection::SequenceForgotten(_) | Rejection::SessionGone), _)
            | (Reply::Abandoned, None) => {}
            (Reply::Abandoned, Some(Reply::Refused(reason))) => {
                // Never decided: its session had ended, or it was resolved before.
                assert!(matches!(
                    reason,
                    Rejection::SessionGone | Rejection::SequenceAbandoned(_)
                ));
            }
            (reply, asked) => assert_eq!(Some(reply), asked),
        }
    }

    fn renew(&mut self, at: usize, acknowledge: u8) {
        let gateway = &self.gateways[at];
        let Some(row) = query::session(&self.world.rows, gateway.session).unwrap() else {
            return;
        };
        let decided = self.decided.iter().filter_map(|(command, _)| match command {
            Command::InSession {
                session, sequence, ..
            } if *session == gateway.session => Some(*sequence + 1),
            _ => None,
        });
        let acknowledged_below = decided
            .max()
            .unwrap_or(0)
            .min(row.window_start + u64::from(acknowledge));
        let observed_index = self.world.index;
        let session = gateway.session;
        let reply = self.world.decide(&Command::RenewSession {
            session,
            acknowledged_below,
            observed_index,
        });
        let live = row.state == SessionState::Live;
        assert_eq!(reply == Reply::Done, live, "{reply:?}");
    }

    fn lose_gateway(&mut self, at: usize, silently: bool) {
        if self.gateways.len() == 1 {
            return;
        }
        self.gateways[at].silent = true;
        if !silently {
            let session = self.gateways[at].session;
            self.world.decide(&Command::EndSession { session });
        }
    }

    fn abandon(&mut self, at: usize) {
        let session = self.gateways[at].session;
        let row = query::session(&self.world.rows, session).unwrap();
        let reply = self.world.decide(&Command::AbandonStep { session });
        match row.map(|row| row.state) {
            Some(SessionState::Live) => assert!(matches!(reply, Reply::Refused(Rejection::Invalid(_)))),
            _ => assert_eq!(reply, Reply::Progress { more: false }),
        }
        if self.gateways[at].silent && self.gateways.len() > 1 && reply == (Reply::Progress { more: false }) {
            self.gateways.remove(at);
        }
    }

    /// Gateways that are not silent show signs of life in time.
    fn tick(&mut self, ms: u64) {
        self.world.pass(ms);
        for at in 0..self.gateways.len() {
            if !self.gateways[at].silent {
                self.renew(at, 3);
            }
        }
        let now = self.world.now();
        let overdue = query::open_leases(&self.world.rows, |row| row.deadline <= now, 1).unwrap();
        assert!(overdue.is_empty(), "{overdue:?}");
        let open = |row: &ullage_model::fat::rows::LeaseRow| row.state == LeaseState::Open;
        assert!(
            query::leases(&self.world.rows)
                .unwrap()
                .iter()
                .all(|(row, _)| !open(row) || row.deadline > now)
        );
    }

    fn devices(&mut self, vendor: u8, capacity: u64) {
        let at = pick(&self.agents, vendor).unwrap();
        let agent = &mut self.agents[at];
        agent.offered = (agent.offered.0.min(capacity), agent.offered.1.max(capacity));
        let devices = if capacity < 1000 {
            Vec::new()
        } else {
            agent.offer.reports(capacity)
        };
        let command = Command::UpdateDevices {
            vendor: agent.vendor,
            devices,
        };
        assert_eq!(self.world.decide(&command), Reply::Done);
    }
}
