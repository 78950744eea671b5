//! The one table from (method, level, distinguishing query parameters and
//! headers) to S3's operations. All operations of the API reference are in
//! it, offered or not; what an operation's request says is read elsewhere.

use http::Method;

use super::error::{ErrorCode, Result, S3Error};
use super::head::{Head, Level};

/// One row of the table. A request matches if method and level are the row's
/// and it has every parameter and header named.
#[derive(Debug)]
pub struct Route {
    /// The operation.
    pub operation: OperationName,
    method: Verb,
    level: Level,
    parameters: &'static [(&'static str, Option<&'static str>)],
    header: Option<&'static str>,
    /// Whether this gateway offers it; if not, it answers NotImplemented.
    pub offered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Head,
    Put,
    Post,
    Delete,
    Options,
}

impl Verb {
    fn of(method: &Method) -> Option<Self> {
        Some(match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::PUT => Self::Put,
            Method::POST => Self::Post,
            Method::DELETE => Self::Delete,
            Method::OPTIONS => Self::Options,
            _ => return None,
        })
    }
}

macro_rules! routes {
    (@value) => { None };
    (@value $value:literal) => { Some($value) };
    (@header) => { None };
    (@header $header:literal) => { Some($header) };
    (@offered yes) => { true };
    (@offered no) => { false };
    ($($name:ident $verb:ident $level:ident [$($parameter:literal $(= $value:literal)?),*] $($header:literal)? $offered:ident;)*) => {
        /// Every operation of the S3 API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)] // The API reference documents them by these names.
        pub enum OperationName { $($name,)* }

        impl OperationName {
            /// The name in the API reference; also the label in metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(OperationName::$name => stringify!($name),)* }
            }
        }

        /// The table. Within one method and level the first match wins, so
        /// rows that ask for more stand before those that ask for less.
        pub static ROUTES: &[Route] = &[
            $(Route {
                operation: OperationName::$name,
                method: Verb::$verb,
                level: Level::$level,
                parameters: &[$(($parameter, routes!(@value $($value)?))),*],
                header: routes!(@header $($header)?),
                offered: routes!(@offered $offered),
            },)*
        ];
    };
}

