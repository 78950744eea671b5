//! The document of PutPublicAccessBlock and GetPublicAccessBlock: what keeps out the public, whatever lists and policies
//! say.

use super::error::{Result, S3Error};
use super::limits::XML_TEXT_BYTES_MAX;
use super::xml::{XmlReader, XmlWriter};

/// Four settings; what a document does not say is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicAccessBlock {
    /// Access control lists that grant something to everybody are not taken.
    pub block_public_acls: bool,
    /// Such lists do not count.
    pub ignore_public_acls: bool,
    /// Policies that let in everybody are not taken.
    pub block_public_policy: bool,
    /// A policy that lets in everybody lets in users only.
    pub restrict_public_buckets: bool,
}

const ROOT: &str = "PublicAccessBlockConfiguration";

impl PublicAccessBlock {
    /// Its settings with their names, in the reference's order.
    fn settings(&mut self) -> [(&'static str, &mut bool); 4] {
        [
            ("BlockPublicAcls", &mut self.block_public_acls),
            ("IgnorePublicAcls", &mut self.ignore_public_acls),
            ("BlockPublicPolicy", &mut self.block_public_policy),
            ("RestrictPublicBuckets", &mut self.restrict_public_buckets),
        ]
    }

    /// Reads the document.
    ///
    /// # Errors
    /// MalformedXML.
    pub fn parse_document(document: &[u8]) -> Result<Self> {
        let mut xml = XmlReader::open(document, ROOT)?;
        let (mut read, mut seen) = (Self::default(), [false; 4]);
        while let Some(name) = xml.next_child()? {
            let settings = read.settings();
            let at = settings.iter().position(|(known, _)| *known == name);
            let at = at.filter(|at| !std::mem::replace(&mut seen[*at], true));
            let at = at.ok_or_else(S3Error::malformed_xml)?;
            let text = xml.text(XML_TEXT_BYTES_MAX)?;
            *settings[at].1 = match text.trim() {
                truth if truth.eq_ignore_ascii_case("true") => true,
                truth if truth.eq_ignore_ascii_case("false") => false,
                _ => return Err(S3Error::malformed_xml()),
            };
        }
        xml.finish()?;
        Ok(read)
    }

    /// The document.
    pub fn to_xml(mut self) -> String {
        let mut xml = XmlWriter::new();
        xml.root(ROOT);
        for (name, setting) in self.settings() {
            xml.boolean(name, *setting);
        }
        xml.close(ROOT);
        xml.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::s3::error::ErrorCode;
    use proptest::prelude::*;

    fn parse(children: &str) -> Result<PublicAccessBlock> {
        PublicAccessBlock::parse_document(format!("<{ROOT}>{children}</{ROOT}>").as_bytes())
    }

    #[test]
    fn settings_survive_the_round_trip_and_are_off_unless_said() {
        for bits in 0..16 {
            let block = PublicAccessBlock {
                block_public_acls: bits & 1 != 0,
                ignore_public_acls: bits & 2 != 0,
                block_public_policy: bits & 4 != 0,
                restrict_public_buckets: bits & 8 != 0,
            };
            assert_eq!(
                PublicAccessBlock::parse_document(block.to_xml().as_bytes()),
                Ok(block)
            );
        }
        assert_eq!(parse(""), Ok(PublicAccessBlock::default()));
        let ignored = PublicAccessBlock {
            ignore_public_acls: true,
            ..PublicAccessBlock::default()
        };
        let said = "<BlockPublicPolicy>false</BlockPublicPolicy><IgnorePublicAcls>TRUE</IgnorePublicAcls>";
        assert_eq!(parse(said), Ok(ignored));
    }

    #[test]
    fn other_documents_are_refused() {
        for bad in [
            "<Other>true</Other>",
            "<BlockPublicAcls>yes</BlockPublicAcls>",
            "<BlockPublicAcls/>",
            "<BlockPublicAcls>true</BlockPublicAcls><BlockPublicAcls>true</BlockPublicAcls>",
            "true",
        ] {
            let refused = parse(bad).map_err(|error| error.code());
            assert_eq!(refused, Err(ErrorCode::MalformedXML), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn strange_documents_never_panic(text in "(<(/?(PublicAccessBlockConfiguration|BlockPublicAcls|true))>|.){0,30}") {
            let _ = PublicAccessBlock::parse_document(text.as_bytes());
        }
    }
}
