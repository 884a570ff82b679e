//! Whether a file system can carry a queue at all: what the protocol cannot do without is tried once, before anything of
//! the queue is touched.
//!
//! This finds a mount that refuses. Whether a mount that accepts keeps its promises to *another* machine cannot be seen
//! from one.

use std::io::{self, ErrorKind};

use mail_model::InstanceId;
use queue_format::lease::SECTOR_LEN;

use crate::files::QueueFiles;

/// Bytes of the trial file: the same as a lease's.
const TRIAL_LEN: usize = 3 * SECTOR_LEN;

/// What is refused, in words.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// The operation.
    pub(crate) what: &'static str,
    /// What the system says.
    pub(crate) error: io::Error,
}

/// Tries everything once, in files of its own that are gone at the end.
pub(crate) fn check(files: &QueueFiles, instance: InstanceId) -> Result<(), Unfit> {
    let first = files.lease_dir().join(format!(".trial-{instance}-1"));
    let second = files.lease_dir().join(format!(".trial-{instance}-2"));
    let storage = &files.storage;
    let remove = || {
        storage.unlink(&first).ok();
        storage.unlink(&second).ok();
    };
    let refused = |what| move |error| Unfit { what, error };
    let tried = (|| {
        let file = storage.create_new(&first).map_err(refused("making a file"))?;
        let bytes = [b'm'; TRIAL_LEN];
        file.write_at(0, &bytes).map_err(refused("writing"))?;
        file.sync_data().map_err(refused("fdatasync"))?;
        storage.link(&first, &second).map_err(refused("a second name for a file (link)"))?;
        match storage.link(&first, &second) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Unfit { what: "a link to a name that is taken", error }),
            Ok(()) => {
                let error = io::Error::other("it succeeded twice, so two claimers could both win");
                return Err(Unfit { what: "a link to a name that is taken", error });
            }
        }
        if storage.link_count(&first).map_err(refused("counting links"))? != 2 {
            let error = io::Error::other("a file with two names is not said to have two");
            return Err(Unfit { what: "counting links", error });
        }
        let mut sector = [0; SECTOR_LEN];
        let uncached = storage.open_uncached(&second).map_err(refused("opening for uncached reads"))?;
        let offset = (TRIAL_LEN - SECTOR_LEN) as u64;
        let read = uncached.read_at(offset, &mut sector).map_err(refused("an uncached read"))?;
        if read != SECTOR_LEN || sector.iter().any(|byte| *byte != b'm') {
            let error = io::Error::other("other bytes came back than were written");
            return Err(Unfit { what: "an uncached read", error });
        }
        storage.sync_dir(&files.lease_dir()).map_err(refused("fsync of a directory"))
    })();
    remove();
    tried
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::storage::{Disk, HeldLock, Storage, StoredFile};

    /// A disk that refuses to link, as some FUSE file systems do.
    #[derive(Debug)]
    struct Linkless;

    impl Storage for Linkless {
        fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
            Disk.create_new(path)
        }
        fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
            Disk.open(path)
        }
        fn open_write(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
            Disk.open_write(path)
        }
        fn open_uncached(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
            Disk.open_uncached(path)
        }
        fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
            Err(ErrorKind::PermissionDenied.into())
        }
        fn link_count(&self, path: &Path) -> io::Result<u64> {
            Disk.link_count(path)
        }
        fn unlink(&self, path: &Path) -> io::Result<()> {
            Disk.unlink(path)
        }
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            Disk.create_dir(path)
        }
        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            Disk.list(path)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            Disk.sync_dir(path)
        }
        fn free_space(&self, path: &Path) -> io::Result<u64> {
            Disk.free_space(path)
        }
        fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn HeldLock>>> {
            Disk.try_lock(path)
        }
        fn is_lock_free(&self, path: &Path) -> io::Result<bool> {
            Disk.is_lock_free(path)
        }
    }

    fn tried_on(storage: Arc<dyn Storage>) -> (Result<(), Unfit>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let files = QueueFiles::new(storage, dir.path());
        files.make_dirs().unwrap();
        let result = check(&files, InstanceId(7));
        (result, std::fs::read_dir(files.lease_dir()).unwrap().count())
    }

    #[test]
    fn a_real_file_system_is_fit_and_nothing_is_left_on_it() {
        let (result, left) = tried_on(Arc::new(Disk));
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(left, 0);
    }

    #[test]
    fn one_that_cannot_link_is_refused_by_name_and_nothing_is_left_on_it() {
        let (result, left) = tried_on(Arc::new(Linkless));
        assert!(result.unwrap_err().what.contains("link"));
        assert_eq!(left, 0);
    }
}
