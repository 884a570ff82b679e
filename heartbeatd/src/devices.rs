//! The devices of promoted storage as this node knows them: a machine of `cluster::device` for each, and what carries out its
//! orders. The node steps them in `rounds`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use cluster::device::{Device, Event, PeerLink, Word};
use cluster::takeover::DeviceView;
use control::arbiter::Arbiter;
use mail_model::{Moment, QueueId, Reason};
use tokio::sync::mpsc;

use crate::grants::{self, Terms};
use crate::hook::Hook;
use crate::plan::{Plan, PromotedPlan};

/// An answer to what a machine ordered.
pub(crate) struct News {
    pub(crate) queue: QueueId,
    pub(crate) event: Event,
}

/// The device of one queue.
pub(crate) struct Kept {
    pub(crate) machine: Device,
    /// The next round.
    pub(crate) due: Moment,
    /// Why a takeover is wanted.
    pub(crate) reason: Reason,
    /// Since when promotions fail, or since the last fence.
    pub(crate) refused_since: Option<Moment>,
}

/// All of them.
pub(crate) struct Devices {
    pub(crate) arbiter: Arc<Arbiter>,
    pub(crate) hook: Arc<Hook>,
    pub(crate) fence: Option<Arc<Hook>>,
    pub(crate) known: BTreeMap<QueueId, Kept>,
    /// What the switch and the storage are told.
    pub(crate) told: Terms,
    /// The file with the highest terms that were seen.
    pub(crate) terms: PathBuf,
    pub(crate) news: mpsc::UnboundedSender<News>,
}

impl Devices {
    /// Starts to answer the switch and the storage. `None` where the storage is not promoted.
    pub(crate) fn start(plan: &Plan, news: mpsc::UnboundedSender<News>) -> Result<Option<Self>> {
        let Some(PromotedPlan { hook, fence, arbiter }) = &plan.promoted else { return Ok(None) };
        let arbiter = Arc::clone(arbiter);
        let mut known = BTreeMap::new();
        for queue in plan.watched() {
            let peer = plan.peers.iter().find(|peer| peer.has_queue).map(|peer| peer.id.clone());
            let peer = peer.context("promoted storage needs two nodes with a queue")?;
            let machine = Device::new(plan.me.clone(), peer, &queue, fence.is_some());
            let kept = Kept { machine, due: Moment(0), reason: Reason::Expired, refused_since: None };
            known.insert(queue, kept);
        }
        let terms = plan.state_dir.join("terms");
        for (queue, term) in read_terms(&terms)? {
            if let Some(kept) = known.get_mut(&queue) {
                kept.machine.remember(term);
            }
        }
        let seen = known.iter().map(|(queue, kept)| (queue.clone(), kept.machine.seen())).collect();
        let told = Terms::new(seen);
        grants::serve(&plan.state_dir, plan.me.clone(), Arc::clone(&arbiter), told.clone())?;
        let (command, timeout) = hook.clone();
        let fence = fence.clone().map(|(command, timeout)| Arc::new(Hook::new(command, timeout)));
        Ok(Some(Self {
            arbiter,
            hook: Arc::new(Hook::new(command, timeout)),
            fence,
            known,
            told,
            terms,
            news,
        }))
    }

    /// True if the device is mounted here by the register's word.
    pub(crate) fn holds(&self, queue: &QueueId) -> bool {
        self.known.get(queue).is_some_and(|kept| kept.machine.held().is_some())
    }

    /// The machine of a queue's device.
    pub(crate) fn machine(&self, queue: &QueueId) -> Option<&Device> {
        Some(&self.known.get(queue)?.machine)
    }

    /// For the takeover machines.
    pub(crate) fn views(&self) -> BTreeMap<QueueId, DeviceView> {
        let view = |queue: &QueueId, kept: &Kept| DeviceView {
            home_current: kept.machine.register().is_some_and(|register| register.is_current(queue.home())),
            connected: kept.machine.said().is_some_and(|said| said.peer == PeerLink::Connected),
            copy: kept.machine.copy(),
            blocked: matches!(kept.machine.wrong(), Some(Word::NotPromoted | Word::NotFenced)),
        };
        self.known.iter().map(|(queue, kept)| (queue.clone(), view(queue, kept))).collect()
    }

    /// An arbiter that lost its memory must be noticed after a restart, too.
    #[expect(clippy::disallowed_methods, reason = "written whole and synced before it gets its name")]
    pub(crate) fn keep_terms(&self) -> std::io::Result<()> {
        let terms: BTreeMap<&QueueId, u64> =
            self.known.iter().map(|(queue, kept)| (queue, kept.machine.seen())).collect();
        let new = self.terms.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(&terms).map_err(std::io::Error::other)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.terms)
    }

    /// How a device stands, for people; empty for none.
    pub(crate) fn line(&self, queue: &QueueId) -> String {
        let Some(machine) = self.machine(queue) else { return String::new() };
        let register = match machine.register() {
            None => "register unknown or not yet written".to_owned(),
            Some(register) => {
                let copies: Vec<&str> = register.copies.iter().map(mail_model::NodeId::as_str).collect();
                format!(
                    "owner {} by term {}; current copies: {}",
                    register.owner,
                    register.term,
                    copies.join(", ")
                )
            }
        };
        let here = if machine.held().is_some() { "mounted here" } else { "not mounted here" };
        let wrong = machine.wrong().map(|word| format!("; {}", word.as_str())).unwrap_or_default();
        format!("{here}; {register}{wrong}")
    }
}

fn read_terms(path: &Path) -> Result<BTreeMap<QueueId, u64>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .with_context(|| format!("{}: this is no list of terms; see the runbook", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}
