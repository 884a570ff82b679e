//! Every event of the log is in `docs/LOGS.md`, once, and every event there exists.
//!
//! An event is written `tracing::info!(event = "takeover.started", …)`; its row begins with its name in backquotes.

use std::collections::BTreeMap;

use crate::house::source::line_of;
use crate::house::tree::Tree;

/// The list of events.
const LIST: &str = "docs/LOGS.md";

/// How an event is named in the code.
const MARK: &str = "event = \"";

/// Events that are not listed, rows without an event, and events with two rows.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let mut listed = BTreeMap::new();
    for (name, line) in rows(tree) {
        if let Some(first) = listed.get(&name) {
            faults.push(format!("{LIST}:{line}: the event {name} has a row already, in line {first}"));
        } else {
            listed.insert(name, line);
        }
    }
    let spoken = spoken(tree);
    for (name, place) in spoken.iter().filter(|(name, _)| !listed.contains_key(*name)) {
        faults.push(format!("{place}: the event {name} has no row in {LIST}"));
    }
    for (name, line) in listed.iter().filter(|(name, _)| !spoken.contains_key(*name)) {
        faults.push(format!("{LIST}:{line}: nothing logs the event {name}"));
    }
    for (name, place) in spoken.iter().filter(|(name, _)| !well_formed(name)) {
        faults.push(format!("{place}: the event '{name}' is not named noun.what_happened in small letters"));
    }
    faults
}

/// The rows of the list: name and line.
fn rows(tree: &Tree) -> Vec<(String, usize)> {
    let list = tree.texts.iter().find(|text| text.path == LIST);
    let rows = list.map(|list| list.text.lines().enumerate()).into_iter().flatten();
    rows.filter_map(|(index, line)| {
        let name = line.strip_prefix("| `")?.split_once('`')?.0;
        Some((name.to_owned(), index + 1))
    })
    .collect()
}

/// The events of the product: name and first place.
fn spoken(tree: &Tree) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for source in
        tree.packages.iter().filter(|package| package.name != "tests").flat_map(|package| &package.sources)
    {
        let (_, text) = source.product();
        for (at, _) in text.match_indices(MARK) {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let name = text.get(at + MARK.len()..).and_then(|rest| rest.split('"').next());
            if let Some(name) = name.filter(|_| !before.is_some_and(|c| c.is_alphanumeric() || c == '_')) {
                let place = format!("{}:{}", source.path, line_of(&text, at));
                found.entry(name.to_owned()).or_insert(place);
            }
        }
    }
    found
}

fn well_formed(name: &str) -> bool {
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    name.split('.').count() >= 2 && name.split('.').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::tree::{Text, example_sources};

    fn found(code: &str, list: &str) -> usize {
        let mut tree = example_sources(true, &[("src/lib.rs", code)]);
        tree.texts.push(Text { path: LIST.to_owned(), text: list.to_owned() });
        check(&tree).len()
    }

    #[test]
    fn an_event_and_its_row_belong_together() {
        let code = "fn f() { tracing::info!(event = \"a.b\", x = 1); }";
        assert_eq!(found(code, "| event | when |\n|---|---|\n| `a.b` | x | always |\n"), 0);
        assert_eq!(found(code, "the event `a.b`"), 1);
        assert_eq!(found(code, "| `a.b` | x |\n| `a.c` | x |"), 1);
        assert_eq!(found(code, "| `a.b` | x |\n| `a.b` | y |"), 1);
        assert_eq!(found("", "| `a.b` |"), 1);
        assert_eq!(found("", ""), 0);
    }

    #[test]
    fn an_event_of_a_test_or_a_comment_is_none_and_names_have_a_form() {
        let quiet = "// event = \"a.b\"\nlet my_event = \"c.d\"; #[cfg(test)] mod tests { fn f() { info!(event = \"e.f\") } }";
        assert_eq!(found(quiet, ""), 0);
        assert_eq!(found("info!(event = \"Started\")", "| `Started` |"), 1);
    }
}
