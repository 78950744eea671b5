//! What vendor agents call: registration, heartbeats with commands in the replies, judgement of copies.

use super::{Metad, unavailable};
use ed25519_dalek::{Verifier, VerifyingKey};
use std::collections::BTreeMap;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::query::{self, ErasePermit};
use ullage_model::fat::rows::{SessionState, VendorRow, VendorState};
use ullage_model::ids::{CopyId, SessionId, VendorId};
use ullage_model::limits::{COPIES_PER_BATCH, DEVICES_PER_VENDOR, READER_MS};
use ullage_model::rejection::Rejection;
use ullage_model::wire::agent::{
    CommandOutcome, DamagedCopy, DeviceReport, ERASED_CONTEXT, ErasedList, Heartbeat, HeartbeatReply,
    JudgeReply, JudgeRequest, RegisterReply, RegisterRequest,
};
use ullage_model::wire::chunk::{PublicKey, Signature};
use ullage_model::wire::metad::MetadError;

/// Leases whose close one reply asks to confirm.
const CLOSES_PER_REPLY: usize = 64;
/// Interval of heartbeats while there is more to do than one reply holds, in ms.
const BUSY_MS: u64 = 50;
/// A device's capacity is committed again when it moved by more than one part in this many.
const CAPACITY_STEP: u64 = 64;

impl Metad {
    /// Registers a vendor, or the same one again.
    ///
    /// # Errors
    /// When its name is taken by another key, or its values are out of bounds.
    pub async fn register(&self, request: RegisterRequest) -> Result<RegisterReply, MetadError> {
        let vendor = match self.propose(&Command::RegisterVendor(request)).await? {
            Reply::Vendor(vendor) => vendor,
            Reply::Refused(rejection) => return Err(MetadError::Refused(rejection)),
            other => {
                return Err(MetadError::Unavailable(format!(
                    "a registration was answered with {other:?}"
                )));
            }
        };
        let epoch = query::cluster(&**self.stale())
            .map_err(unavailable)?
            .map(|row| row.epoch);
        Ok(RegisterReply {
            vendor,
            cluster: self.cluster,
            epoch: epoch.unwrap_or_default(),
        })
    }

