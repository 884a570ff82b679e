//! Every byte of a queue read: what is not as it was written? Nothing is changed.

use std::path::Path;

use mail_model::QueueId;
use queue_store::inspect::{self, Depth, Inspection};
use serde_json::json;

use crate::command::{Context, Failure, Outcome, say, show as show_listing};
use crate::exit::Exit;
use crate::output::{Format, Listing};

/// Checks every queue of the configuration.
pub(crate) fn fsck_all(context: &Context) -> Outcome {
    let mut check = Check::new();
    for queue in context.queues() {
        check.queue(&queue, context.inspect(&queue, Depth::Everything));
    }
    check.end(context.format)
}

/// Checks the queue in one directory. Its lease says whose it is.
pub(crate) fn fsck_dir(format: Format, dir: &Path) -> Outcome {
    let lease = inspect::top_lease(dir).map_err(|error| {
        Failure::failed(format_args!("{}: {error}; is this a queue's directory?", dir.display()))
    })?;
    let Some((claim, _)) = lease else {
        return Err(Failure::not_found(format_args!(
            "{}: no queue was ever claimed here; name a directory like SPOOL/NODE",
            dir.display()
        )));
    };
    let mut check = Check::new();
    let seen = inspect::inspect(dir, &claim.cluster, &claim.queue, Depth::Everything);
    check.queue(&claim.queue, seen.map_err(|error| error.to_string()));
    check.end(format)
}

/// A check of queues, byte by byte.
struct Check {
    listing: Listing,
    faults: Vec<String>,
    sound: bool,
}

impl Check {
    fn new() -> Self {
        let columns = [
            "queue",
            "messages",
            "bytes",
            "faults",
            "late_frames",
            "leftovers",
            "orphans",
            "torn",
            "balances",
        ];
        Self { listing: Listing::new("mailswitch.queue.fsck/1", &columns), faults: Vec::new(), sound: true }
    }

    fn queue(&mut self, queue: &QueueId, seen: Result<Inspection, String>) {
        let replay = match seen {
            Ok(seen) => seen.replay,
            Err(error) => return self.listing.lacks(queue.to_string(), &error),
        };
        let balances = replay.books.balance().holds;
        self.sound &= replay.faults.is_empty() && balances;
        self.faults.extend(replay.faults.iter().map(|fault| format!("queue {queue}: {fault}")));
        self.listing.row(vec![
            json!(queue),
            json!(replay.books.len()),
            json!(replay.bytes),
            json!(replay.faults.len()),
            json!(replay.late_frames),
            json!(replay.leftovers.len()),
            json!(replay.orphans.len()),
            json!(replay.torn),
            json!(balances),
        ]);
    }

    fn end(mut self, format: Format) -> Outcome {
        self.listing.with("faults", json!(self.faults));
        let exit = show_listing(format, &self.listing)?;
        if format == Format::Table {
            for fault in &self.faults {
                say(format_args!("fault: {fault}"))?;
            }
            if !self.faults.is_empty() {
                say("nothing was changed; keep a copy of the directory: what is whole is still delivered")?;
            }
        }
        Ok(if self.sound { exit } else { Exit::Failed })
    }
}
