//! If-Match and its kin: read into types, and decided for reads. For writes
//! the decision belongs to whoever makes the write atomic.

use super::error::{ErrorCode, Result, S3Error};
use super::etag::{ETag, ETagCondition};
use super::head::Head;
use super::time::UnixMs;

/// Conditions of GetObject and HeadObject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadConditions {
    /// Only if the ETag is one of these.
    pub if_match: Option<ETagCondition>,
    /// Only if the ETag is none of these.
    pub if_none_match: Option<ETagCondition>,
    /// Only if changed after this second.
    pub if_modified_since: Option<UnixMs>,
    /// Only if not changed after this second.
    pub if_unmodified_since: Option<UnixMs>,
    /// The range holds only if the object is still this one.
    pub if_range: Option<IfRange>,
}

/// If-Range: one ETag or one date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfRange {
    /// The object must have this ETag. `None`: a weak one, which never holds.
    ETag(Option<ETag>),
    /// The object must have been changed in exactly this second.
    Date(UnixMs),
}

/// What the conditions say of an object that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerdict {
    /// Answer it.
    Proceed,
    /// 304, with ETag and Last-Modified, without body.
    NotModified,
    /// 412, naming the header that did not hold.
    PreconditionFailed(&'static str),
}

impl ReadConditions {
    /// Reads the conditions of a read.
    ///
    /// # Errors
    /// InvalidArgument for a broken list of ETags. Dates that cannot be read
    /// are ignored, as RFC 9110 demands.
    pub fn parse(head: &Head<'_>) -> Result<Self> {
        let date = |name: &'static str| -> Result<Option<UnixMs>> {
            Ok(head.header(name)?.and_then(UnixMs::parse_http_date))
        };
        let if_range = head
            .header("if-range")?
            .map(|text| match UnixMs::parse_http_date(text) {
                Some(date) => IfRange::Date(date),
                None if text.starts_with("W/") => IfRange::ETag(None),
                None => IfRange::ETag(Some(ETag::parse(text))),
            });
        Ok(Self {
            if_match: etags(head, "if-match", false)?,
            if_none_match: etags(head, "if-none-match", true)?,
            if_modified_since: date("if-modified-since")?,
            if_unmodified_since: date("if-unmodified-since")?,
            if_range,
        })
    }

    /// Decides in the order of RFC 9110, section 13.2.2, which is S3's: an
    /// ETag condition makes the date condition beside it void.
    pub fn evaluate(&self, etag: &ETag, last_modified: UnixMs) -> ReadVerdict {
        let modified = last_modified.seconds();
        match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) if !tags.names(etag) => return ReadVerdict::PreconditionFailed("If-Match"),
            (None, Some(since)) if modified > since.seconds() => {
                return ReadVerdict::PreconditionFailed("If-Unmodified-Since");
            }
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) if tags.names(etag) => ReadVerdict::NotModified,
            (None, Some(since)) if modified <= since.seconds() => ReadVerdict::NotModified,
            _ => ReadVerdict::Proceed,
        }
    }

    /// Whether the Range header counts for this object.
    pub fn range_holds(&self, etag: &ETag, last_modified: UnixMs) -> bool {
        match &self.if_range {
            None => true,
            Some(IfRange::ETag(expected)) => expected.as_ref() == Some(etag),
            Some(IfRange::Date(date)) => date.seconds() == last_modified.seconds(),
        }
    }
}

/// The condition of a write: PutObject, CompleteMultipartUpload, DeleteObject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// None.
    #[default]
    Always,
    /// If-None-Match `*`: only if there is no object.
    IfAbsent,
    /// If-Match: only if there is an object, and its ETag is one of these.
    IfMatch(ETagCondition),
}

impl WriteCondition {
    /// Reads the conditions of a write, as far as S3 has them there.
    ///
    /// # Errors
    /// NotImplemented for If-None-Match with ETags, dates, and both headers
    /// at once; InvalidArgument for a broken list.
    pub fn parse(head: &Head<'_>) -> Result<Self> {
        refuse_dates(head)?;
        match (
            etags(head, "if-match", false)?,
            etags(head, "if-none-match", true)?,
        ) {
            (None, None) => Ok(Self::Always),
            (None, Some(ETagCondition::Any)) => Ok(Self::IfAbsent),
            (Some(tags), None) => Ok(Self::IfMatch(tags)),
            (_, Some(_)) => Err(S3Error::header_not_offered("If-None-Match")),
        }
    }

    /// Reads the condition of a delete, which is If-Match only.
    ///
    /// # Errors
    /// As [`WriteCondition::parse`], and NotImplemented for If-None-Match.
    pub fn parse_delete(head: &Head<'_>) -> Result<Self> {
        match Self::parse(head)? {
            Self::IfAbsent => Err(S3Error::header_not_offered("If-None-Match")),
            condition => Ok(condition),
        }
    }

    /// Whether the condition holds, given the ETag of the object there now.
    pub fn holds(&self, current: Option<&ETag>) -> bool {
        match (self, current) {
            (Self::Always, _) | (Self::IfAbsent, None) => true,
            (Self::IfAbsent, Some(_)) | (Self::IfMatch(_), None) => false,
            (Self::IfMatch(tags), Some(etag)) => tags.names(etag),
        }
    }

    /// What to answer when a write's condition does not hold: S3 says NoSuchKey for an If-Match on
    /// nothing, else PreconditionFailed.
    pub fn refusal(&self, exists: bool) -> S3Error {
        match self {
            Self::IfMatch(_) if !exists => ErrorCode::NoSuchKey.into(),
            Self::IfMatch(_) => S3Error::precondition("If-Match"),
            Self::IfAbsent | Self::Always => S3Error::precondition("If-None-Match"),
        }
    }
}

