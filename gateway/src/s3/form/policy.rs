//! The policy document of a POST form: what its signer allows a form to say. (Amazon S3 API reference, "POST
//! policy".)

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::error::{ErrorCode, Result, S3Error};
use super::super::limits;
use super::super::time::UnixMs;
use super::FormFields;

/// Fields that need no condition: they are the policy, its signature and the bytes.
const UNCOVERED: [&str; 3] = ["policy", "x-amz-signature", "file"];
/// Fields whose names begin so need none either, and say nothing.
const IGNORED: &str = "x-ignore-";

/// A policy, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostPolicy {
    expiration: UnixMs,
    conditions: Vec<Condition>,
    /// Least and most bytes of the file.
    length: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    /// In lower case, without `$`.
    field: String,
    wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Exactly(String),
    StartsWith(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    expiration: String,
    conditions: Vec<Value>,
}

impl PostPolicy {
    /// Reads a policy as it stands in the form: base64 of JSON.
    ///
    /// # Errors
    /// InvalidPolicyDocument.
    pub fn parse(text: &str) -> Result<Self> {
        let json = BASE64
            .decode(text)
            .map_err(|_| invalid("Invalid Policy: not base64."))?;
        let document: Document =
            serde_json::from_slice(&json).map_err(|_| invalid("Invalid Policy: Invalid JSON."))?;
        let expiration = expiration(&document.expiration)
            .ok_or_else(|| invalid("Invalid Policy: Invalid 'expiration' value."))?;
        let mut policy = Self {
            expiration,
            conditions: Vec::new(),
            length: None,
        };
        if document.conditions.is_empty() {
            return Err(invalid("Invalid Policy: 'conditions' must not be empty."));
        }
        for condition in document.conditions {
            match condition {
                Value::Object(pairs) => policy.add_pairs(pairs)?,
                Value::Array(parts) => policy.add_list(&parts)?,
                _ => return Err(wrong_condition()),
            }
        }
        Ok(policy)
    }

    /// `{"field": "value"}`: exactly this value.
    fn add_pairs(&mut self, pairs: Map<String, Value>) -> Result<()> {
        for (field, value) in pairs {
            let Value::String(value) = value else {
                return Err(wrong_condition());
            };
            self.conditions.push(Condition {
                field: field.to_ascii_lowercase(),
                wanted: Wanted::Exactly(value),
            });
        }
        Ok(())
    }

    /// `["eq", "$field", "value"]`, `["starts-with", "$field", "value"]` or `["content-length-range", 1, 10]`.
    fn add_list(&mut self, parts: &[Value]) -> Result<()> {
        let [Value::String(operator), first, second] = parts else {
            return Err(wrong_condition());
        };
        if operator.eq_ignore_ascii_case("content-length-range") {
            let (least, most) = number(first).zip(number(second)).ok_or_else(wrong_condition)?;
            // Every range must hold.
            let (known_least, known_most) = self.length.unwrap_or((0, u64::MAX));
            self.length = Some((least.max(known_least), most.min(known_most)));
            return Ok(());
        }
        let (Value::String(field), Value::String(value)) = (first, second) else {
            return Err(wrong_condition());
        };
        let field = field.strip_prefix('$').ok_or_else(wrong_condition)?;
        let wanted = match operator.to_ascii_lowercase().as_str() {
            "eq" => Wanted::Exactly(value.clone()),
            "starts-with" => Wanted::StartsWith(value.clone()),
            _ => return Err(wrong_condition()),
        };
        self.conditions.push(Condition {
            field: field.to_ascii_lowercase(),
            wanted,
        });
        Ok(())
    }

    /// Whether the policy allows this form now. Every condition must hold, and every field must be covered by
    /// one; the bucket that the request addresses counts as a field, whether the form names it or not.
    ///
    /// # Errors
    /// AccessDenied.
    pub fn check(&self, fields: &FormFields, bucket: &str, now: UnixMs) -> Result<()> {
        if now > self.expiration {
            return Err(denied("Invalid according to Policy: Policy expired."));
        }
        let value = |field: &str| match field {
            "bucket" => bucket,
            // A field that is not there is as good as an empty one.
            field => fields.get(field).unwrap_or(""),
        };
        for condition in &self.conditions {
            if !condition.holds(value(&condition.field)) {
                return Err(denied(format!(
                    "Invalid according to Policy: Policy Condition failed: {condition}"
                )));
            }
        }
        let is_covered = |name: &str| {
            UNCOVERED.contains(&name)
                || name.starts_with(IGNORED)
                || self.conditions.iter().any(|condition| condition.field == name)
        };
        let mut names = std::iter::once("bucket").chain(fields.names());
        match names.find(|name| !is_covered(name)) {
            None => Ok(()),
            Some(name) => Err(denied(format!(
                "Invalid according to Policy: Extra input fields: {name}"
            ))),
        }
    }

