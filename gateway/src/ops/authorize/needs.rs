//! Which actions each operation is, and on what. Without a wildcard: a new operation must be thought about.

use crate::policy::Action;
use crate::s3::copy::{CopyObject, CopySource, UploadPartCopy};
use crate::s3::operation::{CreateMultipartUpload, ObjectRequest, PutObject, ReadObject};
use crate::s3::unset::{Feature, Unset};
use crate::s3::{Operation, tagging};

/// One action on one resource that an operation needs to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// What.
    pub(crate) action: Action,
    /// In which bucket; "" for the service.
    pub(crate) bucket: String,
    /// With which object; `None` for the bucket itself.
    pub(crate) key: Option<String>,
    /// Whether it is about an object that is there already, and not about one that is made.
    pub(crate) of_existing: bool,
    /// What conditions may ask of this need, and the request's head does not say, or not in one way only.
    pub(crate) said: Said,
}

/// Facts of one need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The version named.
    pub(crate) version: Option<String>,
    /// `bucket/key` of a copy's source, decoded: however its header is written, a policy sees the same.
    pub(crate) copy_source: Option<String>,
    /// The region that a new bucket is asked for in.
    pub(crate) location: Option<String>,
    /// Tags that the request sets.
    pub(crate) tags: Vec<(String, String)>,
}

/// What an operation needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// All of these.
    Of(Vec<Need>),
    /// What the body names, or what is asked of each thing found: the handler says it.
    ByHandler,
}

impl Needs {
    /// Of an operation.
    pub(crate) fn of(operation: &Operation) -> Self {
        use Action as A;
        let of_bucket = |action, bucket: &str| Self::Of(vec![Need::bucket(action, bucket)]);
        let of_object = |action, bucket: &str, key: &str| Self::Of(vec![Need::object(action, bucket, key)]);
        match operation {
            // One decision for each bucket shown, for each region asked for, and for each key named.
            Operation::ListBuckets(_) | Operation::CreateBucket(_) | Operation::DeleteObjects(_) => {
                Self::ByHandler
            }
            Operation::HeadBucket(it) => of_bucket(A::ListBucket, &it.bucket),
            Operation::DeleteBucket(it) => of_bucket(A::DeleteBucket, &it.bucket),
            Operation::GetBucketLocation(it) => of_bucket(A::GetBucketLocation, &it.bucket),
            Operation::ListObjects(it) => of_bucket(A::ListBucket, &it.scope.bucket),
            Operation::ListObjectsV2(it) => of_bucket(A::ListBucket, &it.scope.bucket),
            Operation::ListMultipartUploads(it) => of_bucket(A::ListBucketMultipartUploads, &it.bucket),
            Operation::GetBucketTagging(it) => of_bucket(A::GetBucketTagging, &it.bucket),
            Operation::PutBucketTagging(it) | Operation::DeleteBucketTagging(it) => {
                of_bucket(A::PutBucketTagging, &it.bucket)
            }
            Operation::GetBucketCors(it) => of_bucket(A::GetBucketCORS, &it.bucket),
            Operation::PutBucketCors(it) | Operation::DeleteBucketCors(it) => {
                of_bucket(A::PutBucketCORS, &it.bucket)
            }
            Operation::GetBucketPolicy(it) => of_bucket(A::GetBucketPolicy, &it.bucket),
            Operation::GetBucketPolicyStatus(it) => of_bucket(A::GetBucketPolicyStatus, &it.bucket),
            Operation::PutBucketPolicy(it) => of_bucket(A::PutBucketPolicy, &it.bucket),
            Operation::DeleteBucketPolicy(it) => of_bucket(A::DeleteBucketPolicy, &it.bucket),
            Operation::GetBucketAcl(it) => of_bucket(A::GetBucketAcl, &it.bucket),
            Operation::PutBucketAcl(it) => of_bucket(A::PutBucketAcl, &it.bucket),
            Operation::GetBucketOwnershipControls(it) => of_bucket(A::GetBucketOwnershipControls, &it.bucket),
            Operation::PutBucketOwnershipControls(it) | Operation::DeleteBucketOwnershipControls(it) => {
                of_bucket(A::PutBucketOwnershipControls, &it.bucket)
            }
            Operation::GetPublicAccessBlock(it) => of_bucket(A::GetBucketPublicAccessBlock, &it.bucket),
            Operation::PutPublicAccessBlock(it) | Operation::DeletePublicAccessBlock(it) => {
                of_bucket(A::PutBucketPublicAccessBlock, &it.bucket)
            }
            Operation::GetObjectAcl(it) => of_version((A::GetObjectAcl, A::GetObjectVersionAcl), it),
            Operation::PutObjectAcl(it) => of_version((A::PutObjectAcl, A::PutObjectVersionAcl), &it.object),
            Operation::GetObject(it) | Operation::HeadObject(it) => Self::Of(vec![read(it)]),
            Operation::GetObjectAttributes(it) => {
                let actions = [READ, (A::GetObjectAttributes, A::GetObjectVersionAttributes)];
                let version = it.version_id.as_deref();
                let needs = actions.map(|actions| Need::version(actions, &it.bucket, &it.key, version));
                Self::Of(needs.into())
            }
            Operation::PutObject(it) => Self::Of(put(it)),
            Operation::CopyObject(it) => Self::Of(copy(it)),
            Operation::UploadPartCopy(it) => Self::Of(copy_part(it)),
            Operation::DeleteObject(it) => {
                let (key, version) = (it.key.as_str(), it.version_id.as_deref());
                Self::Of(vec![Need::version(DELETE, &it.bucket, key, version)])
            }
            Operation::GetBucketVersioning(it) => of_bucket(A::GetBucketVersioning, &it.bucket),
            Operation::PutBucketVersioning(it) => of_bucket(A::PutBucketVersioning, &it.bucket),
            Operation::ListObjectVersions(it) => of_bucket(A::ListBucketVersions, &it.scope.bucket),
            Operation::GetObjectTagging(it) => {
                of_version((A::GetObjectTagging, A::GetObjectVersionTagging), it)
            }
            // The tags that it sets are in the body.
            Operation::PutObjectTagging(_) => Self::ByHandler,
            Operation::DeleteObjectTagging(it) => {
                of_version((A::DeleteObjectTagging, A::DeleteObjectVersionTagging), it)
            }
            Operation::CreateMultipartUpload(it) => Self::Of(begin(it)),
            Operation::UploadPart(it) => of_object(A::PutObject, &it.upload.bucket, &it.upload.key),
            Operation::CompleteMultipartUpload(it) => {
                of_object(A::PutObject, &it.upload.bucket, &it.upload.key)
            }
            Operation::PutBucketEncryption(it) => of_bucket(A::PutEncryptionConfiguration, &it.bucket),
            Operation::UnsetOfBucket(unset, it) => of_bucket(of_unset(unset), &it.bucket),
            Operation::UnsetOfObject(unset, it) => {
                let action = of_unset(unset);
                of_version((action, action), it)
            }
            Operation::AbortMultipartUpload(it) => of_object(A::AbortMultipartUpload, &it.bucket, &it.key),
            Operation::ListParts(it) => {
                of_object(A::ListMultipartUploadParts, &it.upload.bucket, &it.upload.key)
            }
        }
    }
}

