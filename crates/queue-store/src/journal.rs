//! Group commit: one thread writes the queue, for everybody.
//!
//! It takes whatever requests arrived while the last sync ran, writes them, syncs once, reads the fence once, and answers
//! all of them. There is no delay to wait for more: under load the disk itself makes the batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use mail_model::{Clock, SegmentId};
use parking_lot::Mutex;
use queue_format::record::{ChunkRef, MessageKey, Record};
use tokio::sync::{Semaphore, oneshot};

use crate::appender::{AppendError, Appender, Draft};
use crate::clean::{self, Cleaner, Step};

/// Requests that may wait for the thread.
const REQUESTS_MAX: usize = 8_192;
/// Bytes of one batch.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How long notes that nobody waits for may stay unwritten, and how often the cleaner looks when nothing happens.
const IDLE: Duration = Duration::from_millis(100);
/// Notes of replies that go into one record.
const REPLIED_MAX: usize = 4_096;

/// What the thread is asked to do.
#[derive(Debug)]
enum Request {
    /// Answer when it is durable and unfenced.
    Commit(Draft, oneshot::Sender<Result<(), AppendError>>),
    /// Answer when it is written.
    Chunk(Draft, oneshot::Sender<Result<ChunkRef, AppendError>>),
    /// Nobody waits, but it is synced with its batch.
    Lazy(Draft),
    /// A client has its 250.
    Replied(MessageKey),
    /// Like a commit; then end.
    Close(Draft, oneshot::Sender<Result<(), AppendError>>),
}

/// Counters of the commit pipeline, readable at any time.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Commits done.
    pub(crate) batches: AtomicU64,
    /// Records in them.
    pub(crate) records: AtomicU64,
    /// When the commit that is running began, boot time ms; 0 if none is running.
    pub(crate) busy_since: AtomicU64,
    /// Up to where frames are durable.
    pub(crate) committed: Mutex<(SegmentId, u64)>,
    /// Durations of the newest commits, µs, a ring.
    recent: Mutex<Vec<u32>>,
}

/// Commits whose durations are remembered.
const RECENT_MAX: usize = 1_024;

impl Pulse {
    fn done(&self, records: usize, took: Duration) {
        let batches = self.batches.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut recent = self.recent.lock();
        if recent.len() < RECENT_MAX {
            recent.push(micros);
        } else if let Some(slot) = recent.get_mut(usize::try_from(batches).unwrap_or(0) % RECENT_MAX) {
            *slot = micros;
        }
    }

    /// The duration that `per_mille` of the newest commits stayed within, µs; 0 before the first.
    pub(crate) fn quantile_us(&self, per_mille: usize) -> u32 {
        let mut sorted = self.recent.lock().clone();
        sorted.sort_unstable();
        let at = sorted.len().saturating_sub(1) * per_mille / 1_000;
        sorted.get(at).copied().unwrap_or(0)
    }
}

/// The door to the thread. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    requests: Sender<Request>,
    room: Arc<Semaphore>,
}

