//! Looking at a segment without touching it.
//!
//! The scan hands out frames in order and says where the ones that count end. It never repairs, truncates or guesses.
//!
//! | it meets | and does |
//! |---|---|
//! | the next frame of the chain | hands it out, once its content is vouched for |
//! | zeros, a cut or torn frame, and nothing durable behind it | that is the end: a torn tail, normal after a crash |
//! | a bad frame, and behind it a good one that knew it to be durable | *rot*: reports the range, goes on behind it |
//!
//! Behind damage, frames are searched for among bytes that may be a stranger's mail. Only those count that bear the cookie
//! of the frames before the damage, or of the segment after this one.
//!
//! A frame's header and meta have a checksum of their own. Its body is vouched for by a later frame, a seal or the next
//! segment that says it was durable; the frames of the last, possibly unsynced batch have no such witness, so their bodies are read and checked.

use std::collections::VecDeque;

use mail_model::SegmentId;

use crate::frame::{self, Chain, FrameError, FrameHeader, HEADER_LEN, MAGIC};
use crate::record::Record;

/// Reading failed. Unknown is not empty: whoever scans must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read: {0}")]
pub struct SourceError(pub String);

/// Bytes of one segment.
pub trait Source {
    /// How many there are.
    fn len(&self) -> u64;
    /// True if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buffer` from `offset` on; fewer bytes only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError>;
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.get(start..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(rest) {
            *slot = *byte;
        }
        Ok(count)
    }
}

/// Where a frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The segment.
    pub segment: SegmentId,
    /// Where the frame starts in it.
    pub offset: u64,
}

/// Which bodies are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// Only those of the last batch.
    Tail,
    /// All: for the offline checker.
    All,
}

/// A range that cannot be what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where it starts.
    pub place: Place,
    /// Bytes.
    pub len: u64,
    /// What is wrong.
    pub what: FrameError,
}

/// How the bytes end behind the last frame that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Nothing is there, or only zeros that were set aside.
    Blank,
    /// Bytes of writes that never became durable.
    Torn,
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Bytes that count.
    pub len: u64,
    /// The frame that would come next.
    pub chain: Chain,
    /// What is behind them.
    pub tail: Tail,
    /// Rot, in order.
    pub damages: Vec<Damage>,
}

/// Where a scan starts, and where it must stop.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// First frame to look at: offset, and its place in the chain. A chain that is not known (`None`) is taken from the
    /// first frame.
    pub from: u64,
    /// The chain at that offset.
    pub chain: Option<Chain>,
    /// Bytes behind this offset do not count (a seal).
    pub until: Option<u64>,
    /// Frames with lower numbers are known to have been durable, from outside this segment: a seal, or the segment after
    /// it. 0 if nothing is known.
    pub durable: u64,
    /// The cookie of this epoch, if it is known from outside this segment.
    pub cookie: Option<u64>,
}

impl Range {
    /// The whole of a segment whose chain at the start is `chain`.
    #[must_use]
    pub fn whole(chain: Option<Chain>) -> Self {
        Self { from: 0, chain, until: None, durable: 0, cookie: None }
    }
}

/// Bytes read at a time.
const WINDOW: usize = 256 << 10;

/// A sliding view of a source.
struct Window<'a, S: Source + ?Sized> {
    source: &'a S,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a, S: Source + ?Sized> Window<'a, S> {
    fn new(source: &'a S, until: Option<u64>) -> Self {
        let end = until.map_or(source.len(), |u| u.min(source.len()));
        Self { source, end, start: 0, bytes: Vec::new() }
    }

    /// `len` bytes at `offset`; `None` if the source ends before.
    fn at(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>, SourceError> {
        if offset.saturating_add(len as u64) > self.end {
            return Ok(None);
        }
        let held = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let inside = held.is_some_and(|skip| skip.saturating_add(len) <= self.bytes.len());
        if !inside {
            self.load(offset, len)?;
        }
        let skip = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).and_then(|b| b.get(..len)))
    }

    fn load(&mut self, offset: u64, len: usize) -> Result<(), SourceError> {
        let room = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        self.bytes.resize(len.max(WINDOW).min(room), 0);
        self.start = offset;
        let read = self.source.read_at(offset, &mut self.bytes)?;
        self.bytes.truncate(read);
        Ok(())
    }

    /// Where the next magic is at or behind `offset`.
    fn find_magic(&mut self, mut offset: u64) -> Result<Option<u64>, SourceError> {
        while offset + HEADER_LEN as u64 <= self.end {
            // Only what is not held yet is read: a body full of magics must not cost a window each.
            self.at(offset, HEADER_LEN)?;
            let skip = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
            let held = self.bytes.get(skip..).unwrap_or_default();
            if held.len() < HEADER_LEN {
                return Ok(None);
            }
            // A preallocated segment is mostly zeros, and all of them are searched.
            if let Some(at) = memchr::memmem::find(held, &MAGIC) {
                return Ok(Some(offset + at as u64));
            }
            offset += (held.len() - (MAGIC.len() - 1)) as u64;
        }
        Ok(None)
    }
}

