//! What gateways call.

use super::{Metad, unavailable};
use crate::error::Error;
use crate::grants::Grantee;
use crate::leader::leadership::Leadership;
use bytes::Bytes;
use std::sync::Arc;
use ullage_model::codec::decode;
use ullage_model::command::{Command, Reply, SessionCommand};
use ullage_model::fat::query;
use ullage_model::fat::rows::SessionState;
use ullage_model::ids::{Epoch, KekId, SessionId};
use ullage_model::limits::SESSION_MS;
use ullage_model::namespace;
use ullage_model::rejection::Rejection;
use ullage_model::wire::metad::{
    MetadError, OpenSessionReply, OpenSessionRequest, Query, QueryManyReply, QueryManyRequest, QueryReply,
    RenewSessionReply, RenewSessionRequest, ReportDamagedRequest, ResolveRequest, StatusReply,
    SubmitManyRequest, SubmitReply, SubmitRequest, Submitted, VendorInfo,
};

/// A renewal is proposed when this much of a session's life is over; in between, what it reports is soft
/// state of the leader.
const RENEWED_MS: u64 = SESSION_MS / 6;
/// Rows counted for `status` at most.
const COUNTED_MAX: u64 = 10_000;

impl Metad {
    /// Opens a session for a gateway that holds the right KEK.
    ///
    /// # Errors
    /// When the KEK is not the cluster's, or the command was not decided.
    pub async fn open_session(&self, request: OpenSessionRequest) -> Result<OpenSessionReply, MetadError> {
        self.open_session_of(request, 0).await
    }

    /// Opens a session that only the gateway's process `instance` may act for.
    pub(crate) async fn open_session_of(
        &self,
        request: OpenSessionRequest,
        instance: u64,
    ) -> Result<OpenSessionReply, MetadError> {
        self.leading().await?;
        let OpenSessionRequest {
            gateway,
            kek,
            kek_value,
        } = request;
        let known = self.checked_kek(kek, &kek_value).await?;
        if known != kek_value {
            return Err(MetadError::Refused(Rejection::Invalid(
                "the KEK has the id of the cluster's KEK but is another one".to_owned(),
            )));
        }
        let session = match self.propose(&Command::OpenSession { gateway, instance }).await? {
            Reply::Session(session) => session,
            other => return Err(unexpected("session", other)),
        };
        Ok(OpenSessionReply {
            cluster: self.cluster(),
            epoch: Epoch::of(session.0),
            session,
            kek_value: known,
        })
    }

    /// The replicated check value of a KEK. The first one that comes is the cluster's; a gateway that comes
    /// with another one holds the wrong key and is refused before anything is sealed under it.
    async fn checked_kek(&self, kek: KekId, value: &Bytes) -> Result<Bytes, MetadError> {
        // One at a time: two gateways with different keys must not both be the first.
        let _turn = self.kek_turn().await?;
        let state = self.reads.linearizable().await?;
        if let Some(known) = query::kek_value(&**state, kek).map_err(unavailable)? {
            return Ok(known);
        }
        if let Some(other) = query::keks(&**state).map_err(unavailable)?.first() {
            return Err(MetadError::Refused(Rejection::Invalid(format!(
                "this cluster's data is sealed under KEK {other}, not under {kek}"
            ))));
        }
        drop(state);
        let value = value.clone();
        match self.propose(&Command::CheckKek { kek, value }).await? {
            Reply::KekValue(known) => Ok(known),
            other => Err(unexpected("KEK check", other)),
        }
    }

    /// Takes a session's sign of life and answers what its gateway must know.
    ///
    /// # Errors
    /// `Refused(SessionGone)` when the session has ended.
    pub async fn renew_session(&self, request: RenewSessionRequest) -> Result<RenewSessionReply, MetadError> {
        let RenewSessionRequest {
            session,
            acknowledged_below,
            observed_index,
        } = request;
        let leadership = self.leading().await?;
        let row = query::session(&**self.stale(), session)
            .map_err(unavailable)?
            .filter(|row| row.state == SessionState::Live)
            .ok_or(MetadError::Refused(Rejection::SessionGone))?;
        let now = query::cluster_time(&**self.stale()).map_err(unavailable)?;
        let window_used = acknowledged_below.saturating_sub(row.window_start);
        if now.since(row.renewed) >= RENEWED_MS || window_used >= ullage_model::limits::SESSION_WINDOW / 4 {
            let command = Command::RenewSession {
                session,
                acknowledged_below,
                observed_index,
            };
            match self.propose(&command).await? {
                Reply::Done => {}
                other => return Err(unexpected("renewal", other)),
            }
        }
        leadership.soft.observed(session, observed_index);
        self.what_gateways_know(&leadership, session).await
    }

