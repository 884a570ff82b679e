//! Keys explained: what each means, whose it is, when a change is in use, and where it is written.

use std::path::Path;

use daemon_kit::configuration;
use serde_json::{Value, json};
use settings::{Change, Explained, Scope};

use crate::command::{Failure, Outcome, say, show};
use crate::exit::Exit;
use crate::output::{Format, Listing};

/// Explains a key, or every key below it. Works without a configuration, and with a faulty one: then nothing is written.
pub(crate) fn explain(file: &Path, format: Format, wanted: &str) -> Outcome {
    let sources = configuration::load(file).map(|loaded| loaded.sources).unwrap_or_default();
    let explained = settings::explain(&sources, wanted);
    if explained.is_empty() {
        return Err(Failure::not_found(format_args!(
            "there is no key '{wanted}'; switchctl config explain without a key lists all"
        )));
    }
    if format == Format::Table
        && let [key] = explained.as_slice()
    {
        return tell(key);
    }
    let columns = ["key", "form", "default", "scope", "change", "written", "meaning"];
    let mut listing = Listing::new("mailswitch.config.keys/1", &columns);
    for key in &explained {
        let written: Vec<Value> =
            key.written.iter().map(|w| json!({ "at": w.at, "key": w.key, "value": w.value })).collect();
        let written = match (format, key.written.first()) {
            (Format::Json | Format::Jsonl, _) => json!(written),
            (_, None) => Value::Null,
            (_, Some(first)) => json!(first.at),
        };
        listing.row(vec![
            json!(key.path),
            json!(key.form),
            json!(key.default),
            json!(scope(key.scope)),
            json!(change(key.change)),
            written,
            if format == Format::Table { json!(brief(key.meaning)) } else { json!(key.meaning) },
        ]);
    }
    show(format, &listing)
}

/// The first sentence.
fn brief(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first)
}

fn tell(key: &Explained) -> Outcome {
    say(format_args!("{} ({})\n  {}", key.path, key.form, key.meaning))?;
    say(format_args!("  default: {}", key.default))?;
    say(match key.scope {
        Scope::Node => "  scope:   node; it differs from node to node",
        Scope::Cluster => "  scope:   cluster; it is the same on every node",
    })?;
    say(match key.change {
        Change::Reload => "  change:  in use after a reload (SIGHUP)",
        Change::Restart => "  change:  in use after a restart",
    })?;
    for written in &key.written {
        say(format_args!("  written: {} at {}", written.value, written.at))?;
    }
    if key.written.is_empty() {
        say("  written: nowhere")?;
    }
    Ok(Exit::Ok)
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Node => "node",
        Scope::Cluster => "cluster",
    }
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Reload => "reload",
        Change::Restart => "restart",
    }
}
