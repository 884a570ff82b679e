//! The live messages in the order of their keys, in rows of 128.
//!
//! Keys come in order, nearly all of them, so rows are filled one behind the other and no room is left between. A table by hash takes
//! twice the memory that lies beside its entries, and doubles in one go: commits waited 0.2 s for that of two million.

use std::collections::BTreeMap;

use super::packed::Packed;
use super::walk::Walk;
use crate::record::MessageKey;

/// Messages of a row, at most.
const FULL: usize = 128;
/// One with no more than this is put to the one before it, if that leaves room there.
const SPARSE: usize = FULL / 8;

type Row = Vec<(MessageKey, Packed)>;

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// By a key that none of the row is smaller than.
    by_first: BTreeMap<MessageKey, Row>,
    len: usize,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn get(&self, key: MessageKey) -> Option<&Packed> {
        let (_, row) = self.by_first.range(..=key).next_back()?;
        let at = find(row, key).ok()?;
        row.get(at).map(|(_, message)| message)
    }

    /// The one that was there under that key.
    pub(super) fn insert(&mut self, key: MessageKey, message: Packed) -> Option<Packed> {
        let Some((_, row)) = self.by_first.range_mut(..=key).next_back() else {
            self.begin(key, vec![(key, message)]);
            self.len += 1;
            return None;
        };
        let at = match find(row, key) {
            Ok(at) => return row.get_mut(at).map(|(_, old)| std::mem::replace(old, message)),
            Err(at) => at,
        };
        self.len += 1;
        if row.len() < FULL {
            row.insert(at, (key, message));
            return None;
        }
        let mut behind = row.split_off(if at == FULL { FULL } else { FULL / 2 });
        match behind.first() {
            Some((first, _)) if *first < key => {
                let at = at.saturating_sub(row.len());
                behind.insert(at, (key, message));
            }
            Some(_) => row.insert(at, (key, message)),
            None => behind.push((key, message)),
        }
        if let Some((first, _)) = behind.first() {
            self.begin(*first, behind);
        }
        None
    }

    fn begin(&mut self, first: MessageKey, row: Row) {
        self.by_first.insert(first, row);
    }

    pub(super) fn remove(&mut self, key: MessageKey) -> Option<Packed> {
        let (&first, row) = self.by_first.range_mut(..=key).next_back()?;
        let at = find(row, key).ok()?;
        let (_, message) = row.remove(at);
        self.len -= 1;
        if row.len() <= SPARSE {
            self.clear_up(first);
        }
        Some(message)
    }

    /// Puts the few of a row to those before it, or at least gives back the room between them.
    fn clear_up(&mut self, first: MessageKey) {
        let Some(mut rest) = self.by_first.remove(&first) else { return };
        if rest.is_empty() {
            return;
        }
        match self.by_first.range_mut(..first).next_back() {
            Some((_, before)) if before.len() + rest.len() <= FULL / 2 => before.append(&mut rest),
            Some(_) | None => {
                if rest.capacity() > 2 * SPARSE {
                    rest.shrink_to(2 * SPARSE);
                }
                self.by_first.insert(first, rest);
            }
        }
    }

    /// All, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MessageKey, &Packed)> {
        self.by_first.values().flatten().map(|(key, message)| (*key, message))
    }

    /// All, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = &Packed> {
        self.by_first.values().flatten().map(|(_, message)| message)
    }

    /// The next stretch of a walk, in order.
    pub(super) fn stretch(&self, walk: &mut Walk) -> impl Iterator<Item = (MessageKey, &Packed)> {
        let from = walk.from();
        let start =
            from.map(|from| self.by_first.range(..=from).next_back().map_or(from, |(first, _)| *first));
        let ahead = start.map(|start| self.by_first.range(start..));
        let mut room = Walk::STRETCH;
        let mut stretch = Vec::new();
        let mut next = None;
        for (first, row) in ahead.into_iter().flatten() {
            if room == 0 {
                next = Some(*first);
                break;
            }
            room = room.saturating_sub(row.len());
            stretch.push(row);
        }
        walk.go_on(next);
        let to_come = move |key: &MessageKey| from.is_some_and(|from| *key >= from);
        stretch
            .into_iter()
            .flatten()
            .map(|(key, message)| (*key, message))
            .filter(move |(key, _)| to_come(key))
    }
}

