//! The writing end of a queue: the open segment, the chain, the books, and the owner's rule.
//!
//! One call of [`Appender::commit`] is one turn of the rule: append → `fdatasync` returned OK → read the own fence, past
//! every cache → zero → the books take the records, and the caller may act. Everything else here serves that call.
//!
//! | it goes wrong | then |
//! |---|---|
//! | no space for a write or a new segment, nothing synced yet | the batch is refused ([`AppendError::Full`]); nothing changed |
//! | `fdatasync` fails | [`AppendError::Sick`], for good: what is on disk is known only after a recovery |
//! | the fence is not zero | [`AppendError::Fenced`], for good |
//! | the fence cannot be read | [`AppendError::Sick`]: unknown means no effect |
//! | a proof from outside is needed, and is refused or never comes | [`AppendError::Fenced`], [`AppendError::Sick`] |

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mail_model::{Clock, Epoch, InstanceId, NodeId, QueueId, SegmentId};
use parking_lot::Mutex;
use queue_format::books::Books;
use queue_format::digest::DigestBuilder;
use queue_format::frame::{Chain, FrameHeader, HEADER_LEN};
use queue_format::lease::{FENCE_OFFSET, Fence, SECTOR_LEN};
use queue_format::record::{DOUBTS_KEPT, Kind, Record, SealEntry, SegmentRecord};
use queue_format::scan::Place;

use crate::files::QueueFiles;
use crate::point::crash_point;
use crate::proof::{Proof, Standing};
use crate::storage::StoredFile;

/// Why an append had no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No space. The queue is as it was; other appends may succeed.
    #[error("no space left for the queue")]
    Full,
    /// A taker owns the queue now.
    #[error("this owner was fenced")]
    Fenced,
    /// The pieces that the message names were given up: nothing was added for too long, or they were abandoned.
    #[error("the content of the message is no longer kept")]
    ContentGone,
    /// The storage failed, and nothing is known about the last batch.
    #[error("the queue's storage failed: {0}")]
    Sick(String),
}

/// A record on its way to disk.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// What it says.
    pub(crate) record: Record,
    /// The body of its frame: message bytes, or nothing.
    pub(crate) body: Bytes,
}

impl Draft {
    /// A record without a body.
    pub(crate) fn bare(record: Record) -> Self {
        Self { record, body: Bytes::new() }
    }

    /// True for what a full disk may refuse: new mail. What empties the queue is not refused.
    pub(crate) fn is_mail(&self) -> bool {
        matches!(self.record.kind(), Kind::Message | Kind::Chunk)
    }
}

/// Where a draft went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// Its frame.
    pub(crate) place: Place,
    /// Its header, with lengths and checksums.
    pub(crate) header: FrameHeader,
}

/// Whose queue this is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) queue: QueueId,
    pub(crate) owner: NodeId,
    pub(crate) instance: InstanceId,
    pub(crate) epoch: Epoch,
    pub(crate) proof: Option<Arc<dyn Proof>>,
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) files: QueueFiles,
    pub(crate) identity: Identity,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) books: Arc<Mutex<Books>>,
    segment_size: u64,
    /// Mail opens no segment that would leave less free space than this: a taker needs some to take over, and deliveries
    /// to empty the queue.
    pub(crate) reserve: u64,
    file: Box<dyn StoredFile>,
    fence: Box<dyn StoredFile>,
    chain: Chain,
    offset: u64,
    /// Bytes appended in this epoch, in all segments.
    appended: u64,
    /// Frames with lower numbers are on stable storage.
    durable: u64,
    digest: DigestBuilder,
    buffer: Vec<u8>,
    /// Where the meta of a frame is made.
    meta: Vec<u8>,
    /// Written, and in the books once the next commit is done.
    pending: Vec<(Written, Record)>,
    /// Records of the last write that was refused for want of space.
    refused: Vec<Record>,
    /// Bytes of every segment that is not retired.
    pub(crate) sizes: BTreeMap<SegmentId, u64>,
}

