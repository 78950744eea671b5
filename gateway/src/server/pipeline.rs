//! One S3 request from head to answer: the order of the checks. What S3 demands is in [`crate::s3`], what an
//! operation does in [`crate::ops`].

use super::Shared;
use super::answer::AnswerBody;
use super::body::{Afterwards, RequestBody, document_memory, strangers_memory};
use super::late::{LateBody, Progress, in_time};
use super::listener::Answers;
use super::metrics::ServerMetrics;
use crate::memory::Budget;
use crate::ops::{self, Answer, Call, Caller, Needs, RequestFacts};
use crate::s3::error::{ErrorCode, Result};
use crate::s3::route::OperationName;
use crate::s3::{self, Authenticated, Credential, Head, Realm, Reply, RequestIds, S3Error, UnixMs};
use crate::store::Store;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{Method, Request, Response, header};
use hyper::body::Incoming;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tracing::{Instrument as _, Span, debug_span, error, field};

/// Name of the service in S3's signatures.
const SERVICE: &str = "s3";

/// Answers S3.
#[derive(Debug)]
pub(super) struct S3Api {
    shared: Arc<Shared>,
    metrics: Arc<ServerMetrics>,
    documents: Budget,
    /// The same for callers whom nobody knows, and for forms.
    strangers: Budget,
    /// `x-amz-id-2` of all answers.
    host_id: String,
}

impl S3Api {
    pub(super) fn new(shared: Arc<Shared>, metrics: Arc<ServerMetrics>) -> Self {
        let host_id = format!("{:016X}{:016X}", shared.random.number(), shared.random.number());
        Self {
            shared,
            metrics,
            documents: document_memory(),
            strangers: strangers_memory(),
            host_id,
        }
    }

    fn ids(&self, request_id: u64) -> RequestIds {
        RequestIds {
            request_id: format!("{request_id:016X}"),
            host_id: self.host_id.clone(),
        }
    }

    /// What every signature must be made for.
    fn realm(&self) -> Realm<'_> {
        Realm {
            region: &self.shared.region,
            service: SERVICE,
        }
    }

    /// Who asks: whoever signed, or nobody known if there are no credentials at all.
    async fn authenticate(
        &self,
        head: &Head<'_>,
        store: &Store,
        now: UnixMs,
    ) -> Result<(Authenticated, Caller)> {
        let Some(credential) = Credential::find(head, self.realm(), now)? else {
            return Ok((Authenticated::anonymous(head)?, Caller::anonymous()));
        };
        let identity = ops::identify(&self.shared, store, credential.access_key()).await?;
        let authenticated = credential.verify(identity.secret(), &self.shared.signing_keys)?;
        Ok((authenticated, identity.caller()))
    }

    /// Checks and performs. Every `?` is an answer; nothing before the operation itself reads the body.
    async fn perform(
        &self,
        parts: &Parts,
        body: &mut RequestBody,
        (request_id, peer): (u64, IpAddr),
        progress: &Progress,
    ) -> Result<Answer> {
        let Some(store) = self.shared.serving() else {
            return Err(S3Error::new(
                ErrorCode::ServiceUnavailable,
                "The server is starting or stopping. Try again in a moment.",
            ));
        };
        let head = Head::parse(parts, &self.shared.endpoint)?;
        // Whoever is not known learns nothing, not even which operations there are.
        let route = s3::route(&head);
        let asked = route.as_ref().ok().map(|route| route.operation);
        if let Some(operation) = asked {
            progress.asks(operation);
            Span::current().record("operation", operation.as_str());
        }
        if let Some(OperationName::PreflightBucket | OperationName::PreflightObject) = asked {
            return ops::preflight(store, &head).await.map(Answer::Whole);
        }
        let now = UnixMs(self.shared.clock.wall().0);
        if let Some(OperationName::PostObject) = asked {
            let posted = ops::Posted {
                shared: &self.shared,
                store,
                head: &head,
                peer,
                realm: self.realm(),
                now,
                request_id,
                progress,
                memory: &self.strangers,
            };
            // On the heap, as few requests are forms.
            let answer = Box::pin(ops::post_object(&posted, body)).await;
            return answer.map(Answer::Whole);
        }
        let (authenticated, caller) = self.authenticate(&head, store, now).await?;
        if caller.is_anonymous() && !route.as_ref().is_ok_and(|route| route.offered) {
            return Err(ErrorCode::AccessDenied.into());
        }
        let request = s3::Request::parse(&head, route?, &authenticated);
        let request = request.map_err(|error| match error.code() {
            ErrorCode::NotImplemented if caller.is_anonymous() => ErrorCode::AccessDenied.into(),
            _ => error,
        })?;
        let call = Call {
            shared: &self.shared,
            store,
            caller,
            access_key: authenticated.access_key(),
            needs: Needs::of(&request.operation),
            admitted: OnceLock::new(),
            request: RequestFacts {
                head: &head,
                acting: &head,
                peer,
                now,
                scheme: authenticated.scheme(),
            },
            request_id,
            region: &self.shared.region,
            url: (head.host(), head.raw_path()),
            progress,
            expected_owner: request.expected_bucket_owner,
        };
        let body = ops::Body {
            wire: body,
            plan: request.body,
            memory: if call.caller.is_anonymous() {
                &self.strangers
            } else {
                &self.documents
            },
        };
        ops::perform(&call, body, request.operation).await
    }

    async fn add_cors_headers(&self, parts: &Parts, response: &mut Response<AnswerBody>) {
        if let Some(store) = self.shared.serving()
            && parts.headers.contains_key(header::ORIGIN)
            && parts.method != Method::OPTIONS
        {
            let headers = response.headers_mut();
            ops::add_cors_headers(store, &self.shared.endpoint, parts, headers).await;
        }
    }

    fn response(&self, answer: Answer, method: &Method, ids: &RequestIds) -> Response<AnswerBody> {
        match answer {
            Answer::Whole(reply) => {
                let response = reply.into_http(method, ids);
                self.metrics.sent.inc_by(response.body().len() as u64);
                response.map(AnswerBody::whole)
            }
            Answer::Object {
                reply,
                first,
                rest,
                bytes,
            } => {
                let sent = self.metrics.sent.clone();
                reply.into_http(method, ids).map(|_| AnswerBody::Object {
                    first: Some(first),
                    rest,
                    left: bytes,
                    sent,
                })
            }
        }
    }
}

