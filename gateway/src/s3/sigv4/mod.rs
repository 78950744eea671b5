//! Signature Version 4, server side, in two steps, since finding the secret
//! waits for others: [`Credential::parse`] checks everything that needs no
//! secret and names the access key; the caller looks the secret up;
//! [`Credential::verify`] compares. Canonicalisation is ours, keys and
//! signatures are aws-sigv4's. No secret is looked up or kept here beyond
//! the day's signing keys.
//!
//! The service name is a parameter: `s3` for S3, `ullage` for the admin API.
//! Both follow S3's rule for paths: encoded once, never normalised.

mod canonical;
mod chunk;
mod form;
mod keys;
mod payload;

use subtle::ConstantTimeEq;

pub use chunk::ChunkSigner;
pub use form::refuse_claim;
pub use keys::SigningKeys;
pub use payload::Payload;

use super::error::{ErrorCode, Result, S3Error};
use super::head::Head;
use super::limits;
use super::time::UnixMs;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const INCOMPLETE_QUERY: &str = "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
     X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.";

/// What every signature must be made for.
#[derive(Clone, Copy, Debug)]
pub struct Realm<'a> {
    /// This gateway's region.
    pub region: &'a str,
    /// `s3` or `ullage`.
    pub service: &'a str,
}

/// Where the signature came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the Authorization header.
    Header,
    /// Made beforehand, in the query of a presigned URL.
    Presigned,
    /// Made beforehand, in the fields of a form.
    Form,
}

/// A request's claim, complete but for the secret. Owns what it needs, so
/// that no other request can be verified with it.
#[derive(Debug)]
pub struct Credential {
    /// `ACCESS/20130524/us-east-1/s3/aws4_request`
    full_scope: String,
    access_key_bytes: usize,
    scheme: Scheme,
    timestamp: String,
    signature: String,
    payload: Payload,
    canonical_request: Vec<u8>,
    string_to_sign: String,
}

/// A request whose signature held ([`Credential::verify`]), or one that makes no claim at all
/// ([`Authenticated::anonymous`]).
#[derive(Debug)]
pub struct Authenticated {
    access_key: Option<String>,
    scheme: Option<Scheme>,
    payload: Payload,
    signer: Option<ChunkSigner>,
}

impl Authenticated {
    /// A request without credentials: whoever sent it is anonymous. Its body is what `x-amz-content-sha256` says
    /// of it, so that framing of chunks is taken off or refused, never stored.
    ///
    /// # Errors
    /// InvalidArgument for what is no kind of payload; InvalidRequest for chunks that would have to be signed.
    pub fn anonymous(head: &Head<'_>) -> Result<Self> {
        let payload = match head.amz("x-amz-content-sha256")? {
            None => Payload::Unsigned,
            Some(text) => Payload::parse(text)?,
        };
        if payload.has_signed_chunks() {
            return Err(S3Error::new(
                ErrorCode::InvalidRequest,
                "A streaming payload with signed chunks needs a signed request.",
            ));
        }
        Ok(Self {
            access_key: None,
            scheme: None,
            payload,
            signer: None,
        })
    }

    /// Who signed; `None` for an anonymous caller.
    pub fn access_key(&self) -> Option<&str> {
        self.access_key.as_deref()
    }

    /// Where the signature came; `None` for an anonymous caller.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// What the signature says of the body.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// For signed chunks, what verifies them: seeded with the request's own
    /// signature. Each call starts the chain anew.
    pub(super) fn chunk_signer(&self) -> Option<ChunkSigner> {
        self.signer.clone()
    }
}

