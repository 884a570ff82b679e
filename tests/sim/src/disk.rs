//! The shared disk as one process of one node sees it: slow, stalled, full, failing, stale, and lying where a weakened
//! protocol is wanted. Every operation is a point at which others go, and at which the process may die or be paused.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use queue_format::frame;
use queue_format::lease::{FENCE_OFFSET, RENEW_OFFSET, Renewal, SECTOR_LEN};
use queue_format::names;
use queue_format::record::Kind;
use queue_store::storage::{HeldLock, Storage, StoredFile};

use crate::platter::{Inode, Platter};
use crate::scheduler::{Fate, MS, ProcessId, Scheduler, Time};
use crate::weakness::Weakness;

/// How the disk treats one node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Nothing comes back before.
    pub(crate) stalled_until: Time,
    /// Everything fails until then.
    pub(crate) fails_until: Time,
    /// The next sync fails, and what was to be synced is gone or not.
    pub(crate) sync_fails: bool,
    /// Every operation takes so much longer.
    pub(crate) slow: u64,
    /// Listings may be so old.
    pub(crate) old_listings: Time,
    /// A name that was missing is believed to be for so long.
    pub(crate) old_names: Time,
    /// A file that was opened may stay as it was then.
    pub(crate) frozen_reads: bool,
}

/// What the disk knows of each owner, to lie to it.
#[derive(Debug, Default)]
struct Lies {
    /// The lease that a process claimed.
    leases: BTreeMap<ProcessId, Inode>,
    /// How its fence was at the moment that counts in the variant.
    fences: BTreeMap<ProcessId, Vec<u8>>,
    /// Fences not written yet, by the process that asked for them.
    put_off: BTreeMap<ProcessId, Vec<(Inode, Vec<u8>)>>,
    /// The next sync of this process does nothing.
    lying: BTreeSet<ProcessId>,
}

struct Inner {
    platter: Platter,
    weather: BTreeMap<usize, Weather>,
    /// Who holds the lock of which file, on which node.
    locks: BTreeMap<(usize, PathBuf), ProcessId>,
    weakness: Weakness,
    lies: Lies,
    claimed: Vec<(PathBuf, ProcessId)>,
}

/// The disk itself. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Disk {
    scheduler: Scheduler,
    inner: Arc<Mutex<Inner>>,
}

impl Disk {
    pub(crate) fn new(scheduler: &Scheduler, weakness: Weakness) -> Self {
        let inner = Inner {
            platter: Platter::default(),
            weather: BTreeMap::new(),
            locks: BTreeMap::new(),
            weakness,
            lies: Lies::default(),
            claimed: Vec::new(),
        };
        Self { scheduler: scheduler.clone(), inner: Arc::new(Mutex::new(inner)) }
    }

    /// The disk as `process` on `node` sees it, through `cache`.
    pub(crate) fn mount(&self, process: ProcessId, node: usize, cache: usize) -> Mount {
        Mount { disk: self.clone(), process, node, cache }
    }

    pub(crate) fn set_weather(&self, node: usize, change: impl FnOnce(&mut Weather)) {
        change(self.inner.lock().weather.entry(node).or_default());
    }

    /// Sets the space that is left, or that there is no bound.
    pub(crate) fn limit_free(&self, free: Option<u64>) {
        let platter = &mut self.inner.lock().platter;
        platter.capacity = free.map(|free| platter.used() + free);
    }

    pub(crate) fn lose_power(&self, cache: usize) {
        let mut inner = self.inner.lock();
        self.scheduler.draw(|chance| inner.platter.lose_power(cache, chance));
    }

    /// What must never be, and was.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.inner.lock().platter.wrong.clone()
    }

    /// Every claim that was won: the lease, and the process.
    pub(crate) fn claims(&self) -> usize {
        self.inner.lock().claimed.len()
    }
}