/// Room for a meta that is kept; envelopes of thousands need more for a while.
const META_KEPT: usize = 64 << 10;

/// The part of a segment that is kept for records that empty the queue, so that a full disk can still drain.
const RESERVED_PART: u64 = 8;

/// The part of a segment that is written before the cleaner judges whether the oldest one empties by itself.
const EBB_PART: u64 = 16;

/// A segment is closed when its digest is this large, in bytes. The digest is in memory until then, and a start reads it whole;
/// that of a segment full of records without a body, as a drain writes them, would be as large as the segment.
const DIGEST_MAX: usize = 8 << 20;

impl Appender {
    /// Opens the first segment of an epoch: its SEGMENT record, then the seals of every older epoch, durable and checked
    /// against the own fence.
    pub(crate) fn begin(
        files: QueueFiles,
        identity: Identity,
        clock: Arc<dyn Clock>,
        books: Books,
        seals: Vec<SealEntry>,
        sizes: BTreeMap<SegmentId, u64>,
        segment_size: u64,
    ) -> Result<Self, AppendError> {
        let segment = SegmentId { epoch: identity.epoch, number: 0 };
        let fence = files.storage.open_uncached(&files.lease(identity.epoch)).map_err(sick)?;
        let file = create_segment(&files, segment, segment_size, Space::IfThere).map_err(space)?;
        crash_point("seal::segment-created");
        // An instance's id is drawn by chance and is never told to a mail client: folded, it is the cookie.
        let [low, high] =
            [identity.instance.0, identity.instance.0 >> 64].map(|half| half & u128::from(u64::MAX));
        let cookie = u64::try_from(low ^ high).unwrap_or_default();
        let mut appender = Self {
            files,
            identity,
            clock,
            books: Arc::new(Mutex::new(books)),
            segment_size,
            reserve: 0,
            file,
            fence,
            chain: Chain::begin(segment.epoch, cookie),
            offset: 0,
            appended: 0,
            durable: 0,
            digest: DigestBuilder::new(),
            buffer: Vec::new(),
            meta: Vec::new(),
            pending: Vec::new(),
            refused: Vec::new(),
            sizes,
        };
        let first_live = appender.books.lock().live_bytes().keys().next().copied().unwrap_or(segment);
        let mut head = appender.segment_record(first_live);
        // Every open attempt is about to be written as in doubt. Its ATTEMPT leaves with the older segments, and this head is
        // what names it from then on.
        head.doubts.extend(appender.books.lock().open_attempts().cloned());
        let too_many = head.doubts.len().saturating_sub(DOUBTS_KEPT);
        head.doubts.drain(..too_many);
        appender.stage(Draft::bare(Record::Segment(head)));
        appender.stage(Draft::bare(Record::Seal(seals)));
        appender.write_out()?;
        crash_point("seal::written");
        appender.files.storage.sync_dir(&appender.files.segment_dir()).map_err(sick)?;
        appender.finish()?;
        crash_point("seal::committed");
        Ok(appender)
    }

    fn segment_record(&self, first_live: SegmentId) -> SegmentRecord {
        let books = self.books.lock();
        SegmentRecord {
            version: queue_format::FORMAT_VERSION,
            cluster: self.identity.cluster.clone(),
            queue: self.identity.queue.clone(),
            owner: self.identity.owner.clone(),
            instance: self.identity.instance,
            opened: self.clock.wall(),
            first_live: first_live.max(books.first_live()),
            totals: books.totals(),
            doubts: books.doubts().cloned().collect(),
        }
    }

    /// Appends and makes durable. Only when this returns `Ok` may anything outside see an effect.
    pub(crate) fn commit(&mut self, drafts: Vec<Draft>) -> Result<Vec<Written>, AppendError> {
        let written = self.write(drafts)?;
        self.finish()?;
        Ok(written)
    }

