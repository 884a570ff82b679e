//! From the files of a queue to its books. One code for a restart, a takeover, an inspection and the offline checker.
//!
//! The effective prefix of an epoch is what its SEAL says in the effective prefix of the highest later epoch that has
//! one; an epoch nobody sealed yet counts up to its last valid frame. Nothing behind it is ever mail. Replay looks
//! without touching: it returns what a taker must seal, what may be removed, and every fault, and changes nothing.

use std::collections::BTreeMap;

use mail_model::{Epoch, QueueId, SegmentId};

use crate::books::Books;
use crate::digest::Digest;
use crate::frame::{Chain, FrameHeader};
use crate::record::{Kind, Record, SealEntry, SegmentRecord};
use crate::scan::{self, Bodies, Damage, Place, Range, Source, SourceError, Tail};

/// Where the files of a queue come from.
pub trait QueueSource {
    /// Bytes of a segment.
    type Segment: Source;
    /// Epochs that have a lease file.
    fn epochs(&self) -> Result<Vec<Epoch>, SourceError>;
    /// Segments a listing shows: a hint.
    fn segments(&self) -> Result<Vec<SegmentId>, SourceError>;
    /// Opens a segment by name; `None` if there is no such file.
    fn open(&self, segment: SegmentId) -> Result<Option<Self::Segment>, SourceError>;
    /// The digest of a segment, if there is one.
    fn digest(&self, segment: SegmentId) -> Result<Option<Vec<u8>>, SourceError>;
}

/// What a replay is asked to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The cluster whose queue this must be.
    pub cluster: String,
    /// The queue it must be.
    pub queue: QueueId,
    /// Epochs from this one on are not looked at: a taker's own.
    pub before: Option<Epoch>,
    /// Which bodies are checked.
    pub bodies: Bodies,
    /// Read segments even where a digest would do.
    pub ignore_digests: bool,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Rot within a segment; what is whole behind it was kept.
    Damage(Damage),
    /// Announced, or between two that are there, and not there.
    Missing(SegmentId),
    /// A seal says the epoch goes on beyond what can be read.
    ShortOfSeal {
        /// The segment.
        segment: SegmentId,
        /// Bytes that can be read.
        len: u64,
        /// Bytes that were sealed.
        sealed: u64,
    },
    /// The records contradict each other.
    Anomaly(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damage(d) => {
                write!(
                    f,
                    "segment {} offset {}: {} ({} bytes)",
                    d.place.segment, d.place.offset, d.what, d.len
                )
            }
            Self::Missing(segment) => write!(f, "segment {segment}: missing"),
            Self::ShortOfSeal { segment, len, sealed } => {
                write!(f, "segment {segment}: ends at {len}, but was sealed at {sealed}")
            }
            Self::Anomaly(text) => f.write_str(text),
        }
    }
}

/// Why a queue is not replayed at all. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// A file could not be read: unknown is not empty.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The queue is another's.
    #[error("this is queue '{queue}' of cluster '{cluster}'; set queue.dir and cluster.id to the right ones")]
    Foreign {
        /// Its cluster.
        cluster: String,
        /// Its name.
        queue: QueueId,
    },
}

/// What a replay found.
#[derive(Debug)]
pub struct Replay {
    /// The books at the end.
    pub books: Books,
    /// Where each older epoch ends, oldest first: what a taker seals.
    pub ends: Vec<SealEntry>,
    /// Faults, in the order they were met.
    pub faults: Vec<Fault>,
    /// Frames of fenced owners behind their seals, never read as mail.
    pub late_frames: u64,
    /// Retired segments whose files are still there.
    pub leftovers: Vec<SegmentId>,
    /// Segments that no committed NEXT announced: nothing ever referred to them.
    pub orphans: Vec<SegmentId>,
    /// Bytes of segments that count.
    pub bytes: u64,
    /// True if some tail was torn.
    pub torn: bool,
}

