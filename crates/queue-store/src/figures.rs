//! What a monitoring is told about an open queue, as plain numbers. Nothing here waits for a disk.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::instance::State;
use mail_model::{Epoch, Moment};
use queue_format::books::Tally;
use queue_format::record::Totals;

use crate::metrics::{Recovery, Walk};
use crate::shared::Shared;

/// A walk over all messages may take this part of the time at most: commits wait while it runs.
const WALK_SHARE: u32 = 100;

/// The numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The state of the instance.
    pub state: State,
    /// The epoch owned, 0 if none.
    pub epoch: Epoch,
    /// Live messages.
    pub messages: u64,
    /// What was counted message by message; `None` while the queue is not owned.
    pub tally: Option<Tally>,
    /// The ledger's sums at the same instant.
    pub totals: Option<Totals>,
    /// How long ago that was.
    pub counted: Duration,
    /// How long the instance was in each state that it left.
    pub spent: Vec<(State, Duration)>,
    /// Since the last renewal of the own lease; `None` before the first.
    pub lease_age: Option<Duration>,
    /// What was found when the queue was taken.
    pub recovery: Option<Recovery>,
    /// Free bytes of the file system.
    pub free_bytes: u64,
    /// New mail is refused below this.
    pub reserve_bytes: u64,
    /// How long the running commit has taken so far.
    pub commit_running: Duration,
}

impl Figures {
    pub(crate) fn of(shared: &Shared) -> Self {
        let clock = &shared.options.clock;
        let work = shared.work.read().clone();
        let books = work.map(|work| work.books);
        let messages = books.as_ref().map_or(0, |books| books.lock().len() as u64);
        // Held over the walk, so that two who ask walk once.
        let mut walked = shared.walked.lock();
        let now = clock.now();
        let fresh = |walk: &Walk| now.since(walk.at) < walk.cost * WALK_SHARE;
        *walked = match (walked.filter(fresh), books) {
            (_, None) => None,
            (Some(walk), _) => Some(walk),
            (None, Some(books)) => {
                let books = books.lock();
                let began = clock.now();
                let (tally, totals) = (books.tally(), books.totals());
                drop(books);
                let at = clock.now();
                Some(Walk { at, cost: at.since(began), tally, totals })
            }
        };
        let walk = *walked;
        drop(walked);
        let (spent, recovery) = {
            let course = shared.course.lock();
            (course.spent.clone(), course.recovery)
        };
        let renewed = shared.renewed.load(Ordering::Acquire);
        Self {
            state: *shared.state.borrow(),
            epoch: Epoch(shared.epoch.load(Ordering::Acquire)),
            messages,
            tally: walk.map(|walk| walk.tally),
            totals: walk.map(|walk| walk.totals),
            counted: walk.map_or(Duration::ZERO, |walk| clock.now().since(walk.at)),
            spent,
            lease_age: (renewed > 0).then(|| clock.now().since(Moment(renewed))),
            recovery,
            free_bytes: shared.free_space.load(Ordering::Relaxed),
            reserve_bytes: shared.options.free_space_reserve,
            commit_running: shared.busy_for(),
        }
    }

    /// Recipients by which the ledger's sums differ from what is there. Anything but 0 is a lost or an invented one.
    #[must_use]
    pub fn imbalance(&self) -> u64 {
        let (Some(tally), Some(totals)) = (self.tally, self.totals) else { return 0 };
        let came = u128::from(totals.accepted) + u128::from(totals.generated);
        let accounted = [
            totals.delivered,
            totals.bounced,
            totals.expired,
            totals.deleted,
            tally.queued,
            tally.held,
            tally.owed,
        ];
        let accounted: u128 = accounted.into_iter().map(u128::from).sum();
        u64::try_from(came.abs_diff(accounted)).unwrap_or(u64::MAX)
    }
}
