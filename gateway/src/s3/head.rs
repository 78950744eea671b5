//! HTTP sanity: the head of a request, checked and taken apart into host,
//! bucket, key and query. Nothing here knows operations or signatures.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, request};

use super::error::{ErrorCode, Result, S3Error};
use super::limits;
use super::percent;

/// Where this gateway is reached: decides path style or virtual-host style.
#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    domains: Vec<String>,
}

impl Endpoint {
    /// An endpoint whose virtual hosts are `bucket.<domain>` for each domain;
    /// none means path style only.
    pub fn new<I>(domains: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let domains = domains
            .into_iter()
            .map(|d| d.as_ref().trim_matches('.').to_ascii_lowercase());
        Self {
            domains: domains.filter(|d| !d.is_empty()).collect(),
        }
    }

    /// The bucket that a Host header names, `None` for path style.
    fn bucket_of_host(&self, host: &str) -> Option<String> {
        if self.domains.is_empty() {
            return None;
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.domains.iter().find_map(|domain| {
            let bucket = name.strip_suffix(domain.as_str())?.strip_suffix('.')?;
            (!bucket.is_empty()).then(|| bucket.to_owned())
        })
    }
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// `/`
    Service,
    /// `/bucket`
    Bucket,
    /// `/bucket/key`
    Object,
}

/// A checked request head. Borrows from the request's parts.
#[derive(Debug)]
pub struct Head<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    host: &'a str,
    raw_path: &'a str,
    query: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    bucket: Option<Cow<'a, str>>,
    key: Option<Cow<'a, str>>,
    content_length: Option<u64>,
    transfer_chunked: bool,
}

impl<'a> Head<'a> {
    /// Checks the head of a request and takes it apart.
    ///
    /// # Errors
    /// InvalidURI, KeyTooLongError, RequestHeaderSectionTooLarge, or
    /// InvalidRequest for a head that two readers could understand
    /// differently (Host, Content-Length, Transfer-Encoding).
    pub fn parse(parts: &'a request::Parts, endpoint: &Endpoint) -> Result<Self> {
        check_header_bounds(&parts.headers)?;
        let host = host(parts)?;
        let (content_length, transfer_chunked) = framing(&parts.headers)?;
        let raw_path = parts.uri.path();
        let raw_query = parts.uri.query().unwrap_or("");
        if raw_path.len() + raw_query.len() > limits::TARGET_BYTES_MAX {
            return Err(ErrorCode::RequestHeaderSectionTooLarge.into());
        }
        let (bucket, key) = address(raw_path, endpoint.bucket_of_host(host))?;
        Ok(Self {
            method: &parts.method,
            headers: &parts.headers,
            host,
            raw_path,
            query: parse_query(raw_query)?,
            bucket,
            key,
            content_length,
            transfer_chunked,
        })
    }