impl S3Api {
    /// Performs, and answers what goes wrong.
    async fn outcome(
        &self,
        parts: &Parts,
        body: &mut RequestBody,
        (request_id, peer): (u64, IpAddr),
        progress: &Progress,
    ) -> Answer {
        let ids = self.ids(request_id);
        let span = debug_span!("s3", request_id = %ids.request_id, operation = field::Empty);
        let performed = self.perform(parts, body, (request_id, peer), progress);
        let performed = AssertUnwindSafe(performed.instrument(span)).catch_unwind().await;
        let answer = performed.unwrap_or_else(|_| {
            error!(request_id = %ids.request_id, "a request panicked");
            Err(ErrorCode::InternalError.into())
        });
        answer.unwrap_or_else(|error| {
            if error.code() == ErrorCode::InternalError {
                // What failed was logged where it was seen; this says whose request it was.
                let operation = progress.asked().map_or("", OperationName::as_str);
                error!(request_id = %ids.request_id, operation, "answered InternalError");
            }
            Answer::Whole(Reply::error(&error, parts.uri.path(), &ids))
        })
    }

    /// The body that follows a head which was sent before the outcome was known.
    fn late(
        self: Arc<Self>,
        work: BoxFuture<'static, (Answer, RequestBody)>,
        (progress, started): (Arc<Progress>, Instant),
    ) -> AnswerBody {
        let patience = self.shared.answer_patience;
        let in_flight = InFlight::new(&self.metrics);
        let rest = async move {
            let (answer, _) = work.await;
            let (Answer::Whole(reply) | Answer::Object { reply, .. }) = answer;
            self.metrics
                .answered(progress.asked(), reply.status, started.elapsed());
            let rest = reply.into_late_rest();
            self.metrics.sent.inc_by(rest.len() as u64);
            drop(in_flight);
            rest
        };
        AnswerBody::Late(LateBody::new(rest.boxed(), patience))
    }
}

impl Answers for S3Api {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr) -> Response<AnswerBody> {
        let started = Instant::now();
        let in_flight = InFlight::new(&self.metrics);
        let request_id = self.shared.random.number();
        let ids = self.ids(request_id);
        let (parts, incoming) = request.into_parts();
        let (parts, progress) = (Arc::new(parts), Arc::new(Progress::default()));
        let mut body = RequestBody::new(incoming, &parts.headers, self.metrics.received.clone());
        // On the heap: the states of all operations together are too large for every connection's task.
        let mut work = {
            let (api, parts, progress) = (Arc::clone(&self), Arc::clone(&parts), Arc::clone(&progress));
            let work = async move {
                let answer = api.outcome(&parts, &mut body, (request_id, peer), &progress);
                (answer.await, body)
            };
            work.boxed()
        };
        let Some((answer, body)) = in_time(&mut work, &progress, self.shared.answer_patience).await else {
            let mut response = Reply::late()
                .into_http(&parts.method, &ids)
                .map(AnswerBody::whole);
            self.add_cors_headers(&parts, &mut response).await;
            // There is nothing left to be read, but it is not worth finding out.
            Afterwards::Close.apply(&parts, &mut response);
            return response.map(|_| self.late(work, (progress, started)));
        };
        let mut response = self.response(answer, &parts.method, &ids);
        self.add_cors_headers(&parts, &mut response).await;
        body.settle().await.apply(&parts, &mut response);
        self.metrics
            .answered(progress.asked(), response.status(), started.elapsed());
        drop(in_flight);
        response
    }
}

/// Counts a request while it is being answered.
struct InFlight(prometheus::IntGauge);

impl InFlight {
    fn new(metrics: &ServerMetrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics.in_flight.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
