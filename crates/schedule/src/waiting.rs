//! Items that wait, in two orders at once: when they are due, and when they expire.
//!
//! An item lies in a row without gaps; each order is a heap of numbers of places in that row, and an item knows where its
//! number is in both. So a million items take some 60 bytes each, and whatever happens to one costs the logarithm of all.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use mail_model::Moment;

use crate::places::Places;

/// Children of an item in a heap: more of them make it flatter, and each step looks at neighbours.
const BRANCHES: usize = 4;
/// Room is given back when only this part of it is used,
const SPARSE: usize = 8;
/// and there is at least so much of it.
const SMALL: usize = 65_536;

/// An order.
#[derive(Debug, Clone, Copy)]
enum By {
    Due,
    Expiry,
}

#[derive(Debug)]
struct Slot<K> {
    item: K,
    due: Moment,
    expires: Moment,
    /// Where its number stands in the heap of each order.
    at_due: u32,
    at_expiry: u32,
}

/// An item that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<K> {
    pub(crate) item: K,
    /// Not before.
    pub(crate) due: Moment,
    /// Given up after.
    pub(crate) expires: Moment,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Waiting<K> {
    slots: Vec<Slot<K>>,
    places: Places,
    by_due: Vec<u32>,
    by_expiry: Vec<u32>,
    hasher: RandomState,
}

impl<K: Copy + Ord + Hash> Waiting<K> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            places: Places::new(),
            by_due: Vec::new(),
            by_expiry: Vec::new(),
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The item that is due first; of several, the smallest.
    pub(crate) fn first_due(&self) -> Option<Entry<K>> {
        self.entry(*self.by_due.first()?)
    }

    /// The item that expires first.
    pub(crate) fn first_expiring(&self) -> Option<Entry<K>> {
        self.entry(*self.by_expiry.first()?)
    }

    /// How `item` waits, if it does.
    pub(crate) fn get(&self, item: K) -> Option<Entry<K>> {
        self.entry(self.place(item)?)
    }

    /// Lets `item`, which does not wait, wait. Beyond four billion items nothing more is taken.
    pub(crate) fn insert(&mut self, item: K, due: Moment, expires: Moment) {
        let Ok(place) = u32::try_from(self.slots.len()) else { return };
        self.slots.push(Slot { item, due, expires, at_due: place, at_expiry: place });
        let (slots, hasher) = (&self.slots, &self.hasher);
        let hash = |place: &u32| hash_of(slots, hasher, *place);
        self.places.insert(self.hasher.hash_one(item), place, hash);
        for by in [By::Due, By::Expiry] {
            self.heap_mut(by).push(place);
            self.rise(by, self.slots.len() - 1);
        }
    }

    /// Takes `item` out. False if it does not wait.
    pub(crate) fn remove(&mut self, item: K) -> bool {
        let Some(place) = self.place(item) else { return false };
        for by in [By::Due, By::Expiry] {
            self.leave(by, place);
        }
        self.forget(item, place);
        let last = u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX);
        if let Some(moved) = self.slots.get(last as usize).map(|slot| slot.item)
            && last != place
        {
            self.renumber(moved, last, place);
        }
        self.slots.swap_remove(place as usize);
        self.give_back();
        true
    }

    fn entry(&self, place: u32) -> Option<Entry<K>> {
        let slot = self.slots.get(place as usize)?;
        Some(Entry { item: slot.item, due: slot.due, expires: slot.expires })
    }

    fn place(&self, item: K) -> Option<u32> {
        let is = |place: &u32| self.slots.get(*place as usize).is_some_and(|slot| slot.item == item);
        self.places.find(self.hasher.hash_one(item), is)
    }

    fn forget(&mut self, item: K, place: u32) {
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.places.remove(hasher.hash_one(item), place, |place| hash_of(slots, hasher, *place));
    }

    /// The item of the last place moves to `to`, which is about to be free.
    fn renumber(&mut self, item: K, from: u32, to: u32) {
        self.places.renumber(self.hasher.hash_one(item), from, to);
        for by in [By::Due, By::Expiry] {
            let at = self.at(by, from);
            if let Some(number) = at.and_then(|at| self.heap_mut(by).get_mut(at)) {
                *number = to;
            }
        }
    }

    fn give_back(&mut self) {
        let (len, room) = (self.slots.len(), self.slots.capacity());
        if room > SMALL && len < room / SPARSE {
            self.slots.shrink_to(len * 2);
            self.by_due.shrink_to(len * 2);
            self.by_expiry.shrink_to(len * 2);
        }
    }

    // ---- the heaps -----------------------------------------------------------------------------------------------

    fn heap(&self, by: By) -> &Vec<u32> {
        match by {
            By::Due => &self.by_due,
            By::Expiry => &self.by_expiry,
        }
    }

    fn heap_mut(&mut self, by: By) -> &mut Vec<u32> {
        match by {
            By::Due => &mut self.by_due,
            By::Expiry => &mut self.by_expiry,
        }
    }

    /// Where the item of `place` stands in a heap.
    fn at(&self, by: By, place: u32) -> Option<usize> {
        let slot = self.slots.get(place as usize)?;
        Some(match by {
            By::Due => slot.at_due as usize,
            By::Expiry => slot.at_expiry as usize,
        })
    }

    /// What the number at `at` of a heap is ordered by.
    fn rank(&self, by: By, at: usize) -> Option<(Moment, K)> {
        let slot = self.slots.get(*self.heap(by).get(at)? as usize)?;
        Some(match by {
            By::Due => (slot.due, slot.item),
            By::Expiry => (slot.expires, slot.item),
        })
    }

    fn swap(&mut self, by: By, one: usize, other: usize) {
        self.heap_mut(by).swap(one, other);
        self.tell(by, one);
        self.tell(by, other);
    }

    /// Lets the item whose number stands at `at` know.
    fn tell(&mut self, by: By, at: usize) {
        let (Some(place), Ok(number)) = (self.heap(by).get(at).copied(), u32::try_from(at)) else { return };
        if let Some(slot) = self.slots.get_mut(place as usize) {
            match by {
                By::Due => slot.at_due = number,
                By::Expiry => slot.at_expiry = number,
            }
        }
    }

    fn rise(&mut self, by: By, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / BRANCHES;
            if self.rank(by, parent) <= self.rank(by, at) {
                return;
            }
            self.swap(by, parent, at);
            at = parent;
        }
    }

    fn sink(&mut self, by: By, mut at: usize) {
        loop {
            let first = at * BRANCHES + 1;
            let children = first..(first + BRANCHES).min(self.heap(by).len());
            let Some(least) = children.min_by_key(|child| self.rank(by, *child)) else { return };
            if self.rank(by, at) <= self.rank(by, least) {
                return;
            }
            self.swap(by, at, least);
            at = least;
        }
    }

    /// Takes the number of `place` out of a heap.
    fn leave(&mut self, by: By, place: u32) {
        let Some(at) = self.at(by, place) else { return };
        self.heap_mut(by).swap_remove(at);
        if at < self.heap(by).len() {
            self.tell(by, at);
            self.rise(by, at);
            self.sink(by, at);
        }
    }
}