impl Need {
    /// Of a bucket.
    pub(crate) fn bucket(action: Action, bucket: &str) -> Self {
        Self {
            action,
            bucket: bucket.to_owned(),
            key: None,
            of_existing: false,
            said: Said::default(),
        }
    }

    /// Of an object that is made.
    pub(crate) fn object(action: Action, bucket: &str, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..Self::bucket(action, bucket)
        }
    }

    /// Of an object that is there, or of one version of it, which is an action of its own: the second of `actions`.
    pub(crate) fn version(actions: (Action, Action), bucket: &str, key: &str, version: Option<&str>) -> Self {
        let action = if version.is_some() { actions.1 } else { actions.0 };
        let said = Said {
            version: version.map(str::to_owned),
            ..Said::default()
        };
        Self {
            of_existing: true,
            ..Self::object(action, bucket, key).saying(said)
        }
    }

    /// The same, with what is known besides.
    pub(crate) fn saying(self, said: Said) -> Self {
        Self { said, ..self }
    }

    /// What policies call the resource.
    pub(super) fn resource(&self) -> std::borrow::Cow<'_, str> {
        match &self.key {
            None => self.bucket.as_str().into(),
            Some(key) => format!("{}/{key}", self.bucket).into(),
        }
    }
}

/// Deleting what is current, and removing a version for good.
pub(crate) const DELETE: (Action, Action) = (Action::DeleteObject, Action::DeleteObjectVersion);

/// Reading what is current, and reading a version.
const READ: (Action, Action) = (Action::GetObject, Action::GetObjectVersion);

fn read(request: &ReadObject) -> Need {
    Need::version(READ, &request.bucket, &request.key, request.version_id.as_deref())
}

