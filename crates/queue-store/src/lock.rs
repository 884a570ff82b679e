//! `Q/lock`: the lock of the running instance. It guards against a double start on one machine and lets a watcher of the
//! same machine notice a death at once. It is never trusted for safety: network file systems lose and move locks.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use queue_format::names;

use crate::storage::{HeldLock, Storage};

/// The lock file, locked or not. The lock goes with the value.
#[derive(Debug)]
pub(crate) struct Lock {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    held: parking_lot::Mutex<Option<Box<dyn HeldLock>>>,
}

impl Lock {
    pub(crate) fn new(storage: Arc<dyn Storage>, queue_dir: &Path) -> Self {
        Self { storage, path: path(queue_dir), held: parking_lot::Mutex::new(None) }
    }

    /// Takes the lock if it is free. It ends with the process, however that ends.
    pub(crate) fn try_take(&self) -> io::Result<bool> {
        if self.held.lock().is_some() {
            return Ok(true);
        }
        let taken = self.storage.try_lock(&self.path)?;
        let mine = taken.is_some();
        *self.held.lock() = taken;
        Ok(mine)
    }

    /// Gives it back.
    pub(crate) fn release(&self) {
        *self.held.lock() = None;
    }

    /// True if nobody holds it. Takes nothing.
    pub(crate) fn looks_free(&self) -> io::Result<bool> {
        self.storage.is_lock_free(&self.path)
    }
}

/// True if nobody on this machine (on file systems with coherent locks: nobody at all) runs the queue in `queue_dir`.
pub(crate) fn is_free(storage: &dyn Storage, queue_dir: &Path) -> io::Result<bool> {
    storage.is_lock_free(&path(queue_dir))
}

fn path(queue_dir: &Path) -> PathBuf {
    queue_dir.join(names::LOCK_FILE)
}
