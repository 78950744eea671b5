//! The requests of ListMultipartUploads and ListParts.

use super::conditions;
use super::error::{Result, S3Error};
use super::head::Head;
use super::limits;
use super::listing::{digits, encode_urls, owned};
use super::operation::{UploadRequest, bucket, upload_request};

/// ListMultipartUploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListMultipartUploads {
    /// The bucket.
    pub bucket: String,
    /// Only keys that begin so; "" for all.
    pub prefix: String,
    /// Keys are rolled up at the first of these after the prefix.
    pub delimiter: Option<String>,
    /// Only uploads of keys after this one; "" from the start.
    pub key_marker: String,
    /// With a key marker: also the uploads of that key after this one, as CreateMultipartUpload named it.
    pub upload_id_marker: Option<String>,
    /// Most entries of the page: 0 to 1000.
    pub max_uploads: u32,
    /// `encoding-type=url`: keys are percent-encoded in the answer.
    pub encode_urls: bool,
}

/// ListParts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListParts {
    /// The upload.
    pub upload: UploadRequest,
    /// Only parts after this one.
    pub part_number_marker: u32,
    /// Most parts of the page: 0 to 1000.
    pub max_parts: u32,
}

impl ListMultipartUploads {
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        conditions::refuse_all(head)?;
        let key_marker = owned(head, "key-marker")?.unwrap_or_default();
        let upload_id_marker = owned(head, "upload-id-marker")?.filter(|marker| !marker.is_empty());
        Ok(Self {
            bucket: bucket(head)?,
            prefix: owned(head, "prefix")?.unwrap_or_default(),
            delimiter: owned(head, "delimiter")?.filter(|text| !text.is_empty()),
            // S3 passes over an upload's marker without a key's.
            upload_id_marker: upload_id_marker.filter(|_| !key_marker.is_empty()),
            key_marker,
            max_uploads: number(head, "max-uploads", limits::LIST_KEYS_MAX)?.min(limits::LIST_KEYS_MAX),
            encode_urls: encode_urls(head)?,
        })
    }
}

impl ListParts {
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        conditions::refuse_all(head)?;
        Ok(Self {
            upload: upload_request(head)?,
            part_number_marker: number(head, "part-number-marker", 0)?,
            max_parts: number(head, "max-parts", limits::LIST_KEYS_MAX)?.min(limits::LIST_KEYS_MAX),
        })
    }
}

/// A parameter that is a number from 0 to 2^31 - 1.
fn number(head: &Head<'_>, name: &'static str, default: u32) -> Result<u32> {
    match head.parameter(name)? {
        None | Some("") => Ok(default),
        Some(text) => digits(text)
            .filter(|number| i32::try_from(*number).is_ok())
            .ok_or_else(|| {
                let what = format!("Provided {name} not an integer or within integer range");
                S3Error::argument(name, text, what)
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::ErrorCode;
    use super::super::operation::Operation;
    use super::super::testing::request;
    use super::*;

    fn uploads(target: &str) -> Result<ListMultipartUploads> {
        request("GET", target, &[]).map(|request| match request.operation {
            Operation::ListMultipartUploads(list) => list,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn all_parameters_are_read() {
        let list = uploads(
            "/buck?uploads&prefix=a%2F&delimiter=%2F&key-marker=a%2Fb&upload-id-marker=u&max-uploads=5&encoding-type=url",
        );
        let expected = ListMultipartUploads {
            bucket: "buck".into(),
            prefix: "a/".into(),
            delimiter: Some("/".into()),
            key_marker: "a/b".into(),
            upload_id_marker: Some("u".into()),
            max_uploads: 5,
            encode_urls: true,
        };
        assert_eq!(list, Ok(expected));
        let least = uploads("/buck?uploads=&upload-id-marker=u&max-uploads=5000").unwrap();
        assert_eq!((least.upload_id_marker, least.max_uploads), (None, 1000));
        let parts = request(
            "GET",
            "/buck/k?uploadId=up&part-number-marker=7&max-parts=2&x-id=ListParts",
            &[],
        );
        let Operation::ListParts(parts) = parts.unwrap().operation else {
            panic!("no ListParts")
        };
        assert_eq!((parts.part_number_marker, parts.max_parts), (7, 2));
        assert_eq!(
            (parts.upload.key.as_str(), parts.upload.upload_id.as_str()),
            ("k", "up")
        );
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for target in [
            "/buck?uploads&max-uploads=x",
            "/buck?uploads&max-uploads=-1",
            "/buck?uploads&encoding-type=hex",
        ] {
            assert_eq!(
                uploads(target).map_err(|error| error.code()),
                Err(ErrorCode::InvalidArgument),
                "{target}"
            );
        }
        let huge = request("GET", "/buck/k?uploadId=up&max-parts=99999999999", &[]);
        assert_eq!(
            huge.map(drop).map_err(|error| error.code()),
            Err(ErrorCode::InvalidArgument)
        );
    }
}
