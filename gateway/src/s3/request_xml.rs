//! The documents that clients send: strict in structure, bounded in number.
//! Call these only with bodies that have been verified.

use super::checksum::{Checksum, ChecksumAlgorithm};
use super::conditions::WriteCondition;
use super::error::{ErrorCode, Result, S3Error};
use super::etag::{ETag, ETagCondition};
use super::limits;
use super::operation::parse_part_number;
use super::xml::XmlReader;

/// The body of CreateBucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateBucketBody {
    /// The region asked for.
    pub location_constraint: Option<String>,
}

impl CreateBucketBody {
    /// Reads the document; an empty body asks for nothing.
    ///
    /// # Errors
    /// MalformedXML; NotImplemented for directory buckets and tags.
    pub fn parse(document: &[u8]) -> Result<Self> {
        if document.is_empty() {
            return Ok(Self::default());
        }
        let mut xml = XmlReader::open(document, "CreateBucketConfiguration")?;
        let mut body = Self::default();
        while let Some(name) = xml.next_child()? {
            match name.as_str() {
                "LocationConstraint" if body.location_constraint.is_none() => {
                    body.location_constraint = Some(xml.text(limits::XML_TEXT_BYTES_MAX)?);
                }
                "Location" | "Bucket" | "Tags" => {
                    return Err(S3Error::new(
                        ErrorCode::NotImplemented,
                        format!("The element {name} of CreateBucketConfiguration is not implemented."),
                    ));
                }
                _ => return Err(S3Error::malformed_xml()),
            }
        }
        xml.finish()?;
        Ok(body)
    }

    /// Checks that the bucket is to be made in this gateway's region. No
    /// constraint means here.
    ///
    /// # Errors
    /// InvalidLocationConstraint.
    pub fn check_region(&self, region: &str) -> Result<()> {
        match self.location_constraint.as_deref() {
            None | Some("") => Ok(()),
            Some(asked) if asked == region => Ok(()),
            Some(asked) => {
                Err(S3Error::from(ErrorCode::InvalidLocationConstraint).with("LocationConstraint", asked))
            }
        }
    }
}

/// The body of DeleteObjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteObjectsBody {
    /// What to delete, in the order given: 1 to 1000.
    pub objects: Vec<ObjectToDelete>,
    /// Only errors are to be answered.
    pub quiet: bool,
}

/// One object of DeleteObjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectToDelete {
    /// The key.
    pub key: String,
    /// The version to be removed for good.
    pub version_id: Option<String>,
    /// If-Match for this object.
    pub condition: WriteCondition,
}

impl DeleteObjectsBody {
    /// Reads the document.
    ///
    /// # Errors
    /// MalformedXML; NotImplemented for conditions of directory buckets.
    pub fn parse(document: &[u8]) -> Result<Self> {
        let mut xml = XmlReader::open(document, "Delete")?;
        let mut body = Self::default();
        while let Some(name) = xml.next_child()? {
            match name.as_str() {
                "Object" if body.objects.len() < limits::DELETE_KEYS_MAX => {
                    body.objects.push(object_to_delete(&mut xml)?);
                }
                "Quiet" => {
                    body.quiet = match xml.text(limits::XML_TEXT_BYTES_MAX)?.trim() {
                        "true" => true,
                        "false" => false,
                        _ => return Err(S3Error::malformed_xml()),
                    };
                }
                _ => return Err(S3Error::malformed_xml()),
            }
        }
        xml.finish()?;
        if body.objects.is_empty() {
            return Err(S3Error::malformed_xml());
        }
        Ok(body)
    }
}

