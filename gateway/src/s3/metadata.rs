//! What a writer says of an object beside its bytes: system headers and user
//! metadata, read from a request, kept, and written to answers.

use std::collections::BTreeMap;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::error::{ErrorCode, Result, S3Error};
use super::head::Head;
use super::limits;

const META: &str = "x-amz-meta-";
/// What S3 says of an object whose writer said nothing.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// System headers and user metadata of one object. The `s3/` layer's own
/// form: how it is stored is up to the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// Content-Type; `None` is answered as `binary/octet-stream`.
    pub content_type: Option<String>,
    /// Cache-Control.
    pub cache_control: Option<String>,
    /// Content-Disposition.
    pub content_disposition: Option<String>,
    /// Content-Encoding without `aws-chunked`, which was of the transfer.
    pub content_encoding: Option<String>,
    /// Content-Language.
    pub content_language: Option<String>,
    /// Expires, as text: S3 gives back what it was given.
    pub expires: Option<String>,
    /// User metadata: names in lower case without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
}

impl ObjectHeaders {
    /// Reads the headers of PutObject or CreateMultipartUpload.
    ///
    /// # Errors
    /// MetadataTooLarge; InvalidArgument for values that are not UTF-8 or
    /// could not be sent back.
    pub fn parse(head: &Head<'_>) -> Result<Self> {
        let mut system_bytes = 0;
        let mut system = |name: &'static str| -> Result<Option<String>> {
            let value = head
                .header(name)?
                .filter(|value| !value.is_empty())
                .map(str::to_owned);
            system_bytes += value.as_ref().map_or(0, String::len);
            Ok(value)
        };
        let headers = Self {
            content_type: system("content-type")?,
            cache_control: system("cache-control")?,
            content_disposition: system("content-disposition")?,
            content_language: system("content-language")?,
            expires: system("expires")?,
            content_encoding: head
                .list_header("content-encoding")?
                .and_then(|list| without_chunked(&list)),
            metadata: user_metadata(head)?,
        };
        system_bytes += headers.content_encoding.as_ref().map_or(0, String::len);
        if system_bytes > limits::SYSTEM_HEADER_BYTES_MAX {
            return Err(ErrorCode::RequestHeaderSectionTooLarge.into());
        }
        Ok(headers)
    }

    /// Writes them to an answer, with what the reader asked to see instead.
    pub fn write_to(&self, headers: &mut HeaderMap, overrides: &ResponseOverrides) {
        let mut put = |name: HeaderName, kept: &Option<String>, instead: &Option<String>| {
            if let Some(text) = instead.as_ref().or(kept.as_ref())
                && let Ok(value) = HeaderValue::from_bytes(text.as_bytes())
            {
                headers.insert(name, value);
            }
        };
        put(
            http::header::CONTENT_TYPE,
            &self.content_type,
            &overrides.content_type,
        );
        put(
            http::header::CACHE_CONTROL,
            &self.cache_control,
            &overrides.cache_control,
        );
        put(
            http::header::CONTENT_DISPOSITION,
            &self.content_disposition,
            &overrides.content_disposition,
        );
        put(
            http::header::CONTENT_ENCODING,
            &self.content_encoding,
            &overrides.content_encoding,
        );
        put(
            http::header::CONTENT_LANGUAGE,
            &self.content_language,
            &overrides.content_language,
        );
        put(http::header::EXPIRES, &self.expires, &overrides.expires);
        headers
            .entry(http::header::CONTENT_TYPE)
            .or_insert(HeaderValue::from_static(DEFAULT_CONTENT_TYPE));
        for (name, value) in &self.metadata {
            // Both came from a request's headers, or were checked like them.
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(format!("{META}{name}").as_bytes()),
                HeaderValue::from_bytes(value.as_bytes()),
            ) {
                headers.insert(name, value);
            }
        }
    }
}

/// `response-…` parameters of a read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseOverrides {
    /// Instead of Content-Type.
    pub content_type: Option<String>,
    /// Instead of Cache-Control.
    pub cache_control: Option<String>,
    /// Instead of Content-Disposition.
    pub content_disposition: Option<String>,
    /// Instead of Content-Encoding.
    pub content_encoding: Option<String>,
    /// Instead of Content-Language.
    pub content_language: Option<String>,
    /// Instead of Expires.
    pub expires: Option<String>,
}

impl ResponseOverrides {
    /// Reads the parameters. Anonymous callers may say none, which [`super::Request::parse`] sees to.
    ///
    /// # Errors
    /// InvalidArgument for values that cannot stand in a header.
    pub fn parse(head: &Head<'_>) -> Result<Self> {
        let value = |name: &'static str| -> Result<Option<String>> {
            let Some(text) = head.parameter(name)? else {
                return Ok(None);
            };
            check_value(name, text)?;
            Ok(Some(text.to_owned()))
        };
        Ok(Self {
            content_type: value("response-content-type")?,
            cache_control: value("response-cache-control")?,
            content_disposition: value("response-content-disposition")?,
            content_encoding: value("response-content-encoding")?,
            content_language: value("response-content-language")?,
            expires: value("response-expires")?,
        })
    }
}

