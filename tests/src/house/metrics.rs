//! Every metric is in `docs/METRICS.md`, every metric there exists, and alert rules and dashboards name no other.
//!
//! A metric is written as a whole word, `"mailswitch_queue_messages"`, that of a counter without its `_total`; its row
//! begins with its name in backquotes, then its kind.

use std::collections::BTreeMap;

use crate::house::source::line_of;
use crate::house::tree::Tree;

/// The list of metrics.
const LIST: &str = "docs/METRICS.md";

/// How each begins.
const PREFIX: &str = "mailswitch_";

/// Where queries are: rules, dashboards.
const QUERIES: [&str; 2] = ["ha-scripts/prometheus/", "ha-scripts/grafana/"];

/// Metrics that are not listed, rows without a metric, and queries for what does not exist.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let listed = listed(tree);
    let written = written(tree);
    let in_code = |name: &str, kind: &str| {
        let plain = if kind == "counter" { name.strip_suffix("_total") } else { Some(name) };
        plain.map(ToOwned::to_owned)
    };
    let wanted: BTreeMap<String, usize> = listed
        .iter()
        .filter_map(|(name, (kind, line))| in_code(name, kind).map(|plain| (plain, *line)))
        .collect();
    let mut faults = Vec::new();
    for (name, (_, line)) in listed.iter().filter(|(name, (kind, _))| in_code(name, kind).is_none()) {
        faults.push(format!("{LIST}:{line}: the counter {name} does not end with _total"));
    }
    for (name, place) in written.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        faults.push(format!("{place}: the metric {name} has no row in {LIST}"));
    }
    for (name, line) in wanted.iter().filter(|(name, _)| !written.contains_key(*name)) {
        faults.push(format!("{LIST}:{line}: nothing writes the metric {name}"));
    }
    for text in tree.texts.iter().filter(|text| QUERIES.iter().any(|folder| text.path.starts_with(folder))) {
        for (at, name) in words(&text.text) {
            let series = |ending: &&str| {
                name.strip_suffix(ending)
                    .is_some_and(|base| listed.get(base).is_some_and(|(kind, _)| kind == "histogram"))
            };
            if !listed.contains_key(name) && !["_bucket", "_sum", "_count"].iter().any(series) {
                let line = line_of(&text.text, at);
                faults.push(format!("{}:{line}: there is no metric {name}", text.path));
            }
        }
    }
    faults
}

/// The rows of the list: name, kind and line.
fn listed(tree: &Tree) -> BTreeMap<String, (String, usize)> {
    let Some(list) = tree.texts.iter().find(|text| text.path == LIST) else { return BTreeMap::new() };
    let rows = list.text.lines().enumerate();
    rows.filter_map(|(index, line)| {
        let (name, rest) = line.strip_prefix("| `")?.split_once('`')?;
        let kind = rest.split('|').nth(1)?.trim().to_owned();
        Some((name.to_owned(), (kind, index + 1)))
    })
    .collect()
}

/// The metrics of the product: name and first place.
fn written(tree: &Tree) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let product = tree.packages.iter().filter(|package| package.name != "tests");
    for source in product.flat_map(|package| &package.sources) {
        let (_, text) = source.product();
        for (at, name) in words(&text) {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = text.get(at + name.len()..).and_then(|text| text.chars().next());
            if before == Some('"') && after == Some('"') {
                let place = format!("{}:{}", source.path, line_of(&text, at));
                found.entry(name.to_owned()).or_insert(place);
            }
        }
    }
    found
}

/// Every word that begins as a metric does, and where.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices(PREFIX).filter_map(|(at, _)| {
        let rest = text.get(at..)?;
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
        Some((at, rest.get(..end.unwrap_or(rest.len()))?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::tree::{Text, example_sources};

    fn found(code: &str, list: &str, rules: &str) -> Vec<String> {
        let mut tree = example_sources(true, &[("src/lib.rs", code)]);
        for (path, text) in [(LIST, list), ("ha-scripts/prometheus/rules.yml", rules)] {
            tree.texts.push(Text { path: path.to_owned(), text: text.to_owned() });
        }
        check(&tree)
    }

    #[test]
    fn a_metric_its_row_and_its_queries_belong_together() {
        let code = "fn f() { page(\"mailswitch_a\"); register(\"mailswitch_b\", \"of mailswitch_x\"); }";
        let list = "| `mailswitch_a` | histogram | x |\n| `mailswitch_b_total` | counter | x |\n";
        let rules = "expr: rate(mailswitch_b_total[5m]) > mailswitch_a_bucket{le=\"1\"}";
        assert_eq!(found(code, list, rules), Vec::<String>::new());
        assert_eq!(found(code, "", "").len(), 2);
        assert_eq!(found("", list, "").len(), 2);
        assert_eq!(found(code, list, "mailswitch_b mailswitch_a_total").len(), 2);
        let wrong = list.replace("_total", "");
        assert_eq!(found(code, &wrong, "").len(), 2, "the row is wrong, and the metric has none");
    }
}
