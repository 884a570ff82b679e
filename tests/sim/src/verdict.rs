//! The books at the end of a story: what the clients and the next hop know, against what lies on the disk.

use std::sync::Arc;

use mail_model::QueueId;
use queue_store::inspect::{Depth, inspect_on};

use crate::scheduler::NARRATOR;
use crate::site::Site;

/// A cache that nobody had: what it sees is on the disk.
const FRESH_CACHE: usize = 99;

/// Notes everything that must not be, and returns how many attempts are in doubt.
pub(crate) fn judge(site: &Site, wrong: &mut Vec<String>) -> u64 {
    wrong.extend(site.disk.wrong());
    wrong.extend(site.ledger.wrong());
    for (name, recipient) in site.ledger.missing() {
        wrong.push(format!("LOST: {name:?} recipient {recipient} was acknowledged and never delivered"));
    }
    let mut doubts = Vec::new();
    let mut in_doubt = 0;
    for queue in site.queues() {
        let mount = site.disk.mount(NARRATOR, FRESH_CACHE, FRESH_CACHE);
        let seen = match inspect_on(Arc::new(mount), &Site::dir(&queue), "sim", &queue, Depth::Everything) {
            Ok(seen) => seen.replay,
            Err(error) => {
                wrong.push(format!("queue {queue} cannot be read: {error}"));
                continue;
            }
        };
        wrong.extend(seen.faults.iter().map(|fault| format!("queue {queue}: {fault}")));
        wrong.extend(seen.books.anomalies().iter().map(|what| format!("queue {queue}: {what}")));
        let balance = seen.books.balance();
        if !balance.holds || balance.queued > 0 {
            wrong.push(format!("queue {queue}: the books do not close: {balance:?}"));
        }
        compare(site, &queue, balance.totals.accepted, wrong);
        in_doubt += balance.totals.in_doubt;
        doubts.extend(seen.books.doubts().map(|doubt| (queue.clone(), doubt.clone())));
    }
    for ((name, recipient), more) in site.ledger.duplicates() {
        let named = doubts.iter().filter(|(queue, doubt)| {
            *queue == name.0 && doubt.message == name.1 && doubt.recipients.contains(&recipient)
        });
        let named = named.count();
        if named < usize::try_from(more).unwrap() {
            wrong.push(format!("{name:?} recipient {recipient}: {more} duplicates, {named} named doubts"));
        }
    }
    in_doubt
}

fn compare(site: &Site, queue: &QueueId, accepted: u64, wrong: &mut Vec<String>) {
    let (acknowledged, _) = site.ledger.of_queue(queue);
    if accepted < acknowledged {
        wrong.push(format!("queue {queue}: {acknowledged} recipients acknowledged, {accepted} in the books"));
    }
}
