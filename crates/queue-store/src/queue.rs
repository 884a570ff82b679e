//! A queue that is open: the handle every part of the switch holds, and the thread that took the ownership.
//!
//! [`Queue::open`] returns at once; the owner thread then runs the machine of `cluster::instance` and carries its actions
//! out. Until it says ACTIVE, and again once it says anything else, every effect is refused here.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cluster::Timers;
use cluster::instance::{Order, State};
use mail_model::{
    AttemptNumber, BootId, Clock, Epoch, InstanceId, MessageId, NodeId, QueueId, RecipientIndex, Role,
    WallTime,
};
use parking_lot::{Mutex, RwLock};
use queue_format::books::Books;
use queue_format::record::{
    AttemptRecord, ChunkRef, MessageKey, MessageRecord, OperateRecord, OutcomeRecord, Record,
};
use tokio::sync::watch;

use crate::appender::{AppendError, Draft};
use crate::content::ContentReader;
use crate::files::QueueFiles;
use crate::journal::{Journal, Pulse};
use crate::lock::Lock;
use crate::owner;
use crate::storage::{Disk, Storage};

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
    /// New mail is refused when less than this is free.
    pub free_space_reserve: u64,
    /// The clock.
    pub clock: Arc<dyn Clock>,
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

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not the owner, or not yet, or not any more.
    #[error("the queue is not active here ({})", .0.as_str())]
    NotActive(State),
    /// The own lease was not renewed in time: somebody may be taking over.
    #[error("the lease of this node is not fresh")]
    LeaseStale,
    /// Too little free space.
    #[error("not enough free space for more mail")]
    Full,
    /// The write failed.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What an operator wants to know of an open queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatus {
    /// The state of the instance.
    pub state: State,
    /// The epoch owned, 0 if none.
    pub epoch: Epoch,
    /// Live messages.
    pub messages: u64,
    /// Recipients not yet final.
    pub recipients: u64,
    /// Commits.
    pub batches: u64,
    /// Records committed.
    pub records: u64,
    /// Commit latency, µs.
    pub commit_p50_us: u32,
    /// Commit latency, µs.
    pub commit_p99_us: u32,
    /// Free bytes of the file system.
    pub free_bytes: u64,
}

/// Everything the handle and the owner thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: QueueOptions,
    pub(crate) files: Arc<QueueFiles>,
    pub(crate) state: watch::Sender<State>,
    pub(crate) epoch: AtomicU64,
    /// Boot time ms of the last successful renewal, 0 before.
    pub(crate) renewed: AtomicU64,
    pub(crate) free_space: AtomicU64,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) work: RwLock<Option<Work>>,
    pub(crate) commands: crossbeam::channel::Sender<owner::Command>,
    sequence: AtomicU64,
    attempts: AtomicU64,
}

/// What exists while the queue is owned.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) journal: Journal,
    pub(crate) books: Arc<Mutex<Books>>,
}

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Shared>);

