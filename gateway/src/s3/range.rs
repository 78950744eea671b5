//! The Range header: parsed without and resolved with the object's length.

use super::error::{ErrorCode, S3Error};

/// One range of bytes as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// `a-b`, both included.
    Between(u64, u64),
    /// `a-`
    From(u64),
    /// `-n`: the last n bytes.
    Last(u64),
}

/// Bytes `start .. start + length` of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Bytes, at least 1.
    pub length: u64,
}

impl RangeRequest {
    /// Reads a Range header. `None` means the whole object: for other units,
    /// several ranges and what is not a range, as S3 does.
    pub fn parse(header: &str) -> Option<Self> {
        let (unit, range) = header.trim().split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The bytes of an object of this length.
    ///
    /// # Errors
    /// InvalidRange if there are none; the answer then carries
    /// `Content-Range: bytes */length`.
    pub fn resolve(self, object_bytes: u64) -> Result<ByteRange, S3Error> {
        let (start, end) = match self {
            Self::Between(first, last) => (first, last.saturating_add(1).min(object_bytes)),
            Self::From(first) => (first, object_bytes),
            Self::Last(bytes) => (object_bytes.saturating_sub(bytes), object_bytes),
        };
        match end.checked_sub(start) {
            Some(length) if length > 0 => Ok(ByteRange { start, length }),
            _ => Err(S3Error::from(ErrorCode::InvalidRange)
                .with("RangeRequested", self.to_string())
                .with("ActualObjectSize", object_bytes.to_string())),
        }
    }
}

impl std::fmt::Display for RangeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Between(first, last) => write!(f, "bytes={first}-{last}"),
            Self::From(first) => write!(f, "bytes={first}-"),
            Self::Last(bytes) => write!(f, "bytes=-{bytes}"),
        }
    }
}

impl ByteRange {
    /// As Content-Range carries it.
    pub fn content_range(&self, object_bytes: u64) -> String {
        let last = self.start.saturating_add(self.length).saturating_sub(1);
        format!("bytes {}-{last}/{object_bytes}", self.start)
    }
}

/// Decimal digits only; what is too large for a u64 is beyond any object.
pub(super) fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_header() {
        use RangeRequest::{Between, From, Last};
        for (text, expected) in [
            ("bytes=0-0", Some(Between(0, 0))),
            ("Bytes = 1 - 5", Some(Between(1, 5))),
            ("bytes=7-", Some(From(7))),
            ("bytes=-7", Some(Last(7))),
            ("bytes=0-99999999999999999999999", Some(Between(0, u64::MAX))),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("lines=1-2", None),
            ("1-2", None),
            ("", None),
        ] {
            assert_eq!(RangeRequest::parse(text), expected, "{text}");
        }
    }

    fn check(request: RangeRequest, object_bytes: u64, expected: Option<(u64, u64)>) {
        let got = request.resolve(object_bytes).ok().map(|r| (r.start, r.length));
        assert_eq!(got, expected, "{request} of {object_bytes}");
    }

    #[test]
    fn ranges_are_cut_to_the_object() {
        check(RangeRequest::Between(0, 9), 10, Some((0, 10)));
        check(RangeRequest::Between(9, 99), 10, Some((9, 1)));
        check(RangeRequest::Between(10, 10), 10, None);
        check(RangeRequest::Between(0, u64::MAX), 10, Some((0, 10)));
        check(RangeRequest::Between(u64::MAX, u64::MAX), 10, None);
        check(RangeRequest::From(9), 10, Some((9, 1)));
        check(RangeRequest::From(10), 10, None);
        check(RangeRequest::Last(3), 10, Some((7, 3)));
        check(RangeRequest::Last(30), 10, Some((0, 10)));
        check(RangeRequest::Last(0), 10, None);
        check(RangeRequest::From(0), 0, None);
        check(RangeRequest::Last(1), 0, None);
        assert_eq!(
            ByteRange { start: 7, length: 3 }.content_range(10),
            "bytes 7-9/10"
        );
    }

    proptest::proptest! {
        #[test]
        fn every_range_lies_within_the_object(text in "bytes=[0-9]{0,20}-[0-9]{0,20}", bytes: u64) {
            if let Some(Ok(range)) = RangeRequest::parse(&text).map(|r| r.resolve(bytes)) {
                proptest::prop_assert!(range.length > 0);
                proptest::prop_assert!(range.start.checked_add(range.length).is_some_and(|end| end <= bytes));
            }
        }
    }
}