fn hash_of<K: Hash>(slots: &[Slot<K>], hasher: &RandomState, place: u32) -> u64 {
    // Every number in the table is that of a place.
    slots.get(place as usize).map_or(0, |slot| hasher.hash_one(&slot.item))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_orders_are_those_of_sorted_lists(steps in proptest::collection::vec((any::<bool>(), 0..60u8, 0..9u64, 0..9u64), 0..400)) {
            let mut waiting = Waiting::new();
            let mut list: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
            for (adds, item, due, expires) in steps {
                if adds && !list.contains_key(&item) {
                    waiting.insert(item, Moment(due), Moment(expires));
                    list.insert(item, (due, expires));
                } else if !adds {
                    prop_assert_eq!(waiting.remove(item), list.remove(&item).is_some());
                }
                prop_assert_eq!(waiting.len(), list.len());
                let wanted = list.get(&item).map(|(due, expires)| (Moment(*due), Moment(*expires)));
                prop_assert_eq!(waiting.get(item).map(|entry| (entry.due, entry.expires)), wanted);
                let due: BTreeSet<(u64, u8)> = list.iter().map(|(item, (due, _))| (*due, *item)).collect();
                prop_assert_eq!(waiting.first_due().map(|entry| (entry.due.0, entry.item)), due.first().copied());
                let expiry: BTreeSet<(u64, u8)> = list.iter().map(|(item, (_, at))| (*at, *item)).collect();
                prop_assert_eq!(
                    waiting.first_expiring().map(|entry| (entry.expires.0, entry.item)),
                    expiry.first().copied()
                );
            }
        }
    }

    #[test]
    fn what_many_items_took_is_given_back() {
        let mut waiting = Waiting::new();
        for item in 0..200_000u32 {
            waiting.insert(item, Moment(u64::from(item % 7)), Moment(0));
        }
        for item in 0..199_990 {
            assert!(waiting.remove(item));
        }
        assert!(waiting.slots.capacity() < 100_000, "{}", waiting.slots.capacity());
        let left: Vec<u32> = std::iter::from_fn(|| {
            let item = waiting.first_due()?.item;
            waiting.remove(item).then_some(item)
        })
        .collect();
        let mut wanted: Vec<u32> = (199_990..200_000).collect();
        wanted.sort_by_key(|item| (item % 7, *item));
        assert_eq!(left, wanted);
    }
}
