//! POST of an object by a form: its fields, whose signature they carry, and the PutObject they come to. Pure: the
//! server reads the form from the wire. (Amazon S3 API reference, "POST Object".)

mod policy;

pub use policy::PostPolicy;

use std::collections::BTreeMap;

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, request};

use super::accepted;
use super::body::BodyPlan;
use super::conditions;
use super::error::{ErrorCode, Result, S3Error};
use super::head::Head;
use super::limits;
use super::operation::{self, PutObject};
use super::percent::{self, Slash};
use super::route::OperationName;
use super::sigv4;
use super::tagging::Tags;

/// What stands for the name of the file in a field.
const FILENAME: &str = "${filename}";
/// Fields that a signature or a policy depends on as they are.
const KEPT: [&str; 6] = [
    "policy",
    "x-amz-signature",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-security-token",
];
/// Fields that are headers of PutObject by the same name, besides those that begin with `x-amz-`.
const HEADERS: [&str; 7] = [
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "expires",
];

/// Checks the head of a form's request: it says where the form goes, and nothing else of it may act.
///
/// # Errors
/// InvalidArgument for credentials in the head, or what is said of a part of some; NotImplemented for headers and
/// parameters that act.
pub fn check_head(head: &Head<'_>) -> Result<()> {
    if head.header("authorization")?.is_some() {
        return Err(S3Error::argument(
            "Authorization",
            "",
            "Only one auth mechanism allowed; a form carries its signature in its fields",
        ));
    }
    sigv4::refuse_claim(head)?;
    conditions::refuse_all(head)?;
    for name in ["content-md5", "content-range"] {
        if head.headers().contains_key(name) {
            return Err(S3Error::header_not_offered(name));
        }
    }
    if head
        .amz("x-amz-content-sha256")?
        .is_some_and(|said| said != "UNSIGNED-PAYLOAD")
    {
        return Err(S3Error::header_not_offered("x-amz-content-sha256"));
    }
    accepted::check(head, OperationName::PostObject)
}

/// The fields before the file: names in lower case, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormFields {
    values: BTreeMap<String, String>,
    bytes: usize,
}

impl FormFields {
    /// Adds a field.
    ///
    /// # Errors
    /// MaxPostPreDataLengthExceeded for too many bytes; InvalidArgument for a second one of the name.
    pub fn add(&mut self, name: &str, value: String) -> Result<()> {
        self.bytes = self.bytes.saturating_add(name.len()).saturating_add(value.len());
        if self.bytes > limits::FORM_FIELDS_BYTES_MAX {
            return Err(ErrorCode::MaxPostPreDataLengthExceeded.into());
        }
        let name = name.to_ascii_lowercase();
        if self.values.contains_key(&name) {
            return Err(S3Error::argument(
                &name,
                &value,
                "POST requires exactly one field of each name",
            ));
        }
        self.values.insert(name, value);
        Ok(())
    }

    /// Puts the file's name where a field asks for it: its last element, as browsers may send a path.
    pub fn set_filename(&mut self, filename: &str) -> Result<()> {
        let filename = filename.rsplit(['/', '\\']).next().unwrap_or("");
        for (name, value) in &mut self.values {
            if !KEPT.contains(&name.as_str()) && value.contains(FILENAME) {
                let asked = value.matches(FILENAME).count();
                if asked.saturating_mul(filename.len()) > limits::FORM_FIELDS_BYTES_MAX {
                    return Err(ErrorCode::MaxPostPreDataLengthExceeded.into());
                }
                *value = value.replace(FILENAME, filename);
            }
        }
        Ok(())
    }

