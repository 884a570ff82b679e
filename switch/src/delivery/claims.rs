//! Recipients that are in somebody's hands, so that nobody else takes them: they are in a transaction, or they were
//! delivered and the books do not know it yet, because nobody waits for that record.

use std::collections::{BTreeSet, HashMap, VecDeque};

use mail_model::RecipientIndex;
use parking_lot::Mutex;
use queue_format::books::Books;
use queue_format::record::MessageKey;

/// Settling messages that are looked at in one go, while commits wait.
const SWEEP_MAX: usize = 1_024;

#[derive(Debug, Default)]
struct Inner {
    held: HashMap<MessageKey, BTreeSet<RecipientIndex>>,
    settling: VecDeque<(MessageKey, Vec<RecipientIndex>)>,
}

impl Inner {
    fn release(&mut self, key: MessageKey, recipients: &[RecipientIndex]) {
        if let Some(held) = self.held.get_mut(&key) {
            held.retain(|index| !recipients.contains(index));
            if held.is_empty() {
                self.held.remove(&key);
            }
        }
    }
}

/// All claims.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<Inner>);

impl Claims {
    /// Those of `recipients` that were free; they are the caller's now. To be asked while the books are locked, so that what
    /// the books said of them is still so.
    pub(crate) fn take(
        &self,
        key: MessageKey,
        recipients: impl Iterator<Item = RecipientIndex>,
    ) -> Vec<RecipientIndex> {
        // Who makes this list may ask for claims himself.
        let mut taken: Vec<RecipientIndex> = recipients.collect();
        let mut inner = self.0.lock();
        let held = inner.held.entry(key).or_default();
        taken.retain(|index| held.insert(*index));
        if held.is_empty() {
            inner.held.remove(&key);
        }
        taken
    }

    /// True if somebody has this recipient.
    pub(crate) fn is_taken(&self, key: MessageKey, recipient: RecipientIndex) -> bool {
        self.0.lock().held.get(&key).is_some_and(|held| held.contains(&recipient))
    }

    /// They are free again: the books say what became of them.
    pub(crate) fn release(&self, key: MessageKey, recipients: &[RecipientIndex]) {
        self.0.lock().release(key, recipients);
    }

    /// They are free once the books say that they are final.
    pub(crate) fn settle(&self, key: MessageKey, recipients: Vec<RecipientIndex>) {
        self.0.lock().settling.push_back((key, recipients));
    }

    /// True if some claims wait for the books.
    pub(crate) fn are_settling(&self) -> bool {
        !self.0.lock().settling.is_empty()
    }

    /// Frees those that the books know to be final, the oldest first, up to one they do not know. True if there may be more
    /// to free: then it is to be called again, because a busy queue settles more of them than one call looks at.
    pub(crate) fn sweep(&self, books: &Books) -> bool {
        let mut inner = self.0.lock();
        for _ in 0..SWEEP_MAX {
            let Some((key, recipients)) = inner.settling.front() else { return false };
            let known = books.message(*key).is_none_or(|message| {
                let standing = |index: &RecipientIndex| message.standings.get(usize::from(*index));
                recipients.iter().all(|index| standing(index).is_none_or(|s| s.state.is_final()))
            });
            if !known {
                return false;
            }
            if let Some((key, recipients)) = inner.settling.pop_front() {
                inner.release(key, &recipients);
            }
        }
        !inner.settling.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use mail_model::Epoch;

    use super::*;

    #[test]
    fn a_recipient_has_one_holder_at_a_time() {
        let claims = Claims::default();
        let key = MessageKey { epoch: Epoch(1), sequence: 1 };
        assert_eq!(claims.take(key, [0, 1].into_iter()), [0, 1]);
        assert_eq!(claims.take(key, [1, 2].into_iter()), [2]);
        claims.release(key, &[1]);
        assert!(claims.is_taken(key, 0) && !claims.is_taken(key, 1));
        assert_eq!(claims.take(key, [0, 1, 2].into_iter()), [1]);
    }

    #[test]
    fn a_delivered_recipient_is_held_until_the_books_are_done_with_it() {
        let claims = Claims::default();
        let key = MessageKey { epoch: Epoch(1), sequence: 1 };
        claims.take(key, [0].into_iter());
        claims.settle(key, vec![0]);
        assert!(claims.is_taken(key, 0) && claims.are_settling());
        // The books do not know the message any more: it is done.
        assert!(!claims.sweep(&Books::new("a".parse().unwrap())));
        assert!(!claims.is_taken(key, 0) && !claims.are_settling());
    }

    #[test]
    fn a_sweep_that_did_not_get_to_the_end_says_so() {
        let claims = Claims::default();
        let books = Books::new("a".parse().unwrap());
        for sequence in 0..10 * SWEEP_MAX as u64 {
            claims.settle(MessageKey { epoch: Epoch(1), sequence }, vec![0]);
        }
        let sweeps = std::iter::repeat_with(|| claims.sweep(&books)).take_while(|more| *more).count();
        assert_eq!((sweeps, claims.are_settling()), (9, false));
    }
}
