//! A queue read without owning it, and without touching it: for operators and for the offline checker.

use std::path::Path;
use std::sync::Arc;

use mail_model::{Epoch, QueueId};
use queue_format::lease::{Claim, Renewal};
use queue_format::record::MessageKey;
use queue_format::replay::{Fault, Plan, Replay, ReplayError, replay};
use queue_format::scan::Bodies;

use crate::ahead::replay_ahead;
use crate::content::ContentReader;
use crate::files::QueueFiles;
use crate::storage::{Disk, Storage};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What recovery would read.
    Books,
    /// Every byte of every segment.
    Everything,
}

/// A queue as it is on disk now.
#[derive(Debug)]
pub struct Inspection {
    /// Books, faults, leftovers.
    pub replay: Replay,
    files: Arc<QueueFiles>,
}

impl Inspection {
    /// A message's content; `None` if it is not live.
    #[must_use]
    pub fn content(&self, key: MessageKey) -> Option<ContentReader> {
        Some(ContentReader::new(Arc::clone(&self.files), &self.replay.books.message(key)?))
    }
}

/// The queues below `spool`: directories with a lease, by name.
pub fn queues(spool: &Path) -> std::io::Result<Vec<QueueId>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(spool)? {
        let entry = entry?;
        let name: Option<QueueId> = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(queue) = name.filter(|_| entry.path().join(queue_format::names::LEASE_DIR).is_dir()) {
            found.push(queue);
        }
    }
    found.sort();
    Ok(found)
}

/// How often a queue is read again in which a segment was missed.
const LOOKS_MAX: usize = 4;

/// Reads the queue in `dir`. An owner at work may be a commit ahead.
pub fn inspect(dir: &Path, cluster: &str, queue: &QueueId, depth: Depth) -> Result<Inspection, ReplayError> {
    let files = Arc::new(QueueFiles::new(Arc::new(Disk), dir));
    look(files, cluster, queue, depth, replay_ahead)
}

/// Like [`inspect`], on another storage than this machine's file systems: for tests.
pub fn inspect_on(
    storage: Arc<dyn Storage>,
    dir: &Path,
    cluster: &str,
    queue: &QueueId,
    depth: Depth,
) -> Result<Inspection, ReplayError> {
    let files = Arc::new(QueueFiles::new(storage, dir));
    look(files, cluster, queue, depth, replay)
}

fn look(
    files: Arc<QueueFiles>,
    cluster: &str,
    queue: &QueueId,
    depth: Depth,
    replay: impl Fn(&QueueFiles, &Plan) -> Result<Replay, ReplayError>,
) -> Result<Inspection, ReplayError> {
    let everything = depth == Depth::Everything;
    let plan = Plan {
        cluster: cluster.to_owned(),
        queue: queue.clone(),
        before: None,
        bodies: if everything { Bodies::All } else { Bodies::Tail },
        ignore_digests: everything,
    };
    // An owner at work may remove a segment between the listing and its reading: then look again.
    let mut seen = replay(&files, &plan)?;
    for _ in 0..LOOKS_MAX {
        if !seen.faults.iter().any(|fault| matches!(fault, Fault::Missing(_))) {
            break;
        }
        seen = replay(&files, &plan)?;
    }
    Ok(Inspection { replay: seen, files })
}

/// The top lease of the queue in `dir`: who owns it, and its last sign of life. `None` if it was never claimed.
pub fn top_lease(dir: &Path) -> std::io::Result<Option<(Claim, Option<Renewal>)>> {
    let files = QueueFiles::new(Arc::new(Disk), dir);
    let Some(top) = files.top_epoch()? else { return Ok(None) };
    // One that a power loss tore says nothing, and never will: whoever watches must not wait for it.
    Ok(Some((files.read_claim(top)?, files.watch_renewal(top)?.1)))
}

/// The claim of one epoch.
pub fn claim(dir: &Path, epoch: Epoch) -> std::io::Result<Claim> {
    QueueFiles::new(Arc::new(Disk), dir).read_claim(epoch)
}
