//! What is due where: items wait for their time at their destination, and are handed out in turn.
//!
//! | destination | hands out                                          | becomes                                                |
//! |-------------|----------------------------------------------------|--------------------------------------------------------|
//! | Up          | what is due, up to its window                      | Down when an attempt cannot reach it and no other runs |
//! | Down        | after a pause one item, the probe; what is expired | Up when anything reaches it; paused longer by the probe |
//!
//! How wide a window is, and how fast attempts may follow each other, is in `window`. Where other queues of the same machine send
//! to a destination too, each has its share of the bound.
//!
//! Items of one destination leave in the order they are due, the smaller first, destinations take turns. An item is at one destination
//! once: it waits or it runs. No operation costs more than the logarithm of what waits, so a dead destination with half a
//! million items costs nobody anything. Never: an item before it is due, more than the window, two probes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::time::Duration;

use mail_model::Moment;

use crate::limits::ConcurrencyLimits;
use crate::retry::RetryPolicy;
use crate::waiting::{Entry, Waiting};
use crate::window::{Pace, Window};

/// Something to do now. It runs until [`Queue::finished`] is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task<D, K> {
    /// Where.
    pub destination: D,
    /// What.
    pub item: K,
    /// True if its time is over and its destination cannot be reached: it is to be given up without an attempt.
    pub expired: bool,
}

/// How a task ended, as far as its destination is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The destination was reached, whatever it said.
    Reached,
    /// The destination could not be reached at all. The number is any, evenly spread: it moves the pause.
    Unreachable(u32),
    /// Nothing was learnt about the destination.
    Untried,
}

/// How a destination stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<D> {
    /// Which.
    pub destination: D,
    /// Items that wait for it.
    pub waiting: usize,
    /// It could not be reached the last time.
    pub unreachable: bool,
}

/// An item that was handed out; what was added meanwhile comes after it.
#[derive(Debug, Clone, Copy)]
struct Running {
    expired: bool,
    again: Option<(Moment, Moment)>,
}

#[derive(Debug)]
enum Reach<K> {
    Up,
    Down { failures: u32, until: Moment, probe: Option<K> },
}

/// Where a destination stands in the agenda of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Ready(u64),
    Asleep(Moment),
}

#[derive(Debug)]
struct Destination<K> {
    waiting: Waiting<K>,
    handed_out: BTreeMap<K, Running>,
    /// Of the window. Items that are given up need no place in it.
    running: usize,
    reach: Reach<K>,
    window: Window,
    /// Queues of this machine that send there, this one among them.
    sharers: usize,
    /// How fast attempts may follow each other, if that is bounded.
    pace: Option<Pace>,
    place: Place,
}

impl<K: Copy + Ord + Hash> Destination<K> {
    fn new(initial: usize, sharers: usize) -> Self {
        Self {
            waiting: Waiting::new(),
            handed_out: BTreeMap::new(),
            running: 0,
            reach: Reach::Up,
            window: Window::opening(initial),
            sharers,
            pace: None,
            place: Place::Nowhere,
        }
    }

    /// How many may run, of `limit` that all sharers may have together. One always may, whatever the others do.
    fn width(&self, limit: usize) -> usize {
        self.window.width(self.share(limit))
    }

    fn share(&self, limit: usize) -> usize {
        (limit / self.sharers.max(1)).max(1)
    }

    /// No attempt before this.
    fn paced(&self) -> Moment {
        self.pace.map_or(Moment(0), |pace| pace.next())
    }