    /// HTTP method.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// All headers.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// Host as sent (with its port), from the Host header or `:authority`.
    pub fn host(&self) -> &'a str {
        self.host
    }

    /// The path as sent, percent-encoded: the Resource of error documents.
    pub fn raw_path(&self) -> &'a str {
        self.raw_path
    }

    /// The bucket, decoded; not yet checked against S3's rules for names.
    pub fn bucket(&self) -> Option<&str> {
        self.bucket.as_deref()
    }

    /// The key, decoded once and otherwise as it came.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// What the request is about.
    pub fn level(&self) -> Level {
        match (&self.bucket, &self.key) {
            (None, _) => Level::Service,
            (Some(_), None) => Level::Bucket,
            (Some(_), Some(_)) => Level::Object,
        }
    }

    /// Content-Length: bytes on the wire, aws-chunked framing included.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// True if a body of unknown or non-zero length follows (HTTP/1.1; in
    /// HTTP/2 a body without Content-Length shows only when it comes).
    pub fn has_body(&self) -> bool {
        self.transfer_chunked || self.content_length.is_some_and(|length| length > 0)
    }

    /// All query parameters in the order they came, decoded.
    pub fn query(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.query
    }

    /// True if the query has this parameter, with or without a value.
    pub fn has_parameter(&self, name: &str) -> bool {
        self.query.iter().any(|(known, _)| known == name)
    }

    /// A query parameter's value ("" if it has none).
    ///
    /// # Errors
    /// InvalidArgument if the parameter is given more than once.
    pub fn parameter(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.query.iter().filter(|(known, _)| known == name);
        let value = values.next();
        if let Some((_, second)) = values.next() {
            return Err(S3Error::argument(
                name,
                second,
                "The parameter is given more than once",
            ));
        }
        Ok(value.map(|(_, value)| &**value))
    }

    /// A header's value, trimmed.
    ///
    /// # Errors
    /// InvalidArgument if the header is given more than once or is not UTF-8.
    pub fn header(&self, name: impl AsHeader) -> Result<Option<&'a str>> {
        let name = name.as_header();
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(S3Error::argument(name, "", "The header is given more than once"));
        }
        match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => Ok(Some(text.trim())),
            Err(_) => Err(S3Error::argument(name, "", "The header is not UTF-8")),
        }
    }

    /// A header that may be split over several lines (a list), joined by `,`.
    ///
    /// # Errors
    /// InvalidArgument if it is not UTF-8.
    pub fn list_header(&self, name: impl AsHeader) -> Result<Option<Cow<'a, str>>> {
        let name = name.as_header();
        let mut joined: Option<Cow<'a, str>> = None;
        for value in self.headers.get_all(name) {
            let text = std::str::from_utf8(value.as_bytes())
                .map_err(|_| S3Error::argument(name, "", "The header is not UTF-8"))?;
            joined = Some(match joined {
                None => Cow::Borrowed(text.trim()),
                Some(before) => Cow::Owned(format!("{before},{}", text.trim())),
            });
        }
        Ok(joined)
    }

    /// An `x-amz-…` value: the header, or the query parameter of the same
    /// name (whatever its case) to which presigners move headers.
    ///
    /// # Errors
    /// InvalidArgument if it is given more than once, in whatever places.
    pub fn amz(&self, name: &'static str) -> Result<Option<&str>> {
        let header = self.header(name)?;
        let mut values = self
            .query
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let parameter = values.next();
        if values.next().is_some() || (header.is_some() && parameter.is_some()) {
            return Err(S3Error::argument(name, "", "The value is given more than once"));
        }
        Ok(header.or_else(|| parameter.map(|(_, value)| value.trim())))
    }
}

/// Names by which a header can be asked for.
pub trait AsHeader: Copy {
    /// The name in lower case.
    fn as_header(&self) -> &'static str;
}

impl AsHeader for &'static str {
    fn as_header(&self) -> &'static str {
        self
    }
}

fn check_header_bounds(headers: &HeaderMap) -> Result<()> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if headers.len() > limits::HEADERS_MAX || bytes > limits::HEADER_BYTES_MAX {
        return Err(ErrorCode::RequestHeaderSectionTooLarge.into());
    }
    Ok(())
}

/// Exactly one host: the Host header, or the target's authority (HTTP/2 and
/// absolute form); if both are there they must agree.
fn host(parts: &request::Parts) -> Result<&str> {
    let bad = |message: &'static str| S3Error::new(ErrorCode::InvalidRequest, message);
    let mut values = parts.headers.get_all(header::HOST).iter();
    let header = values.next();
    if values.next().is_some() {
        return Err(bad("The request has more than one Host header"));
    }
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = match (header, authority) {
        (Some(value), authority) => {
            let value = value
                .to_str()
                .map_err(|_| bad("The Host header is not valid"))?
                .trim();
            if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(value)) {
                return Err(bad("The Host header and the request target name different hosts"));
            }
            value
        }
        (None, Some(authority)) => authority,
        (None, None) => "",
    };
    if host.is_empty() || host.contains(['/', '@', ',', ' ']) {
        return Err(bad("The request needs one valid Host header"));
    }
    Ok(host)
}

