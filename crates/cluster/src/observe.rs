//! Whether an owner is alive, judged by its renewals. D1 and D2 of the protocol.
//!
//! Stale means: (epoch, seq) unchanged over at least five good reads that span at least the owner's window, on the
//! reader's own `CLOCK_BOOTTIME`. A gap between two own reads of more than half the window, or a failed read, starts
//! the window anew: then it was the reader who slept. Clocks of two machines are never compared.

use std::time::Duration;

use mail_model::{Epoch, LeaseState, Moment, NodeId, Role};
use serde::{Deserialize, Serialize};

/// The fewest good reads that can prove anything.
pub const READS_MIN: u32 = 5;

/// What a lease says, as far as it is needed to judge it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseView {
    /// The top epoch.
    pub epoch: Epoch,
    /// Its owner's node.
    pub owner: NodeId,
    /// At home or not.
    pub role: Role,
    /// Number of the last renewal, 0 before the first.
    pub seq: u64,
    /// What the owner says of itself; `None` before the first renewal.
    pub state: Option<LeaseState>,
    /// The owner has sealed and works.
    pub working: bool,
    /// The owner's window: takers obey this one.
    pub window_ms: u32,
    /// The owner's renewal interval.
    pub renew_ms: u32,
    /// Recipients in the queue, for display.
    pub queued: u64,
}

/// The judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// Not read yet, or not readable now. Unknown is never dead.
    Unknown,
    /// Renewed since the last read.
    Fresh,
    /// Unchanged, but not for long enough.
    Watching {
        /// How long.
        span: Duration,
        /// Over how many good reads.
        reads: u32,
    },
    /// Unchanged for the whole window.
    Stale {
        /// How long.
        span: Duration,
        /// Over how many good reads.
        reads: u32,
    },
}

/// What one reader has seen of one lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Observation {
    seen: Option<Seen>,
    readable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    epoch: Epoch,
    seq: u64,
    window: Duration,
    /// First read with these values since the window last started anew.
    since: Moment,
    last: Moment,
    reads: u32,
}

impl Observation {
    /// A good read.
    pub fn read(&mut self, now: Moment, lease: &LeaseView) {
        self.readable = true;
        let window = Duration::from_millis(u64::from(lease.window_ms));
        match &mut self.seen {
            Some(seen)
                if seen.epoch == lease.epoch
                    && seen.seq == lease.seq
                    && now.since(seen.last) <= window / 2 =>
            {
                seen.last = now;
                seen.reads = seen.reads.saturating_add(1);
                seen.window = window;
            }
            // Renewed, or another epoch, or I slept (D2).
            Some(_) | None => {
                self.seen = Some(Seen {
                    epoch: lease.epoch,
                    seq: lease.seq,
                    window,
                    since: now,
                    last: now,
                    reads: 1,
                });
            }
        }
    }

    /// A read that failed or took too long: the window starts anew.
    pub fn unreadable(&mut self) {
        self.readable = false;
        self.seen = None;
    }

    /// The judgement at `now`.
    #[must_use]
    pub fn freshness(&self, now: Moment) -> Freshness {
        let Some(seen) = self.seen.as_ref().filter(|_| self.readable) else { return Freshness::Unknown };
        if now.since(seen.last) > seen.window / 2 {
            return Freshness::Unknown;
        }
        let span = seen.last.since(seen.since);
        let reads = seen.reads;
        if reads <= 1 {
            Freshness::Fresh
        } else if reads >= READS_MIN && span >= seen.window {
            Freshness::Stale { span, reads }
        } else {
            Freshness::Watching { span, reads }
        }
    }

    /// How long (epoch, seq) has been unchanged, as far as this reader knows.
    #[must_use]
    pub fn unchanged_for(&self) -> Duration {
        self.seen.as_ref().map_or(Duration::ZERO, |seen| seen.last.since(seen.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(seq: u64) -> LeaseView {
        LeaseView {
            epoch: Epoch(3),
            owner: NodeId::new("a").unwrap(),
            role: Role::Primary,
            seq,
            state: Some(LeaseState::Active),
            working: true,
            window_ms: 2000,
            renew_ms: 300,
            queued: 0,
        }
    }

    fn reads(at: impl IntoIterator<Item = u64>) -> (Observation, Moment) {
        let mut seen = Observation::default();
        let mut now = Moment(0);
        for ms in at {
            now = Moment(ms);
            seen.read(now, &lease(1));
        }
        (seen, now)
    }

    #[test]
    fn stale_needs_the_whole_window_and_five_reads() {
        let (seen, now) = reads((0..=8).map(|n| n * 250));
        assert!(matches!(seen.freshness(now), Freshness::Stale { reads: 9, .. }));
        let (seen, now) = reads((0..=7).map(|n| n * 250));
        assert!(matches!(seen.freshness(now), Freshness::Watching { .. }));
        let (seen, now) = reads([0, 1000, 2000]);
        assert!(matches!(seen.freshness(now), Freshness::Watching { reads: 3, .. }));
    }

    #[test]
    fn a_reader_that_slept_starts_its_window_anew() {
        let (seen, now) = reads((0..8).map(|n| n * 250).chain([3500]));
        assert_eq!(seen.freshness(now), Freshness::Fresh);
    }

    #[test]
    fn one_failed_read_starts_the_window_anew() {
        let (mut seen, now) = reads((0..=8).map(|n| n * 250));
        seen.unreadable();
        assert_eq!(seen.freshness(now), Freshness::Unknown);
        seen.read(now + Duration::from_millis(250), &lease(1));
        assert_eq!(seen.freshness(now + Duration::from_millis(250)), Freshness::Fresh);
    }

    #[test]
    fn a_single_renewal_makes_it_fresh() {
        let (mut seen, now) = reads((0..=8).map(|n| n * 250));
        seen.read(now, &lease(2));
        assert_eq!(seen.freshness(now), Freshness::Fresh);
    }
}
