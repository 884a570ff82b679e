//! Content of messages that were just accepted, so that what is delivered at once is not read back from the disk.
//!
//! Bounded in bytes and in time. What is not here is read from the queue; nothing depends on this.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use mail_model::Moment;
use parking_lot::Mutex;
use queue_format::record::MessageKey;

/// Bytes of content that are kept. When it is full the oldest stay: they are next.
const BYTES_MAX: usize = 8 << 20;
/// How long content is kept: what is not delivered by then waits for something.
const KEPT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Inner {
    contents: HashMap<MessageKey, (Moment, Bytes)>,
    bytes: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Inner>);

impl Recent {
    /// Keeps `content`, if there is any and room for it.
    pub(crate) fn keep(&self, key: MessageKey, content: Bytes, now: Moment) {
        let mut inner = self.0.lock();
        if content.is_empty() || inner.bytes + content.len() > BYTES_MAX {
            return;
        }
        inner.bytes += content.len();
        inner.contents.insert(key, (now, content));
    }

    /// The content of `key`, which is not kept any more.
    pub(crate) fn take(&self, key: MessageKey) -> Option<Bytes> {
        let mut inner = self.0.lock();
        let (_, content) = inner.contents.remove(&key)?;
        inner.bytes -= content.len();
        Some(content)
    }

    /// Drops what was kept for too long.
    pub(crate) fn sweep(&self, now: Moment) {
        let mut inner = self.0.lock();
        inner.contents.retain(|_, (since, _)| now.since(*since) < KEPT);
        inner.bytes = inner.contents.values().map(|(_, content)| content.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use mail_model::Epoch;

    use super::*;

    fn key(sequence: u64) -> MessageKey {
        MessageKey { epoch: Epoch(1), sequence }
    }

    #[test]
    fn the_oldest_stay_until_they_are_taken_or_too_old() {
        let recent = Recent::default();
        let half = Bytes::from(vec![b'x'; BYTES_MAX / 2]);
        for sequence in 1..=3 {
            recent.keep(key(sequence), half.clone(), Moment(0));
        }
        assert!(recent.take(key(3)).is_none(), "there was no room for it");
        assert_eq!(recent.take(key(1)).unwrap().len(), half.len());
        assert!(recent.take(key(1)).is_none(), "it is given away once");
        recent.keep(key(4), half, Moment(0) + KEPT);
        recent.sweep(Moment(0) + KEPT);
        assert!(recent.take(key(2)).is_none() && recent.take(key(4)).is_some());
        assert_eq!(recent.0.lock().bytes, 0);
    }
}
