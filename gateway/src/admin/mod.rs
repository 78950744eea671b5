//! The admin listener: health and metrics for everybody who reaches the port, and under `/v1/` a JSON API for
//! callers who sign their requests with Signature Version 4 for the service `ullage`. The root keys may do
//! everything, users may see the FAT of their own objects.

mod buckets;
mod error;
mod handlers;
mod local;
mod members;
mod views;

pub use handlers::{ROUTES, USER_ROUTES};
pub use local::{LocalCopies, LocalCopy, LocalFatError, LocalFats};
/// The routes that need no signature, all of them. They tell nothing of what is stored.
pub use ullage_transport::health::PUBLIC_ROUTES;

use crate::audit::{AUDIT, AuditLine};
use crate::memory::Budget;
use crate::ops::{self, Caller};
use crate::s3::{BodyPlan, BodyUse, Credential, Endpoint, Head, Realm, UnixMs};
use crate::server::limits::ADMIN_BODY_BYTES_MAX;
use crate::server::listener::Answers;
use crate::server::{AnswerBody, RequestBody, Shared, document_memory};
use crate::store::Store;
use bytes::Bytes;
use error::{AdminError, Result};
use futures::FutureExt as _;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use prometheus::{IntCounter, Registry, TextEncoder};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tracing::{error, info};
use ullage_transport::health;

/// Name of the service in signatures.
const SERVICE: &str = "ullage";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers the admin listener.
#[derive(Debug)]
pub(crate) struct AdminApi {
    shared: Arc<Shared>,
    local_fats: Arc<dyn LocalFats>,
    registry: Registry,
    /// Path style only, whatever the domain of S3's buckets.
    endpoint: Endpoint,
    documents: Budget,
    received: IntCounter,
}

/// An authenticated request of the API.
struct Call {
    caller: Caller,
    /// The caller's name.
    name: String,
    query: Vec<(String, String)>,
    document: Bytes,
    store: Arc<Store>,
}

impl Call {
    fn parameter(&self, name: &str) -> Option<&str> {
        let mut values = self.query.iter().filter(|(known, _)| known == name);
        values.next().map(|(_, value)| value.as_str())
    }

    fn required(&self, name: &str) -> Result<&str> {
        self.parameter(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| AdminError::invalid(format!("the parameter {name} is missing")))
    }

    fn require_root(&self) -> Result<()> {
        if self.caller.is_root() {
            Ok(())
        } else {
            Err(AdminError::forbidden())
        }
    }
}

impl AdminApi {
    pub(crate) fn new(
        shared: Arc<Shared>,
        local_fats: Arc<dyn LocalFats>,
        registry: Registry,
        received: IntCounter,
    ) -> Self {
        Self {
            shared,
            local_fats,
            registry,
            endpoint: Endpoint::default(),
            documents: document_memory(),
            received,
        }
    }

    /// The answer of one of [`PUBLIC_ROUTES`].
    fn public(&self, parts: &Parts) -> Option<Response<AnswerBody>> {
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        let path = parts.uri.path();
        if !reads || !PUBLIC_ROUTES.contains(&path) {
            return None;
        }
        Some(match path {
            health::LIVE => text(StatusCode::OK, TEXT, "live\n".to_owned()),
            health::READY if self.shared.is_ready() => text(StatusCode::OK, TEXT, "ready\n".to_owned()),
            health::READY => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n".to_owned()),
            health::METRICS => self.metrics(),
            _ => return None,
        })
    }

    fn metrics(&self) -> Response<AnswerBody> {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(page) => text(StatusCode::OK, prometheus::TEXT_FORMAT, page),
            Err(error) => {
                error!(%error, "cannot write the metrics");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    TEXT,
                    "cannot write the metrics\n".to_owned(),
                )
            }
        }
    }

    /// Authenticates, reads the document, and does what is asked.
    async fn perform(&self, parts: &Parts, body: &mut RequestBody) -> Result<Vec<u8>> {
        let head = Head::parse(parts, &self.endpoint)?;
        let realm = Realm {
            region: &self.shared.region,
            service: SERVICE,
        };
        let now = UnixMs(self.shared.clock.wall().0);
        let credential = Credential::parse(&head, realm, now)?;
        let store = self.shared.store().ok_or_else(AdminError::starting)?;
        let identity = ops::identify(&self.shared, store, credential.access_key()).await?;
        let authenticated = credential.verify(identity.secret(), &self.shared.signing_keys)?;
        let route = handlers::route(&parts.method, head.bucket(), head.key())?;
        let body_use = BodyUse::Document {
            bytes_max: ADMIN_BODY_BYTES_MAX as u64,
            checksummed: true,
        };
        let plan = BodyPlan::new(&head, &authenticated, body_use)?;
        let call = Call {
            caller: identity.caller(),
            name: identity.name().to_owned(),
            query: head
                .query()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            document: body.document(plan, &self.documents).await?,
            store: Arc::clone(store),
        };
        let answer = self.handle(route, &call);
        if parts.method == Method::GET {
            return answer.await;
        }
        // Who changed what.
        let line = AuditLine::new(|outcome| {
            info!(
                target: AUDIT,
                user = call.name,
                allowed = call.caller.is_root(),
                method = %parts.method,
                path = parts.uri.path(),
                outcome,
                "a change by the admin API"
            );
        });
        line.during(answer, |error| error.code).await
    }
}

impl Answers for AdminApi {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, _peer: IpAddr) -> Response<AnswerBody> {
        let (parts, incoming) = request.into_parts();
        let mut body = RequestBody::new(incoming, &parts.headers, self.received.clone());
        let mut response = match self.public(&parts) {
            Some(response) => response,
            None => {
                let performed = Box::pin(self.perform(&parts, &mut body));
                let performed = AssertUnwindSafe(performed).catch_unwind().await;
                answer_of(performed.unwrap_or_else(|_| {
                    error!(path = parts.uri.path(), "a request of the admin API panicked");
                    let status = StatusCode::INTERNAL_SERVER_ERROR;
                    Err(AdminError::new(status, "InternalError", "the request failed"))
                }))
            }
        };
        body.settle().await.apply(&parts, &mut response);
        if parts.method == Method::HEAD {
            *response.body_mut() = AnswerBody::Whole(None);
        }
        response
    }
}

fn answer_of(performed: Result<Vec<u8>>) -> Response<AnswerBody> {
    match performed {
        Ok(document) => whole(StatusCode::OK, JSON, document.into()),
        Err(error) => {
            let document = serde_json::to_vec(&error).unwrap_or_default();
            whole(error.status, JSON, document.into())
        }
    }
}

fn text(status: StatusCode, content_type: &'static str, text: String) -> Response<AnswerBody> {
    whole(status, content_type, text.into())
}

fn whole(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
