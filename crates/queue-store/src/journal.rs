//! Group commit: one thread writes the queue, for everybody.
//!
//! It takes whatever requests arrived while the last sync ran, writes them, syncs once, reads the fence once, and answers
//! all of them. There is no delay to wait for more: under load the disk itself makes the batches. Only records that nobody
//! waits for wait a little, so that they need no commit of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use foldhash::HashMap;
use mail_model::{Moment, SegmentId};
use parking_lot::Mutex;
use queue_format::record::{ChunkRef, Content, MessageKey, Record, TakenRecord};
use tokio::sync::{Semaphore, oneshot};

use crate::appender::{AppendError, Appender, Draft, Written};
use crate::clean::{self, Cleaner, Step};
use crate::effect;
use crate::metrics::CommitMetrics;
use crate::point::crash_point;
use crate::threads::Threads;
use crate::uploads::Uploads;

/// Requests that may wait for the thread.
const REQUESTS_MAX: usize = 8_192;
/// Bytes of one batch.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How long notes that nobody waits for may stay unwritten, and how often the cleaner looks when nothing happens.
const IDLE: Duration = Duration::from_millis(100);
/// How long records that nobody waits for wait for one that somebody does: its commit takes them along. A crash meanwhile
/// leaves their attempts in doubt, as one during their own commit would.
const COMPANY_WAIT: Duration = Duration::from_millis(5);
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
    /// The pieces of this message will never be named.
    Abandon(MessageKey),
    /// Finish everything asked for so far, write CLEAN, and end.
    Close(Sender<Result<(), AppendError>>),
}

/// Counters of the commit pipeline, readable at any time.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Commits done.
    pub(crate) batches: AtomicU64,
    /// Records in them.
    pub(crate) records: AtomicU64,
    /// When the commit or the step of cleaning that is running began, boot time ms; 0 if none is running.
    pub(crate) busy_since: AtomicU64,
    /// When the thread came round the last time, boot time ms; 0 before it began.
    pub(crate) turned: AtomicU64,
    /// Up to where frames are durable.
    pub(crate) committed: Mutex<(SegmentId, u64)>,
    /// Durations of the newest commits, µs, a ring.
    recent: Mutex<Vec<u32>>,
    /// All commits of this instance.
    pub(crate) commits: CommitMetrics,
}

/// Commits whose durations are remembered.
const RECENT_MAX: usize = 1_024;

impl Pulse {
    fn turns(&self, now: Moment) {
        self.turned.store(now.0.max(1), Ordering::Relaxed);
    }

    fn done(&self, records: usize, took: Duration) {
        let batches = self.batches.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.commits.done(records, took);
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
    /// Messages whose 250 left since the last commit. They go with the next one, and wake nobody.
    replied: Arc<Mutex<Vec<MessageKey>>>,
    /// The same of hand-overs that nobody will repeat.
    forgotten: Arc<Mutex<Vec<MessageKey>>>,
    threads: Threads,
}

impl Journal {
    /// Starts the thread. `ended` is called once, when the thread can do no more.
    pub(crate) fn start(
        appender: Appender,
        pulse: Arc<Pulse>,
        threads: &Threads,
        ended: impl FnOnce(AppendError) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = bounded(REQUESTS_MAX);
        let room = Arc::new(Semaphore::new(REQUESTS_MAX));
        let (replied, forgotten) = (Arc::default(), Arc::default());
        let worker = Worker {
            inbox,
            room: Arc::clone(&room),
            appender,
            cleaner: Cleaner::default(),
            uploads: Uploads::new(),
            replied: Arc::clone(&replied),
            forgotten: Arc::clone(&forgotten),
            retained: Vec::new(),
            held: None,
            pulse,
            threads: threads.clone(),
        };
        threads.spawn("journal", move || worker.run(ended))?;
        Ok(Self { requests, room, replied, forgotten, threads: threads.clone() })
    }

    async fn send(&self, request: Request) -> Result<(), AppendError> {
        // The channel never blocks an async task: whoever holds a permit has a place in it.
        let permit = self.room.acquire().await.map_err(|_| ended())?;
        permit.forget();
        self.requests.try_send(request).map_err(|_| ended())
    }

