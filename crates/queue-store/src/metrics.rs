//! What an instance remembers for a monitoring: its commits, how it came to where it is, what it found. Nothing is decided by
//! it.

use std::time::Duration;

use cluster::instance::State;
use mail_model::{Moment, WallTime};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The commits of an instance.
#[derive(Debug)]
pub(crate) struct CommitMetrics {
    seconds: Histogram,
    records: Histogram,
}

impl Default for CommitMetrics {
    fn default() -> Self {
        Self {
            // 50 µs to 13 s.
            seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 19)),
            records: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
        }
    }
}

impl CommitMetrics {
    pub(crate) fn done(&self, records: usize, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        self.records.observe(f64::from(u32::try_from(records).unwrap_or(u32::MAX)));
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "mailswitch_commit_seconds",
            "Time of one group commit: write, fdatasync, fence read",
            self.seconds.clone(),
        );
        registry.register(
            "mailswitch_commit_records",
            "Records written by one group commit",
            self.records.clone(),
        );
    }
}

/// What the records of earlier owners said when this instance took the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Attempts without an outcome.
    pub in_doubt: u64,
    /// Frames that an earlier owner wrote after it was fenced: not taken.
    pub late_frames: u64,
    /// Messages whose client may not have seen its 250.
    pub unreplied: u64,
    /// Places that are not as they were written.
    pub faults: u64,
}

/// How an instance came to where it is.
#[derive(Debug, Default)]
pub(crate) struct Course {
    standing: Option<(State, Moment)>,
    pub(crate) spent: Vec<(State, Duration)>,
    pub(crate) recovery: Option<Recovery>,
}

/// What the last search for the oldest message found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search {
    pub(crate) at: Moment,
    pub(crate) cost: Duration,
    pub(crate) oldest: Option<WallTime>,
}

impl Course {
    /// The instance is in `state`.
    pub(crate) fn enter(&mut self, state: State, now: Moment) {
        match self.standing {
            Some((before, _)) if before == state => return,
            Some((before, since)) => self.spent.push((before, now.since(since))),
            None => {}
        }
        self.standing = Some((state, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_booked_on_the_state_that_was_left() {
        let mut course = Course::default();
        for (state, at) in [
            (State::Init, 100),
            (State::Claiming, 150),
            (State::Claiming, 155),
            (State::Fencing, 160),
            (State::Active, 190),
        ] {
            course.enter(state, Moment(at));
        }
        let ms = Duration::from_millis;
        let wanted = [(State::Init, ms(50)), (State::Claiming, ms(10)), (State::Fencing, ms(30))];
        assert_eq!(course.spent, wanted);
    }
}