    /// The value of a field; the name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The names there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The field that a form must have.
    ///
    /// # Errors
    /// InvalidArgument.
    pub fn require(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| {
            let message = format!(
                "Bucket POST must contain a field named '{name}'.  If it is specified, please check the order of \
                 the fields."
            );
            S3Error::argument(name, "", message)
        })
    }

    /// Whether the form carries a policy or anything of a signature: if not, nobody signed it.
    pub fn is_signed(&self) -> bool {
        self.names()
            .any(|name| KEPT.contains(&name) || name == "awsaccesskeyid" || name == "signature")
    }

    /// What the form asks for, with what it says of the file's bytes. `head` is [`FormFields::put_head`]'s, `length`
    /// the range that the policy allows. Fields that would act and are not offered are refused, as PutObject refuses
    /// their headers.
    ///
    /// # Errors
    /// As PutObject's head.
    pub fn put_object(&self, head: &Head<'_>, length: (u64, u64)) -> Result<(PutObject, BodyPlan)> {
        accepted::check(head, OperationName::PutObject)?;
        let mut request = operation::put_object(head)?;
        if let Some(document) = self.get("tagging") {
            request.tags = Tags::parse_document(document.as_bytes(), limits::OBJECT_TAGS_MAX)?;
        }
        let plan = BodyPlan::of_form(head, length)?;
        Ok((request, plan))
    }

    /// The head of the PutObject that says the same: what acts of the form stands there, for whoever reads it, and
    /// nothing else. It is in path style.
    ///
    /// # Errors
    /// InvalidArgument for a field that cannot stand there; NotImplemented for one that forms do not have;
    /// KeyTooLongError.
    pub fn put_head(&self, bucket: &str) -> Result<request::Parts> {
        let key = self.require("key")?;
        if key.is_empty() {
            return Err(S3Error::argument(
                "key",
                "",
                "User key must have a length greater than 0.",
            ));
        }
        if key.len() > limits::KEY_BYTES_MAX {
            return Err(ErrorCode::KeyTooLongError.into());
        }
        let mut target = format!("/{}/", percent::encode(bucket, Slash::Encode));
        percent::encode_into(&mut target, key.as_bytes(), Slash::Encode);
        let uri: Uri = target
            .parse()
            .map_err(|_| S3Error::from(ErrorCode::KeyTooLongError))?;
        let mut parts = http::Request::new(()).into_parts().0;
        (parts.method, parts.uri) = (Method::PUT, uri);
        parts
            .headers
            .insert(http::header::HOST, HeaderValue::from_static("form"));
        for (name, value) in &self.values {
            let header = match name.as_str() {
                "acl" => "x-amz-acl",
                "x-amz-tagging"
                | "x-amz-content-sha256"
                | "x-amz-decoded-content-length"
                | "x-amz-trailer" => {
                    return Err(S3Error::header_not_offered(name));
                }
                name if KEPT.contains(&name) => continue,
                name if HEADERS.contains(&name) || name.starts_with("x-amz-") => name,
                // Whatever else a form has does not act.
                _ => continue,
            };
            let wrong = || S3Error::argument(name, value, "The field cannot stand for a header.");
            let header = HeaderName::from_bytes(header.as_bytes()).map_err(|_| wrong())?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| wrong())?;
            if parts.headers.insert(header, value).is_some() {
                return Err(S3Error::argument(name, "", "The value is given more than once"));
            }
        }
        Ok(parts)
    }

    /// How success is to be answered.
    pub fn success(&self) -> PostSuccess {
        let redirect = self
            .get("success_action_redirect")
            .or_else(|| self.get("redirect"));
        if let Some(url) = redirect.filter(|url| is_web_address(url)) {
            return PostSuccess::Redirect(url.to_owned());
        }
        PostSuccess::Status(match self.get("success_action_status") {
            Some("200") => StatusCode::OK,
            Some("201") => StatusCode::CREATED,
            _ => StatusCode::NO_CONTENT,
        })
    }
}

/// How the client wants success to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostSuccess {
    /// 200 or 204 without, 201 with a document.
    Status(StatusCode),
    /// 303 to this address.
    Redirect(String),
}

/// An absolute address of http or https. As in S3, another one is as good as none.
fn is_web_address(url: &str) -> bool {
    let parsed = url.split('#').next().unwrap_or("").parse::<Uri>();
    HeaderValue::from_bytes(url.as_bytes()).is_ok()
        && parsed.is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        })
}

#[cfg(test)]
mod tests {
    use super::super::head::Endpoint;
    use super::*;

    fn put_object(form: &FormFields, length: (u64, u64)) -> Result<(PutObject, BodyPlan)> {
        let parts = form.put_head("cask")?;
        let head = Head::parse(&parts, &Endpoint::default())?;
        form.put_object(&head, length)
    }

    fn fields(pairs: &[(&str, &str)]) -> FormFields {
        let mut fields = FormFields::default();
        for (name, value) in pairs {
            fields.add(name, (*value).to_owned()).unwrap();
        }
        fields
    }

    #[test]
    fn a_form_comes_to_the_put_that_says_the_same() {
        let mut form = fields(&[
            ("Key", "a b/../%2F/${filename}"),
            ("Content-Type", "text/plain"),
            ("X-Amz-Meta-Cask", "ä ${filename}"),
            ("acl", "private"),
            (
                "tagging",
                "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
            ),
            ("submit", "Go"),
            ("x-amz-date", "whatever"),
        ]);
        form.set_filename("C:\\home/dir/f.txt").unwrap();
        let (put, plan) = put_object(&form, (0, 10)).unwrap();
        assert_eq!(
            (put.bucket.as_str(), put.key.as_str()),
            ("cask", "a b/../%2F/f.txt")
        );
        assert_eq!(put.headers.content_type.as_deref(), Some("text/plain"));
        assert_eq!(put.headers.metadata["cask"], "ä f.txt");
        assert_eq!(put.tags.0, [("k".to_owned(), "v".to_owned())]);
        assert_eq!((plan.decoded_length(), plan.bytes_max()), (None, 10));
    }