    /// Least and most bytes that the file may have.
    pub fn length_range(&self) -> (u64, u64) {
        let (least, most) = self.length.unwrap_or((0, u64::MAX));
        (least, most.min(limits::PUT_BYTES_MAX))
    }
}

impl Condition {
    fn holds(&self, value: &str) -> bool {
        match &self.wanted {
            Wanted::Exactly(wanted) => value == wanted,
            // Several types may be given, each of which must fit.
            Wanted::StartsWith(start) if self.field == "content-type" => value
                .split(',')
                .all(|one| one.trim_start().starts_with(start.as_str())),
            Wanted::StartsWith(start) => value.starts_with(start.as_str()),
        }
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (operator, value) = match &self.wanted {
            Wanted::Exactly(value) => ("eq", value),
            Wanted::StartsWith(value) => ("starts-with", value),
        };
        write!(f, "[\"{operator}\", \"${}\", {value:?}]", self.field)
    }
}

/// A number, or one in a text, as some signers write it.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
}

/// `2007-12-01T12:00:00.000Z`, with or without the fraction.
fn expiration(text: &str) -> Option<UnixMs> {
    let (whole, fraction) = text.strip_suffix('Z')?.split_at_checked(19)?;
    let digits = fraction.strip_prefix('.').unwrap_or("0");
    let is_fraction = (fraction.is_empty() || !digits.is_empty())
        && (fraction.is_empty() || fraction.starts_with('.'))
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let bytes = whole.as_bytes();
    if !is_fraction || separators.iter().any(|(at, separator)| bytes[*at] != *separator) {
        return None;
    }
    let basic: String = whole.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    UnixMs::parse_amz_date(&(basic + "Z"))
}

fn invalid(message: &'static str) -> S3Error {
    S3Error::new(ErrorCode::InvalidPolicyDocument, message)
}

fn wrong_condition() -> S3Error {
    invalid("Invalid Policy: Invalid Condition.")
}

