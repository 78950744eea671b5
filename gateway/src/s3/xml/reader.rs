//! A pull reader for small request documents. It refuses DOCTYPE, processing
//! instructions and every entity but XML's own five, bounds depth and text,
//! and makes no tree. The size of the whole document is the caller's bound.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::super::error::{Result, S3Error};
use super::super::limits::XML_DEPTH_MAX;

/// Walks one document element by element. Reading follows the nesting: after
/// [`XmlReader::next_child`] has named a child, that child must be consumed
/// by [`XmlReader::text`] or by `next_child` until it answers `None`.
pub struct XmlReader<'a> {
    reader: Reader<&'a [u8]>,
    depth: usize,
}

impl<'a> XmlReader<'a> {
    /// Opens a document whose root element has this local name.
    ///
    /// # Errors
    /// MalformedXML if it is not UTF-8, or another root stands first.
    pub fn open(document: &'a [u8], root: &str) -> Result<Self> {
        let text = std::str::from_utf8(document).map_err(|_| S3Error::malformed_xml())?;
        let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.check_end_names = true;
        config.check_comments = false;
        let mut opened = Self { reader, depth: 0 };
        match opened.next_child()? {
            Some(name) if name == root => Ok(opened),
            _ => Err(S3Error::malformed_xml()),
        }
    }

    /// Enters the next child of the current element and gives its local
    /// name; `None` when the current element has ended (and is left).
    ///
    /// # Errors
    /// MalformedXML on text between elements and whatever is not well-formed.
    pub fn next_child(&mut self) -> Result<Option<String>> {
        loop {
            match self.event()? {
                Event::Start(start) => {
                    let name = start.local_name().into_inner().to_owned();
                    self.depth += 1;
                    if self.depth > XML_DEPTH_MAX {
                        return Err(S3Error::malformed_xml());
                    }
                    return Ok(Some(name));
                }
                Event::End(_) if self.depth > 0 => {
                    self.depth -= 1;
                    return Ok(None);
                }
                Event::Text(text) if text.bytes().all(|b| b.is_ascii_whitespace()) => {}
                Event::Comment(_) => {}
                Event::Decl(_) if self.depth == 0 => {}
                _ => return Err(S3Error::malformed_xml()),
            }
        }
    }

    /// The text of the current element, which is left; at most `bytes_max`.
    /// White space is kept: a key may begin or end with it.
    ///
    /// # Errors
    /// MalformedXML if the element has children, is too long, or is not
    /// well-formed.
    pub fn text(&mut self, bytes_max: usize) -> Result<String> {
        let mut out = String::new();
        loop {
            match self.event()? {
                Event::Text(text) => out.push_str(&text),
                Event::CData(text) => out.push_str(&text),
                Event::GeneralRef(reference) => {
                    let c = match &*reference {
                        "lt" => '<',
                        "gt" => '>',
                        "amp" => '&',
                        "quot" => '"',
                        "apos" => '\'',
                        number => character(number).ok_or_else(S3Error::malformed_xml)?,
                    };
                    out.push(c);
                }
                Event::Comment(_) => {}
                Event::End(_) if self.depth > 0 => {
                    self.depth -= 1;
                    return Ok(out);
                }
                _ => return Err(S3Error::malformed_xml()),
            }
            if out.len() > bytes_max {
                return Err(S3Error::malformed_xml());
            }
        }
    }

    /// Checks that nothing but comments and white space follows the root,
    /// which must have been left.
    ///
    /// # Errors
    /// MalformedXML otherwise.
    pub fn finish(mut self) -> Result<()> {
        loop {
            match self.event()? {
                Event::Eof if self.depth == 0 => return Ok(()),
                Event::Comment(_) => {}
                Event::Text(text) if text.bytes().all(|b| b.is_ascii_whitespace()) => {}
                _ => return Err(S3Error::malformed_xml()),
            }
        }
    }

    fn event(&mut self) -> Result<Event<'a>> {
        self.reader.read_event().map_err(|_| S3Error::malformed_xml())
    }
}

/// A character reference without `&` and `;`: `#10` or `#xA`. Unlike XML 1.0,
/// control characters are let through, NUL too: S3's own listings hold them.
fn character(reference: &str) -> Option<char> {
    let number = reference.strip_prefix('#')?;
    let (digits, radix) = match number.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16),
        None => (number, 10),
    };
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, radix).ok()?)
}

#[cfg(test)]
mod tests {
    use super::super::super::error::ErrorCode;
    use super::*;

    /// Reads `<R>` with any number of `<K>` texts.
    fn keys(document: &[u8]) -> Result<Vec<String>> {
        let mut xml = XmlReader::open(document, "R")?;
        let mut keys = Vec::new();
        while let Some(name) = xml.next_child()? {
            if name != "K" {
                return Err(S3Error::malformed_xml());
            }
            keys.push(xml.text(64)?);
        }
        xml.finish()?;
        Ok(keys)
    }

    #[test]
    fn texts_keep_white_space_and_references() {
        let document = "\u{feff}<?xml version='1.0'?><!-- c --><R xmlns='x'>\n <K> a&amp;&#x1;&#10;</K>\
                        <K/><s:K xmlns:s='y'><![CDATA[<&>]]></s:K></R>\n";
        assert_eq!(
            keys(document.as_bytes()),
            Ok(vec![" a&\u{1}\n".into(), String::new(), "<&>".into()])
        );
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = format!("<R>{}", "<K>".repeat(100_000));
        let long = format!("<R><K>{}</K></R>", "x".repeat(65));
        for document in [
            "",
            "   ",
            "<R>",
            "<R></Q>",
            "<Q></Q>",
            "<R/><R/>",
            "<R/>x",
            "<R>x</R>",
            "<R><K><K/></K></R>",
            "<R><K>&e;</K></R>",
            "<R><K>&#xD800;</K></R>",
            "<R><K>&#x110000;</K></R>",
            "<R><K>&#-1;</K></R>",
            "<R><K>& </K></R>",
            "<!DOCTYPE R [<!ENTITY e 'x'>]><R><K>&e;</K></R>",
            "<!DOCTYPE R SYSTEM 'file:///etc/passwd'><R/>",
            "<?xml-stylesheet href='x'?><R/>",
            "<R><?php x?></R>",
            deep.as_str(),
            long.as_str(),
        ] {
            let refused = keys(document.as_bytes()).err().map(|e| e.code());
            assert_eq!(
                refused,
                Some(ErrorCode::MalformedXML),
                "{}",
                &document[..document.len().min(60)]
            );
        }
        assert!(keys(b"<R><K>\xff</K></R>").is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_the_reader_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = keys(&bytes);
        }

        #[test]
        fn near_documents_do_not_panic(text in "[<>/&;#xRK!\\[\\]?'\" -]{0,60}") {
            let _ = keys(format!("<R>{text}</R>").as_bytes());
            let _ = keys(text.as_bytes());
        }

        #[test]
        fn what_the_writer_writes_is_read_back(key in proptest::arbitrary::any::<String>()) {
            let mut xml = super::super::XmlWriter::new();
            xml.root("R");
            xml.text("K", &key);
            xml.close("R");
            if key.len() <= 64 {
                proptest::prop_assert_eq!(keys(xml.finish().as_bytes()), Ok(vec![key]));
            }
        }
    }
}