/// Replays the queue of `source`.
pub fn replay<Q: QueueSource>(source: &Q, plan: &Plan) -> Result<Replay, ReplayError> {
    let mut walk = Walk::survey(source, plan)?;
    let first_live = walk.first_live()?;
    walk.result.leftovers = walk.segments.keys().copied().filter(|s| *s < first_live).collect();
    for epoch in walk.epochs.clone() {
        if epoch >= first_live.epoch {
            walk.epoch(epoch, first_live)?;
        }
    }
    if walk.flawed {
        return replay(source, &Plan { ignore_digests: true, ..plan.clone() });
    }
    let anomalies = walk.result.books.anomalies().iter().cloned().map(Fault::Anomaly);
    walk.result.faults.extend(anomalies);
    Ok(walk.result)
}

/// How many names in a row must be free before an epoch is taken to end: an owner may have rotated and retired that often
/// since the listing was fresh.
const NAMES_TRIED: u32 = 16;

struct Walk<'a, Q: QueueSource> {
    source: &'a Q,
    plan: &'a Plan,
    /// Segments the listing shows, with their first record if it is readable.
    segments: BTreeMap<SegmentId, Option<SegmentRecord>>,
    epochs: Vec<Epoch>,
    seals: BTreeMap<Epoch, SealEntry>,
    result: Replay,
    /// A digest whose checksum is right cannot be read, so the books are of no use.
    flawed: bool,
}

impl<'a, Q: QueueSource> Walk<'a, Q> {
    /// Reads the first records of every segment, from the youngest epoch down, and so finds the seals that count.
    fn survey(source: &'a Q, plan: &'a Plan) -> Result<Self, ReplayError> {
        let counts = |epoch: Epoch| plan.before.is_none_or(|b| epoch < b);
        let listed: Vec<SegmentId> = source.segments()?.into_iter().filter(|s| counts(s.epoch)).collect();
        let youngest = listed.iter().max().copied().unwrap_or_default();
        let mut epochs: Vec<Epoch> = source.epochs()?.into_iter().filter(|e| counts(*e)).collect();
        epochs.extend(listed.iter().map(|s| s.epoch));
        epochs.sort_unstable();
        epochs.dedup();
        let mut walk = Self {
            source,
            plan,
            segments: BTreeMap::new(),
            epochs,
            seals: BTreeMap::new(),
            result: Replay {
                books: Books::new(plan.queue.clone()),
                ends: Vec::new(),
                faults: Vec::new(),
                late_frames: 0,
                leftovers: Vec::new(),
                orphans: Vec::new(),
                bytes: 0,
                torn: false,
            },
            flawed: false,
        };
        for segment in listed {
            // A name may be gone since it was listed.
            if source.open(segment)?.is_some() {
                let head = walk.head(segment)?;
                walk.segments.insert(segment, head);
            }
        }
        walk.look_beyond_the_listing(youngest)?;
        for epoch in walk.epochs.clone().into_iter().rev() {
            walk.find_seals(epoch)?;
        }
        Ok(walk)
    }

    /// A listing may be old: it lacks the newest names, and names that it has may be gone. From the youngest it knows on,
    /// names are tried.
    fn look_beyond_the_listing(&mut self, youngest: SegmentId) -> Result<(), ReplayError> {
        for epoch in self.epochs.clone().into_iter().filter(|epoch| *epoch >= youngest.epoch) {
            let fresh = SegmentId { epoch, number: 0 };
            let mut segment = if epoch == youngest.epoch { following(youngest) } else { fresh };
            let mut missed = 0;
            while missed < NAMES_TRIED {
                if self.source.open(segment)?.is_some() {
                    let head = self.head(segment)?;
                    self.segments.insert(segment, head);
                    missed = 0;
                } else {
                    missed += 1;
                }
                segment = following(segment);
            }
        }
        Ok(())
    }

