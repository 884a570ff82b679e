//! The world: the register, two copies, the link between them, and every single step.
//!
//! What nobody can see in between is one step. The machine gets what it read together with what the device says, since it decides only
//! then. A grant reads and swaps at once: a swap that succeeds found what was read. A write begins when it can end.

use cluster::device::{Action, Around, CopyState, Device, DeviceRole, DeviceState, Event, PeerLink};
use cluster::register::{Entry, Version};
use mail_model::NodeId;

use super::weakness::Weakness;

/// Where a switch's turn of the rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Turn {
    Idle,
    /// `fdatasync` returned.
    Synced(u8),
    /// The register was read after that, and the term stands.
    Proved(u8),
}

/// A switch that runs: it has claimed, fenced, scanned and sealed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Switch {
    pub(super) term: u64,
    /// What it found, and what it wrote.
    knows: u8,
    turn: Turn,
}

#[expect(clippy::struct_excessive_bools, reason = "a state of the model: each is a fact of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Node {
    device: Device,
    /// A round is under way: the register was read.
    read: Option<Entry>,
    /// What the heartbeatd is at.
    todo: Option<Action>,
    primary: bool,
    /// Writes may go to this copy only.
    pub(super) alone: bool,
    /// It is being filled.
    broken: bool,
    copy: u8,
    pub(super) switch: Option<Switch>,
    /// A secondary is to be started.
    launch: bool,
    /// The switch released its queue: it goes home.
    leaves: bool,
}

/// One state of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    register: Entry,
    /// What the witness has on its disk, where that is not the same.
    synced: Option<Entry>,
    pub(super) link: bool,
    /// The node whose copy is being filled.
    pub(super) syncing: Option<usize>,
    pub(super) nodes: [Node; 2],
    sent: u8,
    /// Records that had an effect.
    pub(super) acked: u8,
    pub(super) cuts: u8,
    pub(super) crashes: u8,
    takes: u8,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// A round of the device's machine begins: the register is read.
    Round { node: usize },
    /// The device is asked, or what the machine orders is carried out and answered.
    Go { node: usize },
    /// A takeover is wanted, at any instant.
    Take,
    /// The switch is started on the held device, and recovers.
    Start { node: usize },
    /// It takes a message, writes and syncs it.
    Accept { node: usize },
    /// Its next step.
    Step { node: usize },
    /// It ends, told or by itself.
    End { node: usize },
    /// The secondary drains and releases, and ends.
    Leave,
    /// The device asks whether it may go on alone, and gets its answer by a compare-and-swap.
    Grant { node: usize },
    /// The copies are cut from each other.
    Cut,
    /// They meet again.
    Heal,
    /// The filling is done.
    Synced,
    /// The node loses power, and is back.
    Crash { node: usize },
    /// Its heartbeatd is started anew.
    Restart { node: usize },
    /// The witness loses power, and is back with what it had synced.
    Forget,
}

fn name(node: usize) -> NodeId {
    NodeId::new(["a", "b"][node]).unwrap()
}

fn machine(node: usize) -> Device {
    Device::new(name(node), name(1 - node), &"a".parse().unwrap(), false)
}

