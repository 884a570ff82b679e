//! The rounds of the devices of promoted storage: what `cluster::device` orders is carried out here, and a queue whose lease
//! cannot be read, because its device is not mounted here, is seen through the heartbeats of who owns it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster::device::{Action, Around, Device, DeviceState, Event, Word};
use cluster::observe::LeaseView;
use cluster::takeover::{self, Rule, Verdict};
use mail_model::{LeaseState, Moment, QueueId, Reason, Role};
use queue_store::inspect;

use crate::devices::News;
use crate::grants::ARBITER_WITHIN;
use crate::launch::Task;
use crate::node::Node;
use crate::own::Standing;

/// Between two rounds while nothing is under way.
const REST: Duration = Duration::from_secs(1);
/// While something is.
const HURRY: Duration = Duration::from_millis(200);
/// An old owner that lives has let go of its device by then: its next round, the end of its switch, and a few looks more.
const FENCE_AFTER: Duration = Duration::from_secs(5);

impl Node {
    /// Begins the rounds that are due.
    pub(crate) fn device_rounds(&mut self) {
        let now = self.clock.now();
        let Some(devices) = &self.devices else { return };
        let due = devices.known.iter().filter(|(_, kept)| now >= kept.due);
        let due: Vec<QueueId> = due.map(|(queue, _)| queue.clone()).collect();
        for queue in due {
            self.device(&queue, &Event::Round);
        }
    }

    /// An answer came.
    pub(crate) fn device_news(&mut self, news: &News) {
        self.device(&news.queue, &news.event);
    }

    /// A takeover goes through the device first. False where there is none: then the secondary is started at once.
    pub(crate) fn take_device(&mut self, queue: &QueueId, reason: Reason) -> bool {
        let Some(kept) = self.devices.as_mut().and_then(|devices| devices.known.get_mut(queue)) else {
            return false;
        };
        kept.reason = reason;
        kept.machine.take();
        kept.due = Moment(0);
        true
    }

    /// Something changed that the device's machine should look at soon.
    pub(crate) fn hurry_device(&mut self, queue: &QueueId) {
        if let Some(kept) = self.devices.as_mut().and_then(|devices| devices.known.get_mut(queue)) {
            kept.due = Moment(0);
        }
    }

    /// Lets go of what is not used any more, so that another node can promote it. What its switch still uses stays mounted: the
    /// hook refuses.
    pub(crate) async fn release_devices(&self) {
        let Some(devices) = &self.devices else { return };
        for (queue, _) in devices.known.iter().filter(|(_, kept)| kept.machine.held().is_some()) {
            let dir = self.plan.spool.join(queue.as_str());
            let released = devices.hook.run(&["release", queue.as_str(), &dir.to_string_lossy()]).await;
            tracing::info!(event = "device.left", %queue, released = released.is_ok());
        }
    }

    fn device(&mut self, queue: &QueueId, event: &Event) {
        let around = self.around(queue);
        let now = self.clock.now();
        let Some(devices) = &mut self.devices else { return };
        let Some(kept) = devices.known.get_mut(queue) else { return };
        let mut actions = Vec::new();
        let seen = kept.machine.seen();
        kept.machine.step(event, &around, &mut actions);
        let grown = kept.machine.seen() > seen;
        let moved = matches!(event, Event::Swapped | Event::Promoted(true) | Event::Released(true));
        let pause = if kept.machine.is_hurried() { HURRY } else { REST };
        kept.due = if moved { now } else { now + pause };
        match event {
            Event::Promoted(false) => kept.refused_since = kept.refused_since.or(Some(now)),
            Event::Fenced(_) => kept.refused_since = Some(now),
            Event::Promoted(true) => kept.refused_since = None,
            // By another owner it begins anew.
            Event::Said(_) if !kept.machine.is_owner() => kept.refused_since = None,
            Event::Round | Event::Read(_) | Event::Said(_) | Event::Swapped | Event::Released(_) => {}
        }
        devices.told.set(queue, kept.machine.held(), kept.machine.seen());
        if grown && let Err(error) = devices.keep_terms() {
            tracing::error!(event = "device.terms_failed", path = %devices.terms.display(), %error);
        }
        for action in actions {
            self.carry_out_device(queue, action);
        }
    }

