//! What the handle of an open queue, its owner thread and its renewal thread share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cluster::Timers;
use cluster::instance::{Order, State};
use mail_model::{BootId, Clock, InstanceId, Moment, NodeId, QueueId, Role};
use parking_lot::{Mutex, RwLock};
use queue_format::books::Books;
use tokio::sync::watch;

use crate::appender::AppendError;
use crate::files::QueueFiles;
use crate::journal::{Journal, Pulse};
use crate::metrics::{Course, Search};
use crate::proof::Proof;
use crate::threads::Threads;
use crate::trouble::Troubles;

/// What is needed to open a queue.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Its directory.
    pub dir: PathBuf,
    /// The cluster it belongs to.
    pub cluster: String,
    /// The queue.
    pub queue: QueueId,
    /// The node that opens it.
    pub owner: NodeId,
    /// This run of the program.
    pub instance: InstanceId,
    /// This boot of the machine.
    pub boot: BootId,
    /// At home or not.
    pub role: Role,
    /// For a secondary: what it was told.
    pub order: Option<Order>,
    /// The protocol's timers.
    pub timers: Timers,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// New mail is refused when less than this is free. A taker needs it on a full disk: a few segments, never nothing.
    pub free_space_reserve: u64,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For a device that one node mounts at a time: who says that this owner owns. The directory is looked at, and made, only
    /// once it does.
    pub proof: Option<Arc<dyn Proof>>,
}

/// Why a queue is not opened. Nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error("queue directory {dir}: {error}; make it a directory that this user may write")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A secondary drains what others wrote: it makes no queue.
    #[error(
        "queue directory {dir}: there is no queue '{queue}' here; mount the storage it lies on, or correct queue.dir"
    )]
    Absent {
        /// The directory.
        dir: PathBuf,
        /// The queue that should be there.
        queue: QueueId,
    },
    /// The file system refuses something that the protocol cannot do without.
    #[error(
        "queue directory {dir}: this file system refuses {what} ({error}); put queue.dir on ext4, XFS, NFSv4.1 or another file \
         system with hard links and fsync"
    )]
    Unfit {
        /// The directory.
        dir: PathBuf,
        /// What is refused.
        what: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another instance runs here.
    #[error("queue '{0}' is already run by another switch of this node; stop that one first")]
    Busy(QueueId),
    /// The lease is of another cluster, queue or version.
    #[error("queue directory {dir}: {what}")]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What the rest of the program tells the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Begin to give the queue up.
    Drain,
    /// No attempt runs any more.
    Drained,
    /// The journal ended.
    JournalEnded(AppendError),
    /// The renewer met a fence.
    Fenced,
    /// The renewer could not write or read.
    StorageFailed(String),
}

/// Everything the handle and the owner thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: QueueOptions,
    pub(crate) files: Arc<QueueFiles>,
    /// What a drill does to the storage; not there where it is no disk of this machine.
    pub(crate) troubles: Option<Arc<Troubles>>,
    pub(crate) threads: Threads,
    pub(crate) state: watch::Sender<State>,
    pub(crate) epoch: AtomicU64,
    /// Boot time ms of the last successful renewal, 0 before.
    pub(crate) renewed: AtomicU64,
    pub(crate) free_space: AtomicU64,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) course: Mutex<Course>,
    pub(crate) searched: Mutex<Option<Search>>,
    pub(crate) work: RwLock<Option<Work>>,
    pub(crate) commands: crossbeam::channel::Sender<Command>,
    pub(crate) sequence: AtomicU64,
    pub(crate) attempts: AtomicU64,
}

/// What exists while the queue is owned.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) journal: Journal,
    pub(crate) books: Arc<Mutex<Books>>,
}

impl Shared {
    /// How long the running commit has taken.
    pub(crate) fn busy_for(&self) -> Duration {
        match self.pulse.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.options.clock.now().since(Moment(since)),
        }
    }
}