fn denied(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::new(ErrorCode::AccessDenied, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy as _, any};

    const NOW: UnixMs = UnixMs(1_445_412_480_000);

    fn policy(conditions: &str) -> Result<PostPolicy> {
        let json = format!(r#"{{"expiration": "2015-10-22T00:00:00.000Z", "conditions": [{conditions}]}}"#);
        PostPolicy::parse(&BASE64.encode(json))
    }

    fn fields(pairs: &[(&str, &str)]) -> FormFields {
        let mut fields = FormFields::default();
        for (name, value) in pairs {
            fields.add(name, (*value).to_owned()).unwrap();
        }
        fields
    }

    fn check(conditions: &str, pairs: &[(&str, &str)], allowed: bool) {
        let checked = policy(conditions).unwrap().check(&fields(pairs), "cask", NOW);
        let expected = if allowed {
            Ok(())
        } else {
            Err(ErrorCode::AccessDenied)
        };
        assert_eq!(
            checked.map_err(|error| error.code()),
            expected,
            "{conditions} {pairs:?}"
        );
    }

    #[test]
    fn every_field_is_covered_and_every_condition_holds() {
        let both = r#"{"bucket": "cask"}, ["starts-with", "$key", "user/"]"#;
        check(both, &[("key", "user/a")], true);
        check(both, &[("key", "other")], false);
        check(both, &[("key", "user/a"), ("acl", "private")], false);
        check(
            both,
            &[
                ("key", "user/a"),
                ("x-ignore-me", "1"),
                ("Policy", "p"),
                ("X-Amz-Signature", "s"),
            ],
            true,
        );
        check(both, &[], false);
        // A policy for no bucket, or for another, is none for this one.
        check(r#"{"key": "k"}"#, &[("key", "k")], false);
        check(r#"{"bucket": "other"}, {"key": "k"}"#, &[("key", "k")], false);
        check(
            r#"{"bucket": "other"}, {"key": "k"}"#,
            &[("key", "k"), ("bucket", "other")],
            false,
        );
        let many =
            r#"["eq", "$Bucket", "cask"], ["EQ", "$KEY", "k"], {"x-amz-meta-a": "1", "acl": "private"}"#;
        check(
            many,
            &[("Key", "k"), ("X-Amz-Meta-A", "1"), ("acl", "private")],
            true,
        );
        check(many, &[("key", "k"), ("x-amz-meta-a", "1")], false);
        let any_type = r#"{"bucket": "cask"}, {"key": "k"}, ["starts-with", "$Content-Type", "image/"]"#;
        check(
            any_type,
            &[("key", "k"), ("content-type", "image/png, image/gif")],
            true,
        );
        check(
            any_type,
            &[("key", "k"), ("content-type", "image/png,text/html")],
            false,
        );
        check(any_type, &[("key", "k")], false);
        let anything = r#"{"bucket": "cask"}, {"key": "k"}, ["starts-with", "$x-amz-meta-a", ""]"#;
        check(anything, &[("key", "k")], true);
        check(anything, &[("key", "k"), ("x-amz-meta-a", "b")], true);
    }

    #[test]
    fn policies_end() {
        let policy = policy(r#"{"bucket": "cask"}, {"key": "k"}"#).unwrap();
        let form = fields(&[("key", "k")]);
        let end = expiration("2015-10-22T00:00:00Z").unwrap();
        assert_eq!(policy.check(&form, "cask", end), Ok(()));
        assert!(policy.check(&form, "cask", UnixMs(end.0 + 1000)).is_err());
    }

    #[test]
    fn lengths_are_the_narrowest_range() {
        let range = |conditions: &str| policy(conditions).map(|policy| policy.length_range()).ok();
        assert_eq!(range(r#"{"key": "k"}"#), Some((0, limits::PUT_BYTES_MAX)));
        assert_eq!(range(r#"["content-length-range", 2, 10]"#), Some((2, 10)));
        assert_eq!(
            range(r#"["content-length-range", "2", "10"], ["content-length-range", 0, 5]"#),
            Some((2, 5))
        );
        for wrong in ["-1, 5", "0, 1.5", "0", "null, 5", "0, 5, 6"] {
            assert_eq!(
                range(&format!(r#"["content-length-range", {wrong}]"#)),
                None,
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for wrong in [
            "",
            r#""x""#,
            r#"{"key": 1}"#,
            r#"["eq", "key", "k"]"#,
            r#"["ends-with", "$key", "k"]"#,
            r#"["eq", "$key"]"#,
            r#"["eq", "$key", ["k"]]"#,
        ] {
            let code = policy(wrong).map(|_| ()).map_err(|error| error.code());
            assert_eq!(code, Err(ErrorCode::InvalidPolicyDocument), "{wrong}");
        }
        let document = |json: &str| PostPolicy::parse(&BASE64.encode(json)).is_ok();
        assert!(document(
            r#"{"expiration": "2015-10-22T00:00:00Z", "conditions": [{"key": "k"}]}"#
        ));
        for json in [
            "",
            "[]",
            r#"{"expiration": "2015-10-22T00:00:00Z"}"#,
            r#"{"conditions": [{"key": "k"}]}"#,
            r#"{"expiration": "tomorrow", "conditions": [{"key": "k"}]}"#,
            r#"{"expiration": "2015-10-22 00:00:00Z", "conditions": [{"key": "k"}]}"#,
            r#"{"expiration": "2015-10-22T00:00:00.Z", "conditions": [{"key": "k"}]}"#,
            r#"{"expiration": "2015-10-22T00:00:00Z", "conditions": [{"key": "k"}], "other": 1}"#,
            r#"{"expiration": "2015-10-22T00:00:00Z", "expiration": "2025-10-22T00:00:00Z", "conditions": [{"key": "k"}]}"#,
        ] {
            assert!(!document(json), "{json}");
        }
        assert!(PostPolicy::parse("not base64").is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(json in ".{0,80}", text in ".{0,40}") {
            let _ = PostPolicy::parse(&BASE64.encode(&json));
            let _ = PostPolicy::parse(&text);
            let _ = policy(&json);
            let _ = expiration(&text);
        }

        /// Whatever a policy says, a form gets through only if each field stands in a condition.
        #[test]
        fn an_uncovered_field_is_never_let_through(
            covered in proptest::collection::vec("[a-d]", 0..4),
            sent in proptest::collection::vec(("[a-d]", any::<bool>()).prop_map(|(name, _)| name), 0..4),
            with_bucket in any::<bool>(),
        ) {
            let mut conditions: Vec<String> =
                covered.iter().map(|name| format!(r#"["starts-with", "${name}", ""]"#)).collect();
            conditions.push(r#"["starts-with", "$key", ""]"#.to_owned());
            if with_bucket {
                conditions.push(r#"{"bucket": "cask"}"#.to_owned());
            }
            let policy = policy(&conditions.join(",")).unwrap();
            let mut form = FormFields::default();
            for name in &sent {
                let _ = form.add(name, "value".to_owned());
            }
            let allowed = policy.check(&form, "cask", NOW).is_ok();
            let expected = with_bucket && sent.iter().all(|name| covered.contains(name));
            proptest::prop_assert_eq!(allowed, expected);
        }
    }
}
