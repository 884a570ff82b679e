//! The proof that nothing is lost: `accepted + generated = delivered + bounced + expired + deleted + queued`, for each
//! queue over all its epochs and owners, and in sum. Read from disk; nothing is touched.

use mail_model::MessageId;
use queue_format::books::Books;
use queue_format::record::{Doubt, Totals, decode_envelope};
use queue_store::inspect::Depth;
use serde_json::{Value, json};

use crate::command::{Context, Outcome, say};
use crate::exit::Exit;
use crate::output::{Format, Listing, time};

const COLUMNS: &[&str] = &[
    "queue",
    "messages",
    "accepted",
    "generated",
    "delivered",
    "bounced",
    "expired",
    "deleted",
    "queued",
    "in_doubt",
    "balances",
];

/// Verifies the books of every queue. Ends with 1 if one does not balance or is damaged, with 3 if one cannot be read.
pub(crate) fn verify(context: &Context) -> Outcome {
    let mut listing = Listing::new("mailswitch.ledger.verify/1", COLUMNS);
    let mut doubts = Listing::new(
        "mailswitch.ledger.doubts/1",
        &["message", "recipients", "next_hop", "started", "epoch", "attempt", "state"],
    );
    let mut faults: Vec<String> = Vec::new();
    let (mut sum, mut queued, mut holds) = (Totals::default(), 0, true);
    for queue in context.queues() {
        let replay = match context.inspect(&queue, Depth::Books) {
            Ok(seen) => seen.replay,
            Err(error) => {
                listing.lacks(queue.to_string(), &error);
                continue;
            }
        };
        let balance = replay.books.balance();
        let sound = balance.holds && replay.faults.is_empty();
        faults.extend(replay.faults.iter().map(|fault| format!("queue {queue}: {fault}")));
        holds &= sound;
        queued += balance.queued;
        add(&mut sum, &balance.totals);
        listing.row(line(queue.as_str(), &balance.totals, balance.queued, sound));
        for doubt in replay.books.doubts() {
            doubts.row(doubtful(&replay.books, doubt, "in_doubt"));
        }
        for doubt in replay.books.open_attempts() {
            doubts.row(doubtful(&replay.books, doubt, "open"));
        }
    }
    holds &= sum.queued() == Some(queued);
    listing.row(line("all", &sum, queued, holds));
    listing.with("in_doubt", json!(doubts.items()));
    listing.with("faults", json!(faults));
    let exit = context.show(&listing)?;
    if context.format == Format::Table {
        for fault in &faults {
            say(format_args!("fault: {fault}; run 'switchctl queue fsck'"))?;
        }
        if !doubts.is_empty() {
            say(
                "\nin doubt: each may have been delivered once more than is counted; 'open': under way, or in doubt if its owner died",
            )?;
            context.show(&doubts)?;
        }
        say(if holds { "the books balance" } else { "the books DO NOT balance" })?;
    }
    Ok(if holds { exit } else { Exit::Failed })
}

fn line(queue: &str, t: &Totals, queued: u64, balances: bool) -> Vec<Value> {
    vec![
        json!(queue),
        json!(t.messages),
        json!(t.accepted),
        json!(t.generated),
        json!(t.delivered),
        json!(t.bounced),
        json!(t.expired),
        json!(t.deleted),
        json!(queued),
        json!(t.in_doubt),
        json!(balances),
    ]
}

fn add(sum: &mut Totals, t: &Totals) {
    sum.messages += t.messages;
    sum.accepted += t.accepted;
    sum.generated += t.generated;
    sum.delivered += t.delivered;
    sum.bounced += t.bounced;
    sum.expired += t.expired;
    sum.deleted += t.deleted;
    sum.in_doubt += t.in_doubt;
}

fn doubtful(books: &Books, doubt: &Doubt, state: &str) -> Vec<Value> {
    let key = doubt.message;
    let id = MessageId { queue: books.queue().clone(), epoch: key.epoch, sequence: key.sequence };
    vec![
        json!(id),
        json!(recipients(books, doubt)),
        json!(doubt.next_hop),
        time(doubt.started),
        json!(doubt.epoch),
        json!(doubt.attempt),
        json!(state),
    ]
}

/// The addresses, as long as the message is in the queue; their positions after that.
fn recipients(books: &Books, doubt: &Doubt) -> Vec<String> {
    let envelope = books.message(doubt.message).and_then(|m| decode_envelope(&m.envelope).ok());
    let name = |index: &u16| {
        envelope
            .as_ref()
            .and_then(|e| e.recipients.get(usize::from(*index)))
            .map_or_else(|| format!("#{index}"), |r| r.address.to_string())
    };
    doubt.recipients.iter().map(name).collect()
}
