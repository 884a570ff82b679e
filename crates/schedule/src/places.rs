//! Where items lie, found by hash, in a table that never grows in one go.
//!
//! A hash table doubles by moving everything, which for two million takes 0.2 seconds, and whoever adds the one too many waits.
//! Here are many small tables, and one of them is split in two whenever all are full on average: linear hashing (Litwin, "Linear
//! hashing: a new tool for file and table addressing", 1980).

use hashbrown::HashTable;

/// Places of a table, on average, when all are full. No table has many more than twice as many.
const FULL: usize = 12_000;
/// A table is given up when so small a part of all is used.
const SPARSE: usize = 8;

/// The numbers of places, by the hash of what lies there.
#[derive(Debug)]
pub(crate) struct Places {
    /// At least one.
    tables: Vec<HashTable<u32>>,
    len: usize,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self { tables: vec![HashTable::new()], len: 0 }
    }

    /// The place with this hash for which `is` holds.
    pub(crate) fn find(&self, hash: u64, is: impl FnMut(&u32) -> bool) -> Option<u32> {
        self.tables.get(self.table(hash))?.find(hash, is).copied()
    }

    /// Takes in a place. `hash_of` knows the hash of every place that is there.
    pub(crate) fn insert(&mut self, hash: u64, place: u32, hash_of: impl Fn(&u32) -> u64) {
        self.put(hash, place, &hash_of);
        self.len += 1;
        if self.len > self.tables.len() * FULL {
            self.split(&hash_of);
        }
    }

    /// Takes out a place. `hash_of` knows the hash of every other one that is there.
    pub(crate) fn remove(&mut self, hash: u64, place: u32, hash_of: impl Fn(&u32) -> u64) {
        let at = self.table(hash);
        let Some(table) = self.tables.get_mut(at) else { return };
        let Ok(found) = table.find_entry(hash, |other| *other == place) else { return };
        found.remove();
        self.len -= 1;
        let fewer = self.tables.len() - 1;
        if fewer > 0 && self.len < fewer * FULL / SPARSE {
            self.join(&hash_of);
        }
    }

    /// What lay at `from` lies at `to` now.
    pub(crate) fn renumber(&mut self, hash: u64, from: u32, to: u32) {
        let at = self.table(hash);
        if let Some(place) =
            self.tables.get_mut(at).and_then(|table| table.find_mut(hash, |other| *other == from))
        {
            *place = to;
        }
    }

    /// The number of the table for `hash`. Those that were not split in this round yet stand for two.
    fn table(&self, hash: u64) -> usize {
        // Neither the bits by which a table finds its bucket, nor those by which it tells its entries apart.
        let bits = usize::try_from(hash >> 24).unwrap_or_default();
        let round = self.tables.len().next_power_of_two();
        let at = bits & (round - 1);
        if at < self.tables.len() { at } else { at - round / 2 }
    }

    fn put(&mut self, hash: u64, place: u32, hash_of: &impl Fn(&u32) -> u64) {
        let at = self.table(hash);
        if let Some(table) = self.tables.get_mut(at) {
            table.insert_unique(hash, place, hash_of);
        }
    }

    /// One table more, filled from the one that stood for both.
    fn split(&mut self, hash_of: &impl Fn(&u32) -> u64) {
        let new = self.tables.len();
        self.tables.push(HashTable::new());
        self.spread(twin(new), hash_of);
    }

    /// One table less; its twin stands for both.
    fn join(&mut self, hash_of: &impl Fn(&u32) -> u64) {
        for place in self.tables.pop().into_iter().flatten() {
            self.put(hash_of(&place), place, hash_of);
        }
        // It may have been much larger once.
        self.spread(twin(self.tables.len()), hash_of);
    }

    /// Puts what is in a table where it belongs now.
    fn spread(&mut self, at: usize, hash_of: &impl Fn(&u32) -> u64) {
        for place in self.tables.get_mut(at).map(std::mem::take).into_iter().flatten() {
            self.put(hash_of(&place), place, hash_of);
        }
    }
}

/// The table that was split into itself and `new`, which is not the first one.
fn twin(new: usize) -> usize {
    new - (1 << new.ilog2())
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use foldhash::fast::RandomState;

    use super::*;

    #[test]
    fn whatever_was_put_in_is_found_while_tables_come_and_go() {
        let hasher = RandomState::default();
        let hash = |place: &u32| hasher.hash_one(place);
        let has = |places: &Places, wanted: u32| {
            places.find(hash(&wanted), |place| *place == wanted) == Some(wanted)
        };
        let mut places = Places::new();
        for place in 0..300_000 {
            places.insert(hash(&place), place, hash);
        }
        assert_eq!(places.tables.len(), 25);
        let most = places.tables.iter().map(HashTable::len).max().unwrap();
        assert!(most < 3 * FULL, "{most} in one table");
        assert!((0..300_000).all(|place| has(&places, place)) && !has(&places, 300_000));
        for place in 0..299_000 {
            places.remove(hash(&place), place, hash);
        }
        assert!((299_000..300_000).all(|place| has(&places, place)) && !has(&places, 0));
        let room: usize = places.tables.iter().map(HashTable::capacity).sum();
        assert!(places.tables.len() == 1 && room < 4_000, "{room} in {}", places.tables.len());
    }

    #[test]
    fn a_place_that_moved_is_found_where_it_is() {
        let mut places = Places::new();
        places.insert(7, 1, |_| 7);
        places.renumber(7, 1, 2);
        assert_eq!(places.find(7, |_| true), Some(2));
    }
}
