//! On promoted storage: what confirms from outside that this switch owns its queue. The heartbeatd of this node says that the
//! device is mounted here, and by which term; the arbiter's register says that this term stands.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use control::arbiter::Arbiter;
use control::device::{Answer, Request};
use mail_model::{NodeId, QueueId};
use queue_store::{Proof, Standing};
use settings::{Settings, Storage};
use tokio::runtime::Handle;

/// How long one question may take.
const WITHIN: Duration = Duration::from_secs(1);
/// The pause after one that was not answered.
const PAUSE: Duration = Duration::from_millis(100);

/// One switch's proof.
#[derive(Debug)]
struct Registered {
    arbiter: Arbiter,
    heartbeatd: PathBuf,
    me: NodeId,
    queue: QueueId,
    runtime: Handle,
    /// The term by which the device was mounted here; 0 before.
    term: AtomicU64,
}

/// Nothing where the storage is shared. Called within the runtime that the questions then run on.
pub(super) fn proof(settings: &Settings, queue: &QueueId) -> Result<Option<Arc<dyn Proof>>> {
    match settings.queue.storage {
        Storage::Shared => return Ok(None),
        Storage::Promoted => {}
    }
    let arbiter = Arbiter::configured(settings)?;
    Ok(Some(Arc::new(Registered {
        arbiter: arbiter.context("queue.storage: promoted needs a witness or cluster.arbiter.etcd")?,
        heartbeatd: control::paths::devices(&settings.node.state_dir),
        me: settings.node.id.clone(),
        queue: queue.clone(),
        runtime: Handle::current(),
        term: AtomicU64::new(0),
    })))
}

impl Registered {
    fn unknown(why: &dyn std::fmt::Display) -> Standing {
        std::thread::sleep(PAUSE);
        Standing::Unknown(why.to_string())
    }
}

impl Proof for Registered {
    fn begin(&self) -> Standing {
        let request = Request::Held { queue: self.queue.clone() };
        let asked = control::ask(&self.heartbeatd, request, WITHIN);
        match self.runtime.block_on(asked) {
            Ok(Answer::Held { term: Some(term) }) => {
                self.term.store(term, Ordering::Release);
                self.stands()
            }
            Ok(Answer::Held { term: None } | Answer::Granted) => Standing::Others,
            Err(error) => Self::unknown(&error),
        }
    }

    fn stands(&self) -> Standing {
        match self.runtime.block_on(self.arbiter.read(&self.queue, WITHIN)) {
            Ok(entry) => {
                let term = self.term.load(Ordering::Acquire);
                let ours = entry.register.is_some_and(|register| register.stands(&self.me, term));
                if ours { Standing::Ours } else { Standing::Others }
            }
            Err(error) => {
                tracing::debug!(event = "queue.unproved", queue = %self.queue, %error);
                Self::unknown(&error)
            }
        }
    }
}
