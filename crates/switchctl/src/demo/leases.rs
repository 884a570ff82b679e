//! Who owned which queue when: the leases, read from the disk every few milliseconds as any watcher may.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster::observe::LeaseView;
use mail_model::{Clock, Epoch, Moment, QueueId};
use queue_store::observe::read_lease;
use tokio::sync::watch;
use tokio::time::timeout;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A lease as it was when it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it was first read so.
    pub at: Moment,
    /// Whose.
    pub queue: QueueId,
    /// What it said.
    pub lease: LeaseView,
}

/// Every change so far, oldest first. Renewals that say nothing new are left out of the history, not of `latest`.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The changes.
    pub changes: Vec<Seen>,
    /// The newest reading of each queue.
    pub latest: Vec<Seen>,
}

impl History {
    /// The newest reading of a queue.
    #[must_use]
    pub fn of(&self, queue: &QueueId) -> Option<&LeaseView> {
        self.latest.iter().find(|seen| seen.queue == *queue).map(|seen| &seen.lease)
    }

    /// The first change of a queue that is as wanted.
    pub fn first(&self, queue: &QueueId, wanted: impl Fn(&LeaseView) -> bool) -> Option<&Seen> {
        self.changes.iter().find(|seen| seen.queue == *queue && wanted(&seen.lease))
    }

    /// The epochs of a queue, each once.
    #[must_use]
    pub fn epochs(&self, queue: &QueueId) -> Vec<Epoch> {
        let mut epochs: Vec<_> =
            self.changes.iter().filter(|seen| seen.queue == *queue).map(|seen| seen.lease.epoch).collect();
        epochs.dedup();
        epochs
    }

    fn note(&mut self, seen: Seen) {
        let news = |lease: &LeaseView| (lease.epoch, lease.state, lease.working, lease.queued == 0);
        let place = self.latest.iter_mut().find(|old| old.queue == seen.queue);
        if place.as_ref().is_none_or(|old| news(&old.lease) != news(&seen.lease)) {
            self.changes.push(seen.clone());
        }
        match place {
            Some(old) => *old = seen,
            None => self.latest.push(seen),
        }
    }
}

/// The thread that looks. It ends when this is dropped.
#[derive(Debug)]
pub struct Leases {
    history: watch::Receiver<History>,
    ended: Arc<AtomicBool>,
}

impl Leases {
    /// Starts to look at the queues below `spool`.
    pub fn watch(spool: &Path, queues: Vec<QueueId>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let (sender, history) = watch::channel(History::default());
        let ended = Arc::new(AtomicBool::new(false));
        let (spool, stop) = (spool.to_owned(), Arc::clone(&ended));
        std::thread::Builder::new().name("leases".to_owned()).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for queue in &queues {
                    // Unreadable is unknown: a queue that is not there yet, or one that is being claimed right now.
                    let Ok(Some(lease)) = read_lease(&spool.join(queue.as_str())) else { continue };
                    let seen = Seen { at: clock.now(), queue: queue.clone(), lease };
                    sender.send_if_modified(|history| {
                        let changed = history.of(queue) != Some(&seen.lease);
                        if changed {
                            history.note(seen);
                        }
                        changed
                    });
                }
                std::thread::sleep(LOOK_EVERY);
            }
        })?;
        Ok(Self { history, ended })
    }

    /// All of it until now.
    #[must_use]
    pub fn history(&self) -> History {
        self.history.borrow().clone()
    }

    /// The newest reading of a queue.
    pub fn of(&self, queue: &QueueId) -> Result<LeaseView> {
        self.history
            .borrow()
            .of(queue)
            .cloned()
            .with_context(|| format!("queue {queue} has no readable lease"))
    }

    /// For whoever shows it.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<History> {
        self.history.clone()
    }

    /// Waits until the newest reading of a queue is as wanted. `what` says it in words, for when it does not come to it.
    pub async fn wait_for(
        &self,
        queue: &QueueId,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&LeaseView) -> bool,
    ) -> Result<LeaseView> {
        let mut history = self.history.clone();
        let waiting = history.wait_for(|history| history.of(queue).is_some_and(&wanted));
        if let Ok(Ok(history)) = timeout(patience, waiting).await {
            return history.of(queue).cloned().context("a reading does not vanish");
        }
        match self.of(queue) {
            Ok(lease) => bail!("{what}: not within {} s; the lease says {lease:?}", patience.as_secs()),
            Err(error) => bail!("{what}: not within {} s; {error}", patience.as_secs()),
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
