//! A metadata service in memory: the real `decide` on the reference store, with leader duties reduced to what the
//! gateway can notice, and with faults between it and the gateway.

#[path = "metad_faults.rs"]
mod faults;

pub use faults::{Loss, MetadFaults};

use crate::agents::Agents;
use crate::random::Random;
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use ullage_gateway::metad_client::{Answered, MetadClient};
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::decide::decide;
use ullage_model::fat::query::{self, ErasePermit};
use ullage_model::fat::rows::{ClassRow, InlineRow, VendorState};
use ullage_model::ids::{ClusterId, Epoch, SessionId, VendorId};
use ullage_model::invariants;
use ullage_model::limits::{FRAME_BYTES, LEASE_MS};
use ullage_model::namespace;
use ullage_model::rejection::Rejection;
use ullage_model::step::At;
use ullage_model::store::Memory;
use ullage_model::wire::agent::{
    Characteristics, DeviceReport, DeviceState, JudgeRequest, Judgement, RegisterRequest,
};
use ullage_model::wire::chunk::{GRANT_CONTEXT, Grant, GrantAction, GrantBody, PublicKey, Signature};
use ullage_model::wire::enrol::{InviteReply, InviteRequest, JoinToken};
use ullage_model::wire::members::{Member, MembersReply, MembersRequest};
use ullage_model::wire::metad::{
    AllocateRequest, MetadError, OpenSessionReply, OpenSessionRequest, ProvisionalFat, ProvisionalRow, Query,
    QueryReply, RenewSessionReply, RenewSessionRequest, ReportDamagedRequest, ResolveRequest, StatusReply,
    SubmitReply, SubmitRequest, VendorInfo,
};

pub const CLUSTER: ClusterId = ClusterId(77);

pub struct Metad {
    state: Mutex<State>,
    issuer: SigningKey,
    agents: Arc<Agents>,
    random: Random,
    faults: Mutex<MetadFaults>,
    start: tokio::time::Instant,
    short_grants: bool,
}

#[derive(Default)]
struct State {
    rows: Memory,
    index: u64,
}

impl std::fmt::Debug for Metad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metad")
    }
}

/// Classes of the tests: (name, copies, zones).
pub fn classes() -> Vec<ClassRow> {
    let class = |name: &str, copies, zones, chunk_bytes| ClassRow {
        name: name.to_owned(),
        copies,
        zones,
        device_class: None,
        max_price: None,
        chunk_bytes,
        pieces: 2,
        settings_version: 0,
    };
    let small = 32 * FRAME_BYTES;
    vec![
        class("STANDARD", 2, 2, small),
        class("SINGLE", 1, 0, small),
        class("TRIPLE", 3, 0, small),
    ]
}

impl Metad {
    /// With all vendors.
    pub fn new(agents: Arc<Agents>, seed: u64, inline_budget: u64) -> Arc<Self> {
        let metad = Self::empty(agents, seed, inline_budget);
        metad.register_vendors();
        metad
    }

    /// Vendors are still to register.
    pub fn empty(agents: Arc<Agents>, seed: u64, inline_budget: u64) -> Arc<Self> {
        let metad = Self {
            state: Mutex::default(),
            issuer: SigningKey::from_bytes(&[8; 32]),
            agents: Arc::clone(&agents),
            random: Random::new(seed ^ 0x6d65_7461),
            faults: Mutex::default(),
            start: tokio::time::Instant::now(),
            short_grants: seed % 2 == 1,
        };
        metad.command(&Command::Initialise {
            cluster: CLUSTER,
            classes: classes(),
            inline: InlineRow {
                cap_bytes: 4096,
                budget_bytes: inline_budget,
                used_bytes: 0,
            },
        });
        Arc::new(metad)
    }

