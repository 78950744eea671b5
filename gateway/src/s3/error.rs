//! S3's errors: code, HTTP status, message and extra elements, and the XML
//! document they are sent as. Which error a situation deserves is decided
//! where the situation is seen, not here.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use super::xml::XmlWriter;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident $status:literal $message:literal;)*) => {
        /// An error code of S3 (its reference, "List of error codes").
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* #[doc = $message] $name,)*
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name),*];

            /// The code as it stands in the answer.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => stringify!($name),)* }
            }

            /// HTTP status as a number.
            pub fn status_number(self) -> u16 {
                match self { $(ErrorCode::$name => $status,)* }
            }

            /// The message S3 gives when there is no better one.
            pub fn default_message(self) -> &'static str {
                match self { $(ErrorCode::$name => $message,)* }
            }
        }
    };
}

error_codes! {
    AccessControlListNotSupported 400 "The bucket does not allow ACLs.";
    AccessDenied 403 "Access Denied";
    AccessForbidden 403 "CORSResponse: This CORS request is not allowed.";
    AuthorizationHeaderMalformed 400 "The authorization header that you provided is not valid.";
    AuthorizationQueryParametersError 400 "Query-string authentication parameters are not valid.";
    BadDigest 400 "The Content-MD5 or checksum value that you specified did not match what the server received.";
    BadRequest 400 "The request is not valid.";
    BucketAlreadyExists 409 "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Specify a different name and try again.";
    BucketAlreadyOwnedByYou 409 "The bucket that you tried to create already exists, and you own it.";
    BucketNotEmpty 409 "The bucket that you tried to delete is not empty.";
    ConditionalRequestConflict 409 "A conflicting operation occurred. If using PutObject you can retry the request. If using multipart upload you should initiate another CreateMultipartUpload request and re-upload each part.";
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed object size.";
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed object size.";
    IllegalVersioningConfigurationException 400 "The Versioning element must be specified";
    IllegalLocationConstraintException 400 "The specified location constraint is not valid for this endpoint.";
    IncompleteBody 400 "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    /// The store is full: not an S3 code, but the HTTP status made for it.
    /// SDKs do not retry a 507, which is right: room comes from deletes.
    InsufficientStorage 507 "The store has no room left for this object. Reads and deletes go on; room comes back after deletes or with more vendors.";
    InternalError 500 "We encountered an internal error. Please try again.";
    InvalidAccessKeyId 403 "The AWS access key ID that you provided does not exist in our records.";
    InvalidArgument 400 "Invalid Argument";
    InvalidBucketAclWithObjectOwnership 400 "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting.";
    InvalidBucketName 400 "The specified bucket is not valid.";
    InvalidBucketState 409 "The request is not valid for the current state of the bucket.";
    InvalidChunkSizeError 403 "Only the last chunk is allowed to have a size less than 8192 bytes";
    InvalidDigest 400 "The Content-MD5 or checksum value that you specified is not valid.";
    InvalidEncryptionAlgorithmError 400 "The encryption request that you specified is not valid. The valid value is AES256.";
    InvalidLocationConstraint 400 "The specified location (Region) constraint is not valid.";
    InvalidPart 400 "One or more of the specified parts could not be found. The part might not have been uploaded, or the specified entity tag might not have matched the part's entity tag.";
    InvalidPartNumber 416 "The requested partnumber is not satisfiable";
    InvalidPartOrder 400 "The list of parts was not in ascending order. The parts list must be specified in order by part number.";
    InvalidPolicyDocument 400 "The content of the form does not meet the conditions specified in the policy document.";
    InvalidRange 416 "The requested range is not satisfiable";
    InvalidRequest 400 "Invalid Request";
    InvalidStorageClass 400 "The storage class that you specified is not valid.";
    InvalidTag 400 "The tag provided was not a valid tag. This error can occur if the tag did not pass input validation.";
    InvalidToken 400 "The provided token is malformed or otherwise not valid.";
    InvalidURI 400 "The specified URI couldn't be parsed.";
    KeyTooLongError 400 "Your key is too long.";
    MalformedACLError 400 "The ACL that you provided was not well formed or did not validate against our published schema.";
    MalformedPolicy 400 "Your policy contains a principal, an action, a resource or a condition that is not valid.";
    MalformedPOSTRequest 400 "The body of your POST request is not well-formed multipart/form-data.";
    MalformedTrailerError 400 "The request contained trailing data that was not well-formed or did not conform to our published schema.";
    MalformedXML 400 "The XML that you provided was not well-formed or did not validate against our published schema.";
    MaxPostPreDataLengthExceeded 400 "Your POST request fields preceding the upload file were too large.";
    MaxMessageLengthExceeded 400 "Your request was too large.";
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size.";
    MethodNotAllowed 405 "The specified method is not allowed against this resource.";
    MissingContentLength 411 "You must provide the Content-Length HTTP header.";
    MissingRequestBodyError 400 "Request body is empty.";
    MissingSecurityHeader 400 "Your request is missing a required header.";
    NoSuchBucket 404 "The specified bucket does not exist";
    NoSuchConfiguration 404 "The specified configuration does not exist.";
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist";
    NoSuchBucketPolicy 404 "The bucket policy does not exist";
    NoSuchKey 404 "The specified key does not exist.";
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist";
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found";
    NoSuchTagSet 404 "The TagSet does not exist";
    NoSuchUpload 404 "The specified multipart upload does not exist. The upload ID might not be valid, or the multipart upload might have been aborted or completed.";
    NoSuchVersion 404 "The version ID specified in the request does not match an existing version.";
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration";
    NotImplemented 501 "A header that you provided implies functionality that is not implemented.";
    /// Status only: a 304 has no body.
    NotModified 304 "Not Modified";
    ObjectLockConfigurationNotFoundError 404 "Object Lock configuration does not exist for this bucket";
    OperationAborted 409 "A conflicting conditional operation is currently in progress against this resource. Try again.";
    PreconditionFailed 412 "At least one of the preconditions that you specified did not hold.";
    /// Not an S3 code; Ceph answers the same. SDKs do not retry a 403, which is right: only deletes or an operator
    /// help.
    QuotaExceeded 403 "The bucket's quota is used up. Room comes back after deletes, or with a greater quota.";
    ReplicationConfigurationNotFoundError 404 "The replication configuration was not found";
    RequestHeaderSectionTooLarge 400 "The request header and query parameters used to make the request exceed the maximum allowed size.";
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout period.";
    RequestTimeTooSkewed 403 "The difference between the request time and the server's time is too large.";
    ServiceUnavailable 503 "Service is unable to handle request.";
    SignatureDoesNotMatch 403 "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
    SlowDown 503 "Please reduce your request rate.";
    TooManyBuckets 400 "You have attempted to create more buckets than are allowed for your account.";
    UnexpectedContent 400 "This request contains unsupported content.";
    XAmzContentSHA256Mismatch 400 "The provided 'x-amz-content-sha256' header does not match what was computed.";
}

