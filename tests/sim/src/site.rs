//! What every process of the world shares: the scheduler, the disk, the ledger, the clocks, and who runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::Timers;
use cluster::instance::State;
use mail_model::{Clock, InstanceId, Moment, NodeId, QueueId, WallTime};
use parking_lot::Mutex;
use queue_store::Queue;

use crate::disk::Disk;
use crate::ledger::Ledger;
use crate::scheduler::{MS, ProcessId, Scheduler, Time};
use crate::weakness::Weakness;

/// Where the queues lie.
pub(crate) const SPOOL: &str = "/spool";

/// The clocks of one machine.
#[derive(Debug, Default)]
struct Hands {
    /// The boot clock stood still for so long.
    frozen: Time,
    /// The wall clock is wrong by so many ms.
    wall_ms: i64,
}

/// A machine's clocks. They go with the world's time, but jump and stand still.
#[derive(Debug, Clone)]
pub(crate) struct NodeClock {
    scheduler: Scheduler,
    hands: Arc<Mutex<Hands>>,
}

impl NodeClock {
    /// The boot clock has stood still for `span`, as a paused virtual machine's does.
    pub(crate) fn freeze(&self, span: Time) {
        self.hands.lock().frozen += span;
    }

    /// Sets the wall clock.
    pub(crate) fn jump(&self, ms: i64) {
        self.hands.lock().wall_ms += ms;
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Moment {
        Moment(self.scheduler.now().saturating_sub(self.hands.lock().frozen) / MS)
    }

    fn wall(&self) -> WallTime {
        let now = 1_700_000_000_000 + self.scheduler.now() / MS;
        WallTime(now.saturating_add_signed(self.hands.lock().wall_ms))
    }
}

/// A node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) id: NodeId,
    /// Whose cache it has: its own, or the same as all.
    pub(crate) cache: usize,
    pub(crate) clock: NodeClock,
}

/// A switch that runs, or ran.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) process: ProcessId,
    pub(crate) node: usize,
    pub(crate) queue: QueueId,
    pub(crate) state: State,
    pub(crate) handle: Option<Queue>,
    /// It was asked to drain, and may take so long.
    pub(crate) drain: Option<Time>,
}

/// All of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) scheduler: Scheduler,
    pub(crate) disk: Disk,
    pub(crate) ledger: Ledger,
    pub(crate) weakness: Weakness,
    pub(crate) timers: Timers,
    pub(crate) nodes: Arc<Vec<Node>>,
    switches: Arc<Mutex<Vec<Running>>>,
    instances: Arc<AtomicU64>,
}

impl Site {
    /// `count` nodes, with one cache for all or one each.
    pub(crate) fn new(scheduler: &Scheduler, weakness: Weakness, count: usize, one_cache: bool) -> Self {
        let node = |index: usize| Node {
            index,
            id: NodeId::new(["a", "b", "c", "d"][index]).unwrap(),
            cache: if one_cache { 0 } else { index },
            clock: NodeClock { scheduler: scheduler.clone(), hands: Arc::default() },
        };
        Self {
            scheduler: scheduler.clone(),
            disk: Disk::new(scheduler, weakness),
            ledger: Ledger::default(),
            weakness,
            timers: Timers::default(),
            nodes: Arc::new((0..count).map(node).collect()),
            switches: Arc::default(),
            instances: Arc::new(AtomicU64::new(1)),
        }
    }

    pub(crate) fn instance(&self) -> InstanceId {
        InstanceId(u128::from(self.instances.fetch_add(1, Ordering::Relaxed)).wrapping_mul(0x9E37_79B9_7F4A))
    }

    pub(crate) fn dir(queue: &QueueId) -> PathBuf {
        PathBuf::from(SPOOL).join(queue.as_str())
    }

    pub(crate) fn queues(&self) -> Vec<QueueId> {
        self.nodes.iter().map(|node| QueueId::of(node.id.clone())).collect()
    }

    pub(crate) fn enter(&self, running: Running) {
        self.switches.lock().push(running);
    }

    /// Changes what is known of a switch.
    pub(crate) fn update(&self, process: ProcessId, change: impl FnOnce(&mut Running)) {
        if let Some(running) = self.switches.lock().iter_mut().find(|running| running.process == process) {
            change(running);
        }
    }

    /// The switches that live.
    pub(crate) fn living(&self) -> Vec<Running> {
        let mut switches = self.switches.lock();
        switches.retain(|running| !self.scheduler.is_dead(running.process));
        switches.clone()
    }

    /// The switch of `queue` on a node that lives.
    pub(crate) fn runs(&self, node: usize, queue: &QueueId) -> Option<Running> {
        self.living().into_iter().rfind(|running| running.node == node && running.queue == *queue)
    }
}