fn check_value(name: &str, text: &str) -> Result<()> {
    match HeaderValue::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => Err(S3Error::argument(
            name,
            text,
            "Header value cannot be represented using ISO-8859-1.",
        )),
    }
}

/// The list without `aws-chunked`; `None` if nothing is left.
fn without_chunked(list: &str) -> Option<String> {
    let rest: Vec<&str> = list
        .split(',')
        .map(str::trim)
        .filter(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!rest.is_empty()).then(|| rest.join(","))
}

/// `x-amz-meta-…` from headers, and from the query to which presigners move
/// them. A name given several times has its values joined by `,`, as in S3.
fn user_metadata(head: &Head<'_>) -> Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::<String, String>::new();
    let mut add = |name: &str, value: &str| match metadata.get_mut(name) {
        Some(joined) => {
            joined.push(',');
            joined.push_str(value);
        }
        None => {
            metadata.insert(name.to_owned(), value.to_owned());
        }
    };
    for (name, value) in head.headers() {
        if let Some(name) = name.as_str().strip_prefix(META) {
            let value = std::str::from_utf8(value.as_bytes())
                .map_err(|_| S3Error::argument(META, name, "Metadata must be UTF-8"))?;
            add(name, value.trim());
        }
    }
    for (name, value) in head.query() {
        let lower = name.to_ascii_lowercase();
        if let Some(short) = lower.strip_prefix(META) {
            check_value(name, value)?;
            if HeaderName::from_bytes(lower.as_bytes()).is_err() {
                return Err(S3Error::argument(
                    META,
                    name,
                    "Metadata names must be header names",
                ));
            }
            add(short, value.trim());
        }
    }
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > limits::METADATA_BYTES_MAX {
        return Err(S3Error::from(ErrorCode::MetadataTooLarge)
            .with("Size", bytes.to_string())
            .with("MaxSizeAllowed", limits::METADATA_BYTES_MAX.to_string()));
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::super::head::Endpoint;
    use super::super::head::tests::parts;
    use super::*;

    fn parse(target: &str, headers: &[(&str, &str)]) -> Result<ObjectHeaders> {
        let parts = parts("PUT", target, headers);
        let endpoint = Endpoint::default();
        ObjectHeaders::parse(&Head::parse(&parts, &endpoint).unwrap())
    }

    #[test]
    fn headers_come_back_as_they_went_in() {
        let kept = parse(
            "/b/k?X-Amz-Meta-Q=1",
            &[
                ("content-type", "text/plain; charset=utf-8"),
                ("content-encoding", "gzip, aws-chunked"),
                ("expires", "whenever"),
                ("x-amz-meta-a", "é"),
                ("x-amz-meta-B", "1"),
                ("x-amz-meta-b", "2"),
            ],
        )
        .unwrap();
        let mut headers = HeaderMap::new();
        kept.write_to(&mut headers, &ResponseOverrides::default());
        let got: BTreeMap<&str, &[u8]> = headers.iter().map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        let expected: BTreeMap<&str, &[u8]> = [
            ("content-type", b"text/plain; charset=utf-8".as_slice()),
            ("content-encoding", b"gzip"),
            ("expires", b"whenever"),
            ("x-amz-meta-a", "é".as_bytes()),
            ("x-amz-meta-b", b"1,2"),
            ("x-amz-meta-q", b"1"),
        ]
        .into();
        assert_eq!(got, expected);
    }

    #[test]
    fn aws_chunked_is_never_kept() {
        for list in ["aws-chunked", "AWS-Chunked", "aws-chunked,", " , aws-chunked"] {
            assert_eq!(without_chunked(list), None, "{list}");
        }
        assert_eq!(
            without_chunked("aws-chunked,gzip, br").as_deref(),
            Some("gzip,br")
        );
    }

    #[test]
    fn metadata_is_bounded_at_two_kibibytes() {
        let fits = "v".repeat(limits::METADATA_BYTES_MAX - 1);
        assert!(parse("/b/k", &[("x-amz-meta-n", &fits)]).is_ok());
        let error = parse("/b/k", &[("x-amz-meta-nn", &fits)]).unwrap_err();
        assert_eq!(error.code(), ErrorCode::MetadataTooLarge);
        assert!(parse("/b/k?x-amz-meta-n=%0a", &[]).is_err());
        assert!(parse("/b/k?x-amz-meta-n%20=a", &[]).is_err());
    }

    #[test]
    fn overrides_win_and_cannot_split_headers() {
        let parts = parts(
            "GET",
            "/b/k?response-content-type=text/html&response-expires=x%0d%0ay",
            &[],
        );
        let endpoint = Endpoint::default();
        let head = Head::parse(&parts, &endpoint).unwrap();
        assert!(ResponseOverrides::parse(&head).is_err());
        let overrides = ResponseOverrides {
            content_type: Some("text/html".into()),
            ..ResponseOverrides::default()
        };
        let mut headers = HeaderMap::new();
        ObjectHeaders::default().write_to(&mut headers, &overrides);
        assert_eq!(headers["content-type"], "text/html");
    }
}
