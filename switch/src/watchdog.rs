//! The service manager's watchdog: fed as long as the commit path turns, so that a switch that hangs is killed and started
//! again.
//!
//! | silence | is |
//! |---|---|
//! | the journal's thread does not come round, outside the storage | a hang after 10 s |
//! | the journal's thread is inside the storage | a slow storage; a hang after 2 min |
//! | the lease is not renewed | the same |
//!
//! A storage that stalls is no reason to die soon: nothing can be done meanwhile, and a network file system may need
//! most of a minute to see that a peer is gone. Nobody is deceived by a switch that lives on: it renews no lease, so another node takes
//! its queue, and it does nothing more under its old epoch.

use std::time::Duration;

use daemon_kit::notify;
use queue_store::{Queue, Silence};
use tokio::time::{MissedTickBehavior, interval};

/// The longest a turn of the journal may take outside the storage.
const TURN_LIMIT: Duration = Duration::from_secs(10);
/// The longest a storage may stall.
const STALL_LIMIT: Duration = Duration::from_mins(2);

/// Feeds the watchdog, if there is one, until the program ends.
pub(crate) async fn feed(queue: Queue) {
    let Some(every) = notify::watchdog() else { return };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut hung = false;
    loop {
        ticks.tick().await;
        let silence = queue.silence();
        if !hangs(silence) {
            hung = false;
            notify::alive();
        } else if !hung {
            hung = true;
            let Silence { journal, storage, lease } = silence;
            tracing::error!(event = "watchdog.withheld", queue = %queue.id(), ?journal, ?storage, ?lease);
        }
    }
}

fn hangs(silence: Silence) -> bool {
    let Silence { journal, storage, lease } = silence;
    let turns = if storage.is_zero() { journal <= TURN_LIMIT } else { storage <= STALL_LIMIT };
    !turns || lease > STALL_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(journal: u64, storage: u64, lease: u64, hung: bool) {
        let seconds = Duration::from_secs;
        let silence = Silence { journal: seconds(journal), storage: seconds(storage), lease: seconds(lease) };
        assert_eq!(hangs(silence), hung, "{silence:?}");
    }

    #[test]
    fn a_thread_that_stands_still_is_a_hang_and_a_slow_storage_is_none() {
        check(0, 0, 0, false);
        check(10, 0, 1, false);
        check(11, 0, 1, true);
        check(45, 45, 45, false);
        check(121, 121, 1, true);
        check(0, 0, 121, true);
    }
}
