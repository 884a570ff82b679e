//! One instance of one queue: from its start to its end, as a pure machine.
//!
//! ```text
//! INIT -> CLAIMING -> FENCING -> RECOVERING -> SEALING -> ACTIVE -> DRAINING -> RELEASED
//!   from anywhere: FENCED (a taker owns the queue), STORAGE_SICK (the storage failed or cannot be trusted)
//! ```
//!
//! The shell carries out each action and feeds back its result as the next event. The order of actions is the safety of
//! the protocol: claim, then fence *every* older epoch, then scan, then seal, then read the own fence, and only then act.
//!
//! It never claims over a live owner: a primary that finds its queue with another node waits at INIT for the hand-back.

use mail_model::{Epoch, LeaseState, Moment, NodeId, Reason, Role};

use crate::observe::{Freshness, LeaseView, Observation};

/// Where the instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Looking at the lease; waiting if somebody else is alive.
    Init,
    /// Making the next epoch's lease.
    Claiming,
    /// Fencing every older epoch.
    Fencing,
    /// Reading what they wrote.
    Recovering,
    /// Writing where they end.
    Sealing,
    /// Owner at work.
    Active,
    /// No new attempts; finishing.
    Draining,
    /// Wrote its last frame and said so.
    Released,
    /// A taker owns the queue. No effect ever again.
    Fenced,
    /// The storage failed. No effect ever again.
    StorageSick,
    /// Never became the owner, and will not: the queue is another's.
    GaveUp,
}

impl State {
    /// The name as the protocol spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Claiming => "CLAIMING",
            Self::Fencing => "FENCING",
            Self::Recovering => "RECOVERING",
            Self::Sealing => "SEALING",
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
            Self::Released => "RELEASED",
            Self::Fenced => "FENCED",
            Self::StorageSick => "STORAGE_SICK",
            Self::GaveUp => "GAVE_UP",
        }
    }

    /// True if nothing further will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Released | Self::Fenced | Self::StorageSick | Self::GaveUp)
    }
}

/// An order to take a queue over: given by heartbeatd or an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Order {
    /// The epoch that was seen as the top. If there is a higher one by now, somebody else took the queue.
    pub expected: Epoch,
    /// Why.
    pub reason: Reason,
}

/// What happened. Each action has one event as its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The process begins.
    Started,
    /// Answer to [`Action::ReadTopLease`].
    TopLease {
        /// `None` if the queue has no lease yet.
        lease: Option<LeaseView>,
        /// The queue's local lock is held by this process, so no other instance of this machine is alive.
        lock_is_mine: bool,
    },
    /// The lease cannot be read.
    Unreadable,
    /// Answer to [`Action::Claim`].
    Claimed {
        /// False if another was quicker.
        won: bool,
    },
    /// Answer to [`Action::FenceOlder`]: every one is fenced, durably.
    FencedOlder,
    /// Answer to [`Action::Scan`].
    Scanned,
    /// Answer to [`Action::Seal`]: seals durable, and after that the own fence read as zero.
    Sealed,
    /// The queue is to be given up: drain, then release.
    DrainRequested,
    /// Answer to [`Action::Drain`]: no attempt is open, CLEAN is durable.
    Drained,
    /// Answer to [`Action::Release`].
    Released,
    /// The own fence is not zero.
    FenceSeen,
    /// A read, write or sync of the queue failed.
    StorageFailed,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read the top lease past every cache; again after a pause if `wait`.
    ReadTopLease {
        /// Wait one observation interval before reading.
        wait: bool,
    },
    /// Make the lease of this epoch with `link`, durably.
    Claim {
        /// The epoch to claim.
        epoch: Epoch,
        /// What the claim says.
        reason: Reason,
    },
    /// Write and sync the fence of every epoch below this one. All of them, not only the previous.
    FenceOlder {
        /// The own epoch.
        below: Epoch,
    },
    /// Open and read every older segment, after the fences are durable and not before.
    Scan,
    /// Write and sync where each older epoch ends, then read the own fence.
    Seal,
    /// Begin to renew, to accept and to deliver.
    BecomeActive,
    /// Begin no attempt, wait for the running ones, write CLEAN.
    Drain,
    /// Say RELEASED in the lease: the last write.
    Release,
    /// Stop every effect now: no 250, no final dot, no unlink. Then end.
    Stop,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    me: NodeId,
    role: Role,
    order: Option<Order>,
    state: State,
    epoch: Epoch,
    observation: Observation,
}