    /// Appends; returns when it is durable and the fence was read as zero.
    pub(crate) async fn commit(&self, draft: Draft) -> Result<(), AppendError> {
        self.submit(draft).await?.done().await
    }

    /// Hands in what is to be appended; what comes of it is told later.
    pub(crate) async fn submit(&self, draft: Draft) -> Result<Commit, AppendError> {
        let (answer, done) = oneshot::channel();
        self.send(Request::Commit(draft, answer)).await?;
        Ok(Commit { answer: done, told: None })
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

    /// Notes that a client has its 250. Where too many wait the note is lost, which is allowed.
    pub(crate) fn replied(&self, key: MessageKey) {
        note(&self.replied, key);
    }

    /// Notes that a hand-over will not be repeated. The same: it is remembered for longer then.
    pub(crate) fn forget(&self, key: MessageKey) {
        note(&self.forgotten, key);
    }

    /// Gives pieces up. A full channel loses the note: they are given up later.
    pub(crate) fn abandon(&self, key: MessageKey) {
        self.note(Request::Abandon(key));
    }

    fn note(&self, request: Request) {
        let Ok(permit) = self.room.try_acquire() else { return };
        permit.forget();
        match self.requests.try_send(request) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Finishes everything asked for so far, writes CLEAN if no attempt is open, and ends the thread. Blocks.
    pub(crate) fn close(&self) -> Result<(), AppendError> {
        let (answer, done) = bounded(1);
        self.requests.send(Request::Close(answer)).map_err(|_| ended())?;
        self.threads.receive(&done, None).map_err(|_| ended())?
    }
}

/// A commit that was asked for.
#[derive(Debug)]
pub(crate) struct Commit {
    answer: oneshot::Receiver<Result<(), AppendError>>,
    /// The answer, once it came.
    told: Option<Result<(), AppendError>>,
}

impl Commit {
    /// Returns when it is durable and the fence was read as zero, or will not be. May be asked again.
    pub(crate) async fn done(&mut self) -> Result<(), AppendError> {
        if let Some(told) = &self.told {
            return told.clone();
        }
        let told = (&mut self.answer).await.unwrap_or_else(|_| Err(ended()));
        self.told.insert(told).clone()
    }
}

fn note(notes: &Mutex<Vec<MessageKey>>, key: MessageKey) {
    let mut notes = notes.lock();
    if notes.len() < REPLIED_MAX {
        notes.push(key);
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
    uploads: Uploads,
    replied: Arc<Mutex<Vec<MessageKey>>>,
    forgotten: Arc<Mutex<Vec<MessageKey>>>,
    /// Lazy records that found no space: they go with the next batch.
    retained: Vec<Draft>,
    /// A request that must see the end of the batch before it.
    held: Option<Request>,
    pulse: Arc<Pulse>,
    threads: Threads,
}

/// One batch: drafts, and who waits for each.
#[derive(Debug, Default)]
struct Batch {
    drafts: Vec<Draft>,
    waiting: Vec<Waiting>,
    bytes: usize,
    taken: usize,
    must_sync: bool,
    /// Somebody waits for it.
    awaited: bool,
    /// Messages whose recipients a draft of this batch moves, and whether another one must wait for the next batch.
    moved: HashMap<MessageKey, bool>,
    closes: Option<Sender<Result<(), AppendError>>>,
}

#[derive(Debug)]
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

    /// Tells whoever waits that all is as it should be without a record.
    fn answer_nothing_to_do(self) {
        match self {
            Self::Nobody | Self::Chunk(_) => {}
            Self::Commit(answer) => drop(answer.send(Ok(()))),
        }
    }
}

impl Batch {
    fn add(&mut self, draft: Draft, waiting: Waiting) {
        self.bytes += draft.body.len();
        self.drafts.push(draft);
        self.waiting.push(waiting);
    }

    /// True if `request` speaks of recipients that this batch already moves, and must see where they stand then.
    fn must_wait(&self, request: &Request) -> bool {
        let draft = match request {
            Request::Commit(draft, _) | Request::Lazy(draft) => draft,
            Request::Chunk(..) | Request::Abandon(_) | Request::Close(_) => {
                return false;
            }
        };
        effect::moves(&draft.record)
            .is_some_and(|(key, alone)| self.moved.get(&key).is_some_and(|before| alone || *before))
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
        let error = self.serve().err();
        self.room.close();
        let Self { inbox, appender, held, threads, .. } = self;
        drop((appender, held));
        if let Some(error) = error {
            ended(error);
        }
        // A request may slip in until the last door is gone, and the channel would keep it: each is dropped here, which
        // tells whoever waits that the journal has ended.
        while let Ok(request) = threads.receive(&inbox, None) {
            drop(request);
        }
    }

    fn serve(&mut self) -> Result<(), AppendError> {
        loop {
            self.pulse.turns(self.appender.clock.now());
            let first = match self.held.take() {
                Some(request) => Ok(request),
                None => self.threads.receive(&self.inbox, Some(IDLE)),
            };
            let batch = match first {
                Ok(first) => self.gather(Some(first)),
                Err(RecvTimeoutError::Timeout) => self.gather(None),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            match self.turn(batch)? {
                Turn::GoOn => {}
                Turn::Closed => return Ok(()),
            }
        }
    }

    /// Takes what waits; when nothing came, what was put off.
    fn gather(&mut self, first: Option<Request>) -> Batch {
        // What waits by now is most of what there will be.
        let waiting = self.inbox.len() + self.retained.len() + 2;
        let (drafts, waiting) = (Vec::with_capacity(waiting), Vec::with_capacity(waiting));
        let mut batch = Batch { must_sync: first.is_none(), drafts, waiting, ..Batch::default() };
        for draft in std::mem::take(&mut self.retained) {
            batch.must_sync = true;
            self.add(draft, Waiting::Nobody, &mut batch);
        }
        let mut next = first;
        let began = self.appender.clock.now();
        while let Some(request) = next.take() {
            if batch.must_wait(&request) {
                self.held = Some(request);
                break;
            }
            self.take(request, &mut batch);
            if batch.bytes < BATCH_BYTES_MAX && batch.closes.is_none() {
                next = self.next(&batch, began);
            }
        }
        batch
    }

    /// What else waits for a place in `batch`, which began to be gathered then. It is not held up if anybody waits for it.
    fn next(&self, batch: &Batch, began: Moment) -> Option<Request> {
        let next = self.inbox.try_recv().ok();
        if next.is_some() || batch.awaited || !batch.must_sync {
            return next;
        }
        let left = COMPANY_WAIT.saturating_sub(self.appender.clock.now().since(began));
        self.threads.receive(&self.inbox, Some(left)).ok()
    }

    fn take(&mut self, request: Request, batch: &mut Batch) {
        batch.taken += 1;
        batch.must_sync |= !matches!(request, Request::Chunk(..) | Request::Abandon(_));
        batch.awaited |= !matches!(request, Request::Lazy(_) | Request::Abandon(_));
        match request {
            Request::Commit(draft, answer) => self.add(draft, Waiting::Commit(answer), batch),
            Request::Chunk(draft, answer) => self.add(draft, Waiting::Chunk(answer), batch),
            Request::Lazy(draft) => self.add(draft, Waiting::Nobody, batch),
            Request::Abandon(key) => self.uploads.ended(key),
            Request::Close(answer) => batch.closes = Some(answer),
        }
    }

    fn add(&self, mut draft: Draft, waiting: Waiting, batch: &mut Batch) {
        if let Record::Message(message) = &draft.record
            && matches!(message.content, Content::Chunks(_))
            && !self.uploads.runs(message.key)
        {
            waiting.answer(Err(AppendError::ContentGone));
            return;
        }
        if let Some((key, alone)) = effect::moves(&draft.record) {
            *batch.moved.entry(key).or_insert(alone) |= alone;
            if !effect::reduce(&self.appender.books.lock(), &mut draft.record) {
                waiting.answer_nothing_to_do();
                return;
            }
        }
        batch.add(draft, waiting);
    }

    /// Writes, syncs and answers one batch, then gives the cleaner a turn.
    fn turn(&mut self, mut batch: Batch) -> Result<Turn, AppendError> {
        if batch.must_sync {
            let notes = std::mem::take(&mut *self.replied.lock());
            if !notes.is_empty() {
                batch.add(Draft::bare(Record::Replied(notes)), Waiting::Nobody);
            }
            let forgotten = std::mem::take(&mut *self.forgotten.lock());
            if !forgotten.is_empty() {
                let taken = TakenRecord { remembered: Vec::new(), forgotten };
                batch.add(Draft::bare(Record::Taken(taken)), Waiting::Nobody);
            }
        }
        let records = batch.drafts.len();
        if records > 0 || (batch.must_sync && !self.appender.is_settled()) {
            self.pulse.busy_since.store(self.appender.clock.now().0.max(1), Ordering::Relaxed);
            let began = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let result = self.write(&mut batch);
            self.pulse.busy_since.store(0, Ordering::Relaxed);
            self.finish(batch.waiting, result)?;
            *self.pulse.committed.lock() = self.appender.committed();
            self.pulse.done(records, since(began));
        }
        self.room.add_permits(batch.taken);
        if let Some(answer) = batch.closes {
            // A client that went away has dropped its end: nobody is left to tell.
            answer.send(self.write_clean()).ok();
            return Ok(Turn::Closed);
        }
        self.clean()?;
        Ok(Turn::GoOn)
    }

    /// CLEAN is the last record, and says that no attempt is open. With one open nothing is said, and the next owner
    /// counts it as doubtful.
    fn write_clean(&mut self) -> Result<(), AppendError> {
        let (open, totals) = {
            let books = self.appender.books.lock();
            (books.open_attempts().count(), books.totals())
        };
        if open == 0 && self.retained.is_empty() {
            self.appender.commit(vec![Draft::bare(Record::Clean { totals })])?;
            crash_point("clean::committed");
        }
        Ok(())
    }

    fn write(&mut self, batch: &mut Batch) -> Result<Vec<Written>, AppendError> {
        if self.appender.refuses_mail(&batch.drafts)? {
            batch.refuse_mail();
        }
        let drafts = std::mem::take(&mut batch.drafts);
        let accepted: Vec<MessageKey> = drafts.iter().filter_map(named_content).collect();
        let uploaded: Vec<Option<MessageKey>> = drafts.iter().map(piece_of).collect();
        let written = self.appender.write(drafts)?;
        let now = self.appender.clock.now();
        for (key, written) in uploaded.into_iter().zip(&written) {
            if let Some(key) = key {
                self.uploads.piece(key, written.place.segment, now);
            }
        }
        if batch.must_sync {
            self.appender.finish()?;
        }
        // Not before the books know them.
        for key in accepted {
            self.uploads.ended(key);
        }
        Ok(written)
    }

    /// Answers everybody. Only an error that ends the journal is returned.
    fn finish(
        &mut self,
        waiting: Vec<Waiting>,
        result: Result<Vec<Written>, AppendError>,
    ) -> Result<(), AppendError> {
        match result {
            Ok(written) => {
                for (waiting, written) in waiting.into_iter().zip(&written) {
                    waiting.answer(Ok(clean::chunk_ref(written)));
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
            let now = self.appender.clock.now();
            self.pulse.turns(now);
            let needed = self.uploads.oldest(now);
            // A step may sync: while that hangs, nobody must take this owner for alive.
            self.pulse.busy_since.store(now.0.max(1), Ordering::Relaxed);
            let step = self.cleaner.step(&mut self.appender, needed);
            self.pulse.busy_since.store(0, Ordering::Relaxed);
            match step {
                Ok(Step::Worked) if self.inbox.is_empty() && self.held.is_none() => {}
                // A full disk is met again by the next step; meanwhile nothing is lost.
                Ok(Step::Worked | Step::Idle) | Err(AppendError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The message that `draft` accepts with content written before.
fn named_content(draft: &Draft) -> Option<MessageKey> {
    let Record::Message(message) = &draft.record else { return None };
    matches!(message.content, Content::Chunks(_)).then_some(message.key)
}

/// The message of which `draft` is a piece.
fn piece_of(draft: &Draft) -> Option<MessageKey> {
    if let Record::Chunk { message } = &draft.record { Some(*message) } else { None }
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