impl Journal {
    /// Starts the thread. `ended` is called once, when the thread can do no more.
    pub(crate) fn start(
        appender: Appender,
        pulse: Arc<Pulse>,
        clock: Arc<dyn Clock>,
        ended: impl FnOnce(AppendError) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = bounded(REQUESTS_MAX);
        let room = Arc::new(Semaphore::new(REQUESTS_MAX));
        let worker = Worker {
            inbox,
            room: Arc::clone(&room),
            appender,
            cleaner: Cleaner::default(),
            replied: Vec::new(),
            retained: Vec::new(),
            pulse,
            clock,
        };
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || worker.run(ended))?;
        Ok(Self { requests, room })
    }

    async fn send(&self, request: Request) -> Result<(), AppendError> {
        // The channel never blocks an async task: whoever holds a permit has a place in it.
        let permit = self.room.acquire().await.map_err(|_| ended())?;
        permit.forget();
        self.requests.try_send(request).map_err(|_| ended())
    }

    /// Appends; returns when it is durable and the fence was read as zero.
    pub(crate) async fn commit(&self, draft: Draft) -> Result<(), AppendError> {
        let (answer, done) = oneshot::channel();
        self.send(Request::Commit(draft, answer)).await?;
        done.await.map_err(|_| ended())?
    }

    /// Appends a piece of content; returns when it is written.
    pub(crate) async fn chunk(&self, draft: Draft) -> Result<ChunkRef, AppendError> {
        let (answer, done) = oneshot::channel();
        self.send(Request::Chunk(draft, answer)).await?;
        done.await.map_err(|_| ended())?
    }

    /// Appends; does not wait for the disk.
    pub(crate) async fn lazily(&self, draft: Draft) -> Result<(), AppendError> {
        self.send(Request::Lazy(draft)).await
    }

    /// Notes that a client has its 250. A full channel loses the note, which is allowed.
    pub(crate) fn replied(&self, key: MessageKey) {
        let Ok(permit) = self.room.try_acquire() else { return };
        permit.forget();
        match self.requests.try_send(Request::Replied(key)) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Appends a last record after everything asked for so far, durably, and ends the thread. Blocks.
    pub(crate) fn close_clean(&self, last: Draft) -> Result<(), AppendError> {
        let (answer, done) = oneshot::channel();
        self.requests.send(Request::Close(last, answer)).map_err(|_| ended())?;
        done.blocking_recv().map_err(|_| ended())?
    }
}

fn ended() -> AppendError {
    AppendError::Sick("the journal has ended".to_owned())
}

struct Worker {
    inbox: Receiver<Request>,
    room: Arc<Semaphore>,
    appender: Appender,
    cleaner: Cleaner,
    replied: Vec<MessageKey>,
    /// Lazy records that found no space: they go with the next batch.
    retained: Vec<Draft>,
    pulse: Arc<Pulse>,
    clock: Arc<dyn Clock>,
}

/// One batch: drafts, and who waits for each.
#[derive(Default)]
struct Batch {
    drafts: Vec<Draft>,
    waiting: Vec<Waiting>,
    bytes: usize,
    taken: usize,
    must_sync: bool,
    closes: bool,
}

enum Waiting {
    Nobody,
    Commit(oneshot::Sender<Result<(), AppendError>>),
    Chunk(oneshot::Sender<Result<ChunkRef, AppendError>>),
}

impl Waiting {
    /// Tells whoever waits. A client that went away has dropped its end: nobody is left to tell.
    fn answer(self, result: Result<ChunkRef, AppendError>) {
        match self {
            Self::Nobody => {}
            Self::Commit(answer) => drop(answer.send(result.map(|_| ()))),
            Self::Chunk(answer) => drop(answer.send(result)),
        }
    }
}

impl Batch {
    fn add(&mut self, draft: Draft, waiting: Waiting) {
        self.bytes += draft.body.len();
        self.drafts.push(draft);
        self.waiting.push(waiting);
    }

    /// Takes new mail out and refuses it.
    fn refuse_mail(&mut self) {
        let drafts = std::mem::take(&mut self.drafts);
        let waiting = std::mem::take(&mut self.waiting);
        for (draft, waiting) in drafts.into_iter().zip(waiting) {
            if draft.is_mail() {
                waiting.answer(Err(AppendError::Full));
            } else {
                self.drafts.push(draft);
                self.waiting.push(waiting);
            }
        }
    }
}

