//! Whether a segment empties by itself, as the oldest ones do while a queue drains. What leaves anyway need not be carried: near
//! the end of a drain the records of what was delivered outweigh the mail that is left, and all of it would be copied while it
//! is about to go.
//!
//! A pure machine: told what lives in the segment, how far the journal is and what time it is, it answers when it knows.

use std::time::Duration;

use mail_model::{Moment, SegmentId};

/// A segment is watched for no longer than this, however little is written meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a segment looked like when the watch began.
#[derive(Debug, Clone, Copy)]
struct Mark {
    segment: SegmentId,
    live: u64,
    written: u64,
    at: Moment,
}

/// How it goes with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Not known yet, or it empties at least half as fast as the journal grows: then it is gone before that costs twice its
    /// size.
    Leaves,
    /// What is in it stays.
    Stays,
}

/// A watch over the oldest segment.
#[derive(Debug, Default)]
pub(super) struct Ebb {
    mark: Option<Mark>,
}

impl Ebb {
    /// One look: `live` bytes are in `segment`, `written` bytes were written to the journal so far, and it takes `window` more
    /// of them, or some time, to know.
    pub(super) fn look(
        &mut self,
        segment: SegmentId,
        live: u64,
        written: u64,
        window: u64,
        now: Moment,
    ) -> Pace {
        let next = Mark { segment, live, written, at: now };
        let Some(mark) = self.mark.filter(|mark| mark.segment == segment) else {
            self.mark = Some(next);
            return Pace::Leaves;
        };
        let grown = written.saturating_sub(mark.written);
        if grown < window && now.since(mark.at) < PATIENCE {
            return Pace::Leaves;
        }
        self.mark = Some(next);
        let left = mark.live.saturating_sub(live);
        if left > 0 && left.saturating_mul(2) >= grown { Pace::Leaves } else { Pace::Stays }
    }
}

#[cfg(test)]
mod tests {
    use mail_model::Epoch;

    use super::*;

    const OLDEST: SegmentId = SegmentId { epoch: Epoch(1), number: 3 };

    fn after(millis: u64) -> Moment {
        Moment(0) + Duration::from_millis(millis)
    }

    #[test]
    fn a_segment_that_drains_faster_than_the_journal_grows_is_left_alone() {
        let mut ebb = Ebb::default();
        let paces: Vec<Pace> =
            (0..20).map(|n| ebb.look(OLDEST, 1_000_000 - n * 40_000, n * 2_500, 4_000, after(n))).collect();
        assert!(paces.iter().all(|pace| *pace == Pace::Leaves), "{paces:?}");
    }

    #[test]
    fn one_that_stays_while_the_journal_grows_is_told_after_a_window() {
        let mut ebb = Ebb::default();
        assert_eq!(ebb.look(OLDEST, 10_000, 0, 4_000, after(0)), Pace::Leaves);
        assert_eq!(ebb.look(OLDEST, 10_000, 3_999, 4_000, after(1)), Pace::Leaves);
        assert_eq!(ebb.look(OLDEST, 9_000, 4_000, 4_000, after(2)), Pace::Stays);
    }

    #[test]
    fn one_that_stays_while_nothing_is_written_is_told_after_half_a_second() {
        let mut ebb = Ebb::default();
        assert_eq!(ebb.look(OLDEST, 10_000, 0, 4_000, after(0)), Pace::Leaves);
        assert_eq!(ebb.look(OLDEST, 10_000, 0, 4_000, after(499)), Pace::Leaves);
        assert_eq!(ebb.look(OLDEST, 10_000, 0, 4_000, after(500)), Pace::Stays);
    }

    #[test]
    fn the_next_segment_is_watched_anew() {
        let mut ebb = Ebb::default();
        ebb.look(OLDEST, 10_000, 0, 4_000, after(0));
        let next = SegmentId { number: OLDEST.number + 1, ..OLDEST };
        assert_eq!(ebb.look(next, 10_000, 5_000, 4_000, after(600)), Pace::Leaves);
        assert_eq!(ebb.look(next, 10_000, 9_000, 4_000, after(601)), Pace::Stays);
    }
}
