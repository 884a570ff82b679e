//! Content that arrives piece by piece, before the message that names it is accepted. Nothing in the books knows these
//! pieces yet, so the cleaner must not take their segments for dead.

use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use mail_model::{Moment, SegmentId};
use queue_format::record::MessageKey;

/// An upload to which nothing was added for so long is given up. RFC 5321 4.5.3.2.7: a server waits at least 5 minutes
/// for its client, so this is never reached by a session that is alive.
const IDLE_MAX: Duration = Duration::from_mins(15);

#[derive(Debug)]
struct Upload {
    oldest: SegmentId,
    touched: Moment,
}

/// The uploads that run.
#[derive(Debug)]
pub(crate) struct Uploads(HashMap<MessageKey, Upload>);

impl Uploads {
    /// None.
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    /// A piece of `key` was written to `segment`.
    pub(crate) fn piece(&mut self, key: MessageKey, segment: SegmentId, now: Moment) {
        let upload = self.0.entry(key).or_insert(Upload { oldest: segment, touched: now });
        upload.touched = now;
    }

    /// The message is accepted or abandoned.
    pub(crate) fn ended(&mut self, key: MessageKey) {
        self.0.remove(&key);
    }

    /// True if the pieces of `key` are still there.
    pub(crate) fn runs(&self, key: MessageKey) -> bool {
        self.0.contains_key(&key)
    }

    /// The oldest segment that an upload needs. Gives up those that stand still.
    pub(crate) fn oldest(&mut self, now: Moment) -> Option<SegmentId> {
        self.0.retain(|_, upload| now.since(upload.touched) < IDLE_MAX);
        self.0.values().map(|upload| upload.oldest).min()
    }
}

#[cfg(test)]
mod tests {
    use mail_model::Epoch;

    use super::*;

    #[test]
    fn an_upload_keeps_its_segments_until_it_ends_or_stands_still() {
        let key = |sequence| MessageKey { epoch: Epoch(1), sequence };
        let segment = |number| SegmentId { epoch: Epoch(1), number };
        let mut uploads = Uploads::new();
        uploads.piece(key(1), segment(3), Moment(0));
        uploads.piece(key(2), segment(4), Moment(0));
        uploads.piece(key(1), segment(5), Moment(800_000));
        assert_eq!(uploads.oldest(Moment(800_000)), Some(segment(3)));
        assert_eq!(
            uploads.oldest(Moment(901_000)),
            Some(segment(3)),
            "the second stood still for 15 minutes"
        );
        assert!(!uploads.runs(key(2)));
        uploads.ended(key(1));
        assert_eq!(uploads.oldest(Moment(901_000)), None);
    }
}
