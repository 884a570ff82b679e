//! Where an address goes, and why.

use mail_model::Mailbox;

use crate::command::{Context, Failure, Outcome, say};
use crate::exit::Exit;

/// Explains the route of `address`.
pub(crate) fn test(context: &Context, address: &str) -> Outcome {
    let mailbox = Mailbox::parse_stored(address)
        .map_err(|error| Failure::new(Exit::Usage, format_args!("'{address}' is not an address: {error}")))?;
    let routes = &context.settings.routes;
    for line in routes.explain(&mailbox) {
        say(line)?;
    }
    match routes.find(&mailbox) {
        Some(_) => Ok(Exit::Ok),
        None => {
            Err(Failure::not_found(format_args!("no route matches {mailbox}; add one with match: \"*\"")))
        }
    }
}