fn refuse_dates(head: &Head<'_>) -> Result<()> {
    for name in ["if-modified-since", "if-unmodified-since"] {
        if head.headers().contains_key(name) {
            return Err(S3Error::header_not_offered(name));
        }
    }
    Ok(())
}

/// Refuses all conditions, for operations that have none.
pub(super) fn refuse_all(head: &Head<'_>) -> Result<()> {
    refuse_dates(head)?;
    for name in ["if-match", "if-none-match"] {
        if head.headers().contains_key(name) {
            return Err(S3Error::header_not_offered(name));
        }
    }
    Ok(())
}

fn etags(head: &Head<'_>, name: &'static str, keep_weak: bool) -> Result<Option<ETagCondition>> {
    head.list_header(name)?
        .map(|text| ETagCondition::parse(name, &text, keep_weak))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::super::head::Endpoint;
    use super::super::head::tests::parts;
    use super::*;

    const BEFORE: &str = "Wed, 21 Oct 2015 07:27:59 GMT";
    const SAME: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

    /// Of an object with ETag `a`, changed at 07:28:00.5.
    fn check_read(headers: &[(&str, &str)], expected: ReadVerdict) {
        let parts = parts("GET", "/b/k", headers);
        let endpoint = Endpoint::default();
        let conditions = ReadConditions::parse(&Head::parse(&parts, &endpoint).unwrap()).unwrap();
        let verdict = conditions.evaluate(&ETag::parse("a"), UnixMs(1_445_412_480_500));
        assert_eq!(verdict, expected, "{headers:?}");
    }

    #[test]
    fn reads_are_decided_in_the_order_of_the_rfc() {
        use ReadVerdict::{NotModified, PreconditionFailed, Proceed};
        check_read(&[], Proceed);
        check_read(&[("if-match", "\"a\"")], Proceed);
        check_read(&[("if-match", "\"b\", \"a\"")], Proceed);
        check_read(&[("if-match", "\"b\""), ("if-match", "\"a\"")], Proceed);
        check_read(&[("if-match", "*")], Proceed);
        check_read(&[("if-match", "\"b\"")], PreconditionFailed("If-Match"));
        check_read(&[("if-match", "W/\"a\"")], PreconditionFailed("If-Match"));
        check_read(&[("if-none-match", "W/\"a\"")], NotModified);
        check_read(&[("if-none-match", "a")], NotModified);
        check_read(&[("if-none-match", "b")], Proceed);
        check_read(&[("if-modified-since", SAME)], NotModified);
        check_read(&[("if-modified-since", BEFORE)], Proceed);
        check_read(&[("if-modified-since", "garbage")], Proceed);
        check_read(&[("if-unmodified-since", SAME)], Proceed);
        check_read(
            &[("if-unmodified-since", BEFORE)],
            PreconditionFailed("If-Unmodified-Since"),
        );
        // The two pairs of S3's reference.
        check_read(&[("if-match", "a"), ("if-unmodified-since", BEFORE)], Proceed);
        check_read(
            &[("if-none-match", "a"), ("if-modified-since", BEFORE)],
            NotModified,
        );
        check_read(&[("if-none-match", "b"), ("if-modified-since", SAME)], Proceed);
        // 412 comes before 304.
        check_read(
            &[("if-match", "b"), ("if-none-match", "a")],
            PreconditionFailed("If-Match"),
        );
    }

    fn check_write(headers: &[(&str, &str)], expected: std::result::Result<WriteCondition, ErrorCode>) {
        let parts = parts("PUT", "/b/k", headers);
        let endpoint = Endpoint::default();
        let head = Head::parse(&parts, &endpoint).unwrap();
        assert_eq!(
            WriteCondition::parse(&head).map_err(|e| e.code()),
            expected,
            "{headers:?}"
        );
    }

    #[test]
    fn writes_have_the_conditions_that_s3_has() {
        let a = || WriteCondition::IfMatch(ETagCondition::OneOf(vec![ETag::parse("a")]));
        check_write(&[], Ok(WriteCondition::Always));
        check_write(&[("if-none-match", "*")], Ok(WriteCondition::IfAbsent));
        check_write(&[("if-match", "\"a\"")], Ok(a()));
        check_write(&[("if-none-match", "\"a\"")], Err(ErrorCode::NotImplemented));
        check_write(
            &[("if-match", "\"a\""), ("if-none-match", "*")],
            Err(ErrorCode::NotImplemented),
        );
        check_write(&[("if-modified-since", SAME)], Err(ErrorCode::NotImplemented));
        let (same, other) = (ETag::parse("a"), ETag::parse("b"));
        assert!(a().holds(Some(&same)) && !a().holds(Some(&other)) && !a().holds(None));
        assert!(WriteCondition::IfAbsent.holds(None) && !WriteCondition::IfAbsent.holds(Some(&same)));
        assert_eq!(a().refusal(false).code(), ErrorCode::NoSuchKey);
        assert_eq!(a().refusal(true).code(), ErrorCode::PreconditionFailed);
    }

    #[test]
    fn if_range_compares_strongly() {
        let check = |text: &str, expected: bool| {
            let parts = parts("GET", "/b/k", &[("if-range", text)]);
            let endpoint = Endpoint::default();
            let conditions = ReadConditions::parse(&Head::parse(&parts, &endpoint).unwrap()).unwrap();
            let got = conditions.range_holds(&ETag::parse("a"), UnixMs(1_445_412_480_500));
            assert_eq!(got, expected, "{text}");
        };
        check("\"a\"", true);
        check("\"b\"", false);
        check("W/\"a\"", false);
        check(SAME, true);
        check(BEFORE, false);
    }
}
