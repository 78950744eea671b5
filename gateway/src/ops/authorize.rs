//! The one place where it is decided who may do what. Policies as documents come here later.

use crate::s3::Operation;
use crate::s3::error::{ErrorCode, Result};
use ullage_model::command::Actor;
use ullage_model::namespace::rows::{ROOT_USER, UserPolicy, UserRow};

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Everything, the admin API included.
    Root,
    /// What the user's policy says.
    Policy(UserPolicy),
}

/// Who asks, known by a signature that held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// The user, and the version of its settings under which it is authorized.
    pub(crate) actor: Actor,
    /// Its rights.
    pub(crate) rights: Rights,
}

impl Caller {
    /// The holder of the gateway's root keys.
    pub(crate) fn root() -> Self {
        Self {
            actor: Actor {
                user: ROOT_USER,
                settings_version: 0,
            },
            rights: Rights::Root,
        }
    }

    /// A user who holds an access key.
    pub(crate) fn user(row: &UserRow) -> Self {
        Self {
            actor: Actor {
                user: row.user,
                settings_version: row.settings_version,
            },
            rights: Rights::Policy(row.policy),
        }
    }

    /// True for the holder of the gateway's root keys.
    pub(crate) fn is_root(&self) -> bool {
        self.rights == Rights::Root
    }
}

/// What an operation needs its caller to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It changes nothing.
    Read,
    /// It changes something.
    Write,
}

/// Allows or refuses.
///
/// # Errors
/// AccessDenied.
pub(crate) fn authorize(caller: &Caller, need: Need) -> Result<()> {
    let allowed = match caller.rights {
        Rights::Root | Rights::Policy(UserPolicy::ReadWrite) => true,
        Rights::Policy(UserPolicy::ReadOnly) => need == Need::Read,
    };
    if allowed {
        Ok(())
    } else {
        Err(ErrorCode::AccessDenied.into())
    }
}

impl Need {
    /// Of an operation. Without a wildcard: a new operation must be thought about.
    pub(crate) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::ListBuckets(_)
            | Operation::HeadBucket(_)
            | Operation::GetBucketLocation(_)
            | Operation::ListObjects(_)
            | Operation::ListObjectsV2(_)
            | Operation::ListMultipartUploads(_)
            | Operation::ListParts(_)
            | Operation::GetBucketCors(_)
            | Operation::GetBucketTagging(_)
            | Operation::GetObject(_)
            | Operation::GetObjectTagging(_)
            | Operation::HeadObject(_) => Self::Read,
            Operation::CreateBucket(_)
            | Operation::DeleteBucket(_)
            | Operation::PutObject(_)
            // Who may write may read, so this covers the source too.
            | Operation::CopyObject(_)
            | Operation::DeleteObject(_)
            | Operation::DeleteObjects(_)
            | Operation::PutObjectTagging(_)
            | Operation::DeleteObjectTagging(_)
            | Operation::CreateMultipartUpload(_)
            | Operation::UploadPart(_)
            | Operation::CompleteMultipartUpload(_)
            | Operation::AbortMultipartUpload(_)
            | Operation::PutBucketCors(_)
            | Operation::DeleteBucketCors(_)
            | Operation::PutBucketTagging(_)
            | Operation::DeleteBucketTagging(_) => Self::Write,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::operation::BucketRequest;

    #[test]
    fn readers_may_read_and_nothing_else() {
        let with = |rights| Caller {
            rights,
            ..Caller::root()
        };
        let request = || BucketRequest { bucket: "b".into() };
        let read = Need::of(&Operation::HeadBucket(request()));
        let write = Need::of(&Operation::DeleteBucket(request()));
        for rights in [Rights::Root, Rights::Policy(UserPolicy::ReadWrite)] {
            assert_eq!(authorize(&with(rights), read), Ok(()));
            assert_eq!(authorize(&with(rights), write), Ok(()));
        }
        let reader = with(Rights::Policy(UserPolicy::ReadOnly));
        assert_eq!(authorize(&reader, read), Ok(()));
        let refused = authorize(&reader, write).map_err(|error| error.code());
        assert_eq!(refused, Err(ErrorCode::AccessDenied));
    }
}
