//! A queue that is open: the handle every part of the switch holds, and the thread that took the ownership.
//!
//! [`Queue::open`] returns at once; the owner thread then runs the machine of `cluster::instance` and carries its actions
//! out. Until it says ACTIVE, and again once it says anything else, every effect is refused here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cluster::instance::State;
use mail_model::{AttemptNumber, Epoch, MessageId, Moment, QueueId, RecipientIndex, WallTime};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use queue_format::books::Books;
use queue_format::record::{
    AttemptRecord, ChunkRef, MessageKey, MessageRecord, OperateRecord, OutcomeRecord, Record,
};
use tokio::sync::watch;

use crate::appender::{AppendError, Draft};
use crate::content::ContentReader;
use crate::figures::Figures;
use crate::files::QueueFiles;
use crate::journal::Commit;
use crate::lock::Lock;
use crate::owner;
use crate::shared::{Command, OpenError, QueueOptions, Shared, Work};
use crate::storage::Storage;
use crate::threads::{Scheduler, Threads};
use crate::trouble::{Trouble, TroubledDisk, Troubles};

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

/// An attempt whose record is on its way to the disk.
#[derive(Debug)]
pub struct Announced {
    number: AttemptNumber,
    commit: Commit,
}

impl Announced {
    /// Returns when it is durable and this owner was not fenced, or will never be so. May be asked again.
    pub async fn durable(&mut self) -> Result<AttemptNumber, Refusal> {
        self.commit.done().await?;
        Ok(self.number)
    }
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

/// For how long the threads of an owner gave no sign. All zero while nothing is owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Silence {
    /// Since the journal's thread came round.
    pub journal: Duration,
    /// Since it entered the storage, if it is in there.
    pub storage: Duration,
    /// Since the lease was renewed.
    pub lease: Duration,
}

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Shared>);

impl Queue {
    /// Checks the directory and starts to take the ownership. Watch [`Self::state`] for the rest.
    pub fn open(options: QueueOptions) -> Result<Self, OpenError> {
        let troubles = Troubles::none(Arc::clone(&options.clock));
        let disk = Arc::new(TroubledDisk(Arc::clone(&troubles)));
        Self::open_with(disk, Threads::System, options, Some(troubles))
    }

    /// Like [`Self::open`], on another storage than this machine's file systems: for tests.
    pub fn open_on(storage: Arc<dyn Storage>, options: QueueOptions) -> Result<Self, OpenError> {
        Self::open_with(storage, Threads::System, options, None)
    }

    /// Like [`Self::open_on`], and a simulation runs the threads. To be called from a thread of its own.
    pub fn open_simulated(
        storage: Arc<dyn Storage>,
        scheduler: Arc<dyn Scheduler>,
        options: QueueOptions,
    ) -> Result<Self, OpenError> {
        Self::open_with(storage, Threads::Simulated(scheduler), options, None)
    }

