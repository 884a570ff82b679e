//! Reads the lease of one queue every P, on a thread of its own: a storage that hangs holds up nobody else.
//!
//! A reading says when it was made. One that hangs is not sent, and the node takes a silence for a failed read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::observe::LeaseView;
use daemon_kit::SystemClock;
use mail_model::{Clock, Moment, QueueId};
use queue_store::{inspect, observe};

/// Free bytes below which this node takes no further queue.
const ROOM_BYTES: u64 = 8 << 20;

/// What one look found.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) lease: Option<LeaseView>,
    pub(crate) io_p999_us: u32,
    /// No process of this machine runs the queue. Looked at for the own queue only.
    pub(crate) lock_free: bool,
    /// There is space for one more.
    pub(crate) room: bool,
}

/// One look.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) queue: QueueId,
    pub(crate) at: Moment,
    pub(crate) seen: Result<Seen, String>,
}

/// Asks for one look more, now.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    orders: Sender<()>,
}

impl Observer {
    /// Starts to read. The thread ends when the observer or the receiver of `readings` is gone.
    pub(crate) fn start(
        spool: &Path,
        queue: &QueueId,
        own: bool,
        interval: Duration,
        readings: impl Fn(Reading) -> bool + Send + 'static,
    ) -> Result<Self> {
        let (orders, inbox) = channel();
        let reader = Reader {
            dir: spool.join(queue.as_str()),
            spool: spool.to_owned(),
            queue: queue.clone(),
            own,
            interval,
        };
        std::thread::Builder::new()
            .name(format!("observe-{queue}"))
            .spawn(move || reader.run(&inbox, readings))
            .context("start an observer thread")?;
        Ok(Self { orders })
    }

    /// One look now, beside the regular ones.
    pub(crate) fn read_now(&self) {
        self.orders.send(()).ok();
    }
}

struct Reader {
    dir: PathBuf,
    spool: PathBuf,
    queue: QueueId,
    own: bool,
    interval: Duration,
}

impl Reader {
    fn run(&self, inbox: &Receiver<()>, readings: impl Fn(Reading) -> bool) {
        loop {
            let started = SystemClock.now();
            let seen = self.look().map_err(|error| error.to_string());
            if !readings(Reading { queue: self.queue.clone(), at: SystemClock.now(), seen }) {
                return;
            }
            let rest = (started + self.interval).since(SystemClock.now());
            match inbox.recv_timeout(rest) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&self) -> std::io::Result<Seen> {
        let top = inspect::top_lease(&self.dir)?;
        let io_p999_us =
            top.as_ref().and_then(|(_, renewal)| renewal.as_ref()).map_or(0, |renewal| renewal.io_p999_us);
        let lease = top.map(|(claim, renewal)| LeaseView {
            epoch: claim.epoch,
            owner: claim.owner,
            role: claim.role,
            seq: renewal.as_ref().map_or(0, |r| r.seq),
            state: renewal.as_ref().map(|r| r.state),
            working: renewal.as_ref().is_some_and(|r| r.working),
            window_ms: claim.window_ms,
            renew_ms: claim.renew_ms,
            queued: renewal.as_ref().map_or(0, |r| r.queued),
        });
        let lock_free = self.own && lease.is_some() && observe::lock_is_free(&self.dir)?;
        let stat = nix::sys::statvfs::statvfs(&self.spool)?;
        let room = stat.blocks_available().saturating_mul(stat.fragment_size()) >= ROOM_BYTES;
        Ok(Seen { lease, io_p999_us, lock_free, room })
    }
}

/// D3: writes and syncs a small file below the queues. `None` if that failed. Blocks as long as the storage does.
pub(crate) fn probe(spool: &Path, clock: &Arc<dyn Clock>) -> Option<Duration> {
    match observe::probe(spool, daemon_kit::instance_id(), clock.as_ref()) {
        Ok(took) => Some(took),
        Err(error) => {
            tracing::warn!(event = "probe.failed", spool = %spool.display(), %error);
            None
        }
    }
}
