//! What lies on the shared disk, and in the caches of the nodes that mount it.
//!
//! | what | who sees it | survives a node's loss of power |
//! |---|---|---|
//! | bytes that were synced, or trickled out of a cache | everybody | yes |
//! | bytes written by a node since | that node, until its cache is written back, when it likes | each sector by chance |
//! | a name, once its directory was synced or another node saw it | everybody | yes |
//! | a name before that | everybody who asks | by chance |
//!
//! With one cache for all nodes this is a local disk; with one for each it is a network file system.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::chance::Chance;
use crate::scheduler::{ProcessId, Time};

pub(crate) const SECTOR: usize = 512;
/// Listings and missing names may be so old.
const MEMORY: Time = 4_000_000;

/// A file, by number.
pub(crate) type Inode = u64;

/// What one cache holds of a file and has not written back.
#[derive(Debug, Default, Clone)]
struct Dirty {
    sectors: BTreeMap<usize, Vec<u8>>,
    len: usize,
}

#[derive(Debug, Default)]
struct File {
    served: Vec<u8>,
    dirty: BTreeMap<usize, Dirty>,
    space: u64,
    writer: Option<ProcessId>,
}

impl File {
    fn len(&self, cache: usize) -> usize {
        self.dirty.get(&cache).map_or(0, |dirty| dirty.len).max(self.served.len())
    }

    fn sector(&self, cache: usize, number: usize) -> Vec<u8> {
        if let Some(sector) = self.dirty.get(&cache).and_then(|dirty| dirty.sectors.get(&number)) {
            return sector.clone();
        }
        let mut sector = vec![0; SECTOR];
        let start = (number * SECTOR).min(self.served.len());
        let end = (start + SECTOR).min(self.served.len());
        sector[..end - start].copy_from_slice(&self.served[start..end]);
        sector
    }

    fn write_back(&mut self, number: usize, sector: &[u8], len: usize) {
        let start = number * SECTOR;
        let end = (start + SECTOR).min(len.max(self.served.len()));
        if self.served.len() < end {
            self.served.resize(end, 0);
        }
        if start < end {
            self.served[start..end].copy_from_slice(&sector[..end - start]);
        }
    }
}

/// A change of a name that may still be lost, or be unknown to others.
#[derive(Debug, Clone)]
struct Change {
    at: Time,
    cache: usize,
    path: PathBuf,
    before: Option<Inode>,
    durable: bool,
}

/// The disk.
#[derive(Debug, Default)]
pub(crate) struct Platter {
    files: BTreeMap<Inode, File>,
    names: BTreeMap<PathBuf, Inode>,
    changes: Vec<Change>,
    /// Names that a cache knows to be missing, and until when it believes that.
    missing: BTreeMap<(usize, PathBuf), Time>,
    pub(crate) capacity: Option<u64>,
    next: Inode,
    /// What must never be.
    pub(crate) wrong: Vec<String>,
}

impl Platter {
    fn file(&mut self, inode: Inode) -> &mut File {
        self.files.get_mut(&inode).unwrap()
    }

    pub(crate) fn used(&self) -> u64 {
        let live: BTreeSet<Inode> = self.names.values().copied().collect();
        live.iter().map(|inode| self.files[inode].space).sum()
    }

    fn change(&mut self, now: Time, cache: usize, path: &Path, after: Option<Inode>) {
        let before = match after {
            Some(inode) => self.names.insert(path.to_owned(), inode),
            None => self.names.remove(path),
        };
        self.changes.retain(|change| !change.durable || change.at + MEMORY > now);
        self.changes.push(Change { at: now, cache, path: path.to_owned(), before, durable: false });
        self.missing.remove(&(cache, path.to_owned()));
    }

    /// What another node saw, it saw because it was written back.
    fn seen(&mut self, cache: usize, matches: impl Fn(&Path) -> bool) {
        for change in self.changes.iter_mut().filter(|change| change.cache != cache && matches(&change.path))
        {
            change.durable = true;
        }
    }

    /// The file of this name, as `cache` knows it. A name that is missing may be believed so for `believed`.
    pub(crate) fn look_up(&mut self, now: Time, cache: usize, path: &Path, believed: Time) -> Option<Inode> {
        let key = (cache, path.to_owned());
        if self.missing.get(&key).is_some_and(|until| *until > now) {
            return None;
        }
        self.missing.remove(&key);
        self.seen(cache, |changed| changed == path);
        let found = self.names.get(path).copied();
        if found.is_none() && believed > 0 {
            self.missing.insert(key, now + believed);
        }
        found
    }

