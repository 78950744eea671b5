//! GetObjectAttributes as a client writes it: which attributes, and which page of the parts.

use super::conditions;
use super::error::{Result, S3Error};
use super::head::Head;
use super::limits;
use super::operation::{bucket, key};
use super::versioning::version_id;

const ATTRIBUTES: &str = "x-amz-object-attributes";

/// GetObjectAttributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetObjectAttributes {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// `versionId`; without it the current version is meant.
    pub version_id: Option<String>,
    /// What is asked for.
    pub wanted: WantedAttributes,
    /// `x-amz-max-parts`, at most 1000.
    pub max_parts: u32,
    /// `x-amz-part-number-marker`: parts behind this one.
    pub part_number_marker: u32,
}

/// The attributes that a request names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is an attribute of S3's own.
pub struct WantedAttributes {
    /// `ETag`
    pub etag: bool,
    /// `Checksum`
    pub checksum: bool,
    /// `ObjectParts`
    pub parts: bool,
    /// `StorageClass`
    pub storage_class: bool,
    /// `ObjectSize`
    pub size: bool,
}

impl GetObjectAttributes {
    /// Reads the request.
    ///
    /// # Errors
    /// InvalidArgument for no attributes, or unknown ones, and for what is no number.
    pub(super) fn parse(head: &Head<'_>) -> Result<Self> {
        conditions::refuse_all(head)?;
        Ok(Self {
            bucket: bucket(head)?,
            key: key(head)?,
            version_id: version_id(head)?,
            wanted: WantedAttributes::parse(&head.list_header(ATTRIBUTES)?.unwrap_or_default())?,
            max_parts: number(head, "x-amz-max-parts", limits::LIST_KEYS_MAX)?.min(limits::LIST_KEYS_MAX),
            part_number_marker: number(head, "x-amz-part-number-marker", 0)?,
        })
    }
}

impl WantedAttributes {
    fn parse(text: &str) -> Result<Self> {
        let mut wanted = Self::default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let slot = match name {
                "ETag" => &mut wanted.etag,
                "Checksum" => &mut wanted.checksum,
                "ObjectParts" => &mut wanted.parts,
                "StorageClass" => &mut wanted.storage_class,
                "ObjectSize" => &mut wanted.size,
                _ => {
                    return Err(S3Error::argument(
                        ATTRIBUTES,
                        name,
                        "Invalid attribute name specified.",
                    ));
                }
            };
            *slot = true;
        }
        if wanted == Self::default() {
            return Err(S3Error::argument(
                ATTRIBUTES,
                text,
                "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
            ));
        }
        Ok(wanted)
    }
}

/// A header that is a number from 0 to 2^31 - 1.
fn number(head: &Head<'_>, name: &'static str, default: u32) -> Result<u32> {
    let Some(text) = head.amz(name)? else {
        return Ok(default);
    };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && i32::try_from(*number).is_ok())
        .ok_or_else(|| {
            S3Error::argument(
                name,
                text,
                format!("Provided {name} not an integer or within integer range"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::super::error::ErrorCode;
    use super::super::operation::Operation;
    use super::super::testing::request;
    use super::*;

    fn attributes(headers: &[(&str, &str)]) -> std::result::Result<GetObjectAttributes, ErrorCode> {
        request("GET", "/buck/k?attributes", headers)
            .map(|request| match request.operation {
                Operation::GetObjectAttributes(attributes) => attributes,
                other => panic!("{other:?}"),
            })
            .map_err(|error| error.code())
    }

    #[test]
    fn attributes_and_pages_are_read() {
        let asked = attributes(&[
            (ATTRIBUTES, "ETag, ObjectParts,ObjectSize"),
            ("x-amz-max-parts", "7"),
            ("x-amz-part-number-marker", "3"),
        ]);
        let expected = GetObjectAttributes {
            bucket: "buck".into(),
            key: "k".into(),
            version_id: None,
            wanted: WantedAttributes {
                etag: true,
                parts: true,
                size: true,
                ..WantedAttributes::default()
            },
            max_parts: 7,
            part_number_marker: 3,
        };
        assert_eq!(asked, Ok(expected));
        let most = attributes(&[(ATTRIBUTES, "Checksum"), ("x-amz-max-parts", "5000")]).unwrap();
        assert_eq!((most.max_parts, most.part_number_marker), (1000, 0));
    }

    #[test]
    fn what_is_no_attribute_or_number_is_refused() {
        let etag = (ATTRIBUTES, "ETag");
        for headers in [
            vec![],
            vec![(ATTRIBUTES, "")],
            vec![(ATTRIBUTES, ",")],
            vec![(ATTRIBUTES, "ETag,Colour")],
            vec![(ATTRIBUTES, "etag")],
            vec![etag, ("x-amz-max-parts", "x")],
            vec![etag, ("x-amz-max-parts", "-1")],
            vec![etag, ("x-amz-part-number-marker", "99999999999")],
        ] {
            assert_eq!(
                attributes(&headers),
                Err(ErrorCode::InvalidArgument),
                "{headers:?}"
            );
        }
        let condition = attributes(&[etag, ("if-match", "x")]);
        assert_eq!(condition, Err(ErrorCode::NotImplemented));
    }
}