/// The disk as one process sees it.
#[derive(Clone)]
pub(crate) struct Mount {
    disk: Disk,
    process: ProcessId,
    node: usize,
    cache: usize,
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mount of node {} for {:?}", self.node, self.process)
    }
}

fn gone() -> io::Error {
    io::Error::other("this process is dead")
}

/// A file's place decides what it is to the protocol.
fn is_lease(path: &Path) -> bool {
    path.parent().is_some_and(|dir| dir.ends_with(names::LEASE_DIR))
}

fn is_segment(path: &Path) -> bool {
    path.parent().is_some_and(|dir| dir.ends_with(names::SEGMENT_DIR))
}

impl Mount {
    /// One operation: takes its time, during which everybody else goes on. True if the process dies of it, half done.
    fn operation(&self, usual: Time) -> io::Result<bool> {
        if std::thread::panicking() {
            return Err(gone());
        }
        let scheduler = &self.disk.scheduler;
        let fate = scheduler.operation(self.process);
        let slow = self.weather().slow;
        let span = scheduler.draw(|chance| chance.below(usual) + slow * chance.below(usual));
        scheduler.sleep(span);
        loop {
            let weather = self.weather();
            let now = scheduler.now();
            if weather.stalled_until > now {
                scheduler.sleep(weather.stalled_until - now);
            } else if weather.fails_until > now {
                return Err(io::Error::other("input/output error"));
            } else {
                return Ok(fate == Fate::Dies);
            }
        }
    }

    /// An operation that is done or not: a process that dies of it dies before or after.
    fn whole<T>(&self, usual: Time, act: impl FnOnce(&mut Inner, Time) -> io::Result<T>) -> io::Result<T> {
        let dies = self.operation(usual)?;
        let scheduler = &self.disk.scheduler;
        if dies && scheduler.draw(|chance| chance.one_in(2)) {
            scheduler.kill(self.process);
        }
        let now = scheduler.now();
        let done = act(&mut self.disk.inner.lock(), now);
        if dies {
            scheduler.kill(self.process);
        }
        if scheduler.draw(|chance| chance.one_in(4)) {
            // The answer takes its time, too.
            scheduler.sleep(scheduler.draw(|chance| chance.below(usual / 2)));
        }
        done
    }

    fn weather(&self) -> Weather {
        self.disk.inner.lock().weather.get(&self.node).copied().unwrap_or_default()
    }

    fn open_as(&self, path: &Path, frozen: bool) -> io::Result<Box<dyn StoredFile>> {
        let believed = self.weather().old_names;
        let believed = self.disk.scheduler.draw(|chance| chance.below(believed));
        let (inode, frozen) = self.whole(200, |inner, now| {
            let inode = inner.platter.look_up(now, self.cache, path, believed);
            let inode = inode.ok_or(io::ErrorKind::NotFound)?;
            Ok((inode, frozen.then(|| inner.platter.snapshot(inode, self.cache))))
        })?;
        Ok(self.file(path, inode, frozen))
    }

    fn file(&self, path: &Path, inode: Inode, frozen: Option<Vec<u8>>) -> Box<dyn StoredFile> {
        Box::new(MountedFile { mount: self.clone(), path: path.to_owned(), inode, frozen })
    }
}

struct MountedFile {
    mount: Mount,
    path: PathBuf,
    inode: Inode,
    /// What the file was when it was opened, if that is all that is seen.
    frozen: Option<Vec<u8>>,
}

