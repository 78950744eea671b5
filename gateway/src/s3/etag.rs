//! ETags: made of MD5s, written in quotes, compared as opaque text.

use super::error::{ErrorCode, Result, S3Error};
use super::md5::{Md5Digest, md5};

/// An entity tag without its quotes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ETag(String);

impl ETag {
    /// Of an object or part of one body.
    pub fn of_md5(digest: &Md5Digest) -> Self {
        Self(hex::encode(digest))
    }

    /// Of an object of parts: the MD5 of the parts' MD5s, and their number.
    pub fn of_parts<'a>(digests: impl IntoIterator<Item = &'a Md5Digest>) -> Self {
        let digests: Vec<u8> = digests.into_iter().flatten().copied().collect();
        let parts = digests.len() / size_of::<Md5Digest>();
        Self(format!("{}-{parts}", hex::encode(md5(&digests))))
    }

    /// From text with or without quotes, as clients send it.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let inner = text
            .strip_prefix('"')
            .and_then(|t| t.strip_suffix('"'))
            .unwrap_or(text);
        Self(inner.to_owned())
    }

    /// Without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// With quotes, as headers and elements carry it.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// The MD5, if this is the ETag of one body.
    pub fn md5(&self) -> Option<Md5Digest> {
        let mut digest = [0; 16];
        hex::decode_to_slice(&self.0, &mut digest).ok()?;
        Some(digest)
    }
}

/// What If-Match or If-None-Match names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ETagCondition {
    /// `*`: any object at all.
    Any,
    /// One of these.
    OneOf(Vec<ETag>),
}

impl ETagCondition {
    /// Reads a list. Weak tags are compared like strong ones by
    /// If-None-Match and never match If-Match (RFC 9110, section 13.1), so
    /// `keep_weak` says which of the two this is.
    ///
    /// # Errors
    /// InvalidArgument for an empty list or a broken quote.
    pub fn parse(header: &'static str, text: &str, keep_weak: bool) -> Result<Self> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        let bad = || S3Error::argument(header, text, "The ETag list is not valid");
        let mut tags = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (weak, after) = rest
                .strip_prefix("W/")
                .map_or((false, rest), |after| (true, after));
            let (tag, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or_else(bad)?,
                // Unquoted, as some clients send it and S3 accepts it.
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            let tag = tag.trim();
            if !weak || keep_weak {
                tags.push(ETag(tag.to_owned()));
            }
            rest = match after.trim_start() {
                "" => "",
                after => after.strip_prefix(',').ok_or_else(bad)?.trim_start(),
            };
        }
        if tags.is_empty() && !text.contains("W/") {
            return Err(S3Error::from(ErrorCode::InvalidArgument).with("ArgumentName", header));
        }
        Ok(Self::OneOf(tags))
    }

    /// Whether an object with this ETag is among those named.
    pub fn names(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(etag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipart_etags_are_md5_of_md5s_with_the_number() {
        let parts = [super::super::md5::md5(b"a"), super::super::md5::md5(b"b")];
        let expected = hex::encode(super::super::md5::md5(&parts.concat()));
        assert_eq!(ETag::of_parts(&parts).quoted(), format!("\"{expected}-2\""));
        assert_eq!(ETag::of_md5(&parts[0]).md5(), Some(parts[0]));
        assert_eq!(ETag::of_parts(&parts).md5(), None);
        assert_eq!(ETag::parse(" \"x\" "), ETag::parse("x"));
    }

    #[test]
    fn lists_are_read_in_all_spellings() {
        let check = |text: &str, weak: bool, expected: &[&str]| {
            let tags = expected.iter().map(|t| ETag((*t).to_owned())).collect();
            assert_eq!(
                ETagCondition::parse("if-match", text, weak),
                Ok(ETagCondition::OneOf(tags)),
                "{text}"
            );
        };
        check("\"a\"", true, &["a"]);
        check("a", true, &["a"]);
        check("\"a\" , \"b,c\",W/\"d\",e", true, &["a", "b,c", "d", "e"]);
        check("\"a\",W/\"d\"", false, &["a"]);
        check("W/\"d\"", false, &[]);
        assert_eq!(
            ETagCondition::parse("if-match", " * ", false),
            Ok(ETagCondition::Any)
        );
        for text in ["", "\"a", "\"a\"b\""] {
            assert!(ETagCondition::parse("if-match", text, true).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics_and_ends(text in "[W/\",* a-c]{0,40}") {
            let _ = ETagCondition::parse("if-match", &text, true);
        }
    }
}
