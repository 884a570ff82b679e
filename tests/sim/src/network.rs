//! The links between the nodes: datagrams are lost, late, doubled, sent again much later, or do not pass one way.

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::heartbeat::Heartbeat;
use mail_model::InstanceId;
use parking_lot::Mutex;

use crate::scheduler::{MS, Scheduler, Time};

/// Paths between two nodes.
pub(crate) const PATHS: usize = 2;

/// A heartbeat on its way.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) from: usize,
    pub(crate) path: usize,
    pub(crate) incarnation: InstanceId,
    pub(crate) counter: u64,
    pub(crate) beat: Heartbeat,
}

#[derive(Debug, Default)]
struct Inner {
    /// What is on its way to a node, with the time it comes.
    inboxes: Vec<Vec<(Time, Datagram)>>,
    /// From, to, path: nothing passes.
    cuts: BTreeSet<(usize, usize, usize)>,
    /// Of a hundred, so many are lost.
    loss: u64,
    /// They take up to so much longer.
    delay: Time,
    /// What somebody recorded.
    recorded: Vec<(usize, Datagram)>,
}

/// All links. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    scheduler: Scheduler,
    inner: Arc<Mutex<Inner>>,
}

impl Network {
    pub(crate) fn new(scheduler: &Scheduler, nodes: usize) -> Self {
        let inner = Inner { inboxes: vec![Vec::new(); nodes], ..Inner::default() };
        Self { scheduler: scheduler.clone(), inner: Arc::new(Mutex::new(inner)) }
    }

    pub(crate) fn send(&self, to: usize, datagram: &Datagram) {
        let now = self.scheduler.now();
        let mut inner = self.inner.lock();
        if inner.cuts.contains(&(datagram.from, to, datagram.path)) {
            return;
        }
        let (lost, span, doubled, kept) = self.scheduler.draw(|chance| {
            let span = chance.below(2 * MS) + chance.below(inner.delay);
            (chance.below(100) < inner.loss, span, chance.one_in(50), chance.one_in(40))
        });
        if kept && inner.recorded.len() < 60 {
            inner.recorded.push((to, datagram.clone()));
        }
        if !lost {
            inner.inboxes[to].push((now + span, datagram.clone()));
        }
        if doubled {
            inner.inboxes[to].push((now + 3 * span, datagram.clone()));
        }
    }

    /// What has come for a node.
    pub(crate) fn receive(&self, node: usize) -> Vec<Datagram> {
        let now = self.scheduler.now();
        let mut inner = self.inner.lock();
        let (come, coming) =
            std::mem::take(&mut inner.inboxes[node]).into_iter().partition(|(at, _)| *at <= now);
        inner.inboxes[node] = coming;
        let mut come: Vec<(Time, Datagram)> = come;
        come.sort_by_key(|(at, _)| *at);
        come.into_iter().map(|(_, datagram)| datagram).collect()
    }

    /// A node lost its power: what was on its way to it is gone.
    pub(crate) fn forget(&self, node: usize) {
        self.inner.lock().inboxes[node].clear();
    }

    /// Nothing passes from one node to another on a path.
    pub(crate) fn cut(&self, from: usize, to: usize, path: usize) {
        self.inner.lock().cuts.insert((from, to, path));
    }

    pub(crate) fn set_quality(&self, loss: u64, delay: Time) {
        let mut inner = self.inner.lock();
        (inner.loss, inner.delay) = (loss, delay);
    }

    /// Sends everything again that was recorded.
    pub(crate) fn replay(&self) {
        let now = self.scheduler.now();
        let mut inner = self.inner.lock();
        for (to, datagram) in inner.recorded.clone() {
            inner.inboxes[to].push((now, datagram));
        }
    }

    pub(crate) fn heal(&self) {
        let mut inner = self.inner.lock();
        inner.cuts.clear();
        (inner.loss, inner.delay) = (0, 0);
    }
}
