//! What must hold in every state, and what must be possible.

use cluster::instance::State;
use stateright::{Model, Property};

use crate::disk::{File, Replay};
use crate::frame::UNSEALED;
use crate::process::{HOME, Process, Sending, Todo};
use crate::weakness::Weakness;
use crate::world::{Act, World};

/// Every message with a 250 was delivered, or a recovery finds it.
pub(crate) const NOTHING_LOST: &str = "no acknowledged message is lost";
/// Each delivery is an outcome, an open attempt, or counted as in doubt.
pub(crate) const NOTHING_UNCOUNTED: &str = "deliveries are at most one and the counted doubts";
/// No two processes have the same epoch, so none write the same segment.
pub(crate) const ONE_WRITER: &str = "a segment has one writer";
/// What a taker sealed is what any later recovery reads.
pub(crate) const HISTORY_STANDS: &str = "nothing behind a seal is read";
/// A segment that matters is there, as long as its seal says. So a message in a removed segment is done, or was carried.
pub(crate) const NOTHING_MISSING: &str = "a removed segment is retired";
/// An owner that is not fenced knows exactly what a recovery would find.
pub(crate) const BOOKS_AGREE: &str = "the owner's books are those of a recovery";

/// All of them; each has a bit in `World::wrong`.
pub(crate) const RULES: [&str; 6] =
    [NOTHING_LOST, NOTHING_UNCOUNTED, ONE_WRITER, HISTORY_STANDS, NOTHING_MISSING, BOOKS_AGREE];

/// The protocol, or a weakened variant, within bounds.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    pub(crate) weakness: Weakness,
    pub(crate) nodes: u8,
    pub(crate) epochs: u8,
    pub(crate) messages: u8,
    pub(crate) crashes: u8,
}

impl Protocol {
    fn offer(&self, world: &World, node: u8, process: &Process, acts: &mut Vec<Act>) {
        if process.todo == Todo::Nothing {
            self.offer_work(world, node, process, acts);
        } else {
            let most = world.unsynced_before(process.todo, process.machine.epoch());
            acts.extend((0..=most).map(|seen| Act::Go { node, seen }));
        }
        for id in 0..self.messages {
            if process.sending[usize::from(id)] == Sending::Begun {
                acts.push(Act::Dot { node, id });
            }
        }
        if let Some(epoch) = process.epoch() {
            let fenced = world.disk.leases[usize::from(epoch) - 1].fenced;
            if self.weakness == Weakness::ClockLease && process.trusts == fenced {
                acts.push(Act::Renew { node });
            }
            // Beside the owner's own reads there is its renewal thread, which reads the fence when it likes.
            if fenced {
                acts.push(Act::Watch { node });
            }
        }
        if let Some(epoch) = process.epoch().filter(|_| world.crashes < self.crashes) {
            let own = world.disk.segments[usize::from(epoch)].unsynced();
            acts.extend((0..=own).map(|keep| Act::Crash { node, keep }));
        }
    }

    fn offer_work(&self, world: &World, node: u8, process: &Process, acts: &mut Vec<Act>) {
        let active = process.is_free(State::Active);
        let epoch = process.machine.epoch();
        if world.may_accept(node, self.messages) {
            acts.push(Act::Accept { node });
        }
        for id in 0..self.messages {
            let sending = process.sending[usize::from(id)];
            if sending == Sending::Accepted {
                acts.push(Act::Outcome { node, id });
            }
            if active && process.books.is_live(id) && sending == Sending::Idle {
                acts.push(Act::Attempt { node, id });
            }
            if active && (1..epoch).contains(&process.books.place[usize::from(id)]) {
                acts.push(Act::Carry { node, id });
            }
        }
        if active {
            let older = &world.disk.segments[1..usize::from(epoch)];
            let worth = older.iter().any(|segment| segment.file == File::There);
            if worth && process.books.first_live < epoch && !process.books.needs_older_than(epoch) {
                acts.push(Act::Retire { node });
            }
            acts.push(Act::Drain { node });
        }
        let quiet = process.sending.iter().all(|sending| *sending == Sending::Idle);
        if process.is_free(State::Draining) && quiet {
            acts.push(Act::Clean { node });
        }
    }

