//! Every bound of the protocol layer, with its source. Bounds of the data
//! path (memory, chunks) do not live here.

/// Longest object key, in bytes of UTF-8 (S3: 1024).
pub const KEY_BYTES_MAX: usize = 1024;
/// Longest request target (path and query) that is looked at. A key of 1024
/// bytes is at most 3072 when percent-encoded; a presigned query adds less
/// than 4 KiB, and hoisted metadata at most three times its own limit.
pub const TARGET_BYTES_MAX: usize = 16 * 1024;
/// Most header fields of one request.
pub const HEADERS_MAX: usize = 128;
/// Most bytes of all header names and values of one request.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Most query parameters of one request.
pub const QUERY_PARAMETERS_MAX: usize = 64;
/// Most bytes of user metadata: names without `x-amz-meta-`, plus values (S3: 2 KiB).
pub const METADATA_BYTES_MAX: usize = 2 * 1024;
/// Most bytes of the system headers kept with an object (S3: 8 KiB with the metadata).
pub const SYSTEM_HEADER_BYTES_MAX: usize = 8 * 1024 - METADATA_BYTES_MAX;
/// Most tags of an object (S3: 10).
pub const OBJECT_TAGS_MAX: usize = 10;
/// Most tags of a bucket (S3: 50).
pub const BUCKET_TAGS_MAX: usize = 50;
/// Most Unicode characters of a tag's key (S3: 128).
pub const TAG_KEY_CHARACTERS_MAX: usize = 128;
/// Most Unicode characters of a tag's value (S3: 256).
pub const TAG_VALUE_CHARACTERS_MAX: usize = 256;
/// Longest storage class name.
pub const STORAGE_CLASS_BYTES_MAX: usize = 64;

/// Largest body of one PutObject or UploadPart (S3: 5 GiB).
pub const PUT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Smallest part of a multipart upload but the last (S3: 5 MiB).
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Largest object (S3 at the time of writing the surface: 5 TiB).
pub const OBJECT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024 * 1024;
/// Highest part number, and most parts of one upload (S3: 10,000).
pub const PARTS_MAX: u32 = 10_000;
/// Most entries of one page of a listing (S3: 1000).
pub const LIST_KEYS_MAX: u32 = 1000;
/// Most buckets of one page of ListBuckets (S3: 10,000).
pub const LIST_BUCKETS_MAX: u32 = 10_000;
/// Most keys of one DeleteObjects (S3: 1000).
pub const DELETE_KEYS_MAX: usize = 1000;
/// Longest upload id that is looked at.
pub const UPLOAD_ID_BYTES_MAX: usize = 1024;

/// Longest version id that is looked at: there is none longer.
pub const VERSION_ID_BYTES_MAX: usize = 32;

/// Most bytes of a CreateBucket body.
pub const CREATE_BUCKET_BODY_MAX: u64 = 16 * 1024;
/// Most bytes of a bucket's policy (S3: 20 KiB).
pub const BUCKET_POLICY_BYTES_MAX: u64 = crate::policy::BUCKET_POLICY_BYTES_MAX as u64;
/// Most bytes of a PutBucketAcl, PutObjectAcl, PutBucketOwnershipControls, PutBucketEncryption or PutPublicAccessBlock body: 100 grants with their elements.
pub const ACL_BODY_MAX: u64 = 64 * 1024;
/// Most bytes of a PutBucketVersioning body.
pub const VERSIONING_BODY_MAX: u64 = 16 * 1024;
/// Most bytes of a DeleteObjects body: 1000 keys of 1024 bytes and their elements (S3: 2 MiB).
pub const DELETE_OBJECTS_BODY_MAX: u64 = 2 * 1024 * 1024;
/// Most bytes of a CompleteMultipartUpload body: 10,000 parts, each with its ETag and a checksum.
pub const COMPLETE_BODY_MAX: u64 = 4 * 1024 * 1024;
/// Most bytes of a Tagging body: the tags of a bucket in four-byte characters, and their elements.
pub const TAGGING_BODY_MAX: u64 = 128 * 1024;
/// Most rules of a bucket's CORS configuration (S3: 100).
pub const CORS_RULES_MAX: usize = 100;
/// Longest ID of a CORS rule, in characters (S3: 255).
pub const CORS_ID_CHARACTERS_MAX: usize = 255;
/// Most bytes of a PutBucketCors body (S3: 64 KiB).
pub const CORS_BODY_MAX: u64 = 64 * 1024;
/// Most bytes of the fields of a POST form before its file, names and values (S3: 20 KiB).
pub const FORM_FIELDS_BYTES_MAX: usize = 20 * 1024;
/// Most bytes of a POST form before its file as they come, with what stands around the fields.
pub const FORM_HEAD_BYTES_MAX: u64 = 32 * 1024;
/// Deepest nesting of elements in a request document.
pub const XML_DEPTH_MAX: usize = 8;
/// Longest text of one element that is not a key.
pub const XML_TEXT_BYTES_MAX: usize = 8 * 1024;

/// Longest aws-chunked size line: 16 hex digits, `;chunk-signature=`, 64 hex digits, and room.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Smallest aws-chunked chunk but the last of a signed stream (S3: 8 KiB).
pub const SIGNED_CHUNK_BYTES_MIN: u64 = 8 * 1024;
/// Most bytes of the trailer section of an aws-chunked body.
pub const TRAILER_BYTES_MAX: usize = 4 * 1024;
/// Most lines of the trailer section.
pub const TRAILER_LINES_MAX: usize = 16;

/// How far a request's time may be from the server's, in seconds (S3: 15 minutes).
pub const CLOCK_SKEW_SECONDS: u64 = 15 * 60;
/// Longest life of a presigned URL, in seconds (S3: 7 days).
pub const PRESIGNED_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
/// Longest access key (IAM: 128).
pub const ACCESS_KEY_BYTES_MAX: usize = 128;
/// Most names in SignedHeaders.
pub const SIGNED_HEADERS_MAX: usize = HEADERS_MAX;
/// Signing keys kept in memory, in each of the cache's two generations.
pub const SIGNING_KEYS_PER_GENERATION: usize = 1024;

// A whole DeleteObjects of the longest keys must fit its body bound, and the
// same for CompleteMultipartUpload with 256 bytes for each part.
const _: () = assert!((DELETE_KEYS_MAX * (KEY_BYTES_MAX + 64)) as u64 <= DELETE_OBJECTS_BODY_MAX);
const _: () = assert!(
    (BUCKET_TAGS_MAX * ((TAG_KEY_CHARACTERS_MAX + TAG_VALUE_CHARACTERS_MAX) * 4 + 64)) as u64
        <= TAGGING_BODY_MAX
);
// What is kept is not longer than what may be sent.
const _: () = assert!(TAGGING_BODY_MAX <= ullage_model::limits::BUCKET_DOCUMENT_BYTES_MAX as u64);
const _: () = assert!(PARTS_MAX as u64 * 256 <= COMPLETE_BODY_MAX);
const _: () = assert!(KEY_BYTES_MAX * 3 + 4096 <= TARGET_BYTES_MAX);
const _: () = assert!(PART_BYTES_MIN < PUT_BYTES_MAX && PUT_BYTES_MAX < OBJECT_BYTES_MAX);
