//! Tags of objects and of buckets: the header and the document that carry them, and S3's rules on them.

use super::error::{ErrorCode, Result, S3Error};
use super::head::Head;
use super::limits;
use super::percent;
use super::xml::XmlReader;

const HEADER: &str = "x-amz-tagging";

/// Tags in the order given: keys, each once, and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(pub Vec<(String, String)>);

impl Tags {
    /// Reads `x-amz-tagging` of a request that makes an object: pairs as in a query. No header, no tags.
    ///
    /// # Errors
    /// InvalidArgument for what is no such list or names a key twice; otherwise as [`Tags::checked`].
    pub(super) fn parse_header(head: &Head<'_>) -> Result<Self> {
        let Some(text) = head.amz(HEADER)? else {
            return Ok(Self::default());
        };
        let wrong = || {
            S3Error::argument(
                HEADER,
                text,
                "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters \
                 without tag name duplicates.",
            )
        };
        let mut tags = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = percent::decode_query(key).ok_or_else(wrong)?;
            let value = percent::decode_query(value).ok_or_else(wrong)?;
            tags.push((key.into_owned(), value.into_owned()));
        }
        if has_duplicates(&tags) {
            return Err(wrong());
        }
        Self::checked(tags, limits::OBJECT_TAGS_MAX)
    }

    /// Reads a `Tagging` document of at most `tags_max` tags.
    ///
    /// # Errors
    /// MalformedXML; otherwise as [`Tags::checked`].
    pub fn parse_document(document: &[u8], tags_max: usize) -> Result<Self> {
        let mut xml = XmlReader::open(document, "Tagging")?;
        let mut tags = None;
        while let Some(name) = xml.next_child()? {
            if name != "TagSet" || tags.is_some() {
                return Err(S3Error::malformed_xml());
            }
            let mut set = Vec::new();
            while let Some(name) = xml.next_child()? {
                if name != "Tag" {
                    return Err(S3Error::malformed_xml());
                }
                set.push(tag(&mut xml)?);
            }
            tags = Some(set);
        }
        xml.finish()?;
        Self::checked(tags.ok_or_else(S3Error::malformed_xml)?, tags_max)
    }

    /// Tags that keep S3's rules: at most `tags_max`, keys and values bounded in Unicode characters and made of the
    /// characters allowed, each key once, and none of AWS's own.
    ///
    /// # Errors
    /// BadRequest for too many, else InvalidTag.
    fn checked(tags: Vec<(String, String)>, tags_max: usize) -> Result<Self> {
        if tags.len() > tags_max {
            return Err(S3Error::new(
                ErrorCode::BadRequest,
                format!("The number of tags cannot be greater than {tags_max}"),
            ));
        }
        for (key, value) in &tags {
            check(key, 1, limits::TAG_KEY_CHARACTERS_MAX)
                .ok_or_else(|| invalid("The TagKey you have provided is invalid", key))?;
            check(value, 0, limits::TAG_VALUE_CHARACTERS_MAX)
                .ok_or_else(|| invalid("The TagValue you have provided is invalid", key))?;
            if key
                .get(..4)
                .is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
            {
                return Err(invalid("System tags cannot be added/updated by requester", key));
            }
        }
        if has_duplicates(&tags) {
            return Err(S3Error::new(
                ErrorCode::InvalidTag,
                "Cannot provide multiple Tags with the same key",
            ));
        }
        Ok(Self(tags))
    }
}

fn invalid(message: &'static str, key: &str) -> S3Error {
    S3Error::new(ErrorCode::InvalidTag, message).with("TagKey", key)
}