/// The parts of a claim, wherever they came from.
struct Claim<'a> {
    scheme: Scheme,
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl Credential {
    /// Finds and checks the request's credentials, all but the signature.
    /// `now` is the server's time.
    ///
    /// # Errors
    /// AccessDenied without credentials, for headers that act but are not
    /// signed and for presigned URLs out of time; RequestTimeTooSkewed;
    /// AuthorizationHeaderMalformed or AuthorizationQueryParametersError;
    /// InvalidToken for session tokens; InvalidRequest for Signature Version 2.
    pub fn parse(head: &Head<'_>, realm: Realm<'_>, now: UnixMs) -> Result<Self> {
        Self::find(head, realm, now)?.ok_or_else(|| ErrorCode::AccessDenied.into())
    }

    /// As [`Credential::parse`]; `None` for a request that has no credentials and nothing that belongs to some.
    ///
    /// # Errors
    /// As there; for a part of credentials without the rest, what is said of malformed ones.
    pub fn find(head: &Head<'_>, realm: Realm<'_>, now: UnixMs) -> Result<Option<Self>> {
        let Some(claim) = claim(head)? else {
            return Ok(None);
        };
        if head.amz("x-amz-security-token")?.is_some() {
            return Err(no_session_tokens());
        }
        let scope = check_scope(&claim, realm)?;
        let timestamp = match claim.scheme {
            Scheme::Header => check_request_time(head, now)?,
            Scheme::Presigned | Scheme::Form => check_presigned_time(head, now)?,
        };
        if scope.date != &timestamp[..8] {
            return Err(malformed(
                claim.scheme,
                format!(
                    "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
                    scope.date,
                    &timestamp[..8]
                ),
            ));
        }
        check_signed_headers(head, claim.signed_headers, claim.scheme)?;
        let (payload, payload_text) = payload::of_request(head, claim.scheme)?;
        let canonical_request = canonical::request(head, claim.signed_headers, payload_text);
        let string_to_sign = canonical::string_to_sign(&timestamp, scope.without_key, &canonical_request);
        Ok(Some(Self {
            full_scope: claim.credential.to_owned(),
            access_key_bytes: scope.access_key.len(),
            scheme: claim.scheme,
            timestamp,
            signature: claim.signature.to_owned(),
            payload,
            canonical_request,
            string_to_sign,
        }))
    }

    /// Whose secret [`Credential::verify`] needs.
    pub fn access_key(&self) -> &str {
        &self.full_scope[..self.access_key_bytes]
    }

    /// Compares the signature, in constant time, with the one that `secret`
    /// gives. When the access key is unknown, answer
    /// [`ErrorCode::InvalidAccessKeyId`] instead.
    ///
    /// # Errors
    /// SignatureDoesNotMatch with what was signed, as S3 shows it.
    pub fn verify(self, secret: &str, keys: &SigningKeys) -> Result<Authenticated> {
        let key = keys.signing_key(&self.full_scope, secret)?;
        let expected =
            aws_sigv4::sign::v4::calculate_signature(key.as_slice(), self.string_to_sign.as_bytes());
        if !bool::from(expected.as_bytes().ct_eq(self.signature.as_bytes())) {
            return Err(self.mismatch());
        }
        let access_key = self.access_key().to_owned();
        let signer = self.payload.has_signed_chunks().then(|| {
            let scope = &self.full_scope[self.access_key_bytes + 1..];
            ChunkSigner::new(key, &self.timestamp, scope, expected)
        });
        Ok(Authenticated {
            access_key: Some(access_key),
            scheme: Some(self.scheme),
            payload: self.payload,
            signer,
        })
    }

    fn mismatch(&self) -> S3Error {
        S3Error::from(ErrorCode::SignatureDoesNotMatch)
            .with("AWSAccessKeyId", self.access_key())
            .with("StringToSign", self.string_to_sign.as_str())
            .with("SignatureProvided", self.signature.as_str())
            .with(
                "CanonicalRequest",
                String::from_utf8_lossy(&self.canonical_request),
            )
    }
}

fn no_session_tokens() -> S3Error {
    S3Error::new(
        ErrorCode::InvalidToken,
        "Session tokens are not supported. Sign with a key pair of a user.",
    )
}

fn malformed(scheme: Scheme, message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    let code = match scheme {
        Scheme::Header => ErrorCode::AuthorizationHeaderMalformed,
        Scheme::Presigned | Scheme::Form => ErrorCode::AuthorizationQueryParametersError,
    };
    S3Error::new(code, message)
}

/// Where the credentials stand; `None` if there is nothing of any.
fn claim<'a>(head: &'a Head<'_>) -> Result<Option<Claim<'a>>> {
    let header = head.header("authorization")?;
    let any = |names: &[&str]| names.iter().any(|name| head.has_parameter(name));
    let query = any(&["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature"]);
    let version_2 = any(&["AWSAccessKeyId", "Signature"]);
    match (header, query, version_2) {
        (None, false, false) => no_claim(head).map(|()| None),
        (Some(header), false, false) => header_claim(header).map(Some),
        (None, true, false) => presigned_claim(head).map(Some),
        (None, false, true) => Err(version_2_refused()),
        _ => Err(S3Error::argument(
            "Authorization",
            "",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query \
             string parameter or the Authorization header should be specified",
        )),
    }
}

