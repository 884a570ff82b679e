//! What the segments of a queue still tell of one message: every record that names it, in the order they were written, by any
//! owner. Read without owning the queue, and without touching it.
//!
//! A segment whose turn has come is removed, so a message that ended long ago is not found any more.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mail_model::{Epoch, NodeId, SegmentId, WallTime};
use queue_format::record::{MessageKey, Record, Totals};
use queue_format::replay::QueueSource;
use queue_format::scan::{self, Bodies, Range, SourceError};

use crate::files::QueueFiles;
use crate::storage::Disk;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose ownership it was written under.
    pub epoch: Epoch,
    /// What it says.
    pub record: Record,
}

/// An ownership that wrote something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The node.
    pub node: NodeId,
    /// When its first segment was opened.
    pub since: WallTime,
}

/// Everything found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// In the order they were written.
    pub entries: Vec<Entry>,
    /// Owners by epoch.
    pub owners: BTreeMap<Epoch, Owner>,
}

/// Reads every record about `key` in the queue at `dir`. Records that a later owner's seal left out do not count.
pub fn history(dir: &Path, key: MessageKey) -> Result<History, SourceError> {
    let files = QueueFiles::new(Arc::new(Disk), dir);
    let mut segments = files.segments()?;
    // The listing is a hint, and names some twice.
    segments.sort_unstable();
    segments.dedup();
    let mut found: Vec<(SegmentId, u64, Record)> = Vec::new();
    let mut seals: BTreeMap<SegmentId, u64> = BTreeMap::new();
    let mut history = History::default();
    for segment in segments {
        // An owner at work may have removed it since the listing.
        let Some(bytes) = files.open(segment)? else { continue };
        scan::scan(&bytes, segment, Range::whole(None), Bodies::Tail, |place, _, record| {
            match &record {
                Record::Segment(opened) => {
                    let owner = Owner { node: opened.owner.clone(), since: opened.opened };
                    history.owners.entry(segment.epoch).or_insert(owner);
                }
                // The youngest epoch that seals has the word, and segments are read in order.
                Record::Seal(entries) => seals.extend(entries.iter().map(|seal| (seal.segment, seal.len))),
                Record::Chunk { .. }
                | Record::Message(_)
                | Record::Carry(_)
                | Record::Attempt(_)
                | Record::Outcome(_)
                | Record::Operate(_)
                | Record::Next { .. }
                | Record::Retire { .. }
                | Record::Replied(_)
                | Record::Clean { .. }
                | Record::Taken(_) => {}
            }
            if names(&record, key) {
                found.push((segment, place.offset, record));
            }
        })?;
    }
    found.retain(|(segment, offset, _)| seals.get(segment).is_none_or(|len| offset < len));
    history.entries =
        found.into_iter().map(|(segment, _, record)| Entry { epoch: segment.epoch, record }).collect();
    Ok(history)
}

/// The sums of a queue at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// When.
    pub at: WallTime,
    /// What they were.
    pub totals: Totals,
}

/// The first record of a segment is no longer than a frame.
const FIRST_MAX: u64 = 2 << 20;

/// The sums when the youngest segment was begun that is not younger than `at`; those of the oldest segment if all are younger.
/// A queue keeps sums where it begins a segment, and nowhere between.
pub fn sums(dir: &Path, at: WallTime) -> Result<Option<Sums>, SourceError> {
    let files = QueueFiles::new(Arc::new(Disk), dir);
    let mut segments = files.segments()?;
    segments.sort_unstable();
    segments.dedup();
    let mut found = None;
    for segment in segments {
        let Some(bytes) = files.open(segment)? else { continue };
        // What stands first is taken as it is, without what would vouch for it: the books are checked on their own.
        let first = Range { until: Some(FIRST_MAX), durable: u64::MAX, ..Range::whole(None) };
        let mut sums = None;
        scan::scan(&bytes, segment, first, Bodies::Tail, |_, _, record| {
            if let Record::Segment(opened) = record {
                sums.get_or_insert(Sums { at: opened.opened, totals: opened.totals });
            }
        })?;
        found = match (found, sums) {
            (Some(_), Some(sums)) if sums.at > at => break,
            (_, Some(sums)) => Some(sums),
            (found, None) => found,
        };
    }
    Ok(found)
}

fn names(record: &Record, key: MessageKey) -> bool {
    match record {
        Record::Message(message) => {
            message.key == key || message.settles.as_ref().is_some_and(|settles| settles.message == key)
        }
        Record::Carry(carry) => carry.message.key == key,
        Record::Attempt(attempt) => attempt.message == key,
        Record::Outcome(outcome) => outcome.message == key,
        Record::Operate(operate) => operate.message == key,
        Record::Replied(keys) => keys.contains(&key),
        Record::Segment(_)
        | Record::Seal(_)
        | Record::Chunk { .. }
        | Record::Next { .. }
        | Record::Retire { .. }
        | Record::Clean { .. }
        | Record::Taken(_) => false,
    }
}
