//! What a watcher reads of queues it does not own, and how it proves that it is not itself the sick one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cluster::observe::LeaseView;
use mail_model::{Clock, InstanceId};

use crate::files::QueueFiles;
use crate::storage::{Disk, Storage};
use crate::{lock, owner};

/// The top lease of the queue in `dir`, past every cache. `None` if it was never claimed.
pub fn read_lease(dir: &Path) -> io::Result<Option<LeaseView>> {
    read_lease_on(Arc::new(Disk), dir)
}

/// Like [`read_lease`], on another storage than this machine's file systems: for tests.
pub fn read_lease_on(storage: Arc<dyn Storage>, dir: &Path) -> io::Result<Option<LeaseView>> {
    owner::read_top(&QueueFiles::new(storage, dir))
}

/// True if no process of this machine runs the queue in `dir`. Evidence only where locks are coherent.
pub fn lock_is_free(dir: &Path) -> io::Result<bool> {
    lock::is_free(&Disk, dir)
}

/// Writes and syncs a small file in `spool` and removes it again; says how long that took. D3 of the protocol.
pub fn probe(spool: &Path, instance: InstanceId, clock: &dyn Clock) -> io::Result<Duration> {
    probe_on(&Disk, spool, instance, clock)
}

/// Like [`probe`], on another storage than this machine's file systems: for tests.
pub fn probe_on(
    disk: &dyn Storage,
    spool: &Path,
    instance: InstanceId,
    clock: &dyn Clock,
) -> io::Result<Duration> {
    let started = clock.now();
    let path = spool.join(format!(".probe-{instance}"));
    disk.unlink(&path).ok();
    let file = disk.create_new(&path)?;
    let result = file.write_at(0, &[1; 512]).and_then(|()| file.sync_data());
    disk.unlink(&path).ok();
    result?;
    Ok(clock.now().since(started))
}