    /// As a quorum confirms it: a gateway must not take a leader that nobody follows for its cluster.
    async fn what_gateways_know(
        &self,
        leadership: &Leadership,
        session: SessionId,
    ) -> Result<RenewSessionReply, MetadError> {
        let index = self.group.applied_index();
        let state = self.confirmed(leadership).await?;
        let rows = state.snapshot();
        let now = query::cluster_time(&rows).map_err(unavailable)?;
        let vendors = query::vendor_rows(&rows).map_err(unavailable)?;
        let cluster = self.cluster();
        let info = |row: ullage_model::fat::rows::VendorRow| VendorInfo {
            read_grant: self.grants().read(Grantee {
                cluster,
                session,
                vendor: row.vendor,
                now,
            }),
            row,
        };
        Ok(RenewSessionReply {
            cluster_time: now,
            index,
            leases: query::session_leases(&rows, session).map_err(unavailable)?,
            vendors: vendors.into_iter().map(info).collect(),
            classes: query::classes(&rows).map_err(unavailable)?,
            inline: query::inline(&rows).map_err(unavailable)?,
        })
    }

    /// Decides a session's command.
    ///
    /// # Errors
    /// See [`MetadError`]; after `Unknown`, `resolve` tells. A refusal is a reply.
    pub async fn submit(&self, request: SubmitRequest) -> Result<SubmitReply, MetadError> {
        let SubmitRequest {
            session,
            sequence,
            command,
        } = request;
        if adds_data(&command) {
            self.admit_data()?;
        }
        self.leading().await?;
        let (index, reply) = self
            .proposer
            .propose_indexed(&Command::InSession {
                session,
                sequence,
                command,
            })
            .await?;
        if may_release(&reply) {
            self.wake();
        }
        Ok(SubmitReply {
            index,
            reply,
            leader: None,
        })
    }

    /// Decides commands of sessions that came together, those that `may` lets through; answers in their order.
    ///
    /// # Errors
    /// When none of them was decided for sure, and for the same reason; see [`MetadError`].
    pub async fn submit_many(
        &self,
        request: SubmitManyRequest,
        mut may: impl FnMut(SessionId) -> Result<(), MetadError>,
    ) -> Result<Vec<Result<Submitted, MetadError>>, MetadError> {
        self.leading().await?;
        let SubmitManyRequest { commands } = request;
        let check = |command: &Bytes| match decode(command) {
            Ok(Command::InSession { session, command, .. }) => {
                may(session)?;
                match adds_data(&command) {
                    true => self.admit_data(),
                    false => Ok(()),
                }
            }
            Ok(_) => Err(invalid("this command is not a session's")),
            Err(error) => Err(invalid(&error.to_string())),
        };
        let checked: Vec<_> = commands.iter().map(check).collect();
        let admitted = commands
            .into_iter()
            .zip(&checked)
            .filter(|(_, checked)| checked.is_ok());
        let admitted: Vec<_> = admitted.map(|(command, _)| command).collect();
        let mut decided = self.proposer.propose_together(admitted).await;
        // Raft takes all of a message or none.
        if let Some(Err(Error::NotLeader { .. } | Error::LeaderNotReady)) = decided.first() {
            return Err(decided
                .swap_remove(0)
                .err()
                .map_or(MetadError::Overloaded, Into::into));
        }
        let releases = |(_, reply): &(u64, Bytes)| decode(reply).is_ok_and(|reply| may_release(&reply));
        if decided.iter().flatten().any(releases) {
            self.wake();
        }
        let mut decided = decided.into_iter();
        let answer = |checked: Result<(), MetadError>| {
            checked?;
            let (index, reply) = decided.next().ok_or(MetadError::Overloaded)??;
            Ok(Submitted { index, reply })
        };
        Ok(checked.into_iter().map(answer).collect())
    }

    /// What became of a sequence; records it abandoned if it was never decided.
    ///
    /// # Errors
    /// See [`MetadError`].
    pub async fn resolve(&self, request: ResolveRequest) -> Result<SubmitReply, MetadError> {
        let ResolveRequest { session, sequence } = request;
        self.leading().await?;
        let (index, reply) = self
            .proposer
            .propose_indexed(&Command::Resolve { session, sequence })
            .await?;
        Ok(SubmitReply {
            index,
            reply,
            leader: None,
        })
    }

    /// Proposes an operator's command.
    ///
    /// # Errors
    /// See [`MetadError`]. A refusal is a reply.
    pub async fn operate(&self, command: Command) -> Result<Reply, MetadError> {
        self.leading().await?;
        Ok(self.propose(&command).await?)
    }

    /// Ends a session at its gateway's own wish.
    ///
    /// # Errors
    /// See [`MetadError`].
    pub async fn end_session(&self, session: SessionId) -> Result<(), MetadError> {
        self.leading().await?;
        match self.propose(&Command::EndSession { session }).await? {
            Reply::Done => {
                self.wake();
                Ok(())
            }
            other => Err(unexpected("end of a session", other)),
        }
    }

