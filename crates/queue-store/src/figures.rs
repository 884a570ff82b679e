//! What a monitoring is told about an open queue, as plain numbers. Nothing here waits for a disk.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::instance::State;
use mail_model::{Epoch, Moment, WallTime};
use parking_lot::Mutex;
use queue_format::books::{Books, Tally, Walk};
use queue_format::record::Totals;

use crate::metrics::{Recovery, Search};
use crate::shared::Shared;

/// The search for the oldest message may take this part of the time at most.
const SEARCH_SHARE: u32 = 100;

/// The numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The state of the instance.
    pub state: State,
    /// The epoch owned, 0 if none.
    pub epoch: Epoch,
    /// Live messages.
    pub messages: u64,
    /// What is in the queue; `None` while it is not owned.
    pub tally: Option<Tally>,
    /// The ledger's sums at the same instant.
    pub totals: Option<Totals>,
    /// When the oldest message was accepted. Of a large queue this is some seconds old.
    pub oldest: Option<WallTime>,
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
        let now = |books: &Mutex<Books>| {
            let books = books.lock();
            (books.len() as u64, books.tally(), books.totals())
        };
        let here = books.as_deref().map(now);
        let oldest = books.as_deref().and_then(|books| oldest(shared, books));
        let (spent, recovery) = {
            let course = shared.course.lock();
            (course.spent.clone(), course.recovery)
        };
        let renewed = shared.renewed.load(Ordering::Acquire);
        Self {
            state: *shared.state.borrow(),
            epoch: Epoch(shared.epoch.load(Ordering::Acquire)),
            messages: here.map_or(0, |(messages, ..)| messages),
            tally: here.map(|(_, tally, _)| tally),
            totals: here.map(|(.., totals)| totals),
            oldest,
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

/// When the oldest message was accepted, looked for in stretches, so that commits come between them.
fn oldest(shared: &Shared, books: &Mutex<Books>) -> Option<WallTime> {
    let clock = &shared.options.clock;
    // Held over the search, so that two who ask search once.
    let mut searched = shared.searched.lock();
    let began = clock.now();
    if let Some(search) = searched.filter(|search| began.since(search.at) < search.cost * SEARCH_SHARE) {
        return search.oldest;
    }
    let (mut walk, mut oldest) = (Walk::new(), None);
    while !walk.is_over() {
        oldest = [oldest, books.lock().oldest_of(&mut walk)].into_iter().flatten().min();
    }
    let at = clock.now();
    *searched = Some(Search { at, cost: at.since(began), oldest });
    oldest
}