    /// When it next has something to hand out; `None` if nothing but the end of a task can change that.
    fn wake(&self, window: usize) -> Option<Moment> {
        let due = self.waiting.first_due().map(|entry| entry.due.max(self.paced()));
        match &self.reach {
            // With nothing left it is forgotten once nothing need be remembered of it.
            Reach::Up if self.is_empty() => Some(self.paced()),
            Reach::Up if self.running >= self.width(window) => None,
            Reach::Up => due,
            Reach::Down { until, probe, .. } => {
                let expiry = self.waiting.first_expiring().map(|entry| entry.expires);
                let next_probe = due.filter(|_| probe.is_none()).map(|due| due.max(*until));
                // With nothing left it is forgotten once its pause is over.
                let forgotten = self.is_empty().then_some(*until);
                [expiry, next_probe, forgotten].into_iter().flatten().min()
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.handed_out.is_empty()
    }

    /// Takes out what may go now.
    fn take(&mut self, now: Moment, window: usize) -> Option<(K, bool)> {
        if matches!(self.reach, Reach::Down { .. })
            && let Some(first) = self.waiting.first_expiring()
            && first.expires <= now
        {
            return self.run(first.item, true);
        }
        let Entry { item, due, .. } = self.waiting.first_due()?;
        if due.max(self.paced()) > now {
            return None;
        }
        let full = self.running >= self.width(window);
        match &mut self.reach {
            Reach::Up if full => return None,
            Reach::Up => {}
            Reach::Down { until, probe, .. } => {
                if probe.is_some() || *until > now {
                    return None;
                }
                *probe = Some(item);
            }
        }
        if let Some(pace) = &mut self.pace {
            pace.begun(now);
        }
        self.run(item, false)
    }

    fn run(&mut self, item: K, expired: bool) -> Option<(K, bool)> {
        if !self.waiting.remove(item) {
            return None;
        }
        self.handed_out.insert(item, Running { expired, again: None });
        self.running += usize::from(!expired);
        Some((item, expired))
    }

    fn learn(&mut self, item: K, outcome: Outcome, now: Moment, rules: (&RetryPolicy, ConcurrencyLimits)) {
        let (pause, limits) = rules;
        let probed = matches!(&self.reach, Reach::Down { probe: Some(probe), .. } if *probe == item);
        let failed = match (&self.reach, outcome) {
            (_, Outcome::Reached) => return self.reached(limits),
            (Reach::Up, Outcome::Unreachable(random)) if self.running == 0 => Some((1, random)),
            (Reach::Up, Outcome::Unreachable(_)) => {
                self.window.turned_away(self.running);
                None
            }
            (Reach::Down { failures, .. }, Outcome::Unreachable(random)) if probed => {
                Some((failures.saturating_add(1), random))
            }
            (Reach::Down { .. }, Outcome::Unreachable(_)) | (_, Outcome::Untried) => None,
        };
        if let Some((failures, random)) = failed {
            self.reach = Reach::Down { failures, until: now + pause.delay(failures, random), probe: None };
        } else if probed && let Reach::Down { probe, .. } = &mut self.reach {
            *probe = None;
        }
    }

    fn reached(&mut self, limits: ConcurrencyLimits) {
        match &self.reach {
            Reach::Up => self.window.reached(self.share(limits.per_destination)),
            Reach::Down { .. } => self.window = Window::opening(limits.initial),
        }
        self.reach = Reach::Up;
    }
}

/// The queue. `D` names a destination, `K` an item.
#[derive(Debug)]
pub struct Queue<D, K> {
    limits: ConcurrencyLimits,
    pause: RetryPolicy,
    destinations: BTreeMap<D, Destination<K>>,
    /// Destinations with something to hand out, the one that waited longest for its turn first.
    ready: BTreeMap<u64, D>,
    asleep: BTreeSet<(Moment, D)>,
    /// Those where something runs.
    busy: BTreeSet<D>,
    /// How many queues a destination is shared with until that is told.
    sharers: usize,
    turn: u64,
    running: usize,
    waiting: usize,
}

impl<D: Clone + Ord, K: Copy + Ord + Hash> Queue<D, K> {
    /// An empty queue. `pause` says how long a destination that cannot be reached is left alone.
    #[must_use]
    pub fn new(limits: ConcurrencyLimits, pause: RetryPolicy) -> Self {
        Self {
            limits,
            pause,
            destinations: BTreeMap::new(),
            ready: BTreeMap::new(),
            asleep: BTreeSet::new(),
            busy: BTreeSet::new(),
            sharers: 1,
            turn: 0,
            running: 0,
            waiting: 0,
        }
    }

    /// Bounds from now on. What runs goes on.
    pub fn set_limits(&mut self, limits: ConcurrencyLimits) {
        if self.limits == limits {
            return;
        }
        self.limits = limits;
        let all: Vec<D> = self.destinations.keys().cloned().collect();
        for destination in all {
            self.arrange(&destination);
        }
    }

    /// Destinations of which nothing else is told are sent to by so many queues of this machine, this one among them.
    pub fn expect_sharers(&mut self, sharers: usize) {
        self.sharers = sharers.max(1);
    }

    /// So many queues of this machine, this one among them, send to `destination` now. What runs goes on.
    pub fn set_sharers(&mut self, destination: &D, sharers: usize) {
        let Some(place) = self.destinations.get_mut(destination) else { return };
        if place.sharers != sharers.max(1) {
            place.sharers = sharers.max(1);
            self.arrange(destination);
        }
    }

    /// Where something runs.
    #[must_use]
    pub fn busy(&self) -> Vec<D> {
        self.busy.iter().cloned().collect()
    }

    /// Lets `item` wait at `destination` until it is `due`. If it waits there already the earlier time counts; if it runs
    /// it comes again after its end. After `expires` it is given up if the destination cannot be reached.
    pub fn add(&mut self, destination: &D, item: K, due: Moment, expires: Moment) {
        if !self.destinations.contains_key(destination) {
            let new = Destination::new(self.limits.initial, self.sharers);
            self.destinations.insert(destination.clone(), new);
        }
        let Some(place) = self.destinations.get_mut(destination) else { return };
        if let Some(running) = place.handed_out.get_mut(&item) {
            let earlier = running.again.is_none_or(|(before, _)| due < before);
            running.again = if earlier { Some((due, expires)) } else { running.again };
            return;
        }
        match place.waiting.get(item) {
            Some(before) if before.due <= due => return,
            Some(_) => {
                place.waiting.remove(item);
            }
            None => self.waiting += 1,
        }
        place.waiting.insert(item, due, expires);
        self.arrange(destination);
    }

    /// Lets attempts toward `destination`, which is known or becomes so by the next [`Self::add`], follow each other at least
    /// `interval` apart.
    pub fn set_pace(&mut self, destination: &D, interval: Duration) {
        let (initial, sharers) = (self.limits.initial, self.sharers);
        let entry = self.destinations.entry(destination.clone());
        let place = entry.or_insert_with(|| Destination::new(initial, sharers));
        place.pace.get_or_insert_with(|| Pace::new(interval)).set(interval);
    }

    /// Ends the pause of a destination that could not be reached: what is due there is tried as soon as no probe runs.
    pub fn end_pause(&mut self, destination: &D, now: Moment) {
        let Some(place) = self.destinations.get_mut(destination) else { return };
        if let Reach::Down { until, .. } = &mut place.reach {
            *until = now.min(*until);
        }
        self.arrange_at(destination, Some(now));
    }

    /// Something that may be done `now`, if anything may.
    pub fn next(&mut self, now: Moment) -> Option<Task<D, K>> {
        self.wake_up(now);
        while self.running < self.limits.total.max(1) {
            let (_, destination) = self.ready.first_key_value()?;
            let destination = destination.clone();
            if let Some(task) = self.take(&destination, now) {
                return Some(task);
            }
        }
        None
    }

    /// Something more that may be done `now` at `destination`, for whoever has a connection to it. Nothing if another
    /// destination waits for its turn and all places are taken.
    pub fn next_at(&mut self, destination: &D, now: Moment) -> Option<Task<D, K>> {
        self.wake_up(now);
        let total = self.limits.total.max(1);
        let others = self.ready.values().any(|ready| ready != destination);
        // The caller has just given up its own place, so one is free: the others come first only if it is the last.
        if self.running >= total || (others && self.running + 1 >= total) {
            return None;
        }
        let ready = matches!(self.destinations.get(destination)?.place, Place::Ready(_));
        if ready { self.take(destination, now) } else { None }
    }

    /// A task ended. `outcome` is about its destination; if the item is to be tried again, [`Self::add`] it again.
    pub fn finished(&mut self, destination: &D, item: K, outcome: Outcome, now: Moment) {
        let Some(place) = self.destinations.get_mut(destination) else { return };
        let Some(Running { expired, again }) = place.handed_out.remove(&item) else { return };
        self.running = self.running.saturating_sub(1);
        place.running = place.running.saturating_sub(usize::from(!expired));
        if place.running == 0 {
            self.busy.remove(destination);
        }
        place.learn(item, outcome, now, (&self.pause, self.limits));
        if let Some((due, expires)) = again {
            place.waiting.insert(item, due, expires);
            self.waiting += 1;
        }
        self.arrange_at(destination, Some(now));
    }

    /// When [`Self::next`] may have something, if nothing is added and nothing ends until then.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        if self.running >= self.limits.total.max(1) {
            return None;
        }
        if self.ready.is_empty() { self.asleep.first().map(|(wake, _)| *wake) } else { Some(Moment(0)) }
    }