// The deprecated GetBucketLifecycle, PutBucketLifecycle, GetBucketNotification
// and PutBucketNotification have the same requests as the operations with
// `Configuration` in their names; the reference's list is matched with both.
routes! {
    ListDirectoryBuckets Get Service ["max-directory-buckets"] no;
    ListBuckets Get Service [] yes;

    HeadBucket Head Bucket [] yes;
    GetBucketLocation Get Bucket ["location"] yes;
    GetBucketAbac Get Bucket ["abac"] no;
    GetBucketAccelerateConfiguration Get Bucket ["accelerate"] yes;
    GetBucketAcl Get Bucket ["acl"] yes;
    GetBucketAnalyticsConfiguration Get Bucket ["analytics", "id"] yes;
    ListBucketAnalyticsConfigurations Get Bucket ["analytics"] yes;
    GetBucketCors Get Bucket ["cors"] yes;
    GetBucketEncryption Get Bucket ["encryption"] yes;
    GetBucketIntelligentTieringConfiguration Get Bucket ["intelligent-tiering", "id"] yes;
    ListBucketIntelligentTieringConfigurations Get Bucket ["intelligent-tiering"] yes;
    GetBucketInventoryConfiguration Get Bucket ["inventory", "id"] yes;
    ListBucketInventoryConfigurations Get Bucket ["inventory"] yes;
    GetBucketLifecycleConfiguration Get Bucket ["lifecycle"] yes;
    GetBucketLogging Get Bucket ["logging"] yes;
    GetBucketMetadataConfiguration Get Bucket ["metadataConfiguration"] no;
    GetBucketMetadataTableConfiguration Get Bucket ["metadataTable"] no;
    GetBucketMetricsConfiguration Get Bucket ["metrics", "id"] yes;
    ListBucketMetricsConfigurations Get Bucket ["metrics"] yes;
    GetBucketNotificationConfiguration Get Bucket ["notification"] yes;
    GetObjectLockConfiguration Get Bucket ["object-lock"] yes;
    GetBucketOwnershipControls Get Bucket ["ownershipControls"] yes;
    GetBucketPolicy Get Bucket ["policy"] yes;
    GetBucketPolicyStatus Get Bucket ["policyStatus"] yes;
    GetPublicAccessBlock Get Bucket ["publicAccessBlock"] yes;
    GetBucketReplication Get Bucket ["replication"] yes;
    GetBucketRequestPayment Get Bucket ["requestPayment"] yes;
    CreateSession Get Bucket ["session"] no;
    GetBucketTagging Get Bucket ["tagging"] yes;
    ListMultipartUploads Get Bucket ["uploads"] yes;
    GetBucketVersioning Get Bucket ["versioning"] yes;
    ListObjectVersions Get Bucket ["versions"] yes;
    GetBucketWebsite Get Bucket ["website"] yes;
    ListObjectsV2 Get Bucket ["list-type" = "2"] yes;
    ListObjects Get Bucket [] yes;

    PutBucketAbac Put Bucket ["abac"] no;
    PutBucketAccelerateConfiguration Put Bucket ["accelerate"] no;
    PutBucketAcl Put Bucket ["acl"] yes;
    PutBucketAnalyticsConfiguration Put Bucket ["analytics"] no;
    PutBucketCors Put Bucket ["cors"] yes;
    PutBucketEncryption Put Bucket ["encryption"] yes;
    PutBucketIntelligentTieringConfiguration Put Bucket ["intelligent-tiering"] no;
    PutBucketInventoryConfiguration Put Bucket ["inventory"] no;
    PutBucketLifecycleConfiguration Put Bucket ["lifecycle"] no;
    PutBucketLogging Put Bucket ["logging"] no;
    UpdateBucketMetadataInventoryTableConfiguration Put Bucket ["metadataInventoryTable"] no;
    UpdateBucketMetadataJournalTableConfiguration Put Bucket ["metadataJournalTable"] no;
    PutBucketMetricsConfiguration Put Bucket ["metrics"] no;
    PutBucketNotificationConfiguration Put Bucket ["notification"] no;
    PutObjectLockConfiguration Put Bucket ["object-lock"] no;
    PutBucketOwnershipControls Put Bucket ["ownershipControls"] yes;
    PutBucketPolicy Put Bucket ["policy"] yes;
    PutPublicAccessBlock Put Bucket ["publicAccessBlock"] yes;
    PutBucketReplication Put Bucket ["replication"] no;
    PutBucketRequestPayment Put Bucket ["requestPayment"] no;
    PutBucketTagging Put Bucket ["tagging"] yes;
    PutBucketVersioning Put Bucket ["versioning"] yes;
    PutBucketWebsite Put Bucket ["website"] no;
    CreateBucket Put Bucket [] yes;

    DeleteBucketAnalyticsConfiguration Delete Bucket ["analytics"] no;
    DeleteBucketCors Delete Bucket ["cors"] yes;
    DeleteBucketEncryption Delete Bucket ["encryption"] yes;
    DeleteBucketIntelligentTieringConfiguration Delete Bucket ["intelligent-tiering"] no;
    DeleteBucketInventoryConfiguration Delete Bucket ["inventory"] no;
    DeleteBucketLifecycle Delete Bucket ["lifecycle"] yes;
    DeleteBucketMetadataConfiguration Delete Bucket ["metadataConfiguration"] no;
    DeleteBucketMetadataTableConfiguration Delete Bucket ["metadataTable"] no;
    DeleteBucketMetricsConfiguration Delete Bucket ["metrics"] no;
    DeleteBucketOwnershipControls Delete Bucket ["ownershipControls"] yes;
    DeleteBucketPolicy Delete Bucket ["policy"] yes;
    DeletePublicAccessBlock Delete Bucket ["publicAccessBlock"] yes;
    DeleteBucketReplication Delete Bucket ["replication"] yes;
    DeleteBucketTagging Delete Bucket ["tagging"] yes;
    DeleteBucketWebsite Delete Bucket ["website"] yes;
    DeleteBucket Delete Bucket [] yes;

    DeleteObjects Post Bucket ["delete"] yes;
    CreateBucketMetadataConfiguration Post Bucket ["metadataConfiguration"] no;
    CreateBucketMetadataTableConfiguration Post Bucket ["metadataTable"] no;
    WriteGetObjectResponse Post Bucket [] "x-amz-request-route" no;
    PostObject Post Bucket [] yes;
    PreflightBucket Options Bucket [] yes;

    HeadObject Head Object [] yes;
    GetObjectAcl Get Object ["acl"] yes;
    GetObjectAnnotation Get Object ["annotation", "annotation-name"] no;
    ListObjectAnnotations Get Object ["annotation"] no;
    GetObjectAttributes Get Object ["attributes"] yes;
    GetObjectLegalHold Get Object ["legal-hold"] yes;
    GetObjectRetention Get Object ["retention"] yes;
    GetObjectTagging Get Object ["tagging"] yes;
    GetObjectTorrent Get Object ["torrent"] no;
    ListParts Get Object ["uploadId"] yes;
    GetObject Get Object [] yes;

    UploadPartCopy Put Object ["partNumber", "uploadId"] "x-amz-copy-source" yes;
    UploadPart Put Object ["partNumber", "uploadId"] yes;
    PutObjectAcl Put Object ["acl"] yes;
    PutObjectAnnotation Put Object ["annotation"] no;
    UpdateObjectEncryption Put Object ["encryption"] no;
    PutObjectLegalHold Put Object ["legal-hold"] no;
    RenameObject Put Object ["renameObject"] no;
    PutObjectRetention Put Object ["retention"] no;
    PutObjectTagging Put Object ["tagging"] yes;
    CopyObject Put Object [] "x-amz-copy-source" yes;
    PutObject Put Object [] yes;

    SelectObjectContent Post Object ["select"] no;
    RestoreObject Post Object ["restore"] no;
    CreateMultipartUpload Post Object ["uploads"] yes;
    CompleteMultipartUpload Post Object ["uploadId"] yes;

    AbortMultipartUpload Delete Object ["uploadId"] yes;
    DeleteObjectAnnotation Delete Object ["annotation"] no;
    DeleteObjectTagging Delete Object ["tagging"] yes;
    DeleteObject Delete Object [] yes;
    PreflightObject Options Object [] yes;
}