    /// The SEGMENT record of a segment, checked to be of this queue. `None` if it does not begin with one.
    fn head(&self, segment: SegmentId) -> Result<Option<SegmentRecord>, ReplayError> {
        let Some(bytes) = self.source.open(segment)? else { return Ok(None) };
        let mut head = None;
        let range = Range { until: first_frame_end(&bytes)?, ..Range::whole(None) };
        scan::scan(&bytes, segment, range, Bodies::Tail, |place, _, record| {
            if let (0, Record::Segment(record)) = (place.offset, record) {
                head = Some(record);
            }
        })?;
        match head {
            Some(r) if r.cluster != self.plan.cluster || r.queue != self.plan.queue => {
                Err(ReplayError::Foreign { cluster: r.cluster, queue: r.queue })
            }
            head => Ok(head),
        }
    }

    /// The header of a segment's first frame, if that is whole.
    fn first_header(&self, segment: SegmentId) -> Result<Option<FrameHeader>, ReplayError> {
        let Some(bytes) = self.source.open(segment)? else { return Ok(None) };
        let mut first = None;
        let range = Range { until: first_frame_end(&bytes)?, ..Range::whole(None) };
        scan::scan(&bytes, segment, range, Bodies::Tail, |_, header, _| first = Some(*header))?;
        Ok(first)
    }

    /// Takes the SEAL of `epoch`, if it is in its effective prefix. Seals of younger epochs are known already.
    fn find_seals(&mut self, epoch: Epoch) -> Result<(), ReplayError> {
        let first = SegmentId { epoch, number: 0 };
        if !self.segments.contains_key(&first) {
            return Ok(());
        }
        let Some(bytes) = self.source.open(first)? else { return Ok(()) };
        let until = match self.seals.get(&epoch) {
            Some(seal) if seal.segment == first => Some(seal.len),
            Some(_) | None => None,
        };
        // SEGMENT and SEAL are the first two frames; there is no need to read on.
        let one = first_frame_end(&bytes)?.unwrap_or(0);
        let mut second = [0; crate::frame::HEADER_LEN];
        bytes.read_at(one, &mut second)?;
        let two = crate::frame::peek(&second).map_or(one, |h| one.saturating_add(h.frame_len()));
        let until = Some(until.unwrap_or(two).min(two));
        let range = Range { until, ..Range::whole(Some(Chain::start(epoch))) };
        let mut seal = None;
        scan::scan(&bytes, first, range, Bodies::Tail, |_, _, record| {
            if let Record::Seal(entries) = record {
                seal = Some(entries);
            }
        })?;
        if seal.is_none() && self.never_began(first, &bytes)? {
            let nothing = SealEntry { segment: first, len: 0, number: 0, chain: 0 };
            self.seals.entry(epoch).or_insert(nothing);
        }
        for entry in seal.into_iter().flatten() {
            self.seals.entry(entry.segment.epoch).or_insert(entry);
        }
        Ok(())
    }

    /// True if nothing follows the SEGMENT of an epoch that has no SEAL: its owner died before it had sealed, so it never
    /// worked. Its sums must not count: the epoch before it was not sealed, and may have written on.
    fn never_began(&self, first: SegmentId, bytes: &Q::Segment) -> Result<bool, ReplayError> {
        let mut frames = 0;
        let found = scan::scan(bytes, first, Range::whole(None), Bodies::Tail, |_, _, _| frames += 1)?;
        Ok(frames <= 1 && found.damages.is_empty() && self.younger(first).is_none())
    }

    /// True if `segment` lies within its epoch's seal, or its epoch has none.
    fn counts(&self, segment: SegmentId) -> bool {
        self.seals.get(&segment.epoch).is_none_or(|s| segment <= s.segment && s.number > 0)
    }

    /// The oldest segment that still matters: what the youngest records say.
    fn first_live(&self) -> Result<SegmentId, ReplayError> {
        let heads = || self.segments.iter().filter(|(id, _)| self.counts(**id));
        let known = heads().filter_map(|(_, head)| head.as_ref()).map(|h| h.first_live);
        let mut first = known.max().unwrap_or_default();
        // The youngest may be one that was never announced: then its owner went on in the one before.
        for last in heads().rev().filter(|(_, head)| head.is_some()).map(|(id, _)| *id).take(2) {
            let Some(bytes) = self.source.open(last)? else { continue };
            let until = self.seals.get(&last.epoch).filter(|s| s.segment == last).map(|s| s.len);
            let range = Range { until, ..Range::whole(None) };
            scan::scan(&bytes, last, range, Bodies::Tail, |_, _, record| {
                if let Record::Retire { first_live } = record {
                    first = first.max(first_live);
                }
            })?;
        }
        Ok(first)
    }

