//! XML in and out: a bounded reader that knows no entities, and a writer.
//! What the documents mean lives in [`super::request_xml`] and [`super::answer`].

mod reader;
mod writer;

pub use reader::XmlReader;
pub use writer::{DECLARATION, XmlWriter};
