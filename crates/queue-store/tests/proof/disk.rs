//! A disk that keeps only what it promised to keep.
//!
//! Written bytes are durable after `sync_data`, names after `sync_dir`, and nothing else is. At a power loss every unsynced
//! sector and every unsynced name is kept or lost by a coin of its own. Several machines mount it; each may die at any of
//! its operations, see an old listing, or meet an error.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use queue_store::storage::{HeldLock, Storage, StoredFile};

use crate::model::Rng;

const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Space set aside or written.
    space: u64,
}

#[derive(Debug, Default)]
struct Platter {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    capacity: Option<u64>,
    next: u64,
    /// Names as they were, newest last.
    before: Vec<Vec<PathBuf>>,
}

/// The disk itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<Platter>>);

/// How a machine fares.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fortune {
    /// It dies at this operation of its own.
    pub(crate) dies_at: Option<u64>,
    /// Its first sync at or after this operation fails, and what was to be synced is gone.
    pub(crate) sync_fails_at: Option<u64>,
    /// Listings it sees lack the newest names.
    pub(crate) old_listings: bool,
}

#[derive(Debug)]
struct Machine {
    disk: SimDisk,
    fortune: Fortune,
    state: Mutex<(u64, bool, Rng)>,
}

/// A disk as one machine sees it.
#[derive(Debug, Clone)]
pub(crate) struct Mount(Arc<Machine>);

fn gone() -> io::Error {
    io::Error::other("this machine is dead")
}

impl SimDisk {
    pub(crate) fn mount(&self, fortune: Fortune, seed: u64) -> Mount {
        let state = Mutex::new((0, false, Rng::new(seed)));
        Mount(Arc::new(Machine { disk: self.clone(), fortune, state }))
    }

    /// Sets the space there is, in bytes.
    pub(crate) fn limit(&self, capacity: Option<u64>) {
        self.0.lock().capacity = capacity;
    }

    pub(crate) fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// Every machine loses its power.
    pub(crate) fn lose_power(&self, rng: &mut Rng) {
        let mut platter = self.0.lock();
        let Platter { inodes, names, durable_names, .. } = &mut *platter;
        let all: BTreeSet<PathBuf> = names.keys().chain(durable_names.keys()).cloned().collect();
        for name in all {
            if rng.one_in(2) {
                match names.get(&name) {
                    Some(inode) => durable_names.insert(name, *inode),
                    None => durable_names.remove(&name),
                };
            }
        }
        names.clone_from(durable_names);
        for inode in inodes.values_mut() {
            let grown = rng.one_in(2);
            let len = if grown { inode.now.len() } else { inode.durable.len() };
            let mut after = inode.durable.clone();
            after.resize(len, 0);
            for sector in std::mem::take(&mut inode.dirty) {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(inode.now.len()).min(len);
                if !range.is_empty() && rng.one_in(2) {
                    after[range.clone()].copy_from_slice(&inode.now[range]);
                }
            }
            inode.now.clone_from(&after);
            inode.durable = after;
        }
        platter.before.clear();
        let Platter { inodes, names, .. } = &mut *platter;
        let used: BTreeSet<u64> = names.values().copied().collect();
        inodes.retain(|id, _| used.contains(id));
    }

    /// The durable bytes of a file.
    pub(crate) fn durable(&self, path: &Path) -> Option<Vec<u8>> {
        let platter = self.0.lock();
        Some(platter.inodes.get(platter.durable_names.get(path)?)?.durable.clone())
    }

    /// The names in a directory now.
    pub(crate) fn names(&self, dir: &Path) -> Vec<String> {
        self.0.lock().listed(dir)
    }
}

impl Platter {
    fn used(&self) -> u64 {
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.iter().filter(|(id, _)| live.contains(id)).map(|(_, inode)| inode.space).sum()
    }

    /// To be called before names change.
    fn remember(&mut self) {
        self.before.push(self.names.keys().cloned().collect());
    }

    /// The names in a directory `ago` changes ago.
    fn listed_once(&self, dir: &Path, ago: usize) -> Vec<String> {
        let Some(then) = self.before.iter().rev().nth(ago) else { return self.listed(dir) };
        let inside = then.iter().filter(|path| path.parent() == Some(dir));
        inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    fn listed(&self, dir: &Path) -> Vec<String> {
        let inside = self.names.keys().filter(|path| path.parent() == Some(dir));
        inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    /// How far a file may grow, at most to `wanted`.
    fn grow(&mut self, inode: u64, wanted: u64) -> u64 {
        let free = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        let inode = self.inodes.get_mut(&inode).unwrap();
        let may = wanted.min(inode.space.saturating_add(free));
        inode.space = inode.space.max(may);
        may
    }

    fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let wanted = offset + bytes.len() as u64;
        let may = self.grow(inode, wanted);
        let fits = usize::try_from(may.saturating_sub(offset)).unwrap().min(bytes.len());
        let inode = self.inodes.get_mut(&inode).unwrap();
        let start = usize::try_from(offset).unwrap();
        if fits > 0 {
            if inode.now.len() < start + fits {
                inode.now.resize(start + fits, 0);
            }
            inode.now[start..start + fits].copy_from_slice(&bytes[..fits]);
            inode.dirty.extend(start / SECTOR..=(start + fits - 1) / SECTOR);
        }
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self, inode: u64) {
        let inode = self.inodes.get_mut(&inode).unwrap();
        inode.dirty.clear();
        inode.durable.clone_from(&inode.now);
    }

    fn forget(&mut self, inode: u64) {
        let inode = self.inodes.get_mut(&inode).unwrap();
        inode.dirty.clear();
        inode.now.clone_from(&inode.durable);
    }
}

impl Machine {
    /// Counts an operation; an error if the machine is dead or dies of it. The last write of its life may be cut.
    fn live(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.0 += 1;
        state.1 |= self.fortune.dies_at.is_some_and(|at| state.0 >= at);
        if state.1 { Err(gone()) } else { Ok(state.0) }
    }

