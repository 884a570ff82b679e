//! What a takeover machine is told, and what it orders.

use std::time::Duration;

use mail_model::{Epoch, NodeId, QueueId, Reason};

use super::decision::Decision;
use crate::observe::LeaseView;
use crate::timers::Timers;

/// What one machine is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// This node.
    pub me: NodeId,
    /// The queue.
    pub queue: QueueId,
    /// The protocol's timers.
    pub timers: Timers,
    /// Who takes first.
    pub order: Vec<NodeId>,
    /// The storage is mounted by one node at a time: its lease is known from heartbeats, and the own copy must be current.
    pub promoted: bool,
}

impl Watch {
    /// D5: this node's place among those who may take the queue from `owner`.
    pub(super) fn rank(&self, owner: &NodeId) -> u32 {
        // Who had it, and its home, come first.
        if *owner == self.me || *self.queue.home() == self.me {
            return 0;
        }
        let takers = self.order.iter().filter(|node| *node != self.queue.home() && *node != owner);
        let place = takers.take_while(|node| **node != self.me).count();
        u32::try_from(place).unwrap_or(u32::MAX).min(64)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed, or the view changed.
    Tick,
    /// The lease was read; `None`: never claimed.
    Read(Option<LeaseView>),
    /// The read failed or hangs.
    Unreadable,
    /// Answer to [`Action::Probe`]: how long it took, `None` if it failed.
    Probed(Option<Duration>),
    /// The secondary that this node started has ended, or could not be started.
    SecondaryEnded,
}

/// What to do. Records come before what they explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Keep this.
    Record(Box<Decision>),
    /// Write and sync a small file below the queues. Answer: [`Event::Probed`].
    Probe,
    /// Read the lease now. Answer: [`Event::Read`].
    ReadNow,
    /// Start a secondary.
    Launch {
        /// The epoch it must find as the top.
        expected: Epoch,
        /// Why.
        reason: Reason,
    },
    /// Ask the secondary to drain and release.
    Drain {
        /// The longest to wait for running deliveries.
        grace: Duration,
    },
}

/// Why an operator's order is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing to take.
    #[error("this node owns the queue already")]
    OwnerAlready,
    /// The home node claims by itself.
    #[error("this is the queue's home node: ask the node that owns it to hand it back")]
    Home,
    /// Cannot be read, or was never claimed.
    #[error("the queue's lease cannot be read here, or was never claimed; look at queue.dir")]
    NoLease,
    /// One is under way.
    #[error("a takeover or a hand-back of this queue is under way; ask again later")]
    UnderWay,
    /// On promoted storage.
    #[error("this node's copy is not known to be current; look at: switchctl ha status")]
    CopyBehind,
    /// Nothing to give.
    #[error("no secondary of this node owns the queue")]
    NotHeld,
    /// Nobody would take it.
    #[error("the home node's switch does not wait for its queue; start it first")]
    HomeAbsent,
}
