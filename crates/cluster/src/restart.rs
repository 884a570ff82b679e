//! Local restart comes first: whether heartbeatd starts its own node's primary again.
//!
//! A primary that was seen at work and is dead without having drained is started again, twice within a minute at most;
//! then the peers are told that its instance is dead. A primary that was stopped in order stays stopped. A primary whose
//! queue went to another node is started too, after a while in which a service manager may do it: it waits at INIT for
//! the hand-back and claims nothing over a live owner.

use std::time::Duration;

use mail_model::{Epoch, LeaseState, Moment, NodeId, Role};

use crate::observe::LeaseView;

/// Starts within [`BUDGET_SPAN`].
const BUDGET: usize = 2;
/// See [`BUDGET`].
const BUDGET_SPAN: Duration = Duration::from_mins(1);
/// A started process takes its lock within this time, or it is dead again.
const START_LIMIT: Duration = Duration::from_millis(1500);
/// A primary that only waits for its queue is left to a service manager for this long.
const WAITER_PATIENCE: Duration = Duration::from_secs(2);
/// Waiting primaries are not started more often than this.
const WAITER_PAUSE: Duration = Duration::from_secs(10);

/// What is known of the own primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own<'a> {
    /// The own queue's lease.
    pub lease: Option<&'a LeaseView>,
    /// How long it has been the same.
    pub unchanged_for: Duration,
    /// No process of this machine holds the queue's lock.
    pub lock_free: bool,
    /// Its process answers, or is a child that runs.
    pub alive: bool,
    /// It was this program's child, and its end was seen.
    pub ended: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Start the primary: it is dead.
    Start,
    /// Start the primary so that it waits for its queue.
    StartWaiter,
    /// The budget is spent: it stays dead.
    GiveUp,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restart {
    /// It worked and was not told to stop.
    wanted: bool,
    starts: Vec<Moment>,
    started_at: Option<Moment>,
    absent_since: Option<Moment>,
    waiter_at: Option<Moment>,
    dead: Option<Epoch>,
    last_seq: Option<(Epoch, u64)>,
}

