//! When a deferred recipient is tried again, and when it is given up. RFC 5321 4.5.4.1.

use std::time::Duration;

use mail_model::WallTime;

/// The most the delay is moved by chance, in thousandths, either way: mail that was deferred together comes back spread.
const JITTER_PER_MILLE: u128 = 200;

/// Exponential back-off between two bounds, for a limited time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Wait after the first attempt. Default 60 s. It doubles with every further one.
    pub first: Duration,
    /// The longest wait. Default 1 h.
    pub max: Duration,
    /// A recipient is given up when it has been in the queue for so long. Default 5 d.
    pub lifetime: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        // RFC 5321 4.5.4.1: give up after 4 to 5 days at the earliest.
        Self {
            first: Duration::from_mins(1),
            max: Duration::from_hours(1),
            lifetime: Duration::from_hours(120),
        }
    }
}

impl RetryPolicy {
    /// How long to wait after the `attempts`-th attempt (from 1). `random` is any number, evenly spread: it moves the
    /// wait by at most a fifth. At least 1 ms.
    #[must_use]
    pub fn delay(&self, attempts: u32, random: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(40);
        let whole = (self.first.as_millis() << doublings).min(self.max.as_millis());
        let per_mille = 1000 - JITTER_PER_MILLE + ((u128::from(random) * (2 * JITTER_PER_MILLE + 1)) >> 32);
        let millis = whole.saturating_mul(per_mille) / 1000;
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX).max(1))
    }

    /// True if what was `received` then is to be given up `now`. A clock that was set back makes nothing expire.
    #[must_use]
    pub fn is_expired(&self, received: WallTime, now: WallTime) -> bool {
        now.since(received) >= self.lifetime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_JITTER: u32 = u32::MAX / 2;

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let policy = RetryPolicy::default();
        let waits =
            [1, 2, 3, 6, 7, 8, 1000, u32::MAX].map(|attempts| policy.delay(attempts, NO_JITTER).as_secs());
        assert_eq!(waits, [60, 120, 240, 1920, 3600, 3600, 3600, 3600]);
    }

    #[test]
    fn chance_moves_the_wait_by_a_fifth_at_most() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(1, 0), Duration::from_secs(48));
        assert_eq!(policy.delay(1, u32::MAX), Duration::from_secs(72));
    }

    #[test]
    fn no_policy_makes_attempts_follow_each_other_without_a_pause() {
        let policy = RetryPolicy { first: Duration::ZERO, max: Duration::ZERO, lifetime: Duration::ZERO };
        assert_eq!(policy.delay(1, 0), Duration::from_millis(1));
    }

    #[test]
    fn a_recipient_lives_for_its_lifetime_and_a_clock_set_back_does_not_end_it() {
        let policy = RetryPolicy { lifetime: Duration::from_secs(10), ..RetryPolicy::default() };
        let received = WallTime(100_000);
        assert!(!policy.is_expired(received, WallTime(109_999)));
        assert!(policy.is_expired(received, WallTime(110_000)));
        assert!(!policy.is_expired(received, WallTime(50_000)));
    }
}