    /// Replays one epoch from its first segment that matters, and notes where it ends.
    fn epoch(&mut self, epoch: Epoch, first_live: SegmentId) -> Result<(), ReplayError> {
        let seal = self.seals.get(&epoch).copied();
        let fresh = SegmentId { epoch, number: 0 };
        let mut segment = if first_live.epoch == epoch { first_live } else { fresh };
        let mut chain = (segment.number == 0).then(|| Chain::start(epoch));
        let mut end = SealEntry { segment, len: 0, number: 0, chain: 0 };
        if seal.is_some_and(|s| s.number == 0) {
            self.result.late_frames += self.late(epoch, end)?;
            self.result.ends.push(end);
            return Ok(());
        }
        loop {
            let stop = seal.filter(|s| s.segment == segment);
            let closed = stop.is_some() || self.segments.contains_key(&following(segment));
            let Some(read) = self.segment(segment, chain, stop, closed)? else {
                let known_beyond =
                    seal.is_some_and(|s| segment <= s.segment) || self.younger(segment).is_some();
                if known_beyond || segment != fresh || self.segments.contains_key(&fresh) {
                    self.result.faults.push(Fault::Missing(segment));
                }
                match self.younger(segment).filter(|_| known_beyond) {
                    Some(next) => {
                        (segment, chain) = (next, None);
                        continue;
                    }
                    None => break,
                }
            };
            end = SealEntry { segment, len: read.len, number: read.chain.number, chain: read.chain.crc };
            self.result.bytes += read.len;
            if let Some(stop) = stop {
                if read.len < stop.len {
                    self.result.faults.push(Fault::ShortOfSeal { segment, len: read.len, sealed: stop.len });
                }
                end = stop;
                break;
            }
            match (read.next, self.younger(segment)) {
                (Some(next), _) => {
                    chain = Some(Chain { segment: next, ..read.chain });
                    segment = next;
                }
                // A seal or a witness knows of more: the announcement was lost to rot.
                (None, Some(next)) if seal.is_some() || self.is_witness(next, read.chain.number)? => {
                    (segment, chain) = (next, None);
                }
                (None, _) => break,
            }
        }
        self.result.late_frames += self.late(epoch, end)?;
        let beyond = self.segments.range(following(end.segment)..).map(|(s, _)| *s);
        let orphans: Vec<SegmentId> = beyond.take_while(|s| s.epoch == epoch).collect();
        self.result.orphans.extend(orphans);
        self.result.ends.push(end);
        Ok(())
    }

    fn younger(&self, segment: SegmentId) -> Option<SegmentId> {
        self.segments.range(following(segment)..).map(|(s, _)| *s).find(|s| s.epoch == segment.epoch)
    }

    /// True if a frame of `segment` knew frame `number` of its epoch to be durable.
    fn is_witness(&self, segment: SegmentId, number: u64) -> Result<bool, ReplayError> {
        let Some(bytes) = self.source.open(segment)? else { return Ok(false) };
        let mut witness = false;
        scan::scan(&bytes, segment, Range::whole(None), Bodies::Tail, |_, header, _| {
            witness |= header.durable > number;
        })?;
        Ok(witness)
    }

    /// Frames of `epoch` behind `end`.
    fn late(&self, epoch: Epoch, end: SealEntry) -> Result<u64, ReplayError> {
        if !self.seals.contains_key(&epoch) {
            return Ok(0);
        }
        match self.source.open(end.segment)? {
            Some(bytes) => Ok(scan::count_late(&bytes, end.segment, end.len)?),
            None => Ok(0),
        }
    }