fn object_to_delete(xml: &mut XmlReader<'_>) -> Result<ObjectToDelete> {
    let (mut key, mut version_id) = (None, None);
    let mut condition = WriteCondition::Always;
    while let Some(name) = xml.next_child()? {
        match name.as_str() {
            "Key" if key.is_none() => key = Some(xml.text(limits::KEY_BYTES_MAX)?),
            "ETag" if condition == WriteCondition::Always => {
                let text = xml.text(limits::XML_TEXT_BYTES_MAX)?;
                condition = WriteCondition::IfMatch(ETagCondition::parse("ETag", &text, false)?);
            }
            "VersionId" if version_id.is_none() => {
                version_id = Some(xml.text(limits::VERSION_ID_BYTES_MAX)?);
            }
            "LastModifiedTime" | "Size" => {
                return Err(S3Error::new(
                    ErrorCode::NotImplemented,
                    format!("The element {name} of Object is not implemented."),
                ));
            }
            _ => return Err(S3Error::malformed_xml()),
        }
    }
    let key = key
        .filter(|key| !key.is_empty())
        .ok_or_else(S3Error::malformed_xml)?;
    Ok(ObjectToDelete {
        key,
        version_id,
        condition,
    })
}

/// The body of CompleteMultipartUpload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompleteBody {
    /// The parts, in ascending order: 1 to 10,000.
    pub parts: Vec<CompletedPart>,
}

/// One part of CompleteMultipartUpload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    /// 1 to 10,000.
    pub part_number: u32,
    /// As UploadPart answered it.
    pub etag: ETag,
    /// As UploadPart answered it, if the client sends it back.
    pub checksum: Option<Checksum>,
}

impl CompleteBody {
    /// Reads the document.
    ///
    /// # Errors
    /// MalformedXML, InvalidPartOrder, InvalidArgument for part numbers,
    /// InvalidRequest for checksums that are none.
    pub fn parse(document: &[u8]) -> Result<Self> {
        let mut xml = XmlReader::open(document, "CompleteMultipartUpload")?;
        let mut parts: Vec<CompletedPart> = Vec::new();
        while let Some(name) = xml.next_child()? {
            if name != "Part" || parts.len() >= limits::PARTS_MAX as usize {
                return Err(S3Error::malformed_xml());
            }
            let part = completed_part(&mut xml)?;
            if parts
                .last()
                .is_some_and(|last| last.part_number >= part.part_number)
            {
                return Err(ErrorCode::InvalidPartOrder.into());
            }
            parts.push(part);
        }
        xml.finish()?;
        if parts.is_empty() {
            return Err(S3Error::malformed_xml());
        }
        Ok(Self { parts })
    }
}