    /// The `count` destinations where the most waits, the longest line first. Looks at all of them.
    #[must_use]
    pub fn longest(&self, count: usize) -> Vec<Line<D>> {
        let waiting = |place: &Destination<K>| place.waiting.len();
        let mut lines: Vec<_> = self.destinations.iter().collect();
        lines.sort_by_key(|(_, place)| std::cmp::Reverse(waiting(place)));
        let line = |(destination, place): (&D, &Destination<K>)| Line {
            destination: destination.clone(),
            waiting: waiting(place),
            unreachable: matches!(place.reach, Reach::Down { .. }),
        };
        lines.into_iter().take(count).map(line).collect()
    }

    /// Items that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Tasks that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    fn take(&mut self, destination: &D, now: Moment) -> Option<Task<D, K>> {
        let window = self.limits.per_destination.max(1);
        let place = self.destinations.get_mut(destination)?;
        let (before, taken) = (place.running, place.take(now, window));
        if before == 0 && place.running > 0 {
            self.busy.insert(destination.clone());
        }
        // It goes to the end of the line, or to sleep.
        self.arrange_at(destination, Some(now));
        let (item, expired) = taken?;
        self.running += 1;
        self.waiting = self.waiting.saturating_sub(1);
        Some(Task { destination: destination.clone(), item, expired })
    }

    /// Those whose time has come line up.
    fn wake_up(&mut self, now: Moment) {
        while let Some((wake, destination)) = self.asleep.first()
            && *wake <= now
        {
            let destination = destination.clone();
            self.arrange_at(&destination, Some(now));
        }
    }

    fn arrange(&mut self, destination: &D) {
        self.arrange_at(destination, None);
    }

    /// Puts a destination where it belongs after a change. Without knowing the time, it is asleep or stays in line.
    fn arrange_at(&mut self, destination: &D, now: Option<Moment>) {
        let window = self.limits.per_destination.max(1);
        let Some(place) = self.destinations.get_mut(destination) else { return };
        let before = place.place;
        let over = match (&place.reach, now) {
            (Reach::Up, Some(now)) => place.paced() <= now,
            (Reach::Up, None) => place.pace.is_none(),
            (Reach::Down { until, .. }, Some(now)) => (*until).max(place.paced()) <= now,
            (Reach::Down { .. }, None) => false,
        };
        let forgotten = over && place.is_empty();
        // Most changes leave it where it is.
        let after = match (place.wake(window), now, before) {
            (None, ..) => Place::Nowhere,
            (Some(wake), Some(now), _) if wake <= now => Place::Ready(self.turn + 1),
            (Some(_), None, Place::Ready(turn)) => Place::Ready(turn),
            (Some(wake), ..) => Place::Asleep(wake),
        };
        if after == before && !forgotten {
            return;
        }
        place.place = after;
        match before {
            Place::Nowhere => {}
            Place::Ready(turn) => drop(self.ready.remove(&turn)),
            Place::Asleep(wake) => drop(self.asleep.remove(&(wake, destination.clone()))),
        }
        if forgotten {
            self.destinations.remove(destination);
            return;
        }
        match after {
            Place::Nowhere => {}
            Place::Ready(turn) => {
                self.turn = turn.max(self.turn);
                self.ready.insert(turn, destination.clone());
            }
            Place::Asleep(wake) => drop(self.asleep.insert((wake, destination.clone()))),
        }
    }
}

#[cfg(test)]
mod tests;