    fn is_wrong(&self, world: &World, found: &Replay, rule: &str) -> bool {
        let running = || world.nodes.iter().flatten();
        let working = || running().filter(|p| matches!(p.machine.state(), State::Active | State::Draining));
        match rule {
            NOTHING_LOST => (0..self.messages).any(|id| {
                let index = usize::from(id);
                world.acknowledged[index] && world.delivered[index] == 0 && !found.books.is_live(id)
            }),
            NOTHING_UNCOUNTED => {
                (0..self.messages).any(|id| world.delivered[usize::from(id)] > found.books.explained(id))
            }
            ONE_WRITER => {
                let mut epochs: Vec<u8> = running().filter_map(Process::epoch).collect();
                let all = epochs.len();
                epochs.sort_unstable();
                epochs.dedup();
                epochs.len() < all
            }
            HISTORY_STANDS => working().filter_map(|process| process.replay).any(|sealed| {
                let matters = found.first_live.max(sealed.first_live);
                let both = sealed.ends.iter().zip(found.ends).skip(usize::from(matters));
                both.into_iter().any(|(sealed, found)| *sealed != UNSEALED && *sealed != found)
            }),
            NOTHING_MISSING => found.fault,
            BOOKS_AGREE => working().any(|process| {
                let lease = world.disk.leases[usize::from(process.machine.epoch()) - 1];
                process.todo == Todo::Nothing && !lease.fenced && process.books != found.books
            }),
            _ => unreachable!("{rule}"),
        }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.nodes)]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        for node in 0..self.nodes {
            match world.process(node) {
                Some(process) => self.offer(world, node, process, acts),
                // A secondary takes a queue over; it makes none.
                None if world.disk.top() < self.epochs && (node == HOME || world.disk.top() > 0) => {
                    // To a secondary, and to a home node that finds its own lease, the window does not matter.
                    let asks = world.disk.leases.last().is_some_and(|lease| lease.owner != HOME);
                    acts.push(Act::Start { node, stale: node == HOME && asks });
                }
                None => {}
            }
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        let mut next = world.take(act, self.weakness, self.epochs)?;
        next.wrong = 0;
        let found = Replay::whole(&next.disk, self.weakness == Weakness::TornBeginCounts);
        for (bit, rule) in RULES.iter().enumerate() {
            next.wrong |= u8::from(self.is_wrong(&next, &found, rule)) << bit;
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(RULES[0], |_, world: &World| world.wrong & 1 == 0),
            Property::always(RULES[1], |_, world: &World| world.wrong & 2 == 0),
            Property::always(RULES[2], |_, world: &World| world.wrong & 4 == 0),
            Property::always(RULES[3], |_, world: &World| world.wrong & 8 == 0),
            Property::always(RULES[4], |_, world: &World| world.wrong & 16 == 0),
            Property::always(RULES[5], |_, world: &World| world.wrong & 32 == 0),
            Property::sometimes("a message is delivered twice, and counted", |_, world: &World| {
                world.delivered[0] == 2
            }),
            Property::sometimes(
                "a taker works beside an owner that is fenced and unaware",
                |_, world: &World| {
                    let working = |p: &&Process| p.machine.state() == State::Active;
                    world.nodes.iter().flatten().filter(working).count() == 2
                },
            ),
            Property::sometimes("the home node takes its queue back", |_, world: &World| {
                let home = world.process(HOME).is_some_and(|p| p.is_free(State::Active));
                let [.., before, last] = world.disk.leases.as_slice() else { return false };
                home && last.owner == HOME && before.owner != HOME && before.released
            }),
            Property::sometimes(
                "a segment with an undelivered message is carried and removed",
                |_, world: &World| {
                    let first = &world.disk.segments[1];
                    first.file == File::Removed && world.acknowledged[0] && world.delivered[0] == 0
                },
            ),
        ]
    }
}
