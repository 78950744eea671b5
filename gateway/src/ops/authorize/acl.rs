//! What canned access control lists grant (Amazon S3 user guide, "Mapping of ACL permissions and access policy
//! permissions").

use super::Caller;
use crate::policy::Action;
use ullage_model::namespace::rows::{BucketAccess, CannedAcl, ObjectOwnership};

/// Whether a list says nothing of whoever is not the owner.
fn counts(access: BucketAccess) -> bool {
    // Whatever a canned list grants, it grants to the public.
    let ignored = access.block.is_some_and(|block| block.ignore_public_acls);
    access.ownership != ObjectOwnership::BucketOwnerEnforced && !ignored
}

/// Whether a bucket's list grants an action on the bucket, or on any object in it.
pub(super) fn bucket_grants(access: BucketAccess, caller: &Caller, action: Action) -> bool {
    let reads = matches!(
        action,
        Action::ListBucket | Action::ListBucketVersions | Action::ListBucketMultipartUploads
    );
    let writes = matches!(
        action,
        Action::PutObject | Action::DeleteObject | Action::AbortMultipartUpload
    );
    counts(access)
        && match access.acl {
            CannedAcl::Private => false,
            CannedAcl::PublicRead => reads,
            CannedAcl::PublicReadWrite => reads || writes,
            CannedAcl::AuthenticatedRead => reads && !caller.is_anonymous(),
        }
}

/// Whether this is an action that objects' own lists may grant.
pub(super) fn is_read(action: Action) -> bool {
    matches!(action, Action::GetObject | Action::GetObjectVersion)
}

/// Whether an object's own list may grant an action where nothing else does.
pub(super) fn object_may_grant(access: BucketAccess, action: Action) -> bool {
    counts(access) && is_read(action)
}

/// Whether an object's list grants an action.
pub(super) fn object_grants(access: BucketAccess, acl: CannedAcl, caller: &Caller, action: Action) -> bool {
    object_may_grant(access, action)
        && match acl {
            CannedAcl::Private => false,
            CannedAcl::PublicRead | CannedAcl::PublicReadWrite => true,
            CannedAcl::AuthenticatedRead => !caller.is_anonymous(),
        }
}
