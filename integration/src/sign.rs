//! SigV4 in request headers, with the day's key kept, for the test client and the load generator.
//! The key and the signature come from aws-sigv4; only the canonical form is written out here.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest as _, Sha256};

/// The payload hash that says that the body is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// All but RFC 3986's unreserved characters and the slash: what S3 encodes in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');
/// All but RFC 3986's unreserved characters: what SigV4 encodes in a query.
const QUERY: &AsciiSet = &PATH.add(b'/');

/// An object key or a bucket as it stands in a request path.
#[must_use]
pub fn encode_path(path: &str) -> String {
    percent_encode(path.as_bytes(), PATH).to_string()
}

/// A query in SigV4's canonical form: encoded and sorted.
#[must_use]
pub fn encode_query(pairs: &[(&str, &str)]) -> String {
    let mut encoded: Vec<(String, String)> = pairs
        .iter()
        .map(|(name, value)| {
            (
                percent_encode(name.as_bytes(), QUERY).to_string(),
                percent_encode(value.as_bytes(), QUERY).to_string(),
            )
        })
        .collect();
    encoded.sort();
    let joined: Vec<String> = encoded
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    joined.join("&")
}

/// A key pair of an S3 user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The access key, sent with each request.
    pub access_key: String,
    /// The secret key, which signs.
    pub secret_key: String,
}

/// What is signed of a request. `headers` are lower-case, sorted, without `host` and `x-amz-date`'s kin
/// that the signer adds itself.
pub struct ToSign<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path, already encoded.
    pub path: &'a str,
    /// The query in canonical form, without `?`.
    pub query: &'a str,
    /// The `Host` header.
    pub host: &'a str,
    /// Further headers, lower-case names in byte order, each after `x-amz-date` or before `host`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The value of `x-amz-content-sha256`.
    pub payload_hash: &'a str,
}

/// Signs requests of one user for one region and service.
pub struct Signer {
    credentials: Credentials,
    region: String,
    service: String,
    day: Mutex<Option<(u64, Vec<u8>)>>,
}

impl Signer {
    /// A signer for a region and service.
    #[must_use]
    pub fn new(credentials: Credentials, region: &str, service: &str) -> Self {
        Self {
            credentials,
            region: region.to_owned(),
            service: service.to_owned(),
            day: Mutex::new(None),
        }
    }

    /// The credentials that it signs with.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Signs a request as of `now`. Returns the values of `x-amz-date` and `authorization`.
    #[must_use]
    pub fn sign(&self, request: &ToSign<'_>, now: SystemTime) -> (String, String) {
        let stamp = amz_date(now);
        let mut headers: Vec<(&str, &str)> = Vec::with_capacity(request.headers.len() + 3);
        headers.extend_from_slice(request.headers);
        headers.push(("host", request.host));
        headers.push(("x-amz-content-sha256", request.payload_hash));
        headers.push(("x-amz-date", &stamp));
        headers.sort_by(|a, b| a.0.cmp(b.0));
        let mut names = String::with_capacity(64);
        let mut canonical = String::with_capacity(512);
        canonical.push_str(request.method);
        canonical.push('\n');
        canonical.push_str(request.path);
        canonical.push('\n');
        canonical.push_str(request.query);
        canonical.push('\n');
        for (name, value) in &headers {
            canonical.push_str(name);
            canonical.push(':');
            canonical.push_str(value.trim());
            canonical.push('\n');
            if !names.is_empty() {
                names.push(';');
            }
            names.push_str(name);
        }
        canonical.push('\n');
        canonical.push_str(&names);
        canonical.push('\n');
        canonical.push_str(request.payload_hash);
        let scope = format!("{}/{}/{}/aws4_request", &stamp[..8], self.region, self.service);
        let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}");
        let signature = self.signature(now, to_sign.as_bytes());
        let mut authorization = String::with_capacity(256);
        let _ = write!(
            authorization,
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.credentials.access_key
        );
        (stamp, authorization)
    }

    fn signature(&self, now: SystemTime, to_sign: &[u8]) -> String {
        let day = seconds(now) / 86_400;
        let mut kept = self.day.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = match kept.as_ref() {
            Some((kept_day, key)) if *kept_day == day => key,
            _ => {
                let key =
                    generate_signing_key(&self.credentials.secret_key, now, &self.region, &self.service);
                &kept.insert((day, key.as_ref().to_vec())).1
            }
        };
        calculate_signature(key, to_sign)
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// A time as `YYYYMMDDTHHMMSSZ`, the form of `x-amz-date`.
#[must_use]
pub fn amz_date(now: SystemTime) -> String {
    let seconds = seconds(now);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days, for days >= 0.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The "GET object" example of the Amazon S3 API reference, "Signature Calculations for the
    /// Authorization Header: Transferring Payload in a Single Chunk".
    #[test]
    fn the_published_example_is_signed_as_published() {
        let signer = Signer::new(
            Credentials {
                access_key: "AKIAIOSFODNN7EXAMPLE".into(),
                secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            },
            "us-east-1",
            "s3",
        );
        let request = ToSign {
            method: "GET",
            path: "/test.txt",
            query: "",
            host: "examplebucket.s3.amazonaws.com",
            headers: &[("range", "bytes=0-9")],
            payload_hash: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let (stamp, authorization) = signer.sign(&request, now);
        assert_eq!(stamp, "20130524T000000Z");
        assert!(
            authorization
                .ends_with("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
            "{authorization}"
        );
        assert!(authorization.contains("SignedHeaders=host;range;x-amz-content-sha256;x-amz-date"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, want) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (4_102_444_800, "21000101T000000Z"),
        ] {
            assert_eq!(amz_date(UNIX_EPOCH + Duration::from_secs(seconds)), want);
        }
    }

    #[test]
    fn paths_and_queries_are_encoded_as_sigv4_says() {
        assert_eq!(encode_path("a b/../ü+~%"), "a%20b/../%C3%BC%2B~%25");
        assert_eq!(
            encode_query(&[("prefix", "a/b c"), ("list-type", "2"), ("uploads", "")]),
            "list-type=2&prefix=a%2Fb%20c&uploads="
        );
    }
}
