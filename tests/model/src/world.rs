//! The world: disk, processes, the client, the next hop, and every single step that each can take.
//!
//! Each step names the production function it mirrors. A step is the smallest thing that others can see: one write, one
//! sync, one read, one reply.

use cluster::instance::{Event, State};

use crate::disk::{Disk, File, Lease, Replay};
use crate::frame::{EPOCHS, Frame, MESSAGES, UNSEALED};
use crate::process::{Draft, HOME, Process, Sending, Todo, fence_below};
use crate::weakness::Weakness;

/// One state of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) disk: Disk,
    /// At most one process on each node: two are kept apart by the local lock.
    pub(crate) nodes: Vec<Option<Process>>,
    /// Messages that the client sent so far. It sends none twice.
    pub(crate) sent: u8,
    /// Messages with a 250.
    pub(crate) acknowledged: [bool; MESSAGES],
    /// Final dots at the next hop.
    pub(crate) delivered: [u8; MESSAGES],
    /// Crashes so far.
    pub(crate) crashes: u8,
    /// What is wrong, see `check`. Follows from the rest.
    pub(crate) wrong: u8,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    /// A process is started, at any instant, and reads the top lease: the home node's primary, or a secondary that was
    /// told to take over. `stale`: for the whole window no renewal is seen.
    Start { node: u8, stale: bool },
    /// The next step of what the shell is at. `seen`: unsynced frames of others that this read happens to see.
    Go { node: u8, seen: u8 },
    /// The client's message arrives.
    Accept { node: u8 },
    /// A delivery begins.
    Attempt { node: u8, id: u8 },
    /// The final dot, and the next hop takes the message.
    Dot { node: u8, id: u8 },
    /// The reply is recorded.
    Outcome { node: u8, id: u8 },
    /// A live message moves to the own segment.
    Carry { node: u8, id: u8 },
    /// Older segments are declared gone.
    Retire { node: u8 },
    /// Hand-back: the owner is asked to drain.
    Drain { node: u8 },
    /// Nothing runs any more: CLEAN.
    Clean { node: u8 },
    /// The owner looks at its lease and remembers what it saw (variants only).
    Renew { node: u8 },
    /// The renewal thread sees the fence and stops the process (`renew.rs`).
    Watch { node: u8 },
    /// The machine loses power; `keep` unsynced frames happen to be on the disk.
    Crash { node: u8, keep: u8 },
}

impl World {
    /// Nothing has happened.
    pub(crate) fn new(nodes: u8) -> Self {
        Self {
            disk: Disk::default(),
            nodes: vec![None; usize::from(nodes)],
            sent: 0,
            acknowledged: [false; MESSAGES],
            delivered: [0; MESSAGES],
            crashes: 0,
            wrong: 0,
        }
    }

    pub(crate) fn process(&self, node: u8) -> Option<&Process> {
        self.nodes[usize::from(node)].as_ref()
    }

    fn at(&mut self, node: u8) -> &mut Process {
        self.nodes[usize::from(node)].as_mut().unwrap()
    }

    fn feed(&mut self, node: u8, event: &Event) {
        if !self.at(node).feed(event) {
            self.nodes[usize::from(node)] = None;
        }
    }

    /// Unsynced frames that a read at this point may or may not see.
    pub(crate) fn unsynced_before(&self, todo: Todo, own: u8) -> u8 {
        let unsynced = |epoch: u8| self.disk.segments[usize::from(epoch)].unsynced();
        if let Todo::Read { epoch } = todo {
            unsynced(epoch)
        } else {
            u8::from(todo == Todo::Survey && (1..own).any(|epoch| unsynced(epoch) > 0))
        }
    }

