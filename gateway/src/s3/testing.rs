//! For tests only: requests signed by aws-sigv4's own signer, whose
//! canonicalisation is not ours, and the steps of a server up to the typed
//! request.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::request::Parts;

use super::error::{Result, S3Error};
use super::head::{Endpoint, Head};
use super::operation::Request;
use super::route::route;
use super::sigv4::{Credential, Realm, SigningKeys};
use super::time::UnixMs;

pub(super) const ACCESS_KEY: &str = "AKULLAGE";
pub(super) const SECRET: &str = "secret/of+the=tests";
pub(super) const REALM: Realm<'_> = Realm {
    region: "eu-west-7",
    service: "s3",
};

/// When all requests of the tests are made.
pub(super) fn now() -> UnixMs {
    UnixMs(1_445_412_480_000)
}

/// Signs a request. `host` and, if missing, an unsigned payload are added;
/// with `presigned` the signature goes into the query.
pub(super) fn signed(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    presigned: Option<Duration>,
) -> Parts {
    let mut headers = headers.to_vec();
    if !headers.iter().any(|(name, _)| *name == "host") {
        headers.push(("host", "localhost:9000"));
    }
    let host = headers
        .iter()
        .find(|(name, _)| *name == "host")
        .map_or("", |(_, value)| value);
    let payload = headers
        .iter()
        .find(|(name, _)| *name == "x-amz-content-sha256")
        .map(|(_, value)| *value);
    let body = match payload {
        Some(text) => SignableBody::Precomputed(text.to_owned()),
        None => SignableBody::UnsignedPayload,
    };
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    if let Some(life) = presigned {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(life);
    } else {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let identity = Credentials::new(ACCESS_KEY, SECRET, None, None, "tests").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(REALM.region)
        .name(REALM.service)
        .time(now().to_system_time())
        .settings(settings)
        .build()
        .unwrap();
    let url = format!("http://{host}{target}");
    let request = SignableRequest::new(method, url, headers.iter().copied(), body).unwrap();
    let (instructions, _) = sign(request, &params.into()).unwrap().into_parts();
    let (new_headers, parameters) = instructions.into_parts();

    let mut target = target.to_owned();
    for (name, value) in parameters {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(name);
        target.push('=');
        super::percent::encode_into(&mut target, value.as_bytes(), super::percent::Slash::Encode);
    }
    let mut builder = http::Request::builder().method(method).uri(target);
    for (name, value) in &headers {
        builder = builder.header(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    for header in new_headers
        .iter()
        .filter(|header| !headers.iter().any(|(name, _)| *name == header.name()))
    {
        builder = builder.header(header.name(), header.value());
    }
    builder.body(()).unwrap().into_parts().0
}

/// All steps of a server up to the typed request.
pub(super) fn understand(parts: &Parts, endpoint: &Endpoint) -> Result<Request> {
    let head = Head::parse(parts, endpoint)?;
    let route = route(&head)?;
    let credential = Credential::parse(&head, REALM, now())?;
    if credential.access_key() != ACCESS_KEY {
        return Err(S3Error::from(super::error::ErrorCode::InvalidAccessKeyId));
    }
    let authenticated = credential.verify(SECRET, &SigningKeys::new())?;
    Request::parse(&head, route, &authenticated)
}

/// Signs and understands a request in path style.
pub(super) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Request> {
    understand(&signed(method, target, headers, None), &Endpoint::default())
}