/// A frame that is good in itself but not yet vouched for.
struct Pending {
    offset: u64,
    header: FrameHeader,
    record: Record,
    before: Chain,
}

/// Scans one segment and hands every frame that counts to `visit`, in order.
///
/// `segment` must be the one the file's name says: frames of another are not frames here.
pub fn scan<S: Source + ?Sized>(
    source: &S,
    segment: SegmentId,
    range: Range,
    bodies: Bodies,
    mut visit: impl FnMut(Place, &FrameHeader, Record),
) -> Result<Scanned, SourceError> {
    let mut window = Window::new(source, range.until);
    let mut offset = range.from;
    let mut chain = range.chain;
    let mut cookie = range.cookie;
    let mut pending: VecDeque<Pending> = VecDeque::new();
    let mut damages = Vec::new();
    let fault = loop {
        match next_frame(&mut window, segment, offset)? {
            Ok((header, record)) if chain.is_none_or(|c| c.is_next(&header)) => {
                cookie = Some(header.cookie);
                let before = chain.unwrap_or(found_at(&header));
                let mut after = before;
                after.advance(&header);
                chain = Some(after);
                pending.push_back(Pending { offset, header, record, before });
                while pending.front().is_some_and(|p| p.header.number < header.durable.max(range.durable)) {
                    if let Some(proven) = pending.pop_front() {
                        hand_out(&mut window, segment, proven, bodies, &mut damages, &mut visit)?;
                    }
                }
                offset += header.frame_len();
            }
            found => {
                let fault = found.err().unwrap_or(FrameError::Magic);
                let number = chain.map_or(0, |c| c.number);
                let known = range.durable;
                let place = Place { segment, offset };
                let wanted = Wanted { beyond: number, known, cookie };
                let Some(resume) = find_witness(&mut window, segment, offset, wanted)? else {
                    // What was durable and is not there was lost to rot or to a cut.
                    if number < known {
                        damages.push(Damage { place, len: window.end.saturating_sub(offset), what: fault });
                    }
                    break fault;
                };
                damages.push(Damage { place, len: resume - offset, what: fault });
                offset = resume;
                chain = None;
            }
        }
    };
    // The last batch has no witness: its bodies are read, and the first bad one is where the queue ends.
    let mut end = (offset, chain.unwrap_or(Chain { segment, number: 0, crc: 0, cookie: 0 }));
    let mut torn = false;
    for last in pending {
        if !body_is_good(&mut window, &last)? {
            end = (last.offset, last.before);
            torn = true;
            break;
        }
        let place = Place { segment, offset: last.offset };
        visit(place, &last.header, last.record);
    }
    let tail =
        if torn || !matches!(fault, FrameError::Blank | FrameError::Short) || any_byte(&mut window, end.0)? {
            Tail::Torn
        } else {
            Tail::Blank
        };
    Ok(Scanned { len: end.0, chain: end.1, tail, damages })
}

fn hand_out<S: Source + ?Sized>(
    window: &mut Window<'_, S>,
    segment: SegmentId,
    proven: Pending,
    bodies: Bodies,
    damages: &mut Vec<Damage>,
    visit: &mut impl FnMut(Place, &FrameHeader, Record),
) -> Result<(), SourceError> {
    let place = Place { segment, offset: proven.offset };
    if bodies == Bodies::All && !body_is_good(window, &proven)? {
        let len = proven.header.frame_len();
        damages.push(Damage { place, len, what: FrameError::BodyCrc });
    }
    visit(place, &proven.header, proven.record);
    Ok(())
}

