//! What vendor agents call: registration, heartbeats with commands in the replies, judgement of copies.

use super::member_calls::is_signed;
use super::{Metad, unavailable};
use crate::leader::leadership::Leadership;
use crate::leader::soft_state::OrderPlace;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use ullage_model::cluster_time::ClusterTime;
use ullage_model::codec;
use ullage_model::command::{Command, Reply};
use ullage_model::fat::query::{self, ErasePermit};
use ullage_model::fat::rows::{SessionState, VendorRow, VendorState};
use ullage_model::ids::{CopyId, DeviceId, SessionId, VendorId};
use ullage_model::limits::{
    COPIES_PER_BATCH, COPIES_PER_REPORT, DEVICES_PER_VENDOR, OUTCOMES_PER_REPORT, READER_MS,
};
use ullage_model::rejection::Rejection;
use ullage_model::store::{Read, StoreError};
use ullage_model::wire::agent::{
    CommandOutcome, DeviceReport, ERASED_CONTEXT, ErasedList, Heartbeat, HeartbeatReply, JudgeReply,
    JudgeRequest, RegisterReply, RegisterRequest,
};
use ullage_model::wire::chunk::Signature;
use ullage_model::wire::metad::MetadError;

/// Leases whose close one reply asks to confirm.
const CLOSES_PER_REPLY: usize = 64;
/// Interval of heartbeats while there is more to do than one reply holds, in ms.
const BUSY_MS: u64 = 50;
/// Orders among which an acknowledged copy is looked for when this leader has not sent it.
const ORDERS_LOOKED_AT: usize = 4 * COPIES_PER_BATCH;
/// A device's capacity is committed again when it moved by more than one part in this many.
const CAPACITY_STEP: u64 = 64;

impl Metad {
    /// Registers a vendor, or the same one again.
    ///
    /// # Errors
    /// When its name is taken by another key, or its values are out of bounds.
    pub async fn register(&self, request: RegisterRequest) -> Result<RegisterReply, MetadError> {
        self.registered_by(&Command::RegisterVendor(request)).await
    }

