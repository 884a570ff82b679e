//! Answers programs of this node about promoted storage, on a socket of their own: the switch, whether its device is held
//! here; the storage, whether its copy may go on alone. It waits for nothing but the arbiter.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::device::Word;
use cluster::register::Entry;
use control::arbiter::Arbiter;
use control::device::{Answer, Request};
use control::{Code, Fault, Server};
use mail_model::{NodeId, QueueId};
use parking_lot::Mutex;

/// How long the arbiter may take for one question.
pub(crate) const ARBITER_WITHIN: Duration = Duration::from_secs(2);
/// So often a swap that somebody else's change made void is tried again.
const TRIES: u32 = 5;

/// Terms of the registers. Kept by the node, read here.
#[derive(Debug, Clone)]
pub(crate) struct Terms(Arc<Mutex<BTreeMap<QueueId, Term>>>);

#[derive(Debug, Clone, Copy, Default)]
struct Term {
    /// The device is held here by this one.
    held: Option<u64>,
    /// The highest that was ever seen.
    seen: u64,
}

impl Terms {
    /// Nothing is held.
    pub(crate) fn new(seen: BTreeMap<QueueId, u64>) -> Self {
        let terms = seen.into_iter().map(|(queue, seen)| (queue, Term { held: None, seen }));
        Self(Arc::new(Mutex::new(terms.collect())))
    }

    pub(crate) fn set(&self, queue: &QueueId, held: Option<u64>, seen: u64) {
        self.0.lock().insert(queue.clone(), Term { held, seen });
    }

    fn of(&self, queue: &QueueId) -> Term {
        self.0.lock().get(queue).copied().unwrap_or_default()
    }
}

/// Makes the socket and answers until the runtime ends.
pub(crate) fn serve(state_dir: &Path, me: NodeId, arbiter: Arc<Arbiter>, terms: Terms) -> Result<()> {
    let server = Server::bind(&control::paths::devices(state_dir)).context("make the devices' socket")?;
    let me = Arc::new(me);
    tokio::spawn(server.serve(move |request: Request| {
        let (me, arbiter, terms) = (Arc::clone(&me), Arc::clone(&arbiter), terms.clone());
        async move {
            match request {
                Request::Held { queue } => Ok(Answer::Held { term: terms.of(&queue).held }),
                Request::CopyAlone { queue } => {
                    copy_alone(&me, &arbiter, &queue, terms.of(&queue).seen).await
                }
            }
        }
    }));
    Ok(())
}

async fn copy_alone(me: &NodeId, arbiter: &Arbiter, queue: &QueueId, seen: u64) -> Result<Answer, Fault> {
    let unknown = |error: control::arbiter::Unknown| Fault::failed(format!("not granted: {error}"));
    for _ in 0..TRIES {
        let Entry { version, register } = arbiter.read(queue, ARBITER_WITHIN).await.map_err(unknown)?;
        let register = register.ok_or_else(|| {
            Fault::new(Code::NotFound, format!("not granted: the arbiter has no register of queue {queue}"))
        })?;
        let alone = register.alone(me).map_err(|why| Fault::refused_unsafe(format!("not granted: {why}")))?;
        let term = alone.term;
        if term < seen {
            return Err(Fault::refused_unsafe(format!("not granted: {}", Word::WentBack.as_str())));
        }
        // Also if it says so already: the version must change, or a look at the device from before the cut could let the
        // peer join.
        if arbiter.swap(queue, version, alone, ARBITER_WITHIN).await.map_err(unknown)?.is_some() {
            tracing::warn!(event = "device.alone", %queue, term);
            return Ok(Answer::Granted);
        }
    }
    Err(Fault::busy("not granted: others change the register again and again; ask again"))
}
