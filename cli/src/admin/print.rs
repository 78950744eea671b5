//! Answers as JSON for programs and as tables for people.

use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;

/// A table of text.
#[derive(Debug, Default)]
pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Prints `value` as JSON on standard output.
pub fn json(value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    print(&format!("{text}\n"))
}

/// Prints `table` on standard output.
pub fn text(table: &Table) -> anyhow::Result<()> {
    print(&table.to_text())
}

fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

impl Table {
    /// A row per entry of the list `value`, a column per (head, JSON pointer). A `*` in a pointer stands for
    /// every entry of a list.
    pub fn rows(value: &Value, columns: &[(&str, &str)]) -> Self {
        let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
        let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let row = |entry: &Value| columns.iter().map(|(_, at)| cell_at(entry, at)).collect();
        Self {
            heads,
            rows: entries.iter().map(row).collect(),
        }
    }

    /// A line per field of the object `value`; fields of objects in it are named `outer.inner`.
    pub fn facts(value: &Value) -> Self {
        let mut rows = Vec::new();
        facts_of("", value, &mut rows);
        Self {
            heads: Vec::new(),
            rows,
        }
    }

    /// `fat show`: a row per copy of each chunk.
    pub fn object(value: &Value) -> Self {
        let heads = [
            "CHUNK", "OFFSET", "BYTES", "VENDOR", "LEASE", "PIECES", "SCORE", "STATE",
        ];
        let heads = heads.map(str::to_owned).to_vec();
        let mut rows = Vec::new();
        if value.get("inline").and_then(Value::as_bool) == Some(true) {
            let bytes = cell(value.get("length"));
            rows.push(vec!["in the FAT itself".to_owned(), "0".to_owned(), bytes]);
        }
        for chunk in list(value, "chunks") {
            for copy in list(chunk, "copies") {
                let of_chunk = ["chunk", "offset", "length"].map(|field| cell(chunk.get(field)));
                let of_copy =
                    ["vendor", "lease", "pieces", "score", "state"].map(|field| cell(copy.get(field)));
                rows.push(of_chunk.into_iter().chain(of_copy).collect());
            }
        }
        Self { heads, rows }
    }

    fn to_text(&self) -> String {
        let columns = self
            .rows
            .iter()
            .map(Vec::len)
            .chain([self.heads.len()])
            .max()
            .unwrap_or(0);
        let width = |column: usize| {
            let cells = self
                .rows
                .iter()
                .chain([&self.heads])
                .filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in std::iter::once(&self.heads)
            .filter(|heads| !heads.is_empty())
            .chain(&self.rows)
        {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn facts_of(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    let Some(fields) = value.as_object() else {
        rows.push(vec![prefix.to_owned(), cell(Some(value))]);
        return;
    };
    for (name, value) in fields {
        let name = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        facts_of(&name, value, rows);
    }
}

fn cell_at(entry: &Value, at: &str) -> String {
    let Some((list, rest)) = at.split_once("/*") else {
        return cell(entry.pointer(at));
    };
    let entries = entry
        .pointer(list)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let entries: Vec<String> = entries.iter().map(|entry| cell_at(entry, rest)).collect();
    entries.join(", ")
}

/// One value as people read it. Lists become their entries, separated by commas; objects their values.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.escape_debug().to_string(),
        Some(Value::Array(entries)) => {
            let entries: Vec<String> = entries.iter().map(|entry| cell(Some(entry))).collect();
            entries.join(", ")
        }
        Some(Value::Object(fields)) => {
            let fields: Vec<String> = fields.values().map(|value| cell(Some(value))).collect();
            fields.join(":")
        }
        Some(Value::Number(number)) if number.is_f64() => number.as_f64().map_or_else(String::new, real),
        Some(other) => other.to_string(),
    }
}

/// What was measured, no finer than it matters.
fn real(number: f64) -> String {
    if number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::Table;
    use serde_json::json;

    #[test]
    fn tables_are_aligned_and_control_characters_do_not_reach_the_terminal() {
        let value = json!([{"a": "x", "b": {"c": 1}, "d": [{"e": 7}, {"e": 8}]}, {"a": "long\u{1b}[31m", "b": {"c": 22}}]);
        let listed = Table::rows(&value, &[("E", "/d/*/e")]).to_text();
        assert!(listed.contains("7, 8"), "{listed}");
        let text = Table::rows(&value, &[("A", "/a"), ("C", "/b/c")]).to_text();
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains('\u{1b}'));
        let columns: Vec<usize> = text.lines().map(|line| line.rfind("  ").unwrap_or(0)).collect();
        assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }
}
