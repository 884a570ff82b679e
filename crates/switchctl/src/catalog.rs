//! What each event of the log means and what to do about it: the page of events, asked for one of them, or as the catalogue
//! from which `journalctl -x` explains entries.

use std::fmt::Write;

use daemon_kit::logging::message_id;
use serde_json::json;

use crate::command::{Failure, Outcome, put, render};
use crate::exit::Exit;
use crate::output::{Format, Listing};

const PAGE: &str = include_str!("../../../docs/LOGS.md");

/// A row of the page.
struct Row<'a> {
    event: &'a str,
    level: &'a str,
    fields: &'a str,
    text: &'a str,
}

/// Every row: the event in backquotes, its level, its fields, the text.
fn rows() -> impl Iterator<Item = Row<'static>> {
    PAGE.lines().filter_map(|line| {
        let row = line.strip_prefix("| `")?.trim_end().strip_suffix('|')?;
        let mut cells = row.splitn(4, '|').map(str::trim);
        let event = cells.next()?.strip_suffix('`')?;
        Some(Row { event, level: cells.next()?, fields: cells.next()?, text: cells.next()? })
    })
}

/// Tells of one event.
pub(crate) fn explain(event: &str, format: Format) -> Outcome {
    let Some(row) = rows().find(|row| row.event == event) else {
        let noun = event.split('.').next().unwrap_or_default();
        let near: Vec<&str> =
            rows().map(|row| row.event).filter(|name| name.split('.').next() == Some(noun)).collect();
        let near = if near.is_empty() { "the page LOGS.md lists them".to_owned() } else { near.join(", ") };
        return Err(Failure::new(Exit::NotFound, format_args!("no event is called '{event}'; {near}")));
    };
    if format == Format::Table {
        let text = format!(
            "{event} ({})\nfields: {}\nMESSAGE_ID={}\n\n{}\n",
            row.level,
            row.fields,
            message_id(event),
            row.text
        );
        put(text.as_bytes())?;
        return Ok(Exit::Ok);
    }
    let mut listing =
        Listing::new("mailswitch.log.event/1", &["event", "level", "fields", "message_id", "text"]);
    let fields: Vec<&str> = row.fields.split(", ").filter(|field| !field.is_empty()).collect();
    listing.row(vec![
        json!(row.event),
        json!(row.level),
        json!(fields),
        json!(message_id(event)),
        json!(row.text),
    ]);
    let mut page = Vec::new();
    let exit = render(format, &listing, &mut page)?;
    put(&page)?;
    Ok(exit)
}

/// Prints the catalogue, which lies in `/usr/lib/systemd/catalog`.
pub(crate) fn print() -> Outcome {
    let mut text = String::from("# Made by: switchctl log catalog\n");
    for row in rows() {
        let (id, event) = (message_id(row.event), row.event);
        // Writing to a string never fails.
        let _ = write!(
            text,
            "\n-- {id}\nSubject: {event}\nDefined-By: mailswitch\nDocumentation: man:switchctl-log(1)\n\n{}\n",
            row.text
        );
    }
    put(text.as_bytes())?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_event_has_a_text_and_a_number_of_its_own() {
        let all: Vec<Row<'_>> = rows().collect();
        let listed = PAGE.lines().filter(|line| line.starts_with("| `")).count();
        assert!(all.len() == listed && listed > 100, "{} of {listed}", all.len());
        let numbers: BTreeSet<String> = all.iter().map(|row| message_id(row.event)).collect();
        assert_eq!(numbers.len(), all.len());
        for row in all {
            assert!(!row.text.is_empty() && row.event.contains('.'), "{}", row.event);
        }
    }
}