/// Content-Length and whether the transfer is chunked: never both, and each
/// in the one form that no two readers understand differently.
fn framing(headers: &HeaderMap) -> Result<(Option<u64>, bool)> {
    let bad = |message: &'static str| S3Error::new(ErrorCode::InvalidRequest, message);
    let mut chunked = false;
    for value in headers.get_all(header::TRANSFER_ENCODING) {
        if chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(bad("The Transfer-Encoding is not supported"));
        }
        chunked = true;
    }
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok((None, chunked));
    };
    if chunked {
        return Err(bad("Content-Length and Transfer-Encoding must not come together"));
    }
    let digits = value.to_str().unwrap_or("");
    if values.next().is_some() || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("The Content-Length is not valid"));
    }
    let length = digits
        .parse()
        .map_err(|_| bad("The Content-Length is not valid"))?;
    Ok((Some(length), false))
}

type Address<'a> = (Option<Cow<'a, str>>, Option<Cow<'a, str>>);

/// Bucket and key. The split is at the first `/` of the encoded path, so
/// `%2F` never ends a bucket's name; what follows is the key, literally.
fn address(raw_path: &str, bucket_of_host: Option<String>) -> Result<Address<'_>> {
    let invalid = || S3Error::from(ErrorCode::InvalidURI).with("URI", raw_path);
    let path = match raw_path {
        "" => "",
        path => path.strip_prefix('/').ok_or_else(invalid)?,
    };
    let (bucket, raw_key) = match bucket_of_host {
        Some(bucket) => (Some(Cow::Owned(bucket)), path),
        None if path.is_empty() => (None, ""),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            (Some(percent::decode_path(bucket).ok_or_else(invalid)?), key)
        }
    };
    if raw_key.is_empty() {
        return Ok((bucket, None));
    }
    let key = percent::decode_path(raw_key).ok_or_else(invalid)?;
    if key.len() > limits::KEY_BYTES_MAX {
        return Err(S3Error::from(ErrorCode::KeyTooLongError)
            .with("Size", key.len().to_string())
            .with("MaxSizeAllowed", limits::KEY_BYTES_MAX.to_string()));
    }
    Ok((bucket, Some(key)))
}

fn parse_query(raw: &str) -> Result<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
    let mut query = Vec::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        if query.len() == limits::QUERY_PARAMETERS_MAX {
            return Err(S3Error::new(
                ErrorCode::InvalidRequest,
                "The request has too many query parameters",
            ));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (percent::decode_query(name), percent::decode_query(value)) {
            (Some(name), Some(value)) => query.push((name, value)),
            _ => return Err(S3Error::from(ErrorCode::InvalidURI).with("URI", pair)),
        }
    }
    Ok(query)
}

