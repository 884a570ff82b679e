//! Trouble made on purpose: for a drill, the storage of one owner is full for a while, or hangs.
//!
//! It lies under the queue, where a real error would come from, so everything above is the same. A full disk still has what was
//! set aside on it: segments are written to their end, and no new one is made. A disk that hangs answers nothing until it is
//! over: what was asked meanwhile is done then. It ends by itself.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mail_model::{Clock, Moment};

use crate::storage::{Disk, HeldLock, Storage, StoredFile};

/// Between two looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What is wrong with the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No space is left.
    DiskFull,
    /// It does not answer.
    StorageHang,
}

/// Until when there is which trouble; 0 for none.
#[derive(Debug)]
pub(crate) struct Troubles {
    clock: Arc<dyn Clock>,
    full_until: AtomicU64,
    hung_until: AtomicU64,
}

impl Troubles {
    pub(crate) fn none(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, full_until: AtomicU64::new(0), hung_until: AtomicU64::new(0) })
    }

    /// Begins now, and ends after `span`. Nothing lasts: an empty span ends it.
    pub(crate) fn begin(&self, trouble: Trouble, span: Duration) {
        let until = if span.is_zero() { 0 } else { (self.clock.now() + span).0 };
        match trouble {
            Trouble::DiskFull => self.full_until.store(until, Ordering::Release),
            Trouble::StorageHang => self.hung_until.store(until, Ordering::Release),
        }
    }

    fn lasts(&self, until: &AtomicU64) -> bool {
        match until.load(Ordering::Acquire) {
            0 => false,
            until => self.clock.now() < Moment(until),
        }
    }

    fn wait(&self) {
        while self.lasts(&self.hung_until) {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn need_space(&self) -> io::Result<()> {
        self.wait();
        if self.lasts(&self.full_until) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// The disk of this machine, with trouble.
#[derive(Debug)]
pub(crate) struct TroubledDisk(pub(crate) Arc<Troubles>);

impl TroubledDisk {
    fn file(&self, file: Box<dyn StoredFile>) -> Box<dyn StoredFile> {
        Box::new(TroubledFile { file, troubles: Arc::clone(&self.0) })
    }
}

impl Storage for TroubledDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.0.need_space()?;
        Ok(self.file(Disk.create_new(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.0.wait();
        Ok(self.file(Disk.open(path)?))
    }
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.0.wait();
        Ok(self.file(Disk.open_write(path)?))
    }
    fn open_uncached(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.0.wait();
        Ok(self.file(Disk.open_uncached(path)?))
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.wait();
        Disk.link(from, to)
    }
    fn link_count(&self, path: &Path) -> io::Result<u64> {
        self.0.wait();
        Disk.link_count(path)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.wait();
        Disk.unlink(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.wait();
        Disk.create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.0.wait();
        Disk.list(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
        self.0.wait();
        Disk.try_lock(path)
    }
    fn is_lock_free(&self, path: &Path) -> io::Result<bool> {
        self.0.wait();
        Disk.is_lock_free(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.wait();
        Disk.sync_dir(path)
    }
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.0.wait();
        if self.0.lasts(&self.0.full_until) { Ok(0) } else { Disk.free_space(path) }
    }
}

#[derive(Debug)]
struct TroubledFile {
    file: Box<dyn StoredFile>,
    troubles: Arc<Troubles>,
}

impl StoredFile for TroubledFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.troubles.wait();
        self.file.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.troubles.wait();
        self.file.read_at(offset, buffer)
    }
    fn read_cached(&self, offset: u64, buffer: &mut [u8]) -> bool {
        self.file.read_cached(offset, buffer)
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn sync_data(&self) -> io::Result<()> {
        self.troubles.wait();
        self.file.sync_data()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.troubles.need_space()?;
        self.file.allocate(len)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.troubles.wait();
        self.file.truncate(len)
    }
}
