//! Choosing whose room a provisional FAT locks. The choice is `model`'s; this adds what vendors reported, and
//! recalls leases before it answers "full".

use super::leadership::Leadership;
use crate::grants::Grantee;
use crate::service::{Metad, unavailable};
use std::time::Duration;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::choice::{Choice, ChosenRows, VendorLoad, choose_rows, recalling_helps};
use ullage_model::fat::query;
use ullage_model::fat::rows::{LeaseRow, LeaseState, LeaseVendorRow, VendorRow, VendorState};
use ullage_model::ids::{LeaseId, VendorId};
use ullage_model::limits::LEASE_MS;
use ullage_model::rejection::Rejection;
use ullage_model::session;
use ullage_model::store::StoreError;
use ullage_model::wire::chunk::GrantAction;
use ullage_model::wire::metad::{AllocateRequest, MetadError, ProvisionalFat, ProvisionalRow};

/// How long a recalled lease has to come back before "full" is answered.
const RECALL_PATIENCE: Duration = Duration::from_millis(2_500);
/// How often the room is looked at again while leases come back.
const RECALL_POLL: Duration = Duration::from_millis(50);

impl Metad {
    /// Locks room for a session. A sequence that was decided before answers the same lease again.
    ///
    /// # Errors
    /// `Refused(LeaseClosed)` when that lease has been closed meanwhile;
    /// [`MetadError::NoRoom`] when leases were recalled and there is still none.
    pub async fn allocate(&self, request: AllocateRequest) -> Result<ProvisionalFat, MetadError> {
        self.admit_data()?;
        let leadership = self.leading().await?;
        if query::class(&**self.stale(), &request.class)
            .map_err(unavailable)?
            .is_none()
        {
            return Err(MetadError::Refused(Rejection::NoSuchClass(request.class)));
        }
        let (session, sequence) = (request.session, request.sequence);
        let decided = session::decided(&**self.stale(), session, sequence).map_err(unavailable)?;
        let (lease, deadline) = match decided {
            // There may be no room any more for what was locked when this was asked first.
            Some(Reply::Lease { lease, deadline }) => (lease, deadline),
            _ => self.lock_room(&leadership, &request).await?,
        };
        // What is stored, not what was chosen: a repeated sequence answers an earlier choice.
        let state = self.stale();
        let rows = state.snapshot();
        let now = query::cluster_time(&rows).map_err(unavailable)?;
        let open = |row: &LeaseRow| row.state == LeaseState::Open;
        if !query::lease(&rows, lease)
            .map_err(unavailable)?
            .as_ref()
            .is_some_and(open)
        {
            return Err(MetadError::Refused(Rejection::LeaseClosed(lease)));
        }
        let locked = query::lease_rows(&rows, lease).map_err(unavailable)?;
        let cluster = self.cluster();
        let row = |(vendor, row)| {
            let to = Grantee {
                cluster,
                session,
                vendor,
                now,
            };
            self.provisional_row(to, lease, row)
        };
        Ok(ProvisionalFat {
            lease,
            deadline,
            rows: locked.into_iter().map(row).collect(),
            class: request.class,
        })
    }

    fn provisional_row(&self, to: Grantee, lease: LeaseId, row: LeaseVendorRow) -> ProvisionalRow {
        let (device_class, bytes) = (row.device_class, row.locked);
        let action = GrantAction::Write {
            lease,
            bytes,
            device_class: device_class.clone(),
        };
        let grant = self.grants().sign(to, action);
        ProvisionalRow {
            vendor: to.vendor,
            device_class,
            bytes,
            grant,
        }
    }

    /// Chooses and locks; while there is no room, recalls leases and looks again.
    async fn lock_room(
        &self,
        leadership: &Leadership,
        request: &AllocateRequest,
    ) -> Result<(LeaseId, ClusterTime), MetadError> {
        let mut until: Option<Duration> = None;
        loop {
            let shortage = match self.choose_and_lock(leadership, request).await? {
                Ok(locked) => return Ok(locked),
                Err(shortage) => shortage,
            };
            if self.may_be_news(leadership).map_err(unavailable)? {
                tokio::time::sleep(RECALL_POLL).await;
                continue;
            }
            let until = match until {
                Some(until) => until,
                None => match self.recall_leases(leadership, request).await? {
                    Some(last) => *until.insert(last + RECALL_PATIENCE),
                    None => return Err(MetadError::NoRoom(shortage)),
                },
            };
            if self.clock().now() >= until {
                return Err(MetadError::NoRoom(shortage));
            }
            // Nobody else waits for this: those who ask for what there is must be served meanwhile.
            tokio::time::sleep(RECALL_POLL).await;
        }
    }