/// The well-known names, so that `head.header(header::RANGE)` reads well.
impl AsHeader for &'static HeaderName {
    fn as_header(&self) -> &'static str {
        self.as_str()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The parts of a request made of a method, a target and headers.
    pub(in super::super) fn parts(method: &str, target: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut builder = http::Request::builder().method(method).uri(target);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            builder = builder.header("host", "localhost:9000");
        }
        for (name, value) in headers {
            builder = builder.header(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn check(target: &str, headers: &[(&str, &str)], expected: Result<(Option<&str>, Option<&str>)>) {
        let parts = parts("GET", target, headers);
        let endpoint = Endpoint::new(["S3.Example.com"]);
        let got = Head::parse(&parts, &endpoint)
            .map(|head| (head.bucket().map(str::to_owned), head.key().map(str::to_owned)));
        let got = got
            .as_ref()
            .map(|(b, k)| (b.as_deref(), k.as_deref()))
            .map_err(S3Error::code);
        assert_eq!(got, expected.map_err(|e| e.code()), "{target} {headers:?}");
    }

    fn refused(code: ErrorCode) -> Result<(Option<&'static str>, Option<&'static str>)> {
        Err(code.into())
    }

    #[test]
    fn keys_are_kept_literally() {
        check("/", &[], Ok((None, None)));
        check("/b", &[], Ok((Some("b"), None)));
        check("/b/", &[], Ok((Some("b"), None)));
        check("/b//", &[], Ok((Some("b"), Some("/"))));
        check("/b/../a//c/./", &[], Ok((Some("b"), Some("../a//c/./"))));
        check("/b/a%2Fb+c%2520%00", &[], Ok((Some("b"), Some("a/b+c%20\0"))));
        check("/b%2Fc/k", &[], Ok((Some("b/c"), Some("k"))));
        check("/b/%ff", &[], refused(ErrorCode::InvalidURI));
        check("/b/%4", &[], refused(ErrorCode::InvalidURI));
        let long = format!("/b/{}", "%E2%82%AC".repeat(341));
        check(&long, &[], Ok((Some("b"), Some("€".repeat(341).as_str()))));
        check(&format!("{long}aa"), &[], refused(ErrorCode::KeyTooLongError));
    }

    #[test]
    fn hosts_choose_the_style() {
        check(
            "/k/a",
            &[("host", "my.bucket.s3.example.com:9000")],
            Ok((Some("my.bucket"), Some("k/a"))),
        );
        check("/", &[("host", "B.s3.example.com")], Ok((Some("b"), None)));
        check("/b/k", &[("host", "s3.example.com")], Ok((Some("b"), Some("k"))));
        check("/b/k", &[("host", "xs3.example.com")], Ok((Some("b"), Some("k"))));
        check("/b/k", &[("host", "[::1]:9000")], Ok((Some("b"), Some("k"))));
        check(
            "http://a.s3.example.com/k",
            &[("host", "a.s3.example.com")],
            Ok((Some("a"), Some("k"))),
        );
    }

    #[test]
    fn heads_with_two_meanings_are_refused() {
        let bad = || refused(ErrorCode::InvalidRequest);
        check("/b", &[("host", "a"), ("host", "a")], bad());
        check("/b", &[("host", "")], bad());
        check("/b", &[("host", "a/b")], bad());
        check("http://a/b", &[("host", "c")], bad());
        check(
            "/b",
            &[("content-length", "3"), ("transfer-encoding", "chunked")],
            bad(),
        );
        check("/b", &[("content-length", "3"), ("content-length", "3")], bad());
        check("/b", &[("content-length", "+3")], bad());
        check("/b", &[("content-length", "99999999999999999999999")], bad());
        check("/b", &[("transfer-encoding", "gzip, chunked")], bad());
        check(
            "/b",
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            bad(),
        );
    }

    #[test]
    fn heads_are_bounded() {
        let many: Vec<(String, String)> = (0..200).map(|n| (format!("x-{n}"), "v".into())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        check("/b", &many, refused(ErrorCode::RequestHeaderSectionTooLarge));
        let long = "v".repeat(limits::HEADER_BYTES_MAX);
        check(
            "/b",
            &[("x-a", &long)],
            refused(ErrorCode::RequestHeaderSectionTooLarge),
        );
        let target = format!("/b?{}", "a&".repeat(limits::QUERY_PARAMETERS_MAX + 1));
        check(&target, &[], refused(ErrorCode::InvalidRequest));
    }

    #[test]
    fn values_given_twice_are_refused_when_asked_for() {
        let parts = parts(
            "GET",
            "/b?a=1&a=2&X-Amz-Acl=private&c",
            &[("x-amz-acl", "private")],
        );
        let endpoint = Endpoint::default();
        let head = Head::parse(&parts, &endpoint).unwrap();
        assert!(head.parameter("a").is_err());
        assert!(head.amz("x-amz-acl").is_err());
        assert_eq!(head.parameter("c"), Ok(Some("")));
        assert_eq!(head.parameter("d"), Ok(None));
    }
}
