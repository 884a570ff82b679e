//! Messages, one by one.

use std::io::{self, Write};

use daemon_kit::SystemClock;
use mail_model::{Clock, MessageId};
use serde_json::json;

use super::reading::{Found, chosen, find, gone, readable};
use super::words::{envelope, state_word, uniform, waiting};
use crate::command::{Context, Failure, Outcome, say};
use crate::exit::Exit;
use crate::filter::Filter;
use crate::output::{Format, Listing, time};

/// Every message that the filter means, oldest first.
pub(crate) fn list(context: &Context, filter: Filter<'_>) -> Outcome {
    let mut listing = Listing::new(
        "mailswitch.queue.list/1",
        &["id", "received", "size", "sender", "recipients", "state", "attempts", "due", "last_reply"],
    );
    let now = SystemClock.wall();
    for (queue, seen) in readable(context, filter, &mut listing) {
        for Found { id, envelope, message } in chosen(&queue, &seen, filter, now)? {
            let live = || message.standings.iter().filter(|s| !s.state.is_final());
            let states: Vec<&str> = live().map(|s| state_word(s.state)).collect();
            listing.row(vec![
                json!(id),
                time(message.received),
                json!(message.size),
                json!(format!("<{}>", envelope.reverse_path)),
                json!(waiting(&envelope, &message)),
                json!(uniform(&states)),
                json!(live().map(|s| s.attempts).max()),
                live().map(|s| s.due).min().map_or(json!(null), time),
                json!(live().find_map(|s| s.last_reply.as_ref()).map(ToString::to_string)),
            ]);
        }
    }
    context.show(&listing)
}

/// One message with every recipient's standing.
pub(crate) fn show(context: &Context, wanted: &MessageId) -> Outcome {
    let (seen, key) = find(context, wanted)?;
    let Some(message) = seen.replay.books.message(key) else { return Err(gone(wanted)) };
    let envelope = envelope(&message)?;
    let mut listing =
        Listing::new("mailswitch.queue.show/1", &["recipient", "state", "attempts", "due", "last_reply"]);
    for (recipient, standing) in envelope.recipients.iter().zip(&message.standings) {
        listing.row(vec![
            json!(recipient.address.to_string()),
            json!(state_word(standing.state)),
            json!(standing.attempts),
            time(standing.due),
            json!(standing.last_reply.as_ref().map(ToString::to_string)),
        ]);
    }
    listing.with(
        "message",
        json!({
            "id": wanted, "sender": format!("<{}>", envelope.reverse_path), "size": message.size,
            "received": time(message.received)
        }),
    );
    if context.format == Format::Table {
        say(format_args!("{wanted}  from <{}>  {} bytes", envelope.reverse_path, message.size))?;
    }
    context.show(&listing)
}

/// One message's content.
pub(crate) fn cat(context: &Context, wanted: &MessageId) -> Outcome {
    let (seen, key) = find(context, wanted)?;
    let mut pieces = seen.content(key).ok_or_else(|| gone(wanted))?;
    let mut out = io::stdout().lock();
    while let Some(piece) = pieces.next_piece() {
        let piece = piece.map_err(Failure::failed)?;
        match out.write_all(&piece) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Ok),
            written => written?,
        }
    }
    Ok(Exit::Ok)
}