    /// True if `drafts` has mail and there is no room for mail: then nothing was written.
    pub(crate) fn refuses_mail(&mut self, drafts: &[Draft]) -> Result<bool, AppendError> {
        if !drafts.iter().any(Draft::is_mail) {
            return Ok(false);
        }
        match self.make_room(drafts.iter().map(estimate).sum(), true) {
            Ok(()) => Ok(false),
            Err(AppendError::Full) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The records of a write that was refused with [`AppendError::Full`].
    pub(crate) fn take_refused(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.refused)
    }

    /// Appends without waiting for stable storage: for pieces of a message whose MESSAGE will wait.
    pub(crate) fn write(&mut self, drafts: Vec<Draft>) -> Result<Vec<Written>, AppendError> {
        let len: u64 = drafts.iter().map(estimate).sum();
        let mail = drafts.iter().any(Draft::is_mail);
        // What the cleaner was refused it does again by itself.
        self.refused.clear();
        if let Err(error) = self.make_room(len, mail) {
            self.refused = drafts.into_iter().map(|draft| draft.record).collect();
            return Err(error);
        }
        let saved = (self.chain, self.digest.mark(), self.pending.len());
        let written = drafts.into_iter().map(|draft| self.stage(draft)).collect();
        match self.write_out() {
            Ok(()) => {
                crash_point("commit::written");
                Ok(written)
            }
            Err(AppendError::Full) => {
                // The position does not move, and no part of what was refused may be found by a recovery.
                self.file.truncate(self.offset).ok();
                self.chain = saved.0;
                self.digest.rewind(saved.1);
                self.refused = self.pending.drain(saved.2..).map(|(_, record)| record).collect();
                self.buffer.clear();
                Err(AppendError::Full)
            }
            Err(error) => Err(error),
        }
    }

    fn stage(&mut self, draft: Draft) -> Written {
        let start = self.buffer.len();
        self.meta.clear();
        self.meta.shrink_to(META_KEPT);
        draft.record.encode(&mut self.meta);
        let kind = draft.record.kind() as u8;
        let header = self.chain.encode(kind, &self.meta, &draft.body, self.durable, &mut self.buffer);
        let place = Place { segment: header.segment, offset: self.offset + start as u64 };
        self.digest.add(place.offset, &header, self.buffer.get(start..).unwrap_or_default());
        self.buffer.extend_from_slice(&draft.body);
        let written = Written { place, header };
        self.pending.push((written, draft.record));
        written
    }

    fn write_out(&mut self) -> Result<(), AppendError> {
        self.file.write_at(self.offset, &self.buffer).map_err(space)?;
        self.offset += self.buffer.len() as u64;
        self.appended += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The second half of the rule: sync, read the fence, and only then let the books know.
    pub(crate) fn finish(&mut self) -> Result<(), AppendError> {
        self.file.sync_data().map_err(sick)?;
        crash_point("commit::synced");
        self.check_fence()?;
        self.durable = self.chain.number;
        let mut books = self.books.lock();
        for (written, record) in self.pending.drain(..) {
            books.apply(written.place, &written.header, record);
        }
        drop(books);
        self.sizes.insert(self.chain.segment, self.offset);
        crash_point("commit::durable");
        Ok(())
    }

    /// Reads the own fence, past the cache, and then asks for the proof from outside, where there is one.
    fn check_fence(&self) -> Result<(), AppendError> {
        read_fence(self.fence.as_ref())?;
        match &self.identity.proof {
            Some(proof) => confirm(proof.as_ref(), self.clock.as_ref()),
            None => Ok(()),
        }
    }

    /// True if nothing was written since the last commit.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// The segment being written.
    pub(crate) fn segment(&self) -> SegmentId {
        self.chain.segment
    }

    /// Up to where frames are durable.
    pub(crate) fn committed(&self) -> (SegmentId, u64) {
        (self.chain.segment, self.offset)
    }

    /// Bytes appended in this epoch: only ever more.
    pub(crate) fn appended(&self) -> u64 {
        self.appended
    }

    /// Bytes after which the cleaner knows whether a segment empties by itself.
    pub(crate) fn ebb_window(&self) -> u64 {
        self.segment_size / EBB_PART
    }

    /// True if the files are so much larger than what lives in them that carrying forward pays.
    pub(crate) fn is_wasteful(&self, live: u64) -> bool {
        let used: u64 = self.sizes.values().sum();
        used > live + live * 3 / 10 + 2 * self.segment_size
    }

    /// Sees to it that `len` more bytes fit, opening the next segment if need be. Mail leaves a part of each segment to
    /// the records that empty the queue.
    fn make_room(&mut self, len: u64, mail: bool) -> Result<(), AppendError> {
        let limit =
            if mail { self.segment_size - self.segment_size / RESERVED_PART } else { self.segment_size };
        // A batch larger than a segment gets one of its own.
        let fits = self.offset + len <= limit || self.offset <= SECTOR_LEN as u64;
        if fits && self.digest.mark() < DIGEST_MAX {
            return Ok(());
        }
        if mail && self.reserve > 0 {
            let free = self.files.storage.free_space(&self.files.dir).map_err(sick)?;
            if free < self.reserve.saturating_add(self.segment_size) {
                return Err(AppendError::Full);
            }
        }
        match self.rotate() {
            Err(AppendError::Full) if !mail => Ok(()),
            result => result,
        }
    }

    /// Goes on in a new segment. It exists, durable and named, before the old one announces it, and the announcement is
    /// committed before any frame of the new one is referred to.
    fn rotate(&mut self) -> Result<(), AppendError> {
        if !self.is_settled() {
            self.finish()?;
        }
        let old = self.chain.segment;
        let next = SegmentId { number: old.number + 1, ..old };
        let file = create_segment(&self.files, next, self.segment_size, Space::Needed).map_err(space)?;
        crash_point("rotate::created");
        let announced = self.announce(next, file.as_ref());
        if let Err(AppendError::Full) = announced {
            // Nothing announced it, so nothing refers to it.
            self.files.storage.unlink(&self.files.segment(next)).ok();
        }
        announced?;
        let old_file = std::mem::replace(&mut self.file, file);
        let old_len = self.sizes.get(&old).copied().unwrap_or(0);
        old_file.truncate(old_len).ok();
        crash_point("rotate::done");
        Ok(())
    }

    fn announce(&mut self, next: SegmentId, file: &dyn StoredFile) -> Result<(), AppendError> {
        let saved = (self.chain, self.digest.mark(), self.offset);
        let announcement = self.stage(Draft::bare(Record::Next { segment: next }));
        let end = self.chain;
        let old_bytes = std::mem::take(&mut self.buffer);
        let old_len = self.offset + old_bytes.len() as u64;
        // The new segment's first frame comes after the announcement in the chain, but reaches the disk before it.
        self.chain.segment = next;
        let first_live = self.books.lock().live_bytes().keys().next().copied().unwrap_or(next);
        let head = Record::Segment(self.segment_record(first_live));
        let mut meta = Vec::with_capacity(256);
        head.encode(&mut meta);
        let header = self.chain.encode(head.kind() as u8, &meta, &[], self.durable, &mut self.buffer);
        let head_bytes = std::mem::take(&mut self.buffer);
        let written = (|| {
            file.write_at(0, &head_bytes)?;
            file.sync_data()?;
            self.files.storage.sync_dir(&self.files.segment_dir())?;
            crash_point("rotate::named");
            self.file.write_at(self.offset, &old_bytes)
        })();
        if let Err(error) = written {
            let error = space(error);
            (self.chain, self.offset) = (saved.0, saved.2);
            self.digest.rewind(saved.1);
            self.pending.clear();
            return Err(error);
        }
        self.file.sync_data().map_err(sick)?;
        crash_point("rotate::announced");
        self.check_fence()?;
        let digest = std::mem::take(&mut self.digest).finish(announcement.place.segment, old_len, end);
        self.write_digest(announcement.place.segment, &digest);
        let mut books = self.books.lock();
        for (written, record) in self.pending.drain(..) {
            books.apply(written.place, &written.header, record);
        }
        let place = Place { segment: next, offset: 0 };
        books.apply(place, &header, head);
        drop(books);
        self.digest.add(0, &header, &head_bytes);
        self.sizes.insert(announcement.place.segment, old_len);
        self.offset = head_bytes.len() as u64;
        self.sizes.insert(next, self.offset);
        self.durable = self.chain.number;
        Ok(())
    }

    /// Writes a digest. It is checked when it is read and never needed, so nothing waits for it and no error matters.
    fn write_digest(&self, segment: SegmentId, digest: &[u8]) {
        let written = self
            .files
            .storage
            .create_new(&self.files.digest(segment))
            .and_then(|file| file.write_at(0, digest));
        crash_point("digest::written");
        if let Err(error) = written {
            tracing::debug!(event = "queue.digest_failed", %segment, %error);
        }
    }
}

/// How long an owner waits for its proof before it gives itself up. Nothing that waits for it is lost: it is durable, and was
/// acknowledged to nobody.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until it is known whether the ownership stands.
fn confirm(proof: &dyn Proof, clock: &dyn Clock) -> Result<(), AppendError> {
    let began = clock.now();
    loop {
        match proof.stands() {
            Standing::Ours => return Ok(()),
            Standing::Others => return Err(AppendError::Fenced),
            Standing::Unknown(why) if clock.now().since(began) > PATIENCE => {
                return Err(AppendError::Sick(format!("nobody says whether this owner still owns: {why}")));
            }
            Standing::Unknown(_) => {}
        }
    }
}

/// Reads a fence sector: `Ok` only if it could be read and is zero.
pub(crate) fn read_fence(file: &dyn StoredFile) -> Result<(), AppendError> {
    let mut sector = [0; SECTOR_LEN];
    let read = file.read_at(FENCE_OFFSET, &mut sector).map_err(sick)?;
    if read != SECTOR_LEN {
        return Err(AppendError::Sick("the fence could not be read whole".to_owned()));
    }
    if Fence::is_fenced(&sector) { Err(AppendError::Fenced) } else { Ok(()) }
}

/// Whether a segment is of use without space set aside for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Space {
    Needed,
    /// A taker must be able to take a queue on a full disk, or nobody will ever empty it.
    IfThere,
}

fn create_segment(
    files: &QueueFiles,
    segment: SegmentId,
    size: u64,
    space: Space,
) -> io::Result<Box<dyn StoredFile>> {
    let path = files.segment(segment);
    let file = match files.storage.create_new(&path) {
        // Left by this very epoch, before it was announced: nothing refers to it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            files.storage.unlink(&path)?;
            files.storage.create_new(&path)?
        }
        file => file?,
    };
    if let Err(error) = file.allocate(size) {
        if space == Space::IfThere {
            return Ok(file);
        }
        files.storage.unlink(&path).ok();
        return Err(error);
    }
    Ok(file)
}

