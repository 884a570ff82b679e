//! How many attempts toward one destination may run at once, learnt from how they end; and how fast they may follow each other.
//! Postfix's feedback is the model.
//!
//! | a window is | grows by one after | because |
//! |---|---|---|
//! | opening | as many attempts that reached the destination as it is wide | a new destination is not flooded, and soon served |
//! | turned away once | [`REACHED_PER_STEP`] | each step too far puts an item off |

use std::time::Duration;

use mail_model::Moment;

/// A window that shrank grows by one after so many attempts that reached the destination.
const REACHED_PER_STEP: usize = 50;

/// How many may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    width: usize,
    /// Attempts that reached the destination since the width was set.
    reached: usize,
    turned_away: bool,
}

impl Window {
    /// For a destination of which nothing is known.
    pub(crate) fn opening(initial: usize) -> Self {
        Self { width: initial.max(1), reached: 0, turned_away: false }
    }

    /// How many may run, of `limit` allowed.
    pub(crate) fn width(&self, limit: usize) -> usize {
        self.width.min(limit)
    }

    /// An attempt reached the destination.
    pub(crate) fn reached(&mut self, limit: usize) {
        self.reached += 1;
        let step = if self.turned_away { REACHED_PER_STEP } else { self.width };
        if self.reached >= step && self.width < limit {
            self.width += 1;
            self.reached = 0;
        }
    }

    /// An attempt was turned away while `running` others run: so many it takes.
    pub(crate) fn turned_away(&mut self, running: usize) {
        *self = Self { width: self.width.min(running).max(1), reached: 0, turned_away: true };
    }
}

/// How fast attempts may follow each other: evenly, so that a minute's mail does not leave in its first second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    interval: Duration,
    next: Moment,
}

impl Pace {
    /// One attempt each `interval`; the first at once.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, next: Moment(0) }
    }

    /// The same place in time at another speed.
    pub(crate) fn set(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Not before this.
    pub(crate) fn next(&self) -> Moment {
        self.next
    }

    /// One has begun.
    pub(crate) fn begun(&mut self, now: Moment) {
        self.next = self.next.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_by_its_own_width_and_heals_slowly_after_it_was_turned_away() {
        let mut window = Window::opening(2);
        let mut widths = Vec::new();
        for _ in 0..9 {
            window.reached(4);
            widths.push(window.width(4));
        }
        assert_eq!(widths, [2, 3, 3, 3, 4, 4, 4, 4, 4]);
        window.turned_away(3);
        for _ in 1..REACHED_PER_STEP {
            window.reached(4);
            assert_eq!(window.width(4), 3);
        }
        window.reached(4);
        assert_eq!((window.width(4), window.width(1)), (4, 1));
        window.turned_away(0);
        assert_eq!(window.width(4), 1, "one may always run");
    }

    #[test]
    fn what_waited_long_does_not_come_in_a_burst() {
        let mut pace = Pace::new(Duration::from_secs(1));
        pace.begun(Moment(10_000));
        assert_eq!(pace.next(), Moment(11_000));
        pace.begun(Moment(60_000));
        assert_eq!(pace.next(), Moment(61_000));
    }
}