    /// Whether this node has led for so short a time that not every vendor has told it what it has free: then
    /// there may be more room than it knows.
    fn may_be_news(&self, leadership: &Leadership) -> Result<bool, StoreError> {
        let patience = Duration::from_millis(self.config().stale_ms);
        if self.clock().now() >= leadership.since + patience {
            return Ok(false);
        }
        let unheard = |row: &VendorRow| {
            row.state == VendorState::Healthy && leadership.soft.vendor(row.vendor).is_none()
        };
        Ok(query::vendor_rows(&**self.stale())?.iter().any(unheard))
    }

    async fn choose_and_lock(
        &self,
        leadership: &Leadership,
        request: &AllocateRequest,
    ) -> Result<Result<(LeaseId, ClusterTime), String>, MetadError> {
        // One choice at a time: two made on the same state could lock the same bytes, and the second would
        // be refused.
        let _turn = self.allocation_turn().await?;
        let rows = match self.choose_now(leadership, request)? {
            Ok(rows) => rows,
            Err(shortage) => return Ok(Err(shortage)),
        };
        let command = SessionCommand::Allocate {
            class: request.class.clone(),
            rows,
            duration_ms: LEASE_MS,
        };
        let (session, sequence) = (request.session, request.sequence);
        let command = Command::InSession {
            session,
            sequence,
            command,
        };
        match self.propose(&command).await? {
            Reply::Lease { lease, deadline } => Ok(Ok((lease, deadline))),
            Reply::Refused(rejection) => Err(MetadError::Refused(rejection)),
            other => Err(MetadError::Unavailable(format!(
                "an allocation was answered with {other:?}"
            ))),
        }
    }

    fn choose_now(
        &self,
        leadership: &Leadership,
        request: &AllocateRequest,
    ) -> Result<Result<ChosenRows, String>, MetadError> {
        let state = self.stale();
        let load = |vendor| load_of(leadership, vendor);
        let chosen = choose_rows(&**state, &choice(request), &load).map_err(unavailable)?;
        Ok(chosen.map_err(|shortage| shortage.to_string()))
    }

    /// Asks sessions to give back what they have not granted, if that could make the room asked for. Answers
    /// when the last of the leases was recalled; `None` if recalling cannot help.
    async fn recall_leases(
        &self,
        leadership: &Leadership,
        request: &AllocateRequest,
    ) -> Result<Option<Duration>, MetadError> {
        let state = self.stale();
        let load = |vendor| load_of(leadership, vendor);
        if !recalling_helps(&state.snapshot(), &choice(request), &load).map_err(unavailable)? {
            return Ok(None);
        }
        let recallable = query::recallable_leases(&state.snapshot()).map_err(unavailable)?;
        drop(state);
        for (lease, recalled) in &recallable {
            if !recalled {
                self.propose(&Command::RecallLease { lease: *lease }).await?;
            }
        }
        let leases: Vec<LeaseId> = recallable.into_iter().map(|(lease, _)| lease).collect();
        let last = leadership.soft.recalled(&leases, self.clock().now());
        Ok((!leases.is_empty()).then_some(last))
    }
}

fn choice(request: &AllocateRequest) -> Choice<'_> {
    Choice {
        class: &request.class,
        bytes: request.bytes,
        least_bytes: request.least_bytes,
        avoid: &request.avoid,
    }
}

/// What the vendor last reported.
fn load_of(leadership: &Leadership, vendor: VendorId) -> VendorLoad {
    let seen = leadership.soft.vendor(vendor);
    seen.map_or_else(VendorLoad::default, |seen| VendorLoad {
        reported_free: seen.free,
        in_flight_bytes: seen.in_flight_bytes,
    })
}
