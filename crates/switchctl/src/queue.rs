//! The queues, read from disk with the code that recovery uses. Nothing is touched; an owner at work may be one commit
//! ahead.

mod adopt;
mod check;
mod export;
mod import;
mod job;
mod listing;
mod postfix;
mod postqueue;
mod reading;
mod summary;
mod words;

use queue_store::inspect;
use serde_json::json;

pub(crate) use self::adopt::adopt;
pub(crate) use self::check::{fsck_all, fsck_dir};
pub(crate) use self::export::export;
pub(crate) use self::import::import;
pub(crate) use self::listing::{cat, list, show};
pub(crate) use self::postfix::import_postfix;
pub(crate) use self::postqueue::{mailq, postqueue_json};
pub(crate) use self::summary::{By, summary};
pub(crate) use self::words::{envelope, state_word, uniform, waiting};
use crate::command::{Context, Outcome, unclaimed};
use crate::output::{Listing, time};

/// Who owns each queue.
pub(crate) fn owner(context: &Context) -> Outcome {
    let mut listing = Listing::new(
        "mailswitch.queue.owner/1",
        &["queue", "owner", "role", "epoch", "reason", "state", "claimed", "renewal"],
    );
    for queue in context.queues() {
        match inspect::top_lease(&context.queue_dir(&queue)) {
            Ok(Some((claim, renewal))) => listing.row(vec![
                json!(queue),
                json!(claim.owner),
                json!(claim.role),
                json!(claim.epoch),
                json!(claim.reason),
                json!(renewal.as_ref().map(|r| r.state)),
                time(claim.wall),
                json!(renewal.as_ref().map(|r| r.seq)),
            ]),
            Ok(None) => listing.lacks(queue.to_string(), &unclaimed(&context.queue_dir(&queue))),
            Err(error) => listing.lacks(queue.to_string(), &error),
        }
    }
    context.show(&listing)
}