impl Instance {
    /// An instance on node `me`. `order` is what a secondary was told; a primary has none.
    #[must_use]
    pub fn new(me: NodeId, role: Role, order: Option<Order>) -> Self {
        Self { me, role, order, state: State::Init, epoch: Epoch(0), observation: Observation::default() }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The epoch it claimed, 0 before.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes one event and says what to do. Every action but the last ones leads to one more event.
    pub fn step(&mut self, now: Moment, event: &Event, out: &mut Vec<Action>) {
        if self.state.is_final() {
            return;
        }
        match (self.state, event) {
            (_, Event::FenceSeen) => self.end(State::Fenced, out),
            (_, Event::StorageFailed) => self.end(State::StorageSick, out),
            (State::Init, Event::Started) => out.push(Action::ReadTopLease { wait: false }),
            (State::Init, Event::TopLease { lease, lock_is_mine }) => {
                self.look(now, lease.as_ref(), *lock_is_mine, out);
            }
            (State::Init, Event::Unreadable) => {
                self.observation.unreadable();
                out.push(Action::ReadTopLease { wait: true });
            }
            (State::Init, Event::DrainRequested) => self.end(State::GaveUp, out),
            (State::Claiming, Event::Claimed { won: true }) => {
                self.state = State::Fencing;
                out.push(Action::FenceOlder { below: self.epoch });
            }
            (State::Claiming, Event::Claimed { won: false }) => self.claim_lost(out),
            (State::Fencing, Event::FencedOlder) => {
                self.state = State::Recovering;
                out.push(Action::Scan);
            }
            (State::Recovering, Event::Scanned) => {
                self.state = State::Sealing;
                out.push(Action::Seal);
            }
            (State::Sealing, Event::Sealed) => {
                self.state = State::Active;
                out.push(Action::BecomeActive);
            }
            (State::Active, Event::DrainRequested) => {
                self.state = State::Draining;
                out.push(Action::Drain);
            }
            (State::Draining, Event::Drained) => out.push(Action::Release),
            (State::Draining, Event::Released) => {
                self.state = State::Released;
                out.push(Action::Stop);
            }
            // An answer to a question of a state that is over.
            (
                State::Init
                | State::Claiming
                | State::Fencing
                | State::Recovering
                | State::Sealing
                | State::Active
                | State::Draining
                | State::Released
                | State::Fenced
                | State::StorageSick
                | State::GaveUp,
                _,
            ) => {}
        }
    }

    fn end(&mut self, state: State, out: &mut Vec<Action>) {
        self.state = state;
        out.push(Action::Stop);
    }

    /// A secondary that lost the race has nothing to do; a primary looks again at who has its queue.
    fn claim_lost(&mut self, out: &mut Vec<Action>) {
        match self.role {
            Role::Secondary => self.end(State::GaveUp, out),
            Role::Primary => {
                self.state = State::Init;
                out.push(Action::ReadTopLease { wait: true });
            }
        }
    }

    fn look(&mut self, now: Moment, lease: Option<&LeaseView>, lock_is_mine: bool, out: &mut Vec<Action>) {
        let top = lease.map_or(Epoch(0), |l| l.epoch);
        if let Some(order) = self.order {
            if order.expected == top {
                self.claim(top, order.reason, out);
            } else {
                self.end(State::GaveUp, out);
            }
            return;
        }
        let Some(lease) = lease else {
            self.claim(top, Reason::Boot, out);
            return;
        };
        self.observation.read(now, lease);
        match self.may_claim(lease, lock_is_mine, now) {
            Some(reason) => self.claim(top, reason, out),
            None => out.push(Action::ReadTopLease { wait: true }),
        }
    }

    /// Why a primary may claim its own queue now, if it may.
    fn may_claim(&self, lease: &LeaseView, lock_is_mine: bool, now: Moment) -> Option<Reason> {
        let mine = lease.owner == self.me;
        if lease.state == Some(LeaseState::Released) {
            return Some(if mine { Reason::Restart } else { Reason::Handback });
        }
        // The local lock proves that no other process of this machine runs this queue: no need to wait for the window.
        if mine && lock_is_mine {
            return Some(Reason::Restart);
        }
        match self.observation.freshness(now) {
            Freshness::Stale { .. } => Some(Reason::Expired),
            Freshness::Unknown | Freshness::Fresh | Freshness::Watching { .. } => None,
        }
    }

    fn claim(&mut self, top: Epoch, reason: Reason, out: &mut Vec<Action>) {
        self.epoch = top.next();
        self.state = State::Claiming;
        out.push(Action::Claim { epoch: self.epoch, reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(owner: &str, seq: u64, state: LeaseState) -> LeaseView {
        LeaseView {
            epoch: Epoch(7),
            owner: NodeId::new(owner).unwrap(),
            role: Role::Primary,
            seq,
            state: Some(state),
            working: true,
            window_ms: 2000,
            renew_ms: 300,
            queued: 0,
        }
    }

    fn found(lease: LeaseView) -> Event {
        Event::TopLease { lease: Some(lease), lock_is_mine: true }
    }

    fn check(mut machine: Instance, events: &[(u64, Event)], wanted: &[Action], state: State) {
        let mut out = Vec::new();
        for (at, event) in events {
            machine.step(Moment(*at), event, &mut out);
        }
        assert_eq!((out.as_slice(), machine.state()), (wanted, state));
    }

    fn primary() -> Instance {
        Instance::new(NodeId::new("a").unwrap(), Role::Primary, None)
    }

    #[test]
    fn an_owner_claims_fences_scans_and_seals_in_this_order_before_it_acts() {
        check(
            primary(),
            &[
                (0, Event::Started),
                (1, found(lease("a", 3, LeaseState::Active))),
                (2, Event::Claimed { won: true }),
                (3, Event::FencedOlder),
                (4, Event::Scanned),
                (5, Event::Sealed),
            ],
            &[
                Action::ReadTopLease { wait: false },
                Action::Claim { epoch: Epoch(8), reason: Reason::Restart },
                Action::FenceOlder { below: Epoch(8) },
                Action::Scan,
                Action::Seal,
                Action::BecomeActive,
            ],
            State::Active,
        );
    }

    #[test]
    fn a_returning_primary_never_claims_over_a_live_secondary() {
        let mut events = vec![(0, Event::Started)];
        for tick in 1..40 {
            events.push((tick * 250, found(lease("b", tick, LeaseState::Active))));
        }
        let mut wanted = vec![Action::ReadTopLease { wait: true }; 40];
        wanted[0] = Action::ReadTopLease { wait: false };
        check(primary(), &events, &wanted, State::Init);
    }

    #[test]
    fn a_released_queue_goes_home_at_once() {
        check(
            primary(),
            &[(0, Event::Started), (1, found(lease("b", 9, LeaseState::Released)))],
            &[
                Action::ReadTopLease { wait: false },
                Action::Claim { epoch: Epoch(8), reason: Reason::Handback },
            ],
            State::Claiming,
        );
    }

    #[test]
    fn a_secondary_gives_up_when_the_epoch_it_was_told_is_past() {
        let order = Order { expected: Epoch(6), reason: Reason::Expired };
        let secondary = Instance::new(NodeId::new("b").unwrap(), Role::Secondary, Some(order));
        check(
            secondary,
            &[(0, Event::Started), (1, found(lease("c", 1, LeaseState::Active)))],
            &[Action::ReadTopLease { wait: false }, Action::Stop],
            State::GaveUp,
        );
    }

    #[test]
    fn a_fence_ends_everything_from_any_state() {
        check(
            primary(),
            &[(0, Event::Started), (1, Event::FenceSeen)],
            &[Action::ReadTopLease { wait: false }, Action::Stop],
            State::Fenced,
        );
    }
}