    fn open_with(
        storage: Arc<dyn Storage>,
        threads: Threads,
        options: QueueOptions,
        troubles: Option<Arc<Troubles>>,
    ) -> Result<Self, OpenError> {
        let files = Arc::new(QueueFiles::new(storage, &options.dir));
        let directory = |error| OpenError::Directory { dir: options.dir.clone(), error };
        let lock = Lock::new(Arc::clone(&files.storage), &options.dir);
        let (commands, inbox) = crossbeam::channel::bounded(8);
        // Where a proof is needed, nothing may be touched before it is there.
        let free = if options.proof.is_some() {
            0
        } else {
            owner::look(&files, &options, &lock, troubles.is_some())?;
            files.storage.free_space(&options.dir).map_err(directory)?
        };
        let shared = Arc::new(Shared {
            files,
            troubles,
            threads,
            state: watch::Sender::new(State::Init),
            epoch: AtomicU64::new(0),
            renewed: AtomicU64::new(0),
            free_space: AtomicU64::new(free),
            pulse: Arc::default(),
            course: parking_lot::Mutex::default(),
            searched: parking_lot::Mutex::default(),
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
        let renewed = Moment(self.0.renewed.load(Ordering::Acquire));
        if self.0.options.clock.now().since(renewed) > self.0.options.timers.own_limit {
            return Err(Refusal::LeaseStale);
        }
        Ok(())
    }

    fn work(&self) -> Result<Work, Refusal> {
        self.0.work.read().clone().ok_or_else(|| Refusal::NotActive(*self.0.state.borrow()))
    }

    /// Writes a piece of a large message. Durable only with the message that names it. The pieces are kept as long as
    /// more of them come; if the message will never be accepted, say so with [`Self::abandon`].
    pub async fn append_chunk(&self, key: MessageKey, piece: Bytes) -> Result<ChunkRef, Refusal> {
        let draft = Draft { record: Record::Chunk { message: key }, body: piece };
        Ok(self.work()?.journal.chunk(draft).await?)
    }

    /// Says that the pieces written under `key` will never be named by a message: their space may be used again. Never
    /// waited for. Pieces that nobody abandons and nobody adds to are given up after a quarter of an hour.
    pub fn abandon(&self, key: MessageKey) {
        if let Ok(work) = self.work() {
            work.journal.abandon(key);
        }
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

    /// Notes that whoever handed this message over will not repeat it: by what a repeat is recognised may be forgotten. Never
    /// waited for.
    pub fn forget(&self, key: MessageKey) {
        if let Ok(work) = self.work() {
            work.journal.forget(key);
        }
    }

    /// Makes it durable that a delivery is about to be made. Only when this returns `Ok` may a final dot be sent.
    pub async fn begin_attempt(
        &self,
        message: MessageKey,
        recipients: Vec<RecipientIndex>,
        next_hop: String,
        started: WallTime,
    ) -> Result<AttemptNumber, Refusal> {
        self.announce_attempt(message, recipients, next_hop, started).await?.durable().await
    }

    /// Says that a delivery is about to be made. No final dot may be sent before [`Announced::durable`] returns `Ok`.
    pub async fn announce_attempt(
        &self,
        message: MessageKey,
        recipients: Vec<RecipientIndex>,
        next_hop: String,
        started: WallTime,
    ) -> Result<Announced, Refusal> {
        let state = *self.0.state.borrow();
        if state != State::Active {
            return Err(Refusal::NotActive(state));
        }
        let number = AttemptNumber(self.0.attempts.fetch_add(1, Ordering::Relaxed));
        let record = Record::Attempt(AttemptRecord { number, message, recipients, next_hop, started });
        let commit = self.work()?.journal.submit(Draft::bare(record)).await?;
        Ok(Announced { number, commit })
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
        Some(ContentReader::new(Arc::clone(&self.0.files), &books.message(key)?))
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
        self.0.commands.send(Command::Drained).ok();
        state.wait_for(|state| state.is_final()).await.ok();
    }

    /// Begins to drain: no further attempt is allowed. Finish the running ones, then [`Self::release`].
    pub fn drain(&self) {
        self.0.commands.send(Command::Drain).ok();
    }

    /// Lets the storage of this owner be in trouble for a while: for a drill. An empty span ends it.
    pub fn trouble(&self, trouble: Trouble, span: Duration) {
        tracing::warn!(event = "queue.trouble", queue = %self.id(), ?trouble, for_ms = ?span.as_millis());
        if let Some(troubles) = &self.0.troubles {
            troubles.begin(trouble, span);
        }
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

    /// How long the threads that an owner lives by have not come round. Touches no disk and takes no lock of theirs.
    #[must_use]
    pub fn silence(&self) -> Silence {
        let state = *self.0.state.borrow();
        if !matches!(state, State::Active | State::Draining) {
            return Silence::default();
        }
        let now = self.0.options.clock.now();
        let since = |last: &AtomicU64| match last.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            last => now.since(Moment(last)),
        };
        Silence {
            journal: since(&self.0.pulse.turned),
            storage: self.0.busy_for(),
            lease: since(&self.0.renewed),
        }
    }

    /// Hands the histograms of the commits to `registry`. Everything else is in [`Self::figures`].
    pub fn register(&self, registry: &mut Registry) {
        self.0.pulse.commits.register(registry);
    }

    /// What a monitoring wants to know. Walks all messages, so the part that does is at most so fresh as
    /// [`Figures::counted`] says.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures::of(&self.0)
    }

    /// How long the running commit has taken so far.
    #[must_use]
    pub fn commit_running_for(&self) -> Duration {
        self.0.busy_for()
    }
}
