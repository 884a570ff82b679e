//! The configuration as the programs read it.

mod apply;
mod keys;
mod rows;
mod schema;

use std::path::Path;

use daemon_kit::tables;
use routing::{NextHop, recipient};
use serde_json::json;
use settings::Settings;

use crate::command::{Context, Failure, Outcome, say};
use crate::exit::Exit;
use crate::output::Listing;

pub(crate) use self::apply::apply;
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
    if let Some(note) = of_the_postmaster(settings) {
        say(format_args!("note: {note}"))?;
    }
    Ok(Exit::Ok)
}

/// Mail for `<postmaster>` is taken from everybody (RFC 5321 4.5.1): whether it has somewhere to go.
fn of_the_postmaster(settings: &Settings) -> Option<String> {
    let home = &settings.bounces.postmaster;
    let remedy = "name who reads it: 'bounces: { postmaster: you@example.test }'";
    for address in recipient::follow(&settings.tables, home).ok()? {
        let Some(route) = settings.routes.find(&address) else {
            return Some(format!(
                "mail for the postmaster, {address}, matches no route and would wait; {remedy}"
            ));
        };
        let by_mx = route.target.next_hop().is_some_and(NextHop::is_mx);
        if by_mx && address.domain() == Some(&settings.node.hostname) {
            return Some(format!(
                "mail for the postmaster, {address}, comes back if DNS says that this switch is its mail host; {remedy}"
            ));
        }
    }
    None
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