fn of_unset(unset: &Unset) -> Action {
    use Action as A;
    match (unset.feature, unset.deletes) {
        (Feature::Accelerate, false) => A::GetAccelerateConfiguration,
        (Feature::Accelerate, true) => A::PutAccelerateConfiguration,
        (Feature::Analytics, false) => A::GetAnalyticsConfiguration,
        (Feature::Analytics, true) => A::PutAnalyticsConfiguration,
        (Feature::Encryption, false) => A::GetEncryptionConfiguration,
        (Feature::Encryption, true) => A::PutEncryptionConfiguration,
        (Feature::IntelligentTiering, false) => A::GetIntelligentTieringConfiguration,
        (Feature::IntelligentTiering, true) => A::PutIntelligentTieringConfiguration,
        (Feature::Inventory, false) => A::GetInventoryConfiguration,
        (Feature::Inventory, true) => A::PutInventoryConfiguration,
        (Feature::LegalHold, false) => A::GetObjectLegalHold,
        (Feature::LegalHold, true) => A::PutObjectLegalHold,
        (Feature::Lifecycle, false) => A::GetLifecycleConfiguration,
        (Feature::Lifecycle, true) => A::PutLifecycleConfiguration,
        (Feature::Logging, false) => A::GetBucketLogging,
        (Feature::Logging, true) => A::PutBucketLogging,
        (Feature::Metrics, false) => A::GetMetricsConfiguration,
        (Feature::Metrics, true) => A::PutMetricsConfiguration,
        (Feature::Notification, false) => A::GetBucketNotification,
        (Feature::Notification, true) => A::PutBucketNotification,
        (Feature::ObjectLock, false) => A::GetBucketObjectLockConfiguration,
        (Feature::ObjectLock, true) => A::PutBucketObjectLockConfiguration,
        (Feature::Replication, false) => A::GetReplicationConfiguration,
        (Feature::Replication, true) => A::PutReplicationConfiguration,
        (Feature::RequestPayment, false) => A::GetBucketRequestPayment,
        (Feature::RequestPayment, true) => A::PutBucketRequestPayment,
        (Feature::Retention, false) => A::GetObjectRetention,
        (Feature::Retention, true) => A::PutObjectRetention,
        (Feature::Website, false) => A::GetBucketWebsite,
        (Feature::Website, true) => A::DeleteBucketWebsite,
    }
}

fn of_version(actions: (Action, Action), request: &ObjectRequest) -> Needs {
    let (bucket, key, version) = request.named();
    Needs::Of(vec![Need::version(actions, bucket, key, version)])
}

/// Storing an object, and what is stored with it.
struct Stored<'a> {
    bucket: &'a str,
    key: &'a str,
    has_acl: bool,
    tags: Option<&'a tagging::Tags>,
    copy_source: Option<String>,
}

impl Stored<'_> {
    fn needs(self) -> Vec<Need> {
        let tags = self.tags.map(|tags| tags.0.clone()).unwrap_or_default();
        let mut actions = vec![Action::PutObject];
        if self.has_acl {
            actions.push(Action::PutObjectAcl);
        }
        if !tags.is_empty() {
            actions.push(Action::PutObjectTagging);
        }
        let said = Said {
            copy_source: self.copy_source,
            tags,
            ..Said::default()
        };
        let needs = actions
            .into_iter()
            .map(|action| Need::object(action, self.bucket, self.key).saying(said.clone()));
        needs.collect()
    }
}

fn put(request: &PutObject) -> Vec<Need> {
    let stored = Stored {
        bucket: &request.bucket,
        key: &request.key,
        has_acl: request.acl.is_some(),
        tags: Some(&request.tags),
        copy_source: None,
    };
    stored.needs()
}

fn begin(request: &CreateMultipartUpload) -> Vec<Need> {
    let stored = Stored {
        bucket: &request.bucket,
        key: &request.key,
        has_acl: request.acl.is_some(),
        tags: Some(&request.tags),
        copy_source: None,
    };
    stored.needs()
}

/// The target as for any object, and the source as a read. Tags that come along are the handler's to ask for, when
/// it knows whether there are any.
fn copy(request: &CopyObject) -> Vec<Need> {
    let source = &request.source;
    let stored = Stored {
        bucket: &request.bucket,
        key: &request.key,
        has_acl: request.acl.is_some(),
        tags: request.tags.as_ref(),
        copy_source: Some(source_name(source)),
    };
    let mut needs = stored.needs();
    needs.push(read_source(source));
    needs
}

fn copy_part(request: &UploadPartCopy) -> Vec<Need> {
    let (upload, source) = (&request.upload, &request.source);
    let stored = Stored {
        bucket: &upload.bucket,
        key: &upload.key,
        has_acl: false,
        tags: None,
        copy_source: Some(source_name(source)),
    };
    let mut needs = stored.needs();
    needs.push(read_source(source));
    needs
}

fn source_name(source: &CopySource) -> String {
    format!("{}/{}", source.bucket, source.key)
}

fn read_source(source: &CopySource) -> Need {
    Need::version(READ, &source.bucket, &source.key, source.version_id.as_deref())
}
