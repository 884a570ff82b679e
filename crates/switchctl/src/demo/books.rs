//! The closed books of a scene: what clients were promised and what the sink got, by their own records, and beside them
//! what the queues on disk say of doubts and of what is left.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use mail_model::{Epoch, MessageId, QueueId};
use queue_store::inspect::{Depth, inspect};
use rig::{Balance, Delivery, Duplicate, Probe, Sink, Unexpected};
use serde::Serialize;

use super::site::CLUSTER;

/// What one queue's own ledger says.
#[derive(Debug, Clone, Serialize)]
pub struct QueueLedger {
    /// The queue.
    pub queue: QueueId,
    /// Its sums, and whether they balance.
    pub balance: queue_format::books::Balance,
    /// Attempts begun that never ended, now.
    pub open_attempts: usize,
    /// What is not as it was written.
    pub faults: Vec<String>,
    /// Frames of fenced owners behind their seals: never mail.
    pub late_frames: u64,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Books {
    /// 250 replies seen by clients.
    pub accepted: u64,
    /// 5yz replies seen by clients.
    pub refused: u64,
    /// Different messages at the sink.
    pub delivered: u64,
    /// Messages with a 250 that are not at the sink, or not as the copy that was promised.
    pub lost: Vec<String>,
    /// Messages whose bytes differ.
    pub damaged: Vec<String>,
    /// Second deliveries of one message id.
    pub duplicates: u64,
    /// Which.
    pub duplicated: Vec<Duplicate>,
    /// Messages the client sent again because a crash swallowed the reply to a durable one.
    pub client_retries_delivered_twice: u64,
    /// Deliveries that nothing explains.
    pub unexpected: Vec<Unexpected>,
    /// Breaches of the protocol toward the sink.
    pub violations: Vec<String>,
    /// Recipients left in the queues.
    pub still_queued: u64,
    /// Attempts whose outcome nobody knows: each may have been delivered once more.
    pub in_doubt: u64,
    /// By queue.
    pub ledgers: Vec<QueueLedger>,
}

impl Books {
    /// Closes the books over the records of all `runs`, those of the sink, and the queues in `spool`. No owner may run.
    pub fn close(runs: &[(&str, Vec<Probe>)], sink: &Sink, spool: &Path, queues: &[QueueId]) -> Result<Self> {
        let mut books = Self::default();
        let mut by_run: BTreeMap<&str, Vec<Delivery>> = BTreeMap::new();
        for delivery in sink.deliveries() {
            let tag = delivery.probe.as_ref().map(|tag| tag.run.as_str());
            // What is nobody's goes to the first run, whose balance then says so.
            let run = runs.iter().find(|(run, _)| Some(*run) == tag).or(runs.first());
            if let Some((run, _)) = run {
                by_run.entry(run).or_default().push(delivery);
            }
        }
        for (run, probes) in runs {
            let deliveries = by_run.remove(run).unwrap_or_default();
            books.enter(run, Balance::close(run, probes, &deliveries));
        }
        books.violations = sink.violations().into_iter().map(|v| v.what.to_owned()).collect();
        for queue in queues {
            let ledger = read_ledger(&spool.join(queue.as_str()), queue)?;
            books.still_queued += ledger.balance.queued;
            books.in_doubt += ledger.balance.totals.in_doubt + ledger.open_attempts as u64;
            books.ledgers.push(ledger);
        }
        Ok(books)
    }

    fn enter(&mut self, run: &str, balance: Balance) {
        let named = |numbers: Vec<u64>| {
            numbers.into_iter().map(|number| format!("{run}-{number}")).collect::<Vec<_>>()
        };
        self.accepted += balance.accepted;
        self.refused += balance.refused;
        self.delivered += balance.delivered;
        self.lost.extend(named(balance.lost));
        self.lost.extend(named(balance.lost_copies));
        self.damaged.extend(named(balance.damaged));
        self.duplicates += balance.duplicates;
        self.duplicated.extend(balance.duplicated);
        self.client_retries_delivered_twice += balance.client_retries_delivered_twice;
        self.unexpected.extend(balance.unexpected);
    }

    /// Everything that must not be, in words. Empty: the books are closed.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut forbid = |found: bool, text: String| {
            if found {
                faults.push(text);
            }
        };
        forbid(!self.lost.is_empty(), format!("lost: {}", self.lost.join(" ")));
        forbid(!self.damaged.is_empty(), format!("damaged: {}", self.damaged.join(" ")));
        forbid(
            self.duplicates > self.in_doubt,
            format!(
                "{} duplicates, and only {} in doubt: {:?}",
                self.duplicates, self.in_doubt, self.duplicated
            ),
        );
        forbid(!self.unexpected.is_empty(), format!("nothing explains {:?}", self.unexpected));
        forbid(!self.violations.is_empty(), format!("breaches of SMTP: {:?}", self.violations));
        forbid(self.still_queued > 0, format!("{} still queued", self.still_queued));
        forbid(self.refused > 0, format!("{} refused", self.refused));
        for ledger in &self.ledgers {
            let queue = &ledger.queue;
            forbid(
                !ledger.balance.holds,
                format!("the ledger of queue {queue} does not balance: {:?}", ledger.balance),
            );
            forbid(!ledger.faults.is_empty(), format!("queue {queue}: {}", ledger.faults.join("; ")));
        }
        faults
    }
}

fn read_ledger(dir: &Path, queue: &QueueId) -> Result<QueueLedger> {
    let replay = match inspect(dir, CLUSTER, queue, Depth::Everything) {
        Ok(inspection) => inspection.replay,
        Err(error) => bail!("read queue {queue}: {error}"),
    };
    Ok(QueueLedger {
        queue: queue.clone(),
        balance: replay.books.balance(),
        open_attempts: replay.books.open_attempts().map(|doubt| doubt.recipients.len()).sum(),
        faults: replay.faults.iter().map(|fault| format!("{fault:?}")).collect(),
        late_frames: replay.late_frames,
    })
}

/// Whether a message was accepted into `queue` in `last` or before.
#[must_use]
pub fn is_of(id: Option<&str>, queue: &QueueId, last: Epoch) -> bool {
    let id = id.and_then(|id| id.parse::<MessageId>().ok());
    id.is_some_and(|id| id.queue == *queue && id.epoch <= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_lost_damaged_unexplained_or_left_is_a_fault() {
        let whole = Books { accepted: 9, delivered: 9, duplicates: 2, in_doubt: 2, ..Books::default() };
        assert_eq!(whole.faults(), Vec::<String>::new());
        let name = || vec!["run-7".to_owned()];
        for broken in [
            Books { lost: name(), ..whole.clone() },
            Books { damaged: name(), ..whole.clone() },
            Books { in_doubt: 1, ..whole.clone() },
            Books { violations: name(), ..whole.clone() },
            Books { still_queued: 1, ..whole.clone() },
            Books { refused: 1, ..whole.clone() },
        ] {
            assert_eq!(broken.faults().len(), 1, "{broken:?}");
        }
    }

    #[test]
    fn a_message_is_of_a_queue_up_to_an_epoch() {
        let b: QueueId = "b".parse().unwrap();
        for (id, wanted) in [("b-2-1f", true), ("b-3-1f", false), ("a-2-1f", false), ("?", false)] {
            assert_eq!(is_of(Some(id), &b, Epoch(2)), wanted, "{id}");
        }
        assert!(!is_of(None, &b, Epoch(2)));
    }
}
