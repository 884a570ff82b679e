//! The protocol's timers, and the rules between them.

use std::time::Duration;

/// All intervals and limits of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// R: an owner renews its lease this often.
    pub renew: Duration,
    /// P: a watcher reads a lease this often.
    pub observe: Duration,
    /// W: a lease unchanged for this long is stale.
    pub window: Duration,
    /// L: an owner without a successful renewal for this long has no effects.
    pub own_limit: Duration,
    /// K: the watchdog of a service manager.
    pub watchdog: Duration,
    /// H: heartbeats go out this often.
    pub heartbeat: Duration,
    /// A peer not heard for this long is suspect on that path.
    pub suspect: Duration,
    /// Each lower rank in the takeover order waits this much longer.
    pub stagger: Duration,
    /// A returned node must be seen for this long before its queue goes back.
    pub handback_hold: Duration,
    /// Running deliveries may take this long when a queue is handed back.
    pub grace: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self::for_window(Duration::from_secs(2))
    }
}

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {remedy}")]
pub struct TimerFault {
    /// The rule.
    pub rule: &'static str,
    /// What to do.
    pub remedy: String,
}

impl Timers {
    /// All timers for a window, in the proportions of the defaults (W 2 s, R 300 ms, P 250 ms, L 1.5 s, K 3 s).
    /// R and P do not grow beyond 1 s, so that a long window still notices a release quickly.
    #[must_use]
    pub fn for_window(window: Duration) -> Self {
        let second = Duration::from_secs(1);
        let own_limit = (window * 3 / 4).min((window * 98 / 100).saturating_sub(Duration::from_millis(300)));
        Self {
            renew: (window * 3 / 20).min(second),
            observe: (window / 8).min(second * 5 / 6),
            window,
            own_limit,
            watchdog: window * 3 / 2,
            heartbeat: Duration::from_millis(200),
            suspect: second,
            stagger: Duration::from_millis(300),
            handback_hold: Duration::from_secs(15),
            grace: Duration::from_secs(10),
        }
    }

    /// Every rule that is broken: P ≤ R ≤ W/5, L + 300 ms ≤ 0.98 W, K ≥ W, and W within 1 to 120 s.
    #[must_use]
    pub fn faults(&self) -> Vec<TimerFault> {
        let ms = |d: Duration| d.as_millis();
        let mut faults = Vec::new();
        let mut demand = |holds: bool, rule, remedy: String| {
            if !holds {
                faults.push(TimerFault { rule, remedy });
            }
        };
        let window = self.window;
        let in_range = window >= Duration::from_secs(1) && window <= Duration::from_mins(2);
        demand(in_range, "the window must be 1s to 120s", format!("it is {} ms", ms(window)));
        demand(
            self.observe <= self.renew,
            "observe <= renew",
            format!("set observe to at most {} ms", ms(self.renew)),
        );
        demand(
            self.renew <= window / 5,
            "renew <= window / 5",
            format!("set renew to at most {} ms", ms(window / 5)),
        );
        let limit = (window * 98 / 100).saturating_sub(Duration::from_millis(300));
        demand(
            self.own_limit <= limit,
            "own_limit + 300ms <= 0.98 window",
            format!("set own_limit to at most {} ms", ms(limit)),
        );
        demand(
            self.watchdog >= window,
            "watchdog >= window",
            format!("set watchdog to at least {} ms", ms(window)),
        );
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_protocol() {
        let t = Timers::default();
        let ms = |d: Duration| d.as_millis();
        assert_eq!((ms(t.renew), ms(t.observe), ms(t.own_limit), ms(t.watchdog)), (300, 250, 1500, 3000));
    }

    #[test]
    fn every_allowed_window_gives_timers_that_keep_the_rules() {
        for tenths in 10..=1200 {
            let timers = Timers::for_window(Duration::from_millis(tenths * 100));
            assert_eq!(timers.faults(), [], "{timers:?}");
        }
    }

    #[test]
    fn each_broken_rule_is_named() {
        let bad = Timers {
            renew: Duration::from_millis(900),
            observe: Duration::from_secs(1),
            own_limit: Duration::from_secs(2),
            watchdog: Duration::from_secs(1),
            ..Timers::default()
        };
        assert_eq!(bad.faults().len(), 4);
        assert_eq!(Timers::for_window(Duration::from_millis(500)).faults().len(), 1);
    }
}