    pub fn register_vendors(&self) {
        for (at, (public_key, capacity)) in self.agents.keys().into_iter().enumerate() {
            let characteristics = Characteristics {
                zone: format!("zone-{}", at % 2),
                ..Characteristics::default()
            };
            let device = |device| DeviceReport {
                device: ullage_model::ids::DeviceId(device),
                class: "ssd".to_owned(),
                capacity: capacity / 2,
                free: capacity / 2,
                state: DeviceState::Healthy,
            };
            let reply = self.command(&Command::RegisterVendor(RegisterRequest {
                public_key,
                name: format!("vendor {at}"),
                characteristics,
                devices: vec![device(0), device(1)],
            }));
            let Reply::Vendor(vendor) = reply else {
                panic!("{reply:?}")
            };
            self.agents.named(public_key, vendor);
        }
    }

    /// Where `vendor` is reached from now on.
    pub fn set_address(&self, vendor: VendorId, address: &str) {
        let rows = self.read(|rows| query::vendor_rows(rows).unwrap());
        let row = rows.into_iter().find(|row| row.vendor == vendor).unwrap();
        let reply = self.command(&Command::RegisterVendor(RegisterRequest {
            public_key: row.public_key,
            name: row.name,
            characteristics: Characteristics {
                address: address.to_owned(),
                ..row.characteristics
            },
            devices: row.devices,
        }));
        assert_eq!(reply, Reply::Vendor(vendor));
    }

    pub fn set_faults(&self, faults: MetadFaults) {
        *self.faults.lock().unwrap() = faults;
    }

    /// Decides a command and checks all invariants of the table.
    pub fn command(&self, command: &Command) -> Reply {
        let mut state = self.state.lock().unwrap();
        self.decide_in(&mut state, command)
    }

    fn decide_in(&self, state: &mut State, command: &Command) -> Reply {
        state.index += 1;
        let cluster_time = query::cluster_time(&state.rows).unwrap_or_default();
        let at = At {
            index: state.index,
            cluster_time,
        };
        let decision = decide(&state.rows, at, command).expect("the store does not fail");
        state.rows.apply(decision.changes);
        decision.reply
    }

    pub fn read<T>(&self, read: impl FnOnce(&Memory) -> T) -> T {
        read(&self.state.lock().unwrap().rows)
    }

    pub fn check_invariants(&self) {
        self.read(|rows| invariants::check(rows).unwrap());
    }

    fn now(&self) -> ClusterTime {
        ClusterTime(u64::try_from(self.start.elapsed().as_millis()).unwrap())
    }

    /// What a leader does: time, ended sessions, closed leases, releases, erase orders.
    pub fn duties(&self) {
        self.command(&Command::Tick { to: self.now() });
        let ended = self.read(|rows| {
            let sessions = query::sessions(rows).unwrap();
            let live = |id| ullage_model::session::is_live(rows, id).unwrap();
            sessions
                .into_iter()
                .map(|row| row.session)
                .filter(|id| !live(*id))
                .collect::<Vec<_>>()
        });
        for session in ended {
            self.command(&Command::AbandonStep { session });
        }
        while self.read(|rows| query::may_drain(rows, &ErasePermit::ALL).unwrap()) {
            self.command(&Command::DrainReleases {
                permit: ErasePermit::ALL,
            });
        }
        for vendor in self.agents.vendors() {
            self.serve_vendor(vendor);
        }
    }

    fn serve_vendor(&self, vendor: VendorId) {
        let leases = self.read(|rows| query::leases_to_confirm(rows, vendor, 100).unwrap());
        for lease in leases {
            let copies = self.agents.close(vendor, lease);
            let judged = self
                .read(|rows| {
                    query::judge(
                        rows,
                        &JudgeRequest {
                            vendor,
                            copies: copies.clone(),
                        },
                    )
                })
                .unwrap();
            for (copy, judgement) in copies.into_iter().zip(judged.judgements) {
                assert_ne!(judgement, Judgement::Undecided);
                if judgement == Judgement::Erase {
                    self.agents.erase(vendor, copy);
                }
            }
            self.command(&Command::ConfirmClose { lease, vendor });
        }
        let orders = self.read(|rows| {
            let permit = ErasePermit {
                below_index: query::safe_erase_index(rows).unwrap(),
                released_before: ClusterTime(0),
            };
            query::erase_orders(rows, vendor, &permit, 500).unwrap()
        });
        if !orders.is_empty() {
            for (_, copy) in &orders {
                self.agents.erase(vendor, *copy);
            }
            self.command(&Command::AcknowledgeErased {
                vendor,
                copies: orders,
            });
        }
    }