impl Worker {
    fn run(mut self, ended: impl FnOnce(AppendError)) {
        loop {
            let batch = match self.inbox.recv_timeout(IDLE) {
                Ok(first) => self.gather(first),
                Err(RecvTimeoutError::Timeout) => Batch { must_sync: true, ..Batch::default() },
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match self.turn(batch) {
                Ok(Turn::GoOn) => {}
                Ok(Turn::Closed) => return,
                Err(error) => {
                    self.room.close();
                    ended(error);
                    return;
                }
            }
        }
    }

    fn gather(&mut self, first: Request) -> Batch {
        let mut batch = Batch::default();
        for draft in self.retained.drain(..) {
            batch.add(draft, Waiting::Nobody);
        }
        self.take(first, &mut batch);
        while batch.bytes < BATCH_BYTES_MAX && !batch.closes {
            let Ok(request) = self.inbox.try_recv() else { break };
            self.take(request, &mut batch);
        }
        batch
    }

    fn take(&mut self, request: Request, batch: &mut Batch) {
        batch.taken += 1;
        batch.must_sync |= !matches!(request, Request::Chunk(..) | Request::Replied(_));
        match request {
            Request::Commit(draft, answer) => batch.add(draft, Waiting::Commit(answer)),
            Request::Chunk(draft, answer) => batch.add(draft, Waiting::Chunk(answer)),
            Request::Lazy(draft) => batch.add(draft, Waiting::Nobody),
            Request::Replied(key) => self.replied.push(key),
            Request::Close(draft, answer) => {
                batch.add(draft, Waiting::Commit(answer));
                batch.closes = true;
            }
        }
    }

    /// Writes, syncs and answers one batch, then gives the cleaner a turn.
    fn turn(&mut self, mut batch: Batch) -> Result<Turn, AppendError> {
        if !self.replied.is_empty() && (batch.must_sync || self.replied.len() >= REPLIED_MAX) {
            let notes = std::mem::take(&mut self.replied);
            batch.add(Draft::bare(Record::Replied(notes)), Waiting::Nobody);
        }
        let records = batch.drafts.len();
        if records > 0 || (batch.must_sync && !self.appender.is_settled()) {
            self.pulse.busy_since.store(self.clock.now().0.max(1), Ordering::Relaxed);
            let began = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let result = self.write(&mut batch);
            self.pulse.busy_since.store(0, Ordering::Relaxed);
            self.finish(batch.waiting, result)?;
            *self.pulse.committed.lock() = self.appender.committed();
            self.pulse.done(records, since(began));
        }
        self.room.add_permits(batch.taken);
        self.clean()?;
        Ok(if batch.closes { Turn::Closed } else { Turn::GoOn })
    }

    fn write(&mut self, batch: &mut Batch) -> Result<Vec<ChunkRef>, AppendError> {
        if self.appender.refuses_mail(&batch.drafts)? {
            batch.refuse_mail();
        }
        let written = self.appender.write(std::mem::take(&mut batch.drafts))?;
        if batch.must_sync {
            self.appender.finish()?;
        }
        Ok(written.iter().map(clean::chunk_ref).collect())
    }

    /// Answers everybody. Only an error that ends the journal is returned.
    fn finish(
        &mut self,
        waiting: Vec<Waiting>,
        result: Result<Vec<ChunkRef>, AppendError>,
    ) -> Result<(), AppendError> {
        match result {
            Ok(chunks) => {
                for (waiting, chunk) in waiting.into_iter().zip(chunks) {
                    waiting.answer(Ok(chunk));
                }
                Ok(())
            }
            Err(error) => {
                let refused = self.appender.take_refused();
                for (waiting, record) in waiting.iter().zip(refused) {
                    if matches!(waiting, Waiting::Nobody) {
                        self.retained.push(Draft::bare(record));
                    }
                }
                for waiting in waiting {
                    waiting.answer(Err(error.clone()));
                }
                if error == AppendError::Full { Ok(()) } else { Err(error) }
            }
        }
    }

    fn clean(&mut self) -> Result<(), AppendError> {
        // As long as requests wait, one small step; else until there is nothing to do.
        loop {
            match self.cleaner.step(&mut self.appender) {
                Ok(Step::Worked) if self.inbox.is_empty() => {}
                // A full disk is met again by the next step; meanwhile nothing is lost.
                Ok(Step::Worked | Step::Idle) | Err(AppendError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

enum Turn {
    GoOn,
    Closed,
}

fn since(began: rustix::time::Timespec) -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanos = (now.tv_sec - began.tv_sec) * 1_000_000_000 + (now.tv_nsec - began.tv_nsec);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