    /// Takes one step. `None` if nothing comes of it.
    pub(crate) fn take(&self, act: Act, weakness: Weakness, epochs: u8) -> Option<Self> {
        let mut next = self.clone();
        match act {
            Act::Start { node, stale } => {
                let mut process = Process::start(node, self.disk.top());
                if !process.look(&self.disk, stale) || process.machine.epoch() > epochs {
                    return None;
                }
                next.nodes[usize::from(node)] = Some(process);
            }
            Act::Go { node, seen } => next.go(node, seen, weakness),
            Act::Accept { node } => {
                let id = next.sent;
                next.sent += 1;
                next.begin(node, Frame::Message(id), weakness);
            }
            Act::Attempt { node, id } => next.begin(node, Frame::Attempt(id), weakness),
            Act::Dot { node, id } => {
                next.delivered[usize::from(id)] += 1;
                next.at(node).sending[usize::from(id)] = Sending::Accepted;
            }
            Act::Outcome { node, id } => {
                let by = next.at(node).machine.epoch();
                next.begin(node, Frame::Delivered { id, by }, weakness);
            }
            Act::Carry { node, id } => next.begin(node, Frame::Carry(id), weakness),
            Act::Retire { node } => {
                let first_live = next.at(node).machine.epoch();
                next.begin(node, Frame::Retire { first_live }, weakness);
            }
            Act::Drain { node } => next.feed(node, &Event::DrainRequested),
            Act::Clean { node } => next.begin(node, Frame::Clean, weakness),
            Act::Renew { node } => {
                let epoch = next.at(node).machine.epoch();
                next.at(node).trusts = !next.disk.lease(epoch).fenced;
            }
            Act::Watch { node } => next.feed(node, &Event::FenceSeen),
            Act::Crash { node, keep } => next.crash(node, keep),
        }
        if let Act::Go { node, .. }
        | Act::Accept { node }
        | Act::Attempt { node, .. }
        | Act::Outcome { node, .. }
        | Act::Carry { node, .. }
        | Act::Retire { node }
        | Act::Clean { node } = act
        {
            next.run_on(node, weakness);
        }
        Some(next)
    }

    /// Takes what nobody can see together with the step before it: a write that is not synced, which readers see or not as
    /// they please; and the sync of a single frame that nobody waits for outside, since to lose it or to be read before it
    /// is the same as a crash or a read one step earlier or later. The sync of a message stays a step of its own.
    fn run_on(&mut self, node: u8, weakness: Weakness) {
        let todo = |world: &Self| world.process(node).map(|process| process.todo);
        if let Some(Todo::Write(draft)) = todo(self) {
            self.write(node, draft, weakness);
        }
        if let Some(Todo::Sync(draft @ Draft::One(frame))) = todo(self)
            && !matches!(frame, Frame::Message(_))
        {
            self.sync(node, draft, weakness);
        }
    }

    fn begin(&mut self, node: u8, frame: Frame, weakness: Weakness) {
        self.at(node).todo = weakness.first(Draft::One(frame));
    }

    fn crash(&mut self, node: u8, keep: u8) {
        self.crashes += 1;
        if let Some(epoch) = self.at(node).epoch() {
            let segment = self.disk.segment(epoch);
            segment.settle(keep);
            segment.lose_unsynced();
        }
        self.nodes[usize::from(node)] = None;
    }

    fn go(&mut self, node: u8, seen: u8, weakness: Weakness) {
        match self.at(node).todo {
            Todo::Nothing => {}
            Todo::Link { epoch } => self.link(node, epoch, weakness),
            Todo::Fence { epoch } => self.fence(node, epoch, weakness),
            Todo::Worked { epoch } => {
                let worked = self.disk.lease(epoch).working || weakness == Weakness::FencePreviousOnly;
                let next = if worked { Todo::Survey } else { fence_below(epoch) };
                self.walk_on(node, next);
            }
            Todo::Survey => self.survey(node, seen, weakness),
            Todo::Read { epoch } => self.read(node, epoch, seen, weakness),
            Todo::Write(draft) => self.write(node, draft, weakness),
            Todo::Sync(draft) => self.sync(node, draft, weakness),
            Todo::Check(draft) => {
                if self.is_fenced(node, weakness) {
                    self.feed(node, &Event::FenceSeen);
                } else {
                    self.then(node, weakness.after_check(draft), weakness);
                }
            }
            Todo::Effect(draft) => self.effect(node, draft, weakness),
            Todo::Unlink => self.unlink(node),
            Todo::BecomeActive => {
                let epoch = self.at(node).machine.epoch();
                self.disk.lease(epoch).working = true;
                self.at(node).todo = Todo::Nothing;
            }
            Todo::Release => {
                let epoch = self.at(node).machine.epoch();
                self.disk.lease(epoch).released = true;
                self.feed(node, &Event::Released);
            }
        }
    }

