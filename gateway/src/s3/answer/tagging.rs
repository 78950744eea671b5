//! Answers of the operations on tags.

use super::super::tagging::Tags;
use super::super::xml::XmlWriter;
use super::Reply;

/// The answer of GetObjectTagging.
pub fn tagging(tags: &Tags) -> Reply {
    Reply::xml(tagging_document(tags))
}

/// The document in which tags are answered; also how a bucket's are kept.
pub fn tagging_document(tags: &Tags) -> String {
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
    xml.finish()
}