impl Queue {
    /// Checks the directory and starts to take the ownership. Watch [`Self::state`] for the rest.
    pub fn open(options: QueueOptions) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(Disk), options)
    }

    /// Like [`Self::open`], on another storage than this machine's file systems: for tests.
    pub fn open_on(storage: Arc<dyn Storage>, options: QueueOptions) -> Result<Self, OpenError> {
        let files = Arc::new(QueueFiles::new(storage, &options.dir));
        let directory = |error| OpenError::Directory { dir: options.dir.clone(), error };
        files.make_dirs().map_err(directory)?;
        let lock = Lock::new(&options.dir);
        owner::inspect_lease(&files, &options, &lock)?;
        let (commands, inbox) = crossbeam::channel::bounded(8);
        let free = files.storage.free_space(&options.dir).map_err(directory)?;
        let shared = Arc::new(Shared {
            files,
            state: watch::Sender::new(State::Init),
            epoch: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            free_space: AtomicU64::new(free),
            pulse: Arc::default(),
            work: RwLock::new(None),
            commands,
            sequence: AtomicU64::new(1),
            attempts: AtomicU64::new(1),
            options,
        });
        owner::start(Arc::clone(&shared), lock, inbox).map_err(OpenError::Thread)?;
        Ok(Self(shared))
    }

    /// Where the instance stands, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// The queue.
    #[must_use]
    pub fn id(&self) -> &QueueId {
        &self.0.options.queue
    }

    /// The epoch owned, 0 if none.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.0.epoch.load(Ordering::Acquire))
    }

    /// A name for a message that is about to be accepted.
    #[must_use]
    pub fn next_key(&self) -> MessageKey {
        MessageKey { epoch: self.epoch(), sequence: self.0.sequence.fetch_add(1, Ordering::Relaxed) }
    }

    /// A message's name in full.
    #[must_use]
    pub fn message_id(&self, key: MessageKey) -> MessageId {
        MessageId { queue: self.id().clone(), epoch: key.epoch, sequence: key.sequence }
    }

    /// Whether a message of `size` bytes would be taken now. Touches no disk.
    pub fn admit(&self, size: u64) -> Result<(), Refusal> {
        self.may_act()?;
        let free = self.0.free_space.load(Ordering::Relaxed);
        if free < self.0.options.free_space_reserve.saturating_add(size) {
            Err(Refusal::Full)
        } else {
            Ok(())
        }
    }

    /// Whether this owner may still have effects: active, and its lease renewed within L. Touches no disk. To be asked
    /// right before a final dot.
    pub fn may_act(&self) -> Result<(), Refusal> {
        let state = *self.0.state.borrow();
        if !matches!(state, State::Active | State::Draining) {
            return Err(Refusal::NotActive(state));
        }
        let renewed = mail_model::Moment(self.0.renewed.load(Ordering::Acquire));
        if self.0.options.clock.now().since(renewed) > self.0.options.timers.own_limit {
            return Err(Refusal::LeaseStale);
        }
        Ok(())
    }

    fn work(&self) -> Result<Work, Refusal> {
        self.0.work.read().clone().ok_or_else(|| Refusal::NotActive(*self.0.state.borrow()))
    }

    /// Writes a piece of a large message. Durable only with the message that names it.
    pub async fn append_chunk(&self, key: MessageKey, piece: Bytes) -> Result<ChunkRef, Refusal> {
        let draft = Draft { record: Record::Chunk { message: key }, body: piece };
        Ok(self.work()?.journal.chunk(draft).await?)
    }

    /// Accepts a message. When this returns `Ok` it is on stable storage and this owner was not fenced: the client may be
    /// told so. A bounce is accepted the same way.
    pub async fn accept(&self, message: MessageRecord, body: Bytes) -> Result<(), Refusal> {
        Ok(self.work()?.journal.commit(Draft { record: Record::Message(message), body }).await?)
    }

    /// Notes that the client has its 250. Never waited for.
    pub fn replied(&self, key: MessageKey) {
        if let Ok(work) = self.work() {
            work.journal.replied(key);
        }
    }

    /// Makes it durable that a delivery is about to begin. Only when this returns `Ok` may the transaction begin.
    pub async fn begin_attempt(
        &self,
        message: MessageKey,
        recipients: Vec<RecipientIndex>,
        next_hop: String,
        started: WallTime,
    ) -> Result<AttemptNumber, Refusal> {
        let state = *self.0.state.borrow();
        if state != State::Active {
            return Err(Refusal::NotActive(state));
        }
        let number = AttemptNumber(self.0.attempts.fetch_add(1, Ordering::Relaxed));
        let record = Record::Attempt(AttemptRecord { number, message, recipients, next_hop, started });
        self.work()?.journal.commit(Draft::bare(record)).await?;
        Ok(number)
    }

    /// Writes what became of recipients; returns when it is durable.
    pub async fn settle(&self, outcome: OutcomeRecord) -> Result<(), Refusal> {
        Ok(self.work()?.journal.commit(Draft::bare(Record::Outcome(outcome))).await?)
    }

    /// Writes what became of recipients; does not wait for the disk. Until it is durable the attempt is in doubt.
    pub async fn settle_lazily(&self, outcome: OutcomeRecord) -> Result<(), Refusal> {
        Ok(self.work()?.journal.lazily(Draft::bare(Record::Outcome(outcome))).await?)
    }

    /// Carries out an operator's verb, durably.
    pub async fn operate(&self, operate: OperateRecord) -> Result<(), Refusal> {
        Ok(self.work()?.journal.commit(Draft::bare(Record::Operate(operate))).await?)
    }

    /// A message's content; `None` if it is not live.
    #[must_use]
    pub fn content(&self, key: MessageKey) -> Option<ContentReader> {
        let work = self.work().ok()?;
        let books = work.books.lock();
        Some(ContentReader::new(Arc::clone(&self.0.files), books.message(key)?))
    }

    /// Looks into the books. Commits wait while `look` runs: be short. `None` while the queue is not owned.
    pub fn books<T>(&self, look: impl FnOnce(&Books) -> T) -> Option<T> {
        let work = self.work().ok()?;
        let books = work.books.lock();
        Some(look(&books))
    }

    /// Says that no attempt runs any more and none will: CLEAN is written, then RELEASED. Ends the ownership.
    pub async fn release(&self) {
        let mut state = self.state();
        self.0.commands.send(owner::Command::Drained).ok();
        state.wait_for(|state| state.is_final()).await.ok();
    }

    /// Begins to drain: no further attempt is allowed. Finish the running ones, then [`Self::release`].
    pub fn drain(&self) {
        self.0.commands.send(owner::Command::Drain).ok();
    }

    /// Numbers for people.
    #[must_use]
    pub fn status(&self) -> QueueStatus {
        let (messages, recipients) = self
            .books(|books| (books.len() as u64, books.totals().queued().unwrap_or(0)))
            .unwrap_or_default();
        QueueStatus {
            state: *self.0.state.borrow(),
            epoch: self.epoch(),
            messages,
            recipients,
            batches: self.0.pulse.batches.load(Ordering::Relaxed),
            records: self.0.pulse.records.load(Ordering::Relaxed),
            commit_p50_us: self.0.pulse.quantile_us(500),
            commit_p99_us: self.0.pulse.quantile_us(990),
            free_bytes: self.0.free_space.load(Ordering::Relaxed),
        }
    }

    /// How long the running commit has taken so far.
    #[must_use]
    pub fn commit_running_for(&self) -> Duration {
        owner::busy_for(&self.0)
    }
}
