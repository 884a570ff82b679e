//! When the next message is due. Pure: time comes in as a span since the start.
//!
//! Even: one interval between two messages. If the senders fall behind, at most one second's worth is caught up, so that an
//! outage does not end in a flood.

use std::time::Duration;

/// How fast new messages are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Evenly spaced; at least 1.
    PerSecond(u32),
    /// As fast as the sessions go.
    Unlimited,
}

/// The most that is caught up after a standstill.
const DEBT_MAX: Duration = Duration::from_secs(1);

/// Hands out due times.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    next: Duration,
}

impl Pace {
    pub(crate) fn new(rate: Rate) -> Self {
        let interval = match rate {
            Rate::PerSecond(n) => Duration::from_secs(1) / n.max(1),
            Rate::Unlimited => Duration::ZERO,
        };
        Self { interval, next: Duration::ZERO }
    }

    /// When the next message is due, as time since the start. Taking it moves on to the one after.
    pub(crate) fn take(&mut self, now: Duration) -> Duration {
        let due = self.next.max(now.saturating_sub(DEBT_MAX));
        self.next = due + self.interval;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_evenly_spaced() {
        let mut pace = Pace::new(Rate::PerSecond(200));
        let due: Vec<u128> = (0..4).map(|_| pace.take(Duration::ZERO).as_millis()).collect();
        assert_eq!(due, [0, 5, 10, 15]);
    }

    #[test]
    fn after_a_standstill_at_most_one_second_is_caught_up() {
        let mut pace = Pace::new(Rate::PerSecond(10));
        let now = Duration::from_mins(1);
        let at_once = (0..100).filter(|_| pace.take(now) <= now).count();
        assert_eq!(at_once, 11);
    }

    #[test]
    fn unlimited_is_always_due() {
        let mut pace = Pace::new(Rate::Unlimited);
        assert!((0..1000).all(|n| pace.take(Duration::from_millis(n)) <= Duration::from_millis(n)));
    }
}
