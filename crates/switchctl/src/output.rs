//! How answers are shown: a table for people, JSON, JSON lines or tab-separated values for programs.
//!
//! Every listing is one [`Listing`]: a schema name with a version, columns, rows, and which nodes or queues are missing.
//! A listing that lacks something says so in every format, and its exit code is 3.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::exit::Exit;

/// What `-o` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One object with `schema`, `complete`, `missing`, `items`.
    Json,
    /// One object a row.
    Jsonl,
    /// One row a line, values separated by tabs, with a header line.
    Tsv,
}

/// An answer of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    schema: &'static str,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
    missing: Vec<String>,
}

impl Listing {
    /// An empty listing of these columns. `schema` is for example `mailswitch.queue.list/1`.
    #[must_use]
    pub fn new(schema: &'static str, columns: &[&'static str]) -> Self {
        Self { schema, columns: columns.to_vec(), rows: Vec::new(), missing: Vec::new() }
    }

    /// Adds a row: one value for each column.
    pub fn row(&mut self, values: Vec<Value>) {
        debug_assert_eq!(values.len(), self.columns.len());
        self.rows.push(values);
    }

    /// Says that `name` should be in the listing and is not.
    pub fn lacks(&mut self, name: impl Into<String>) {
        self.missing.push(name.into());
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes the listing and says how the command ends: ok, or partial if something is missing.
    pub fn write(&self, format: Format, out: &mut impl Write) -> io::Result<Exit> {
        match format {
            Format::Table => self.write_table(out)?,
            Format::Json => {
                let items: Vec<Value> = self.objects().collect();
                let complete = self.missing.is_empty();
                let answer =
                    json!({"schema": self.schema, "complete": complete, "missing": self.missing, "items": items});
                writeln!(out, "{answer}")?;
            }
            Format::Jsonl => {
                for object in self.objects() {
                    writeln!(out, "{object}")?;
                }
            }
            Format::Tsv => self.write_tsv(out)?,
        }
        Ok(if self.missing.is_empty() { Exit::Ok } else { Exit::Partial })
    }

    fn objects(&self) -> impl Iterator<Item = Value> + '_ {
        self.rows.iter().map(|row| {
            let object: Map<String, Value> =
                self.columns.iter().map(|c| (*c).to_owned()).zip(row.iter().cloned()).collect();
            Value::Object(object)
        })
    }

    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_header(self.columns.iter().map(|c| c.to_uppercase()));
        for row in &self.rows {
            table.add_row(row.iter().map(plain));
        }
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        for name in &self.missing {
            writeln!(out, "warning: '{name}' could not be read; this listing is not complete")?;
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
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: Format) -> (String, Exit) {
        let mut listing = Listing::new("mailswitch.test/1", &["name", "count"]);
        listing.row(vec![json!("a\tb"), json!(2)]);
        listing.lacks("c");
        let mut out = Vec::new();
        let exit = listing.write(format, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), exit)
    }

    #[test]
    fn an_incomplete_listing_says_so_in_words_and_by_its_exit_code() {
        let (text, exit) = shown(Format::Table);
        assert!(text.contains("'c' could not be read"), "{text}");
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