    /// Runs the duties for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.duties();
        }
    }

    fn grant(&self, session: SessionId, vendor: VendorId, action: GrantAction) -> Grant {
        let body = codec::encode(&GrantBody {
            cluster: CLUSTER,
            epoch: Epoch::default(),
            session,
            vendor,
            action,
            // As long as metad's, or as short as may be: leases are renewed or rotated accordingly.
            deadline: self.now().plus(if self.short_grants {
                LEASE_MS
            } else {
                60 * LEASE_MS
            }),
        });
        let signature = self.issuer.sign(&[GRANT_CONTEXT, &body].concat());
        Grant {
            body,
            issuer: PublicKey(self.issuer.verifying_key().to_bytes()),
            signature: Signature(Bytes::copy_from_slice(&signature.to_bytes())),
        }
    }

    /// The network, on the way there.
    async fn arrive(&self) -> Result<(), MetadError> {
        let faults = self.faults.lock().unwrap().clone();
        tokio::time::sleep(faults.slow + Duration::from_millis(self.random.below(3))).await;
        if self.random.percent(faults.unavailable) {
            return Err(MetadError::Unavailable("no leader".to_owned()));
        }
        Ok(())
    }

    async fn decide_remotely(&self, command: Command) -> Result<(u64, Reply), MetadError> {
        self.arrive().await?;
        let faults = self.faults.lock().unwrap().clone();
        if self.random.percent(faults.lost_before) {
            return Err(MetadError::Unknown("lost on the way there".to_owned()));
        }
        let decided = {
            let mut state = self.state.lock().unwrap();
            let reply = self.decide_in(&mut state, &command);
            (state.index, reply)
        };
        if self.random.percent(faults.lost_after) {
            return Err(MetadError::Unknown("lost on the way back".to_owned()));
        }
        Ok(decided)
    }

    async fn allocate_remotely(&self, request: AllocateRequest) -> Result<ProvisionalFat, MetadError> {
        let rows = self.read(|rows| {
            let vendors = query::vendors(rows).unwrap();
            let mut chosen = Vec::new();
            for (vendor, rooms) in vendors {
                if vendor.state != VendorState::Healthy || request.avoid.contains(&vendor.vendor) {
                    continue;
                }
                for (device_class, room) in rooms {
                    let fair = (room.free() / 8).max(request.least_bytes);
                    let bytes = request.bytes.min(fair);
                    if bytes <= room.free() && bytes >= request.least_bytes {
                        chosen.push((vendor.vendor, device_class, bytes));
                    }
                }
            }
            chosen
        });
        let command = Command::InSession {
            session: request.session,
            sequence: request.sequence,
            command: SessionCommand::Allocate {
                class: request.class.clone(),
                rows: rows.clone(),
                duration_ms: LEASE_MS,
            },
        };
        match self.decide_remotely(command).await?.1 {
            Reply::Lease { lease, deadline } => {
                let row = |(vendor, device_class, bytes): (VendorId, String, u64)| {
                    let action = GrantAction::Write {
                        lease,
                        bytes,
                        device_class: device_class.clone(),
                    };
                    let grant = self.grant(request.session, vendor, action);
                    ProvisionalRow {
                        vendor,
                        device_class,
                        bytes,
                        grant,
                    }
                };
                Ok(ProvisionalFat {
                    lease,
                    class: request.class,
                    deadline,
                    rows: rows.into_iter().map(row).collect(),
                })
            }
            Reply::Refused(Rejection::NoRoom { .. } | Rejection::Placement(_)) => {
                Err(MetadError::NoRoom("the test's cluster is full".to_owned()))
            }
            Reply::Refused(rejection) => Err(MetadError::Refused(rejection)),
            reply => panic!("{reply:?}"),
        }
    }

    fn renewed(&self, session: SessionId) -> RenewSessionReply {
        let vendors = self.read(|rows| query::vendor_rows(rows).unwrap());
        let info = |row: ullage_model::fat::rows::VendorRow| VendorInfo {
            read_grant: self.grant(session, row.vendor, GrantAction::Read),
            row,
        };
        let state = self.state.lock().unwrap();
        RenewSessionReply {
            cluster_time: query::cluster_time(&state.rows).unwrap(),
            index: state.index,
            leases: query::session_leases(&state.rows, session).unwrap(),
            vendors: vendors.into_iter().map(info).collect(),
            classes: query::classes(&state.rows).unwrap(),
            inline: query::inline(&state.rows).unwrap(),
        }
    }
}