    #[test]
    fn what_acts_and_is_not_offered_is_refused() {
        for (name, value, code) in [
            (
                "x-amz-server-side-encryption",
                "aws:kms",
                ErrorCode::NotImplemented,
            ),
            ("x-amz-website-redirect-location", "/x", ErrorCode::NotImplemented),
            ("x-amz-copy-source", "/other/key", ErrorCode::NotImplemented),
            ("x-amz-decoded-content-length", "5", ErrorCode::NotImplemented),
            ("x-amz-checksum-crc32", "A", ErrorCode::InvalidRequest),
            ("content-md5", "A", ErrorCode::InvalidDigest),
            ("content-type", "a\nb: c", ErrorCode::InvalidArgument),
            ("x-amz-meta-a b", "x", ErrorCode::InvalidArgument),
            ("tagging", "k=v", ErrorCode::MalformedXML),
        ] {
            let refused = put_object(&fields(&[("key", "k"), (name, value)]), (0, 1));
            assert_eq!(
                refused.map(|_| ()).map_err(|error| error.code()),
                Err(code),
                "{name}"
            );
        }
        let refused = |pairs| {
            put_object(&fields(pairs), (0, 1))
                .map(|_| ())
                .map_err(|error| error.code())
        };
        assert_eq!(refused(&[]), Err(ErrorCode::InvalidArgument));
        assert_eq!(refused(&[("key", "")]), Err(ErrorCode::InvalidArgument));
        let twice = [("key", "k"), ("acl", "private"), ("x-amz-acl", "public-read")];
        assert_eq!(refused(&twice), Err(ErrorCode::InvalidArgument));
        let long = "k".repeat(1025);
        assert_eq!(refused(&[("key", &long)]), Err(ErrorCode::KeyTooLongError));
    }

    #[test]
    fn fields_are_bounded_and_named_once() {
        let mut form = fields(&[("key", "k")]);
        let twice = form.add("KEY", "other".into()).map_err(|error| error.code());
        assert_eq!(twice, Err(ErrorCode::InvalidArgument));
        let long = form
            .add("a", "x".repeat(limits::FORM_FIELDS_BYTES_MAX))
            .map_err(|error| error.code());
        assert_eq!(long, Err(ErrorCode::MaxPostPreDataLengthExceeded));
        let mut form = fields(&[("key", &"${filename}".repeat(1000))]);
        assert!(form.set_filename(&"f".repeat(200)).is_err());
    }

    #[test]
    fn success_is_answered_as_asked() {
        let status = |status: u16| PostSuccess::Status(StatusCode::from_u16(status).unwrap());
        let success = |pairs: &[(&str, &str)]| fields(pairs).success();
        for (asked, answered) in [("200", 200), ("201", 201), ("204", 204), ("500", 204), ("", 204)] {
            assert_eq!(
                success(&[("success_action_status", asked)]),
                status(answered),
                "{asked}"
            );
        }
        assert_eq!(success(&[]), status(204));
        for url in ["http://page.test/a?b=c#d", "https://page.test"] {
            let expected = PostSuccess::Redirect(url.to_owned());
            assert_eq!(success(&[("success_action_redirect", url)]), expected);
            assert_eq!(
                success(&[("redirect", url), ("success_action_status", "200")]),
                expected
            );
        }
        for url in [
            "javascript:alert(1)",
            "//page.test",
            "/a",
            "ftp://page.test",
            "http://a\r\nb",
            "http:///",
            "",
        ] {
            assert_eq!(
                success(&[("success_action_redirect", url)]),
                status(204),
                "{url:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_a_form_panic(
            pairs in proptest::collection::vec(("(key|tagging|acl|x-amz-[a-z]{1,8}|.{0,12})", ".{0,30}"), 0..6),
            filename in ".{0,20}",
        ) {
            let mut form = FormFields::default();
            for (name, value) in pairs {
                let _ = form.add(&name, value);
            }
            let _ = form.set_filename(&filename);
            let _ = form.success();
            if let Ok((put, _)) = put_object(&form, (0, 1)) {
                proptest::prop_assert_eq!(Some(put.key.as_str()), form.get("key"));
                proptest::prop_assert_eq!(put.bucket, "cask");
            }
        }
    }
}