fn body_is_good<S: Source + ?Sized>(
    window: &mut Window<'_, S>,
    frame: &Pending,
) -> Result<bool, SourceError> {
    let at = frame.offset + frame.header.body_offset();
    let body = window.at(at, frame.header.body_len as usize)?;
    Ok(body.is_some_and(|b| frame::check_body(&frame.header, b).is_ok()))
}

type Found = Result<(FrameHeader, Record), FrameError>;

/// The frame at `offset`, if its header, meta and record are good and it is of this segment. Its whole length lies
/// within the source.
fn next_frame<S: Source + ?Sized>(
    window: &mut Window<'_, S>,
    segment: SegmentId,
    offset: u64,
) -> Result<Found, SourceError> {
    let Some(head) = window.at(offset, HEADER_LEN)? else { return Ok(Err(FrameError::Short)) };
    let header = match frame::peek(head) {
        Ok(header) if header.segment == segment => header,
        Ok(_) => return Ok(Err(FrameError::Magic)),
        Err(fault) => return Ok(Err(fault)),
    };
    if offset + header.frame_len() > window.end {
        return Ok(Err(FrameError::Short));
    }
    let Some(meta) = window.at(offset + HEADER_LEN as u64, header.meta_len as usize)? else {
        return Ok(Err(FrameError::Short));
    };
    if let Err(fault) = frame::check_meta(&header, meta) {
        return Ok(Err(fault));
    }
    // A good checksum over a record we cannot read is another version's, or a fault of ours: never skipped in silence.
    Ok(Record::decode(header.kind, meta).map(|record| (header, record)).map_err(|_| FrameError::Crc))
}

/// The chain just before a frame that was met without one.
fn found_at(header: &FrameHeader) -> Chain {
    Chain { segment: header.segment, number: header.number, crc: header.chain, cookie: 0 }
}

/// A frame that is searched for behind damage.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    /// Its number is higher.
    beyond: u64,
    /// Frames with lower numbers are known to have been durable.
    known: u64,
    /// What it bears, if that is known.
    cookie: Option<u64>,
}

/// The first good frame behind `offset` that is wanted, if it or a later one knew the damage to have been durable.
fn find_witness<S: Source + ?Sized>(
    window: &mut Window<'_, S>,
    segment: SegmentId,
    offset: u64,
    wanted: Wanted,
) -> Result<Option<u64>, SourceError> {
    let mut first = None;
    let mut at = offset + 1;
    while let Some(found) = window.find_magic(at)? {
        if let Ok((header, _)) = next_frame(window, segment, found)?
            && header.number > wanted.beyond
            && wanted.cookie.is_none_or(|cookie| header.cookie == cookie)
        {
            first = first.or(Some(found));
            if header.durable.max(wanted.known) > wanted.beyond {
                return Ok(first);
            }
        }
        at = found + 1;
    }
    Ok(None)
}

fn any_byte<S: Source + ?Sized>(window: &mut Window<'_, S>, from: u64) -> Result<bool, SourceError> {
    let mut offset = from;
    while offset < window.end {
        let len = usize::try_from(window.end - offset).unwrap_or(usize::MAX).min(WINDOW);
        match window.at(offset, len)? {
            Some(bytes) if is_zero(bytes) => offset += len as u64,
            Some(_) | None => return Ok(true),
        }
    }
    Ok(false)
}

/// The first byte is zero, and every other is like the one before it: two views of one buffer are compared at once.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.split_first().is_none_or(|(first, rest)| *first == 0 && bytes.starts_with(rest))
}

/// Counts good frames of `segment` behind `from`: what a fenced owner wrote after its end was sealed.
pub fn count_late<S: Source + ?Sized>(source: &S, segment: SegmentId, from: u64) -> Result<u64, SourceError> {
    let mut window = Window::new(source, None);
    let mut late = 0;
    let mut at = from;
    while let Some(found) = window.find_magic(at)? {
        at = match next_frame(&mut window, segment, found)? {
            Ok((header, _)) => {
                late += 1;
                found + header.frame_len()
            }
            Err(_) => found + 1,
        };
    }
    Ok(late)
}
