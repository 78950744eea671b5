//! JSON as policies need it: fields in their order, a field that stands twice is an error (two readers would
//! understand it differently), numbers as they were written.

use super::{PolicyError, Result};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// # Errors
    /// When the text is not JSON, nests too deep, or has a field twice.
    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|error| PolicyError::new(format!("Policies must be valid JSON: {error}.")))
    }

    /// What kind of value it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// # Errors
    /// Unless it is a string.
    pub(super) fn text(&self, element: &str) -> Result<&str> {
        match self {
            Self::Text(text) => Ok(text),
            other => Err(PolicyError::new(format!(
                "{element} must be a string, not {}.",
                other.kind()
            ))),
        }
    }

    /// # Errors
    /// Unless it is an object.
    pub(super) fn fields(&self, element: &str) -> Result<&[(String, Json)]> {
        match self {
            Self::Object(fields) => Ok(fields),
            other => Err(PolicyError::new(format!(
                "{element} must be an object, not {}.",
                other.kind()
            ))),
        }
    }

    /// A list's values; any other value as the only one.
    pub(super) fn one_or_more(&self) -> &[Json] {
        match self {
            Self::List(values) => values,
            value => std::slice::from_ref(value),
        }
    }

    /// A string, or a list of them with at least one.
    ///
    /// # Errors
    /// For anything else.
    pub(super) fn texts(&self, element: &str) -> Result<Vec<&str>> {
        let values = self.one_or_more();
        if values.is_empty() {
            return Err(PolicyError::new(format!("{element} must not be empty.")));
        }
        values.iter().map(|value| value.text(element)).collect()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Json, E> {
        Ok(Json::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Json, A::Error> {
        let mut fields: Vec<(String, Json)> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        while let Some((name, value)) = access.next_entry::<String, Json>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the field {name:?} stands twice")));
            }
            fields.push((name, value));
        }
        Ok(Json::Object(fields))
    }
}
