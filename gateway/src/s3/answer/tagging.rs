//! Answers of the operations on tags.

use super::super::tagging::Tags;
use super::super::xml::XmlWriter;
use super::Reply;

/// The answer of GetObjectTagging and GetBucketTagging.
pub fn tagging(tags: &Tags) -> Reply {
    let mut xml = XmlWriter::new();
    xml.root("Tagging");
    xml.open("TagSet");
    for (key, value) in &tags.0 {
        xml.open("Tag");
        xml.text("Key", key);
        xml.text("Value", value);
        xml.close("Tag");
    }
    xml.close("TagSet");
    xml.close("Tagging");
    Reply::xml(xml.finish())
}
