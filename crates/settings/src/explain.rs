//! What is said about keys: the reference page, and one key explained with where it is written.

use crate::keys::{Key, Unset, keys};
use crate::locate::{Aim, locate};
use crate::source::Source;
use crate::tree::{self, Node, Value};

/// Whose a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// It differs from node to node.
    Node,
    /// It is the same on every node: a survivor must treat a queue as its home node would.
    Cluster,
}

/// When a change of a key is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// After a reload.
    Reload,
    /// After a restart of the programs.
    Restart,
}

/// Where a key is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `FILE:LINE:COLUMN`.
    pub at: String,
    /// The key with the numbers of its list items.
    pub key: String,
    /// As it is written.
    pub value: String,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Its way from the top; `[]` stands for every item of a list.
    pub path: &'static str,
    /// What is written there.
    pub form: &'static str,
    /// What holds when it is not written.
    pub default: String,
    /// What it means.
    pub meaning: &'static str,
    /// Whose it is.
    pub scope: Scope,
    /// When a change is in use.
    pub change: Change,
    /// Where it is written; empty if it is not.
    pub written: Vec<Written>,
}

/// The key `wanted`, or every key below it, and where these files write it. `[0]` and `[]` are one. Empty if there is none.
#[must_use]
pub fn explain(sources: &[Source], wanted: &str) -> Vec<Explained> {
    let wanted = without_numbers(wanted);
    let is_meant = |path: &str| {
        let below = path.strip_prefix(wanted.as_str());
        wanted.is_empty() || below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    // Faults of the files are not told here.
    let tree = tree::read(sources, &mut Vec::new());
    let mut found = Vec::new();
    gather(&tree, String::new(), sources, &mut found);
    let explained = |key: &Key| Explained {
        path: key.path,
        form: key.form,
        default: default(key.default, ""),
        meaning: key.text,
        scope: scope(key.path),
        change: change(key.path),
        written: found.iter().filter(|w| without_numbers(&w.key) == key.path).cloned().collect(),
    };
    keys().filter(|key| is_meant(key.path)).map(explained).collect()
}

fn top(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or_default()
}

fn scope(path: &str) -> Scope {
    match top(path) {
        "node" | "listeners" | "health" | "agent" => Scope::Node,
        _ => Scope::Cluster,
    }
}

/// What a running program has opened stays open: see the switch's reload.
fn change(path: &str) -> Change {
    match top(path) {
        "cluster" | "node" | "queue" | "fence" | "listeners" | "health" | "agent" | "launcher" => {
            Change::Restart
        }
        _ => Change::Reload,
    }
}

/// `listeners[0].address` is `listeners[].address` in the table.
fn without_numbers(path: &str) -> String {
    let mut out = String::new();
    let mut within = false;
    for c in path.chars() {
        match c {
            '[' => within = true,
            ']' => within = false,
            _ if within => continue,
            _ => {}
        }
        out.push(c);
    }
    out
}

fn gather(node: &Node, path: String, sources: &[Source], found: &mut Vec<Written>) {
    let value = match &node.value {
        Value::Null | Value::Tagged => return,
        Value::Map(entries) => {
            for (name, child) in entries {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                gather(child, below, sources, found);
            }
            return;
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                gather(item, format!("{path}[{index}]"), sources, found);
            }
            return;
        }
        Value::Bool(value) => value.to_string(),
        Value::Number(value) | Value::Text(value) => value.clone(),
    };
    let Some(source) = sources.get(node.place.source) else { return };
    let (line, column) = locate(&source.text, &node.place.steps, Aim::Value);
    found.push(Written { at: format!("{}:{line}:{column}", source.path.display()), key: path, value });
}

fn default(unset: Unset, quote: &str) -> String {
    match unset {
        Unset::Required => "required".to_owned(),
        Unset::Value(value) => format!("{quote}{value}{quote}"),
        Unset::Words(words) => words.to_owned(),
    }
}

/// The reference page of all settings, in Markdown. `docs/SETTINGS.md` is this text.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    let mut section = "";
    for key in keys() {
        let top = key.path.split(['.', '[']).next().unwrap_or_default();
        if top != section {
            section = top;
            page.push_str("\n## ");
            page.push_str(section);
            page.push_str("\n\n| key | form | default | meaning |\n|---|---|---|---|\n");
        }
        let row =
            format!("| `{}` | {} | {} | {} |\n", key.path, key.form, default(key.default, "`"), key.text);
        page.push_str(&row);
    }
    page
}

const HEAD: &str = "\
# Settings

One file in YAML, `/etc/mailswitch/mailswitch.yaml`, for all programs; each takes `--config FILE`. Files `conf.d/*.yaml`
beside it are read after it, in the order of their names: maps are merged, everything else replaces what came before.

Unknown keys are refused. Durations and sizes have units (`300ms` `2s` `5m` `1h` `5d`; `64KiB` `10MiB` `1GiB`, or `kB` `MB`
`GB`). A relative path starts from the directory of the file that it stands in. Everything has a default, but for names and
addresses. A faulty configuration is refused as a whole, with every fault at once: `file:line:column: key: what is wrong, what to
do`. `switchctl config check` looks without starting anything.

The smallest file of a node that stands alone:

```yaml
cluster: { id: demo }
node: { id: a }
listeners: [ { address: 127.0.0.1:2525 } ]
relay: { trusted_networks: [ 127.0.0.1/32 ] }
routes: [ { match: \"*\", next_hop: \"10.0.0.1\" } ]
```

`[]` in a key stands for every item of a list. This page is made from the program's own table of keys, and a test keeps it so.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_settings_md_is_the_table_of_keys() {
        let page = reference();
        expect_test::expect_file!["../../../docs/SETTINGS.md"].assert_eq(&page);
    }

    #[test]
    fn a_key_is_explained_with_every_place_that_writes_it() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let sources = [
            source("/a.yaml", "retry: { first: 60s }\nlisteners:\n  - address: 127.0.0.1:25\n"),
            source("/conf.d/b.yaml", "retry:\n  first: 5m\n"),
        ];
        let explained = explain(&sources, "retry.first");
        let [first] = explained.as_slice() else { panic!("{explained:?}") };
        assert_eq!((first.scope, first.change), (Scope::Cluster, Change::Reload));
        let written: Vec<_> = first.written.iter().map(|w| (w.at.as_str(), w.value.as_str())).collect();
        assert_eq!(written, [("/conf.d/b.yaml:2:10", "5m")], "the later file wins");
        let listener = explain(&sources, "listeners[3].address");
        assert_eq!(listener.first().map(|key| key.change), Some(Change::Restart));
        assert_eq!(
            listener.first().and_then(|key| key.written.first()).map(|w| w.key.as_str()),
            Some("listeners[0].address")
        );
        assert!(explain(&sources, "retry").len() > 2 && explain(&sources, "retry.fir").is_empty());
    }
}