    fn write(&self, inode: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let was_dead = self.state.lock().1;
        match self.live() {
            Ok(_) => self.disk.0.lock().write(inode, offset, bytes),
            Err(error) if was_dead => Err(error),
            Err(error) => {
                let cut = self.state.lock().2.below(bytes.len() as u64 + 1);
                let part = &bytes[..usize::try_from(cut).unwrap()];
                self.disk.0.lock().write(inode, offset, part).ok();
                Err(error)
            }
        }
    }
}

impl Mount {
    pub(crate) fn kill(&self) {
        self.0.state.lock().1 = true;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.state.lock().1
    }

    pub(crate) fn operations(&self) -> u64 {
        self.0.state.lock().0
    }

    fn file(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.0.live()?;
        let inode = self.0.disk.0.lock().names.get(path).copied();
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { machine: Arc::clone(&self.0), inode }))
    }
}

#[derive(Debug)]
struct SimFile {
    machine: Arc<Machine>,
    inode: u64,
}

impl StoredFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.machine.write(self.inode, offset, bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.machine.live()?;
        let platter = self.machine.disk.0.lock();
        let bytes = &platter.inodes.get(&self.inode).ok_or_else(gone)?.now;
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn size(&self) -> io::Result<u64> {
        self.machine.live()?;
        Ok(self.machine.disk.0.lock().inodes.get(&self.inode).ok_or_else(gone)?.now.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let count = self.machine.live()?;
        let mut platter = self.machine.disk.0.lock();
        if self.machine.fortune.sync_fails_at.is_some_and(|at| count >= at) {
            platter.forget(self.inode);
            return Err(io::Error::other("input/output error"));
        }
        platter.sync(self.inode);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.machine.live()?;
        let mut platter = self.machine.disk.0.lock();
        if platter.grow(self.inode, len) < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = platter.inodes.get_mut(&self.inode).unwrap();
        let len = usize::try_from(len).unwrap();
        if inode.now.len() < len {
            inode.now.resize(len, 0);
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.machine.live()?;
        let mut platter = self.machine.disk.0.lock();
        let inode = platter.inodes.get_mut(&self.inode).unwrap();
        inode.now.truncate(usize::try_from(len).unwrap());
        inode.space = len;
        Ok(())
    }
}

impl Storage for Mount {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.0.live()?;
        let mut platter = self.0.disk.0.lock();
        if platter.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        platter.remember();
        platter.next += 1;
        let inode = platter.next;
        platter.inodes.insert(inode, Inode::default());
        platter.names.insert(path.to_owned(), inode);
        Ok(Box::new(SimFile { machine: Arc::clone(&self.0), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.file(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.file(path)
    }

    fn open_uncached(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.file(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.live()?;
        let mut platter = self.0.disk.0.lock();
        let inode = *platter.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if platter.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        platter.remember();
        platter.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn link_count(&self, path: &Path) -> io::Result<u64> {
        self.0.live()?;
        let platter = self.0.disk.0.lock();
        let inode = platter.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(platter.names.values().filter(|other| *other == inode).count() as u64)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.live()?;
        let mut platter = self.0.disk.0.lock();
        platter.remember();
        platter.names.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.live()?;
        self.0.disk.0.lock().dirs.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.live()?;
        let ago = self.0.state.lock().2.below(12);
        let platter = self.0.disk.0.lock();
        if self.0.fortune.old_listings {
            return Ok(platter.listed_once(path, usize::try_from(ago).unwrap()));
        }
        Ok(platter.listed(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.live()?;
        let mut platter = self.0.disk.0.lock();
        let Platter { names, durable_names, .. } = &mut *platter;
        durable_names.retain(|name, _| name.parent() != Some(path) || names.contains_key(name));
        for (name, inode) in names.iter().filter(|(name, _)| name.parent() == Some(path)) {
            durable_names.insert(name.clone(), *inode);
        }
        Ok(())
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        self.0.live()?;
        let platter = self.0.disk.0.lock();
        Ok(platter.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(platter.used())))
    }

    // The fastest way to a start is not what is looked at here.
    fn try_lock(&self, _: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn is_lock_free(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }
}