fn estimate(draft: &Draft) -> u64 {
    // Metas are small; those of large envelopes are not, and their length is known.
    let envelope = match &draft.record {
        Record::Message(message) => {
            message.envelope.len() + message.handover.as_ref().map_or(0, |handover| handover.weight())
        }
        Record::Carry(carry) => carry.message.envelope.len() + carry.recipients.len() * 64,
        Record::Taken(taken) => {
            taken.remembered.iter().map(|taken| 24 + taken.handover.weight()).sum::<usize>()
                + taken.forgotten.len() * 16
        }
        Record::Segment(_)
        | Record::Seal(_)
        | Record::Chunk { .. }
        | Record::Attempt(_)
        | Record::Outcome(_)
        | Record::Operate(_)
        | Record::Next { .. }
        | Record::Retire { .. }
        | Record::Replied(_)
        | Record::Clean { .. } => 0,
    };
    (HEADER_LEN + 256 + envelope + draft.body.len()) as u64
}

#[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
pub(crate) fn sick(error: io::Error) -> AppendError {
    AppendError::Sick(error.to_string())
}

/// An error of a write: out of space is no harm, since nothing was synced; anything else is.
fn space(error: io::Error) -> AppendError {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind());
    if full { AppendError::Full } else { sick(error) }
}