impl Node {
    fn new(node: usize) -> Self {
        Self {
            device: machine(node),
            read: None,
            todo: None,
            primary: false,
            alone: false,
            broken: false,
            copy: 0,
            switch: None,
            launch: false,
            leaves: false,
        }
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            register: Entry::default(),
            synced: None,
            link: true,
            syncing: None,
            nodes: [Node::new(0), Node::new(1)],
            sent: 0,
            acked: 0,
            cuts: 0,
            crashes: 0,
            takes: 0,
        }
    }

    pub(super) fn stands(&self, node: usize, switch: &Switch) -> bool {
        self.register.register.as_ref().is_some_and(|r| r.stands(&name(node), switch.term))
    }

    pub(super) fn copies(&self) -> usize {
        self.register.register.as_ref().map_or(0, |r| r.copies.len())
    }

    pub(super) fn copies_are_whole(&self) -> bool {
        let Some(register) = &self.register.register else { return true };
        (0..2).all(|n| !register.is_current(&name(n)) || self.acked & !self.nodes[n].copy == 0)
    }

    pub(super) fn owner_knows_all(&self) -> bool {
        (0..2).all(|n| {
            let owner = self.nodes[n].switch.as_ref().filter(|switch| self.stands(n, switch));
            owner.is_none_or(|switch| self.acked & !switch.knows == 0)
        })
    }

    pub(super) fn one_writes(&self) -> bool {
        let writes = |node: &Node| node.primary && node.alone;
        self.link || !self.nodes.iter().all(writes)
    }

    /// What a node can do now.
    pub(super) fn offer(&self, index: usize, messages: u8, takes: u8, acts: &mut Vec<Act>) {
        let node = &self.nodes[index];
        acts.push(if node.todo.is_some() || node.read.is_some() {
            Act::Go { node: index }
        } else {
            Act::Round { node: index }
        });
        if index == 1 && self.takes < takes {
            acts.push(Act::Take);
        }
        let wanted = index == 0 || node.launch;
        if node.device.held().is_some() && wanted && node.switch.is_none() && self.writable(index) {
            acts.push(Act::Start { node: index });
        }
        if let Some(switch) = &node.switch {
            match switch.turn {
                Turn::Idle => {
                    if self.sent < messages && self.writable(index) {
                        acts.push(Act::Accept { node: index });
                    }
                    if index == 1 && self.stands(1, switch) {
                        acts.push(Act::Leave);
                    }
                }
                Turn::Synced(_) | Turn::Proved(_) => acts.push(Act::Step { node: index }),
            }
            acts.push(Act::End { node: index });
        }
        if node.primary && !self.link && !node.alone {
            acts.push(Act::Grant { node: index });
        }
    }

    /// A write on this node's device would return.
    fn writable(&self, node: usize) -> bool {
        self.nodes[node].primary && (self.link || self.nodes[node].alone)
    }

    /// Takes one step. `None` if nothing comes of it.
    pub(super) fn take(&self, act: Act, weakness: Weakness) -> Option<Self> {
        let mut next = self.clone();
        match act {
            Act::Round { node } => next.nodes[node].read = Some(next.register.clone()),
            Act::Go { node } => next.go(node, weakness),
            Act::Take => {
                next.takes += 1;
                next.nodes[1].device.take();
            }
            Act::Start { node } => {
                let node = &mut next.nodes[node];
                let term = node.device.held()?;
                node.launch = false;
                node.switch = Some(Switch { term, knows: node.copy, turn: Turn::Idle });
            }
            Act::Accept { node } => {
                let message = 1 << next.sent;
                next.sent += 1;
                let switch = next.nodes[node].switch.as_mut()?;
                switch.knows |= message;
                switch.turn = Turn::Synced(message);
                next.nodes[node].copy |= message;
                if next.link {
                    next.nodes[1 - node].copy |= message;
                }
            }
            Act::Step { node } => next.turn(node, weakness)?,
            Act::End { node } => next.nodes[node].switch = None,
            Act::Leave => {
                next.nodes[1].switch = None;
                next.nodes[1].leaves = true;
            }
            Act::Grant { node } if weakness == Weakness::GoesOnUngranted => next.nodes[node].alone = true,
            Act::Grant { node } => {
                let Entry { version, register } = next.register.clone();
                let register = register?;
                let alone = register.alone(&name(node)).ok()?;
                if register != alone || weakness != Weakness::GrantsInPassing {
                    next.swap(&Entry { version, register: Some(alone) }, weakness)?;
                }
                next.nodes[node].alone = true;
            }
            Act::Cut => {
                next.cuts += 1;
                next.cut();
            }
            Act::Heal => next.heal()?,
            Act::Synced => {
                let filled = next.syncing.take()?;
                next.nodes[filled].copy = next.nodes[1 - filled].copy;
                next.nodes[filled].broken = false;
            }
            Act::Crash { node } => {
                next.crashes += 1;
                next.cut();
                let Node { broken, copy, .. } = next.nodes[node];
                next.nodes[node] = Node { broken, copy, ..Node::new(node) };
            }
            Act::Restart { node } => {
                next.crashes += 1;
                next.nodes[node].device = machine(node);
                next.nodes[node].todo = None;
                next.nodes[node].read = None;
                next.nodes[node].leaves = false;
            }
            Act::Forget => {
                next.crashes += 1;
                next.register = next.synced.take()?;
            }
        }
        next.fold(weakness);
        Some(next)
    }

    /// States that differ in nothing that matters become one. A swap asks only whether its version is still the register's.
    fn fold(&mut self, weakness: Weakness) {
        for node in &mut self.nodes {
            node.device.forget();
        }
        if weakness == Weakness::WitnessForgets {
            return;
        }
        let now = self.register.version;
        let fold =
            |version: &mut Version| *version = Version(u64::from(*version == now && now != Version(0)));
        for node in &mut self.nodes {
            if let Some(read) = &mut node.read {
                fold(&mut read.version);
            }
            if let Some(Action::Swap { expected, .. }) = &mut node.todo {
                fold(expected);
            }
        }
        fold(&mut self.register.version);
    }

    fn cut(&mut self) {
        self.link = false;
        self.syncing = None;
        for node in &mut self.nodes {
            node.alone = false;
        }
    }

    /// DRBD connects unless both sides are primary or the copies have parted; then one fills the other.
    fn heal(&mut self) -> Option<()> {
        let [a, b] = &self.nodes;
        if a.primary && b.primary {
            return None;
        }
        let behind = |one: &Node, other: &Node| one.copy & !other.copy == 0;
        let filled = if b.broken || (!a.broken && !b.primary && behind(b, a)) {
            1
        } else if a.broken || (!a.primary && behind(a, b)) {
            0
        } else {
            return None;
        };
        if self.nodes[filled].primary {
            return None;
        }
        self.link = true;
        self.syncing = Some(filled);
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.alone = false;
            node.broken = index == filled;
        }
        Some(())
    }

    fn swap(&mut self, wanted: &Entry, weakness: Weakness) -> Option<()> {
        let next = self.register.swapped(wanted.version, wanted.register.clone()?)?;
        if weakness == Weakness::WitnessForgets {
            self.synced = Some(self.register.clone());
        }
        self.register = next;
        Some(())
    }

    /// `Appender::finish`, and the effect.
    fn turn(&mut self, index: usize, weakness: Weakness) -> Option<()> {
        let mut switch = self.nodes[index].switch.take()?;
        match switch.turn {
            Turn::Idle => return None,
            // Fenced: it ends.
            Turn::Synced(_) if weakness != Weakness::AsksNobody && !self.stands(index, &switch) => {
                return Some(());
            }
            Turn::Synced(message) => switch.turn = Turn::Proved(message),
            Turn::Proved(message) => {
                self.acked |= message;
                switch.turn = Turn::Idle;
            }
        }
        self.nodes[index].switch = Some(switch);
        Some(())
    }

    fn said(&self, index: usize) -> DeviceState {
        let node = &self.nodes[index];
        let whole = self.link && self.syncing.is_none();
        DeviceState {
            role: if node.primary { DeviceRole::Primary } else { DeviceRole::Secondary },
            mounted: node.primary,
            data: if node.broken { CopyState::Inconsistent } else { CopyState::Current },
            peer: if whole { PeerLink::Connected } else { PeerLink::Alone },
        }
    }

    fn promote(&mut self, index: usize) -> bool {
        let refused = self.nodes[index].broken || (self.link && self.nodes[1 - index].primary);
        self.nodes[index].primary |= !refused;
        !refused
    }

    /// What the machine ordered is carried out, and its answer fed back.
    fn go(&mut self, index: usize, weakness: Weakness) {
        let todo = match (self.nodes[index].read.take(), self.nodes[index].todo.take()) {
            (Some(read), _) => {
                self.feed(index, &Event::Round, weakness);
                self.feed(index, &Event::Read(Some(read)), weakness);
                Action::Ask
            }
            (None, Some(todo)) => todo,
            (None, None) => return,
        };
        let answer = match todo {
            Action::Ask => Event::Said(Some(self.said(index))),
            Action::Swap { mut expected, mut register } => {
                let now = self.register.register.clone();
                if let (Weakness::JoinsByOldLook, Some(now), 2) = (weakness, now, register.copies.len())
                    && now.owner == register.owner
                {
                    expected = self.register.version;
                    register = now.joined(&name(index), &name(1 - index)).unwrap();
                }
                self.swap(&Entry { version: expected, register: Some(register) }, weakness);
                Event::Swapped
            }
            Action::Promote => Event::Promoted(self.promote(index)),
            Action::Release => {
                // A mounted device that is used cannot be let go.
                let done = self.nodes[index].switch.is_none();
                if done {
                    self.nodes[index].primary = false;
                    self.nodes[index].alone = false;
                }
                Event::Released(done)
            }
            Action::Read
            | Action::Fence(_)
            | Action::Stop
            | Action::Launch
            | Action::GiveUp
            | Action::Tell(_) => return,
        };
        self.feed(index, &answer, weakness);
        let node = &mut self.nodes[index];
        let given = self.register.register.as_ref().is_some_and(|r| r.owner != name(index));
        node.leaves &= !given;
        if weakness == Weakness::AloneIgnored
            && index == 1
            && node.device.copy() == cluster::device::OwnCopy::Behind
        {
            let now = self.register.register.clone().filter(|r| r.owner != name(1));
            if let Some(mut register) = now.filter(|_| self.takes > 0) {
                register.copies.insert(name(1));
                let register = register.taken(&name(1)).unwrap();
                self.swap(&Entry { version: self.register.version, register: Some(register) }, weakness);
                self.nodes[1].device.take();
            }
        }
    }

    fn feed(&mut self, index: usize, event: &Event, weakness: Weakness) {
        let around = Around {
            wanted: index == 0,
            give_to: self.nodes[index].leaves.then(|| name(1 - index)),
            late: false,
        };
        let node = &mut self.nodes[index];
        let mut out = Vec::new();
        node.device.step(event, &around, &mut out);
        for action in out {
            if let (Action::Swap { register, .. }, Weakness::PromotesFirst) = (&action, weakness)
                && register.owner == name(1)
                && index == 1
            {
                self.promote(1);
            }
            let node = &mut self.nodes[index];
            match action {
                Action::Launch => node.launch = true,
                // The switch ends when it likes.
                Action::Stop | Action::GiveUp | Action::Tell(_) | Action::Read | Action::Ask => {}
                Action::Swap { .. } | Action::Promote | Action::Release | Action::Fence(_) => {
                    node.todo = Some(action);
                }
            }
        }
    }
}
