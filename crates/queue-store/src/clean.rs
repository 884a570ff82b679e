//! Keeping disk use near what is live: segments leave oldest first (see `docs/decisions/0001`).
//!
//! A step is small, so that commits between two steps do not wait: carry a few live messages of the oldest segment
//! forward, or, if none is left there, retire it and everything dead behind it.

mod ebb;

use std::collections::VecDeque;

use bytes::Bytes;
use mail_model::{SegmentId, WallTime};
use queue_format::books::BodyPlace;
use queue_format::frame::{self, HEADER_LEN};
use queue_format::record::{
    CarryRecord, ChunkRef, Content, MessageKey, MessageRecord, RecipientStanding, Record, Taken, TakenRecord,
};

use self::ebb::{Ebb, Pace};
use crate::appender::{AppendError, Appender, Draft, sick};
use crate::content::{self, ContentError};
use crate::point::crash_point;

/// Bytes carried forward in one step.
const STEP_BYTES: u64 = 1 << 20;

/// A hand-over is not repeated so long after its message was accepted: twice the time that mail is tried by default.
const REPEATED_MS_MAX: u64 = 10 * 24 * 60 * 60 * 1_000;

/// Hand-overs in one record.
const TAKEN_MAX: usize = 256;

/// What a cleaner remembers between steps.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    segment: SegmentId,
    left: VecDeque<MessageKey>,
    ebb: Ebb,
    /// Segments with a message that cannot be read whole: they stay, for people to look at.
    blocked: bool,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is nothing to do now.
    Idle,
    /// There may be more to do.
    Worked,
}

impl Cleaner {
    /// Takes one step. `needed` is the oldest segment with content whose message is not accepted yet: it and all behind
    /// it stay.
    pub(crate) fn step(
        &mut self,
        appender: &mut Appender,
        needed: Option<SegmentId>,
    ) -> Result<Step, AppendError> {
        let Survey { oldest, live, lives_in_oldest, used_from } = survey(appender);
        let mut dead_until = needed.map_or(used_from, |needed| used_from.min(needed));
        let Some(oldest) = oldest.filter(|_| !self.blocked) else { return Ok(Step::Idle) };
        if dead_until > oldest {
            // A message may have been carried away from the ATTEMPT that runs for it.
            let attempted = appender.books.lock().first_attempted();
            dead_until = attempted.map_or(dead_until, |attempted| dead_until.min(attempted));
        }
        if dead_until > oldest {
            retire(appender, dead_until)?;
            return Ok(Step::Worked);
        }
        let leaves = needed.is_none_or(|needed| needed > oldest);
        if oldest == appender.segment() || !leaves || !appender.is_wasteful(live) {
            return Ok(Step::Idle);
        }
        if self.segment != oldest || self.left.is_empty() {
            let now = appender.clock.now();
            let window = appender.ebb_window();
            let pace = self.ebb.look(oldest, lives_in_oldest, appender.appended(), window, now);
            if pace == Pace::Leaves {
                return Ok(Step::Idle);
            }
            self.segment = oldest;
            self.left = appender.books.lock().messages_in(oldest).collect();
        }
        if self.left.is_empty() {
            return Ok(Step::Idle);
        }
        self.carry_some(appender)?;
        Ok(Step::Worked)
    }

    fn carry_some(&mut self, appender: &mut Appender) -> Result<(), AppendError> {
        let mut carried = 0;
        while carried < STEP_BYTES {
            let Some(key) = self.left.pop_front() else { break };
            match carry(appender, key)? {
                Carried::Bytes(bytes) => carried += bytes,
                Carried::Damaged(what) => {
                    let message = format!("{}-{:x}-{:x}", appender.identity.queue, key.epoch.0, key.sequence);
                    tracing::error!(event = "queue.message_damaged", %message, segment = %self.segment, what);
                    self.blocked = true;
                    break;
                }
            }
        }
        appender.finish()?;
        crash_point("carry::committed");
        Ok(())
    }
}

/// What lives where.
struct Survey {
    oldest: Option<SegmentId>,
    /// All live bytes.
    live: u64,
    lives_in_oldest: u64,
    /// The oldest segment with something live in it.
    used_from: SegmentId,
}

fn survey(appender: &Appender) -> Survey {
    let books = appender.books.lock();
    let current = appender.segment();
    let lives = books.live_bytes();
    let oldest = appender.sizes.keys().next().copied();
    let used_from =
        lives.iter().find(|(id, bytes)| **bytes > 0 && **id < current).map_or(current, |(id, _)| *id);
    Survey {
        oldest,
        live: lives.values().sum(),
        lives_in_oldest: oldest.and_then(|oldest| lives.get(&oldest).copied()).unwrap_or_default(),
        used_from,
    }
}

/// Declares every segment before `first_live` gone, and then removes it.
fn retire(appender: &mut Appender, first_live: SegmentId) -> Result<(), AppendError> {
    let since = WallTime(appender.clock.wall().0.saturating_sub(REPEATED_MS_MAX));
    let known = appender.books.lock().handovers_before(first_live, since);
    if !known.is_empty() {
        let forth = |known: &[Taken]| {
            let taken = TakenRecord { remembered: known.to_vec(), forgotten: Vec::new() };
            Draft::bare(Record::Taken(taken))
        };
        appender.commit(known.chunks(TAKEN_MAX).map(forth).collect())?;
        crash_point("retire::remembered");
    }
    appender.commit(vec![Draft::bare(Record::Retire { first_live })])?;
    crash_point("retire::committed");
    let kept = appender.sizes.split_off(&first_live);
    let retired = std::mem::replace(&mut appender.sizes, kept);
    for segment in retired.keys() {
        remove_files(appender, *segment);
        crash_point("retire::unlinked");
    }
    Ok(())
}

