//! One node's decision about one queue: watch its owner, take it over, hold it, hand it back.
//!
//! ```text
//! HEALTHY -> WATCHING -> CANDIDATE -> TAKING -> HOLDING -> HANDBACK_WAIT -> HANDING_BACK -> HEALTHY
//!   beside them: INELIGIBLE(reason), LOST_RACE, PAUSED(until), BLOCKED(reason)
//! ```
//!
//! | network to the owner | its lease | then |
//! |---|---|---|
//! | up | fresh, its heartbeatd attests that the instance is dead | take at once |
//! | up | stale, its heartbeatd restarts it | wait for that |
//! | down, one path or all | fresh | no takeover, alarm: storage proves life |
//! | any | stale | take after the window |
//! | any | unreadable from here | INELIGIBLE: this node is the sick one |
//! | any | stale, and the own one too | INELIGIBLE: the storage stalls for everybody |
//!
//! Time decides only when a takeover is tried; the claim decides who owns. So a wrong decision here costs a hand-back,
//! never mail. On shared storage a queue is never taken by its own home node: there the primary itself waits and claims. On
//! promoted storage the home node takes the device from an owner that is gone, and the primary, which waits for that, claims.

mod decision;
mod event;
mod evidence;
mod progress;
mod state;
mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use mail_model::{Epoch, LeaseState, Moment, Reason, Role};

use crate::device::OwnCopy;
use crate::observe::{Freshness, LeaseView, Observation};

pub use decision::{Decision, Facts, Rule, Verdict};
pub use event::{Action, Event, Refused, Watch};
use evidence::{Evidence, Witness};
use progress::{Candidate, Ended, Taking};
pub use state::{Blocked, Ineligible, State};
pub use view::{DeviceView, OwnLease, OwnWatch, PeerView, View};

/// Failovers are remembered for this long.
const FLAP_SPAN: Duration = Duration::from_hours(1);
/// So many of them, and the queue stays where it is.
const FLAPS_MAX: usize = 3;
/// Secondaries started within [`LAUNCH_SPAN`] before this node gives up for a while.
const LAUNCHES_MAX: usize = 3;
/// See [`LAUNCHES_MAX`].
const LAUNCH_SPAN: Duration = Duration::from_mins(1);
/// A secondary that was started claims within this time, or somebody should look.
const CLAIM_LIMIT: Duration = Duration::from_secs(10);

const PROBE_SLOW: &str = "not taken: the write probe failed or took longer than R";

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    watch: Watch,
    state: State,
    lease: Option<LeaseView>,
    readable: bool,
    observation: Observation,
    candidate: Option<Candidate>,
    taking: Option<Taking>,
    probe_again: Option<Moment>,
    probe_ms: Option<u64>,
    /// The secondary of this node has ended.
    ended: Option<Ended>,
    launches: Vec<Moment>,
    failovers: Vec<Moment>,
    home_since: Option<Moment>,
    degraded_since: Option<Moment>,
    drain_asked: Option<Moment>,
    /// What was recorded since the owner was last well: each thing once.
    told: BTreeSet<(Verdict, Rule, Epoch)>,
}

