//! Answers whose head is sent before their document is known: a declaration, whitespace, and the document without its
//! declaration. Before the root element XML allows whitespace, but not before the declaration.

use bytes::Bytes;

use super::super::xml::DECLARATION;
use super::Reply;
use super::object::ENCRYPTION;

/// What such a document begins with.
pub const LATE_DOCUMENT: &str = DECLARATION;
/// What is sent while it is not known.
pub const STILL_AT_IT: &str = " ";

impl Reply {
    /// The head: that of a success, but for the headers that only the outcome tells (the new version's id).
    pub fn late() -> Self {
        let mut reply = Self::xml(String::new());
        reply.headers.insert(ENCRYPTION.0, ENCRYPTION.1);
        reply
    }

    /// What follows, now that the outcome is known; of an error its document, whatever the head said.
    pub fn into_late_rest(self) -> Bytes {
        match self.body.strip_prefix(DECLARATION.as_bytes()) {
            Some(document) => self.body.slice_ref(document),
            None => self.body,
        }
    }
}