/// Refuses what belongs to credentials and stands without them: such a request was meant to be somebody's.
fn no_claim(head: &Head<'_>) -> Result<()> {
    let belongs = [
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-signature",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-signedheaders",
        "x-amz-security-token",
    ];
    let mut names = head.query().iter().map(|(name, _)| name);
    if names.any(|name| belongs.iter().any(|known| name.eq_ignore_ascii_case(known))) {
        return Err(malformed(Scheme::Presigned, INCOMPLETE_QUERY));
    }
    if head.headers().contains_key("x-amz-security-token") {
        return Err(S3Error::new(
            ErrorCode::AccessDenied,
            "The request has a session token and no signature.",
        ));
    }
    Ok(())
}

fn version_2_refused() -> S3Error {
    S3Error::new(
        ErrorCode::InvalidRequest,
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    )
}

fn header_claim(header: &str) -> Result<Claim<'_>> {
    let rest = header
        .strip_prefix(ALGORITHM)
        .filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
    let Some(rest) = rest else {
        return Err(if header.starts_with("AWS") {
            version_2_refused()
        } else {
            S3Error::argument("Authorization", "", "Unsupported Authorization Type")
        });
    };
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for field in rest.split(',') {
        let (name, value) = field.trim().split_once('=').unwrap_or((field.trim(), ""));
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(ErrorCode::AuthorizationHeaderMalformed.into()),
        };
        if slot.replace(value).is_some() {
            return Err(ErrorCode::AuthorizationHeaderMalformed.into());
        }
    }
    match (credential, signed_headers, signature) {
        (Some(credential), Some(signed_headers), Some(signature)) => Ok(Claim {
            scheme: Scheme::Header,
            credential,
            signed_headers,
            signature,
        }),
        _ => Err(ErrorCode::AuthorizationHeaderMalformed.into()),
    }
}

fn presigned_claim<'a>(head: &'a Head<'_>) -> Result<Claim<'a>> {
    let required = |name| {
        head.parameter(name)?
            .ok_or_else(|| malformed(Scheme::Presigned, INCOMPLETE_QUERY))
    };
    if required("X-Amz-Algorithm")? != ALGORITHM {
        return Err(malformed(
            Scheme::Presigned,
            "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
        ));
    }
    Ok(Claim {
        scheme: Scheme::Presigned,
        credential: required("X-Amz-Credential")?,
        signed_headers: required("X-Amz-SignedHeaders")?,
        signature: required("X-Amz-Signature")?,
    })
}

struct Scope<'a> {
    access_key: &'a str,
    date: &'a str,
    without_key: &'a str,
}

/// Splits `ACCESS/date/region/service/aws4_request` from the right, as an
/// access key may hold a slash, and checks all but the date's day.
fn check_scope<'a>(claim: &Claim<'a>, realm: Realm<'_>) -> Result<Scope<'a>> {
    let bad = |message: String| malformed(claim.scheme, message);
    let mut fields = claim.credential.rsplitn(5, '/');
    let (Some(terminator), Some(service), Some(region), Some(date), Some(access_key)) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(bad(
            "The Credential is malformed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
                .into(),
        ));
    };
    if access_key.is_empty() || access_key.len() > limits::ACCESS_KEY_BYTES_MAX {
        return Err(ErrorCode::InvalidAccessKeyId.into());
    }
    if terminator != "aws4_request" {
        return Err(bad(format!(
            "The Credential is malformed; incorrect terminal \"{terminator}\"."
        )));
    }
    if service != realm.service {
        return Err(bad(format!(
            "The Credential is malformed; incorrect service \"{service}\". This endpoint belongs to \"{}\".",
            realm.service
        )));
    }
    if region != realm.region {
        let message = format!("The region '{region}' is wrong; expecting '{}'", realm.region);
        return Err(bad(message).with("Region", realm.region));
    }
    if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad(format!(
            "The Credential is malformed; incorrect date format \"{date}\"."
        )));
    }
    let hex = claim
        .signature
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if claim.signature.len() != 64 || !hex {
        // Not hex: it can match nothing, but the caller should learn why.
        return Err(bad(
            "The Signature is malformed; expecting 64 lower case hex digits.".into(),
        ));
    }
    Ok(Scope {
        access_key,
        date,
        without_key: &claim.credential[access_key.len() + 1..],
    })
}