    pub(crate) fn create(&mut self, now: Time, cache: usize, path: &Path) -> io::Result<Inode> {
        self.seen(cache, |changed| changed == path);
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.next += 1;
        let inode = self.next;
        self.files.insert(inode, File::default());
        self.change(now, cache, path, Some(inode));
        Ok(inode)
    }

    /// Gives a file a second name. `blind`: whatever has that name loses it.
    pub(crate) fn link(
        &mut self,
        now: Time,
        cache: usize,
        (from, to): (&Path, &Path),
        blind: bool,
    ) -> io::Result<Inode> {
        self.seen(cache, |changed| changed == to);
        let inode = *self.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if self.names.contains_key(to) && !blind {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(now, cache, to, Some(inode));
        Ok(inode)
    }

    pub(crate) fn link_count(&self, path: &Path) -> io::Result<u64> {
        let inode = self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.names.values().filter(|other| *other == inode).count() as u64)
    }

    pub(crate) fn unlink(&mut self, now: Time, cache: usize, path: &Path) -> io::Result<()> {
        if !self.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(now, cache, path, None);
        Ok(())
    }

    /// The names in a directory. Of what others changed, the listing may be `old`.
    pub(crate) fn list(&mut self, now: Time, cache: usize, dir: &Path, old: Time) -> Vec<String> {
        let mut names = self.names.clone();
        if old > 0 {
            let young = |change: &&Change| change.cache != cache && change.at + old > now;
            for change in self.changes.iter().rev().filter(young) {
                match change.before {
                    Some(inode) => names.insert(change.path.clone(), inode),
                    None => names.remove(&change.path),
                };
            }
        } else {
            self.seen(cache, |changed| changed.parent() == Some(dir));
        }
        let inside = names.keys().filter(|path| path.parent() == Some(dir));
        inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn sync_dir(&mut self, cache: usize, dir: &Path) {
        for change in self.changes.iter_mut().filter(|c| c.cache == cache && c.path.parent() == Some(dir)) {
            change.durable = true;
        }
    }

    pub(crate) fn size(&mut self, inode: Inode, cache: usize) -> u64 {
        self.file(inode).len(cache) as u64
    }

    /// Everything that `cache` sees of a file now.
    pub(crate) fn snapshot(&mut self, inode: Inode, cache: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.file(inode).len(cache)];
        self.read(inode, cache, 0, &mut bytes);
        bytes
    }

    pub(crate) fn read(&mut self, inode: Inode, cache: usize, offset: u64, buffer: &mut [u8]) -> usize {
        let file = self.file(inode);
        let start = usize::try_from(offset).unwrap().min(file.len(cache));
        let count = buffer.len().min(file.len(cache) - start);
        let served = file.served.len().saturating_sub(start).min(count);
        buffer[..count].fill(0);
        if served > 0 {
            buffer[..served].copy_from_slice(&file.served[start..start + served]);
        }
        let Some(dirty) = file.dirty.get(&cache) else { return count };
        for (number, sector) in dirty.sectors.range(start / SECTOR..=(start + count) / SECTOR) {
            let from = (number * SECTOR).max(start);
            let to = ((number + 1) * SECTOR).min(start + count);
            if from < to {
                let inside = from - number * SECTOR..to - number * SECTOR;
                buffer[from - start..to - start].copy_from_slice(&sector[inside]);
            }
        }
        count
    }

    /// How far a file may grow, at most to `wanted`.
    fn grow(&mut self, inode: Inode, wanted: u64) -> u64 {
        let free = self.free();
        let file = self.file(inode);
        let may = wanted.min(file.space.saturating_add(free));
        file.space = file.space.max(may);
        may
    }

