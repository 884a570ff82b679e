//! One `switch` process: the production machine `cluster::instance::Instance`, and how far its shell has come.
//!
//! The machine decides; [`Todo`] is the place in the shell's code where the process stands between two steps. Between any
//! two the process may be paused for as long as it takes, or crash.

use std::hash::{Hash, Hasher};

use cluster::instance::{Action, Event, Instance, Order, State};
use cluster::observe::LeaseView;
use mail_model::{Epoch, LeaseState, Moment, NodeId, Reason, Role};

use crate::disk::{Disk, Lease, Replay};
use crate::frame::{Books, Frame, MESSAGES};

/// The owner's window in the leases of this model.
const WINDOW_MS: u32 = 2_000;

/// The node where the queue is at home.
pub(crate) const HOME: u8 = 0;

/// What is written and synced by one turn of the appender's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Draft {
    /// The first frames of an epoch: SEGMENT, SEAL (`Appender::begin`).
    Begin,
    /// The attempts that nobody knows the end of (`owner.rs::open_for_work`).
    Doubts,
    /// One frame of an owner at work.
    One(Frame),
}

/// Where the shell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Todo {
    /// At work, and the journal is idle.
    Nothing,
    /// `files.rs::claim`: the `link`.
    Link { epoch: u8 },
    /// `owner.rs::fence_older`: write and sync this fence.
    Fence { epoch: u8 },
    /// `owner.rs::fence_older`: did this epoch ever work? Then the walk ends.
    Worked { epoch: u8 },
    /// `replay`: find seals and the oldest segment that matters.
    Survey,
    /// `replay`: read this epoch.
    Read { epoch: u8 },
    /// `Appender::write`.
    Write(Draft),
    /// `Appender::finish`: `fdatasync`.
    Sync(Draft),
    /// `Appender::finish`: read the own fence.
    Check(Draft),
    /// What the outside may see now.
    Effect(Draft),
    /// `clean.rs::remove_files`: segments before the oldest that matters, one after the other.
    Unlink,
    /// `owner.rs::become_active`: the renewal says *working*.
    BecomeActive,
    /// The last renewal says RELEASED.
    Release,
}

/// A delivery, as its process knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Sending {
    /// None runs.
    #[default]
    Idle,
    /// ATTEMPT is committed; the transaction runs.
    Begun,
    /// The next hop has the message.
    Accepted,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) machine: Machine,
    pub(crate) todo: Todo,
    /// Recovery under way, then what was read and sealed.
    pub(crate) replay: Option<Replay>,
    pub(crate) books: Books,
    pub(crate) sending: [Sending; MESSAGES],
    /// What it last learned of its own lease, for variants that act on a memory.
    pub(crate) trusts: bool,
}

impl Process {
    /// A process of `node` that was just started. A secondary is told the epoch that whoever started it saw.
    pub(crate) fn start(node: u8, seen: u8) -> Self {
        let order = (node != HOME).then_some(seen);
        Self {
            machine: Machine::start(node, order),
            todo: Todo::Nothing,
            replay: None,
            books: Books::default(),
            sending: [Sending::Idle; MESSAGES],
            trusts: true,
        }
    }

    /// The claimed epoch; `None` before.
    pub(crate) fn epoch(&self) -> Option<u8> {
        let before = matches!(self.machine.state(), State::Init | State::Claiming);
        (!before).then(|| self.machine.epoch())
    }

    /// At work, and free to write.
    pub(crate) fn is_free(&self, state: State) -> bool {
        self.machine.state() == state && self.todo == Todo::Nothing
    }

