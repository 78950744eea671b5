//! Writes S3's documents: plain elements in a given order. Escaping differs
//! from quick-xml's in one point that S3 clients need: characters that XML
//! 1.0 cannot hold (a key may be any UTF-8) are written as `&#xN;`, as S3
//! does, so that such a key can be listed and deleted.

use std::fmt::Write as _;

/// S3's namespace, unchanged since 2006.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// What every document begins with.
pub const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// A document being written.
#[derive(Debug)]
pub struct XmlWriter {
    out: String,
}

impl Default for XmlWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl XmlWriter {
    /// Starts with the XML declaration.
    pub fn new() -> Self {
        Self::with_capacity(512)
    }

    /// Starts with the XML declaration and room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut out = String::with_capacity(bytes.max(64));
        out.push_str(DECLARATION);
        Self { out }
    }

    /// Opens the root element in S3's namespace.
    pub fn root(&mut self, name: &str) {
        let _ = write!(self.out, "<{name} xmlns=\"{NAMESPACE}\">");
    }

    /// Opens an element.
    pub fn open(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    /// Opens an element with attributes, which are written as they are.
    pub fn open_with(&mut self, name: &str, attributes: &str) {
        let _ = write!(self.out, "<{name} {attributes}>");
    }

    /// Closes an element.
    pub fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// One element with text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        escape_into(&mut self.out, text);
        self.close(name);
    }

    /// Text of the element that is open.
    pub fn content(&mut self, text: &str) {
        escape_into(&mut self.out, text);
    }

    /// One element with a number.
    pub fn number(&mut self, name: &str, number: u64) {
        let _ = write!(self.out, "<{name}>{number}</{name}>");
    }

    /// One element with `true` or `false`.
    pub fn boolean(&mut self, name: &str, value: bool) {
        let _ = write!(self.out, "<{name}>{value}</{name}>");
    }

    /// The document.
    pub fn finish(self) -> String {
        self.out
    }
}

fn escape_into(out: &mut String, text: &str) {
    let mut plain_from = 0;
    for (at, c) in text.char_indices() {
        let replacement = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            // Tab, line feed and all of XML's own characters but carriage
            // return, which a parser would turn into a line feed.
            '\t' | '\n' | ' '..='\u{fffd}' | '\u{10000}'.. => continue,
            _ => "",
        };
        out.push_str(&text[plain_from..at]);
        plain_from = at + c.len_utf8();
        if replacement.is_empty() {
            let _ = write!(out, "&#x{:X};", u32::from(c));
        } else {
            out.push_str(replacement);
        }
    }
    out.push_str(&text[plain_from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_hold_becomes_a_character_reference() {
        let mut xml = XmlWriter::new();
        xml.text("K", "a\u{0}\r\n\t\u{1f}é\u{fffe}\u{10ffff}<\"&'>");
        assert!(
            xml.finish()
                .ends_with("<K>a&#x0;&#xD;\n\t&#x1F;é&#xFFFE;\u{10ffff}&lt;&quot;&amp;'&gt;</K>")
        );
    }

    #[test]
    fn the_root_carries_the_namespace() {
        let mut xml = XmlWriter::default();
        xml.root("R");
        xml.number("N", 7);
        xml.boolean("B", false);
        xml.close("R");
        assert!(
            xml.finish()
                .contains("<R xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><N>7</N><B>false</B></R>")
        );
    }
}
