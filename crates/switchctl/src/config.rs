//! The configuration as the programs read it.

mod keys;
mod rows;
mod schema;

use std::path::Path;

use daemon_kit::tables;
use serde_json::json;

use crate::command::{Context, Failure, Outcome, say};
use crate::exit::Exit;
use crate::output::Listing;

pub(crate) use self::keys::explain;
use self::rows::rows;
pub(crate) use self::schema::schema;

/// Says that the configuration is right: a wrong one never gets here.
pub(crate) fn check(context: &Context, file: &Path) -> Outcome {
    let settings = &context.settings;
    if !context.table_faults.is_empty() {
        return Err(Failure::new(Exit::Usage, tables::shown(&context.table_faults)));
    }
    let nodes = settings.cluster.nodes.len();
    say(format_args!(
        "{}: right (node {} of cluster {}, {nodes} node{})",
        file.display(),
        settings.node.id,
        settings.cluster.id,
        if nodes == 1 { "" } else { "s" },
    ))?;
    Ok(Exit::Ok)
}

/// Prints the configuration with every default filled in and every path made absolute.
pub(crate) fn show(context: &Context) -> Outcome {
    let mut listing = Listing::new("mailswitch.config.show/1", &["key", "value"]);
    for (key, value) in rows(&context.settings) {
        listing.row(vec![json!(key), json!(value)]);
    }
    context.show(&listing)
}

/// Where this configuration and another differ, every default filled in.
pub(crate) fn diff(context: &Context, other: &Path) -> Outcome {
    let other = Context::load(other, context.format, None)?;
    let (ours, theirs) = (rows(&context.settings), rows(&other.settings));
    let mut listing = Listing::new("mailswitch.config.diff/1", &["key", "this", "other"]);
    let value = |rows: &[(String, String)], key: &str| {
        rows.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    };
    for (key, this) in &ours {
        let that = value(&theirs, key);
        if that.as_ref() != Some(this) {
            listing.row(vec![json!(key), json!(this), json!(that)]);
        }
    }
    for (key, that) in theirs.iter().filter(|(key, _)| value(&ours, key).is_none()) {
        listing.row(vec![json!(key), json!(null), json!(that)]);
    }
    context.show(&listing)
}