fn completed_part(xml: &mut XmlReader<'_>) -> Result<CompletedPart> {
    let (mut part_number, mut etag, mut checksum) = (None, None, None);
    while let Some(name) = xml.next_child()? {
        let text = xml.text(limits::XML_TEXT_BYTES_MAX)?;
        let text = text.trim();
        let repeated = match name.as_str() {
            "PartNumber" => part_number.replace(parse_part_number(text)?).is_some(),
            "ETag" => etag.replace(ETag::parse(text)).is_some(),
            element => {
                let algorithm = ChecksumAlgorithm::ALL
                    .into_iter()
                    .find(|known| known.element() == element)
                    .ok_or_else(S3Error::malformed_xml)?;
                checksum
                    .replace(Checksum::from_base64(algorithm, text)?)
                    .is_some()
            }
        };
        if repeated {
            return Err(S3Error::malformed_xml());
        }
    }
    match (part_number, etag) {
        (Some(part_number), Some(etag)) => Ok(CompletedPart {
            part_number,
            etag,
            checksum,
        }),
        _ => Err(S3Error::malformed_xml()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_bucket_documents() {
        assert_eq!(CreateBucketBody::parse(b""), Ok(CreateBucketBody::default()));
        let body = CreateBucketBody::parse(
            b"<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
              <LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>",
        )
        .unwrap();
        assert_eq!(body.check_region("eu-west-1"), Ok(()));
        assert_eq!(
            body.check_region("x").map_err(|e| e.code()),
            Err(ErrorCode::InvalidLocationConstraint)
        );
        let tags = b"<CreateBucketConfiguration><Tags/></CreateBucketConfiguration>";
        assert_eq!(
            CreateBucketBody::parse(tags).map_err(|e| e.code()),
            Err(ErrorCode::NotImplemented)
        );
        assert!(CreateBucketBody::parse(b"<X/>").is_err());
    }

    fn check_delete(document: &str, expected: std::result::Result<(usize, bool), ErrorCode>) {
        let got = DeleteObjectsBody::parse(document.as_bytes());
        assert_eq!(
            got.map(|b| (b.objects.len(), b.quiet)).map_err(|e| e.code()),
            expected,
            "{document:.80}"
        );
    }

    #[test]
    fn delete_documents() {
        check_delete("<Delete><Object><Key>a</Key></Object></Delete>", Ok((1, false)));
        check_delete(
            "<Delete><Quiet>true</Quiet><Object><Key>a</Key><ETag>x</ETag></Object></Delete>",
            Ok((1, true)),
        );
        for document in [
            "<Delete/>",
            "<Delete><Object/></Delete>",
            "<Delete><Object><Key></Key></Object></Delete>",
            "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
            "<Delete><Object><Key>a</Key></Object><Quiet>maybe</Quiet></Delete>",
            "<Delete><Object><Key>a</Key></Object><Other/></Delete>",
        ] {
            check_delete(document, Err(ErrorCode::MalformedXML));
        }
        let versions = "<Delete><Object><Key>a</Key><VersionId>1</VersionId></Object></Delete>";
        check_delete(versions, Ok((1, false)));
        let named = DeleteObjectsBody::parse(versions.as_bytes()).unwrap();
        assert_eq!(named.objects[0].version_id.as_deref(), Some("1"));
        let sizes = "<Delete><Object><Key>a</Key><Size>1</Size></Object></Delete>";
        check_delete(sizes, Err(ErrorCode::NotImplemented));
        let many = |n: usize| format!("<Delete>{}</Delete>", "<Object><Key>a</Key></Object>".repeat(n));
        check_delete(&many(1000), Ok((1000, false)));
        check_delete(&many(1001), Err(ErrorCode::MalformedXML));
        let long = format!(
            "<Delete><Object><Key>{}</Key></Object></Delete>",
            "k".repeat(1025)
        );
        check_delete(&long, Err(ErrorCode::MalformedXML));
    }

    fn check_complete(parts: &str, expected: std::result::Result<usize, ErrorCode>) {
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let got = CompleteBody::parse(document.as_bytes());
        assert_eq!(
            got.map(|b| b.parts.len()).map_err(|e| e.code()),
            expected,
            "{parts:.80}"
        );
    }

    #[test]
    fn complete_documents() {
        let part = |n: u32| format!("<Part><PartNumber>{n}</PartNumber><ETag>&quot;e&quot;</ETag></Part>");
        check_complete(&(part(1) + &part(3)), Ok(2));
        check_complete(&(part(3) + &part(1)), Err(ErrorCode::InvalidPartOrder));
        check_complete(&(part(1) + &part(1)), Err(ErrorCode::InvalidPartOrder));
        check_complete(&part(0), Err(ErrorCode::InvalidArgument));
        check_complete(&part(10_001), Err(ErrorCode::InvalidArgument));
        check_complete("", Err(ErrorCode::MalformedXML));
        check_complete(
            "<Part><PartNumber>1</PartNumber></Part>",
            Err(ErrorCode::MalformedXML),
        );
        let whole: String = (1..=10_000).map(part).collect();
        check_complete(&whole, Ok(10_000));
        let checksum =
            "<Part><ETag>e</ETag><PartNumber>1</PartNumber><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>";
        check_complete(checksum, Ok(1));
        check_complete(&checksum.replace("AAAAAA==", "A"), Err(ErrorCode::InvalidRequest));
    }
}
