//! Where an address goes, and why.

use mail_model::Mailbox;
use routing::recipient;

use crate::command::{Context, Failure, Outcome, say};
use crate::exit::Exit;

/// Explains the route of `address`.
pub(crate) fn test(context: &Context, address: &str) -> Outcome {
    let mailbox = Mailbox::parse_stored(address)
        .map_err(|error| Failure::new(Exit::Usage, format_args!("'{address}' is not an address: {error}")))?;
    let settings = &context.settings;
    for fault in &context.table_faults {
        say(format_args!("table not to be had: {fault}"))?;
    }
    for line in recipient::explain(&settings.relay, &settings.tables, &settings.routes, &mailbox) {
        say(line)?;
    }
    let addresses = recipient::follow(&settings.tables, &mailbox)
        .map_err(|error| Failure::new(Exit::Failed, format_args!("{mailbox} goes nowhere: {error}")))?;
    for address in addresses {
        if settings.routes.find(&address).is_none() {
            return Err(Failure::not_found(format_args!(
                "no route matches {address}; add one with match: \"*\""
            )));
        }
    }
    Ok(Exit::Ok)
}