impl std::fmt::Debug for MountedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl MountedFile {
    /// What is really written for these bytes; `None`: nothing.
    fn bent(&self, inner: &mut Inner, offset: u64, bytes: &[u8]) -> Option<Vec<u8>> {
        let process = self.mount.process;
        let own = inner.lies.leases.get(&process).copied();
        let fence = |inner: &mut Inner| {
            let mut fence = vec![0; SECTOR_LEN];
            if let Some(own) = own {
                inner.platter.read(own, self.mount.cache, FENCE_OFFSET, &mut fence);
            }
            fence
        };
        let lease_at = |at| is_lease(&self.path) && offset == at;
        let weakness = inner.weakness;
        let weak = |other| weakness == other;
        let looks = (weak(Weakness::CheckBeforeSync) && is_segment(&self.path))
            || (weak(Weakness::ClockLease) && lease_at(RENEW_OFFSET));
        if looks {
            let fence = fence(inner);
            inner.lies.fences.insert(process, fence);
        } else if weak(Weakness::ScanBeforeFence) && lease_at(FENCE_OFFSET) {
            inner.lies.put_off.entry(process).or_default().push((self.inode, bytes.to_vec()));
            return None;
        } else if weak(Weakness::FencePreviousOnly) && lease_at(FENCE_OFFSET) {
            let number = |path: &Path| names::parse_lease_file(path.file_name()?.to_str()?);
            let dir = self.path.parent()?;
            let here = inner.claimed.iter().filter(|(path, _)| path.parent() == Some(dir));
            let top = here.filter_map(|(path, _)| number(path)).max()?;
            if number(&self.path)?.next() != top {
                return None;
            }
        } else if weak(Weakness::WorksTooEarly) && lease_at(RENEW_OFFSET) {
            let renewal = Renewal::decode(bytes).ok().flatten()?;
            return Some(Renewal { working: true, ..renewal }.encode().to_vec());
        } else if weak(Weakness::UnlinkBeforeRetire)
            && is_segment(&self.path)
            && frame::peek(bytes).is_ok_and(|header| header.kind == Kind::Retire as u8)
        {
            inner.lies.lying.insert(process);
        }
        Some(bytes.to_vec())
    }

    /// What a read of the own fence is answered in a weakened protocol.
    fn told_fence(&self, inner: &Inner) -> Option<Vec<u8>> {
        let process = self.mount.process;
        if inner.lies.leases.get(&process) != Some(&self.inode) {
            return None;
        }
        let told = inner.lies.fences.get(&process).cloned();
        let weak = |weakness| inner.weakness == weakness;
        let aside = weak(Weakness::SideThread) && self.mount.disk.scheduler.my_name() != "renew";
        if weak(Weakness::NoFenceCheck) || aside {
            Some(vec![0; SECTOR_LEN])
        } else if weak(Weakness::CheckBeforeSync) || weak(Weakness::ClockLease) {
            told
        } else {
            None
        }
    }
}

