//! S3's actions, what kind of resource each acts on, and patterns of them.

use super::pattern::glob_ignoring_case;
use super::{PolicyError, Result};

/// What an action acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The service: every resource that a statement names.
    Service,
    /// A bucket.
    Bucket,
    /// An object.
    Object,
}

macro_rules! actions {
    ($($name:ident $level:ident;)*) => {
        /// An action of S3, by its name without `s3:`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)] // Amazon's service authorization reference documents them by these names.
        pub enum Action { $($name,)* }

        impl Action {
            /// All actions.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name without `s3:`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Whether conditions may ask for the tags of the object that it acts on (`s3:ExistingObjectTag`).
            pub(crate) fn knows_object_tags(self) -> bool {
                matches!(
                    self,
                    Self::GetObject
                        | Self::GetObjectVersion
                        | Self::GetObjectAttributes
                        | Self::GetObjectVersionAttributes
                        | Self::GetObjectAcl
                        | Self::GetObjectVersionAcl
                        | Self::PutObjectAcl
                        | Self::PutObjectVersionAcl
                        | Self::GetObjectTagging
                        | Self::GetObjectVersionTagging
                        | Self::PutObjectTagging
                        | Self::PutObjectVersionTagging
                        | Self::DeleteObjectTagging
                        | Self::DeleteObjectVersionTagging
                )
            }

            fn bit(self) -> u128 {
                1 << self as u32
            }

            pub(super) fn level(self) -> Level {
                match self { $(Self::$name => Level::$level,)* }
            }
        }
    };
}

// Those of buckets and objects, offered here or not: a policy written for Amazon may name them. What is missing
// concerns access points, jobs, dashboards and other things that there are none of here.
actions! {
    ListAllMyBuckets Service;
    GetAccountPublicAccessBlock Service;
    PutAccountPublicAccessBlock Service;

    CreateBucket Bucket;
    DeleteBucket Bucket;
    ListBucket Bucket;
    ListBucketVersions Bucket;
    ListBucketMultipartUploads Bucket;
    GetBucketLocation Bucket;
    GetBucketPolicy Bucket;
    PutBucketPolicy Bucket;
    DeleteBucketPolicy Bucket;
    GetBucketPolicyStatus Bucket;
    GetBucketAcl Bucket;
    PutBucketAcl Bucket;
    GetBucketCORS Bucket;
    PutBucketCORS Bucket;
    GetBucketTagging Bucket;
    PutBucketTagging Bucket;
    GetBucketVersioning Bucket;
    PutBucketVersioning Bucket;
    GetBucketLogging Bucket;
    PutBucketLogging Bucket;
    GetBucketNotification Bucket;
    PutBucketNotification Bucket;
    GetBucketWebsite Bucket;
    PutBucketWebsite Bucket;
    DeleteBucketWebsite Bucket;
    GetBucketRequestPayment Bucket;
    PutBucketRequestPayment Bucket;
    GetBucketObjectLockConfiguration Bucket;
    PutBucketObjectLockConfiguration Bucket;
    GetBucketOwnershipControls Bucket;
    PutBucketOwnershipControls Bucket;
    GetBucketPublicAccessBlock Bucket;
    PutBucketPublicAccessBlock Bucket;
    GetEncryptionConfiguration Bucket;
    PutEncryptionConfiguration Bucket;
    GetLifecycleConfiguration Bucket;
    PutLifecycleConfiguration Bucket;
    GetReplicationConfiguration Bucket;
    PutReplicationConfiguration Bucket;
    GetAccelerateConfiguration Bucket;
    PutAccelerateConfiguration Bucket;
    GetAnalyticsConfiguration Bucket;
    PutAnalyticsConfiguration Bucket;
    GetInventoryConfiguration Bucket;
    PutInventoryConfiguration Bucket;
    GetMetricsConfiguration Bucket;
    PutMetricsConfiguration Bucket;
    GetIntelligentTieringConfiguration Bucket;
    PutIntelligentTieringConfiguration Bucket;

    GetObject Object;
    GetObjectVersion Object;
    GetObjectAttributes Object;
    GetObjectVersionAttributes Object;
    GetObjectTorrent Object;
    GetObjectVersionTorrent Object;
    PutObject Object;
    DeleteObject Object;
    DeleteObjectVersion Object;
    AbortMultipartUpload Object;
    ListMultipartUploadParts Object;
    GetObjectAcl Object;
    GetObjectVersionAcl Object;
    PutObjectAcl Object;
    PutObjectVersionAcl Object;
    GetObjectTagging Object;
    GetObjectVersionTagging Object;
    PutObjectTagging Object;
    PutObjectVersionTagging Object;
    DeleteObjectTagging Object;
    DeleteObjectVersionTagging Object;
    GetObjectRetention Object;
    PutObjectRetention Object;
    GetObjectLegalHold Object;
    PutObjectLegalHold Object;
    BypassGovernanceRetention Object;
    RestoreObject Object;
    GetObjectVersionForReplication Object;
    ReplicateObject Object;
    ReplicateDelete Object;
    ReplicateTags Object;
    ObjectOwnerOverrideToBucketOwner Object;
}

/// Actions by a pattern of a policy, found once when the policy is read: a bit for each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actions(u128);

const _: () = assert!(Action::ALL.len() <= u128::BITS as usize);

impl Actions {
    /// Reads one entry of `Action` or `NotAction`: `*`, or `s3:` and a name in which `*` and `?` are wildcards.
    ///
    /// # Errors
    /// For other services, and for what fits no action.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let pattern = match text.split_once(':') {
            _ if text == "*" => text,
            Some((service, name)) if service.eq_ignore_ascii_case("s3") => name,
            _ => return Err(invalid(text, "it is not one of the service s3")),
        };
        let fits = |action: &&Action| glob_ignoring_case(pattern, action.as_str());
        let found = Action::ALL.iter().filter(fits);
        match found.fold(0, |bits, action| bits | action.bit()) {
            0 => Err(invalid(text, "there is no such action")),
            bits => Ok(Self(bits)),
        }
    }

    pub(super) fn contain(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// Whether conditions may ask for tags of objects with any of them.
    pub(super) fn know_object_tags(self) -> bool {
        let mut all = Action::ALL.iter().filter(|action| self.contain(**action));
        all.any(|action| action.knows_object_tags())
    }

    pub(super) fn levels(self) -> impl Iterator<Item = Level> {
        let all = Action::ALL.iter().copied();
        all.filter(move |action| self.contain(*action)).map(Action::level)
    }
}

fn invalid(text: &str, why: &str) -> PolicyError {
    PolicyError::new(format!("Policy has invalid action {text:?}: {why}."))
}
