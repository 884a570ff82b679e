//! A replay for which the next digests are read while the books take one in: a large queue is mostly digests, and they come
//! from the disk one after the other.
//!
//! What is read ahead is only bytes; what they are worth is decided where they are asked for. A digest that was not read
//! ahead, or could not be, is read then.

use std::cell::RefCell;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use mail_model::{Epoch, SegmentId};
use queue_format::names;
use queue_format::replay::{Plan, QueueSource, Replay, ReplayError, replay};
use queue_format::scan::SourceError;

use crate::files::{QueueFiles, SegmentBytes};

/// Digests that wait to be asked for.
const AHEAD_MAX: usize = 2;

type Read = (SegmentId, Option<Vec<u8>>);

struct Ahead<'a> {
    files: &'a QueueFiles,
    digests: Receiver<Read>,
    /// One that came too early.
    waiting: RefCell<Option<Read>>,
}

/// Replays the queue of `files`, with a thread that reads ahead.
pub(crate) fn replay_ahead(files: &QueueFiles, plan: &Plan) -> Result<Replay, ReplayError> {
    if plan.ignore_digests {
        return replay(files, plan);
    }
    let (sender, digests) = bounded(AHEAD_MAX);
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("digests".to_owned());
        match reader.spawn_scoped(scope, move || read_all(files, &sender)) {
            Ok(_) => replay(&Ahead { files, digests, waiting: RefCell::default() }, plan),
            Err(_) => replay(files, plan),
        }
    })
}

/// Reads every digest, oldest first, as long as somebody wants them.
fn read_all(files: &QueueFiles, wanted: &Sender<Read>) {
    let names = files.storage.list(&files.digest_dir()).unwrap_or_default();
    let mut segments: Vec<SegmentId> =
        names.iter().filter_map(|name| names::parse_segment_file(name)).collect();
    segments.sort_unstable();
    for segment in segments {
        let bytes = QueueSource::digest(files, segment).ok().flatten();
        if wanted.send((segment, bytes)).is_err() {
            return;
        }
    }
}

impl QueueSource for Ahead<'_> {
    type Segment = SegmentBytes;

    fn epochs(&self) -> Result<Vec<Epoch>, SourceError> {
        self.files.epochs()
    }

    fn segments(&self) -> Result<Vec<SegmentId>, SourceError> {
        self.files.segments()
    }

    fn open(&self, segment: SegmentId) -> Result<Option<SegmentBytes>, SourceError> {
        self.files.open(segment)
    }

    fn digest(&self, segment: SegmentId) -> Result<Option<Vec<u8>>, SourceError> {
        let mut waiting = self.waiting.borrow_mut();
        while let Some((read, bytes)) = waiting.take().or_else(|| self.digests.recv().ok()) {
            if read == segment {
                return Ok(bytes);
            }
            if read > segment {
                *waiting = Some((read, bytes));
                break;
            }
        }
        QueueSource::digest(self.files, segment)
    }
}