impl ErrorCode {
    /// HTTP status.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.status_number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// One refusal or failure, ready to be answered. Cheap to make and to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error {
    code: ErrorCode,
    message: Cow<'static, str>,
    details: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
}

/// What every function of this layer fails with.
pub type Result<T> = std::result::Result<T, S3Error>;

impl From<ErrorCode> for S3Error {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: Cow::Borrowed(code.default_message()),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }
}

impl S3Error {
    /// An error with a message of its own.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// InvalidArgument, naming the argument and its value as S3 does.
    pub fn argument(name: &str, value: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
            .with("ArgumentName", name)
            .with("ArgumentValue", value)
    }

    /// NotImplemented for an operation of S3 that is not offered.
    pub fn operation_not_offered(operation: &str) -> Self {
        Self::new(
            ErrorCode::NotImplemented,
            format!("The operation {operation} is not implemented."),
        )
        .with("Operation", operation)
    }

    /// NotImplemented for a header that acts and is not offered.
    pub fn header_not_offered(header: &str) -> Self {
        Self::new(
            ErrorCode::NotImplemented,
            format!("A header you provided implies functionality that is not implemented: {header}"),
        )
        .with("Header", header)
    }

    /// NotImplemented for a query parameter that acts and is not offered.
    pub fn parameter_not_offered(parameter: &str) -> Self {
        Self::new(
            ErrorCode::NotImplemented,
            format!(
                "A query parameter you provided implies functionality that is not implemented: {parameter}"
            ),
        )
        .with("Parameter", parameter)
    }

    /// PreconditionFailed, naming the header that did not hold.
    pub fn precondition(condition: &str) -> Self {
        Self::from(ErrorCode::PreconditionFailed).with("Condition", condition)
    }

    /// EntityTooLarge with both sizes.
    pub fn too_large(proposed_bytes: u64, allowed_bytes: u64) -> Self {
        Self::from(ErrorCode::EntityTooLarge)
            .with("ProposedSize", proposed_bytes.to_string())
            .with("MaxSizeAllowed", allowed_bytes.to_string())
    }

    /// MalformedXML with its usual message.
    pub fn malformed_xml() -> Self {
        Self::from(ErrorCode::MalformedXML)
    }

    /// Adds an element after Message. The name must be a plain XML name.
    #[must_use]
    pub fn with(mut self, element: &'static str, value: impl Into<String>) -> Self {
        self.details.push((element, value.into()));
        self
    }

    /// Adds a header to the answer. The name must be one of HTTP, in lower case.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Headers that the answer has beside those of every error.
    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// An added element's value.
    pub fn detail(&self, element: &str) -> Option<&str> {
        self.details
            .iter()
            .find(|(name, _)| *name == element)
            .map(|(_, value)| value.as_str())
    }

    /// The document S3 sends, with the resource (`/bucket/key`) and the
    /// request's ids. The `Error` element has no namespace, as in S3.
    pub fn to_xml(&self, resource: &str, request_id: &str, host_id: &str) -> String {
        let mut xml = XmlWriter::new();
        xml.open("Error");
        xml.text("Code", self.code.as_str());
        xml.text("Message", &self.message);
        for (element, value) in &self.details {
            xml.text(element, value);
        }
        xml.text("Resource", resource);
        xml.text("RequestId", request_id);
        xml.text("HostId", host_id);
        xml.close("Error");
        xml.finish()
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for S3Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_http_knows() {
        for code in ErrorCode::ALL {
            assert_eq!(code.status().as_u16(), code.status_number(), "{}", code.as_str());
            assert!(code.status_number() >= 304);
        }
    }

    #[test]
    fn the_document_has_s3s_order_and_is_escaped() {
        let error = S3Error::argument("prefix", "<&\u{1}>", "No \"such\" thing");
        assert_eq!(
            error.to_xml("/b/k&", "REQ", "HOST"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InvalidArgument</Code>\
             <Message>No &quot;such&quot; thing</Message><ArgumentName>prefix</ArgumentName>\
             <ArgumentValue>&lt;&amp;&#x1;&gt;</ArgumentValue><Resource>/b/k&amp;</Resource>\
             <RequestId>REQ</RequestId><HostId>HOST</HostId></Error>"
        );
    }
}