    pub(crate) fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    pub(crate) fn write(
        &mut self,
        inode: Inode,
        (cache, by): (usize, ProcessId),
        offset: u64,
        bytes: &[u8],
        one_writer: bool,
    ) -> io::Result<()> {
        let may = self.grow(inode, offset + bytes.len() as u64);
        let fits = usize::try_from(may.saturating_sub(offset)).unwrap().min(bytes.len());
        let file = self.file(inode);
        if one_writer && file.writer.replace(by).is_some_and(|other| other != by) {
            self.wrong.push(format!("{by:?} writes a segment that another process writes"));
        }
        let file = self.file(inode);
        let start = usize::try_from(offset).unwrap();
        let mut done = 0;
        while done < fits {
            let (number, inside) = ((start + done) / SECTOR, (start + done) % SECTOR);
            let count = (SECTOR - inside).min(fits - done);
            let mut sector = file.sector(cache, number);
            sector[inside..inside + count].copy_from_slice(&bytes[done..done + count]);
            file.dirty.entry(cache).or_default().sectors.insert(number, sector);
            done += count;
        }
        if fits > 0 {
            let dirty = file.dirty.entry(cache).or_default();
            dirty.len = dirty.len.max(start + fits);
        }
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(crate) fn allocate(&mut self, inode: Inode, cache: usize, len: u64) -> io::Result<()> {
        if self.grow(inode, len) < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let dirty = self.file(inode).dirty.entry(cache).or_default();
        dirty.len = dirty.len.max(usize::try_from(len).unwrap());
        Ok(())
    }

    pub(crate) fn truncate(&mut self, inode: Inode, len: u64) {
        let file = self.file(inode);
        let len_now = usize::try_from(len).unwrap();
        file.space = len;
        file.served.truncate(len_now);
        for dirty in file.dirty.values_mut() {
            dirty.len = dirty.len.min(len_now);
            dirty.sectors.retain(|number, _| number * SECTOR < len_now);
            if let Some(last) = dirty.sectors.get_mut(&(len_now / SECTOR)) {
                last[len_now % SECTOR..].fill(0);
            }
        }
    }

    pub(crate) fn sync(&mut self, inode: Inode, cache: usize) {
        let file = self.file(inode);
        let Some(dirty) = file.dirty.remove(&cache) else { return };
        for (number, sector) in &dirty.sectors {
            file.write_back(*number, sector, dirty.len);
        }
        if file.served.len() < dirty.len {
            file.served.resize(dirty.len, 0);
        }
    }

    /// A cache loses what it has not written back of a file; each sector by chance.
    pub(crate) fn forget(&mut self, inode: Inode, cache: usize, chance: &mut Chance) {
        let file = self.file(inode);
        let Some(dirty) = file.dirty.remove(&cache) else { return };
        let grown = chance.one_in(2);
        for (number, sector) in &dirty.sectors {
            if chance.one_in(2) && (grown || number * SECTOR < file.served.len()) {
                let len = if grown { dirty.len } else { file.served.len() };
                file.write_back(*number, sector, len);
            }
        }
        if grown && file.served.len() < dirty.len {
            file.served.resize(dirty.len, 0);
        }
    }

    /// Some cache writes a sector back, without being asked.
    pub(crate) fn trickle(&mut self, chance: &mut Chance) {
        let dirty: Vec<(Inode, usize)> = self
            .files
            .iter()
            .flat_map(|(inode, file)| file.dirty.keys().map(|cache| (*inode, *cache)))
            .collect();
        if dirty.is_empty() {
            return;
        }
        let (inode, cache) = dirty[chance.index(dirty.len())];
        let file = self.file(inode);
        let dirty = file.dirty.get_mut(&cache).unwrap();
        let numbers: Vec<usize> = dirty.sectors.keys().copied().collect();
        if numbers.is_empty() {
            return;
        }
        let number = numbers[chance.index(numbers.len())];
        let (sector, len) = (dirty.sectors.remove(&number).unwrap(), dirty.len);
        file.write_back(number, &sector, len);
    }

    /// The machine of this cache loses its power.
    pub(crate) fn lose_power(&mut self, cache: usize, chance: &mut Chance) {
        let inodes: Vec<Inode> = self.files.keys().copied().collect();
        for inode in inodes {
            self.forget(inode, cache, chance);
        }
        let (mine, others) = std::mem::take(&mut self.changes).into_iter().partition(|c| c.cache == cache);
        self.changes = others;
        let mine: Vec<Change> = mine;
        for change in mine.into_iter().rev().filter(|change| !change.durable) {
            if chance.one_in(2) {
                continue;
            }
            match change.before {
                Some(inode) => self.names.insert(change.path, inode),
                None => self.names.remove(&change.path),
            };
        }
        self.missing.retain(|(other, _), _| *other != cache);
    }
}