impl Route {
    fn matches(&self, verb: Verb, level: Level, head: &Head<'_>) -> bool {
        self.method == verb
            && self.level == level
            && self.parameters.iter().all(|(name, value)| match value {
                None => head.has_parameter(name),
                Some(value) => head.query().iter().any(|(n, v)| n == name && v == value),
            })
            && self.header.is_none_or(|name| has_amz(head, name))
    }

    /// True if this parameter chooses some operation of S3, so that no other
    /// operation may ignore it.
    pub(super) fn is_distinguishing(parameter: &str) -> bool {
        ROUTES
            .iter()
            .any(|route| route.parameters.iter().any(|(name, _)| *name == parameter))
    }
}

/// True for the header or the query parameter a presigner moved it to.
fn has_amz(head: &Head<'_>, name: &str) -> bool {
    head.headers().contains_key(name) || head.query().iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
}

/// The operation that a request asks for, offered or not.
///
/// # Errors
/// MethodNotAllowed if S3 has no operation of this method at this level.
pub fn route(head: &Head<'_>) -> Result<&'static Route> {
    let level = head.level();
    Verb::of(head.method())
        .and_then(|verb| ROUTES.iter().find(|route| route.matches(verb, level, head)))
        .ok_or_else(|| {
            S3Error::from(ErrorCode::MethodNotAllowed)
                .with("Method", head.method().as_str())
                .with(
                    "ResourceType",
                    match level {
                        Level::Service => "SERVICE",
                        Level::Bucket => "BUCKET",
                        Level::Object => "OBJECT",
                    },
                )
        })
}

impl Route {
    /// Refuses operations that are not offered.
    ///
    /// # Errors
    /// NotImplemented naming the operation.
    pub fn require_offered(&self) -> Result<OperationName> {
        if self.offered {
            Ok(self.operation)
        } else {
            Err(S3Error::operation_not_offered(self.operation.as_str()))
        }
    }
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
