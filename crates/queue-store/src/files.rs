//! The files of one queue directory: where each lies, and how the ones with rules of their own are made.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail_model::{Epoch, SegmentId};
use parking_lot::Mutex;
use queue_format::lease::{Claim, Fence, LEASE_LEN, RENEW_OFFSET, Renewal, SECTOR_LEN};
use queue_format::names;
use queue_format::replay::QueueSource;
use queue_format::scan::{Source, SourceError};

use crate::storage::{Storage, StoredFile};

/// A queue directory on some storage.
#[derive(Debug, Clone)]
pub(crate) struct QueueFiles {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) dir: PathBuf,
    /// The segment that was read last, open: what is delivered now mostly lies side by side.
    reading: Arc<Mutex<Option<Reading>>>,
}

/// An open segment.
type Reading = (SegmentId, Arc<dyn StoredFile>);

/// Marks the number of a renewal that cannot be read: no owner ever counts so far.
const TORN: u64 = 1 << 63;

/// How a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimResult {
    Won,
    Lost,
}

impl QueueFiles {
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: &Path) -> Self {
        Self { storage, dir: dir.to_owned(), reading: Arc::default() }
    }

    pub(crate) fn lease(&self, epoch: Epoch) -> PathBuf {
        self.dir.join(names::LEASE_DIR).join(names::lease_file(epoch))
    }

    pub(crate) fn segment(&self, segment: SegmentId) -> PathBuf {
        self.segment_dir().join(names::segment_file(segment))
    }

    /// A segment to be read.
    pub(crate) fn reader(&self, segment: SegmentId) -> io::Result<Arc<dyn StoredFile>> {
        if let Some((known, file)) = &*self.reading.lock()
            && *known == segment
        {
            return Ok(Arc::clone(file));
        }
        let file: Arc<dyn StoredFile> = Arc::from(self.storage.open(&self.segment(segment))?);
        *self.reading.lock() = Some((segment, Arc::clone(&file)));
        Ok(file)
    }

    /// Lets go of `segment`, so that its space is free once its name is gone.
    pub(crate) fn forget(&self, segment: SegmentId) {
        self.reading.lock().take_if(|(known, _)| *known == segment);
    }

    pub(crate) fn digest(&self, segment: SegmentId) -> PathBuf {
        self.digest_dir().join(names::segment_file(segment))
    }

    pub(crate) fn lease_dir(&self) -> PathBuf {
        self.dir.join(names::LEASE_DIR)
    }

    pub(crate) fn segment_dir(&self) -> PathBuf {
        self.dir.join(names::SEGMENT_DIR)
    }

    pub(crate) fn digest_dir(&self) -> PathBuf {
        self.dir.join(names::DIGEST_DIR)
    }

    /// Makes the directories of a queue, durably.
    pub(crate) fn make_dirs(&self) -> io::Result<()> {
        self.storage.create_dir(&self.dir)?;
        for dir in [self.lease_dir(), self.segment_dir(), self.digest_dir()] {
            self.storage.create_dir(&dir)?;
        }
        self.storage.sync_dir(&self.dir)?;
        match self.dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.storage.sync_dir(parent),
            Some(_) | None => Ok(()),
        }
    }

    /// The highest epoch that has a lease. A listing of a network file system may be old, so names are tried from there on.
    pub(crate) fn top_epoch(&self) -> io::Result<Option<Epoch>> {
        let listed = self.epochs_listed()?.into_iter().max();
        let mut top = listed;
        loop {
            let next = top.map_or(Epoch(1), Epoch::next);
            match self.storage.open(&self.lease(next)) {
                Ok(_) => top = Some(next),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(top),
                Err(error) => return Err(error),
            }
        }
    }

    fn epochs_listed(&self) -> io::Result<Vec<Epoch>> {
        let names = self.storage.list(&self.lease_dir())?;
        Ok(names.iter().filter_map(|name| names::parse_lease_file(name)).collect())
    }

    /// The claim of `epoch`, read past the cache.
    pub(crate) fn read_claim(&self, epoch: Epoch) -> io::Result<Claim> {
        let mut sector = [0; SECTOR_LEN];
        self.storage.open_uncached(&self.lease(epoch))?.read_at(0, &mut sector)?;
        Claim::decode(&sector).map_err(|fault| invalid(&self.lease(epoch), &fault))
    }

    /// The renewal of `epoch`, read past the cache; `None` before the first.
    pub(crate) fn read_renewal(&self, epoch: Epoch) -> io::Result<Option<Renewal>> {
        let mut sector = [0; SECTOR_LEN];
        self.storage.open_uncached(&self.lease(epoch))?.read_at(RENEW_OFFSET, &mut sector)?;
        Renewal::decode(&sector).map_err(|fault| invalid(&self.lease(epoch), &fault))
    }

    /// The renewal of `epoch` as a watcher takes it. One that a power loss tore stays torn for ever, so it must not keep
    /// anybody waiting: it is a number that will not change, without a state.
    pub(crate) fn watch_renewal(&self, epoch: Epoch) -> io::Result<(u64, Option<Renewal>)> {
        let mut sector = [0; SECTOR_LEN];
        self.storage.open_uncached(&self.lease(epoch))?.read_at(RENEW_OFFSET, &mut sector)?;
        Ok(match Renewal::decode(&sector) {
            Ok(renewal) => (renewal.map_or(0, |r| r.seq), renewal),
            Err(_) => (TORN | u64::from(queue_format::frame::body_crc(&sector)), None),
        })
    }

    /// Claims an epoch: a compare-and-swap by `link(2)`. The lease has its name only once its claim is durable.
    pub(crate) fn claim(&self, claim: &Claim) -> io::Result<ClaimResult> {
        let temporary = self.lease_dir().join(format!(".claim-{}-{}", claim.epoch.0, claim.instance));
        let file = self.storage.create_new(&temporary)?;
        let written = (|| {
            file.write_at(0, &claim.encode()[..])?;
            file.write_at(LEASE_LEN - 1, &[0])?;
            file.sync_data()
        })();
        let result = written.and_then(|()| self.link_claim(&temporary, &self.lease(claim.epoch)));
        // The temporary name is of no use to anybody, whatever happened.
        self.storage.unlink(&temporary).ok();
        if let Ok(ClaimResult::Won) = result {
            self.storage.sync_dir(&self.lease_dir())?;
            self.remove_old_attempts(claim.epoch);
        }
        result
    }

    /// Removes what claimers of older epochs left when they died before they could. They have lost, whatever they find.
    fn remove_old_attempts(&self, below: Epoch) {
        let names = self.storage.list(&self.lease_dir()).unwrap_or_default();
        for name in names {
            let epoch = name.strip_prefix(".claim-").and_then(|rest| rest.split('-').next()?.parse().ok());
            if epoch.is_some_and(|epoch: u64| epoch < below.0) {
                // One that stays is met by the next claimer.
                self.storage.unlink(&self.lease_dir().join(name)).ok();
            }
        }
    }

    fn link_claim(&self, temporary: &Path, name: &Path) -> io::Result<ClaimResult> {
        match self.storage.link(temporary, name) {
            Ok(()) => Ok(ClaimResult::Won),
            // A retried request of a network file system may meet its own success.
            Err(error) => match self.storage.link_count(temporary) {
                Ok(2) => Ok(ClaimResult::Won),
                Ok(_) if error.kind() == io::ErrorKind::AlreadyExists => Ok(ClaimResult::Lost),
                Ok(_) => Err(error),
                // The owner of a higher epoch has swept it away.
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(ClaimResult::Lost),
                Err(unknown) => Err(unknown),
            },
        }
    }

    /// Makes what a dead owner wrote to `segment` durable before anybody builds on it: this machine's cache may hold
    /// more than the disk.
    pub(crate) fn settle(&self, segment: SegmentId) -> io::Result<()> {
        match self.storage.open_write(&self.segment(segment)) {
            Ok(file) => file.sync_data(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Fences `epoch`, durably.
    pub(crate) fn fence(&self, epoch: Epoch, fence: &Fence) -> io::Result<()> {
        let file = self.storage.open_write(&self.lease(epoch))?;
        file.write_at(queue_format::lease::FENCE_OFFSET, &fence.encode()[..])?;
        file.sync_data()
    }
}

fn invalid(path: &Path, fault: &queue_format::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {fault}", path.display()))
}

/// A segment file as the replay sees it.
#[derive(Debug)]
pub(crate) struct SegmentBytes {
    file: Box<dyn StoredFile>,
    len: u64,
}

impl Source for SegmentBytes {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, SourceError> {
        self.file.read_at(offset, buffer).map_err(|error| SourceError(error.to_string()))
    }
}

impl QueueFiles {
    fn source_error(path: &Path) -> impl Fn(io::Error) -> SourceError {
        let path = path.display().to_string();
        move |error| SourceError(format!("{path}: {error}"))
    }
}

impl QueueSource for QueueFiles {
    type Segment = SegmentBytes;

    fn epochs(&self) -> Result<Vec<Epoch>, SourceError> {
        let top = self.top_epoch().map_err(Self::source_error(&self.lease_dir()))?;
        Ok((1..=top.map_or(0, |e| e.0)).map(Epoch).collect())
    }

    fn segments(&self) -> Result<Vec<SegmentId>, SourceError> {
        let dir = self.segment_dir();
        let names = self.storage.list(&dir).map_err(Self::source_error(&dir))?;
        let mut found: Vec<SegmentId> =
            names.iter().filter_map(|name| names::parse_segment_file(name)).collect();
        // The listing may be old. Where an owner said last that it writes is read past every cache.
        let top = self.top_epoch().map_err(Self::source_error(&self.lease_dir()))?;
        // A taker that asks is the top itself; the one before it, or before that, was at work.
        let top = top.map_or(0, |top| top.0);
        for epoch in (top.saturating_sub(3)..=top).map(Epoch).filter(|epoch| epoch.0 > 0) {
            let renewal = self.read_renewal(epoch).ok().flatten();
            found.extend(renewal.map(|r| r.committed.0).filter(|segment| segment.epoch.0 > 0));
        }
        Ok(found)
    }

    fn open(&self, segment: SegmentId) -> Result<Option<SegmentBytes>, SourceError> {
        let path = self.segment(segment);
        match self.storage.open(&path) {
            Ok(file) => {
                let len = file.size().map_err(Self::source_error(&path))?;
                Ok(Some(SegmentBytes { file, len }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Self::source_error(&path)(error)),
        }
    }

    fn digest(&self, segment: SegmentId) -> Result<Option<Vec<u8>>, SourceError> {
        // A digest is a help, never a need: whatever is wrong with it, the segment is read instead.
        let Ok(file) = self.storage.open(&self.digest(segment)) else { return Ok(None) };
        let Ok(len) = file.size() else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        Ok(file.read_at(0, &mut bytes).ok().filter(|read| *read == bytes.len()).map(|_| bytes))
    }
}

#[cfg(test)]
mod tests;