    /// Applies one segment to the books, from its digest if that will do. `None` if the file is not there.
    fn segment(
        &mut self,
        segment: SegmentId,
        chain: Option<Chain>,
        stop: Option<SealEntry>,
        closed: bool,
    ) -> Result<Option<Read>, ReplayError> {
        let Some(bytes) = self.source.open(segment)? else { return Ok(None) };
        if closed
            && !self.plan.ignore_digests
            && self.plan.bodies == Bodies::Tail
            && let Some(read) = self.apply_digest(segment, chain, stop)?
        {
            return Ok(Some(read));
        }
        let after = self.first_header(following(segment))?;
        let durable = match stop {
            Some(seal) => seal.number,
            None => after.map_or(0, |header| header.durable),
        };
        let cookie = after.map(|header| header.cookie);
        let mut next = None;
        let books = &mut self.result.books;
        let range = Range { from: 0, chain, until: stop.map(|s| s.len), durable, cookie };
        let found = scan::scan(&bytes, segment, range, self.plan.bodies, |place, header, record| {
            apply(books, place, header, record, &mut next);
        })?;
        self.result.torn |= found.tail == Tail::Torn && stop.is_none();
        self.result.faults.extend(found.damages.into_iter().map(Fault::Damage));
        Ok(Some(Read { len: found.len, chain: found.chain, next }))
    }

    fn apply_digest(
        &mut self,
        segment: SegmentId,
        chain: Option<Chain>,
        stop: Option<SealEntry>,
    ) -> Result<Option<Read>, ReplayError> {
        let Some(bytes) = self.source.digest(segment)? else { return Ok(None) };
        let Ok(digest) = Digest::open(&bytes) else { return Ok(None) };
        let end_agrees = match stop {
            Some(s) => digest.len == s.len && digest.end.number == s.number && digest.end.crc == s.chain,
            None => self.next_begins_with(digest.end)?,
        };
        let first = digest.frames().next().and_then(Result::ok);
        let start_agrees = match (chain, first) {
            (Some(chain), Some((_, header, _))) => chain.is_next(&header),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if digest.segment != segment || !end_agrees || !start_agrees {
            return Ok(None);
        }
        let mut next = None;
        for frame in digest.frames() {
            let applied = frame.and_then(|(place, header, meta)| {
                if header.kind == Kind::Message as u8 {
                    return self.result.books.apply_message_meta(place, &header, meta);
                }
                let record = Record::decode(header.kind, meta)?;
                apply(&mut self.result.books, place, &header, record, &mut next);
                Ok(())
            });
            self.flawed |= applied.is_err();
        }
        Ok(Some(Read { len: digest.len, chain: digest.end, next }))
    }

    /// True if the segment after `end.segment` begins with the frame that comes after `end`.
    fn next_begins_with(&self, end: Chain) -> Result<bool, ReplayError> {
        let next = following(end.segment);
        let Some(bytes) = self.source.open(next)? else { return Ok(false) };
        let mut header = [0; crate::frame::HEADER_LEN];
        bytes.read_at(0, &mut header)?;
        Ok(crate::frame::peek(&header).is_ok_and(|h| Chain { segment: next, ..end }.is_next(&h)))
    }
}

fn first_frame_end(bytes: &impl Source) -> Result<Option<u64>, SourceError> {
    let mut header = [0; crate::frame::HEADER_LEN];
    bytes.read_at(0, &mut header)?;
    Ok(Some(crate::frame::peek(&header).map_or(0, |h| h.frame_len())))
}

struct Read {
    len: u64,
    chain: Chain,
    next: Option<SegmentId>,
}

fn apply(
    books: &mut Books,
    place: Place,
    header: &FrameHeader,
    record: Record,
    next: &mut Option<SegmentId>,
) {
    if let Record::Next { segment } = &record {
        *next = Some(*segment);
    }
    books.apply(place, header, record);
}

fn following(segment: SegmentId) -> SegmentId {
    SegmentId { number: segment.number.saturating_add(1), ..segment }
}
