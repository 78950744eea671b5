//! The answer of GetObjectAttributes.

use http::header;

use super::super::attributes::GetObjectAttributes;
use super::super::checksum::{Checksum, ObjectChecksum};
use super::super::etag::ETag;
use super::super::time::UnixMs;
use super::super::xml::XmlWriter;
use super::Reply;

/// What the table knows of an object's attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributesAnswer {
    /// Its ETag.
    pub etag: ETag,
    /// When it was stored.
    pub last_modified: UnixMs,
    /// Its checksum, if it has one.
    pub checksum: Option<ObjectChecksum>,
    /// A page of its parts, if it was made of parts.
    pub parts: Option<PartsPage>,
    /// Its storage class.
    pub storage_class: String,
    /// Its bytes.
    pub bytes: u64,
}

/// A page of an object's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartsPage {
    /// The parts, those behind the marker; of an object without checksums nothing but their number is told (Amazon S3
    /// API reference, "GetObjectAttributesParts").
    pub parts: Option<Vec<AttributesPart>>,
    /// How many the object has.
    pub of: u32,
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributesPart {
    /// Its bytes.
    pub bytes: u64,
    /// Its checksum, if it has one.
    pub checksum: Option<Checksum>,
}

impl AttributesAnswer {
    /// As a reply: what was asked for, in S3's order. The ETag stands without quotes, and a composite checksum without
    /// its number of parts.
    pub fn into_reply(self, request: &GetObjectAttributes) -> Reply {
        let wanted = request.wanted;
        let mut xml = XmlWriter::new();
        xml.root("GetObjectAttributesResponse");
        if wanted.etag {
            xml.text("ETag", self.etag.as_str());
        }
        if let Some(checksum) = self.checksum.filter(|_| wanted.checksum) {
            xml.open("Checksum");
            xml.text(
                checksum.checksum.algorithm().element(),
                &checksum.checksum.to_base64(),
            );
            xml.text("ChecksumType", checksum.kind().as_str());
            xml.close("Checksum");
        }
        if let Some(page) = self.parts.filter(|_| wanted.parts) {
            page.write_to(&mut xml, request);
        }
        if wanted.storage_class {
            xml.text("StorageClass", &self.storage_class);
        }
        if wanted.size {
            xml.number("ObjectSize", self.bytes);
        }
        xml.close("GetObjectAttributesResponse");
        let mut reply = Reply::xml(xml.finish());
        reply.set(header::LAST_MODIFIED, &self.last_modified.http_date());
        reply
    }
}

impl PartsPage {
    fn write_to(&self, xml: &mut XmlWriter, request: &GetObjectAttributes) {
        xml.open("ObjectParts");
        if let Some(parts) = &self.parts {
            self.write_page(parts, xml, request);
        }
        xml.number("PartsCount", self.of.into());
        xml.close("ObjectParts");
    }

    fn write_page(&self, parts: &[AttributesPart], xml: &mut XmlWriter, request: &GetObjectAttributes) {
        let marker = request.part_number_marker;
        let last = (1..)
            .zip(parts)
            .last()
            .map_or(marker, |(count, _)| marker.saturating_add(count));
        xml.boolean("IsTruncated", last < self.of && request.max_parts > 0);
        xml.number("MaxParts", request.max_parts.into());
        xml.number("NextPartNumberMarker", last.into());
        xml.number("PartNumberMarker", marker.into());
        for (number, part) in (marker.saturating_add(1)..).zip(parts) {
            xml.open("Part");
            if let Some(checksum) = &part.checksum {
                xml.text(checksum.algorithm().element(), &checksum.to_base64());
            }
            xml.number("PartNumber", number.into());
            xml.number("Size", part.bytes);
            xml.close("Part");
        }
    }
}
