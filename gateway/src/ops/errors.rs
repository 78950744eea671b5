//! The one place where the data path's errors become S3's.

use crate::error::Error;
use crate::put::PutError;
use crate::s3::conditions::WriteCondition;
use crate::s3::error::{ErrorCode, S3Error};
use tracing::{error, warn};
use ullage_model::limits;
use ullage_model::rejection::Rejection;

/// The answer to an error of the data path. What a client cannot help is logged here, once.
///
/// What may or may not have been done is always InternalError: a client that asks again must never be told
/// that its own success stands in its way.
pub(crate) fn s3_error(error: Error) -> S3Error {
    match error {
        Error::Rejected(rejection) => of_rejection(&rejection),
        Error::StaleSettings => S3Error::new(
            ErrorCode::OperationAborted,
            "The settings of the bucket or user kept changing during the request. Try again.",
        ),
        Error::NoRoom(reason) => {
            warn!(reason, "no room for a write");
            ErrorCode::InsufficientStorage.into()
        }
        Error::SlowDown(_) => ErrorCode::SlowDown.into(),
        Error::SlowBody => ErrorCode::RequestTimeout.into(),
        Error::BodyLength { .. } => ErrorCode::IncompleteBody.into(),
        Error::Unavailable(reason) => {
            warn!(reason, "the metadata service is not available");
            ErrorCode::ServiceUnavailable.into()
        }
        Error::NotStored(reason) => {
            warn!(reason, "too few vendors stored a chunk");
            S3Error::new(
                ErrorCode::SlowDown,
                "Too few vendors took their copies of the object in time. Nothing was stored. Try again later.",
            )
        }
        Error::SessionLost
        | Error::OutcomeUnknown(_)
        | Error::Unreadable { .. }
        | Error::Cut(_)
        | Error::WrongKek(_)
        | Error::Kek(_)
        | Error::Crypt(_)
        | Error::Config(_)
        | Error::UnexpectedAnswer(_) => {
            error!(%error, "a request failed");
            ErrorCode::InternalError.into()
        }
    }
}

/// As [`s3_error`], for writes with a condition: names the header that did not hold.
fn conditional_error(error: Error, condition: &WriteCondition) -> S3Error {
    match error {
        error if *condition == WriteCondition::Always => s3_error(error),
        Error::Rejected(Rejection::PreconditionFailed) => condition.refusal(true),
        Error::Rejected(Rejection::NoSuchKey) => condition.refusal(false),
        other => s3_error(other),
    }
}

/// The answer to a call that was refused here or failed behind; for calls without a condition,
/// [`WriteCondition::Always`].
pub(super) fn undone(error: PutError<S3Error>, condition: &WriteCondition) -> S3Error {
    match error {
        PutError::Refused(refusal) => refusal,
        PutError::Failed(error) => conditional_error(error, condition),
    }
}

