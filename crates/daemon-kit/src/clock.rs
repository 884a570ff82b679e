//! The world's clocks. The only place that reads them: everybody else is given a [`Clock`] or a number.
//!
//! Intervals are measured on `CLOCK_BOOTTIME`: it goes on during suspend, so a machine that slept sees that it did.

use mail_model::{Clock, Moment, WallTime};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// This machine's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment(milliseconds(clock_gettime(ClockId::Boottime)))
    }

    fn wall(&self) -> WallTime {
        WallTime(milliseconds(clock_gettime(ClockId::Realtime)))
    }
}

/// A time before 1970 counts as 1970: no rule of ours depends on the wall clock.
fn milliseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_is_the_kernels_uptime_and_never_runs_back() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let whole: u64 = uptime.split('.').next().unwrap().parse().unwrap();
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(first <= second);
        assert!(first.0 / 1000 >= whole && first.0 / 1000 <= whole + 60, "{first:?} against {uptime}");
    }

    #[test]
    fn seconds_and_nanoseconds_become_milliseconds() {
        assert_eq!(milliseconds(Timespec { tv_sec: 2, tv_nsec: 3_999_999 }), 2003);
        assert_eq!(milliseconds(Timespec { tv_sec: -1, tv_nsec: 0 }), 0);
    }
}