impl StoredFile for MountedFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mount = &self.mount;
        let dies = mount.operation(150)?;
        let scheduler = &mount.disk.scheduler;
        {
            let mut inner = mount.disk.inner.lock();
            if let Some(bytes) = self.bent(&mut inner, offset, bytes) {
                // The last write of a process may be cut.
                let cut = scheduler.draw(|chance| chance.index(bytes.len() + 1));
                let part = if dies { &bytes[..cut] } else { &bytes[..] };
                let by = (mount.cache, mount.process);
                let written = inner.platter.write(self.inode, by, offset, part, is_segment(&self.path));
                if scheduler.draw(|chance| chance.one_in(6)) {
                    scheduler.draw(|chance| inner.platter.trickle(chance));
                }
                if !dies {
                    return written;
                }
            }
        }
        if dies {
            scheduler.kill(mount.process);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mount = &self.mount;
        mount.whole(150, |inner, _| {
            if let Some(frozen) = &self.frozen {
                let start = usize::try_from(offset).unwrap().min(frozen.len());
                let count = buffer.len().min(frozen.len() - start);
                buffer[..count].copy_from_slice(&frozen[start..start + count]);
                return Ok(count);
            }
            let count = inner.platter.read(self.inode, mount.cache, offset, buffer);
            if offset == FENCE_OFFSET
                && is_lease(&self.path)
                && let Some(told) = self.told_fence(inner)
            {
                buffer.copy_from_slice(&told);
            }
            Ok(count)
        })
    }

    fn size(&self) -> io::Result<u64> {
        let mount = &self.mount;
        mount.whole(100, |inner, _| match &self.frozen {
            Some(frozen) => Ok(frozen.len() as u64),
            None => Ok(inner.platter.size(self.inode, mount.cache)),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let mount = &self.mount;
        mount.whole(3 * MS, |inner, _| {
            let fails = std::mem::take(&mut inner.weather.entry(mount.node).or_default().sync_fails);
            if fails {
                mount.disk.scheduler.draw(|chance| inner.platter.forget(self.inode, mount.cache, chance));
                return Err(io::Error::other("input/output error"));
            }
            let lies = inner.lies.lying.remove(&mount.process);
            if !lies && inner.weakness != Weakness::LyingSync {
                inner.platter.sync(self.inode, mount.cache);
            }
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mount = &self.mount;
        mount.whole(150, |inner, _| inner.platter.allocate(self.inode, mount.cache, len))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.mount.whole(150, |inner, _| {
            inner.platter.truncate(self.inode, len);
            Ok(())
        })
    }
}

impl Storage for Mount {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let inode = self.whole(300, |inner, now| {
            if is_segment(path) {
                for (lease, bytes) in inner.lies.put_off.remove(&self.process).unwrap_or_default() {
                    let by = (self.cache, self.process);
                    inner.platter.write(lease, by, FENCE_OFFSET, &bytes, false)?;
                    inner.platter.sync(lease, self.cache);
                }
            }
            inner.platter.create(now, self.cache, path)
        })?;
        Ok(self.file(path, inode, None))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let frozen = self.weather().frozen_reads && self.disk.scheduler.draw(|chance| chance.one_in(2));
        self.open_as(path, frozen)
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.open_as(path, false)
    }

    fn open_uncached(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.open_as(path, false)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.whole(500, |inner, now| {
            let blind = inner.weakness == Weakness::BlindClaim;
            let inode = inner.platter.link(now, self.cache, (from, to), blind)?;
            inner.lies.leases.insert(self.process, inode);
            inner.claimed.push((to.to_owned(), self.process));
            Ok(())
        })
    }

    fn link_count(&self, path: &Path) -> io::Result<u64> {
        self.whole(100, |inner, _| inner.platter.link_count(path))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.whole(300, |inner, now| inner.platter.unlink(now, self.cache, path))
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.whole(100, |_, _| Ok(()))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let old = self.weather().old_listings;
        let old = self.disk.scheduler.draw(|chance| chance.below(old));
        self.whole(200, |inner, now| Ok(inner.platter.list(now, self.cache, path, old)))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.whole(2 * MS, |inner, _| {
            inner.platter.sync_dir(self.cache, path);
            Ok(())
        })
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        self.whole(50, |inner, _| Ok(inner.platter.free()))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        self.whole(50, |inner, _| {
            let key = (self.node, path.to_owned());
            let held = inner.locks.get(&key).is_some_and(|holder| !self.disk.scheduler.is_dead(*holder));
            if held {
                return Ok(None);
            }
            inner.locks.insert(key.clone(), self.process);
            let lock = Held { disk: self.disk.clone(), key, process: self.process };
            Ok(Some(Box::new(lock) as Box<dyn HeldLock>))
        })
    }

    fn is_lock_free(&self, path: &Path) -> io::Result<bool> {
        self.whole(50, |inner, _| {
            let holder = inner.locks.get(&(self.node, path.to_owned()));
            Ok(holder.is_none_or(|holder| self.disk.scheduler.is_dead(*holder)))
        })
    }
}

struct Held {
    disk: Disk,
    key: (usize, PathBuf),
    process: ProcessId,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lock of {}", self.key.1.display())
    }
}

impl HeldLock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.disk.inner.lock();
        if inner.locks.get(&self.key) == Some(&self.process) {
            inner.locks.remove(&self.key);
        }
    }
}