    /// What the device's machine must know of the rest.
    fn around(&self, queue: &QueueId) -> Around {
        let kept = self.devices.as_ref().and_then(|devices| devices.known.get(queue));
        let since = kept.and_then(|kept| kept.refused_since);
        let late = since.is_some_and(|since| self.clock.now().since(since) >= FENCE_AFTER);
        if *queue == self.plan.own() {
            let wanted = self.own_switch.borrow().standing != Standing::Absent || self.children.runs(queue);
            return Around { wanted, give_to: None, late };
        }
        let home = queue.home();
        let view = self.view();
        let lease = self.queues.get(queue).and_then(|watched| watched.machine.lease());
        let released =
            lease.is_some_and(|l| l.owner == self.plan.me && l.state == Some(LeaseState::Released));
        let peer = view.peer(home);
        let goes = released && !self.children.runs(queue) && peer.waiting && peer.heard();
        Around { wanted: false, give_to: goes.then(|| home.clone()), late }
    }

    fn carry_out_device(&mut self, queue: &QueueId, action: Action) {
        let Some(devices) = &self.devices else { return };
        let (arbiter, news) = (Arc::clone(&devices.arbiter), devices.news.clone());
        let name = queue.clone();
        let tell = move |event| drop(news.send(News { queue: name, event }));
        match action {
            Action::Read => {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let read = arbiter.read(&queue, ARBITER_WITHIN).await;
                    if let Err(error) = &read {
                        tracing::debug!(event = "device.register_unknown", %queue, %error);
                    }
                    tell(Event::Read(read.ok()));
                });
            }
            Action::Swap { expected, register } => {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let (owner, term) = (register.owner.clone(), register.term);
                    match arbiter.swap(&queue, expected, register, ARBITER_WITHIN).await {
                        Ok(Some(_)) => {
                            tracing::info!(event = "device.register_changed", %queue, %owner, term);
                        }
                        Ok(None) => tracing::info!(event = "device.register_moved_on", %queue, %owner, term),
                        Err(error) => tracing::warn!(event = "device.register_in_doubt", %queue, %error),
                    }
                    tell(Event::Swapped);
                });
            }
            Action::Ask => self.hook("state", queue, move |said| {
                let state = said.and_then(|text| serde_json::from_str::<DeviceState>(text.trim()).ok());
                tell(Event::Said(state));
            }),
            Action::Promote => self.hook("promote", queue, move |said| tell(Event::Promoted(said.is_some()))),
            Action::Release => self.hook("release", queue, move |said| tell(Event::Released(said.is_some()))),
            Action::Fence(node) => {
                let fence = devices.fence.clone();
                tokio::spawn(async move {
                    let Some(fence) = fence else { return tell(Event::Fenced(false)) };
                    let proof = fence.run(&["off", node.as_str()]).await;
                    match &proof {
                        Ok(_) => tracing::warn!(event = "device.fenced", %node),
                        Err(error) => tracing::error!(event = "device.fence_failed", %node, error),
                    }
                    tell(Event::Fenced(proof.is_ok()));
                });
            }
            // Who waits for the queue uses nothing of it.
            Action::Stop
                if *queue == self.plan.own() && self.own_switch.borrow().standing == Standing::Waiting => {}
            Action::Stop => self.children.stop(queue.clone()),
            // At home the primary waits, and claims once it hears that the device is held.
            Action::Launch if *queue == self.plan.own() => {}
            Action::Launch => self.launch_taker(queue),
            Action::GiveUp => self.step(queue, self.clock.now(), &takeover::Event::SecondaryEnded),
            Action::Tell(word) => self.tell_of_device(queue, word),
        }
    }

    /// Runs the storage's hook; `done` hears what it printed if it ended with 0.
    fn hook(
        &self,
        action: &'static str,
        queue: &QueueId,
        done: impl FnOnce(Option<String>) + Send + 'static,
    ) {
        let Some(devices) = &self.devices else { return };
        let (hook, queue) = (Arc::clone(&devices.hook), queue.clone());
        let dir = self.plan.spool.join(queue.as_str());
        tokio::spawn(async move {
            let said = hook.run(&[action, queue.as_str(), &dir.to_string_lossy()]).await;
            if let Err(error) = &said {
                tracing::warn!(event = "device.hook_failed", %queue, action, error);
            }
            done(said.ok());
        });
    }

    /// The secondary expects the top epoch that is on the device: it is this node's alone now.
    fn launch_taker(&self, queue: &QueueId) {
        let Some(kept) = self.devices.as_ref().and_then(|devices| devices.known.get(queue)) else { return };
        let (reason, children, queue) = (kept.reason, self.children.clone(), queue.clone());
        let dir: PathBuf = self.plan.spool.join(queue.as_str());
        tokio::spawn(async move {
            let read = tokio::task::spawn_blocking(move || inspect::top_lease(&dir)).await;
            match read.map_err(std::io::Error::other).and_then(|top| top) {
                Ok(top) => {
                    let expected = top.map(|(claim, _)| claim.epoch).unwrap_or_default();
                    children.start(queue, Task::Secondary { expected, reason });
                }
                Err(error) => {
                    tracing::error!(event = "device.unreadable", %queue, %error);
                    children.not_started(queue);
                }
            }
        });
    }

    fn tell_of_device(&mut self, queue: &QueueId, word: Word) {
        let Some(watched) = self.queues.get(queue) else { return };
        let text = word.as_str();
        let verdict = if word.is_alarm() { Verdict::Alarm } else { Verdict::Device };
        let decision =
            watched.machine.describe(verdict, Rule::Device, text.to_owned(), &self.view(), self.clock.now());
        self.record(&decision);
    }

    /// True if the device of a queue is not mounted here: there is no lease to be read.
    pub(crate) fn is_elsewhere(&self, queue: &QueueId) -> bool {
        self.devices.as_ref().is_some_and(|devices| !devices.holds(queue))
    }

    /// The lease of such a queue: what its owner's heartbeats said last.
    pub(crate) fn lease_elsewhere(&self, queue: &QueueId) -> Option<LeaseView> {
        let devices = self.devices.as_ref()?;
        let timers = &self.plan.timers;
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let view = |owner: &mail_model::NodeId| LeaseView {
            epoch: mail_model::Epoch(0),
            owner: owner.clone(),
            role: if owner == queue.home() { Role::Primary } else { Role::Secondary },
            seq: 0,
            state: Some(LeaseState::Active),
            working: true,
            window_ms: ms(timers.window),
            renew_ms: ms(timers.renew),
            queued: 0,
        };
        let reports = self.link.as_ref().map(crate::link::Link::reports).unwrap_or_default();
        let said = reports.iter().filter_map(|(node, report)| {
            let beat = report.beat.as_ref()?.queues.iter().find(|beat| beat.queue == *queue)?;
            let (epoch, role, seq, state, queued) =
                (beat.epoch, beat.role, beat.seq, beat.state, beat.queued);
            Some(LeaseView { epoch, role, seq, state, queued, ..view(node) })
        });
        let said = said.max_by_key(|lease| lease.epoch);
        let last = self.queues.get(queue).and_then(|watched| watched.machine.lease().cloned());
        let register = devices.machine(queue).and_then(Device::register);
        let found = match (said, last) {
            (Some(said), Some(last)) if last.epoch > said.epoch => Some(last),
            (Some(said), _) => Some(said),
            (None, last) => last,
        };
        match (found, register) {
            // The register is newer than the last word of an owner that lost it.
            (Some(found), Some(register))
                if found.owner != register.owner && found.state != Some(LeaseState::Released) =>
            {
                Some(LeaseView { epoch: found.epoch, ..view(&register.owner) })
            }
            (Some(found), _) => Some(found),
            (None, register) => register.map(|register| view(&register.owner)),
        }
    }
}