/// The time of a header-signed request: X-Amz-Date, else Date.
fn check_request_time(head: &Head<'_>, now: UnixMs) -> Result<String> {
    let time = match head.header("x-amz-date")? {
        Some(text) => UnixMs::parse_amz_date(text),
        None => head
            .header("date")?
            .and_then(|t| UnixMs::parse_http_date(t).or_else(|| UnixMs::parse_amz_date(t))),
    };
    let Some(time) = time else {
        return Err(S3Error::new(
            ErrorCode::AccessDenied,
            "AWS authentication requires a valid Date or x-amz-date header",
        ));
    };
    if time.seconds().abs_diff(now.seconds()) > limits::CLOCK_SKEW_SECONDS {
        return Err(S3Error::from(ErrorCode::RequestTimeTooSkewed)
            .with("RequestTime", time.amz_date())
            .with("ServerTime", now.iso8601())
            .with(
                "MaxAllowedSkewMilliseconds",
                (limits::CLOCK_SKEW_SECONDS * 1000).to_string(),
            ));
    }
    Ok(time.amz_date())
}

/// The time of a presigned URL, which must be within its life.
fn check_presigned_time(head: &Head<'_>, now: UnixMs) -> Result<String> {
    let bad = |message: &'static str| malformed(Scheme::Presigned, message);
    let text = head.parameter("X-Amz-Date")?.unwrap_or("");
    let time = UnixMs::parse_amz_date(text)
        .ok_or_else(|| bad("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""))?;
    let expires: u64 = head
        .parameter("X-Amz-Expires")?
        .filter(|text| text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| bad("X-Amz-Expires should be a number"))?;
    if expires == 0 {
        return Err(bad("X-Amz-Expires must be at least one second"));
    }
    if expires > limits::PRESIGNED_SECONDS_MAX {
        return Err(bad(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be \
             less than 604800 seconds",
        ));
    }
    if time.seconds() > now.seconds() + limits::CLOCK_SKEW_SECONDS {
        return Err(S3Error::new(ErrorCode::AccessDenied, "Request is not yet valid")
            .with("ServerTime", now.iso8601()));
    }
    let end = UnixMs::from_seconds(time.seconds() + expires);
    if now.seconds() > end.seconds() {
        return Err(S3Error::new(ErrorCode::AccessDenied, "Request has expired")
            .with("X-Amz-Expires", expires.to_string())
            .with("Expires", end.iso8601())
            .with("ServerTime", now.iso8601()));
    }
    Ok(time.amz_date())
}

/// Headers that carry nothing the gateway acts on: proxies and browsers add
/// them after the signature was made.
const NEVER_ACT: [&str; 2] = ["x-amz-user-agent", "x-amz-cf-id"];

/// Host and every `x-amz-…` header that acts must be covered by the
/// signature: an unsigned one could have been added by anyone on the way.
fn check_signed_headers(head: &Head<'_>, signed: &str, scheme: Scheme) -> Result<()> {
    let mut previous = "";
    for (index, name) in signed.split(';').enumerate() {
        // Sorted, hence without repetitions; lower case, hence comparable.
        if name <= previous
            || name.bytes().any(|b| b.is_ascii_uppercase())
            || index >= limits::SIGNED_HEADERS_MAX
        {
            return Err(malformed(
                scheme,
                "SignedHeaders must be a sorted list of names in lower case.",
            ));
        }
        previous = name;
    }
    let covers = |name: &str| signed.split(';').any(|known| known == name);
    if !covers("host") {
        return Err(malformed(scheme, "SignedHeaders must contain the host header."));
    }
    let unsigned = head
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .find(|name| name.starts_with("x-amz-") && !NEVER_ACT.contains(name) && !covers(name));
    match unsigned {
        None => Ok(()),
        Some(name) => Err(S3Error::new(
            ErrorCode::AccessDenied,
            "There were headers present in the request which were not signed",
        )
        .with("HeadersNotSigned", name)),
    }
}

#[cfg(test)]
mod tests;
