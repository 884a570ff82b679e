//! How answers are shown: a table for people, JSON, JSON lines or tab-separated values for programs.
//!
//! Every listing is one [`Listing`]: a schema name with a version, columns, rows, and which nodes or queues are missing.
//! A listing that lacks something says so in every format, and its exit code is 3.

use std::fmt::Display;
use std::io::{self, Write};

use mail_model::WallTime;
use serde_json::{Map, Value, json};

use crate::exit::Exit;

/// What `-o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One object with `schema`, `complete`, `missing`, `items`.
    Json,
    /// One object a row.
    Jsonl,
    /// One row a line, values separated by tabs, with a header line.
    Tsv,
    /// `queue list` only: one object a message, with the names of Postfix's `postqueue -j`.
    PostqueueJson,
}

/// What should be in a listing and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing {
    name: String,
    why: String,
}

/// An answer of rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listing {
    schema: &'static str,
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    missing: Vec<Missing>,
    /// More keys of the JSON object.
    more: Map<String, Value>,
}

impl Listing {
    /// An empty listing of these columns. `schema` is for example `mailswitch.queue.list/1`.
    pub(crate) fn new(schema: &'static str, columns: &[impl AsRef<str>]) -> Self {
        let columns = columns.iter().map(|column| column.as_ref().to_owned()).collect();
        Self { schema, columns, rows: Vec::new(), missing: Vec::new(), more: Map::new() }
    }

    /// Adds a row: one value for each column.
    pub(crate) fn row(&mut self, values: Vec<Value>) {
        debug_assert_eq!(values.len(), self.columns.len());
        self.rows.push(values);
    }

    /// Says that `name` should be in the listing and is not, and why.
    pub(crate) fn lacks(&mut self, name: impl Into<String>, why: &impl Display) {
        self.missing.push(Missing { name: name.into(), why: why.to_string() });
    }

    /// Adds a key to the JSON object. The other formats show rows alone.
    pub(crate) fn with(&mut self, key: &str, value: Value) {
        self.more.insert(key.to_owned(), value);
    }

    /// True if there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A line for people about each thing that is missing.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.missing.iter().map(|missing| {
            format!("warning: '{}' is missing: {}; this listing is not complete", missing.name, missing.why)
        })
    }

    /// Writes the listing and says how the command ends: ok, or partial if something is missing. The warnings are in
    /// the table alone: who asked for rows gets rows.
    pub(crate) fn write(&self, format: Format, out: &mut impl Write) -> io::Result<Exit> {
        match format {
            Format::Table => self.write_table(out)?,
            Format::Json => {
                let names: Vec<&str> = self.missing.iter().map(|missing| missing.name.as_str()).collect();
                let complete = names.is_empty();
                let mut answer = json!({
                    "schema": self.schema, "complete": complete, "missing": names, "items": self.items()
                });
                if let Some(object) = answer.as_object_mut() {
                    object.extend(self.more.clone());
                }
                writeln!(out, "{answer}")?;
            }
            Format::Jsonl | Format::PostqueueJson => {
                for object in self.items() {
                    writeln!(out, "{object}")?;
                }
            }
            Format::Tsv => self.write_tsv(out)?,
        }
        Ok(if self.missing.is_empty() { Exit::Ok } else { Exit::Partial })
    }

    /// The rows as JSON objects.
    pub(crate) fn items(&self) -> Vec<Value> {
        let object = |row: &Vec<Value>| {
            let object: Map<String, Value> = self.columns.iter().cloned().zip(row.iter().cloned()).collect();
            Value::Object(object)
        };
        self.rows.iter().map(object).collect()
    }

    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(self.columns.iter().map(|c| c.to_uppercase()));
        for row in &self.rows {
            table.add_row(row.iter().map(plain));
        }
        for line in table.lines() {
            // Every cell has a space on each side; the first one's is of no use.
            writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(&line).trim_end())?;
        }
        for warning in self.warnings() {
            writeln!(out, "{warning}")?;
        }
        Ok(())
    }

    fn write_tsv(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.columns.join("\t"))?;
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|v| plain(v).replace(['\t', '\n', '\r'], " ")).collect();
            writeln!(out, "{}", cells.join("\t"))?;
        }
        Ok(())
    }
}

/// A value as a person reads it.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// A time in UTC, RFC 3339: for people and for programs alike.
pub(crate) fn time(wall: WallTime) -> Value {
    let milliseconds = i64::try_from(wall.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(milliseconds).map_or(Value::Null, |time| json!(time.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: Format) -> (String, Exit) {
        let mut listing = Listing::new("mailswitch.test/1", &["name", "count"]);
        listing.row(vec![json!("a\tb"), json!(2)]);
        listing.lacks("c", &"its disk is gone");
        let mut out = Vec::new();
        let exit = listing.write(format, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), exit)
    }

    #[test]
    fn an_incomplete_listing_says_so_in_words_and_by_its_exit_code() {
        let (text, exit) = shown(Format::Table);
        assert!(text.contains("'c' is missing: its disk is gone"), "{text}");
        assert_eq!(exit, Exit::Partial);
        let (text, _) = shown(Format::Json);
        assert_eq!(
            text.trim(),
            r#"{"complete":false,"items":[{"count":2,"name":"a\tb"}],"missing":["c"],"schema":"mailswitch.test/1"}"#
        );
    }

    #[test]
    fn a_tab_in_a_value_never_makes_a_column() {
        assert_eq!(shown(Format::Tsv).0, "name\tcount\na b\t2\n");
    }
}