fn find(row: &Row, key: MessageKey) -> Result<usize, usize> {
    // Most are new, and the last.
    match row.last() {
        Some((last, _)) if *last < key => Err(row.len()),
        Some(_) | None => row.binary_search_by_key(&key, |(key, _)| *key),
    }
}

#[cfg(test)]
mod tests {
    use mail_model::{Epoch, SegmentId, WallTime};
    use proptest::prelude::*;

    use super::super::message::BodyPlace;
    use super::super::packed::Rest;
    use super::*;
    use crate::scan::Place;

    fn key(sequence: u64) -> MessageKey {
        MessageKey { epoch: Epoch(1), sequence }
    }

    /// A message that is known by when it was accepted.
    fn message(received: u64) -> Packed {
        let place = Place { segment: SegmentId::default(), offset: 0 };
        let body = BodyPlace::Chunks(Box::default());
        let rest = Rest { place, frame_len: 1, size: 1, body: &body, envelope: &[] };
        Packed::fresh((WallTime(received), 1, false), &rest, &mut Vec::new())
    }

    fn seen<'a>(all: impl Iterator<Item = (MessageKey, &'a Packed)>) -> Vec<(u64, u64)> {
        all.map(|(key, message)| (key.sequence, message.received().0)).collect()
    }

    fn walked(rows: &Rows, walk: &mut Walk) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        while !walk.is_over() {
            all.extend(seen(rows.stretch(walk)));
        }
        all
    }

    proptest! {
        #[test]
        fn rows_hold_what_a_sorted_map_holds(steps in proptest::collection::vec((0..5u8, 0..900u64), 0..4_000)) {
            let (mut rows, mut map, mut last) = (Rows::default(), BTreeMap::new(), 0);
            for (at, (what, number)) in (0u64..).zip(steps) {
                let old = |packed: Option<Packed>| packed.map(|packed| packed.received().0);
                match what {
                    // As mail comes.
                    0..3 => {
                        last += 1;
                        prop_assert_eq!(old(rows.insert(key(last), message(at))), map.insert(last, at));
                    }
                    3 => prop_assert_eq!(old(rows.insert(key(number), message(at))), map.insert(number, at)),
                    _ => prop_assert_eq!(old(rows.remove(key(number))), map.remove(&number)),
                }
                prop_assert_eq!(rows.len(), map.len());
                prop_assert_eq!(rows.get(key(number)).map(|it| it.received().0), map.get(&number).copied());
            }
            let wanted: Vec<(u64, u64)> = map.into_iter().collect();
            prop_assert_eq!(seen(rows.iter()), wanted.clone());
            prop_assert_eq!(walked(&rows, &mut Walk::new()), wanted);
        }
    }

    #[test]
    fn few_that_stay_out_of_many_take_little_room() {
        let mut rows = Rows::default();
        for number in 0..100_000 {
            rows.insert(key(number), message(number));
        }
        assert_eq!(rows.by_first.len(), 100_000usize.div_ceil(FULL));
        for number in (0..100_000).filter(|number| number % 100 != 7) {
            assert!(rows.remove(key(number)).is_some());
        }
        let room: usize = rows.by_first.values().map(Vec::capacity).sum();
        assert_eq!(rows.len(), 1_000);
        assert!(room <= 4_000 && rows.by_first.len() <= 60, "{room} on {}", rows.by_first.len());
    }

    #[test]
    fn a_walk_sees_once_whoever_stays_while_others_come_and_go() {
        let mut rows = Rows::default();
        for number in 0..60_000 {
            rows.insert(key(number), message(number));
        }
        let (mut walk, mut all) = (Walk::new(), Vec::new());
        let mut gone = 0;
        while !walk.is_over() {
            all.extend(seen(rows.stretch(&mut walk)).into_iter().map(|(key, _)| key));
            // All but each hundredth, from the first to one that the walk has not reached yet.
            for number in (gone..gone + 17_000).filter(|number| number % 100 != 7) {
                rows.remove(key(number));
            }
            gone += 17_000;
        }
        let stay: Vec<u64> = all.into_iter().filter(|number| number % 100 == 7).collect();
        assert_eq!(stay, (0..600).map(|n| n * 100 + 7).collect::<Vec<u64>>());
    }
}