    /// Takes a vendor's report and answers with what it is to do.
    ///
    /// # Errors
    /// When the vendor is unknown or the store fails; outcomes not acted on must be sent again.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MetadError> {
        let vendor = heartbeat.vendor;
        let row = query::vendor(&**self.stale(), vendor)
            .map_err(unavailable)?
            .ok_or(MetadError::Refused(Rejection::NoSuchVendor(vendor)))?;
        if heartbeat.devices.len() > DEVICES_PER_VENDOR {
            return Err(MetadError::Refused(Rejection::Invalid(format!(
                "{} devices, at most {DEVICES_PER_VENDOR} are taken",
                heartbeat.devices.len()
            ))));
        }
        self.soft_state().heard(&heartbeat, self.clock().now());
        if row.state != VendorState::Healthy {
            tracing::info!(%vendor, name = row.name, "a vendor is back");
            self.propose(&Command::SetVendorState {
                vendor,
                state: VendorState::Healthy,
            })
            .await?;
        }
        if matters(&row.devices, &heartbeat.devices) {
            let devices = heartbeat.devices.clone();
            self.propose(&Command::UpdateDevices { vendor, devices }).await?;
        }
        for outcome in heartbeat.outcomes {
            self.outcome(&row, outcome).await?;
        }
        self.damaged(vendor, heartbeat.damaged).await?;
        self.orders(vendor)
    }

    /// Tells which copies of closed leases the FAT knows.
    ///
    /// # Errors
    /// When too many are asked for, the read cannot be confirmed, or the store fails.
    pub async fn judge(&self, request: JudgeRequest) -> Result<JudgeReply, MetadError> {
        if request.copies.len() > COPIES_PER_BATCH {
            return Err(MetadError::Refused(Rejection::Invalid(format!(
                "{} copies, at most {COPIES_PER_BATCH} are judged at once",
                request.copies.len()
            ))));
        }
        let state = self.reads.linearizable().await?;
        query::judge(&state.snapshot(), &request).map_err(unavailable)
    }

    async fn outcome(&self, row: &VendorRow, outcome: CommandOutcome) -> Result<(), MetadError> {
        let vendor = row.vendor;
        match outcome {
            CommandOutcome::LeaseClosed { lease } => {
                self.propose(&Command::ConfirmClose { lease, vendor }).await?;
            }
            CommandOutcome::Erased { copies, signature } => {
                self.check_erased(row, &copies, &signature)?;
                let orders = self.orders_of(vendor, &copies)?;
                for orders in orders.chunks(COPIES_PER_BATCH) {
                    let copies = orders.to_vec();
                    self.propose(&Command::AcknowledgeErased { vendor, copies })
                        .await?;
                }
            }
        }
        Ok(())
    }

    fn check_erased(
        &self,
        row: &VendorRow,
        copies: &[CopyId],
        signature: &Signature,
    ) -> Result<(), MetadError> {
        let list = ErasedList {
            cluster: self.cluster,
            vendor: row.vendor,
            copies: copies.to_vec(),
        };
        let signed = [ERASED_CONTEXT, &codec::encode(&list)].concat();
        if is_signed(&row.public_key, &signed, signature) {
            return Ok(());
        }
        Err(MetadError::Refused(Rejection::Invalid(format!(
            "an erasure receipt of {} has a wrong signature",
            row.vendor
        ))))
    }

    /// The orders that name `copies`; those acknowledged already are passed over.
    fn orders_of(&self, vendor: VendorId, copies: &[CopyId]) -> Result<Vec<(u64, CopyId)>, MetadError> {
        let everything = ErasePermit {
            below_index: u64::MAX,
            released_before: ClusterTime(u64::MAX),
        };
        let open = query::erase_orders(&**self.stale(), vendor, &everything, 4 * COPIES_PER_BATCH);
        let open = open.map_err(unavailable)?;
        let by_copy: BTreeMap<CopyId, u64> = open.into_iter().map(|(index, copy)| (copy, index)).collect();
        Ok(copies
            .iter()
            .filter_map(|copy| by_copy.get(copy).map(|index| (*index, *copy)))
            .collect())
    }

    async fn damaged(&self, vendor: VendorId, copies: Vec<DamagedCopy>) -> Result<(), MetadError> {
        for copies in copies.chunks(COPIES_PER_BATCH) {
            tracing::warn!(%vendor, copies = copies.len(), "a vendor found copies damaged");
            let copies = copies.to_vec();
            self.propose(&Command::ReportDamaged { vendor, copies }).await?;
        }
        Ok(())
    }

    fn orders(&self, vendor: VendorId) -> Result<HeartbeatReply, MetadError> {
        let state = self.stale();
        let rows = state.snapshot();
        let cluster_time = query::cluster_time(&rows).map_err(unavailable)?;
        let epoch = query::cluster(&rows)
            .map_err(unavailable)?
            .map(|row| row.epoch)
            .unwrap_or_default();
        let permit = self.erase_permit(&rows, cluster_time)?;
        let erase = query::erase_orders(&rows, vendor, &permit, COPIES_PER_BATCH).map_err(unavailable)?;
        let close = query::leases_to_confirm(&rows, vendor, CLOSES_PER_REPLY).map_err(unavailable)?;
        let busy = erase.len() == COPIES_PER_BATCH || close.len() == CLOSES_PER_REPLY;
        Ok(HeartbeatReply {
            epoch,
            term: self.group.status().term,
            cluster_time,
            issuers: vec![self.grants().issuer()],
            closed: query::closed_leases(&rows).map_err(unavailable)?,
            close,
            erase: erase.into_iter().map(|(_, copy)| copy).collect(),
            interval_ms: if busy { BUSY_MS } else { self.config().heartbeat_ms },
        })
    }

    /// Which releases no reader can still be at.
    fn erase_permit(
        &self,
        rows: &impl ullage_model::store::Read,
        now: ClusterTime,
    ) -> Result<ErasePermit, MetadError> {
        let sessions = query::sessions(rows).map_err(unavailable)?;
        let live = sessions.iter().filter(|row| row.state == SessionState::Live);
        let live: Vec<SessionId> = live.map(|row| row.session).collect();
        Ok(ErasePermit {
            below_index: self.soft_state().safe_index(&live),
            released_before: ClusterTime(now.0.saturating_sub(READER_MS)),
        })
    }
}

/// Whether devices differ enough to be committed: one came, went, changed its state or class, or its
/// capacity moved by more than a step.
fn matters(committed: &[DeviceReport], reported: &[DeviceReport]) -> bool {
    let differs = |(old, new): (&DeviceReport, &DeviceReport)| {
        (old.device, &old.class, old.state) != (new.device, &new.class, new.state)
            || old.capacity.abs_diff(new.capacity) > old.capacity / CAPACITY_STEP
    };
    committed.len() != reported.len() || committed.iter().zip(reported).any(differs)
}

fn is_signed(key: &PublicKey, signed: &[u8], signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&key.0) else {
        return false;
    };
    let Ok(signature) = ed25519_dalek::Signature::from_slice(&signature.0) else {
        return false;
    };
    key.verify(signed, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{DeviceReport, matters};
    use ullage_model::ids::DeviceId;
    use ullage_model::wire::agent::DeviceState;

    fn device(capacity: u64, state: DeviceState) -> DeviceReport {
        DeviceReport {
            device: DeviceId(0),
            class: "hdd".to_owned(),
            capacity,
            free: capacity,
            state,
        }
    }

    #[test]
    fn only_changes_that_matter_are_committed() {
        let before = [device(64_000, DeviceState::Healthy)];
        let mut used = before.clone();
        used[0].free = 0;
        assert!(!matters(&before, &used), "free bytes are soft state");
        assert!(
            !matters(&before, &[device(63_500, DeviceState::Healthy)]),
            "a small step is none"
        );
        assert!(matters(&before, &[device(60_000, DeviceState::Healthy)]));
        assert!(matters(&before, &[device(64_000, DeviceState::Gone)]));
        assert!(matters(&before, &[]));
    }
}
