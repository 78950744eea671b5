//! Choosing whose room a provisional FAT locks. The choice is `model`'s; this adds what vendors reported, and
//! recalls leases before it answers "full".

use crate::service::{Metad, unavailable};
use std::time::Duration;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::placement::{self, Choice, VendorLoad};
use ullage_model::fat::query;
use ullage_model::ids::{LeaseId, SessionId, VendorId};
use ullage_model::limits::LEASE_MS;
use ullage_model::wire::chunk::GrantAction;
use ullage_model::wire::metad::{AllocateRequest, MetadError, ProvisionalFat, ProvisionalRow};

/// How long recalled leases have to come back before "full" is answered.
const RECALL_PATIENCE: Duration = Duration::from_millis(2_500);
/// How often the room is looked at again while leases come back.
const RECALL_POLL: Duration = Duration::from_millis(100);

type Rows = Vec<(VendorId, String, u64)>;

impl Metad {
    /// Locks room for a session.
    ///
    /// # Errors
    /// [`MetadError::NoRoom`] when leases were recalled and there is still none.
    pub async fn allocate(&self, request: AllocateRequest) -> Result<ProvisionalFat, MetadError> {
        let (lease, deadline, rows) = {
            // One choice at a time: two made on the same state could lock the same bytes, and the second
            // would be refused.
            let _turn = self.allocation_turn().await;
            let rows = self.choose(&request).await?;
            self.lock_room(&request, rows).await?
        };
        let now = query::cluster_time(&**self.stale()).map_err(unavailable)?;
        let rows = rows
            .into_iter()
            .map(|row| self.provisional_row(request.session, lease, row, now));
        Ok(ProvisionalFat {
            lease,
            class: request.class,
            deadline,
            rows: rows.collect(),
        })
    }

    fn provisional_row(
        &self,
        session: SessionId,
        lease: LeaseId,
        (vendor, device_class, bytes): (VendorId, String, u64),
        now: ClusterTime,
    ) -> ProvisionalRow {
        let action = GrantAction::Write {
            lease,
            bytes,
            device_class: device_class.clone(),
        };
        let grant = self.grants().sign(session, vendor, action, now);
        ProvisionalRow {
            vendor,
            device_class,
            bytes,
            grant,
        }
    }

    async fn lock_room(
        &self,
        request: &AllocateRequest,
        rows: Rows,
    ) -> Result<(LeaseId, ClusterTime, Rows), MetadError> {
        let command = SessionCommand::Allocate {
            class: request.class.clone(),
            rows: rows.clone(),
            duration_ms: LEASE_MS,
        };
        let (session, sequence) = (request.session, request.sequence);
        match self
            .propose(&Command::InSession {
                session,
                sequence,
                command,
            })
            .await
        {
            Ok(Reply::Lease { lease, deadline }) => Ok((lease, deadline, rows)),
            Ok(Reply::Refused(rejection)) => Err(MetadError::Refused(rejection)),
            Ok(other) => Err(MetadError::Unavailable(format!(
                "an allocation was answered with {other:?}"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    async fn choose(&self, request: &AllocateRequest) -> Result<Rows, MetadError> {
        let first = match self.choose_now(request)? {
            Ok(rows) => return Ok(rows),
            Err(shortage) => shortage,
        };
        if !self.recall_leases().await? {
            return Err(MetadError::NoRoom(first));
        }
        let deadline = self.clock().now() + RECALL_PATIENCE;
        loop {
            tokio::time::sleep(RECALL_POLL).await;
            match self.choose_now(request)? {
                Ok(rows) => return Ok(rows),
                Err(shortage) if self.clock().now() >= deadline => return Err(MetadError::NoRoom(shortage)),
                Err(_) => {}
            }
        }
    }

    fn choose_now(&self, request: &AllocateRequest) -> Result<Result<Rows, String>, MetadError> {
        let state = self.stale();
        let load = |vendor| {
            let seen = self.soft_state().vendor(vendor);
            seen.map_or_else(VendorLoad::default, |seen| VendorLoad {
                reported_free: seen.free,
                in_flight_bytes: seen.in_flight_bytes,
            })
        };
        let choice = Choice {
            class: &request.class,
            bytes: request.bytes,
            least_bytes: request.least_bytes,
            avoid: &request.avoid,
        };
        let chosen = placement::choose_rows(&**state, &choice, &load).map_err(unavailable)?;
        Ok(chosen.map_err(|shortage| shortage.to_string()))
    }

    /// Asks sessions to give back what they have not granted. False if no lease has anything to give.
    async fn recall_leases(&self) -> Result<bool, MetadError> {
        let recallable = query::recallable_leases(&**self.stale()).map_err(unavailable)?;
        for (lease, recalled) in &recallable {
            if !recalled {
                self.propose(&Command::RecallLease { lease: *lease }).await?;
            }
        }
        Ok(!recallable.is_empty())
    }
}
