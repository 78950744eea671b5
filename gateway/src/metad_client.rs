//! The metadata service as the gateway needs it: a trait, implemented in process and over the network
//! elsewhere. A client follows the leader and retries what surely was not done for a short while; what is
//! unknown it reports as `MetadError::Unknown` and never repeats.

use futures::future::BoxFuture;
use std::fmt;
use ullage_model::command::{Command, Reply};
use ullage_model::ids::SessionId;
use ullage_model::wire::enrol::{InviteReply, InviteRequest};
use ullage_model::wire::members::{MembersReply, MembersRequest};
use ullage_model::wire::metad::{
    AllocateRequest, MetadError, OpenSessionReply, OpenSessionRequest, ProvisionalFat, Query, QueryReply,
    RenewSessionReply, RenewSessionRequest, ReportDamagedRequest, ResolveRequest, StatusReply, SubmitReply,
    SubmitRequest,
};

/// What a call answers, later.
pub type Answered<'a, T> = BoxFuture<'a, Result<T, MetadError>>;

/// Calls to the metadata service. Each may be dropped at any time; what it was about is unknown then.
pub trait MetadClient: Send + Sync + fmt::Debug {
    /// Opens a session.
    fn open_session(&self, request: OpenSessionRequest) -> Answered<'_, OpenSessionReply>;
    /// A sign of life, answered with everything the gateway must know.
    fn renew_session(&self, request: RenewSessionRequest) -> Answered<'_, RenewSessionReply>;
    /// Asks for a provisional FAT.
    fn allocate(&self, request: AllocateRequest) -> Answered<'_, ProvisionalFat>;
    /// Submits a command. A refusal comes as `Reply::Refused` or as `MetadError::Refused`.
    fn submit(&self, request: SubmitRequest) -> Answered<'_, SubmitReply>;
    /// Asks what became of a sequence; afterwards it is decided or never will be.
    fn resolve(&self, request: ResolveRequest) -> Answered<'_, SubmitReply>;
    /// Reads, linearizably.
    fn query(&self, query: Query) -> Answered<'_, QueryReply>;
    /// Reports damaged or missing copies.
    fn report_damaged(&self, request: ReportDamagedRequest) -> Answered<'_, ()>;
    /// Ends a session.
    fn end_session(&self, session: SessionId) -> Answered<'_, ()>;
    /// A command of an operator, outside of any session. Not for what must be decided at most once.
    fn operate(&self, command: Command) -> Answered<'_, Reply>;
    /// State of the service, for people.
    fn status(&self) -> Answered<'_, StatusReply>;
    /// Tells or changes the service's own members.
    fn members(&self, request: MembersRequest) -> Answered<'_, MembersReply>;
    /// Makes a one-time token with which a vendor joins.
    fn invite(&self, request: InviteRequest) -> Answered<'_, InviteReply>;
}