fn of_rejection(rejection: &Rejection) -> S3Error {
    match rejection {
        Rejection::NoSuchBucket => ErrorCode::NoSuchBucket.into(),
        Rejection::BucketExists { .. } => ErrorCode::BucketAlreadyExists.into(),
        Rejection::BucketNotEmpty => ErrorCode::BucketNotEmpty.into(),
        Rejection::QuotaExceeded => ErrorCode::QuotaExceeded.into(),
        Rejection::TooManyBuckets => ErrorCode::TooManyBuckets.into(),
        Rejection::NoSuchKey => ErrorCode::NoSuchKey.into(),
        Rejection::PreconditionFailed => ErrorCode::PreconditionFailed.into(),
        Rejection::NoSuchVersion => ErrorCode::NoSuchVersion.into(),
        Rejection::DeleteMarker => ErrorCode::MethodNotAllowed.into(),
        Rejection::NoSuchUpload => ErrorCode::NoSuchUpload.into(),
        Rejection::InvalidPart(number) => {
            S3Error::from(ErrorCode::InvalidPart).with("PartNumber", number.to_string())
        }
        Rejection::InvalidPartOrder => ErrorCode::InvalidPartOrder.into(),
        Rejection::PartTooSmall { number, bytes } => S3Error::from(ErrorCode::EntityTooSmall)
            .with("ProposedSize", bytes.to_string())
            .with("MinSizeAllowed", limits::PART_BYTES_MIN.to_string())
            .with("PartNumber", number.to_string()),
        Rejection::Size(what) => {
            S3Error::new(ErrorCode::InvalidRequest, format!("The object's size: {what}."))
        }
        Rejection::NoSuchClass(class) => {
            S3Error::from(ErrorCode::InvalidStorageClass).with("StorageClassRequested", class)
        }
        Rejection::NoSuchUser | Rejection::NoSuchAccessKey => ErrorCode::InvalidAccessKeyId.into(),
        Rejection::NoRoom { .. } => ErrorCode::InsufficientStorage.into(),
        Rejection::WindowFull => ErrorCode::SlowDown.into(),
        Rejection::PartsChanged => S3Error::new(
            ErrorCode::OperationAborted,
            "Parts of the upload kept changing while it was completed. Try again.",
        ),
        Rejection::SourceChanged => S3Error::new(
            ErrorCode::OperationAborted,
            "The source of the copy kept changing while it was copied. Try again.",
        ),
        // Nothing was done: the copies lie where the rule of a moment ago wanted them.
        Rejection::Placement(_) => S3Error::new(
            ErrorCode::ServiceUnavailable,
            "The placement rules of the storage class changed while the object was stored. Try again.",
        ),
        // Where bytes are copied without being read, that is the case in which they are read after all.
        Rejection::TooManyExtents => S3Error::new(
            ErrorCode::InvalidRequest,
            "The source of the copy consists of too many pieces.",
        ),
        Rejection::TooManyReferences => S3Error::new(
            ErrorCode::InvalidRequest,
            "The bytes were copied too often already. Store them again.",
        ),
        Rejection::StaleSettings => s3_error(Error::StaleSettings),
        Rejection::Cluster(_)
        | Rejection::Invalid(_)
        | Rejection::SessionGone
        | Rejection::SequenceForgotten(_)
        | Rejection::SequenceAbandoned(_)
        | Rejection::NoSuchVendor(_)
        | Rejection::NotInvited
        | Rejection::VendorRevoked(_)
        | Rejection::VendorNameTaken(_)
        | Rejection::LeaseClosed(_)
        | Rejection::LeaseExceeded { .. }
        | Rejection::NotInlined(_)
        | Rejection::Blob(..)
        | Rejection::UserExists(_) => {
            error!(%rejection, "the metadata service refused what a gateway should not ask");
            ErrorCode::InternalError.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::etag::ETagCondition;

    #[test]
    fn what_may_have_been_done_is_never_a_failed_precondition() {
        let condition = WriteCondition::IfAbsent;
        for error in [Error::SessionLost, Error::OutcomeUnknown(String::new())] {
            assert_eq!(conditional_error(error, &condition).status().as_u16(), 500);
        }
    }

    #[test]
    fn fullness_and_overload_are_told_apart() {
        assert_eq!(s3_error(Error::NoRoom(String::new())).status().as_u16(), 507);
        assert_eq!(s3_error(Error::SlowDown("x")).code(), ErrorCode::SlowDown);
        let moved = Rejection::Placement(String::new());
        assert_eq!(
            s3_error(Error::Rejected(moved)).code(),
            ErrorCode::ServiceUnavailable
        );
        let full = Rejection::WindowFull;
        assert_eq!(s3_error(Error::Rejected(full)).code(), ErrorCode::SlowDown);
    }

    #[test]
    fn conditions_are_named() {
        let refused =
            |rejection, condition: &WriteCondition| conditional_error(Error::Rejected(rejection), condition);
        let matching = WriteCondition::IfMatch(ETagCondition::Any);
        let absent = refused(Rejection::PreconditionFailed, &WriteCondition::IfAbsent);
        assert_eq!(absent.detail("Condition"), Some("If-None-Match"));
        let missing = refused(Rejection::NoSuchKey, &matching);
        assert_eq!(missing.code(), ErrorCode::NoSuchKey);
        let other = refused(Rejection::PreconditionFailed, &matching);
        assert_eq!(other.detail("Condition"), Some("If-Match"));
    }
}