    /// Has a vendor registered by `command`.
    pub(crate) async fn registered_by(&self, command: &Command) -> Result<RegisterReply, MetadError> {
        let leadership = self.leading().await?;
        let vendor = match self.propose(command).await? {
            Reply::Vendor(vendor) => {
                leadership.soft.registered(vendor, self.clock().now());
                vendor
            }
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
            cluster: self.cluster(),
            epoch: epoch.unwrap_or_default(),
        })
    }

    /// Takes a vendor's report and answers with what it is to do. A command that is refused on its merits is
    /// logged and left out; what else the report holds is done all the same.
    ///
    /// # Errors
    /// When the vendor is unknown or revoked, its report is longer than any agent's, or the store or a proposal
    /// fails: the same outcomes must be sent again, which does no harm to those that were taken.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<HeartbeatReply, MetadError> {
        let leadership = self.leading().await?;
        let vendor = heartbeat.vendor;
        let row = self.admitted_vendor(vendor)?;
        check_report(&heartbeat)?;
        let stale = Duration::from_millis(self.config().stale_ms);
        let steady = leadership.soft.heard(&heartbeat, self.clock().now(), stale);
        let away = row.state != VendorState::Healthy;
        let mut all_taken = true;
        if matters(&row.devices, &heartbeat.devices) {
            let devices = heartbeat.devices;
            all_taken &= self
                .take(vendor, Command::UpdateDevices { vendor, devices })
                .await?;
        }
        if away && steady {
            tracing::info!(%vendor, name = row.name, "a vendor is back");
            let state = VendorState::Healthy;
            all_taken &= self
                .take(vendor, Command::SetVendorState { vendor, state })
                .await?;
        }
        for outcome in heartbeat.outcomes {
            all_taken &= self.outcome(&leadership, &row, outcome).await?;
        }
        for copies in heartbeat.damaged.chunks(COPIES_PER_BATCH) {
            tracing::warn!(%vendor, copies = copies.len(), "a vendor found copies damaged");
            let copies = copies.to_vec();
            all_taken &= self
                .take(vendor, Command::ReportDamaged { vendor, copies })
                .await?;
        }
        for copies in heartbeat.found.chunks(COPIES_PER_BATCH) {
            tracing::info!(%vendor, copies = copies.len(), "a vendor found lost copies again");
            let copies = copies.to_vec();
            all_taken &= self.take(vendor, Command::ReportFound { vendor, copies }).await?;
        }
        let (mut reply, busy) = self.orders(&leadership, vendor, heartbeat.directory).await?;
        if away && !steady {
            reply.interval_ms = reply.interval_ms.min(self.config().stale_ms / 4).max(1);
        } else if busy && all_taken {
            reply.interval_ms = BUSY_MS.min(reply.interval_ms);
        }
        Ok(reply)
    }

    /// Tells which copies of closed leases the FAT knows.
    ///
    /// # Errors
    /// When too many are asked for, the vendor is unknown or revoked, the read cannot be confirmed, or the store
    /// fails.
    pub async fn judge(&self, request: JudgeRequest) -> Result<JudgeReply, MetadError> {
        if request.copies.len() > COPIES_PER_BATCH {
            return Err(MetadError::Refused(Rejection::Invalid(format!(
                "{} copies, at most {COPIES_PER_BATCH} are judged at once",
                request.copies.len()
            ))));
        }
        let state = self.reads.linearizable().await?;
        self.admitted_vendor(request.vendor)?;
        query::judge(&state.snapshot(), &request).map_err(unavailable)
    }

    /// Proposes a command that follows from a vendor's report; false if it was refused on its merits.
    async fn take(&self, vendor: VendorId, command: Command) -> Result<bool, MetadError> {
        match self.propose(&command).await? {
            Reply::Refused(rejection) => {
                tracing::warn!(%vendor, %rejection, "a part of a vendor's report was refused");
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// Takes one outcome; false if it was refused on its merits.
    async fn outcome(
        &self,
        leadership: &Leadership,
        row: &VendorRow,
        outcome: CommandOutcome,
    ) -> Result<bool, MetadError> {
        let vendor = row.vendor;
        match outcome {
            CommandOutcome::LeaseClosed { lease } => {
                self.take(vendor, Command::ConfirmClose { lease, vendor }).await
            }
            CommandOutcome::Erased { copies, signature } => {
                if !self.has_signed(row, &copies, &signature) {
                    tracing::error!(%vendor, name = row.name, "an erasure receipt has a wrong signature");
                    return Ok(false);
                }
                let mut all_taken = true;
                for copies in self
                    .orders_of(leadership, vendor, &copies)?
                    .chunks(COPIES_PER_BATCH)
                {
                    let copies = copies.to_vec();
                    all_taken &= self
                        .take(vendor, Command::AcknowledgeErased { vendor, copies })
                        .await?;
                }
                Ok(all_taken)
            }
        }
    }

    fn has_signed(&self, row: &VendorRow, copies: &[CopyId], signature: &Signature) -> bool {
        let list = ErasedList {
            cluster: self.cluster(),
            vendor: row.vendor,
            copies: copies.to_vec(),
        };
        let signed = [ERASED_CONTEXT, &codec::encode(&list)].concat();
        is_signed(&row.public_key, &signed, signature)
    }

    /// The orders that name `copies`; those acknowledged already are passed over. A copy whose order lies
    /// further back than any that was sent is passed over too: it will be ordered and acknowledged again.
    fn orders_of(
        &self,
        leadership: &Leadership,
        vendor: VendorId,
        copies: &[CopyId],
    ) -> Result<Vec<OrderPlace>, MetadError> {
        let (mut found, others) = leadership.soft.issued_places(vendor, copies);
        if others.is_empty() {
            return Ok(found);
        }
        let first = leadership.soft.first_order(vendor);
        let (state, most) = (self.stale(), ORDERS_LOOKED_AT);
        let open = query::erase_orders_from(&**state, vendor, first, &ErasePermit::ALL, most);
        let open = open.map_err(unavailable)?;
        let by_copy: BTreeMap<CopyId, u64> = open.into_iter().map(|(index, copy)| (copy, index)).collect();
        found.extend(
            others
                .iter()
                .filter_map(|copy| by_copy.get(copy).map(|index| (*index, *copy))),
        );
        Ok(found)
    }

    /// What `vendor`, which has the directory of revision `known`, is to do, and whether there is more than one
    /// reply holds.
    ///
    /// Why no order is wrong, whoever leads meanwhile:
    /// - An order names a copy whose release is committed, and what is released is never referred to again.
    ///   So an order that once was right is right for ever, and one that comes late only repeats.
    /// - It is permitted by what sessions told *this* leader in *this* term: that no read that began before the
    ///   release was applied is going on. Nothing makes that untrue later: a session's reads begin at indexes
    ///   that it has seen, and one that opened since saw the release. A new leader has been told nothing, and
    ///   waits.
    /// - All this holds within one history. A leader that was cut off, while the others were given up and the
    ///   group was recovered without it, has a history of its own: what it saw released may be alive in the
    ///   other. So the state is read here as a quorum confirms it, in this term, and a leader that nobody
    ///   follows orders nothing. Its words carry (epoch, term) too, and an agent that has heard a newer one
    ///   obeys no older.
    async fn orders(
        &self,
        leadership: &Leadership,
        vendor: VendorId,
        known: u64,
    ) -> Result<(HeartbeatReply, bool), MetadError> {
        let state = self.confirmed(leadership).await?;
        let rows = state.snapshot();
        let cluster_time = query::cluster_time(&rows).map_err(unavailable)?;
        let epoch = query::cluster(&rows)
            .map_err(unavailable)?
            .map(|row| row.epoch)
            .unwrap_or_default();
        let permit = leadership
            .erase_permit(&rows, cluster_time)
            .map_err(unavailable)?;
        let erase = leadership
            .erase_orders(&rows, vendor, &permit)
            .map_err(unavailable)?;
        let close = query::leases_to_confirm(&rows, vendor, CLOSES_PER_REPLY).map_err(unavailable)?;
        let busy = erase.len() == COPIES_PER_BATCH || close.len() == CLOSES_PER_REPLY;
        let directory = query::directory(&rows).map_err(unavailable)?;
        let reply = HeartbeatReply {
            epoch,
            term: leadership.term,
            cluster_time,
            issuers: query::issuers(&rows).map_err(unavailable)?,
            revoked: query::revoked(&rows).map_err(unavailable)?,
            directory: (directory.revision != known).then_some(directory),
            closed: query::closed_leases(&rows).map_err(unavailable)?,
            close,
            erase: erase.into_iter().map(|(_, copy)| copy).collect(),
            interval_ms: self.config().heartbeat_ms,
        };
        Ok((reply, busy))
    }

    /// The row of a vendor that has not been shut out.
    pub(crate) fn admitted_vendor(&self, vendor: VendorId) -> Result<VendorRow, MetadError> {
        let row = query::vendor(&**self.stale(), vendor)
            .map_err(unavailable)?
            .ok_or(MetadError::Refused(Rejection::NoSuchVendor(vendor)))?;
        if row.state == VendorState::Revoked {
            return Err(MetadError::Refused(Rejection::VendorRevoked(vendor)));
        }
        Ok(row)
    }
}

impl Leadership {
    /// The first erase orders of `vendor` that are permitted. Remembers where the queue begins, so that the
    /// next look does not wade through what was acknowledged.
    fn erase_orders(
        &self,
        rows: &impl Read,
        vendor: VendorId,
        permit: &ErasePermit,
    ) -> Result<Vec<OrderPlace>, StoreError> {
        let soft = &self.soft;
        let known = soft.first_order(vendor);
        let erase = query::erase_orders_from(rows, vendor, known, permit, COPIES_PER_BATCH)?;
        let first = match erase.first() {
            Some(first) => Some(*first),
            None => query::erase_orders_from(rows, vendor, known, &ErasePermit::ALL, 1)?.pop(),
        };
        // What is released at the index being drained may still bring orders before those that are there.
        let to_come = (query::drained_index(rows)?, CopyId::default());
        soft.no_order_before(vendor, first.map_or(to_come, |first| first.min(to_come)));
        soft.issued(vendor, &erase);
        Ok(erase)
    }

    /// Which releases no reader can still be at.
    pub(crate) fn erase_permit(&self, rows: &impl Read, now: ClusterTime) -> Result<ErasePermit, StoreError> {
        let sessions = query::sessions(rows)?;
        let live = sessions.iter().filter(|row| row.state == SessionState::Live);
        let live: BTreeSet<SessionId> = live.map(|row| row.session).collect();
        Ok(ErasePermit {
            below_index: self.soft.safe_index(&live),
            released_before: ClusterTime(now.0.saturating_sub(READER_MS)),
        })
    }
}

/// Refuses a report that is longer than any agent's: each part of it costs a command.
fn check_report(heartbeat: &Heartbeat) -> Result<(), MetadError> {
    let erased = |outcome: &CommandOutcome| match outcome {
        CommandOutcome::LeaseClosed { .. } => 0,
        CommandOutcome::Erased { copies, .. } => copies.len(),
    };
    let bounds = [
        ("devices", heartbeat.devices.len(), DEVICES_PER_VENDOR),
        ("outcomes", heartbeat.outcomes.len(), OUTCOMES_PER_REPORT),
        (
            "erased copies",
            heartbeat.outcomes.iter().map(erased).sum(),
            COPIES_PER_REPORT,
        ),
        ("damaged copies", heartbeat.damaged.len(), COPIES_PER_REPORT),
        ("found copies", heartbeat.found.len(), COPIES_PER_REPORT),
    ];
    for (what, number, most) in bounds {
        if number > most {
            let words = format!("{number} {what}, at most {most} are taken");
            return Err(MetadError::Refused(Rejection::Invalid(words)));
        }
    }
    Ok(())
}

/// Whether devices differ enough to be committed: one came, went, changed its state or class, or its
/// capacity moved by more than a step. Their order is no matter.
fn matters(committed: &[DeviceReport], reported: &[DeviceReport]) -> bool {
    let by_id: BTreeMap<DeviceId, &DeviceReport> =
        committed.iter().map(|device| (device.device, device)).collect();
    let differs = |new: &DeviceReport| {
        by_id.get(&new.device).is_none_or(|old| {
            (&old.class, old.state) != (&new.class, new.state)
                || old.capacity.abs_diff(new.capacity) > old.capacity / CAPACITY_STEP
        })
    };
    committed.len() != reported.len() || reported.iter().any(differs)
}

#[cfg(test)]
mod tests {
    use super::{DeviceId, DeviceReport, matters};
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
        let other = DeviceReport {
            device: DeviceId(1),
            ..before[0].clone()
        };
        let (here, there) = (
            [before[0].clone(), other.clone()],
            [other.clone(), before[0].clone()],
        );
        assert!(!matters(&here, &there), "in another order they are the same");
        assert!(matters(&before, &[other]));
    }
}