/// Removes a retired segment and its digest. A file that stays is found again at the next start.
pub(crate) fn remove_files(appender: &Appender, segment: SegmentId) {
    let files = &appender.files;
    files.forget(segment);
    for path in [files.segment(segment), files.digest(segment)] {
        match files.storage.unlink(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(event = "queue.unlink_failed", path = %path.display(), %error);
            }
            Ok(()) | Err(_) => {}
        }
    }
}

enum Carried {
    Bytes(u64),
    Damaged(String),
}

/// Writes one live message again, whole and with all its standing.
fn carry(appender: &mut Appender, key: MessageKey) -> Result<Carried, AppendError> {
    let Some(message) = appender.books.lock().message(key) else { return Ok(Carried::Bytes(0)) };
    let record = match read_record(appender, key, &message.place, message.frame_len)? {
        Ok(record) => record,
        Err(what) => return Ok(Carried::Damaged(what)),
    };
    let (content, body) = match &message.body {
        BodyPlace::Inline { offset, len, crc } => {
            let whole = ChunkRef { segment: message.place.segment, offset: *offset, len: *len, crc: *crc };
            match read_piece(appender, whole)? {
                Ok(bytes) => (Content::Inline, bytes),
                Err(what) => return Ok(Carried::Damaged(what)),
            }
        }
        BodyPlace::Chunks(chunks) => match carry_chunks(appender, key, chunks)? {
            Ok(chunks) => (Content::Chunks(chunks), Bytes::new()),
            Err(what) => return Ok(Carried::Damaged(what)),
        },
    };
    let recipients = message
        .standings
        .iter()
        .map(|s| RecipientStanding {
            state: s.state,
            attempts: s.attempts,
            due: s.due,
            last_reply: s.last_reply.as_deref().cloned(),
            warned: s.warned,
            doubtful: s.doubtful,
            crashes: s.crashes,
            redirect: s.redirect.clone(),
        })
        .collect();
    let message = MessageRecord { content, settles: None, handover: None, ..record };
    let size = message.size;
    appender.write(vec![Draft { record: Record::Carry(CarryRecord { message, recipients }), body }])?;
    Ok(Carried::Bytes(size))
}

type Readable<T> = Result<T, String>;

fn carry_chunks(
    appender: &mut Appender,
    key: MessageKey,
    chunks: &[ChunkRef],
) -> Result<Readable<Vec<ChunkRef>>, AppendError> {
    let mut moved = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let bytes = match read_piece(appender, *chunk)? {
            Ok(bytes) => bytes,
            Err(what) => return Ok(Err(what)),
        };
        let written = appender.write(vec![Draft { record: Record::Chunk { message: key }, body: bytes }])?;
        moved.extend(written.first().map(chunk_ref));
    }
    Ok(Ok(moved))
}

/// Where the bytes of a written CHUNK frame are.
pub(crate) fn chunk_ref(written: &crate::appender::Written) -> ChunkRef {
    ChunkRef {
        segment: written.place.segment,
        offset: written.place.offset + written.header.body_offset(),
        len: written.header.body_len,
        crc: written.header.body_crc,
    }
}

fn read_piece(appender: &Appender, chunk: ChunkRef) -> Result<Readable<Bytes>, AppendError> {
    match content::read_piece(&appender.files, chunk) {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(damaged @ ContentError::Damaged { .. }) => Ok(Err(damaged.to_string())),
        Err(unreadable @ ContentError::Unreadable { .. }) => Err(AppendError::Sick(unreadable.to_string())),
    }
}

/// The MESSAGE or CARRY record of a live message, read back from its frame.
fn read_record(
    appender: &Appender,
    key: MessageKey,
    place: &queue_format::scan::Place,
    frame_len: u64,
) -> Result<Readable<MessageRecord>, AppendError> {
    let file = appender.files.storage.open(&appender.files.segment(place.segment)).map_err(sick)?;
    let mut head = vec![0; HEADER_LEN];
    file.read_at(place.offset, &mut head).map_err(sick)?;
    let damaged = |what: &str| Ok(Err(format!("segment {} offset {}: {what}", place.segment, place.offset)));
    let Ok(header) = frame::peek(&head) else { return damaged("frame header") };
    if header.frame_len() != frame_len {
        return damaged("frame length");
    }
    let mut meta = vec![0; header.meta_len as usize];
    file.read_at(place.offset + HEADER_LEN as u64, &mut meta).map_err(sick)?;
    if frame::check_meta(&header, &meta).is_err() {
        return damaged("frame checksum");
    }
    match Record::decode(header.kind, &meta) {
        Ok(Record::Message(record)) if record.key == key => Ok(Ok(record)),
        Ok(Record::Carry(carry)) if carry.message.key == key => Ok(Ok(carry.message)),
        Ok(_) | Err(_) => damaged("another record than expected"),
    }
}