impl Restart {
    /// A primary is being started: peers should wait.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        self.started_at.is_some() && self.dead.is_none()
    }

    /// The instance that is dead and stays so.
    #[must_use]
    pub fn dead(&self) -> Option<Epoch> {
        self.dead
    }

    /// Looks, and decides.
    pub fn step(&mut self, now: Moment, me: &NodeId, own: &Own<'_>) -> Step {
        let Some(lease) = own.lease else { return Step::Rest };
        if lease.owner != *me || lease.role != Role::Primary {
            self.started_at = None;
            self.dead = None;
            return self.elsewhere(now, own);
        }
        self.absent_since = None;
        let renewed = self.last_seq.is_some_and(|last| last != (lease.epoch, lease.seq));
        self.last_seq = Some((lease.epoch, lease.seq));
        match lease.state {
            Some(LeaseState::Draining | LeaseState::Released) => {
                self.wanted = false;
                self.started_at = None;
                self.dead = None;
                return Step::Rest;
            }
            Some(LeaseState::Active) if renewed => {
                self.wanted = true;
                self.started_at = None;
                self.dead = None;
            }
            // It answers and owns the queue: that is being at work, too.
            Some(LeaseState::Active) if own.alive => self.wanted = true,
            Some(LeaseState::Active | LeaseState::StorageSick) | None => {}
        }
        let window = Duration::from_millis(u64::from(lease.window_ms));
        let quiet = Duration::from_millis(u64::from(lease.renew_ms)) * 2;
        // After a start of this program, others who start the primary get the window to do so.
        let patience = if self.wanted { quiet } else { window };
        let gone = own.lock_free && !own.alive && (own.ended || own.unchanged_for >= patience);
        let starting = self.started_at.is_some_and(|at| now.since(at) < START_LIMIT) && !own.ended;
        if !gone || starting || self.dead.is_some() {
            return Step::Rest;
        }
        self.wanted = true;
        self.starts.retain(|at| now.since(*at) < BUDGET_SPAN);
        if self.starts.len() >= BUDGET {
            self.dead = Some(lease.epoch);
            return Step::GiveUp;
        }
        self.starts.push(now);
        self.started_at = Some(now);
        Step::Start
    }

    /// Another node owns the queue.
    fn elsewhere(&mut self, now: Moment, own: &Own<'_>) -> Step {
        if own.alive || !self.wanted {
            self.absent_since = None;
            return Step::Rest;
        }
        let since = *self.absent_since.get_or_insert(now);
        let rested = self.waiter_at.is_none_or(|at| now.since(at) >= WAITER_PAUSE);
        if now.since(since) >= WAITER_PATIENCE && rested {
            self.waiter_at = Some(now);
            return Step::StartWaiter;
        }
        Step::Rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(owner: &str, epoch: u64, seq: u64, state: LeaseState) -> LeaseView {
        LeaseView {
            epoch: Epoch(epoch),
            owner: NodeId::new(owner).unwrap(),
            role: if owner == "a" { Role::Primary } else { Role::Secondary },
            seq,
            state: Some(state),
            working: true,
            window_ms: 2000,
            renew_ms: 300,
            queued: 0,
        }
    }

    /// One look at a time: lease, how long unchanged, lock free, alive.
    fn check(looks: &[(u64, LeaseView, u64, bool, bool)], wanted: &[Step]) -> Restart {
        let mut machine = Restart::default();
        let me = NodeId::new("a").unwrap();
        let steps: Vec<Step> = looks
            .iter()
            .map(|(at, lease, same, lock_free, alive)| {
                let own = Own {
                    lease: Some(lease),
                    unchanged_for: Duration::from_millis(*same),
                    lock_free: *lock_free,
                    alive: *alive,
                    ended: false,
                };
                machine.step(Moment(*at), &me, &own)
            })
            .collect();
        assert_eq!(steps, wanted);
        machine
    }

    fn at_work(from: u64) -> Vec<(u64, LeaseView, u64, bool, bool)> {
        vec![
            (from, lease("a", 3, from, LeaseState::Active), 0, false, true),
            (from + 250, lease("a", 3, from + 1, LeaseState::Active), 0, false, true),
        ]
    }

    #[test]
    fn a_dead_primary_is_started_twice_and_then_given_up() {
        let dead = lease("a", 3, 1, LeaseState::Active);
        let mut looks = at_work(0);
        looks.extend([
            (500, dead.clone(), 250, true, false),
            (1000, dead.clone(), 750, true, false),
            (1250, dead.clone(), 1000, true, false),
            (2600, dead.clone(), 2000, true, false),
            (4200, dead.clone(), 4000, true, false),
            (4300, dead, 4100, true, false),
        ]);
        let rest = Step::Rest;
        let machine = check(&looks, &[rest, rest, rest, Step::Start, rest, Step::Start, Step::GiveUp, rest]);
        assert_eq!(machine.dead(), Some(Epoch(3)));
        assert!(!machine.is_restarting());
    }

    #[test]
    fn a_primary_stopped_in_order_stays_stopped() {
        let mut looks = at_work(0);
        looks.push((500, lease("a", 3, 2, LeaseState::Draining), 0, false, true));
        looks.push((750, lease("a", 3, 3, LeaseState::Released), 0, true, false));
        looks.push((9000, lease("b", 4, 3, LeaseState::Active), 0, true, false));
        looks.push((19000, lease("b", 4, 9, LeaseState::Active), 0, true, false));
        check(&looks, &[Step::Rest; 6]);
    }

    #[test]
    fn a_hanging_primary_is_not_doubled() {
        let mut looks = at_work(0);
        looks.push((3000, lease("a", 3, 1, LeaseState::Active), 2750, false, false));
        check(&looks, &[Step::Rest; 3]);
    }

    #[test]
    fn a_primary_whose_queue_was_taken_is_started_to_wait_unless_somebody_else_starts_it() {
        let mut looks = at_work(0);
        let taken = lease("b", 4, 9, LeaseState::Active);
        looks.push((1000, taken.clone(), 0, false, false));
        looks.push((3000, taken.clone(), 0, false, false));
        looks.push((4000, taken.clone(), 0, false, false));
        looks.push((5000, taken, 0, false, true));
        check(&looks, &[Step::Rest, Step::Rest, Step::Rest, Step::StartWaiter, Step::Rest, Step::Rest]);
    }

    #[test]
    fn after_a_start_of_heartbeatd_others_get_the_window_to_start_the_primary() {
        let dead = lease("a", 3, 7, LeaseState::Active);
        check(
            &[
                (0, dead.clone(), 0, true, false),
                (1000, dead.clone(), 1000, true, false),
                (2000, dead, 2000, true, false),
            ],
            &[Step::Rest, Step::Rest, Step::Start],
        );
    }
}