    /// `files.rs::claim`: `link` makes a name or finds it taken.
    fn link(&mut self, node: u8, epoch: u8, weakness: Weakness) {
        let working = weakness == Weakness::WorksTooEarly;
        let lease = Lease { owner: node, working, released: false, fenced: false };
        let won = self.disk.top() < epoch;
        if won {
            self.disk.leases.push(lease);
        } else if weakness == Weakness::BlindClaim {
            *self.disk.lease(epoch) = lease;
        }
        let won = won || weakness == Weakness::BlindClaim;
        self.feed(node, &Event::Claimed { won });
        if won && weakness == Weakness::ScanBeforeFence {
            self.at(node).todo = Todo::Survey;
        } else if won {
            self.walk_on(node, fence_below(epoch));
        }
    }

    /// `files.rs::fence`: written and synced.
    fn fence(&mut self, node: u8, epoch: u8, weakness: Weakness) {
        if weakness == Weakness::SharedFence {
            self.disk.register = self.at(node).machine.epoch();
            self.walk_on(node, Todo::Survey);
        } else {
            self.disk.lease(epoch).fenced = true;
            // Below the first epoch there is nothing to ask for.
            if epoch == 1 {
                self.walk_on(node, Todo::Survey);
            } else {
                self.at(node).todo = Todo::Worked { epoch };
            }
        }
    }

    /// The walk of `owner.rs::fence_older` goes on, or is done when it would come to the scan.
    fn walk_on(&mut self, node: u8, next: Todo) {
        if next != Todo::Survey {
            self.at(node).todo = next;
            return;
        }
        self.feed(node, &Event::FencedOlder);
        if self.at(node).replay.is_some() {
            // The weakness that scanned first.
            self.feed(node, &Event::Scanned);
        }
    }

    fn survey(&mut self, node: u8, seen: u8, weakness: Weakness) {
        let own = self.at(node).machine.epoch();
        if seen > 0 {
            for epoch in 1..own {
                self.disk.segment(epoch).settle(u8::MAX);
            }
        }
        self.at(node).replay = Some(Replay::survey(&self.disk, own, weakness == Weakness::TornBeginCounts));
        self.at(node).todo = Todo::Read { epoch: 1 };
        if own == 1 {
            self.scanned(node, weakness);
        }
    }

    fn read(&mut self, node: u8, epoch: u8, seen: u8, weakness: Weakness) {
        self.disk.segment(epoch).settle(seen);
        let process = self.nodes[usize::from(node)].as_mut().unwrap();
        if let Some(replay) = &mut process.replay {
            replay.read(&self.disk, epoch);
        }
        process.todo = Todo::Read { epoch: epoch + 1 };
        if epoch + 1 == process.machine.epoch() {
            self.scanned(node, weakness);
        }
    }

    fn scanned(&mut self, node: u8, weakness: Weakness) {
        let process = self.at(node);
        process.books = process.replay.as_mut().map(Replay::take_books).unwrap_or_default();
        if weakness == Weakness::ScanBeforeFence && process.machine.state() == State::Fencing {
            let first = fence_below(process.machine.epoch());
            self.walk_on(node, first);
        } else {
            self.feed(node, &Event::Scanned);
        }
    }

    /// `Appender::write`; for the first frames of an epoch `Appender::begin`.
    fn write(&mut self, node: u8, draft: Draft, weakness: Weakness) {
        let process = self.nodes[usize::from(node)].as_ref().unwrap();
        let epoch = process.machine.epoch();
        let segment = &mut self.disk.segments[usize::from(epoch)];
        for frame in frames(process, draft, weakness) {
            segment.append(frame);
        }
        self.then(node, weakness.after_write(draft), weakness);
    }