    /// `owner.rs::read_top_lease`: one read, or, if `stale`, as many without a renewal as the machine wants to see. False
    /// if it does not claim now. One that waits has no effect, so it need not be remembered.
    pub(crate) fn look(&mut self, disk: &Disk, stale: bool) -> bool {
        let lease = disk.leases.last().map(|lease| view(disk.top(), *lease));
        let event = Event::TopLease { lease, lock_is_mine: true };
        for read in 0..if stale { 5 } else { 1 } {
            let action = self.machine.step_at(read * u64::from(WINDOW_MS) / 4, &event);
            if let Some(Action::Claim { epoch, .. }) = action {
                self.todo = Todo::Link { epoch: small(epoch) };
                return true;
            }
        }
        false
    }

    /// Gives the machine an event and takes its action as the next thing to do. False if it told the process to stop.
    pub(crate) fn feed(&mut self, event: &Event) -> bool {
        match self.machine.step(event) {
            None | Some(Action::Drain) => self.todo = Todo::Nothing,
            Some(Action::Claim { epoch, .. }) => self.todo = Todo::Link { epoch: small(epoch) },
            Some(Action::FenceOlder { below }) => self.todo = fence_below(small(below)),
            Some(Action::Scan) => self.todo = Todo::Survey,
            Some(Action::Seal) => self.todo = Todo::Write(Draft::Begin),
            Some(Action::BecomeActive) => self.todo = Todo::BecomeActive,
            Some(Action::Release) => self.todo = Todo::Release,
            // A primary that lost the race waits for the lease to be free, and then is as good as started anew.
            Some(Action::Stop | Action::ReadTopLease { .. }) => return false,
        }
        true
    }
}

/// The next step of the walk down from the epoch before `epoch`.
pub(crate) fn fence_below(epoch: u8) -> Todo {
    if epoch > 1 { Todo::Fence { epoch: epoch - 1 } } else { Todo::Survey }
}

fn small(epoch: Epoch) -> u8 {
    u8::try_from(epoch.0).unwrap()
}

/// The production machine, and what it was made from.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    node: u8,
    order: Option<u8>,
    inner: Instance,
}

impl Machine {
    fn start(node: u8, order: Option<u8>) -> Self {
        let role = if node == HOME { Role::Primary } else { Role::Secondary };
        let told = order.map(|seen| Order { expected: Epoch(u64::from(seen)), reason: Reason::Forced });
        let mut machine = Self { node, order, inner: Instance::new(name(node), role, told) };
        machine.step(&Event::Started);
        machine
    }

    /// See [`Instance::state`].
    pub(crate) fn state(&self) -> State {
        self.inner.state()
    }

    /// See [`Instance::epoch`].
    pub(crate) fn epoch(&self) -> u8 {
        small(self.inner.epoch())
    }

    /// One step without time: an event has at most one action.
    fn step(&mut self, event: &Event) -> Option<Action> {
        self.step_at(0, event)
    }

    fn step_at(&mut self, now: u64, event: &Event) -> Option<Action> {
        let mut out = Vec::new();
        self.inner.step(Moment(now), event, &mut out);
        assert!(out.len() <= 1, "{event:?} led to {out:?}");
        out.pop()
    }
}

fn name(node: u8) -> NodeId {
    NodeId::new(["a", "b", "c"][usize::from(node)]).unwrap()
}

/// Mirrors `owner.rs::read_top`.
fn view(epoch: u8, lease: Lease) -> LeaseView {
    LeaseView {
        epoch: Epoch(u64::from(epoch)),
        owner: name(lease.owner),
        role: if lease.owner == HOME { Role::Primary } else { Role::Secondary },
        seq: 1,
        state: Some(if lease.released { LeaseState::Released } else { LeaseState::Active }),
        working: lease.working,
        window_ms: WINDOW_MS,
        renew_ms: WINDOW_MS / 5,
        queued: 0,
    }
}

impl Machine {
    /// Everything a machine still acts on. What it observed ends with its claim, and one that waits is not kept.
    fn key(&self) -> (u8, Option<u8>, State, Epoch) {
        (self.node, self.order, self.inner.state(), self.inner.epoch())
    }
}

impl PartialEq for Machine {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Machine {}

impl Hash for Machine {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key().hash(hasher);
    }
}