fn refusal(reply: Reply) -> Result<Reply, MetadError> {
    match reply {
        Reply::Refused(rejection) => Err(MetadError::Refused(rejection)),
        reply => Ok(reply),
    }
}

impl MetadClient for Metad {
    fn open_session(&self, request: OpenSessionRequest) -> Answered<'_, OpenSessionReply> {
        Box::pin(async move {
            self.arrive().await?;
            let keks = self.read(|rows| query::keks(rows).unwrap());
            let kek = keks.first().copied().unwrap_or(request.kek);
            let check = Command::CheckKek {
                kek,
                value: request.kek_value,
            };
            let Reply::KekValue(kek_value) = refusal(self.command(&check))? else {
                panic!("no KEK value")
            };
            let open = Command::OpenSession {
                gateway: request.gateway,
                instance: 0,
            };
            let Reply::Session(session) = refusal(self.command(&open))? else {
                panic!("no session")
            };
            Ok(OpenSessionReply {
                cluster: CLUSTER,
                epoch: Epoch::default(),
                session,
                kek_value,
            })
        })
    }

    fn renew_session(&self, request: RenewSessionRequest) -> Answered<'_, RenewSessionReply> {
        Box::pin(async move {
            self.arrive().await?;
            refusal(self.command(&Command::RenewSession {
                session: request.session,
                acknowledged_below: request.acknowledged_below,
                observed_index: request.observed_index,
            }))?;
            Ok(self.renewed(request.session))
        })
    }

    fn allocate(&self, request: AllocateRequest) -> Answered<'_, ProvisionalFat> {
        Box::pin(self.allocate_remotely(request))
    }

    fn submit(&self, request: SubmitRequest) -> Answered<'_, SubmitReply> {
        Box::pin(async move {
            let SubmitRequest {
                session,
                sequence,
                command,
            } = request;
            if matches!(command, SessionCommand::CreateBucket { .. }) {
                let mut faults = self.faults.lock().unwrap();
                if faults.stale_creates > 0 {
                    faults.stale_creates -= 1;
                    let index = self.state.lock().unwrap().index;
                    let reply = Reply::Refused(Rejection::StaleSettings);
                    return Ok(SubmitReply {
                        index,
                        reply,
                        leader: None,
                    });
                }
            }
            self.change_settings(&command);
            let is_finalize = matches!(command, SessionCommand::FinalizeObject(_));
            let command = Command::InSession {
                session,
                sequence,
                command,
            };
            let loss = match is_finalize {
                true => self.faults.lock().unwrap().finalizes.pop_front(),
                false => None,
            };
            let (index, reply) = match loss {
                None => self.decide_remotely(command).await?,
                Some(loss) => {
                    if matches!(loss, Loss::After | Loss::AfterAndEnded) {
                        self.command(&command);
                    }
                    if matches!(loss, Loss::BeforeAndEnded | Loss::AfterAndEnded) {
                        self.command(&Command::EndSession { session });
                    }
                    return Err(MetadError::Unknown("lost".to_owned()));
                }
            };
            Ok(SubmitReply {
                index,
                reply,
                leader: None,
            })
        })
    }

    fn resolve(&self, request: ResolveRequest) -> Answered<'_, SubmitReply> {
        Box::pin(async move {
            let ResolveRequest { session, sequence } = request;
            let unresolved = self.faults.lock().unwrap().unresolved;
            if self.random.percent(unresolved) {
                return Err(MetadError::Unavailable("no leader".to_owned()));
            }
            let (index, reply) = self
                .decide_remotely(Command::Resolve { session, sequence })
                .await?;
            Ok(SubmitReply {
                index,
                reply,
                leader: None,
            })
        })
    }

    fn query(&self, query: Query) -> Answered<'_, QueryReply> {
        Box::pin(async move {
            self.arrive().await?;
            let state = self.state.lock().unwrap();
            Ok(QueryReply {
                index: state.index,
                answer: namespace::query::answer(&state.rows, &query).expect("the store does not fail"),
            })
        })
    }

    fn report_damaged(&self, request: ReportDamagedRequest) -> Answered<'_, ()> {
        Box::pin(async move {
            self.arrive().await?;
            let ReportDamagedRequest { vendor, copies, .. } = request;
            refusal(self.command(&Command::ReportDamaged { vendor, copies })).map(|_| ())
        })
    }

    fn end_session(&self, session: SessionId) -> Answered<'_, ()> {
        Box::pin(async move { refusal(self.command(&Command::EndSession { session })).map(|_| ()) })
    }

    fn operate(&self, command: Command) -> Answered<'_, Reply> {
        Box::pin(async move { refusal(self.command(&command)) })
    }

    fn members(&self, request: MembersRequest) -> Answered<'_, MembersReply> {
        if matches!(request, MembersRequest::Remove { .. }) {
            let refused = Rejection::Invalid("nobody would be left".to_owned());
            return Box::pin(std::future::ready(Err(MetadError::Refused(refused))));
        }
        let members = vec![Member {
            node: 1,
            address: "here:9310".to_owned(),
            voter: true,
            leads: true,
            matched_index: None,
            silent_ms: None,
            issuer: None,
        }];
        Box::pin(std::future::ready(Ok(MembersReply {
            members,
            joint: false,
        })))
    }

    fn invite(&self, request: InviteRequest) -> Answered<'_, InviteReply> {
        let token = JoinToken {
            authority: [1; 32],
            metad: vec!["here:9310".to_owned()],
            secret: [u8::try_from(request.life_ms % 251).unwrap(); 32],
        };
        Box::pin(std::future::ready(Ok(InviteReply { token })))
    }

    fn status(&self) -> BoxFuture<'_, Result<StatusReply, MetadError>> {
        Box::pin(async move {
            let state = self.state.lock().unwrap();
            let counts = query::counts(&state.rows, 10_000).unwrap();
            Ok(StatusReply {
                cluster: CLUSTER,
                epoch: Epoch::default(),
                node: 1,
                leader: Some(1),
                term: 1,
                applied_index: state.index,
                cluster_time: query::cluster_time(&state.rows).unwrap(),
                sessions: counts.live_sessions,
                leases: counts.leases,
                erase_backlog: counts.erase_orders,
                release_backlog: counts.releases,
                issuers: vec![PublicKey(self.issuer.verifying_key().to_bytes())],
            })
        })
    }
}

/// Copies that the FAT names at each vendor, sorted as a vendor sorts them.
pub fn copies_in_fat(
    metad: &Metad,
    vendors: &[VendorId],
) -> BTreeMap<VendorId, Vec<ullage_model::ids::CopyId>> {
    let copies = |vendor: VendorId| {
        let (found, more) = metad.read(|rows| query::copies(rows, vendor, None, 10_000).unwrap());
        assert!(!more);
        let mut copies: Vec<_> = found.into_iter().map(|(copy, _)| copy).collect();
        copies.sort();
        (vendor, copies)
    };
    vendors.iter().copied().map(copies).collect()
}
