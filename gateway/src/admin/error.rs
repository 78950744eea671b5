//! The admin API's errors: a status, a code for programs, a message for people.

use super::local::LocalFatError;
use crate::error::Error;
use crate::s3::S3Error;
use http::StatusCode;
use serde::Serialize;
use tracing::error;
use ullage_model::rejection::Rejection;

/// One refusal or failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct AdminError {
    #[serde(skip)]
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

pub(super) type Result<T> = std::result::Result<T, AdminError>;

impl AdminError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(super) fn starting() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "the gateway has not reached the metadata service yet; see its log",
        )
    }

    pub(super) fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "AccessDenied",
            "only the root keys may do this",
        )
    }
}

/// Errors of authentication and of the request's form.
impl From<S3Error> for AdminError {
    fn from(error: S3Error) -> Self {
        Self::new(error.status(), error.code().as_str(), error.message())
    }
}

impl From<LocalFatError> for AdminError {
    fn from(error: LocalFatError) -> Self {
        let message = error.to_string();
        match error {
            LocalFatError::Unreachable(_) => Self::not_found(message),
            LocalFatError::Failed(_) => Self::new(StatusCode::BAD_GATEWAY, "VendorFailed", message),
        }
    }
}

impl From<Error> for AdminError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Rejected(rejection) => Self::new(status_of(&rejection), "Refused", rejection.to_string()),
            Error::Unavailable(_) | Error::SlowDown(_) | Error::NoRoom(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message)
            }
            Error::StaleSettings => Self::new(StatusCode::CONFLICT, "Conflict", message),
            other => {
                error!(error = %other, "a request of the admin API failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
        }
    }
}

fn status_of(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::UserExists(_) => StatusCode::CONFLICT,
        Rejection::NoSuchUser
        | Rejection::NoSuchAccessKey
        | Rejection::NoSuchBucket
        | Rejection::NoSuchKey
        | Rejection::NoSuchVendor(_)
        | Rejection::NoSuchClass(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    }
}