    /// Answers a question about the state, linearizably.
    ///
    /// # Errors
    /// When the read cannot be confirmed or the store fails.
    pub async fn query(self: &Arc<Self>, query: Query) -> Result<QueryReply, MetadError> {
        let index = self.group.applied_index();
        let state = self.reads.linearizable().await?;
        let long = query.reads_many_rows();
        let answer = move || namespace::query::answer(&state.snapshot(), &query).map_err(unavailable);
        let answer = if long {
            let leave = self.long_query()?;
            // The leave lasts as long as the work does, whether its caller waits or not.
            let answer = move || {
                let answer = answer();
                drop(leave);
                answer
            };
            self.offload(answer).await??
        } else {
            answer()?
        };
        Ok(QueryReply { index, answer })
    }

    /// Answers questions that came together, linearizably and all about the same state.
    ///
    /// # Errors
    /// When the read cannot be confirmed.
    pub async fn query_many(&self, request: QueryManyRequest) -> Result<QueryManyReply, MetadError> {
        let index = self.group.applied_index();
        let state = self.reads.linearizable().await?;
        let rows = state.snapshot();
        let answer = |query: &Query| match query.reads_many_rows() {
            true => Err(invalid("this question goes by itself")),
            false => namespace::query::answer(&rows, query).map_err(unavailable),
        };
        let answers = request.queries.iter().map(answer).collect();
        Ok(QueryManyReply { index, answers })
    }

    /// Marks copies damaged that a gateway could not verify.
    ///
    /// # Errors
    /// See [`MetadError`].
    pub async fn report_damaged(&self, request: ReportDamagedRequest) -> Result<(), MetadError> {
        let ReportDamagedRequest {
            session,
            vendor,
            copies,
        } = request;
        self.leading().await?;
        tracing::warn!(%session, %vendor, copies = copies.len(), "a gateway found copies damaged");
        match self.propose(&Command::ReportDamaged { vendor, copies }).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected("report of damaged copies", other)),
        }
    }

    /// How the service does.
    ///
    /// # Errors
    /// When the store fails.
    pub fn status(&self) -> Result<StatusReply, MetadError> {
        let status = self.group.status();
        let state = self.stale();
        let rows = state.snapshot();
        let counts = query::counts(&rows, COUNTED_MAX).map_err(unavailable)?;
        let epoch = query::cluster(&rows)
            .map_err(unavailable)?
            .map(|row| row.epoch)
            .unwrap_or_default();
        Ok(StatusReply {
            cluster: self.cluster(),
            epoch,
            node: status.identity.node,
            leader: status.leader,
            term: status.term,
            applied_index: status.applied_index.unwrap_or(0),
            cluster_time: query::cluster_time(&rows).map_err(unavailable)?,
            sessions: counts.live_sessions,
            leases: counts.leases,
            erase_backlog: counts.erase_orders,
            release_backlog: counts.releases,
            issuers: query::issuers(&rows).map_err(unavailable)?,
        })
    }
}

/// Whether a command makes the metadata grow. What deletes, gives back, renews or looks may go on when its
/// disk is nearly full.
fn adds_data(command: &SessionCommand) -> bool {
    match command {
        SessionCommand::Allocate { .. }
        | SessionCommand::Slice(_)
        | SessionCommand::FinalizeObject(_)
        | SessionCommand::FinalizePart(_)
        | SessionCommand::CreateBucket { .. }
        | SessionCommand::CreateUpload { .. }
        | SessionCommand::CompleteSlice(_)
        | SessionCommand::CompleteUpload(_)
        | SessionCommand::CopyObject(_)
        | SessionCommand::SetObjectTags(_)
        | SessionCommand::CopyPart(_)
        | SessionCommand::CreateUser { .. }
        | SessionCommand::SetBucketDocument {
            document: Some(_), ..
        } => true,
        SessionCommand::RenewLease { .. }
        | SessionCommand::ShrinkLease { .. }
        | SessionCommand::ReturnLease { .. }
        | SessionCommand::AbandonBlob { .. }
        | SessionCommand::DeleteBucket { .. }
        | SessionCommand::DeleteObject(_)
        | SessionCommand::SetVersioning { .. }
        | SessionCommand::SetBucketQuota { .. }
        | SessionCommand::AbortUpload { .. }
        // What shuts somebody out must be possible at any time; rows grow by a policy at most.
        | SessionCommand::SetUserPolicy { .. }
        | SessionCommand::SetBucketAccess { .. }
        | SessionCommand::SetObjectAcl { .. }
        | SessionCommand::DeleteAccessKey { .. }
        | SessionCommand::SetBucketDocument { document: None, .. } => false,
    }
}

/// Whether what was replaced, deleted or given up may have joined the release queue.
fn may_release(reply: &Reply) -> bool {
    matches!(reply, Reply::Stored { .. } | Reply::Deleted { .. } | Reply::Done)
}

fn invalid(words: &str) -> MetadError {
    MetadError::Refused(Rejection::Invalid(words.to_owned()))
}

fn unexpected(what: &str, reply: Reply) -> MetadError {
    match reply {
        Reply::Refused(rejection) => MetadError::Refused(rejection),
        other => MetadError::Unavailable(format!("the {what} was answered with {other:?}")),
    }
}