fn has_duplicates(tags: &[(String, String)]) -> bool {
    let mut keys: Vec<&str> = tags.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

/// Letters, digits, white space and `+ - = . _ : / @` (S3 user guide, "Categorizing your objects using tags").
fn check(text: &str, least: usize, most: usize) -> Option<()> {
    let allowed =
        |c: char| c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "+-=._:/@".contains(c);
    ((least..=most).contains(&text.chars().count()) && text.chars().all(allowed)).then_some(())
}

fn tag(xml: &mut XmlReader<'_>) -> Result<(String, String)> {
    let (mut key, mut value) = (None, None);
    while let Some(name) = xml.next_child()? {
        let slot = match name.as_str() {
            "Key" => &mut key,
            "Value" => &mut value,
            _ => return Err(S3Error::malformed_xml()),
        };
        if slot.replace(xml.text(limits::XML_TEXT_BYTES_MAX)?).is_some() {
            return Err(S3Error::malformed_xml());
        }
    }
    key.zip(value).ok_or_else(S3Error::malformed_xml)
}

#[cfg(test)]
mod tests {
    use super::super::head::Endpoint;
    use super::super::head::tests::parts;
    use super::*;

    fn header(text: &str) -> std::result::Result<Vec<(String, String)>, ErrorCode> {
        let parts = parts("PUT", "/buck/key", &[(HEADER, text)]);
        let endpoint = Endpoint::default();
        Tags::parse_header(&Head::parse(&parts, &endpoint).unwrap())
            .map(|tags| tags.0)
            .map_err(|error| error.code())
    }

    fn document(tags: &str) -> std::result::Result<Vec<(String, String)>, ErrorCode> {
        let text = format!("<Tagging>{tags}</Tagging>");
        Tags::parse_document(text.as_bytes(), limits::OBJECT_TAGS_MAX)
            .map(|tags| tags.0)
            .map_err(|error| error.code())
    }

    fn set(tags: &[(&str, &str)]) -> String {
        let tag = |(key, value): &(&str, &str)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
        format!("<TagSet>{}</TagSet>", tags.iter().map(tag).collect::<String>())
    }

    fn owned(tags: &[(&str, &str)]) -> Vec<(String, String)> {
        tags.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn headers_are_read_as_queries() {
        assert_eq!(header("a=1&b=2"), Ok(owned(&[("a", "1"), ("b", "2")])));
        assert_eq!(
            header("caf%C3%A9+x=%2F%3D&empty=&none"),
            Ok(owned(&[("caf\u{e9} x", "/="), ("empty", ""), ("none", "")]))
        );
        assert_eq!(header(""), Ok(Vec::new()));
        for text in ["a=1&a=2", "a=%zz", "%ff=1"] {
            assert_eq!(header(text), Err(ErrorCode::InvalidArgument), "{text}");
        }
        assert_eq!(header("a=%3C"), Err(ErrorCode::InvalidTag));
        let eleven: Vec<String> = (0..11).map(|n| format!("k{n}=v")).collect();
        assert_eq!(header(&eleven.join("&")), Err(ErrorCode::BadRequest));
        assert_eq!(header(&eleven[1..].join("&")).map(|tags| tags.len()), Ok(10));
    }

    #[test]
    fn documents_are_strict() {
        let pairs = [("colour", "dark red"), ("path", "/a+b=c-d._:@")];
        assert_eq!(document(&set(&pairs)), Ok(owned(&pairs)));
        assert_eq!(document("<TagSet/>"), Ok(Vec::new()));
        for malformed in [
            "",
            "<TagSet/><TagSet/>",
            "<Other/>",
            "<TagSet><Tag><Key>a</Key></Tag></TagSet>",
            "<TagSet><Tag><Value>a</Value></Tag></TagSet>",
            "<TagSet><Tag><Key>a</Key><Key>b</Key><Value>c</Value></Tag></TagSet>",
            "<TagSet><Key>a</Key></TagSet>",
        ] {
            assert_eq!(document(malformed), Err(ErrorCode::MalformedXML), "{malformed}");
        }
    }

    #[test]
    fn tags_keep_s3s_rules() {
        let key = |length| "\u{e4}".repeat(length);
        assert!(document(&set(&[(&key(128), &key(256))])).is_ok());
        for (name, value) in [
            ("", "x"),
            (&*key(129), "x"),
            ("x", &*key(257)),
            ("semi;colon", "x"),
            ("x", "tab\u{9}"),
            ("x", "#"),
            ("aws:x", "y"),
            ("AWS:x", "y"),
        ] {
            let refused = document(&set(&[(name, value)]));
            assert_eq!(refused, Err(ErrorCode::InvalidTag), "{name} {value}");
        }
        assert_eq!(
            document(&set(&[("a", "1"), ("b", "2"), ("a", "1")])),
            Err(ErrorCode::InvalidTag)
        );
        assert_eq!(document(&set(&[("a", "1"); 11])), Err(ErrorCode::BadRequest));
    }
}
