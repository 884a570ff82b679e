//! Messages that were handed over under a name, so that a repeat is recognised. They outlive the messages.
//!
//! What is known by a record in a retired segment is forgotten with it: who retires writes it again before that, unless it is so
//! old that nobody repeats it any more.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use mail_model::{SegmentId, WallTime};

use crate::record::{Handover, MessageKey, Taken, TakenRecord};

/// All that is remembered.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    /// With the segment of the record that it is known by.
    taken: BTreeMap<MessageKey, (SegmentId, Taken)>,
    by_id: HashMap<Box<str>, Vec<MessageKey>, RandomState>,
    weight: usize,
}

impl Memory {
    pub(super) fn remember(&mut self, segment: SegmentId, taken: Taken) {
        let (key, id, weight) = (taken.message, taken.handover.id.clone(), taken.handover.weight());
        let has_moved = self.taken.insert(key, (segment, taken)).is_some();
        if !has_moved {
            self.weight += weight;
            self.by_id.entry(id).or_default().push(key);
        }
    }

    pub(super) fn apply(&mut self, segment: SegmentId, record: TakenRecord) {
        for taken in record.remembered {
            self.remember(segment, taken);
        }
        for key in record.forgotten {
            self.forget(key);
        }
    }

    fn forget(&mut self, key: MessageKey) {
        let Some((_, Taken { handover, .. })) = self.taken.remove(&key) else { return };
        self.weight = self.weight.saturating_sub(handover.weight());
        if let Some(keys) = self.by_id.get_mut(&handover.id) {
            keys.retain(|known| *known != key);
            if keys.is_empty() {
                self.by_id.remove(&handover.id);
            }
        }
    }

    pub(super) fn retire(&mut self, first_live: SegmentId) {
        let before = |(segment, _): &(SegmentId, Taken)| *segment < first_live;
        let gone: Vec<MessageKey> =
            self.taken.iter().filter(|(_, entry)| before(entry)).map(|(key, _)| *key).collect();
        for key in gone {
            self.forget(key);
        }
    }

    pub(super) fn under(&self, id: &str) -> impl Iterator<Item = (MessageKey, &Handover)> {
        let known = |key: &MessageKey| self.taken.get(key).map(|(_, taken)| (*key, &*taken.handover));
        self.by_id.get(id).into_iter().flatten().filter_map(known)
    }

    pub(super) fn before(&self, first_live: SegmentId, since: WallTime) -> Vec<Taken> {
        let stays = |(segment, taken): &&(SegmentId, Taken)| *segment < first_live && taken.received >= since;
        self.taken.values().filter(stays).map(|(_, taken)| taken.clone()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }
}
