//! Paths of the calls between services. All are `POST` over HTTP/2 under mutual TLS. A unary call has `codec`
//! bytes in both bodies; an error of the service is answered 409 with its own `codec` bytes.

/// Header in which a metadata node names the caller for whom it forwards a call: the caller's identity URI.
/// Believed only of metadata nodes. A forwarded call is not forwarded again.
pub const FORWARDED_FOR: &str = "x-ullage-forwarded-for";
/// Header with the ms that the caller waits for the answer at most: whoever is called gives up no later.
pub const DEADLINE_MS: &str = "x-ullage-deadline-ms";
/// Header with a request's id, 16 hex digits, for tracing only.
pub const REQUEST_ID: &str = "x-ullage-request-id";

/// The metadata service's, for gateways: `OpenSessionRequest` → `OpenSessionReply`.
pub const SESSION_OPEN: &str = "/v1/session/open";
/// `RenewSessionRequest` → `RenewSessionReply`.
pub const SESSION_RENEW: &str = "/v1/session/renew";
/// `EndSessionRequest` → `Done`.
pub const SESSION_END: &str = "/v1/session/end";
/// `AllocateRequest` → `ProvisionalFat`.
pub const ALLOCATE: &str = "/v1/allocate";
/// `SubmitRequest` → `SubmitReply`.
pub const SUBMIT: &str = "/v1/submit";
/// `SubmitManyRequest` → `SubmitManyReply`.
pub const SUBMIT_MANY: &str = "/v1/submit-many";
/// `ResolveRequest` → `SubmitReply`.
pub const RESOLVE: &str = "/v1/resolve";
/// `Query` → `QueryReply`.
pub const QUERY: &str = "/v1/query";
/// `QueryManyRequest` → `QueryManyReply`.
pub const QUERY_MANY: &str = "/v1/query-many";
/// `ReportDamagedRequest` → `Done`.
pub const REPORT_DAMAGED: &str = "/v1/damaged";
/// `Command` → `Reply`.
pub const OPERATE: &str = "/v1/operate";
/// `Done` → `StatusReply`.
pub const STATUS: &str = "/v1/status";
/// `MembersRequest` → `MembersReply`.
pub const MEMBERS: &str = "/v1/members";
/// `InviteRequest` → `InviteReply`.
pub const INVITE: &str = "/v1/invite";

/// The metadata service's, for anybody: `EnrolRequest` → `EnrolReply`. The request proves itself.
pub const ENROL: &str = "/v1/enrol";
/// The metadata service's, for vendors: `RegisterRequest` → `RegisterReply`.
pub const REGISTER: &str = "/v1/vendor/register";
/// `Heartbeat` → `HeartbeatReply`.
pub const HEARTBEAT: &str = "/v1/vendor/heartbeat";
/// `JudgeRequest` → `JudgeReply`.
pub const JUDGE: &str = "/v1/vendor/judge";

/// A vendor agent's, for gateways and vendors: a chunk. The request body is one framed message
/// (`ullage_transport::frame`), the `ChunkHeader`; then the stored bytes, `units::stored_bytes` of the header's
/// plaintext length; then their BLAKE3 digest, 32 bytes; then its end. The response's body is framed
/// `HopReport`s, as they arise. A refusal before any byte was taken is answered 409 with a `ChunkRefusal`.
pub const CHUNK_PUT: &str = "/v1/chunk/put";
/// A vendor agent's, for gateways: the request body is a `ReadRequest`, the response's the stored bytes of the
/// frames asked for. A refusal is answered 409 with a `ChunkRefusal`; what fails later resets the stream.
pub const CHUNK_READ: &str = "/v1/chunk/read";
/// A vendor agent's, for gateways: `ListCopiesRequest` → `ListCopiesReply`.
pub const COPIES: &str = "/v1/copies";
/// A vendor agent's, for gateways: `Done` → `ProbeCookie`.
pub const PROBE_COOKIE: &str = "/v1/probe/cookie";
