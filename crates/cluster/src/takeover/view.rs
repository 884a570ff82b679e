//! What all takeover machines of a node share: its own health, and what the peers say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mail_model::{Epoch, LeaseState, Moment, NodeId, QueueId, Role};

use super::decision::Rule;
use super::event::Watch;
use super::state::{Ineligible, State};
use crate::device::OwnCopy;
use crate::observe::{LeaseView, Observation};

/// The lease of this node's own primary, as a proof of this node's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OwnLease {
    /// This node's primary owns nothing now: the probe alone decides.
    #[default]
    None,
    /// Renewed all through the window.
    Healthy,
    /// Late at least once in the window.
    Stale,
}

/// What is known of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerView {
    /// It was heard in this run.
    pub known: bool,
    /// Paths on which it is heard now.
    pub paths_up: u32,
    /// Paths there are.
    pub paths: u32,
    /// It says that it restarts its primary.
    pub restarting: bool,
    /// It says that its primary waits at INIT for its own queue.
    pub waiting: bool,
    /// Whom it says that it hears.
    pub hears: BTreeSet<NodeId>,
    /// Instances it says are dead, for which it does nothing more.
    pub dead: Vec<(QueueId, Epoch)>,
}

impl PeerView {
    /// Heard on any path.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.paths_up > 0
    }
}

/// The device of one queue on promoted storage, as far as a takeover of it cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceView {
    /// Whether this node's copy has everything.
    pub copy: OwnCopy,
    /// It cannot be promoted here although the register says that it may.
    pub blocked: bool,
    /// The other side is connected: that node's kernel lives, whatever its heartbeatd does.
    pub connected: bool,
    /// The home node's copy has everything: the queue may go back there.
    pub home_current: bool,
}

impl DeviceView {
    /// Why a takeover is not tried, if its copy is the reason.
    pub(super) fn obstacle(self) -> Option<(State, Rule, &'static str)> {
        let (why, rule, text) = match self.copy {
            OwnCopy::Current => return None,
            OwnCopy::Behind => {
                (Ineligible::CopyBehind, Rule::CopyBehind, "not taken: the copy of this node is not current")
            }
            OwnCopy::Unknown => {
                let text =
                    "not taken: the arbiter or the own device does not say whether the copy here is current";
                (Ineligible::CopyUnknown, Rule::CopyUnknown, text)
            }
        };
        Some((State::Ineligible(why), rule, text))
    }
}

/// The view.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The own primary.
    pub own: OwnLease,
    /// An operator's pause.
    pub paused_until: Option<Moment>,
    /// This node is being stopped.
    pub draining: bool,
    /// Disk, files and memory suffice for one more queue.
    pub room: bool,
    /// The other nodes.
    pub peers: BTreeMap<NodeId, PeerView>,
    /// On promoted storage: the devices.
    pub devices: BTreeMap<QueueId, DeviceView>,
}

impl View {
    /// True unless the home node's copy on promoted storage is behind, or may be.
    pub(super) fn home_fit(&self, watch: &Watch) -> bool {
        !watch.promoted || self.device(&watch.queue).home_current
    }

    /// The home node is heard, and its primary waits for the queue, which it could take.
    pub(super) fn home_waits(&self, watch: &Watch) -> bool {
        let home = self.peer(watch.queue.home());
        home.waiting && home.heard() && self.home_fit(watch)
    }

    /// The device of a queue; one that nothing is known of if it is unknown.
    #[must_use]
    pub fn device(&self, queue: &QueueId) -> DeviceView {
        self.devices.get(queue).copied().unwrap_or_default()
    }

    /// A peer; one that was never heard if it is unknown.
    #[must_use]
    pub fn peer(&self, node: &NodeId) -> PeerView {
        self.peers.get(node).cloned().unwrap_or_default()
    }
}

/// Watches the own primary's lease. D3: every renewal in the window must have succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnWatch {
    observation: Observation,
    owned: bool,
    last_read: Option<Moment>,
    late_at: Option<Moment>,
}

impl OwnWatch {
    /// A good read of the own queue's lease.
    pub fn read(&mut self, now: Moment, me: &NodeId, lease: Option<&LeaseView>, window: Duration) {
        // A reader that slept, or whose reads hung, has not seen the renewals of that time.
        if self.last_read.is_some_and(|last| now.since(last) > window / 2) {
            self.late_at = Some(now);
        }
        self.last_read = Some(now);
        let mine = lease
            .filter(|l| l.owner == *me && l.role == Role::Primary && l.state != Some(LeaseState::Released));
        self.owned = mine.is_some();
        let Some(lease) = mine else { return };
        self.observation.read(now, lease);
        if self.observation.unchanged_for() > window / 2 {
            self.late_at = Some(now);
        }
    }

    /// A read that failed.
    pub fn unreadable(&mut self, now: Moment) {
        self.late_at = Some(now);
    }

    /// The judgement.
    #[must_use]
    pub fn judge(&self, now: Moment, window: Duration) -> OwnLease {
        let late = self.late_at.is_some_and(|at| now.since(at) <= window);
        let silent = self.last_read.is_some_and(|at| now.since(at) > window / 2);
        match (late || silent, self.owned) {
            (true, _) => OwnLease::Stale,
            (false, true) => OwnLease::Healthy,
            (false, false) => OwnLease::None,
        }
    }
}