impl Takeover {
    /// A machine that has seen nothing.
    #[must_use]
    pub fn new(watch: Watch) -> Self {
        Self {
            watch,
            state: State::Healthy,
            lease: None,
            readable: true,
            observation: Observation::default(),
            candidate: None,
            taking: None,
            probe_again: None,
            probe_ms: None,
            ended: None,
            launches: Vec::new(),
            failovers: Vec::new(),
            home_since: None,
            degraded_since: None,
            drain_asked: None,
            told: BTreeSet::new(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The last lease that could be read.
    #[must_use]
    pub fn lease(&self) -> Option<&LeaseView> {
        self.lease.as_ref().filter(|_| self.readable)
    }

    /// How long its renewals have been the same.
    #[must_use]
    pub fn unchanged_for(&self) -> Duration {
        self.observation.unchanged_for()
    }

    /// Takes one event and says what to do.
    pub fn step(&mut self, now: Moment, event: &Event, view: &View, out: &mut Vec<Action>) {
        match event {
            Event::Tick => {}
            Event::Read(lease) => self.read(now, lease.as_ref(), view, out),
            Event::Unreadable => {
                self.readable = false;
                self.observation.unreadable();
            }
            Event::Probed(took) => self.probed(now, *took),
            Event::SecondaryEnded => {
                // It may have claimed or released as its last act: the lease tells.
                self.ended = Some(Ended::Unread);
                out.push(Action::ReadNow);
            }
        }
        self.decide(now, view, out);
    }

    /// An operator's order to take the queue now. Safe at any instant: the owner's own fence check keeps every mail.
    pub fn order_takeover(
        &mut self,
        now: Moment,
        why: &str,
        view: &View,
        out: &mut Vec<Action>,
    ) -> Result<(), Refused> {
        let lease = self.lease().cloned().ok_or(Refused::NoLease)?;
        if lease.owner == self.watch.me && lease.state != Some(LeaseState::Released) {
            return Err(Refused::OwnerAlready);
        }
        if *self.watch.queue.home() == self.watch.me {
            return Err(Refused::Home);
        }
        if self.taking.is_some() {
            return Err(Refused::UnderWay);
        }
        if self.watch.promoted && view.device(&self.watch.queue).copy != OwnCopy::Current {
            return Err(Refused::CopyBehind);
        }
        self.launch(now, &lease, (Rule::Operator, Reason::Forced), why, view, out);
        Ok(())
    }

    /// An operator's order to hand the queue back now, without the hold.
    pub fn order_handback(&mut self, now: Moment, view: &View, out: &mut Vec<Action>) -> Result<(), Refused> {
        let lease = self.lease().cloned().ok_or(Refused::NoLease)?;
        if lease.owner != self.watch.me
            || lease.role != Role::Secondary
            || lease.state == Some(LeaseState::Released)
        {
            return Err(Refused::NotHeld);
        }
        if self.taking.is_some() || self.state == State::HandingBack {
            return Err(Refused::UnderWay);
        }
        if !view.home_waits(&self.watch) {
            return Err(Refused::HomeAbsent);
        }
        self.hand_back(now, Rule::Operator, "ordered by an operator", view, out);
        Ok(())
    }

    fn read(&mut self, now: Moment, lease: Option<&LeaseView>, view: &View, out: &mut Vec<Action>) {
        self.readable = true;
        self.ended = self.ended.map(|_| Ended::Read);
        let before = self.lease.take();
        self.lease = lease.cloned();
        let Some(lease) = lease else { return };
        self.observation.read(now, lease);
        // Without the arbiter no owner can renew: its silence proves nothing, and the window begins when the arbiter is back.
        if self.watch.promoted && view.device(&self.watch.queue).copy == OwnCopy::Unknown {
            self.observation.unreadable();
        }
        if before.as_ref().is_none_or(|b| b.epoch != lease.epoch) {
            self.ended = self.ended.filter(|_| lease.owner == self.watch.me);
            let text = format!("epoch {} is owned by {} as {}", lease.epoch, lease.owner, lease.role);
            self.record(Verdict::OwnerChanged, Rule::Lease, text, view, now, out);
            if lease.owner == self.watch.me && lease.role == Role::Secondary && self.taking.is_none() {
                let text = "a secondary of this node owns it; it is watched on".to_owned();
                self.record(Verdict::Adopted, Rule::Lease, text, view, now, out);
            }
        }
        if let Some(candidate) = &mut self.candidate {
            candidate.reread |= candidate.reread_asked;
        }
    }

    /// D3.
    fn probed(&mut self, now: Moment, took: Option<Duration>) {
        self.probe_ms = took.map(millis);
        match took.filter(|took| *took <= self.watch.timers.renew) {
            Some(took) => {
                if let Some(candidate) = &mut self.candidate {
                    candidate.probe = Some(took);
                }
            }
            None => self.probe_failed(now),
        }
    }

    fn probe_failed(&mut self, now: Moment) {
        self.candidate = None;
        self.probe_again = Some(now + self.watch.timers.window / 2);
    }

    fn decide(&mut self, now: Moment, view: &View, out: &mut Vec<Action>) {
        let at_home = *self.watch.queue.home() == self.watch.me;
        if !self.readable {
            self.candidate = None;
            self.state = State::Ineligible(Ineligible::Unreadable);
            let text = "the lease cannot be read from here: this node is the sick one";
            return self.tell(Verdict::NotTaken, Rule::Unreadable, text, view, now, out);
        }
        let Some(lease) = self.lease.clone() else {
            self.state = State::Healthy;
            return;
        };
        if let Some(taking) = self.taking.clone() {
            return self.follow(now, &taking, &lease, view, out);
        }
        // On promoted storage a device that is elsewhere must be taken even so.
        let mine_to_take = !at_home || (self.watch.promoted && lease.owner != self.watch.me);
        if !mine_to_take && lease.state == Some(LeaseState::Released) {
            self.state = State::Healthy;
            return;
        }
        let witness = Witness {
            me: &self.watch.me,
            queue: &self.watch.queue,
            observe: self.watch.timers.observe,
            observation: &self.observation,
            ended: self.ended == Some(Ended::Read),
            promoted: self.watch.promoted,
            home_fit: view.home_fit(&self.watch),
        };
        let evidence = witness.judge(now, &lease, view);
        let held = lease.owner == self.watch.me && lease.role == Role::Secondary;
        match evidence {
            Evidence::Proof(rule, reason) if mine_to_take => {
                self.consider(now, &lease, (rule, reason), view, out);
            }
            Evidence::Peace if held => self.hold(now, view, out),
            Evidence::Peace => self.peace(now, &lease, view, out),
            Evidence::Wait(rule, text) => self.wait(now, rule, text, view, out),
            Evidence::Suspect if held => {}
            Evidence::Suspect | Evidence::Proof(..) => self.suspect(now, view, out),
        }
    }

    fn peace(&mut self, now: Moment, lease: &LeaseView, view: &View, out: &mut Vec<Action>) {
        self.candidate = None;
        self.home_since = None;
        let handed = self.state == State::HandingBack && lease.owner == *self.watch.queue.home();
        let relieved = matches!(self.state, State::Candidate | State::Ineligible(_) | State::Paused(_))
            || self.state == State::Watching;
        self.drain_asked = None;
        if self.state == State::LostRace && lease.role == Role::Secondary {
            return;
        }
        self.state = State::Healthy;
        if handed {
            let text = format!("{} owns its queue again, epoch {}", lease.owner, lease.epoch);
            self.record(Verdict::HandedBack, Rule::Lease, text, view, now, out);
        } else if relieved {
            let text = "the owner renews again".to_owned();
            self.record(Verdict::StandDown, Rule::Lease, text, view, now, out);
        }
        self.network(now, lease, view, out);
    }

    /// The owner lives. If the network to it stays down, the lease having been renewed since: an alarm, and no more.
    fn network(&mut self, now: Moment, lease: &LeaseView, view: &View, out: &mut Vec<Action>) {
        let owner = view.peer(&lease.owner);
        if owner.paths_up >= owner.paths {
            self.degraded_since = None;
            self.told.clear();
            return;
        }
        let since = *self.degraded_since.get_or_insert(now);
        if now.since(since) < self.watch.timers.window {
            return;
        }
        let (rule, text) = if owner.heard() {
            (Rule::PathDown, "the owner is not heard on every path")
        } else {
            let text =
                "the network to the owner is down, its lease is fresh: storage proves life, no takeover";
            (Rule::NetworkDown, text)
        };
        self.tell(Verdict::Alarm, rule, text, view, now, out);
    }

    fn suspect(&mut self, now: Moment, view: &View, out: &mut Vec<Action>) {
        self.candidate = None;
        self.state = State::Watching;
        self.tell(Verdict::Suspected, Rule::Lease, "renewals are late", view, now, out);
    }

    /// There is proof, but others come first.
    fn wait(&mut self, now: Moment, rule: Rule, text: &str, view: &View, out: &mut Vec<Action>) {
        self.candidate = None;
        if rule == Rule::ReleasedEmpty {
            self.state = State::Healthy;
        } else if self.state != State::HandingBack {
            self.state = State::Watching;
        }
        self.tell(Verdict::NotTaken, rule, text, view, now, out);
    }

    /// D3 to D5: may this node take, and is it its turn?
    fn consider(
        &mut self,
        now: Moment,
        lease: &LeaseView,
        why: (Rule, Reason),
        view: &View,
        out: &mut Vec<Action>,
    ) {
        if let Some((state, rule, text)) = self.obstacle(now, view) {
            self.candidate = None;
            self.state = state;
            return self.tell(Verdict::NotTaken, rule, text, view, now, out);
        }
        self.state = State::Candidate;
        let same = |c: &Candidate| c.epoch == lease.epoch && c.seq == lease.seq;
        let Some(candidate) = self.candidate.as_mut().filter(|c| same(c)) else {
            self.candidate = Some(Candidate {
                since: now,
                epoch: lease.epoch,
                seq: lease.seq,
                probe: None,
                reread_asked: false,
                reread: false,
            });
            self.probe_ms = None;
            let text = "there is proof; probing the storage, then one more read";
            self.tell(Verdict::Candidate, why.0, text, view, now, out);
            out.push(Action::Probe);
            return;
        };
        if candidate.probe.is_none() {
            if now.since(candidate.since) > self.watch.timers.renew {
                self.probe_failed(now);
                self.state = State::Ineligible(Ineligible::ProbeSlow);
                self.tell(Verdict::NotTaken, Rule::ProbeSlow, PROBE_SLOW, view, now, out);
            }
        } else if candidate.reread {
            let text = "its window is over, the probe was quick, and it is unchanged on the last read";
            self.launch(now, lease, why, text, view, out);
        } else if !candidate.reread_asked {
            let turn = candidate.since + self.watch.timers.stagger * self.watch.rank(&lease.owner);
            if now >= turn
                && let Some(candidate) = &mut self.candidate
            {
                candidate.reread_asked = true;
                out.push(Action::ReadNow);
            }
        }
    }

    fn obstacle(&mut self, now: Moment, view: &View) -> Option<(State, Rule, &'static str)> {
        self.launches.retain(|at| now.since(*at) < LAUNCH_SPAN);
        if let Some(until) = view.paused_until.filter(|until| now < *until) {
            return Some((State::Paused(until), Rule::Paused, "not taken: paused by an operator"));
        }
        let (why, rule, text) = if view.draining {
            (Ineligible::Draining, Rule::Draining, "not taken: this node is being stopped")
        } else if !self.watch.promoted && view.own == OwnLease::Stale {
            let text =
                "not taken: the own primary's lease is stale too; the storage stalls, nobody is eligible";
            (Ineligible::OwnLeaseStale, Rule::OwnLeaseStale, text)
        } else if !view.room {
            (Ineligible::NoRoom, Rule::NoRoom, "not taken: disk, files or memory do not suffice here")
        } else if self.launches.len() >= LAUNCHES_MAX {
            let text = "not taken: secondaries were started too often; the log says how they ended";
            (Ineligible::LaunchFails, Rule::LaunchFails, text)
        } else if self.probe_again.is_some_and(|at| now < at) {
            (Ineligible::ProbeSlow, Rule::ProbeSlow, PROBE_SLOW)
        } else {
            let device = view.device(&self.watch.queue);
            return self.watch.promoted.then(|| device.obstacle()).flatten();
        };
        Some((State::Ineligible(why), rule, text))
    }

    fn launch(
        &mut self,
        now: Moment,
        lease: &LeaseView,
        (rule, reason): (Rule, Reason),
        text: &str,
        view: &View,
        out: &mut Vec<Action>,
    ) {
        self.candidate = None;
        self.home_since = None;
        self.ended = None;
        self.state = State::Taking;
        self.launches.push(now);
        self.record(Verdict::Take, rule, text.to_owned(), view, now, out);
        self.taking = Some(Taking { expected: lease.epoch, since: now, rule });
        out.push(Action::Launch { expected: lease.epoch, reason });
    }

    /// A secondary was started: who claims?
    fn follow(
        &mut self,
        now: Moment,
        taking: &Taking,
        lease: &LeaseView,
        view: &View,
        out: &mut Vec<Action>,
    ) {
        let device = view.device(&self.watch.queue);
        if self.watch.promoted && lease.epoch > taking.expected && lease.owner != self.watch.me {
            // The old owner had come further than its last heartbeat said. Nobody else can claim on this device now.
            self.taking = Some(Taking { expected: lease.epoch, ..taking.clone() });
        } else if lease.epoch > taking.expected {
            self.taking = None;
            if lease.owner == self.watch.me {
                self.state = State::Holding;
                self.failovers.push(now);
                let text = format!(
                    "epoch {} claimed {} ms after the order",
                    lease.epoch,
                    millis(now.since(taking.since))
                );
                self.record(Verdict::Taken, taking.rule, text, view, now, out);
            } else {
                self.state = State::LostRace;
                let text = format!("{} claimed epoch {} first", lease.owner, lease.epoch);
                self.record(Verdict::LostRace, taking.rule, text, view, now, out);
            }
        } else if self.ended == Some(Ended::Read) {
            self.ended = None;
            self.taking = None;
            self.state = State::Watching;
            let text = "the secondary ended without a claim".to_owned();
            self.record(Verdict::Alarm, Rule::SecondaryEnded, text, view, now, out);
        } else if device.blocked {
            self.state = State::Blocked(Blocked::NeedsFence);
            let text = "the old owner's side of the device is primary still: it must be put off";
            self.tell(Verdict::Alarm, Rule::NeedsFence, text, view, now, out);
        } else if now.since(taking.since) > CLAIM_LIMIT {
            self.state = State::Taking;
            let text = "the secondary runs and has not claimed yet";
            self.tell(Verdict::Alarm, taking.rule, text, view, now, out);
        }
    }

    /// This node's secondary owns the queue and lives.
    fn hold(&mut self, now: Moment, view: &View, out: &mut Vec<Action>) {
        self.candidate = None;
        if self.state == State::HandingBack {
            let again = self.watch.timers.grace + self.watch.timers.window;
            if self.drain_asked.is_some_and(|at| now.since(at) > again) {
                self.drain_asked = Some(now);
                out.push(Action::Drain { grace: self.watch.timers.grace });
            }
            return;
        }
        let paused = view.paused_until.is_some_and(|until| now < until);
        if !view.home_waits(&self.watch) || paused {
            self.home_since = None;
            self.state = State::Holding;
            return;
        }
        self.failovers.retain(|at| now.since(*at) < FLAP_SPAN);
        if self.failovers.len() >= FLAPS_MAX {
            self.state = State::Holding;
            let text = "three failovers within an hour: the queue stays here; hand it back by hand when its home is well";
            return self.tell(Verdict::Alarm, Rule::Flapping, text, view, now, out);
        }
        let hold = self.hold_time();
        let Some(since) = self.home_since else {
            self.home_since = Some(now);
            self.state = State::HandbackWait;
            let text = format!("the home node waits for its queue; it must stay for {} ms", millis(hold));
            return self.record(Verdict::HandbackWait, Rule::HomeWaits, text, view, now, out);
        };
        if now.since(since) >= hold {
            let text = format!("the home node waited for {} ms", millis(now.since(since)));
            self.hand_back(now, Rule::HomeStayed, &text, view, out);
        }
    }

    /// The hold doubles with each failover within an hour.
    fn hold_time(&self) -> Duration {
        let doublings = u32::try_from(self.failovers.len().saturating_sub(1)).unwrap_or(u32::MAX).min(8);
        self.watch.timers.handback_hold * (1 << doublings)
    }

    fn hand_back(&mut self, now: Moment, rule: Rule, text: &str, view: &View, out: &mut Vec<Action>) {
        self.state = State::HandingBack;
        self.home_since = None;
        self.drain_asked = Some(now);
        self.record(Verdict::Handback, rule, text.to_owned(), view, now, out);
        out.push(Action::Drain { grace: self.watch.timers.grace });
    }

    /// Records it unless that was done since the owner was last well.
    fn tell(
        &mut self,
        verdict: Verdict,
        rule: Rule,
        text: &str,
        view: &View,
        now: Moment,
        out: &mut Vec<Action>,
    ) {
        let epoch = self.lease.as_ref().map_or(Epoch(0), |l| l.epoch);
        if self.told.insert((verdict, rule, epoch)) {
            self.record(verdict, rule, text.to_owned(), view, now, out);
        }
    }

    fn record(
        &self,
        verdict: Verdict,
        rule: Rule,
        text: String,
        view: &View,
        now: Moment,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::Record(Box::new(self.describe(verdict, rule, text, view, now))));
    }

    /// A decision about this queue, with what is known now.
    #[must_use]
    pub fn describe(&self, verdict: Verdict, rule: Rule, text: String, view: &View, now: Moment) -> Decision {
        let lease = self.lease.as_ref();
        let (span, reads) = match self.observation.freshness(now) {
            Freshness::Watching { span, reads } | Freshness::Stale { span, reads } => (span, reads),
            Freshness::Fresh => (Duration::ZERO, 1),
            Freshness::Unknown => (Duration::ZERO, 0),
        };
        let owner = lease.and_then(|l| view.peers.get(&l.owner));
        Decision {
            queue: self.watch.queue.clone(),
            verdict,
            rule,
            text,
            state: self.state.to_string(),
            evidence: Facts {
                owner: lease.map(|l| l.owner.clone()),
                epoch: lease.map_or(Epoch(0), |l| l.epoch),
                seq: lease.map_or(0, |l| l.seq),
                reads,
                span_ms: millis(span),
                paths_up: owner.map_or(0, |o| o.paths_up),
                paths: owner.map_or(0, |o| o.paths),
                probe_ms: self.probe_ms,
                rank: lease.map_or(0, |l| self.watch.rank(&l.owner)),
            },
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