    fn sync(&mut self, node: u8, draft: Draft, weakness: Weakness) {
        let epoch = self.at(node).machine.epoch();
        self.disk.segment(epoch).settle(u8::MAX);
        self.then(node, weakness.after_sync(draft), weakness);
    }

    /// Goes on; what nobody outside sees is done at once.
    fn then(&mut self, node: u8, todo: Todo, weakness: Weakness) {
        // The 250 is a step of its own: the process may be paused right before it.
        if let Todo::Effect(draft) = todo
            && !matches!(draft, Draft::One(Frame::Message(_)))
        {
            self.effect(node, draft, weakness);
        } else {
            self.at(node).todo = todo;
        }
    }

    /// `appender.rs::read_fence`.
    fn is_fenced(&mut self, node: u8, weakness: Weakness) -> bool {
        let epoch = self.at(node).machine.epoch();
        if weakness == Weakness::SharedFence {
            self.disk.register > epoch
        } else if weakness == Weakness::ClockLease {
            !self.at(node).trusts
        } else {
            self.disk.lease(epoch).fenced
        }
    }

    /// The books take the frames, and the outside may see what follows.
    fn effect(&mut self, node: u8, draft: Draft, weakness: Weakness) {
        let process = self.nodes[usize::from(node)].as_mut().unwrap();
        let epoch = process.machine.epoch();
        for frame in frames(process, draft, weakness) {
            process.books.apply(epoch, frame);
        }
        process.todo = Todo::Nothing;
        match draft {
            Draft::Begin if !process.books.open_attempts().is_empty() => {
                process.todo = weakness.first(Draft::Doubts);
            }
            Draft::Begin | Draft::Doubts => self.unlink(node),
            Draft::One(Frame::Message(id)) => self.acknowledged[usize::from(id)] = true,
            Draft::One(Frame::Attempt(id)) => process.sending[usize::from(id)] = Sending::Begun,
            Draft::One(Frame::Delivered { id, .. }) => process.sending[usize::from(id)] = Sending::Idle,
            Draft::One(Frame::Retire { .. }) => process.todo = Todo::Unlink,
            Draft::One(Frame::Clean) => self.feed(node, &Event::Drained),
            Draft::One(Frame::Head { .. } | Frame::Seal(_) | Frame::Carry(_) | Frame::InDoubt { .. }) => {}
        }
    }

    /// Removes the next segment that is retired; when there is none, goes on.
    fn unlink(&mut self, node: u8) {
        let first_live = self.at(node).books.first_live;
        let there = |epoch: &u8| self.disk.segments[usize::from(*epoch)].file == File::There;
        if let Some(epoch) = (1..first_live).find(there) {
            if self.at(node).todo == Todo::Unlink {
                self.disk.segment(epoch).remove();
            }
            self.at(node).todo = Todo::Unlink;
        } else if self.at(node).machine.state() == State::Sealing {
            self.feed(node, &Event::Sealed);
        } else {
            self.at(node).todo = Todo::Nothing;
        }
    }

    /// True if this process may begin to serve the client.
    pub(crate) fn may_accept(&self, node: u8, messages: u8) -> bool {
        node == HOME
            && self.sent < messages
            && self.process(node).is_some_and(|process| process.is_free(State::Active))
    }
}

/// What a draft writes.
fn frames(process: &Process, draft: Draft, weakness: Weakness) -> Vec<Frame> {
    let books = &process.books;
    match draft {
        Draft::Begin => {
            let first_live = books.first_live.max(process.replay.map_or(1, |replay| replay.first_live));
            let head = Frame::Head { first_live, doubts: books.doubts };
            let ends = process.replay.map_or([UNSEALED; EPOCHS], |replay| replay.ends);
            let seal = if weakness == Weakness::NoSeal { [UNSEALED; EPOCHS] } else { ends };
            vec![head, Frame::Seal(seal)]
        }
        Draft::Doubts => {
            books.open_attempts().into_iter().map(|(id, by)| Frame::InDoubt { id, by }).collect()
        }
        Draft::One(frame) => vec![frame],
    }
}
